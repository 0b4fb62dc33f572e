//! The databases behind one face. A new one is a variant here and a file beside this.

use model::{Key, Kind};

use crate::error::StorageError;
use crate::lease::{Fence, Lease};
use crate::record::{ChangeRow, Record};
use crate::stream::Stream;

pub(crate) mod postgres;
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

    /// Whether a lease has not passed on; keeps it from passing on until the end of the transaction.
    pub(crate) async fn holds(&mut self, fence: &Fence) -> Result<bool, StorageError> {
        each!(self, database => database.holds(fence).await)
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

    /// Inserts or replaces rows.
    pub(crate) async fn put(
        &mut self,
        stream: Stream,
        revision: u64,
        records: Vec<Record>,
    ) -> Result<(), StorageError> {
        each!(self, database => database.put(stream, revision, records).await)
    }

    /// Forgets that resources which exist again were removed.
    pub(crate) async fn revive(&mut self, stream: Stream, keys: &[Key]) -> Result<(), StorageError> {
        if keys.is_empty() {
            return Ok(());
        }
        each!(self, database => database.revive(stream, keys).await)
    }

    /// Deletes rows and remembers that they are gone.
    pub(crate) async fn remove(&mut self, stream: Stream, revision: u64, keys: &[Key]) -> Result<(), StorageError> {
        if keys.is_empty() {
            return Ok(());
        }
        each!(self, database => database.remove(stream, revision, keys).await)
    }

    /// Sets the revision, and tells other processes to look when it is committed.
    pub(crate) async fn raise(&mut self, stream: Stream, revision: u64) -> Result<(), StorageError> {
        each!(self, database => database.raise(stream, revision).await)
    }

    /// Forgets removals up to a revision.
    pub(crate) async fn forget(&mut self, stream: Stream, horizon: u64) -> Result<(), StorageError> {
        each!(self, database => database.forget(stream, horizon).await)
    }

    /// Keys of secrets that are not encrypted with this key.
    pub(crate) async fn sealed_otherwise(&mut self, kind: Kind, with: &str) -> Result<Vec<Key>, StorageError> {
        each!(self, database => database.sealed_otherwise(kind, with).await)
    }

    /// Replaces the stored form of a spec and nothing else: what it says stays the same.
    pub(crate) async fn reseal(&mut self, record: &Record) -> Result<(), StorageError> {
        each!(self, database => database.reseal(record).await)
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

/// Keys as the JSON list of lists that SQLite takes apart.
pub(crate) fn keys_json(keys: &[Key]) -> String {
    let rows: Vec<[&str; 3]> = keys.iter().map(|key| [key.kind.name(), &*key.mesh, &*key.name]).collect();
    serde_json::Value::from(rows.into_iter().map(|row| row.to_vec().into()).collect::<Vec<serde_json::Value>>())
        .to_string()
}
