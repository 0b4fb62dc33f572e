//! Keeping the insights of meshes true, event driven (api-and-kumactl 2.7, 3.24, 3.25).

use std::time::Duration;

use model::insight::{Bookkeeper, Corrections};
use runtime::Clock;
use store::{ApplyError, Batch, Fence, Lease, Store};
use tokio::sync::watch;

/// Keeps the insights of a store true while this process leads. After each write it rests for `pause`, so that what
/// changes meanwhile is one write; a change after a quiet time shows at once. Returns when the store is closed.
///
/// # Errors
/// A write failed. What was to be written is known only to a new run, which compares everything.
pub async fn keep(
    store: Store,
    mut leading: watch::Receiver<Option<Lease>>,
    clock: Clock,
    pause: Duration,
) -> Result<(), ApplyError> {
    loop {
        let Ok(lease) = leading.wait_for(Option::is_some).await.map(|lease| lease.clone()) else { return Ok(()) };
        let Some(Lease { fence, .. }) = lease else { continue };
        let deposed = |lease: &Option<Lease>| lease.as_ref().is_none_or(|lease| lease.fence != fence);
        let kept = tokio::select! {
            kept = follow(&store, &fence, &clock, pause) => kept,
            _ = leading.wait_for(deposed) => continue,
        };
        match kept {
            // The candidate hears of it too, a little later.
            Err(ApplyError::Deposed { .. }) => drop(leading.wait_for(deposed).await),
            kept => return kept,
        }
    }
}

async fn follow(store: &Store, fence: &Fence, clock: &Clock, pause: Duration) -> Result<(), ApplyError> {
    let (mut configuration, mut insights) = (store.configuration(), store.insights());
    let mut keeper = Bookkeeper::new();
    loop {
        let now = (configuration.borrow_and_update().clone(), insights.borrow_and_update().clone());
        let batch = batch(keeper.follow(&now.0, &now.1));
        if batch.is_empty() {
            let changed = tokio::select! {
                changed = configuration.changed() => changed,
                changed = insights.changed() => changed,
            };
            if changed.is_err() {
                return Ok(());
            }
            continue;
        }
        match store.apply(batch.fenced(fence.clone())).await {
            Ok(_) => {}
            // A mesh went away between the look and the write: look at everything again.
            Err(ApplyError::RequirementMissing(_)) => keeper = Bookkeeper::new(),
            Err(error) => return Err(error),
        }
        clock.sleep(pause).await;
    }
}

fn batch(corrections: Corrections) -> Batch {
    let batch = corrections.put.into_iter().fold(Batch::new(), Batch::put);
    corrections.remove.into_iter().fold(batch, Batch::remove)
}

#[cfg(test)]
mod tests {
    use kds_proto::kuma::mesh::v1alpha1::{Mesh, MeshInsight};
    use model::{Key, Kind, Labels, Payload, Resource};
    use store::{Backend, Settings};

    use super::*;

    fn mesh(name: &str) -> Resource {
        Resource::new(Key::global(Kind::Mesh, name), Labels::default(), Payload::from_message(&Mesh::default()))
    }

    fn timeout() -> Resource {
        let policies = model::defaults::mesh_policies("default", &[], false).unwrap();
        policies.into_iter().find(|policy| policy.kind() == Kind::MeshTimeout).unwrap()
    }

    async fn told(store: &Store, mesh: &str, kind: &str) -> u32 {
        let mut insights = store.insights();
        let key = Key::global(Kind::MeshInsight, mesh);
        let told = |snapshot: &std::sync::Arc<model::Snapshot>| {
            let insight = snapshot.get(&key)?.spec.message::<MeshInsight>().ok()?;
            insight.resources.get(kind).map(|stat| stat.total)
        };
        let limit = Duration::from_secs(5);
        let seen = tokio::time::timeout(limit, insights.wait_for(|snapshot| told(snapshot).is_some())).await;
        told(&seen.expect("in time").unwrap()).unwrap()
    }

    #[tokio::test]
    async fn insights_follow_the_store_while_this_process_leads() {
        let store = Store::open(Settings::new(Backend::SqliteInMemory)).await.unwrap();
        let candidate = store.stand("leader", "a", Duration::from_secs(5));
        let keeping = keep(store.clone(), candidate.leading(), Clock::system(), Duration::from_millis(5));
        let keeping = tokio::spawn(keeping);
        store.apply(Batch::new().create(mesh("default"))).await.unwrap();
        store.apply(Batch::new().create(timeout())).await.unwrap();
        assert_eq!(told(&store, "default", "MeshTimeout").await, 1);

        store.apply(Batch::new().delete(Key::global(Kind::Mesh, "default"))).await.unwrap();
        let gone = Key::global(Kind::MeshInsight, "default");
        let mut insights = store.insights();
        let waiting = insights.wait_for(|snapshot| snapshot.get(&gone).is_none());
        tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("in time").unwrap();
        assert!(!keeping.is_finished());
    }

    #[tokio::test]
    async fn nobody_but_the_leader_writes() {
        let store = Store::open(Settings::new(Backend::SqliteInMemory)).await.unwrap();
        store.acquire("leader", "other", Duration::from_secs(60)).await.unwrap().unwrap();
        let candidate = store.stand("leader", "a", Duration::from_secs(5));
        tokio::spawn(keep(store.clone(), candidate.leading(), Clock::system(), Duration::from_millis(1)));
        store.apply(Batch::new().create(mesh("default"))).await.unwrap();
        tokio::task::yield_now().await;
        let stolen = Fence { lease: "leader".into(), token: 0 };
        let write = Batch::new().put(timeout()).fenced(stolen);
        assert!(matches!(store.apply(write).await, Err(ApplyError::Deposed { .. })));
        assert!(store.insights().borrow().is_empty());
    }
}
