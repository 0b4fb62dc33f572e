//! The feed: reads what changed in a stream since the revision it has, and publishes the next snapshot.

use std::sync::Arc;

use tokio::sync::{Mutex, watch};

use crate::backend::{Backend, Changes};
use crate::error::StorageError;
use crate::metrics::Metrics;
use crate::seal::Sealer;
use crate::stream::Stream;
use model::snapshot::{Change, Snapshot};

/// Publishes the snapshots of one stream.
#[derive(Debug)]
pub(crate) struct Feed {
    stream: Stream,
    published: watch::Sender<Arc<Snapshot>>,
    /// Held while reading and publishing, so that snapshots come in the order of their revisions.
    reading: Mutex<()>,
}

impl Feed {
    /// Reads everything.
    ///
    /// # Errors
    /// The database fails, or a secret in it cannot be read.
    pub(crate) async fn open(stream: Stream, backend: &Backend, sealer: &Sealer) -> Result<Self, StorageError> {
        let changes = backend.changes(stream, 0).await?;
        let mut puts = Vec::with_capacity(changes.puts.len());
        for record in changes.puts {
            let stored = record.unseal(sealer).map_err(|error| StorageError::unsealable("reading secrets", error))?;
            puts.push(Change::Put(stored.resource));
        }
        let snapshot = Snapshot::empty().apply(changes.revision, puts);
        Ok(Self { stream, published: watch::Sender::new(Arc::new(snapshot)), reading: Mutex::new(()) })
    }

    /// Snapshots, the newest at any time.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.published.subscribe()
    }

    /// The newest snapshot.
    pub(crate) fn latest(&self) -> Arc<Snapshot> {
        Arc::clone(&self.published.borrow())
    }

    /// Publishes what this process has just committed, without reading it again: the revision is the next one, so
    /// nothing else changed. `false` when it is not, because somebody else committed before or published this already.
    pub(crate) async fn advance(&self, revision: u64, changes: Vec<Change>, metrics: &Metrics) -> bool {
        let _reading = self.reading.lock().await;
        let current = self.latest();
        if current.revision() + 1 != revision {
            return false;
        }
        self.publish(current.apply(revision, changes), metrics);
        true
    }

    /// Publishes what was committed before the call, unless the published snapshot has revision `wanted` already.
    ///
    /// # Errors
    /// The database fails; nothing was published.
    pub(crate) async fn catch_up(
        &self,
        wanted: Option<u64>,
        backend: &Backend,
        sealer: &Sealer,
        metrics: &Metrics,
    ) -> Result<(), StorageError> {
        let _reading = self.reading.lock().await;
        let current = self.latest();
        if wanted.is_some_and(|wanted| wanted <= current.revision()) {
            return Ok(());
        }
        let changes = backend.changes(self.stream, current.revision()).await?;
        if changes.revision == current.revision() {
            return Ok(());
        }
        let next = if changes.incomplete || changes.revision < current.revision() {
            tracing::info!(stream = %self.stream, revision = changes.revision, "reads every resource again");
            next(&Snapshot::empty(), &current, backend.changes(self.stream, 0).await?, sealer)
        } else {
            next(&current, &current, changes, sealer)
        };
        self.publish(next, metrics);
        Ok(())
    }

    fn publish(&self, next: Snapshot, metrics: &Metrics) {
        metrics.published(self.stream, &next);
        self.published.send_replace(Arc::new(next));
    }
}

/// The snapshot after changes to `base`. Of a secret that cannot be read the last good one of `current` stays.
fn next(base: &Snapshot, current: &Snapshot, changes: Changes, sealer: &Sealer) -> Snapshot {
    let puts = changes.puts.into_iter().filter_map(|record| {
        let key = record.key.clone();
        match record.unseal(sealer) {
            Ok(stored) => Some(Change::Put(stored.resource)),
            Err(error) => {
                tracing::error!(%error, "cannot read a changed secret; its last good content stays in use");
                current.get(&key).map(|kept| Change::Put(Arc::clone(kept)))
            }
        }
    });
    let removals = changes.removals.into_iter().map(Change::Remove);
    base.apply(changes.revision, removals.chain(puts))
}
