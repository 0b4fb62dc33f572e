//! The one task that writes what was noted.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use kds_proto::kuma::system::v1alpha1::ZoneInsight;
use model::insight::zone::merge;
use model::{Key, Kind, Labels, Payload, Resource};
use store::{ApplyError, Batch, StorageError, Store, Write};

use super::{Insights, Pending};

/// Rest after a write of what is urgent, so that the five streams of a zone, and all zones after a restart, are few
/// writes.
const REST: Duration = Duration::from_millis(50);

/// Zones in one transaction.
const AT_A_TIME: usize = 100;

/// Writes what is noted until the program ends. What cannot be written is tried again at the next occasion.
pub(crate) async fn keep(insights: Insights, store: Store) {
    let shared = &insights.0;
    let mut beat = shared.clock.elapsed() + shared.settings.flush;
    loop {
        let due = tokio::select! {
            () = shared.urgent.notified() => false,
            () = shared.clock.sleep_until(beat) => true,
        };
        if due {
            beat = shared.clock.elapsed() + shared.settings.flush;
        }
        flush(&insights, &store, due).await;
        shared.clock.sleep(REST).await;
    }
}

/// Writes what is noted of all zones: what is urgent, or everything.
pub(super) async fn flush(insights: &Insights, store: &Store, everything: bool) {
    let shared = &insights.0;
    let beat = everything.then(|| (shared.clock.elapsed(), shared.settings.idle / 2));
    let mut pending: Vec<(Arc<str>, Pending)> = {
        let mut zones = insights.zones();
        let taken = zones.iter_mut().filter_map(|(zone, noted)| Some((Arc::clone(zone), noted.take(beat)?)));
        taken.collect()
    };
    while !pending.is_empty() {
        let rest = pending.split_off(pending.len().min(AT_A_TIME));
        write_together(insights, store, std::mem::replace(&mut pending, rest)).await;
    }
    insights.zones().retain(|_, noted| !noted.is_empty());
}

/// In one transaction; one by one when something is in the way of one of them.
async fn write_together(insights: &Insights, store: &Store, pending: Vec<(Arc<str>, Pending)>) {
    let stored = store.insights().borrow().clone();
    let writes = pending.iter().filter_map(|(zone, pending)| {
        let stored = stored.get(&Key::global(Kind::ZoneInsight, zone));
        write(insights, zone, pending, stored.map(AsRef::as_ref))
    });
    let together = store.apply(writes.collect()).await;
    for (zone, pending) in pending {
        let written = match together {
            Ok(_) => Ok(true),
            Err(_) => write_alone(insights, store, &zone, &pending).await,
        };
        let mut zones = insights.zones();
        let noted = zones.entry(Arc::clone(&zone)).or_default();
        match written {
            Ok(true) => noted.written(&pending),
            // Nobody to write about. A stream that is still open tries again with its next change.
            Ok(false) => {
                noted.written(&pending);
                tracing::debug!(zone = &*zone, "the zone is gone: its connections are not written down");
            }
            Err(error) => {
                noted.put_back(pending);
                drop(zones);
                tracing::warn!(zone = &*zone, %error, "connections could not be written down; trying again later");
            }
        }
    }
}

/// Repeats until nobody was faster. `false` when there is no such zone.
async fn write_alone(
    insights: &Insights,
    store: &Store,
    zone: &Arc<str>,
    pending: &Pending,
) -> Result<bool, ApplyError> {
    let key = Key::global(Kind::ZoneInsight, zone);
    let mut pauses = pauses();
    loop {
        let stored = store.get(&key).await.map_err(|error: StorageError| ApplyError::Storage(error))?;
        let Some(write) = write(insights, zone, pending, stored.as_deref()) else { return Ok(true) };
        match store.apply(Batch::new().with(write)).await {
            Ok(_) => return Ok(true),
            Err(ApplyError::OwnerMissing { .. }) => return Ok(false),
            Err(error) if error.is_lost_race() => {
                let Some(pause) = pauses.next() else { return Err(error) };
                insights.0.clock.sleep(pause).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// `store.upsert.conflictRetry*` of Kuma, but for the first tries, which come sooner.
fn pauses() -> impl Iterator<Item = Duration> {
    let builder = ExponentialBuilder::default().with_min_delay(Duration::from_millis(10)).with_max_times(10);
    builder.with_jitter().build()
}

/// The write that adds what is noted; none when it is stored already.
fn write(insights: &Insights, zone: &Arc<str>, pending: &Pending, stored: Option<&Resource>) -> Option<Write> {
    let before = stored.and_then(|stored| stored.spec.message::<ZoneInsight>().ok());
    let mut insight = before.as_deref().cloned().unwrap_or_default();
    merge(&mut insight, &pending.notes, insights.0.settings.kept, insights.now());
    let spec = Payload::from_message(&insight);
    match stored {
        Some(stored) if stored.spec == spec => None,
        Some(stored) => Some(Write::Update { resource: Resource { spec, ..stored.clone() } }),
        None => Some(Write::Create {
            resource: Resource::new(Key::global(Kind::ZoneInsight, zone), Labels::default(), spec),
            owner: Some(Key::global(Kind::Zone, zone)),
        }),
    }
}
