//! What the global reads out of the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use api::first_start::Switches;
use api::{Diagnostics, Instance, Listeners};
use config::{Effective, Loader};
use identity::tls::Files;
use model::mode::Mode;
use runtime::tasks::Backoff;
use runtime::{Clock, Fatal, Life, drain, exit};

use crate::kds::admission::Reread;
use crate::kds::settings as kds;
use crate::{VERSION, inter_cp};

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
    pub defaults: Switches,
    /// The server that zones dial.
    pub kds: kds::Settings,
    /// How the instances of this global find each other, if there can be several.
    pub inter_cp: Option<inter_cp::Settings>,
    /// Where proxies that dial the wrong control plane are turned away.
    pub refusing: (SocketAddr, Files),
    /// Rest between two writes of insights.
    pub insights_pause: Duration,
    /// Pauses between tries of what fails.
    pub backoff: Backoff,
    /// Its clock, and how it ends.
    pub life: Life,
}

impl Config {
    /// Reads who is let in again, from these layers, when files change (SIGHUP).
    #[must_use]
    pub fn following(mut self, loader: Loader) -> Self {
        self.kds.reread = Some(Reread::of(loader));
        self
    }

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
            store: store::Settings::configured(effective, clock.clone())?,
            kds: kds::Settings::configured(effective, &instance.id)?,
            inter_cp: inter_cp::Settings::configured(effective)?,
            refusing: (kds::everywhere(effective, "dpServer.port")?, Files::configured(effective, "dpServer")),
            api: api::Settings::configured(effective, Mode::Global, instance)?,
            defaults: Switches::configured(effective, &listeners),
            listeners,
            diagnostics: Diagnostics::configured(effective)?,
            insights_pause: length("metrics.mesh.minResyncInterval"),
            backoff: Backoff {
                base: length("general.resilientComponentBaseBackoff"),
                max: length("general.resilientComponentMaxBackoff"),
            },
            life: Life::new(clock, drain::Limits::default()),
        })
    }
}
