//! What a batch comes to, worked out without a database: the rows to write, or the reason to refuse.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use model::{Key, Kind, Labels, Resource};

use crate::batch::{ApplyError, Batch, Write};
use crate::record::Stored;
use crate::stream::{insight_of, subject_of};

/// Longest name that is stored, in bytes; an index of PostgreSQL holds no more than 2,700.
const MAX_NAME: usize = 512;

/// What the database holds of everything that a batch can touch.
#[derive(Default)]
pub(crate) struct Before {
    /// Stored resources among the keys of the batch, its owners and requirements, and what deletes take along.
    pub stored: HashMap<Key, Stored>,
    /// What is stored and goes when its key goes.
    pub children: HashMap<Key, Vec<Key>>,
}

/// What is to be written.
#[derive(Default)]
pub(crate) struct Plan {
    pub puts: Vec<Put>,
    pub removals: Vec<Key>,
    /// The resources to answer with.
    pub resources: Vec<Arc<Resource>>,
}

/// One row to write.
pub(crate) struct Put {
    pub stored: Stored,
    /// Whether the database may remember a removal of it.
    pub fresh: bool,
}

/// The state as it is after each write of the batch.
struct State<'b> {
    before: &'b Before,
    /// What the batch has changed so far; `None` is gone.
    changed: BTreeMap<Key, Option<Stored>>,
    /// What the batch wrote, by what takes it along.
    children: HashMap<Key, Vec<Key>>,
    now: DateTime<Utc>,
}

/// Applies the writes of a batch one after the other.
///
/// # Errors
/// The first write that cannot be made.
pub(crate) fn plan(batch: &Batch, before: &Before, now: DateTime<Utc>) -> Result<Plan, ApplyError> {
    let mut state = State { before, changed: BTreeMap::new(), children: HashMap::new(), now };
    if let Some(missing) = batch.required.iter().find(|key| !before.stored.contains_key(key)) {
        return Err(ApplyError::RequirementMissing(missing.clone()));
    }
    let mut resources = Vec::new();
    for write in &batch.writes {
        resources.extend(state.apply(write)?);
    }
    let mut plan = Plan { resources, ..Plan::default() };
    for (key, after) in state.changed {
        let fresh = !before.stored.contains_key(&key);
        match after {
            Some(stored) => plan.puts.push(Put { stored, fresh }),
            None if !fresh => plan.removals.push(key),
            None => {}
        }
    }
    Ok(plan)
}

impl State<'_> {
    fn get(&self, key: &Key) -> Option<&Stored> {
        match self.changed.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.before.stored.get(key),
        }
    }

    fn apply(&mut self, write: &Write) -> Result<Option<Arc<Resource>>, ApplyError> {
        match write {
            Write::Create { resource, owner } => {
                if self.get(&resource.meta.key).is_some() {
                    return Err(ApplyError::AlreadyExists(resource.meta.key.clone()));
                }
                self.put(resource, owner.as_ref()).map(Some)
            }
            Write::Update { resource } => {
                self.expect(&resource.meta.key, Some(resource.meta.version))?;
                self.put(resource, None).map(Some)
            }
            Write::Put { resource, owner } => {
                let equal = self.get(&resource.meta.key).filter(|stored| {
                    stored.resource.same_content(resource) && (owner.is_none() || stored.owner == *owner)
                });
                match equal {
                    Some(stored) => Ok(Some(Arc::clone(&stored.resource))),
                    None => self.put(resource, owner.as_ref()).map(Some),
                }
            }
            Write::Delete { key, version } => {
                self.expect(key, *version)?;
                self.remove(key);
                Ok(None)
            }
            Write::Remove { key } => {
                self.remove(key);
                Ok(None)
            }
        }
    }

    fn expect(&self, key: &Key, version: Option<u64>) -> Result<(), ApplyError> {
        let actual = self.get(key).ok_or_else(|| ApplyError::NotFound(key.clone()))?.resource.meta.version;
        match version {
            Some(expected) if expected != actual => Err(ApplyError::Conflict { key: key.clone(), expected, actual }),
            _ => Ok(()),
        }
    }

    fn put(&mut self, resource: &Resource, owner: Option<&Key>) -> Result<Arc<Resource>, ApplyError> {
        let key = &resource.meta.key;
        if let Some(owner) = owner.filter(|owner| self.get(owner).is_none()) {
            return Err(ApplyError::OwnerMissing { key: key.clone(), owner: owner.clone() });
        }
        let mut resource = resource.clone();
        resource.meta.modified = self.now;
        let mut kept_owner = None;
        if let Some(stored) = self.get(key) {
            resource.meta.created = stored.resource.meta.created;
            resource.meta.version = stored.resource.meta.version + 1;
            kept_owner.clone_from(&stored.owner);
        } else {
            resource.meta.created = self.now;
            resource.meta.version = 1;
        }
        let resource = Arc::new(resource);
        let stored = Stored { resource: Arc::clone(&resource), owner: owner.cloned().or(kept_owner) };
        for parent in parents(key, stored.owner.as_ref()) {
            self.children.entry(parent).or_default().push(key.clone());
        }
        self.changed.insert(key.clone(), Some(stored));
        Ok(resource)
    }

    /// Removes a resource and, level by level, all that goes with it.
    fn remove(&mut self, key: &Key) {
        let mut doomed = vec![key.clone()];
        while let Some(key) = doomed.pop() {
            if self.get(&key).is_none() {
                continue;
            }
            self.changed.insert(key.clone(), None);
            for children in [self.before.children.get(&key), self.children.get(&key)] {
                doomed.extend(children.into_iter().flatten().cloned());
            }
        }
    }
}

/// What takes a resource along when it goes: its owner, its mesh, and what it tells about.
fn parents(key: &Key, owner: Option<&Key>) -> impl Iterator<Item = Key> {
    let mesh = (!key.mesh.is_empty()).then(|| Key::global(Kind::Mesh, &key.mesh));
    let subject = subject_of(key.kind).map(|kind| Key::new(kind, &key.mesh, &key.name));
    owner.cloned().into_iter().chain(mesh).chain(subject)
}

/// Key of the resource that tells how another fares.
pub(crate) fn insight_key(key: &Key) -> Option<Key> {
    insight_of(key.kind).map(|kind| Key::new(kind, &key.mesh, &key.name))
}

/// Refuses what some database cannot hold, so that all of them refuse the same.
///
/// # Errors
/// The first write that names or labels something so.
pub(crate) fn check(batch: &Batch) -> Result<(), ApplyError> {
    for write in &batch.writes {
        let labels = match write {
            Write::Create { resource, .. } | Write::Update { resource } | Write::Put { resource, .. } => {
                Some(&resource.meta.labels)
            }
            Write::Delete { .. } | Write::Remove { .. } => None,
        };
        let nul =
            labels.into_iter().flat_map(Labels::iter).find(|(key, value)| [key, value].iter().any(|s| has_nul(s)));
        let fault = fault_of(write.key()).or_else(|| {
            nul.map(|(key, _)| format!("label {:?} contains a NUL character", key.replace('\0', "\u{fffd}")))
        });
        if let Some(reason) = fault {
            return Err(ApplyError::Invalid { key: shortened(write.key()), reason });
        }
    }
    let owners = batch.writes.iter().filter_map(Write::owner);
    match batch.required.iter().chain(owners).find(|key| fault_of(key).is_some()) {
        Some(key) => Err(ApplyError::RequirementMissing(shortened(key))),
        None => Ok(()),
    }
}

/// Why no database holds a key.
pub(crate) fn fault_of(key: &Key) -> Option<String> {
    let fault = |(what, text): (&str, &str)| {
        if text.len() > MAX_NAME {
            Some(format!("its {what} has {} bytes, {MAX_NAME} are allowed", text.len()))
        } else if has_nul(text) {
            Some(format!("its {what} contains a NUL character"))
        } else {
            None
        }
    };
    let empty = || key.name.is_empty().then(|| "it has no name".to_owned());
    fault(("name", &key.name)).or_else(|| fault(("mesh", &key.mesh))).or_else(empty)
}

fn has_nul(text: &str) -> bool {
    text.contains('\0')
}

fn shortened(key: &Key) -> Key {
    let short = |text: &str| text.chars().take(64).collect::<String>();
    Key::new(key.kind, &short(&key.mesh), &short(&key.name))
}

#[cfg(test)]
mod tests {
    use model::Payload;

    use super::*;

    fn resource(key: &Key, content: &str) -> Resource {
        Resource::new(key.clone(), Labels::default(), Payload::from_bytes(content.as_bytes().to_vec()))
    }

    fn mesh() -> Key {
        Key::global(Kind::Mesh, "m")
    }

    fn dataplane() -> Key {
        Key::new(Kind::Dataplane, "m", "dp")
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_000, 0).unwrap()
    }

    fn stored(key: &Key, content: &str, version: u64) -> (Key, Stored) {
        let mut resource = resource(key, content);
        resource.meta.version = version;
        (key.clone(), Stored { resource: Arc::new(resource), owner: None })
    }

    #[test]
    fn a_put_of_equal_content_writes_nothing() {
        let before = Before { stored: HashMap::from([stored(&mesh(), "a", 7)]), ..Before::default() };
        let same = plan(&Batch::new().put(resource(&mesh(), "a")), &before, now()).unwrap();
        assert!(same.puts.is_empty() && same.removals.is_empty());
        assert_eq!(same.resources[0].meta.version, 7);
        let other = plan(&Batch::new().put(resource(&mesh(), "b")), &before, now()).unwrap();
        assert_eq!((other.puts.len(), other.resources[0].meta.version), (1, 8));
    }

    #[test]
    fn writes_of_one_batch_see_each_other() {
        let batch = Batch::new()
            .create(resource(&mesh(), "a"))
            .create(resource(&dataplane(), "b"))
            .delete(mesh())
            .create(resource(&mesh(), "c"));
        let plan = plan(&batch, &Before::default(), now()).unwrap();
        assert_eq!(plan.puts.len(), 1, "the dataplane went with the first mesh");
        assert_eq!(plan.puts[0].stored.resource.spec.bytes().as_ref(), b"c");
        assert!(plan.puts[0].fresh && plan.removals.is_empty());
    }

    #[test]
    fn a_stored_child_goes_with_its_owner_and_takes_its_own_along() {
        let insight = insight_key(&dataplane()).unwrap();
        let before = Before {
            stored: [&mesh(), &dataplane(), &insight].map(|key| stored(key, "", 1)).into(),
            children: HashMap::from([(mesh(), vec![dataplane()]), (dataplane(), vec![insight.clone()])]),
        };
        let plan = plan(&Batch::new().delete(mesh()), &before, now()).unwrap();
        assert_eq!(plan.removals, [dataplane(), insight, mesh()]);
    }

    #[test]
    fn what_no_database_holds_is_refused_by_a_short_name() {
        let refuse = |mesh: &str, name: &str, labels: Labels| {
            let resource = Resource::new(Key::new(Kind::Dataplane, mesh, name), labels, Payload::default());
            check(&Batch::new().put(resource)).unwrap_err().to_string()
        };
        let long = refuse("m", &"n".repeat(10_240), Labels::default());
        assert!(long.ends_with("its name has 10240 bytes, 512 are allowed") && long.len() < 200, "{long}");
        assert!(refuse("m\0", "n", Labels::default()).contains("mesh contains a NUL"));
        assert!(refuse("m", "n", [("a", "\0")].into_iter().collect()).contains(r#"label "a" contains a NUL"#));
    }
}
