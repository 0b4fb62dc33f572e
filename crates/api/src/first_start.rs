//! Making what a control plane has to have, once, by the leader alone (api-and-kumactl 6).

use std::sync::Arc;

use model::{Key, Kind, Labels, Payload, Resource, Snapshot};
use store::{ApplyError, Batch, Lease, Store};
use tokio::sync::watch;

/// Waits until this process leads, asks what is missing, and makes it: in one transaction, so that others see
/// everything or nothing. Returns at once what cannot be done, to be tried again.
///
/// # Errors
/// What `missing` says, or the store.
pub async fn ensure<E, F>(
    store: &Store,
    mut leading: watch::Receiver<Option<Lease>>,
    missing: impl Fn(Arc<Snapshot>) -> F,
) -> Result<(), E>
where
    E: From<ApplyError>,
    F: Future<Output = Result<Batch, E>>,
{
    loop {
        let Ok(lease) = leading.wait_for(Option::is_some).await.map(|lease| lease.clone()) else { return Ok(()) };
        let Some(Lease { fence, .. }) = lease else { continue };
        let configuration = store.configuration().borrow().clone();
        let batch = missing(configuration).await?;
        if batch.is_empty() {
            return Ok(());
        }
        let resources = batch.len();
        match store.apply(batch.fenced(fence.clone())).await {
            Ok(_) => {
                tracing::info!(resources, "made what was missing");
                return Ok(());
            }
            // Somebody made one of them, or leads now: look again.
            Err(ApplyError::AlreadyExists(_) | ApplyError::NotFound(_)) => {}
            Err(ApplyError::Deposed { .. }) => {
                let deposed = |lease: &Option<Lease>| lease.as_ref().is_none_or(|lease| lease.fence != fence);
                if leading.wait_for(deposed).await.is_err() {
                    return Ok(());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Adds what the snapshot does not have.
pub fn create_missing(batch: Batch, configuration: &Snapshot, resources: impl IntoIterator<Item = Resource>) -> Batch {
    let missing = resources.into_iter().filter(|resource| configuration.get(&resource.meta.key).is_none());
    missing.fold(batch, Batch::create)
}

/// The identity of the whole system, `clusterId` of `/`.
pub fn cluster_id() -> Key {
    Key::global(Kind::Config, "kuma-cluster-id")
}

/// A new identity.
pub fn new_cluster_id() -> Resource {
    let config = kds_proto::kuma::system::v1alpha1::Config { config: uuid::Uuid::new_v4().to_string() };
    Resource::new(cluster_id(), Labels::default(), Payload::from_message(&config))
}

/// The mesh `default`, empty.
pub fn default_mesh() -> Resource {
    let mesh = kds_proto::kuma::mesh::v1alpha1::Mesh::default();
    Resource::new(Key::global(Kind::Mesh, "default"), Labels::default(), Payload::from_message(&mesh))
}
