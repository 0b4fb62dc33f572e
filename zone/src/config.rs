//! What a zone reads out of the configuration.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::first_start::Switches;
use api::{Diagnostics, Instance, Listeners};
use config::Effective;
use identity::tls::Files;
use model::mode::{Environment, Mode, Zone};
use runtime::tasks::Backoff;
use runtime::{Clock, Fatal, drain, exit};

use crate::VERSION;
use crate::defaults::Wanted;

/// Longest token of a zone, in bytes.
const MAX_TOKEN: u64 = 16 << 10;

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
    /// The zone, as far as that depends on it.
    pub(crate) zone: Wanted,
    /// The global that it follows, if any.
    pub federation: Option<Federation>,
    /// Rest between two writes of insights.
    pub insights_pause: Duration,
    /// Pauses between tries of what fails.
    pub backoff: Backoff,
    /// How long the steps of an end may take.
    pub drain: drain::Limits,
}

/// How a zone reaches its global.
#[derive(Clone)]
pub struct Federation {
    /// `grpcs://host:port`, or `grpc://` without encryption.
    pub address: String,
    /// What proves the zone's name to the global; a global of Kuma wants none.
    pub token: Option<String>,
    /// Authorities that may have signed the global's certificate, PEM; the machine's without.
    pub ca_file: Option<PathBuf>,
    /// Whether any certificate will do.
    pub skip_verify: bool,
}

/// Without the token.
impl std::fmt::Debug for Federation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Federation").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Config {
    /// Reads the settings; makes the work directory and the certificate in it when they are missing.
    ///
    /// # Errors
    /// A value cannot be used, or a folder or file cannot be made or read.
    pub fn read(effective: &Effective) -> Result<Self, Fatal> {
        let folder = PathBuf::from(effective.text("general.workDir"));
        exit::writable_folder(&folder, "general.workDir")?;
        let clock = Clock::system();
        Files::ensure_automatic(effective, clock.now())?;
        let (listeners, federation) = (Listeners::configured(effective)?, Federation::read(effective)?);
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
            store: store::Settings::configured(effective, clock)?,
            zone: Wanted { switches, zone: zone.clone() },
            api: api::Settings::configured(effective, Mode::Zone(zone), instance)?,
            defaults: switches,
            federation,
            listeners,
            diagnostics: Diagnostics::configured(effective)?,
            insights_pause: length("metrics.mesh.minResyncInterval"),
            backoff: Backoff {
                base: length("general.resilientComponentBaseBackoff"),
                max: length("general.resilientComponentMaxBackoff"),
            },
            drain: drain::Limits::default(),
        })
    }
}

impl Federation {
    /// `multizone.zone`; none without a global's address, or in the mode that Kuma once called standalone.
    fn read(effective: &Effective) -> Result<Option<Self>, Fatal> {
        let text = |word: &str| effective.text(&format!("multizone.zone.{word}"));
        if text("globalAddress").is_empty() || effective.text("mode") == "standalone" {
            return Ok(None);
        }
        let set = |word: &str| Some(text(word)).filter(|text| !text.is_empty()).map(PathBuf::from);
        Ok(Some(Self {
            address: text("globalAddress").to_owned(),
            token: set("kds.auth.cpTokenPath").map(|file| read_token(&file)).transpose()?,
            ca_file: set("kds.rootCaFile"),
            skip_verify: effective.flag("multizone.zone.kds.tlsSkipVerify"),
        }))
    }
}

fn read_token(file: &Path) -> Result<String, Fatal> {
    let cannot = |cause: Box<dyn std::error::Error + Send + Sync>| {
        Fatal::new(format!("cannot read the zone's token \"{}\"", file.display())).caused_by(cause).remedy(
            "set multizone.zone.kds.auth.cpTokenPath to a file made with 'kumactl generate zone-token --scope cp'",
        )
    };
    let mut token = String::new();
    let size = File::open(file).and_then(|file| file.take(MAX_TOKEN + 1).read_to_string(&mut token));
    match size.map_err(|error| cannot(error.into()))? {
        size if size as u64 > MAX_TOKEN => Err(cannot(format!("it is larger than {MAX_TOKEN} bytes").into())),
        _ if token.trim().is_empty() => Err(cannot("it is empty".into())),
        _ => Ok(token.trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
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

        let file = folder.path().join("token");
        std::fs::write(&file, " abc\n").unwrap();
        let address = "multizone.zone.globalAddress=grpcs://global:5685".to_owned();
        let token = format!("multizone.zone.kds.auth.cpTokenPath={}", file.display());
        let config = read(folder.path(), &[address.clone(), token.clone()]).unwrap();
        assert!(config.api.mode.is_federated_zone());
        let federation = config.federation.unwrap();
        assert_eq!(federation.token.as_deref(), Some("abc"));
        assert!(!format!("{federation:?}").contains("abc"));

        std::fs::write(&file, "\n").unwrap();
        let error = read(folder.path(), &[address.clone(), token]).unwrap_err().to_string();
        assert!(error.starts_with("cannot read the zone's token") && error.contains(": it is empty; "), "{error}");
        let standalone = read(folder.path(), &[address, "mode=standalone".to_owned()]).unwrap();
        assert!(standalone.federation.is_none());
    }
}
