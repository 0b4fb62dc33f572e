//! Everything at one revision: an immutable value that readers share and keep as long as they like.
//!
//! The next revision shares with this one all that did not change, so that it costs the change and not the whole. The
//! trees beneath are `imbl`'s B+trees; resources themselves are shared by `Arc`, the indexes hold pointers. Differences
//! come from a log of our own: `imbl` 6.1's `diff` overlooks a change of the first entry of a leaf.

mod by_label;
mod by_service;
mod history;

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use crate::kind::Kind;
use crate::labels;
use crate::resource::{Key, Resource};

use by_label::ByLabel;
use by_service::ByService;
use history::History;

/// One step from a revision to the next.
#[derive(Clone, Debug)]
pub enum Change {
    /// The resource is there, whether it was before or not.
    Put(Arc<Resource>),
    /// There is no such resource, whether there was one or not.
    Remove(Key),
}

/// All resources at one revision. A clone costs a few reference counts.
#[derive(Clone, Debug)]
pub struct Snapshot {
    revision: u64,
    resources: OrdSet<ByKey>,
    by_label: ByLabel,
    by_service: ByService,
    kinds: Arc<[KindState]>,
    counts: OrdMap<(Kind, Arc<str>), usize>,
    history: History,
}

/// What a snapshot keeps of a kind as a whole.
#[derive(Clone, Copy, Debug, Default)]
struct KindState {
    changed: u64,
    count: usize,
}

impl Snapshot {
    /// Nothing, at revision 0.
    pub fn empty() -> Self {
        Self {
            revision: 0,
            resources: OrdSet::new(),
            by_label: ByLabel::default(),
            by_service: ByService::default(),
            kinds: vec![KindState::default(); Kind::ALL.len()].into(),
            counts: OrdMap::new(),
            history: History::default(),
        }
    }

    /// The revision of the store that this shows.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// How many resources there are.
    pub fn len(&self) -> usize {
        self.resources.len()
    }

    /// Whether there is no resource.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    /// How many resources of a kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        self.kinds[kind as usize].count
    }

    /// How many resources of a kind there are in a mesh.
    pub fn count_in(&self, kind: Kind, mesh: &str) -> usize {
        self.counts.get(&(kind, Arc::from(mesh))).copied().unwrap_or_default()
    }

    /// Revision of the last change of any resource of a kind; 0 when there was none.
    pub fn changed_at(&self, kind: Kind) -> u64 {
        self.kinds[kind as usize].changed
    }

    /// One resource.
    pub fn get(&self, key: &Key) -> Option<&Arc<Resource>> {
        self.resources.get(key).map(|ByKey(resource)| resource)
    }

    /// The resources of a kind, by mesh and name.
    pub fn list(&self, kind: Kind) -> impl Iterator<Item = &Arc<Resource>> {
        self.from(Key::new(kind, "", "")).take_while(move |resource| resource.kind() == kind)
    }

    /// The resources of a kind in a mesh, by name; all of a kind without mesh.
    pub fn list_in(&self, kind: Kind, mesh: &str) -> impl Iterator<Item = &Arc<Resource>> {
        let first = Key::new(kind, mesh, "");
        let mesh = Arc::clone(&first.mesh);
        self.from(first).take_while(move |resource| resource.kind() == kind && resource.meta.key.mesh == mesh)
    }

    /// Everything, by kind, mesh and name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.iter().map(|ByKey(resource)| resource)
    }

    fn from(&self, first: Key) -> impl Iterator<Item = &Arc<Resource>> {
        let range = (Bound::Included(first), Bound::Unbounded);
        self.resources.range::<_, Key>(range).map(|ByKey(resource)| resource)
    }

    /// The resources of a kind with a label of this value, by mesh and name.
    pub fn labelled<'a>(&'a self, kind: Kind, key: &'a str, value: &'a str) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.by_label.get(kind, key, value)
    }

    /// The resources of a kind in a mesh that users know by this name, whatever they are stored as.
    pub fn named<'a>(&'a self, kind: Kind, mesh: &'a str, name: &'a str) -> impl Iterator<Item = &'a Arc<Resource>> {
        let by_key = self.get(&Key::new(kind, mesh, name)).filter(|resource| resource.meta.display_name() == name);
        let by_label = self.labelled(kind, labels::DISPLAY_NAME, name).filter(move |resource| {
            let key = &resource.meta.key;
            // One that is stored as it is shown was found by its key.
            (key.mesh.is_empty() || *key.mesh == *mesh) && *key.name != *name
        });
        by_key.into_iter().chain(by_label)
    }

    /// The Dataplanes of a mesh with an inbound or a gateway of this service (`kuma.io/service`), by name; what does not
    /// decode has no service.
    pub fn service<'a>(&'a self, mesh: &'a str, service: &'a str) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.by_service.get(Kind::Dataplane, mesh, service)
    }

    /// The ZoneIngresses that offer a service of a mesh (`availableServices`), by name.
    pub fn ingresses_of<'a>(&'a self, mesh: &'a str, service: &'a str) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.by_service.get(Kind::ZoneIngress, mesh, service)
    }

    /// The next revision. Of several changes of one key the last counts.
    #[must_use]
    pub fn apply(&self, revision: u64, changes: impl IntoIterator<Item = Change>) -> Self {
        let mut next = Self { revision, ..self.clone() };
        let mut touched = Vec::new();
        for change in changes {
            touched.push(match &change {
                Change::Put(resource) => resource.meta.key.clone(),
                Change::Remove(key) => key.clone(),
            });
            match change {
                Change::Put(resource) => next.put(resource),
                Change::Remove(key) => next.remove(&key),
            }
        }
        next.history.push(touched);
        next
    }

    fn put(&mut self, resource: Arc<Resource>) {
        let before = self.get(&resource.meta.key).cloned();
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, &resource)) {
            return;
        }
        self.by_label.replace(before.as_ref(), Some(&resource));
        self.by_service.replace(before.as_ref(), Some(&resource));
        self.touch(resource.kind(), |count| if before.is_some() { count } else { count + 1 });
        if before.is_none() {
            *self.counts.entry((resource.kind(), Arc::clone(&resource.meta.key.mesh))).or_default() += 1;
        }
        self.resources.insert(ByKey(resource));
    }

    fn remove(&mut self, key: &Key) {
        let Some(ByKey(before)) = self.resources.remove(key) else { return };
        self.by_label.replace(Some(&before), None);
        self.by_service.replace(Some(&before), None);
        self.touch(key.kind, |count| count - 1);
        let of_mesh = (key.kind, Arc::clone(&key.mesh));
        match self.count_in(key.kind, &key.mesh) {
            0 | 1 => self.counts.remove(&of_mesh),
            count => self.counts.insert(of_mesh, count - 1),
        };
    }

    fn touch(&mut self, kind: Kind, count: impl FnOnce(usize) -> usize) {
        let state = &mut Arc::make_mut(&mut self.kinds)[kind as usize];
        *state = KindState { changed: self.revision, count: count(state.count) };
    }

    /// Kinds of which a resource came, changed or went since an earlier revision of the same store.
    pub fn changed_kinds(&self, earlier: &Self) -> impl Iterator<Item = Kind> {
        Kind::ALL.iter().copied().filter(|kind| self.changed_at(*kind) > earlier.revision)
    }

    /// Keys of what came, changed or went between an earlier snapshot and this, in order. Costs the changes between them
    /// when this was derived from the earlier one not long ago; else both are compared as wholes.
    pub fn diff(&self, earlier: &Self) -> Vec<Key> {
        let same = |key: &Key| match (self.get(key), earlier.get(key)) {
            (Some(now), Some(then)) => Arc::ptr_eq(now, then),
            (now, then) => now.is_none() && then.is_none(),
        };
        let mut keys = self.history.since(&earlier.history).unwrap_or_else(|| {
            let all = earlier.iter().chain(self.iter());
            all.map(|resource| &resource.meta.key).filter(|key| !same(key)).cloned().collect()
        });
        keys.sort_unstable();
        keys.dedup();
        keys.retain(|key| !same(key));
        keys
    }
}

impl Default for Snapshot {
    fn default() -> Self {
        Self::empty()
    }
}

/// A resource in the order of its key, and found by it.
#[derive(Clone, Debug)]
struct ByKey(Arc<Resource>);

impl Borrow<Key> for ByKey {
    fn borrow(&self) -> &Key {
        &self.0.meta.key
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.meta.key == other.0.meta.key
    }
}

impl Eq for ByKey {}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.meta.key.cmp(&other.0.meta.key)
    }
}

#[cfg(test)]
mod tests;
