//! What the programs for traffic into and out of a zone have in common: where routes come from, and how they end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use identity::bootstrap::{Client, Patience};
use identity::tls::client::Trust;
use kds_proto::bootstrap::Request;
use runtime::tasks::{Backoff, OnFailure, Task};
use runtime::{Clock, Exit, Fatal, Life, diagnostics, drain};

use crate::ads::disk::Disk;
use crate::ads::held::Held;
use crate::ads::session::{ControlPlane, Followed};
use crate::bootstrap::{Bootstrap, Watch};
use crate::listeners::Listeners;
use crate::metrics::{AdsCounts, Metrics};
use crate::server::Settings;

/// Between two tries to listen where that failed.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// Settings of a router.
#[derive(Debug)]
pub struct Config {
    /// Where routes come from.
    pub routes: Routes,
    /// Where `/healthy`, `/ready` and `/metrics` are.
    pub diagnostics: SocketAddr,
    /// How it treats connections.
    pub server: Settings,
    /// How long open connections may last once it is asked to stop.
    pub drain: Duration,
}

/// Where routes come from.
#[derive(Debug)]
pub enum Routes {
    /// The static part of a bootstrap, a file.
    File(PathBuf),
    /// A zone's control plane.
    ControlPlane(Box<FromControlPlane>),
}

/// A control plane, and who asks it.
#[derive(Debug)]
pub struct FromControlPlane {
    /// `https://localhost:5678`.
    pub address: String,
    /// Its authorities, PEM; without them those of this machine.
    pub ca: Option<Vec<u8>>,
    /// Whether it is not verified when it is asked for a bootstrap.
    pub skip_verify: bool,
    /// Who asks.
    pub request: Request,
    /// File that holds the token.
    pub token_file: Option<PathBuf>,
    /// How long to wait for a first bootstrap.
    pub patience: Patience,
    /// Folder of the last good configuration.
    pub folder: PathBuf,
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

    let diagnostics = diagnostics::start(config.diagnostics, None, &metrics, &life).await?;
    match config.routes {
        Routes::File(file) => from_file(&listeners, file, &life)?,
        Routes::ControlPlane(from) => from_control_plane(&listeners, *from, diagnostics, &metrics, &life).await?,
    }
    Ok(Running { diagnostics, listeners, drain: config.drain, life })
}

fn from_file(listeners: &Arc<Listeners>, file: PathBuf, life: &Life) -> Result<(), Fatal> {
    let cannot = |error| Fatal::new("cannot take routes from the bootstrap").caused_by(error);
    let bootstrap = Bootstrap::read(&file).map_err(cannot)?;
    if let Some(failed) = apply(listeners, &bootstrap).into_iter().next() {
        return Err(Fatal::new(failed));
    }
    let task = Task { name: "bootstrap", owner: "router", on_failure: OnFailure::Restart(Backoff::default()) };
    let listeners = Arc::clone(listeners);
    life.tasks().spawn(task, move || {
        let (listeners, path) = (Arc::clone(&listeners), file.clone());
        async move { follow(&listeners, &path).await }
    });
    Ok(())
}

/// Serves what was served last, if that is known, and follows the control plane. Without it the first bootstrap is
/// waited for.
async fn from_control_plane(
    listeners: &Arc<Listeners>,
    from: FromControlPlane,
    diagnostics: SocketAddr,
    metrics: &runtime::Metrics,
    life: &Life,
) -> Result<(), Fatal> {
    let cannot = |error| Fatal::new(format!("cannot use the folder {:?}", from.folder)).caused_by(error);
    let disk = Disk::new(&from.folder, &from.request.name).map_err(cannot)?;
    let counts = Arc::new(AdsCounts::default());
    metrics.register(|registry| counts.register(registry));
    let trust = match &from.ca {
        _ if from.skip_verify => {
            tracing::warn!("the control plane is not verified when it is asked for a bootstrap (--skip-verify)");
            Trust::Anybody
        }
        Some(pem) => Trust::Pem(pem, "the authorities of the control plane (--ca-cert-file)"),
        None => Trust::System,
    };
    let mut request = from.request;
    request.readiness_port = diagnostics.port().into();
    request.workdir = from.folder.display().to_string();
    let control_plane = Arc::new(ControlPlane {
        client: Client::new(&from.address, trust)?,
        request,
        patience: from.patience,
        token_file: from.token_file,
    });
    let waiting = life.readiness().not_ready("waiting for the control plane");
    let path = disk.path().to_owned();
    let followed = Arc::new(Followed::new(Held::new(Arc::clone(listeners), Some(disk)), counts));
    followed.keep();
    let (clock, serves) = (life.clock().clone(), followed.is_ready());
    let mut source = None;
    if serves {
        tracing::info!(file = %path.display(), "serving what was told last until the control plane answers");
    } else {
        let asked = control_plane.bootstrap(false, &clock).await;
        source = Some(asked.map_err(|error| Fatal::new(format!("{error:#}")))?);
    }
    let ready = Arc::clone(&followed);
    tokio::spawn(async move {
        ready.ready().await;
        drop(waiting);
    });
    let listening = Arc::clone(&followed);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LISTEN_AGAIN).await;
            for failed in listening.listen_again() {
                tracing::warn!("{failed}");
            }
        }
    });
    let task = Task { name: "control-plane", owner: "router", on_failure: OnFailure::Restart(Backoff::default()) };
    life.tasks().spawn(task, move || {
        let (control_plane, followed) = (Arc::clone(&control_plane), Arc::clone(&followed));
        let (clock, source) = (clock.clone(), source.take());
        async move {
            let source = match source {
                Some(source) => source,
                None => control_plane.bootstrap(true, &clock).await?,
            };
            let never = control_plane.follow(&followed, source, &clock).await?;
            match never {}
        }
    });
    Ok(())
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
