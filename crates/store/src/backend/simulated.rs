//! A database that a simulation owns: in memory, deterministic, and able to fail on request.
//!
//! A [`Disk`] outlives the stores that use it, as a real one outlives processes. Of a store that is dropped in the middle
//! of a batch nothing stays, of one that was told of a commit everything. Several stores may use one disk, each by a
//! [`Mount`] that can be slow, out of reach, or deaf to the signals of others.
//!
//! Nothing here reads a clock, a random number or the order of a hash table: equal calls give equal answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{Key, Kind, Labels, Resource};
use runtime::Clock;
use tokio::sync::{OwnedMutexGuard, watch};

use super::{Changes, Selection, signed};
use crate::error::StorageError;
use crate::lease::{Fence, Lease};
use crate::record::{ChangeRow, Record};
use crate::seal::Sealer;
use crate::stream::Stream;

/// What is stored. Clones are one disk.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    contents: Mutex<Contents>,
    /// Held by whoever writes.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Counts commits.
    commits: watch::Sender<u64>,
    /// Tells when leases end, the same for all stores.
    clock: Clock,
}

/// What readers see, and what a loss of power leaves.
#[derive(Debug, Default)]
struct Contents {
    written: Tables,
    synced: Tables,
}

#[derive(Clone, Debug, Default)]
struct Tables {
    schema: i64,
    streams: [Arc<Table>; Stream::ALL.len()],
    leases: BTreeMap<String, Holding>,
}

#[derive(Clone, Debug, Default)]
struct Table {
    revision: u64,
    horizon: u64,
    /// With the revision that wrote them.
    rows: BTreeMap<Key, (u64, Arc<Record>)>,
    removals: BTreeMap<Key, u64>,
}

/// `expires` is in microseconds since 1970 by the disk's clock.
#[derive(Clone, Debug)]
struct Holding {
    holder: String,
    token: i64,
    expires: i64,
}

impl Tables {
    fn of(&self, stream: Stream) -> &Table {
        &self.streams[stream as usize]
    }

    fn change(&mut self, stream: Stream) -> &mut Table {
        Arc::make_mut(&mut self.streams[stream as usize])
    }
}

impl Disk {
    /// An empty disk.
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(Shared {
            contents: Mutex::default(),
            turn: Arc::default(),
            commits: watch::Sender::new(0),
            clock,
        }))
    }

    /// A way for one store to use the disk, without faults.
    pub fn mount(&self) -> Mount {
        Mount { disk: self.clone(), faults: Arc::default() }
    }

    /// Takes the power away: insights that no later write of the configuration synced are gone, as with the real
    /// databases. The stores must be dropped with it.
    pub fn lose_power(&self) {
        let mut contents = self.contents();
        contents.written = contents.synced.clone();
    }

    /// The spec of a resource as it is stored, and the id of the key that it is encrypted with.
    pub fn stored(&self, key: &Key) -> Option<(Vec<u8>, Option<String>)> {
        let contents = self.contents();
        let (_, record) = contents.written.of(Stream::of(key.kind)).rows.get(key)?;
        Some((record.spec.clone(), record.sealed_with.clone()))
    }

    /// Keys of all resources, sorted.
    pub fn keys(&self) -> Vec<Key> {
        let contents = self.contents();
        let mut keys: Vec<Key> =
            Stream::ALL.iter().flat_map(|stream| contents.written.of(*stream).rows.keys().cloned()).collect();
        keys.sort();
        keys
    }

    /// All resources that are not encrypted, sorted by key.
    pub fn resources(&self) -> Vec<Arc<Resource>> {
        let contents = self.contents();
        let rows = Stream::ALL.iter().flat_map(|stream| contents.written.of(*stream).rows.values());
        let open = rows.filter_map(|(_, record)| Record::clone(record).unseal(&Sealer(None)).ok());
        let mut resources: Vec<_> = open.map(|stored| stored.resource).collect();
        resources.sort_by(|a, b| a.meta.key.cmp(&b.meta.key));
        resources
    }

    /// How many batches were committed: unchanged as long as [`Disk::resources`] is.
    pub fn commits(&self) -> u64 {
        *self.0.commits.borrow()
    }

    /// Removes a resource, forgets every removal and sets the revision of the configuration: what a store finds that was
    /// away for thousands of revisions.
    pub fn leap(&self, without: &Key, revision: u64) {
        let mut contents = self.contents();
        let table = contents.written.change(Stream::Configuration);
        table.rows.remove(without);
        table.removals.clear();
        table.revision = revision;
        table.horizon = revision.saturating_sub(1);
        contents.synced = contents.written.clone();
    }

    /// Pretends that a program with another schema was here.
    pub fn set_schema(&self, version: i64) {
        let mut contents = self.contents();
        contents.written.schema = version;
        contents.synced = contents.written.clone();
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.0.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> i64 {
        self.0.clock.now().timestamp_micros()
    }
}

/// One store's way to a disk. Clones have their faults in common.
#[derive(Clone, Debug)]
pub struct Mount {
    disk: Disk,
    faults: Arc<Mutex<Faults>>,
}

/// What is wrong with a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// How long each operation takes; a commit takes it before and after it is made.
    pub latency: Duration,
    /// How the store hears of commits.
    pub signals: Signals,
    /// Whether operations fail.
    pub out_of_reach: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self { latency: Duration::ZERO, signals: Signals::Prompt, out_of_reach: false }
    }
}

/// What becomes of the signals that say *look again*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signals {
    /// They come with the commit.
    Prompt,
    /// They come later.
    Late(Duration),
    /// They never come.
    Lost,
}

impl Mount {
    /// Sets the faults from now on.
    pub fn set(&self, faults: Faults) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    /// The faults now.
    pub fn faults(&self) -> Faults {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn connect(&self) -> Connection {
        let heard = self.disk.0.commits.subscribe();
        Connection { mount: self.clone(), closed: Arc::default(), heard: Arc::new(tokio::sync::Mutex::new(heard)) }
    }
}

/// A store's connection.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    mount: Mount,
    closed: Arc<AtomicBool>,
    heard: Arc<tokio::sync::Mutex<watch::Receiver<u64>>>,
}

/// A write in progress: a copy that a commit puts in place.
pub(crate) struct Transaction {
    connection: Connection,
    tables: Tables,
    /// Whether a loss of power after the commit leaves it.
    synced: bool,
    raised: bool,
    _turn: OwnedMutexGuard<()>,
}

impl Connection {
    fn disk(&self) -> &Disk {
        &self.mount.disk
    }

    /// Takes the time of an operation, and fails if it must.
    async fn reach(&self, during: &'static str) -> Result<(), StorageError> {
        let latency = self.mount.faults().latency;
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        if self.mount.faults().out_of_reach || self.closed.load(Ordering::Relaxed) {
            return Err(StorageError::out_of_reach(during));
        }
        Ok(())
    }

    /// Waits for a signal that something was committed.
    pub(crate) async fn hint(&self) {
        let mut heard = self.heard.lock().await;
        loop {
            if heard.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            match self.mount.faults().signals {
                Signals::Prompt => return,
                Signals::Late(by) => {
                    tokio::time::sleep(by).await;
                    heard.mark_unchanged();
                    return;
                }
                Signals::Lost => {}
            }
        }
    }

    pub(crate) async fn schema(&self) -> Result<i64, StorageError> {
        self.reach("reading the schema version").await?;
        Ok(self.disk().contents().written.schema)
    }

    pub(crate) fn set_schema(&self, version: i64) {
        self.disk().set_schema(version);
    }

    pub(crate) async fn begin(&self) -> Result<Transaction, StorageError> {
        let turn = Arc::clone(&self.disk().0.turn).lock_owned().await;
        self.reach("beginning a transaction").await?;
        let tables = self.disk().contents().written.clone();
        Ok(Transaction { connection: self.clone(), tables, synced: false, raised: false, _turn: turn })
    }

    pub(crate) async fn changes(&self, stream: Stream, after: u64) -> Result<Changes, StorageError> {
        self.reach("reading changes").await?;
        let contents = self.disk().contents();
        let table = contents.written.of(stream);
        let mut changes = Changes::default();
        for (revision, record) in table.rows.values() {
            if *revision > after {
                changes.add(ChangeRow::Put(Record::clone(record)), after);
            }
        }
        for (key, _) in table.removals.iter().filter(|(_, revision)| **revision > after) {
            changes.add(ChangeRow::Removed(key.clone()), after);
        }
        changes.add(ChangeRow::Head { revision: signed(table.revision), horizon: signed(table.horizon) }, after);
        Ok(changes)
    }

    pub(crate) async fn list(&self, selection: &Selection) -> Result<Vec<Record>, StorageError> {
        self.reach("listing resources").await?;
        let contents = self.disk().contents();
        let rows = contents.written.of(Stream::of(selection.kind)).rows.values();
        let records = rows.map(|(_, record)| record).filter(|record| selects(selection, record));
        Ok(records.map(|record| Record::clone(record)).collect())
    }

    pub(crate) async fn get(&self, key: &Key) -> Result<Option<Record>, StorageError> {
        self.reach("reading a resource").await?;
        let contents = self.disk().contents();
        Ok(contents.written.of(Stream::of(key.kind)).rows.get(key).map(|(_, record)| Record::clone(record)))
    }

    pub(crate) async fn acquire(&self, name: &str, holder: &str, ttl: i64) -> Result<Option<Lease>, StorageError> {
        let _turn = self.disk().0.turn.lock().await;
        self.reach("taking a lease").await?;
        let now = self.disk().now();
        let mut contents = self.disk().contents();
        let token = match contents.written.leases.get(name) {
            Some(held) if held.holder != holder && held.expires > now => return Ok(None),
            Some(held) => held.token + i64::from(held.holder != holder || held.expires <= now),
            None => 1,
        };
        let held = Holding { holder: holder.to_owned(), token, expires: now.saturating_add(ttl) };
        contents.written.leases.insert(name.to_owned(), held);
        contents.synced = contents.written.clone();
        Ok(Some(Lease::new(name, holder, token)))
    }

    pub(crate) async fn release(&self, fence: &Fence) -> Result<(), StorageError> {
        let _turn = self.disk().0.turn.lock().await;
        self.reach("giving a lease back").await?;
        let mut contents = self.disk().contents();
        if let Some(held) =
            contents.written.leases.get_mut(&fence.lease).filter(|held| held.token == signed(fence.token))
        {
            held.expires = 0;
            contents.synced = contents.written.clone();
        }
        Ok(())
    }

    pub(crate) async fn close(&self) {
        let _turn = self.disk().0.turn.lock().await;
        self.closed.store(true, Ordering::Relaxed);
    }
}

fn selects(selection: &Selection, record: &Record) -> bool {
    let labels: Labels = serde_json::from_str(&record.labels).unwrap_or_default();
    record.key.kind == selection.kind
        && selection.mesh.as_ref().is_none_or(|mesh| **mesh == *record.key.mesh)
        && selection.labels.iter().all(|(key, value)| labels.get(key) == Some(value.as_str()))
}

impl Transaction {
    pub(crate) async fn lock(&mut self, streams: &[Stream]) -> Result<Vec<(Stream, u64)>, StorageError> {
        self.synced |= streams != [Stream::Insights];
        Ok(streams.iter().map(|stream| (*stream, self.tables.of(*stream).revision)).collect())
    }

    pub(crate) async fn holds(&mut self, fence: &Fence) -> Result<bool, StorageError> {
        Ok(self.tables.leases.get(&fence.lease).is_some_and(|held| held.token == signed(fence.token)))
    }

    pub(crate) async fn fetch(&mut self, stream: Stream, keys: &[Key]) -> Result<Vec<Record>, StorageError> {
        self.connection.reach("reading what a batch changes").await?;
        let rows = &self.tables.of(stream).rows;
        Ok(keys.iter().filter_map(|key| rows.get(key)).map(|(_, record)| Record::clone(record)).collect())
    }

    pub(crate) async fn owned_by(&mut self, stream: Stream, owners: &[Key]) -> Result<Vec<(Key, Key)>, StorageError> {
        let owners: BTreeSet<&Key> = owners.iter().collect();
        let rows = self.tables.of(stream).rows.values();
        let owned = rows.filter_map(|(_, record)| Some((record.owner.clone()?, record.key.clone())));
        Ok(owned.filter(|(owner, _)| owners.contains(owner)).collect())
    }

    pub(crate) async fn in_mesh(&mut self, stream: Stream, mesh: &str) -> Result<Vec<Key>, StorageError> {
        Ok(self.tables.of(stream).rows.keys().filter(|key| &*key.mesh == mesh).cloned().collect())
    }

    pub(crate) async fn put(
        &mut self,
        stream: Stream,
        revision: u64,
        records: Vec<Record>,
    ) -> Result<(), StorageError> {
        self.connection.reach("writing resources").await?;
        let rows = &mut self.tables.change(stream).rows;
        rows.extend(records.into_iter().map(|record| (record.key.clone(), (revision, Arc::new(record)))));
        Ok(())
    }

    pub(crate) async fn revive(&mut self, stream: Stream, keys: &[Key]) -> Result<(), StorageError> {
        let removals = &mut self.tables.change(stream).removals;
        for key in keys {
            removals.remove(key);
        }
        Ok(())
    }

    pub(crate) async fn remove(&mut self, stream: Stream, revision: u64, keys: &[Key]) -> Result<(), StorageError> {
        let table = self.tables.change(stream);
        for key in keys {
            if table.rows.remove(key).is_some() {
                table.removals.insert(key.clone(), revision);
            }
        }
        Ok(())
    }

    pub(crate) async fn raise(&mut self, stream: Stream, revision: u64) -> Result<(), StorageError> {
        self.tables.change(stream).revision = revision;
        self.raised = true;
        Ok(())
    }

    pub(crate) async fn forget(&mut self, stream: Stream, horizon: u64) -> Result<(), StorageError> {
        let table = self.tables.change(stream);
        table.removals.retain(|_, revision| *revision > horizon);
        table.horizon = horizon;
        Ok(())
    }

    pub(crate) async fn sealed_otherwise(&mut self, kind: Kind, with: &str) -> Result<Vec<Key>, StorageError> {
        let rows = self.tables.of(Stream::of(kind)).rows.values().map(|(_, record)| record);
        let others = rows.filter(|record| record.key.kind == kind && record.sealed_with.as_deref() != Some(with));
        Ok(others.map(|record| record.key.clone()).collect())
    }

    pub(crate) async fn reseal(&mut self, record: &Record) -> Result<(), StorageError> {
        let rows = &mut self.tables.change(Stream::of(record.key.kind)).rows;
        if let Some((_, stored)) = rows.get_mut(&record.key) {
            let stored = Arc::make_mut(stored);
            stored.spec.clone_from(&record.spec);
            stored.sealed_with.clone_from(&record.sealed_with);
        }
        Ok(())
    }

    pub(crate) async fn commit(self) -> Result<(), StorageError> {
        const WHAT: &str = "committing";
        self.connection.reach(WHAT).await?;
        let Self { connection, tables, synced, raised, _turn } = self;
        {
            let mut contents = connection.disk().contents();
            // Leases change without a transaction.
            let leases = std::mem::take(&mut contents.written.leases);
            contents.written = Tables { leases, ..tables };
            if synced {
                contents.synced = contents.written.clone();
            }
        }
        if raised {
            connection.disk().0.commits.send_modify(|count| *count += 1);
        }
        // Made; whether the writer hears of it is another matter.
        connection.reach(WHAT).await
    }

    pub(crate) async fn rollback(self) {}
}
