//! The store itself.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use chrono::SubsecRound;
use model::{Key, Kind, Resource};
use runtime::Clock;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::apply::{Committed, Raised, apply};
use crate::backend::{Backend, Selection, Transaction};
use crate::batch::{Applied, ApplyError, Batch};
use crate::error::{OpenError, StorageError};
use crate::feed::Feed;
use crate::metrics::Metrics;
use crate::record::Record;
use crate::seal::Sealer;
use crate::settings::Settings;
use crate::stream::Stream;
use crate::{migrate, plan};
use model::Snapshot;

/// All resources of a control plane. Cheap to clone; clones are one store.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
    /// Ends when the last clone is dropped.
    _tasks: Arc<JoinSet<()>>,
}

#[derive(Debug)]
struct Shared {
    backend: Backend,
    sealer: Sealer,
    clock: Clock,
    deadline: Duration,
    configuration: Feed,
    insights: Feed,
    metrics: Metrics,
}

impl Store {
    /// Opens a database and reads everything in it. SQLite is created and migrated; PostgreSQL is migrated only if the
    /// settings say so.
    ///
    /// # Errors
    /// It cannot be reached, has a newer schema or an older one that may not be migrated, or holds a secret that the
    /// configured keys do not decrypt.
    pub async fn open(settings: Settings) -> Result<Self, OpenError> {
        let backend = migrate::connect(&settings).await?;
        migrate::up_or_check(&backend, settings.migrate_on_open).await?;
        let sealer = Sealer(settings.encryption);
        match &sealer.0 {
            Some(ring) => seal_anew(&backend, &sealer, ring.active()).await?,
            None => tracing::warn!("secrets are stored unencrypted: no encryption key is configured"),
        }
        let shared = Arc::new(Shared {
            configuration: Feed::open(Stream::Configuration, &backend, &sealer).await?,
            insights: Feed::open(Stream::Insights, &backend, &sealer).await?,
            backend,
            sealer,
            clock: settings.clock,
            deadline: settings.deadline,
            metrics: Metrics::default(),
        });
        for stream in Stream::ALL {
            shared.metrics.published(stream, &shared.feed(stream).latest());
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(follow(Arc::clone(&shared), settings.safety_interval));
        Ok(Self { shared, _tasks: Arc::new(tasks) })
    }

    /// Snapshots of everything but insights.
    pub fn configuration(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.shared.configuration.subscribe()
    }

    /// Snapshots of the insights.
    pub fn insights(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.shared.insights.subscribe()
    }

    /// Snapshots of the stream that a kind belongs to.
    pub fn snapshots_of(&self, kind: Kind) -> watch::Receiver<Arc<Snapshot>> {
        self.shared.feed(Stream::of(kind)).subscribe()
    }

    /// Makes all changes of a batch or none, and returns once the local snapshots hold them. A caller that stops
    /// waiting does not stop the batch.
    ///
    /// # Errors
    /// The batch was refused, or the database failed.
    pub async fn apply(&self, batch: Batch) -> Result<Applied, ApplyError> {
        const WHAT: &str = "applying a batch";
        let shared = Arc::clone(&self.shared);
        let task = tokio::spawn(async move { shared.apply(batch).await });
        task.await.unwrap_or_else(|_| Err(StorageError::stopped(WHAT).into()))
    }

    /// One resource, straight from the database.
    ///
    /// # Errors
    /// The database fails, or the secret cannot be decrypted.
    pub async fn get(&self, key: &Key) -> Result<Option<Arc<Resource>>, StorageError> {
        if plan::fault_of(key).is_some() {
            return Ok(None);
        }
        let record = self.within("reading a resource", self.backend().get(key)).await?;
        record.map(|record| self.unseal(record)).transpose()
    }

    /// Resources of a kind sorted by mesh and name, straight from the database.
    ///
    /// # Errors
    /// The database fails, or a secret cannot be decrypted.
    pub async fn list(&self, selection: &Selection) -> Result<Vec<Arc<Resource>>, StorageError> {
        let records = self.within("listing resources", self.backend().list(selection)).await?;
        records.into_iter().map(|record| self.unseal(record)).collect()
    }

    /// Returns once the snapshots hold all that was committed before the call, by whatever process. They follow by
    /// themselves; this is for who must not take a lost signal for the truth.
    ///
    /// # Errors
    /// The database fails; the snapshots stay as they are.
    pub async fn catch_up(&self) -> Result<(), StorageError> {
        for stream in Stream::ALL {
            self.shared.catch_up(stream, None).await?;
        }
        Ok(())
    }

    /// The store's metrics, to be registered.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Closes all connections, after the writes in progress. What comes later fails.
    pub async fn close(&self) {
        self.shared.backend.close().await;
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.shared.backend
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Bounds an operation on a server in time.
    pub(crate) async fn within<T>(
        &self,
        during: &'static str,
        operation: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        self.shared.within(during, operation).await
    }

    fn unseal(&self, record: Record) -> Result<Arc<Resource>, StorageError> {
        let stored = record.unseal(&self.shared.sealer);
        Ok(stored.map_err(|error| StorageError::unsealable("reading secrets", error))?.resource)
    }
}

impl Shared {
    fn feed(&self, stream: Stream) -> &Feed {
        match stream {
            Stream::Configuration => &self.configuration,
            Stream::Insights => &self.insights,
        }
    }

    async fn within<T, E: From<StorageError>>(
        &self,
        during: &'static str,
        operation: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        if let Backend::Sqlite(_) = self.backend {
            // Bounded by its busy timeout, and a transaction that is cut off in the middle would have to be undone.
            return operation.await;
        }
        let limit = self.deadline;
        tokio::time::timeout(limit, operation)
            .await
            .unwrap_or_else(|_| Err(StorageError::timeout(during, limit).into()))
    }

    async fn apply(&self, batch: Batch) -> Result<Applied, ApplyError> {
        let started = self.clock.elapsed();
        if batch.is_empty() {
            let revision = self.configuration.latest().revision();
            return Ok(Applied {
                revision,
                resources: Vec::new(),
                removed: Vec::new(),
                published_after: Duration::ZERO,
            });
        }
        // As exact as the databases are.
        let now = self.clock.now().trunc_subsecs(6);
        let run = apply(&self.backend, &self.sealer, &batch, now);
        let answer = self.within("applying a batch", run).await;
        let answer = match answer {
            Ok(committed) => Ok(self.publish(committed).await),
            Err(error) => Err(error),
        };
        self.metrics.applied(result(&answer), self.clock.elapsed().saturating_sub(started));
        answer
    }

    /// Waits until the snapshots hold what was committed. If the database fails now, the feed publishes it later.
    async fn publish(&self, Committed { mut applied, raised, written }: Committed) -> Applied {
        let committed = self.clock.elapsed();
        self.metrics.wrote(written, applied.removed.len());
        let anything = !raised.is_empty();
        for Raised { stream, revision, changes } in raised {
            if self.feed(stream).advance(revision, changes, &self.metrics).await {
                continue;
            }
            if let Err(error) = self.catch_up(stream, Some(revision)).await {
                tracing::warn!(%stream, revision, %error, "committed; the snapshot follows when the database answers");
            }
        }
        if anything {
            applied.published_after = self.clock.elapsed().saturating_sub(committed);
            self.metrics.publish_took(applied.published_after);
        }
        applied
    }

    async fn catch_up(&self, stream: Stream, wanted: Option<u64>) -> Result<(), StorageError> {
        let read = self.feed(stream).catch_up(wanted, &self.backend, &self.sealer, &self.metrics);
        self.within("reading changes", read).await
    }
}

/// Value of the metric's label `result`.
fn result(answer: &Result<Applied, ApplyError>) -> &'static str {
    match answer {
        Ok(_) => "ok",
        Err(ApplyError::Storage(_)) => "failed",
        Err(ApplyError::Conflict { .. }) => "conflict",
        Err(_) => "refused",
    }
}

/// Looks for changes whenever there is a hint, and at least once per `interval`.
async fn follow(shared: Arc<Shared>, interval: Duration) {
    let mut hints = Hints::default();
    let mut failing = None;
    loop {
        let mut outcome = hints.wait(&shared.backend, interval).await;
        for stream in Stream::ALL {
            outcome = outcome.and(shared.catch_up(stream, None).await);
        }
        match outcome {
            Ok(()) => failing = None,
            Err(error) => {
                let waits = failing.get_or_insert_with(|| {
                    shared.metrics.feed_failed();
                    tracing::warn!(%error, "cannot follow changes; trying again");
                    waits()
                });
                tokio::time::sleep(waits.next().unwrap_or(interval)).await;
            }
        }
    }
}

/// Waits between tries of a feed that fails.
fn waits() -> impl Iterator<Item = Duration> {
    let (shortest, longest) = (Duration::from_millis(100), Duration::from_secs(2));
    ExponentialBuilder::default()
        .with_min_delay(shortest)
        .with_max_delay(longest)
        .with_jitter()
        .without_max_times()
        .build()
}

/// Hints of other processes that something changed. SQLite has none: its only writer is this process.
#[derive(Default)]
struct Hints(Option<sqlx::postgres::PgListener>);

impl Hints {
    /// Returns after a hint, after `interval`, and after a connection was made or lost: what was missed is unknown.
    async fn wait(&mut self, backend: &Backend, interval: Duration) -> Result<(), StorageError> {
        let database = match backend {
            Backend::Postgres(database) => database,
            #[cfg(feature = "test-support")]
            Backend::Simulated(database) => {
                let _ = tokio::time::timeout(interval, database.hint()).await;
                return Ok(());
            }
            Backend::Sqlite(_) => {
                tokio::time::sleep(interval).await;
                return Ok(());
            }
        };
        let Some(listener) = &mut self.0 else {
            self.0 = Some(database.listen().await?);
            return Ok(());
        };
        match tokio::time::timeout(interval, listener.try_recv()).await {
            Ok(Ok(Some(_))) => while listener.next_buffered().is_some() {},
            Ok(Ok(None)) => {
                tracing::warn!("lost the connection that hears of changes");
                self.0 = None;
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "lost the connection that hears of changes");
                self.0 = None;
            }
            Err(_) => {}
        }
        Ok(())
    }
}

/// Encrypts every secret that is plain or sealed with an older key.
async fn seal_anew(backend: &Backend, sealer: &Sealer, active: &str) -> Result<(), StorageError> {
    let mut transaction = backend.begin(&[Stream::Configuration]).await?;
    let count = match seal_all(&mut transaction, sealer, active).await {
        Ok(count) if count > 0 => {
            transaction.commit().await?;
            count
        }
        outcome => {
            transaction.rollback().await;
            return outcome.map(|_| ());
        }
    };
    tracing::info!(secrets = count, key_id = active, "encrypted secrets with the active key");
    Ok(())
}

async fn seal_all(transaction: &mut Transaction, sealer: &Sealer, active: &str) -> Result<usize, StorageError> {
    const WHAT: &str = "encrypting secrets";
    let mut count = 0;
    transaction.lock(&[Stream::Configuration]).await?;
    for kind in Kind::ALL.iter().copied().filter(|kind| Sealer::is_secret(*kind)) {
        let keys = transaction.sealed_otherwise(kind, active).await?;
        for record in transaction.fetch(Stream::of(kind), &keys).await? {
            let stored = record.unseal(sealer).map_err(|error| StorageError::unsealable(WHAT, error))?;
            let sealed = Record::seal(&stored, sealer).map_err(|_| StorageError::stopped(WHAT))?;
            transaction.reseal(&sealed).await?;
            count += 1;
        }
    }
    Ok(count)
}
