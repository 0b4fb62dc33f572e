//! Making what a control plane has to have, once, by the leader alone (api-and-kumactl 6). What exists is never
//! overwritten.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use config::Effective;
use identity::first_start::{FirstStartError, Internal, admin_token};
use kds_proto::kuma::mesh::v1alpha1::Mesh;
use kds_proto::kuma::system::v1alpha1::Config;
use model::spec::SpecError;
use model::{Key, Kind, Labels, Payload, Resource, Snapshot};
use runtime::Life;
use runtime::readiness::NotReady;
use runtime::tasks::{Backoff, OnFailure, Task};
use store::{ApplyError, Batch, Lease, Store};
use tokio::sync::watch;
use tokio::sync::watch::error::RecvError;

use crate::companions::{self, CompanionError};
use crate::{Listeners, NewMesh};

/// Why something could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key, token or authority.
    #[error(transparent)]
    Identity(#[from] FirstStartError),
    /// What comes with a mesh.
    #[error(transparent)]
    Companion(#[from] CompanionError),
    /// A default is not what its kind wants.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The store refused or failed.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The task that makes keys died.
    #[error("the task that makes a key died: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Switches of what is made.
#[derive(Clone, Copy, Debug)]
pub struct Switches {
    /// The mesh `default`.
    pub mesh: bool,
    /// What comes with it.
    pub new_mesh: NewMesh,
    /// How services are named.
    pub hostname_generators: bool,
    /// The mesh, names and the signing key of zones.
    pub tenant_resources: bool,
    /// The administrator's token.
    pub admin_token: bool,
    /// Port where the log says that the token can be read.
    port: Option<u16>,
}

impl Switches {
    /// `defaults` and `apiServer.authn.tokens.bootstrapAdminToken`.
    pub fn configured(effective: &Effective, listeners: &Listeners) -> Self {
        let tenant_resources = !effective.flag("defaults.skipTenantResources");
        Self {
            mesh: tenant_resources && !effective.flag("defaults.skipMeshCreation"),
            new_mesh: NewMesh::configured(effective),
            hostname_generators: tenant_resources && !effective.flag("defaults.SkipHostnameGenerators"),
            tenant_resources,
            admin_token: effective.flag("apiServer.authn.tokens.bootstrapAdminToken"),
            port: listeners.http.map(|address| address.port()),
        }
    }
}

/// Starts the task that makes what `missing` lists, once this instance leads. The program is not ready before it, or
/// another instance, has done so at least once.
pub fn start<M, F>(
    switches: Switches,
    store: &Store,
    leading: &watch::Receiver<Option<Lease>>,
    life: &Life,
    backoff: Backoff,
    missing: M,
) where
    M: Fn(Arc<Snapshot>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Batch, Error>> + Send + 'static,
{
    let task = Task { name: "defaults", owner: "defaults", on_failure: OnFailure::Restart(backoff) };
    let (made_in, leading) = (store.clone(), leading.clone());
    life.tasks().spawn(task, move || {
        let (store, leading, missing) = (made_in.clone(), leading.clone(), missing.clone());
        async move { Ok(ensure(&store, leading, missing).await?) }
    });

    let task = Task { name: "defaults-seen", owner: "defaults", on_failure: OnFailure::Restart(backoff) };
    let configuration = store.configuration();
    let waiting = Waiting::new(life.readiness().not_ready("waiting for the default resources"));
    life.tasks().spawn(task, move || {
        let (configuration, waiting) = (configuration.clone(), waiting.clone());
        async move {
            let seen = made(configuration).await?;
            if switches.admin_token && seen.get(&admin_token()).is_some() {
                tell_of_the_token(switches.port);
            }
            waiting.over();
            Ok(())
        }
    });
}

/// Keeps the program from being ready until the first start is over. Clones share it, so that a task which begins anew
/// still holds it.
#[derive(Clone, Debug)]
struct Waiting(Arc<Mutex<Option<NotReady>>>);

impl Waiting {
    fn new(reason: NotReady) -> Self {
        Self(Arc::new(Mutex::new(Some(reason))))
    }

    fn over(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// The snapshot that shows that everything is there.
async fn made(mut stored: watch::Receiver<Arc<Snapshot>>) -> Result<Arc<Snapshot>, RecvError> {
    // Every control plane makes it, in one transaction with all the rest.
    let last = Internal::Instances.key();
    Ok(stored.wait_for(|stored| stored.get(&last).is_some()).await?.clone())
}

/// Waits until this process leads, asks what is missing, and makes it in one transaction.
async fn ensure<F>(
    store: &Store,
    mut leading: watch::Receiver<Option<Lease>>,
    missing: impl Fn(Arc<Snapshot>) -> F,
) -> Result<(), Error>
where
    F: Future<Output = Result<Batch, Error>>,
{
    loop {
        let Ok(lease) = leading.wait_for(Option::is_some).await.map(|lease| lease.clone()) else { return Ok(()) };
        let Some(Lease { fence, .. }) = lease else { continue };
        let stored = store.configuration().borrow().clone();
        let batch = missing(stored).await?;
        if batch.is_empty() {
            return Ok(());
        }
        let resources = batch.len();
        match store.apply(batch.fenced(fence.clone())).await {
            Ok(_) => {
                tracing::info!(resources, "made what was missing");
                return Ok(());
            }
            // Somebody made or removed one of them meanwhile: look again.
            Err(ApplyError::AlreadyExists(_) | ApplyError::NotFound(_)) => {}
            Err(ApplyError::Deposed { .. }) => {
                let deposed = |lease: &Option<Lease>| lease.as_ref().is_none_or(|lease| lease.fence != fence);
                drop(leading.wait_for(deposed).await);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Runs what takes a processor's time, such as making a key, beside the runtime's threads; it starts at once.
pub fn making<T, W>(what: W) -> impl Future<Output = Result<T, Error>> + Send
where
    T: Send + 'static,
    W: FnOnce() -> Result<T, FirstStartError> + Send + 'static,
{
    let task = tokio::task::spawn_blocking(what);
    async { Ok(task.await??) }
}

/// Adds to a batch what the snapshot does not have.
#[must_use]
pub fn create_missing(batch: Batch, stored: &Snapshot, resources: impl IntoIterator<Item = Resource>) -> Batch {
    let missing = resources.into_iter().filter(|resource| stored.get(&resource.meta.key).is_none());
    missing.fold(batch, Batch::create)
}

/// The mesh `default` and what comes with it; nothing when it exists or is not wanted.
///
/// # Errors
/// A key or a default cannot be made.
pub async fn default_mesh(
    switches: &Switches,
    stored: &Arc<Snapshot>,
    now: DateTime<Utc>,
) -> Result<Vec<Resource>, Error> {
    let key = Key::global(Kind::Mesh, "default");
    if !switches.mesh || stored.get(&key).is_some() {
        return Ok(Vec::new());
    }
    let mesh = Resource::new(key, Labels::default(), Payload::from_message(&Mesh::default()));
    let companions = companions::of(switches.new_mesh, stored, &mesh, true, now).await?;
    Ok(std::iter::once(mesh).chain(companions).collect())
}

/// A new identity of the whole system, `clusterId` of `/`.
pub fn cluster_id() -> Resource {
    let config = Config { config: uuid::Uuid::new_v4().to_string() };
    let key = Key::global(Kind::Config, "kuma-cluster-id");
    Resource::new(key, Labels::default(), Payload::from_message(&config))
}

/// Kuma's words.
fn tell_of_the_token(port: Option<u16>) {
    let Some(port) = port else { return };
    let name = admin_token().name;
    tracing::info!(
        "bootstrap of Admin User Token is enabled. To extract admin credentials execute 'curl \
         http://localhost:{port}/global-secrets/{name} | jq -r .data | base64 -d'. You configure kumactl with them 'kumactl \
         config control-planes add --auth-type=tokens --auth-conf token=YOUR_TOKEN'. To disable bootstrap of Admin User \
         Token set KUMA_API_SERVER_AUTHN_TOKENS_BOOTSTRAP_ADMIN_TOKEN to false."
    );
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use runtime::{Clock, drain};
    use store::{Backend, Settings};

    use super::*;

    fn switches() -> Switches {
        let effective = config::Loader::new(config::Role::Global).load().unwrap().effective;
        Switches::configured(&effective, &Listeners::default())
    }

    fn instances(stored: &Snapshot) -> Result<Batch, Error> {
        let made = Internal::Instances.missing(stored, DateTime::UNIX_EPOCH)?;
        Ok(create_missing(Batch::new(), stored, made))
    }

    #[tokio::test]
    async fn a_program_is_ready_when_the_leader_has_made_everything() {
        let store = Store::open(Settings::new(Backend::SqliteInMemory)).await.unwrap();
        let other = store.acquire("leader", "other", Duration::from_millis(200)).await.unwrap().unwrap();
        let candidate = store.stand("leader", "a", Duration::from_millis(200));
        let life = Life::new(Clock::system(), drain::Limits::default());
        start(switches(), &store, &candidate.leading(), &life, Backoff::default(), |stored| async move {
            instances(&stored)
        });
        assert_eq!(life.readiness().reasons(), ["waiting for the default resources"]);
        assert!(store.configuration().borrow().is_empty());
        store.release(&other).await.unwrap();
        tokio::time::timeout(Duration::from_secs(30), life.readiness().ready()).await.expect("in time");
        assert_eq!(store.configuration().borrow().count(Kind::GlobalSecret), 1);
    }

    /// Its task is started anew when it fails.
    #[test]
    fn a_wait_that_is_cut_short_is_not_over() {
        let life = Life::new(Clock::system(), drain::Limits::default());
        let waiting = Waiting::new(life.readiness().not_ready("waiting for the default resources"));
        drop(waiting.clone());
        assert!(!life.readiness().is_ready());
        waiting.clone().over();
        assert!(life.readiness().is_ready());
    }

    /// Somebody is faster once: the next look finds it there.
    #[tokio::test]
    async fn a_lost_race_is_looked_at_again() {
        let store = Store::open(Settings::new(Backend::SqliteInMemory)).await.unwrap();
        let candidate = store.stand("leader", "a", Duration::from_secs(5));
        let looks = AtomicUsize::new(0);
        let made = ensure(&store, candidate.leading(), |stored| {
            let (store, first) = (store.clone(), looks.fetch_add(1, Ordering::SeqCst) == 0);
            async move {
                let batch = instances(&stored)?;
                if first {
                    store.apply(batch.clone()).await?;
                }
                Ok(batch)
            }
        });
        made.await.unwrap();
        assert_eq!(looks.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn the_default_mesh_is_made_once_and_only_if_wanted() {
        let (empty, now) = (Arc::new(Snapshot::empty()), DateTime::UNIX_EPOCH);
        let made = default_mesh(&switches(), &empty, now).await.unwrap();
        let kinds: Vec<&str> = made.iter().map(|resource| resource.kind().name()).collect();
        assert_eq!(kinds, ["Mesh", "MeshTimeout", "MeshTimeout", "MeshCircuitBreaker", "MeshRetry", "Secret"]);
        let stored = made.into_iter().map(|resource| model::snapshot::Change::Put(Arc::new(resource)));
        let stored = Arc::new(empty.apply(1, stored));
        assert!(default_mesh(&switches(), &stored, now).await.unwrap().is_empty());
        assert!(default_mesh(&Switches { mesh: false, ..switches() }, &empty, now).await.unwrap().is_empty());
    }
}
