//! The databases behind one face. A new one is a variant here and a file beside this.

use model::{Key, Kind};

use crate::error::StorageError;
use crate::lease::{Fence, Lease};
use crate::record::{ChangeRow, Record};
use crate::stream::Stream;

pub(crate) mod postgres;
mod presence;
#[cfg(feature = "test-support")]
pub mod simulated;
pub(crate) mod sqlite;

/// Which resources to list.
#[derive(Clone, Debug)]
pub struct Selection {
    pub(crate) kind: Kind,
    pub(crate) mesh: Option<String>,
    pub(crate) labels: Vec<(String, String)>,
}

impl Selection {
    /// All resources of a kind.
    pub fn of(kind: Kind) -> Self {
        Self { kind, mesh: None, labels: Vec::new() }
    }

    /// Those in a mesh.
    #[must_use]
    pub fn in_mesh(mut self, mesh: &str) -> Self {
        self.mesh = Some(mesh.to_owned());
        self
    }

    /// Those with a label of this value; of several, all must be there.
    #[must_use]
    pub fn labelled(mut self, key: &str, value: &str) -> Self {
        self.labels.push((key.to_owned(), value.to_owned()));
        self
    }
}

/// What changed in a stream since a revision.
#[derive(Default)]
pub(crate) struct Changes {
    pub revision: u64,
    /// Whether removals were forgotten since: only reading everything tells what is gone.
    pub incomplete: bool,
    pub puts: Vec<Record>,
    pub removals: Vec<Key>,
}

impl Changes {
    /// Puts one row of the change query where it belongs.
    pub(crate) fn add(&mut self, row: ChangeRow, after: u64) {
        match row {
            ChangeRow::Put(record) => self.puts.push(record),
            ChangeRow::Removed(key) => self.removals.push(key),
            ChangeRow::Head { revision, horizon } => {
                self.revision = revision.unsigned_abs();
                self.incomplete = after > 0 && after < horizon.unsigned_abs();
            }
            ChangeRow::Unknown => {}
        }
    }
}

/// What a batch finds when it begins. The locks keep it from changing until the end of the transaction.
#[derive(Default)]
pub(crate) struct Opening {
    /// Revisions of the streams, in the order asked for.
    pub heads: Vec<(Stream, u64)>,
    /// Whether the lease has not passed on; what is stored was not read then.
    pub deposed: bool,
    /// The stored ones of the keys asked for.
    pub records: Vec<Record>,
}

/// What a batch writes of one stream.
pub(crate) struct Writes {
    pub stream: Stream,
    /// The stream's revision with it.
    pub revision: u64,
    /// Rows to insert or replace.
    pub records: Vec<Record>,
    /// Those among them that may have been removed before.
    pub fresh: Vec<Key>,
    /// Rows to delete and to remember as gone.
    pub removals: Vec<Key>,
    /// Removals up to this revision are forgotten.
    pub horizon: Option<u64>,
}

/// Pools of connections.
#[derive(Clone, Debug)]
pub(crate) enum Backend {
    Sqlite(sqlite::Sqlite),
    Postgres(postgres::Postgres),
    #[cfg(feature = "test-support")]
    Simulated(simulated::Connection),
}

/// A write in progress, to be ended by a commit or a rollback.
pub(crate) enum Transaction {
    Sqlite(sqlite::Transaction),
    Postgres(postgres::Transaction),
    #[cfg(feature = "test-support")]
    Simulated(simulated::Transaction),
}

macro_rules! each {
    ($self:expr, $database:ident => $call:expr) => {
        match $self {
            Self::Sqlite($database) => $call,
            Self::Postgres($database) => $call,
            #[cfg(feature = "test-support")]
            Self::Simulated($database) => $call,
        }
    };
}

/// What [`Backend::open`] reads, one question after the other. A transaction that is dropped is undone.
macro_rules! read_step_by_step {
    ($transaction:ident, $streams:ident, $fence:ident, $keys:ident) => {{
        let mut opening = Opening { heads: $transaction.lock($streams).await?, ..Opening::default() };
        if let Some(fence) = $fence {
            opening.deposed = !$transaction.holds(fence).await?;
        }
        for stream in Stream::ALL {
            let keys = of_stream(stream, $keys);
            if !opening.deposed && !keys.is_empty() {
                opening.records.extend($transaction.fetch(stream, &keys).await?);
            }
        }
        opening
    }};
}

/// Writes step by step, and commits.
macro_rules! write_and_commit {
    ($transaction:ident, $writes:ident) => {{
        let mut transaction = $transaction;
        for Writes { stream, revision, records, fresh, removals, horizon } in $writes {
            transaction.put(stream, revision, records).await?;
            if !fresh.is_empty() {
                transaction.revive(stream, &fresh).await?;
            }
            if !removals.is_empty() {
                transaction.remove(stream, revision, &removals).await?;
            }
            transaction.raise(stream, revision).await?;
            if let Some(horizon) = horizon {
                transaction.forget(stream, horizon).await?;
            }
        }
        transaction.commit().await
    }};
}

impl Backend {
    /// Begins a write.
    pub(crate) async fn begin(&self, streams: &[Stream]) -> Result<Transaction, StorageError> {
        Ok(match self {
            Self::Sqlite(database) => Transaction::Sqlite(database.begin(streams).await?),
            Self::Postgres(database) => Transaction::Postgres(database.begin().await?),
            #[cfg(feature = "test-support")]
            Self::Simulated(database) => Transaction::Simulated(database.begin().await?),
        })
    }

    /// Begins a batch: locks streams against other writers, looks whether the writer still leads, and reads keys.
    pub(crate) async fn open(
        &self,
        streams: &[Stream],
        fence: Option<&Fence>,
        keys: &[Key],
    ) -> Result<(Transaction, Opening), StorageError> {
        match self {
            Self::Sqlite(database) => {
                let (transaction, opening) = database.open_batch(streams, fence, keys).await?;
                Ok((Transaction::Sqlite(transaction), opening))
            }
            Self::Postgres(database) => {
                let mut transaction = database.begin().await?;
                let opening = read_step_by_step!(transaction, streams, fence, keys);
                Ok((Transaction::Postgres(transaction), opening))
            }
            #[cfg(feature = "test-support")]
            Self::Simulated(database) => {
                let mut transaction = database.begin().await?;
                let opening = read_step_by_step!(transaction, streams, fence, keys);
                Ok((Transaction::Simulated(transaction), opening))
            }
        }
    }

    /// Everything above a revision, read in one statement and so at one point in time.
    pub(crate) async fn changes(&self, stream: Stream, after: u64) -> Result<Changes, StorageError> {
        each!(self, database => database.changes(stream, after).await)
    }

    /// The resources of a selection, sorted by mesh and name.
    pub(crate) async fn list(&self, selection: &Selection) -> Result<Vec<Record>, StorageError> {
        each!(self, database => database.list(selection).await)
    }

    /// One resource.
    pub(crate) async fn get(&self, key: &Key) -> Result<Option<Record>, StorageError> {
        each!(self, database => database.get(key).await)
    }

    /// Takes or renews a lease; `None` when another holds it.
    pub(crate) async fn acquire(
        &self,
        name: &str,
        holder: &str,
        ttl_micros: i64,
    ) -> Result<Option<Lease>, StorageError> {
        each!(self, database => database.acquire(name, holder, ttl_micros).await)
    }

    /// Gives a lease back, if it is still held.
    pub(crate) async fn release(&self, fence: &Fence) -> Result<(), StorageError> {
        each!(self, database => database.release(fence).await)
    }

    /// Closes all connections.
    pub(crate) async fn close(&self) {
        each!(self, database => database.close().await);
    }
}

impl Transaction {
    /// Locks streams against other writers; their revisions, in the order given.
    pub(crate) async fn lock(&mut self, streams: &[Stream]) -> Result<Vec<(Stream, u64)>, StorageError> {
        each!(self, database => database.lock(streams).await)
    }

    /// The stored ones of these resources.
    pub(crate) async fn fetch(&mut self, stream: Stream, keys: &[Key]) -> Result<Vec<Record>, StorageError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        each!(self, database => database.fetch(stream, keys).await)
    }

    /// Owners and what they own.
    pub(crate) async fn owned_by(&mut self, stream: Stream, owners: &[Key]) -> Result<Vec<(Key, Key)>, StorageError> {
        each!(self, database => database.owned_by(stream, owners).await)
    }

    /// Everything in a mesh.
    pub(crate) async fn in_mesh(&mut self, stream: Stream, mesh: &str) -> Result<Vec<Key>, StorageError> {
        each!(self, database => database.in_mesh(stream, mesh).await)
    }

    /// Keys of secrets that are not encrypted with this key.
    pub(crate) async fn sealed_otherwise(&mut self, kind: Kind, with: &str) -> Result<Vec<Key>, StorageError> {
        each!(self, database => database.sealed_otherwise(kind, with).await)
    }

    /// Replaces the stored form of a spec and nothing else: what it says stays the same.
    pub(crate) async fn reseal(&mut self, record: &Record) -> Result<(), StorageError> {
        each!(self, database => database.reseal(record).await)
    }

    /// Writes, tells other processes to look, and commits.
    pub(crate) async fn commit_with(self, writes: Vec<Writes>) -> Result<(), StorageError> {
        match self {
            Self::Sqlite(transaction) => transaction.commit_with(writes).await,
            Self::Postgres(transaction) => write_and_commit!(transaction, writes),
            #[cfg(feature = "test-support")]
            Self::Simulated(transaction) => write_and_commit!(transaction, writes),
        }
    }

    /// Makes it so, durably for configuration.
    pub(crate) async fn commit(self) -> Result<(), StorageError> {
        each!(self, database => database.commit().await)
    }

    /// Undoes everything.
    pub(crate) async fn rollback(self) {
        each!(self, database => database.rollback().await);
    }
}

/// A revision as the databases hold it.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Those of the keys that a stream holds.
pub(crate) fn of_stream(stream: Stream, keys: &[Key]) -> Vec<Key> {
    keys.iter().filter(|key| Stream::of(key.kind) == stream).cloned().collect()
}

/// Keys as the JSON list of lists that SQLite takes apart.
pub(crate) fn keys_json(keys: &[Key]) -> String {
    let rows: Vec<[&str; 3]> = keys.iter().map(|key| [key.kind.name(), &*key.mesh, &*key.name]).collect();
    serde_json::Value::from(rows.into_iter().map(|row| row.to_vec().into()).collect::<Vec<serde_json::Value>>())
        .to_string()
}
