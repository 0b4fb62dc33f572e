//! What every control plane stands on: its life, its store, its lease, its diagnostics and its API.

use std::net::SocketAddr;
use std::time::Duration;

use runtime::life::{Reload, Stop};
use runtime::readiness::NotReady;
use runtime::tasks::{Backoff, OnFailure, Task};
use runtime::{Exit, Fatal, Life, Metrics, Readiness};
use store::{Candidate, Store};

use crate::{Audit, Diagnostics, Listeners, Servers, Settings, insights};

/// Name and length of the lease that one of several instances holds (kds-wire 7).
const LEASE: (&str, Duration) = ("leader", Duration::from_secs(5));

/// A control plane that has its store and serves nobody yet.
#[derive(Debug)]
pub struct Foundation {
    /// What its parts need to live and to end well.
    pub life: Life,
    /// What it counts.
    pub metrics: Metrics,
    /// Where everything is kept.
    pub store: Store,
    /// Whether this instance leads.
    pub candidate: Candidate,
    diagnostics: SocketAddr,
    starting: NotReady,
}

impl Foundation {
    /// Starts diagnostics, opens the store and stands for the lease under the name of this instance.
    ///
    /// # Errors
    /// A port is taken, a certificate cannot be used, or the store cannot be opened.
    pub async fn lay(
        life: Life,
        diagnostics: Diagnostics,
        store: store::Settings,
        instance: &str,
    ) -> Result<Self, Fatal> {
        let metrics = Metrics::default();
        let starting = life.readiness().not_ready("reading the store");
        let diagnostics = diagnostics.start(&metrics, &life).await?;
        let opened = Store::open(store).await;
        let store = opened.map_err(|error| Fatal::new("cannot open the store").caused_by(error))?;
        metrics.register(|registry| store.metrics().register(registry));
        let candidate = store.stand(LEASE.0, instance, LEASE.1);
        Ok(Self { life, metrics, store, candidate, diagnostics, starting })
    }

    /// Keeps the insights of meshes true from now on, as the one of a system that holds them does.
    pub fn keep_insights(&self, pause: Duration, backoff: Backoff) {
        let (store, leading) = (self.store.clone(), self.candidate.leading());
        let clock = self.life.clock().clone();
        let task = Task { name: "insights", owner: "insights", on_failure: OnFailure::Restart(backoff) };
        self.life.tasks().spawn(task, move || {
            let keeping = insights::keep(store.clone(), leading.clone(), clock.clone(), pause);
            async { Ok(keeping.await?) }
        });
    }

    /// Serves the API; with it, the control plane is ready.
    ///
    /// # Errors
    /// A port is taken, or a certificate cannot be used.
    pub async fn serve(self, settings: Settings, listeners: Listeners) -> Result<ControlPlane, Fatal> {
        let Self { life, metrics, store, candidate, diagnostics, starting } = self;
        metrics.register(|registry| settings.metrics.register(registry));
        let audit = settings.audit.clone();
        let router = crate::router(settings, store.clone(), life.clock().clone());
        let api = crate::start(listeners, &router, &life).await?;
        drop(starting);
        Ok(ControlPlane { api, diagnostics, life, metrics, store, candidate, audit })
    }
}

/// A control plane that serves.
#[derive(Debug)]
pub struct ControlPlane {
    /// Where the API listens.
    pub api: Servers,
    /// Where `/ready` and `/metrics` are.
    pub diagnostics: SocketAddr,
    life: Life,
    metrics: Metrics,
    store: Store,
    candidate: Candidate,
    audit: Option<Audit>,
}

impl ControlPlane {
    /// Asks it to stop.
    pub fn stop(&self) -> &Stop {
        self.life.stop()
    }

    /// Says that files may have changed.
    pub fn reload(&self) -> &Reload {
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

    /// Waits until it is asked to stop, or cannot go on, and ends well: requests and streams first, then what is to be
    /// written `last`, then the lease, then the store.
    pub async fn end(self, last: impl AsyncFnOnce(&Store)) -> Exit {
        let leading = self.candidate.leading();
        let exit = self.life.end().await;
        drop(self.candidate);
        last(&self.store).await;
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
