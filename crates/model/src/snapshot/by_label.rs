//! Which resources carry a label.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdSet;

use crate::kind::Kind;
use crate::resource::Resource;

/// One entry for each label of each resource, in one tree: a tree for each value would cost a node for each of the many
/// values that only one resource has.
#[derive(Clone, Debug, Default)]
pub(super) struct ByLabel(OrdSet<Entry>);

impl ByLabel {
    /// Resources of a kind with a label, by mesh and name.
    pub(super) fn get<'a>(
        &'a self,
        kind: Kind,
        key: &'a str,
        value: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Resource>> {
        let first = Place { kind, key, value, mesh: "", name: "" };
        let range: (Bound<&dyn Placed>, Bound<&dyn Placed>) = (Bound::Included(&first), Bound::Unbounded);
        let entries = self.0.range::<_, dyn Placed + '_>(range);
        let same = move |place: Place<'_>| place.kind == kind && place.key == key && place.value == value;
        entries.take_while(move |entry| same(entry.place())).map(|entry| &entry.resource)
    }

    /// Forgets one resource and learns another of the same key.
    pub(super) fn replace(&mut self, before: Option<&Arc<Resource>>, after: Option<&Arc<Resource>>) {
        for entry in before.into_iter().flat_map(entries) {
            let kept = |after: &Arc<Resource>| {
                let Place { key, value, .. } = entry.place();
                after.meta.labels.get(key) == Some(value)
            };
            if !after.is_some_and(kept) {
                self.0.remove(&entry);
            }
        }
        // Of equal entries the new one stays, so that the old resource is let go.
        for entry in after.into_iter().flat_map(entries) {
            self.0.insert(entry);
        }
    }
}

fn entries(resource: &Arc<Resource>) -> impl Iterator<Item = Entry> {
    let count = u32::try_from(resource.meta.labels.len()).unwrap_or(u32::MAX);
    (0..count).map(|position| Entry { resource: Arc::clone(resource), position })
}

/// The label at a position of a resource.
#[derive(Clone, Debug)]
struct Entry {
    resource: Arc<Resource>,
    position: u32,
}

/// Where an entry stands in the order of the index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place<'a> {
    kind: Kind,
    key: &'a str,
    value: &'a str,
    mesh: &'a str,
    name: &'a str,
}

/// What has a place: entries, and the places that are searched for.
trait Placed {
    fn place(&self) -> Place<'_>;
}

impl Placed for Entry {
    fn place(&self) -> Place<'_> {
        let meta = &self.resource.meta;
        let (key, value) = meta.labels.iter().nth(self.position as usize).unwrap_or_default();
        Place { kind: meta.key.kind, key, value, mesh: &meta.key.mesh, name: &meta.key.name }
    }
}

impl Placed for Place<'_> {
    fn place(&self) -> Place<'_> {
        *self
    }
}

impl<'a> Borrow<dyn Placed + 'a> for Entry {
    fn borrow(&self) -> &(dyn Placed + 'a) {
        self
    }
}

impl PartialEq for dyn Placed + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for dyn Placed + '_ {}

impl PartialOrd for dyn Placed + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Placed + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}
