//! `kuma-dp`: fetches a bootstrap from the control plane of its zone, starts an Envoy with it and looks after it.
//!
//! ```text
//! flags ─► Config ─► POST /bootstrap ─► bootstrap.yaml ─► Envoy, started again when it dies
//!                                                           │ sockets in the folder
//!          readiness ◄──── asks ───────────────────────────┤
//!          access log ◄─── lines, through a pipe ──────────┤
//!          metrics ◄────── is scraped through ─────────────┤
//!          dynamic ──────► asks for what is for us: names, what else to scrape
//! ```
//!
//! [`run`] is the table of contents. Contract: zone-dataplane 1.1–1.3, 8.5, 11.3 and 11.4.

mod access_log;
mod certificates;
pub mod cli;
mod config;
mod dns;
mod dynamic;
mod envoy;
mod http;
mod metrics;
mod readiness;
mod resource;
mod sockets;

use std::sync::Arc;

use identity::bootstrap::Client;
use identity::tls::client::Trust;
use kds_proto::bootstrap::{EnvoyVersion, Response};
use runtime::tasks::{Backoff, OnFailure, Task};
use runtime::{Exit, Fatal, Life};

pub use config::Config;
use envoy::{Admin, Program};
use sockets::Sockets;

/// Version of this program, apart from the version of Kuma that it shows to control planes.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A running `kuma-dp` with its Envoy.
#[derive(Debug)]
pub struct Running {
    life: Life,
    name: String,
    envoy: String,
    admin: Option<Admin>,
    /// Deleted in the end, if it is a temporary one.
    _folder: config::Folder,
}

/// Starts everything and returns; [`Running::end`] then waits for the end.
///
/// # Errors
/// What keeps it from starting, in one line: no Envoy, a refusal by the control plane, a port in use.
pub async fn run(mut config: Config, life: Life) -> Result<Running, Fatal> {
    let program = Program::find(&config.envoy.program).await?;
    let sockets = Sockets::take(config.folder.path(), &config.request.name, &config.request.mesh).await?;
    config.request.version.envoy =
        EnvoyVersion { version: program.version.clone(), build: program.build.clone(), kuma_dp_compatible: true };
    let response = fetch(&config, &life).await?;
    let bootstrap = envoy::Bootstrap::write(&response.bootstrap, config.folder.path())?;

    let metrics = runtime::Metrics::default();
    let scraped = metrics::Targets::new(bootstrap.admin, &response.kuma_sidecar_configuration.metrics.aggregate);
    readiness::serve(&sockets, bootstrap.admin, config.readiness, &life)?;
    metrics::serve(&sockets, Arc::clone(&scraped), &metrics, &life)?;
    access_log::stream(&sockets, &metrics, &life)?;
    let names = dns::Names::default();
    if let Some(address) = config.dns {
        dns::serve(address, names.clone(), &metrics, &life).await?;
    }
    dynamic::follow(&sockets, config.refresh, names, scraped, &life);
    if let Some(admin) = bootstrap.admin {
        certificates::watch(Admin(admin), &metrics, &life);
        envoy::drain_on_signal(Admin(admin), &config.envoy, &life)?;
    }
    let name = config.request.name.clone();
    envoy::supervise(program.clone(), config.envoy, bootstrap.clone(), &metrics, &life);
    Ok(Running { life, name, envoy: program.version, admin: bootstrap.admin.map(Admin), _folder: config.folder })
}

async fn fetch(config: &Config, life: &Life) -> Result<Response, Fatal> {
    let authority = config.folder.path().join("control-plane-ca.pem");
    let trust = match (config.control_plane.verified, config.request.ca_cert.as_str()) {
        (false, _) => {
            tracing::warn!("the control plane is not verified for the bootstrap (--skip-verify)");
            Trust::Anybody
        }
        (true, "") => Trust::System,
        (true, authorities) => {
            std::fs::write(&authority, authorities)
                .map_err(|error| Fatal::new(format!("cannot write {authority:?}")).caused_by(error))?;
            Trust::File(&authority)
        }
    };
    let client = Client::new(&config.control_plane.address, trust)?;
    let answer = client.ask_until(&config.request, config.control_plane.patience, life.clock()).await;
    answer.map_err(|error| {
        Fatal::new(format!("cannot get a bootstrap from {}", config.control_plane.address)).caused_by(error)
    })
}

impl Running {
    fn announce(&self) {
        tracing::info!(
            version = VERSION,
            proxy = self.name,
            envoy = self.envoy,
            admin = self.admin.map(tracing::field::display),
            "kuma-dp is up"
        );
    }

    /// Waits until it is asked to stop, or cannot go on, and ends well.
    pub async fn end(self) -> Exit {
        self.life.end().await
    }
}

/// A task that starts again soon when it fails.
const fn lasting(name: &'static str) -> Task {
    let backoff = Backoff { base: std::time::Duration::from_secs(1), max: std::time::Duration::from_secs(60) };
    Task { name, owner: "sidecar", on_failure: OnFailure::Restart(backoff) }
}
