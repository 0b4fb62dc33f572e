//! The command line.

use std::process::ExitCode;

use api::{Program, program};
use clap::Parser;
use config::Role;
use config::cli::{Command, Flags};
use runtime::{Exit, exit};

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
    let ended = program.execute(&command, flags.loader(Role::Global), async |effective, life| {
        crate::run(Config { life, ..Config::read(effective)? }).await
    });
    exit::conclude(ended.map_err(Into::into))
}

impl program::Running for Running {
    fn announce(&self) {
        tracing::info!(
            version = VERSION,
            http = self.api.http.map(tracing::field::display),
            https = self.api.https.map(tracing::field::display),
            zones = %self.kds,
            diagnostics = %self.diagnostics,
            "kuma-global is up"
        );
    }

    async fn end(self) -> Exit {
        Self::end(self).await
    }
}
