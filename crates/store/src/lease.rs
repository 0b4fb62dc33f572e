//! Leases for the election of a leader, with fencing tokens.
//!
//! A lease is held by the database's clock. Its token grows each time it changes hands, and a
//! [fenced](crate::Batch::fenced) batch is refused by the database once the token has grown: a leader that was paused,
//! and does not know yet that another took over, cannot write.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::StorageError;
use crate::store::Store;

/// What a batch must still hold to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Name of the lease.
    pub lease: String,
    /// Token that it had when it was taken.
    pub token: u64,
}

/// A lease that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Name and token.
    pub fence: Fence,
    /// Who took it.
    pub holder: String,
}

impl Lease {
    pub(crate) fn new(name: &str, holder: &str, token: i64) -> Self {
        let fence = Fence { lease: name.to_owned(), token: token.unsigned_abs() };
        Self { fence, holder: holder.to_owned() }
    }
}

/// A candidate that takes a lease whenever it is free and renews it while it holds it. Dropping it gives up.
#[derive(Debug)]
pub struct Candidate {
    leading: watch::Receiver<Option<Lease>>,
    task: JoinHandle<()>,
}

impl Candidate {
    /// The lease while this candidate leads.
    pub fn leading(&self) -> watch::Receiver<Option<Lease>> {
        self.leading.clone()
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Store {
    /// Takes a lease, or renews it for its holder; `None` when another holds it. `holder` must be unique to the process.
    ///
    /// # Errors
    /// The database fails.
    pub async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Option<Lease>, StorageError> {
        let micros = i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX / 2);
        self.within("taking a lease", self.backend().acquire(name, holder, micros)).await
    }

    /// Gives a lease back, if it has not passed on.
    ///
    /// # Errors
    /// The database fails.
    pub async fn release(&self, lease: &Lease) -> Result<(), StorageError> {
        self.within("giving a lease back", self.backend().release(&lease.fence)).await
    }

    /// Stands for a lease until the candidate is dropped; tries and renews five times per `ttl` (Kuma: 5 s, every
    /// second; kds-wire 7).
    pub fn stand(&self, name: &str, holder: &str, ttl: Duration) -> Candidate {
        let (sender, leading) = watch::channel(None);
        let (store, name, holder) = (self.clone(), name.to_owned(), holder.to_owned());
        let task = tokio::spawn(async move { campaign(store, &name, &holder, ttl, sender).await });
        Candidate { leading, task }
    }
}

/// Counts the lease from before the request, so that it ends here no later than in the database.
async fn campaign(store: Store, name: &str, holder: &str, ttl: Duration, leading: watch::Sender<Option<Lease>>) {
    let clock = store.clock().clone();
    let mut until = clock.elapsed();
    loop {
        let asked = clock.elapsed();
        let answer = clock.timeout(ttl / 2, store.acquire(name, holder, ttl)).await;
        match answer {
            Some(Ok(Some(lease))) => {
                until = asked.saturating_add(ttl);
                announce(&leading, Some(lease));
            }
            Some(Ok(None)) => announce(&leading, None),
            Some(Err(error)) => tracing::warn!(lease = name, %error, "cannot renew a lease"),
            None => tracing::warn!(lease = name, "cannot renew a lease in time"),
        }
        if clock.elapsed() >= until {
            announce(&leading, None);
        }
        clock.sleep(ttl / 5).await;
    }
}

fn announce(leading: &watch::Sender<Option<Lease>>, lease: Option<Lease>) {
    let changed = leading.send_if_modified(|current| {
        let changed = *current != lease;
        current.clone_from(&lease);
        changed
    });
    if changed {
        match &lease {
            Some(Lease { fence, holder }) => {
                tracing::info!(lease = fence.lease, token = fence.token, holder, "became the leader");
            }
            None => tracing::info!("is not the leader"),
        }
    }
}
