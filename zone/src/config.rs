//! What a zone reads out of the configuration.

use std::path::PathBuf;
use std::time::Duration;

use api::first_start::Switches;
use api::{Diagnostics, Instance, Listeners};
use config::Effective;
use identity::tls::Files;
use model::mode::{Environment, Mode, Zone};
use runtime::tasks::Backoff;
use runtime::{Clock, Fatal, Life, drain, exit};

use crate::VERSION;
use crate::defaults::Wanted;
use crate::derived;
use crate::identities;
use crate::kds::Federation;
use crate::xds;

/// Settings of a zone's control plane.
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
    /// Switches of what is made at first start.
    pub defaults: Switches,
    /// How it concludes what follows from its own resources, if it does.
    pub(crate) derived: Option<derived::Settings>,
    /// The zone, as far as that depends on it.
    pub(crate) zone: Wanted,
    /// The global that it follows, if any.
    pub federation: Option<Federation>,
    /// The server that proxies dial.
    pub(crate) xds: xds::Settings,
    /// What certificates of proxies are like.
    pub identities: identities::Settings,
    /// Rest between two writes of insights.
    pub insights_pause: Duration,
    /// Pauses between tries of what fails.
    pub backoff: Backoff,
    /// Its clock, and how it ends.
    pub life: Life,
}

impl Config {
    /// Leaves everything as it is written, and concludes nothing from it: what a test of what is sent wants.
    #[must_use]
    pub fn without_conclusions(self) -> Self {
        Self { derived: None, ..self }
    }

    /// Reads the settings; makes the work directory and the certificate in it when they are missing.
    ///
    /// # Errors
    /// A value cannot be used, or a folder or file cannot be made or read.
    pub fn read(effective: &Effective) -> Result<Self, Fatal> {
        let folder = PathBuf::from(effective.text("general.workDir"));
        exit::writable_folder(&folder, "general.workDir")?;
        let clock = Clock::system();
        Files::ensure_automatic(effective, clock.now())?;
        let (listeners, federation) = (Listeners::configured(effective)?, Federation::configured(effective)?);
        let instance = Instance::of_this_process(VERSION);
        let zone = Zone {
            name: effective.text("multizone.zone.name").to_owned(),
            federated: federation.is_some(),
            environment: match effective.text("environment") {
                "kubernetes" => Environment::Kubernetes,
                _ => Environment::Universal,
            },
        };
        let switches = Switches::configured(effective, &listeners);
        let length = |key: &str| effective.duration(key).to_std().unwrap_or_default();
        Ok(Self {
            xds: xds::Settings::configured(effective, &zone)?,
            store: store::Settings::configured(effective, clock.clone())?,
            zone: Wanted { switches, zone: zone.clone() },
            derived: Some(derived::Settings::configured(effective, &zone)),
            api: api::Settings::configured(effective, Mode::Zone(zone), instance)?,
            defaults: switches,
            federation,
            listeners,
            diagnostics: Diagnostics::configured(effective)?,
            identities: identities::Settings::configured(effective)?,
            insights_pause: length("metrics.mesh.minResyncInterval"),
            backoff: Backoff {
                base: length("general.resilientComponentBaseBackoff"),
                max: length("general.resilientComponentMaxBackoff"),
            },
            life: Life::new(clock, drain::Limits::default()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use config::{Host, Loader, Role};

    use super::*;

    fn read(folder: &Path, sets: &[String]) -> Result<Config, Fatal> {
        let loader = sets.iter().fold(Loader::new(Role::Zone), |loader, set| loader.set(set));
        let mut effective = loader.load().unwrap().effective;
        effective.fill_in(&Host { home: Some(folder.to_owned()), address: None });
        Config::read(&effective)
    }

    #[test]
    fn a_zone_with_the_address_of_a_global_is_federated() {
        let folder = tempfile::tempdir().unwrap();
        let alone = read(folder.path(), &[]).unwrap();
        assert!(alone.federation.is_none() && !alone.api.mode.is_federated_zone());
        let config = read(folder.path(), &["multizone.zone.globalAddress=grpcs://global:5685".to_owned()]).unwrap();
        assert!(config.federation.is_some() && config.api.mode.is_federated_zone());
    }
}
