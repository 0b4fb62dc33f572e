//! One look at the store: what changed since the last, and what shall be otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use model::{Change, Key, Resource, Snapshot};
use store::Write;

/// The two snapshots of a store at one time.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub configuration: Arc<Snapshot>,
    pub insights: Arc<Snapshot>,
}

impl Seen {
    /// Before the first look.
    pub fn nothing() -> Self {
        let nothing = Arc::new(Snapshot::empty());
        Self { configuration: Arc::clone(&nothing), insights: nothing }
    }
}

/// What conclusions look at, and where they put what they conclude.
#[derive(Debug)]
pub(super) struct Round {
    then: Seen,
    stored: Seen,
    /// What is stored, and on top of it what is to be written.
    now: Snapshot,
    changed: BTreeSet<Key>,
    touched: BTreeSet<Key>,
    owners: BTreeMap<Key, Key>,
    time: DateTime<Utc>,
    due: Option<Duration>,
}

impl Round {
    /// From the last look to this one, at a wall time.
    pub fn new(then: Seen, stored: Seen, time: DateTime<Utc>) -> Self {
        let mut changed: BTreeSet<Key> = stored.configuration.diff(&then.configuration).into_iter().collect();
        changed.extend(stored.insights.diff(&then.insights));
        let now = (*stored.configuration).clone();
        Self { then, stored, now, changed, touched: BTreeSet::new(), owners: BTreeMap::new(), time, due: None }
    }

    /// Keys of everything, insights included, that changed since the last look or was put or removed in this round.
    pub fn changed(&self) -> impl Iterator<Item = &Key> {
        self.changed.iter()
    }

    /// Everything but insights, as it is to be.
    pub fn now(&self) -> &Snapshot {
        &self.now
    }

    /// The insights.
    pub fn insights(&self) -> &Snapshot {
        &self.stored.insights
    }

    /// What was stored at the last look.
    pub fn before(&self, key: &Key) -> Option<&Arc<Resource>> {
        self.then.configuration.get(key)
    }

    /// Wall time of this look.
    pub fn time(&self) -> DateTime<Utc> {
        self.time
    }

    /// The resource shall be so; its version is that of what was looked at.
    pub fn put(&mut self, resource: Resource) {
        let key = resource.meta.key.clone();
        self.note(key, Change::Put(Arc::new(resource)));
    }

    /// As [`Round::put`], of something that goes with its owner.
    pub fn put_owned(&mut self, resource: Resource, owner: Key) {
        self.owners.insert(resource.meta.key.clone(), owner);
        self.put(resource);
    }

    /// The resource shall not be.
    pub fn remove(&mut self, key: &Key) {
        self.note(key.clone(), Change::Remove(key.clone()));
    }

    /// Asks for another look after a while, though nothing changes.
    pub fn look_again_after(&mut self, length: Duration) {
        self.due = Some(self.due.map_or(length, |due| due.min(length)));
    }

    fn note(&mut self, key: Key, change: Change) {
        self.now = self.now.apply(self.now.revision(), [change]);
        self.changed.insert(key.clone());
        self.touched.insert(key);
    }

    /// When to look again at the latest.
    pub fn due(&self) -> Option<Duration> {
        self.due
    }

    /// What makes it so.
    pub fn writes(self) -> Vec<Write> {
        let Self { stored, now, touched, mut owners, .. } = self;
        let write = |key: Key| match (stored.configuration.get(&key), now.get(&key)) {
            (None, Some(new)) => Some(Write::Create { resource: Resource::clone(new), owner: owners.remove(&key) }),
            (Some(old), Some(new)) if !old.same_content(new) => {
                let mut resource = Resource::clone(new);
                resource.meta.version = old.meta.version;
                Some(Write::Update { resource })
            }
            (Some(old), None) => Some(Write::Delete { key, version: Some(old.meta.version) }),
            _ => None,
        };
        touched.into_iter().filter_map(write).collect()
    }
}
