//! What the programs for traffic into and out of a zone have in common: where routes come from, and how they end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use runtime::tasks::{Backoff, OnFailure, Task};
use runtime::{Clock, Exit, Fatal, Life, diagnostics, drain};

use crate::bootstrap::{Bootstrap, Watch};
use crate::listeners::Listeners;
use crate::metrics::Metrics;
use crate::server::Settings;

/// Settings of a router.
#[derive(Debug)]
pub struct Config {
    /// Where routes come from.
    pub bootstrap: PathBuf,
    /// Where `/healthy`, `/ready` and `/metrics` are.
    pub diagnostics: SocketAddr,
    /// How it treats connections.
    pub server: Settings,
    /// How long open connections may last once it is asked to stop.
    pub drain: Duration,
}

/// A running router.
#[derive(Debug)]
pub struct Running {
    /// Where `/healthy`, `/ready` and `/metrics` are.
    pub diagnostics: SocketAddr,
    listeners: Arc<Listeners>,
    drain: Duration,
    life: Life,
}

/// Starts everything and returns; [`Running::end`] then waits for the end.
///
/// # Errors
/// What keeps it from starting: a file that is no bootstrap, a port in use.
pub async fn run(config: Config) -> Result<Running, Fatal> {
    let limits = drain::Limits { streams: config.drain + Duration::from_secs(1), ..drain::Limits::default() };
    let (life, metrics) = (Life::new(Clock::system(), limits), runtime::Metrics::default());
    let listeners = Arc::new(Listeners::new(config.server));
    metrics.register(|registry| registry.register_collector(Box::new(Metrics(Arc::clone(&listeners)))));

    let cannot = |error| Fatal::new("cannot take routes from the bootstrap").caused_by(error);
    let bootstrap = Bootstrap::read(&config.bootstrap).map_err(cannot)?;
    if let Some(failed) = apply(&listeners, &bootstrap).into_iter().next() {
        return Err(Fatal::new(failed));
    }
    let diagnostics = diagnostics::start(config.diagnostics, None, &metrics, &life).await?;

    let task = Task { name: "bootstrap", owner: "router", on_failure: OnFailure::Restart(Backoff::default()) };
    let (watched, path) = (Arc::clone(&listeners), config.bootstrap.clone());
    life.tasks().spawn(task, move || {
        let (listeners, path) = (Arc::clone(&watched), path.clone());
        async move { follow(&listeners, &path).await }
    });
    Ok(Running { diagnostics, listeners, drain: config.drain, life })
}

/// Takes the file again each time that it is another one. One that cannot be read changes nothing.
async fn follow(listeners: &Listeners, path: &Path) -> anyhow::Result<()> {
    let mut watch = Watch::new(path);
    loop {
        watch.changed().await;
        match Bootstrap::read(path) {
            Ok(bootstrap) => {
                for failed in apply(listeners, &bootstrap) {
                    tracing::error!("{failed}");
                }
                tracing::info!(file = %path.display(), "took the routes of a changed bootstrap");
            }
            Err(error) => tracing::error!(%error, "kept the routes: the changed bootstrap cannot be used"),
        }
    }
}

fn apply(listeners: &Listeners, bootstrap: &Bootstrap) -> Vec<String> {
    for refused in &bootstrap.refused {
        tracing::warn!(kind = refused.kind, name = refused.name, reason = refused.reason, "refused a resource");
    }
    listeners.apply(&bootstrap.resources)
}

impl Running {
    /// Where each listener listens, by its name.
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        self.listeners.addresses()
    }

    /// Asks it to stop.
    pub fn stop(&self) -> &runtime::life::Stop {
        self.life.stop()
    }

    /// Says that files may have changed.
    pub fn reload(&self) -> &runtime::life::Reload {
        self.life.reload()
    }

    /// Waits until it is asked to stop; then nobody new is accepted, and open connections may end.
    pub async fn end(self) -> Exit {
        let (guard, listeners, limit) = (self.life.drain().stream(), self.listeners, self.drain);
        tokio::spawn(async move {
            guard.closing().await;
            if !listeners.drain(limit).await {
                tracing::warn!(after = ?limit, "connections were cut off");
            }
            drop(guard);
        });
        self.life.end().await
    }
}
