//! The command line.

use std::process::ExitCode;

use api::{ControlPlane, Program, program};
use clap::Parser;
use config::Role;
use config::cli::{Command, Flags};
use runtime::{Exit, Readiness, exit};

use crate::{Config, Running, VERSION};

/// The global control plane of a multi-zone service mesh.
#[derive(Debug, Parser)]
#[command(name = "kuma-global", disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    flags: Flags,
}

/// The whole program; its exit codes stand in [`runtime::exit`].
pub fn main() -> ExitCode {
    let Cli { command, flags } = Cli::parse();
    let program = Program { name: "kuma-global", version: VERSION };
    let loader = flags.loader(Role::Global);
    let again = loader.clone();
    let ended = program.execute(&command, loader, async |effective, life| {
        crate::run(Config { life, ..Config::read(effective)?.following(again) }).await
    });
    exit::conclude(ended.map_err(Into::into))
}

impl program::Running for Running {
    fn readiness(&self) -> Readiness {
        ControlPlane::readiness(self).clone()
    }

    fn announcement(&self) -> impl FnOnce() + use<> {
        let (api, kds, diagnostics) = (self.api, self.kds, self.diagnostics);
        move || {
            tracing::info!(
                version = VERSION,
                http = api.http.map(tracing::field::display),
                https = api.https.map(tracing::field::display),
                zones = %kds,
                %diagnostics,
                "kuma-global is up"
            );
        }
    }

    async fn end(self) -> Exit {
        Self::end(self).await
    }
}
