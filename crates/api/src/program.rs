//! How the program of a control plane runs, whichever it is: its commands, its configuration, its log, its end.

use std::pin::pin;

use config::cli::{Command, Migrate};
use config::{Effective, Host, Loader};
use runtime::telemetry::{self, Options, Telemetry};
use runtime::{Clock, Exit, Fatal, Life, Readiness, drain, host, signals};

use crate::{PRODUCT, VERSION};

/// Which program it is.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// `kuma-global`.
    pub name: &'static str,
    /// Its own version, apart from the version of Kuma that peers see.
    pub version: &'static str,
}

/// A control plane that has started.
pub trait Running {
    /// Whether it is ready to serve.
    fn readiness(&self) -> Readiness;

    /// Tells in the log that it is up, and where.
    fn announcement(&self) -> impl FnOnce() + use<Self>;

    /// Waits until it is asked to stop, or cannot go on, and ends well.
    fn end(self) -> impl Future<Output = Exit>;
}

impl Program {
    /// Does what the command line asks; `start` starts the control plane with the life that it is to lead.
    ///
    /// # Errors
    /// What keeps the command from being carried out, in one line.
    pub fn execute<R: Running>(
        self,
        command: &Command,
        loader: Loader,
        start: impl AsyncFnOnce(&Effective, Life) -> Result<R, Fatal>,
    ) -> Result<Exit, Fatal> {
        if *command == Command::Version {
            println!("{} {} (works as {PRODUCT} {VERSION})", self.name, self.version);
            return Ok(Exit::Clean);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Fatal::new("cannot start threads").caused_by(error))?;
        match command {
            Command::Config { all } => print!("{}", load(loader)?.listing(*all)),
            Command::Migrate(Migrate::Up) => runtime.block_on(migrate(&load(loader)?))?,
            _ => return runtime.block_on(self.run(loader, start)),
        }
        Ok(Exit::Clean)
    }

    async fn run<R: Running>(
        self,
        loader: Loader,
        start: impl AsyncFnOnce(&Effective, Life) -> Result<R, Fatal>,
    ) -> Result<Exit, Fatal> {
        let life = Life::new(Clock::system(), drain::Limits::default());
        let stop = life.stop().clone();
        // First of all: until then a signal kills.
        signals::listen(stop.clone(), life.reload().clone())
            .map_err(|error| Fatal::new("cannot listen for signals").caused_by(error))?;
        let effective = load(loader)?;
        let traces = effective.flag("tracing.openTelemetry.enabled");
        let telemetry = Telemetry::install(&Options {
            service: self.name,
            instance: host::name(),
            level: effective.text("logging.level").to_owned(),
            format: effective.text("logging.format").parse().map_err(Fatal::new)?,
            traces: traces.then(|| effective.text("tracing.openTelemetry.endpoint").to_owned()),
        })?;
        // Who is asked to stop before it is up has nobody to drain; what was being written is a transaction.
        let started = tokio::select! {
            biased;
            () = stop.asked() => None,
            started = start(&effective, life) => Some(started?),
        };
        let exit = match started {
            Some(running) => live(running).await,
            None => Exit::Clean,
        };
        tracing::info!(?exit, "{} has ended", self.name);
        telemetry.flush().await;
        Ok(exit)
    }
}

/// Until the end. It is up when `/ready` says so, which is not before it has what it makes at its first start.
async fn live<R: Running>(running: R) -> Exit {
    let (readiness, announce) = (running.readiness(), running.announcement());
    let mut end = pin!(running.end());
    tokio::select! {
        biased;
        exit = &mut end => return exit,
        () = readiness.ready() => announce(),
    }
    end.await
}

/// The configuration in force; what is odd in it is told on stderr.
fn load(loader: Loader) -> Result<Effective, Fatal> {
    let loaded = loader.load().map_err(|error| Fatal::new(error.to_string()))?;
    for warning in loaded.warnings {
        telemetry::tell(&format!("Warning: {warning}"));
    }
    let mut effective = loaded.effective;
    effective.fill_in(&Host {
        home: std::env::home_dir(),
        address: host::addresses()
            .into_iter()
            .find(|address| !address.is_loopback())
            .map(|address| address.to_string()),
    });
    Ok(effective)
}

async fn migrate(effective: &Effective) -> Result<(), Fatal> {
    let settings = store::Settings::configured(effective, Clock::system())?;
    let failed = |error| Fatal::new("cannot migrate the database").caused_by(error);
    let store::Migrated { from, to } = store::migrate(&settings).await.map_err(failed)?;
    if from == to {
        println!("the database has schema version {to} already");
    } else {
        println!("the database went from schema version {from} to {to}");
    }
    Ok(())
}
