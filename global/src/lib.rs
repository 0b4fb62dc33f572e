//! The global control plane: the hub that zones follow and operators talk to.
//!
//! [`run`] is the table of contents. A test starts the whole program with it, on port 0.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::Audit;
use runtime::tasks::{OnFailure, Task};
use runtime::{Clock, Exit, Fatal, Life, Metrics, Readiness};
use store::{Candidate, Store};

pub mod cli;
mod config;
mod defaults;
pub mod insights;
mod inter_cp;
pub mod kds;
mod proxy_admin;
mod refusing;
pub mod zones;

pub use config::Config;
use insights::Insights;
use proxy_admin::ThroughZones;

/// Version of this program, apart from the version of Kuma that it shows to peers.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Name and length of the lease that one of several instances holds (kds-wire 7).
const LEASE: (&str, Duration) = ("leader", Duration::from_secs(5));

/// A running global control plane.
#[derive(Debug)]
pub struct Running {
    /// Where the API listens.
    pub api: api::Servers,
    /// Where zones dial in.
    pub kds: SocketAddr,
    /// Where the other instances of this global call, if there can be any.
    pub inter_cp: Option<SocketAddr>,
    /// Where proxies are turned away.
    pub refusing: SocketAddr,
    /// Where `/ready` and `/metrics` are.
    pub diagnostics: SocketAddr,
    metrics: Metrics,
    life: Life,
    store: Store,
    insights: Insights,
    candidate: Candidate,
    audit: Option<Audit>,
}

/// Starts everything and returns; [`Running::end`] then waits for the end.
///
/// # Errors
/// What keeps it from starting, in one line: a port in use, a database that cannot be opened.
pub async fn run(mut config: Config) -> Result<Running, Fatal> {
    let (life, metrics) = (Life::new(Clock::system(), config.drain), Metrics::default());
    let starting = life.readiness().not_ready("reading the store");
    let diagnostics = config.diagnostics.start(&metrics, &life).await?;

    let store =
        Store::open(config.store).await.map_err(|error| Fatal::new("cannot open the store").caused_by(error))?;
    metrics.register(|registry| store.metrics().register(registry));
    let candidate = store.stand(LEASE.0, &config.api.instance.id, LEASE.1);

    let (kept, leading, clock) = (store.clone(), candidate.leading(), life.clock().clone());
    let (switches, now) = (config.defaults, clock.clone());
    let missing = move |stored| defaults::missing(switches, stored, now.clone());
    api::first_start::start(switches, &store, &leading, &life, config.backoff, missing);

    let task = Task { name: "insights", owner: "insights", on_failure: OnFailure::Restart(config.backoff) };
    life.tasks().spawn(task, move || {
        let keeping = api::insights::keep(kept.clone(), leading.clone(), clock.clone(), config.insights_pause);
        async { Ok(keeping.await?) }
    });

    let zones = kds::Kds::new(config.kds, &store, &life);
    metrics.register(|registry| zones.metrics().register(registry));
    let (id, leading) = (&config.api.instance.id, candidate.leading());
    let instances =
        inter_cp::start(config.inter_cp, id, zones.proxies(), leading.clone(), config.backoff, &life).await?;
    zones.look_after(&leading, instances.living, config.backoff, &life);
    config.api.proxy_admin = Some(Arc::new(ThroughZones { peers: instances.peers, ..zones.proxies() }));
    let (address, files) = config.refusing;
    let refusing = refusing::start(address, files, zones.metrics().clone(), &life).await?;

    metrics.register(|registry| config.api.metrics.register(registry));
    let audit = config.api.audit.clone();
    let router = api::router(config.api, store.clone(), life.clock().clone());
    let api = api::start(config.listeners, &router, &life).await?;
    let (kds, insights) = zones.start(&life).await?;
    drop(starting);
    let inter_cp = instances.address;
    Ok(Running { api, kds, inter_cp, refusing, diagnostics, metrics, life, store, insights, candidate, audit })
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

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Waits until it is asked to stop, or cannot go on, and ends well: requests first, then the lease, then the store.
    pub async fn end(self) -> Exit {
        let leading = self.candidate.leading();
        let exit = self.life.end().await;
        drop(self.candidate);
        // The streams have ended by now: that they did is written before the store closes.
        self.insights.flush(&self.store).await;
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
