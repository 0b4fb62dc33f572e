//! The control plane of one zone: alone, or following a global.
//!
//! [`run`] is the table of contents. A test starts the whole program with it, on port 0.

use std::net::SocketAddr;
use std::time::Duration;

use api::Audit;
use runtime::tasks::{OnFailure, Task};
use runtime::{Clock, Exit, Fatal, Life, Metrics, Readiness};
use store::{Candidate, Store};

pub mod cli;
mod config;
mod defaults;
mod kds;

pub use config::Config;
pub use kds::{Address, Federation, MigrateFrom, Token};

/// Version of this program, apart from the version of Kuma that it shows to peers.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Name and length of the lease that one of several instances holds (kds-wire 7).
const LEASE: (&str, Duration) = ("leader", Duration::from_secs(5));

/// A running control plane of a zone.
#[derive(Debug)]
pub struct Running {
    /// Where the API listens.
    pub api: api::Servers,
    /// Where `/ready` and `/metrics` are.
    pub diagnostics: SocketAddr,
    metrics: Metrics,
    life: Life,
    store: Store,
    candidate: Candidate,
    audit: Option<Audit>,
}

/// Starts everything and returns; [`Running::end`] then waits for the end.
///
/// # Errors
/// What keeps it from starting, in one line: a port in use, a database that cannot be opened.
pub async fn run(config: Config) -> Result<Running, Fatal> {
    let (life, metrics) = (Life::new(Clock::system(), config.drain), Metrics::default());
    let starting = life.readiness().not_ready("reading the store");
    let diagnostics = config.diagnostics.start(&metrics, &life).await?;

    let store =
        Store::open(config.store).await.map_err(|error| Fatal::new("cannot open the store").caused_by(error))?;
    metrics.register(|registry| store.metrics().register(registry));
    if let Some(federation) = &config.federation {
        federation.check_name(&store.configuration().borrow(), &config.zone.zone.name)?;
    }
    let candidate = store.stand(LEASE.0, &config.api.instance.id, LEASE.1);

    let (kept, leading, clock) = (store.clone(), candidate.leading(), life.clock().clone());
    let (zone, now, backoff) = (config.zone.clone(), clock.clone(), config.backoff);
    let missing = move |stored| defaults::missing(zone.clone(), stored, now.clone());
    api::first_start::start(config.defaults, &store, &leading, &life, backoff, missing);

    match config.federation {
        Some(federation) => {
            let kds = kds::Zone {
                name: config.zone.zone.name.clone(),
                instance: config.api.instance.id.clone(),
                federation,
                store: store.clone(),
                clock: life.clock().clone(),
                metrics: kds::Metrics::default(),
                proxies: config.api.proxy_admin.clone(),
            };
            metrics.register(|registry| kds.metrics.register(registry));
            kds::start(kds, &candidate.leading(), &life);
        }
        // A federated zone keeps none: the global does.
        None => {
            let task = Task { name: "insights", owner: "insights", on_failure: OnFailure::Restart(backoff) };
            life.tasks().spawn(task, move || {
                let keeping = api::insights::keep(kept.clone(), leading.clone(), clock.clone(), config.insights_pause);
                async { Ok(keeping.await?) }
            });
        }
    }

    metrics.register(|registry| config.api.metrics.register(registry));
    let audit = config.api.audit.clone();
    let router = api::router(config.api, store.clone(), life.clock().clone());
    let api = api::start(config.listeners, &router, &life).await?;
    drop(starting);
    Ok(Running { api, diagnostics, metrics, life, store, candidate, audit })
}

impl Running {
    /// Asks it to stop.
    pub fn stop(&self) -> &runtime::life::Stop {
        self.life.stop()
    }

    /// Says that files may have changed.
    pub fn reload(&self) -> &runtime::life::Reload {
        self.life.reload()
    }

    /// Whether it is ready to serve.
    pub fn readiness(&self) -> &Readiness {
        self.life.readiness()
    }

    /// Where everything is kept.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Waits until it is asked to stop, or cannot go on, and ends well: requests first, then the lease, then the store.
    pub async fn end(self) -> Exit {
        let leading = self.candidate.leading();
        let exit = self.life.end().await;
        drop(self.candidate);
        let lease = leading.borrow().clone();
        if let Some(lease) = lease
            && let Err(error) = self.store.release(&lease).await
        {
            tracing::warn!(%error, "the lease was not given back and ends by itself");
        }
        self.store.close().await;
        if let Some(audit) = self.audit {
            audit.flush().await;
        }
        exit
    }
}
