//! The command line.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser};
use config::cli::{Command, Flags, Migrate};
use config::{Effective, Host, Loader, Role};
use runtime::telemetry::{self, Options, Telemetry};
use runtime::{Clock, Exit, Fatal, exit, host, signals};

use crate::{Config, VERSION};

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
    exit::conclude(dispatch(&Cli::parse()))
}

fn dispatch(cli: &Cli) -> Result<Exit> {
    if cli.command == Command::Version {
        println!("kuma-zone {VERSION} (works as {} {})", api::PRODUCT, api::VERSION);
        return Ok(Exit::Clean);
    }
    let effective = load(cli)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    match &cli.command {
        Command::Config { all } => print!("{}", effective.listing(*all)),
        Command::Migrate(Migrate::Up) => runtime.block_on(migrate(&effective))?,
        _ => return runtime.block_on(run(&effective)),
    }
    Ok(Exit::Clean)
}

/// The configuration in force; what is odd in it is told on stderr.
fn load(cli: &Cli) -> Result<Effective> {
    let loaded = cli.zone.add_to(cli.flags.loader(Role::Zone)).load()?;
    for warning in loaded.warnings {
        telemetry::tell(&format!("Warning: {warning}"));
    }
    let mut effective = loaded.effective;
    if effective.text("mode") == "standalone" {
        telemetry::tell("Warning: mode standalone is deprecated, use zone");
    }
    effective.fill_in(&Host {
        home: std::env::home_dir(),
        address: host::addresses().into_iter().find(|a| !a.is_loopback()).map(|a| a.to_string()),
    });
    Ok(effective)
}

async fn run(effective: &Effective) -> Result<Exit> {
    let traces = effective.flag("tracing.openTelemetry.enabled");
    let telemetry = Telemetry::install(&Options {
        service: "kuma-zone",
        instance: host::name(),
        level: effective.text("logging.level").to_owned(),
        format: effective.text("logging.format").parse().map_err(Fatal::new)?,
        traces: traces.then(|| effective.text("tracing.openTelemetry.endpoint").to_owned()),
    })?;
    let running = crate::run(Config::read(effective)?).await?;
    signals::listen(running.stop().clone(), running.reload().clone()).context("cannot listen for signals")?;
    tracing::info!(
        version = VERSION,
        http = running.api.http.map(tracing::field::display),
        https = running.api.https.map(tracing::field::display),
        diagnostics = %running.diagnostics,
        "kuma-zone is up"
    );
    let exit = running.end().await;
    tracing::info!(?exit, "kuma-zone has ended");
    telemetry.flush().await;
    Ok(exit)
}

async fn migrate(effective: &Effective) -> Result<()> {
    let settings = store::Settings::configured(effective, Clock::system())?;
    let store::Migrated { from, to } = store::migrate(&settings).await?;
    if from == to {
        println!("the database has schema version {to} already");
    } else {
        println!("the database went from schema version {from} to {to}");
    }
    Ok(())
}
