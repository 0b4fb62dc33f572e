//! The command line.

use std::process::ExitCode;

use api::{ControlPlane, Program, program};
use clap::{Args, Parser};
use config::cli::{Command, Flags};
use config::{Loader, Role};
use runtime::{Exit, Readiness, exit};

use crate::{Config, Running, VERSION};

/// The control plane of one zone of a service mesh.
#[derive(Debug, Parser)]
#[command(name = "kuma-zone", disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    zone: ZoneFlags,
}

/// Shorthands of a zone.
#[derive(Args, Debug)]
struct ZoneFlags {
    /// Name of the zone (multizone.zone.name).
    #[arg(long, global = true, value_name = "NAME")]
    zone: Option<String>,
    /// The global to follow, grpcs://host:5685 (multizone.zone.globalAddress).
    #[arg(long, global = true, value_name = "URL")]
    kds_global_address: Option<String>,
    /// File with a zone token of scope cp (multizone.zone.kds.auth.cpTokenPath).
    #[arg(long, global = true, value_name = "FILE")]
    kds_token_file: Option<String>,
    /// Authorities that may have signed the global's certificate (multizone.zone.kds.rootCaFile).
    #[arg(long, global = true, value_name = "FILE")]
    kds_ca_file: Option<String>,
}

impl ZoneFlags {
    fn add_to(&self, loader: Loader) -> Loader {
        let flags = [
            ("--zone", "multizone.zone.name", &self.zone),
            ("--kds-global-address", "multizone.zone.globalAddress", &self.kds_global_address),
            ("--kds-token-file", "multizone.zone.kds.auth.cpTokenPath", &self.kds_token_file),
            ("--kds-ca-file", "multizone.zone.kds.rootCaFile", &self.kds_ca_file),
        ];
        let set = flags.into_iter().filter_map(|(name, path, text)| Some((name, path, text.as_deref()?)));
        set.fold(loader, |loader, (name, path, text)| loader.flag(name, path, text))
    }
}

/// The whole program; its exit codes stand in [`runtime::exit`].
pub fn main() -> ExitCode {
    let Cli { command, flags, zone } = Cli::parse();
    let program = Program { name: "kuma-zone", version: VERSION };
    let ended = program.execute(&command, zone.add_to(flags.loader(Role::Zone)), async |effective, life| {
        crate::run(Config { life, ..Config::read(effective)? }).await
    });
    exit::conclude(ended.map_err(Into::into))
}

impl program::Running for Running {
    fn readiness(&self) -> Readiness {
        ControlPlane::readiness(self).clone()
    }

    fn announcement(&self) -> impl FnOnce() + use<> {
        let (api, diagnostics, proxies) = (self.api, self.diagnostics, self.proxies);
        move || {
            tracing::info!(
                version = VERSION,
                http = api.http.map(tracing::field::display),
                https = api.https.map(tracing::field::display),
                %diagnostics,
                %proxies,
                "kuma-zone is up"
            );
        }
    }

    async fn end(self) -> Exit {
        Self::end(self).await
    }
}
