//! Everything a control plane holds at one time: configuration and insights.

use std::sync::Arc;
use std::time::Duration;

use model::kind::Access;
use model::{Kind, Snapshot};
use tokio::sync::watch;

/// Snapshots of the two streams of a store.
#[derive(Clone, Debug)]
pub struct Moment {
    /// Everything but insights.
    pub configuration: Arc<Snapshot>,
    /// How everything fares.
    pub insights: Arc<Snapshot>,
    /// When the store showed it, on the clock of who follows the store.
    pub made: Duration,
}

impl Moment {
    /// What a store shows now.
    pub fn latest(configuration: &watch::Receiver<Arc<Snapshot>>, insights: &watch::Receiver<Arc<Snapshot>>) -> Self {
        let made = Duration::ZERO;
        Self { configuration: configuration.borrow().clone(), insights: insights.borrow().clone(), made }
    }

    /// The snapshot that holds a kind.
    pub fn of(&self, kind: Kind) -> &Arc<Snapshot> {
        if kind.info().access == Access::ControlPlanes { &self.insights } else { &self.configuration }
    }

    /// Whether a kind that matters changed since an earlier moment.
    fn differs(&self, earlier: &Self, matters: fn(Kind) -> bool) -> bool {
        let differs = |now: &Snapshot, then: &Snapshot| now.changed_kinds(then).any(matters);
        differs(&self.configuration, &earlier.configuration) || differs(&self.insights, &earlier.insights)
    }
}

/// Combines the snapshots of a store into moments, as long as somebody listens or the store is open. There is a new one
/// only when a kind that matters changed: what is of no interest to peers wakes no stream. `now` tells the time.
pub async fn follow(
    mut configuration: watch::Receiver<Arc<Snapshot>>,
    mut insights: watch::Receiver<Arc<Snapshot>>,
    moments: &watch::Sender<Moment>,
    matters: fn(Kind) -> bool,
    now: impl Fn() -> Duration,
) {
    loop {
        let now = Moment {
            configuration: configuration.borrow_and_update().clone(),
            insights: insights.borrow_and_update().clone(),
            made: now(),
        };
        moments.send_if_modified(|told| {
            let differs = now.differs(told, matters);
            if differs {
                *told = now;
            }
            differs
        });
        let changed = tokio::select! {
            changed = configuration.changed() => changed,
            changed = insights.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{Change, Key, Labels, Payload, Resource};

    use super::*;

    fn put(kind: Kind) -> Change {
        Change::Put(Arc::new(Resource::new(Key::new(kind, "default", "a"), Labels::default(), Payload::default())))
    }

    #[tokio::test]
    async fn what_does_not_matter_wakes_nobody() {
        let empty = Arc::new(Snapshot::empty());
        let (configuration, heard) = watch::channel(Arc::clone(&empty));
        let (insights, heard_too) = watch::channel(Arc::clone(&empty));
        let first = Moment { configuration: Arc::clone(&empty), insights: Arc::clone(&empty), made: Duration::ZERO };
        let (moments, mut told) = watch::channel(first);
        let matters = |kind: Kind| matches!(kind, Kind::Mesh | Kind::ServiceInsight);
        let following =
            tokio::spawn(async move { follow(heard, heard_too, &moments, matters, || Duration::from_secs(1)).await });
        let with = |before: &Snapshot, revision, kind| Arc::new(before.apply(revision, [put(kind)]));
        insights.send_replace(with(&empty, 1, Kind::ZoneInsight));
        let dataplane = with(&empty, 1, Kind::Dataplane);
        configuration.send_replace(Arc::clone(&dataplane));
        configuration.send_replace(with(&dataplane, 2, Kind::Mesh));
        told.changed().await.unwrap();
        assert_eq!(told.borrow_and_update().configuration.revision(), 2);
        insights.send_replace(with(&empty, 2, Kind::ServiceInsight));
        told.changed().await.unwrap();
        assert_eq!(told.borrow_and_update().of(Kind::ServiceInsight).revision(), 2);
        assert!(!told.has_changed().unwrap());
        drop((configuration, insights));
        following.await.unwrap();
    }
}
