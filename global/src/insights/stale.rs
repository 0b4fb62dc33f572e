//! Subscriptions whose global died before it could write their end (kds-wire 5.3).
//!
//! The leader ends those of instances that are known to be gone at once, and those that gave no sign of life between two
//! looks: their generation, which grows while they are held, stands still.

use std::collections::{BTreeMap, BTreeSet};

use kds_proto::kuma::system::v1alpha1::{KdsSubscription, ZoneInsight};
use model::insight::zone::finish;
use model::{Kind, Payload, Resource, Snapshot};
use runtime::Clock;
use store::{ApplyError, Batch, Fence, Lease, Store, Write};
use tokio::sync::watch;

use super::{Settings, timestamp};

/// Instances of the global that live; `None` while that is unknown.
pub(crate) type Living = watch::Receiver<Option<BTreeSet<String>>>;

/// Generations of open subscriptions, by their id.
type Seen = BTreeMap<String, u32>;

/// Ends stale subscriptions while this process leads, until the program ends.
///
/// # Errors
/// The database fails.
pub(crate) async fn finish_stale(
    store: Store,
    mut leading: watch::Receiver<Option<Lease>>,
    clock: Clock,
    settings: Settings,
    living: Living,
) -> Result<(), ApplyError> {
    loop {
        let Ok(lease) = leading.wait_for(Option::is_some).await.map(|lease| lease.clone()) else { return Ok(()) };
        let Some(Lease { fence, .. }) = lease else { continue };
        let deposed = |lease: &Option<Lease>| lease.as_ref().is_none_or(|lease| lease.fence != fence);
        let ended = tokio::select! {
            ended = look(&store, &fence, &clock, settings, living.clone()) => ended,
            _ = leading.wait_for(deposed) => continue,
        };
        match ended {
            Err(ApplyError::Deposed { .. }) => drop(leading.wait_for(deposed).await),
            ended => return ended,
        }
    }
}

async fn look(
    store: &Store,
    fence: &Fence,
    clock: &Clock,
    settings: Settings,
    mut living: Living,
) -> Result<(), ApplyError> {
    let mut seen = generations(&store.insights().borrow());
    let mut next = clock.elapsed() + settings.idle;
    loop {
        let alive = living.borrow_and_update().clone();
        let is_dead = |subscription: &KdsSubscription| {
            alive.as_ref().is_some_and(|alive| !alive.contains(&subscription.global_instance_id))
        };
        end(store, fence, clock, is_dead).await?;
        tokio::select! {
            () = clock.sleep_until(next) => {
                let silent = |subscription: &KdsSubscription| seen.get(&subscription.id) == Some(&subscription.generation);
                end(store, fence, clock, silent).await?;
                seen = generations(&store.insights().borrow());
                next = clock.elapsed() + settings.idle;
            }
            changed = living.changed() => if changed.is_err() {
                // Nobody tells any more which instances live.
                living = watch::channel(None).1;
                clock.sleep_until(next).await;
            }
        }
    }
}

/// Ends the open subscriptions that a rule picks, all in one write; somebody else's write in between is left to the next
/// look.
async fn end(
    store: &Store,
    fence: &Fence,
    clock: &Clock,
    is_stale: impl Fn(&KdsSubscription) -> bool,
) -> Result<(), ApplyError> {
    let now = timestamp(clock.now());
    let snapshot = store.insights().borrow().clone();
    let writes = snapshot.list(Kind::ZoneInsight).filter_map(|stored| {
        let mut insight = ZoneInsight::clone(stored.spec.message::<ZoneInsight>().ok()?.as_ref());
        if !finish(&mut insight, now, &is_stale) {
            return None;
        }
        tracing::info!(zone = &*stored.meta.key.name, "ended a subscription whose global is gone");
        let resource = Resource { spec: Payload::from_message(&insight), ..Resource::clone(stored) };
        Some(Write::Update { resource })
    });
    for write in writes.collect::<Vec<_>>() {
        match store.apply(Batch::new().with(write).fenced(fence.clone())).await {
            Ok(_) | Err(ApplyError::Conflict { .. } | ApplyError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn generations(snapshot: &Snapshot) -> Seen {
    let insights = snapshot.list(Kind::ZoneInsight).filter_map(|stored| stored.spec.message::<ZoneInsight>().ok());
    let open = insights.flat_map(|insight| insight.subscriptions.clone());
    let open = open.filter(|subscription| subscription.disconnect_time.is_none());
    open.map(|subscription| (subscription.id, subscription.generation)).collect()
}
