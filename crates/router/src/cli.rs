//! The command line of the two programs, which differ by their name and the type of proxy that they are.

mod control_plane;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, FromArgMatches, Parser, Subcommand};
use runtime::telemetry::{Options, Telemetry};
use runtime::{Exit, Fatal, exit, host, signals};

use crate::program::{self, Config, Routes};
use crate::proxy::ProxyType;
use crate::server::Settings;

#[derive(Debug, Parser)]
#[command(disable_version_flag = true, about = "Routes mTLS between zones by the server name, without decrypting it.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Route until asked to stop.
    Run(Box<Run>),
    /// Print the version.
    Version,
}

#[derive(Debug, Args)]
struct Run {
    /// Take the routes from the static part of an Envoy bootstrap, YAML or JSON, and not from a control plane; it is read
    /// again when it is replaced.
    #[arg(long, value_name = "FILE")]
    bootstrap: Option<PathBuf>,
    #[command(flatten)]
    control_plane: control_plane::Flags,
    /// Where /healthy, /ready and /metrics are served.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9902")]
    diagnostics: SocketAddr,
    /// Threads; 0: one for each core.
    #[arg(long, value_name = "NUMBER", env = "KUMA_DATAPLANE_RUNTIME_CONCURRENCY", default_value_t = 0,
        value_parser = clap::value_parser!(u16).range(..=1024))]
    concurrency: u16,
    /// Most connections at a time.
    #[arg(long, value_name = "NUMBER", default_value_t = Settings::default().connections)]
    max_connections: usize,
    /// Most connections at a time from one address.
    #[arg(long, value_name = "NUMBER", default_value_t = Settings::default().connections_per_source)]
    max_connections_per_source: usize,
    /// How long open connections may last after a SIGTERM.
    #[arg(long, value_name = "DURATION", env = "KUMA_DATAPLANE_DRAIN_TIME", default_value = "30s",
        value_parser = control_plane::go_duration)]
    drain_time: Duration,
    /// Tell each connection in the log when it ends.
    #[arg(long)]
    access_log: bool,
    /// What is logged: off, error, warn, info, debug, trace.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: String,
    /// text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: String,
}

/// The whole program; its exit codes stand in [`runtime::exit`].
pub fn main(name: &'static str, version: &'static str, proxy_type: ProxyType) -> ExitCode {
    let command = <Cli as clap::CommandFactory>::command().name(name).bin_name(name);
    let cli = match Cli::from_arg_matches(&command.get_matches()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    exit::conclude(match cli.command {
        Command::Version => {
            println!("{name} {version}");
            Ok(Exit::Clean)
        }
        Command::Run(run) => route(name, version, proxy_type, *run),
    })
}

fn route(name: &'static str, version: &'static str, proxy_type: ProxyType, run: Run) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        let telemetry = Telemetry::install(&Options {
            service: name,
            instance: host::name(),
            level: run.log_level,
            format: run.log_format.parse().map_err(Fatal::new)?,
            traces: None,
        })?;
        let defaults = Settings::default();
        let routes = match run.bootstrap {
            Some(file) => Routes::File(file),
            None => Routes::ControlPlane(Box::new(run.control_plane.read(proxy_type)?)),
        };
        let running = program::run(Config {
            routes,
            diagnostics: run.diagnostics,
            server: Settings {
                workers: if run.concurrency == 0 { defaults.workers } else { run.concurrency.into() },
                connections: run.max_connections,
                connections_per_source: run.max_connections_per_source,
                access_log: run.access_log,
                ..defaults
            },
            drain: run.drain_time,
        })
        .await?;
        signals::listen(running.stop().clone(), running.reload().clone()).context("cannot listen for signals")?;
        tracing::info!(version, diagnostics = %running.diagnostics, "{name} is up");
        let exit = running.end().await;
        tracing::info!(?exit, "{name} has ended");
        telemetry.flush().await;
        Ok(exit)
    })
}
