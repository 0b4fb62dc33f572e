//! The command line.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use config::cli::{Command, Flags, Migrate};
use config::{Effective, Host, Role};
use runtime::telemetry::{self, Options, Telemetry};
use runtime::{Clock, Exit, Fatal, exit, host, signals};

use crate::{Config, VERSION};

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
    exit::conclude(dispatch(&Cli::parse()))
}

fn dispatch(cli: &Cli) -> Result<Exit> {
    if cli.command == Command::Version {
        println!("kuma-global {VERSION} (works as {} {})", api::PRODUCT, api::VERSION);
        return Ok(Exit::Clean);
    }
    let effective = load(&cli.flags)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    match &cli.command {
        Command::Config { all } => print!("{}", effective.listing(*all)),
        Command::Migrate(Migrate::Up) => runtime.block_on(migrate(&effective))?,
        _ => return runtime.block_on(run(&effective)),
    }
    Ok(Exit::Clean)
}

/// The configuration in force; what is odd in it is told on stderr.
fn load(flags: &Flags) -> Result<Effective> {
    let loaded = flags.loader(Role::Global).load()?;
    for warning in loaded.warnings {
        telemetry::tell(&format!("Warning: {warning}"));
    }
    let mut effective = loaded.effective;
    effective.fill_in(&Host {
        home: std::env::home_dir(),
        address: host::addresses().into_iter().find(|a| !a.is_loopback()).map(|a| a.to_string()),
    });
    Ok(effective)
}

async fn run(effective: &Effective) -> Result<Exit> {
    let traces = effective.flag("tracing.openTelemetry.enabled");
    let telemetry = Telemetry::install(&Options {
        service: "kuma-global",
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
        zones = %running.kds,
        diagnostics = %running.diagnostics,
        "kuma-global is up"
    );
    let exit = running.end().await;
    tracing::info!(?exit, "kuma-global has ended");
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
