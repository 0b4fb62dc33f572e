//! What the global reads out of the configuration.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use api::{Instance, Listeners, NewMesh};
use config::Effective;
use identity::tls::{Files, ServerTls};
use model::mode::Mode;
use runtime::tasks::Backoff;
use runtime::{Clock, Fatal, Life, Metrics, diagnostics, drain, exit};

use crate::VERSION;

/// Settings of the global control plane.
#[derive(Debug)]
pub struct Config {
    /// Where the truth lies.
    pub store: store::Settings,
    /// How the API behaves.
    pub api: api::Settings,
    /// Where it listens.
    pub listeners: Listeners,
    /// The diagnostics server.
    pub diagnostics: Diagnostics,
    /// What is made at first start.
    pub defaults: Defaults,
    /// Rest between two writes of insights.
    pub insights_pause: Duration,
    /// Pauses between tries of what fails.
    pub backoff: Backoff,
    /// How long the steps of an end may take.
    pub drain: drain::Limits,
}

/// The diagnostics server.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    /// Where it listens.
    pub address: SocketAddr,
    /// Certificate and key, if it speaks TLS.
    pub tls: Option<Files>,
}

/// Switches of what is made at first start.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// The mesh `default`.
    pub mesh: bool,
    /// What comes with it.
    pub new_mesh: NewMesh,
    /// How services are named.
    pub hostname_generators: bool,
    /// The mesh, names and the signing key of zones.
    pub tenant_resources: bool,
    /// The administrator's token.
    pub admin_token: bool,
    /// Port of the API that the log names as the place to read it.
    pub port: u16,
}

impl Config {
    /// Reads the settings; makes the work directory and the certificate in it when they are missing.
    ///
    /// # Errors
    /// A value cannot be used, or a folder or file cannot be made.
    pub fn read(effective: &Effective) -> Result<Self, Fatal> {
        let folder = PathBuf::from(effective.text("general.workDir"));
        exit::writable_folder(&folder, "general.workDir")?;
        let clock = Clock::system();
        Files::ensure_automatic(effective, clock.now())?;
        let listeners = Listeners::configured(effective)?;
        let instance = Instance::of_this_process(VERSION);
        let length = |key: &str| effective.duration(key).to_std().unwrap_or_default();
        Ok(Self {
            store: store::Settings::configured(effective, clock)?,
            api: api::Settings::configured(effective, Mode::Global, instance)?,
            defaults: Defaults::read(effective, &listeners),
            listeners,
            diagnostics: Diagnostics::read(effective)?,
            insights_pause: length("metrics.mesh.minResyncInterval"),
            backoff: Backoff {
                base: length("general.resilientComponentBaseBackoff"),
                max: length("general.resilientComponentMaxBackoff"),
            },
            drain: drain::Limits::default(),
        })
    }
}

impl Defaults {
    fn read(effective: &Effective, listeners: &Listeners) -> Self {
        Self {
            mesh: !effective.flag("defaults.skipMeshCreation"),
            new_mesh: NewMesh::configured(effective),
            hostname_generators: !effective.flag("defaults.SkipHostnameGenerators"),
            tenant_resources: !effective.flag("defaults.skipTenantResources"),
            admin_token: effective.flag("apiServer.authn.tokens.bootstrapAdminToken"),
            port: listeners.http.map_or(0, |address| address.port()),
        }
    }
}

impl Diagnostics {
    fn read(effective: &Effective) -> Result<Self, Fatal> {
        let number = effective.number("diagnostics.serverPort");
        let port = u16::try_from(number).map_err(|_| {
            Fatal::new(format!("diagnostics.serverPort must be in the range [0, 65535], found {number}"))
        })?;
        let tls = effective.flag("diagnostics.tlsEnabled").then(|| Files::configured(effective, "diagnostics"));
        Ok(Self { address: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port), tls })
    }

    /// Starts the server and returns its real address.
    ///
    /// # Errors
    /// The certificate cannot be used, or the port is taken.
    pub async fn start(self, metrics: &Metrics, life: &Life) -> Result<SocketAddr, Fatal> {
        let tls = self.tls.map(|files| ServerTls::load(files, &["h2", "http/1.1"])).transpose()?;
        diagnostics::start(self.address, tls.map(|tls| tls.config().clone()), metrics, life).await
    }
}
