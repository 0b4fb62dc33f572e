//! What must and must not be, known from what users were told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use kds_proto::kuma::mesh::v1alpha1::ZoneIngress;
use model::{Kind, Resource, labels};

use super::content::{self, WRITE};

/// Who writes a resource: users of the global or of a zone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Author {
    Global,
    Zone(Arc<str>),
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Global => "global",
            Self::Zone(zone) => zone,
        })
    }
}

/// What a resource is to users, by whatever name it is stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    pub author: Author,
    pub kind: Kind,
    pub mesh: Arc<str>,
    pub name: Arc<str>,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{} of {}", self.kind, self.mesh, self.name, self.author)
    }
}

/// A write that was asked for: its number, and the number of what is there after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    number: u64,
    after: Option<u64>,
}

/// One resource in the eyes of its author.
#[derive(Clone, Debug, Default)]
struct Written {
    /// The write that was acknowledged last; none: it is deleted, or was never there.
    now: Option<u64>,
    /// The one that is not answered yet.
    asked: Option<Asked>,
    /// Number of the last deletion that was asked for.
    deleted: u64,
}

/// What one control plane holds.
#[derive(Clone, Debug, Default)]
struct Held {
    now: BTreeMap<Id, u64>,
    /// The newest that it ever held.
    newest: BTreeMap<Id, u64>,
}

/// Watches everything.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    written: BTreeMap<Id, Written>,
    held: BTreeMap<Author, Held>,
    /// Zones that are switched off now.
    disabled: BTreeSet<Author>,
    /// Zones that were ever switched: what is theirs may vanish elsewhere, and come back.
    doubtful: BTreeSet<Author>,
}

impl Oracle {
    /// A control plane that is watched.
    pub fn watch(&mut self, author: Author) {
        self.held.insert(author, Held::default());
    }

    /// What is there in the eyes of its author; none while a write is not answered.
    pub fn settled(&self, id: &Id) -> Option<Option<u64>> {
        match self.written.get(id) {
            None => Some(None),
            Some(written) => written.asked.is_none().then_some(written.now),
        }
    }

    /// Whether nothing of the global in a mesh is being written.
    pub fn is_calm(&self, mesh: &str) -> bool {
        let inside = |id: &Id| *id.mesh == *mesh || (id.kind == Kind::Mesh && *id.name == *mesh);
        !self.written.iter().any(|(id, written)| inside(id) && id.author == Author::Global && written.asked.is_some())
    }

    /// A write is asked for. What is in a mesh goes with it.
    pub fn ask(&mut self, id: &Id, number: u64, puts: bool) {
        let mut all = vec![id.clone()];
        if id.kind == Kind::Mesh && !puts {
            all.extend(self.written.keys().filter(|inside| *inside.mesh == *id.name).cloned());
        }
        for id in all {
            let written = self.written.entry(id).or_default();
            written.asked = Some(Asked { number, after: puts.then_some(number) });
            if !puts {
                written.deleted = number;
            }
        }
    }

    /// The answer to a write came.
    pub fn answer(&mut self, number: u64, made: bool) {
        for written in self.written.values_mut() {
            if let Some(asked) = written.asked.filter(|asked| asked.number == number) {
                written.asked = None;
                if made {
                    written.now = asked.after;
                }
            }
        }
    }

    /// No answer comes any more: what the author's disk holds tells what became of a write.
    pub fn answer_lost(&mut self, number: u64) {
        for (id, written) in &mut self.written {
            if written.asked.is_some_and(|asked| asked.number == number) {
                written.asked = None;
                written.now = self.held.get(&id.author).and_then(|held| held.now.get(id)).copied();
            }
        }
    }

    /// A zone may be switched: what is theirs may vanish elsewhere from now on, and come back.
    pub fn doubt(&mut self, zone: &Author) {
        self.doubtful.insert(zone.clone());
    }

    /// A zone is switched on or off.
    pub fn enable(&mut self, zone: &Author, on: bool) {
        self.doubtful.insert(zone.clone());
        if on {
            self.disabled.remove(zone);
        } else {
            self.disabled.insert(zone.clone());
        }
    }

    /// Looks at everything that a control plane holds; says what changed.
    ///
    /// # Errors
    /// What must not be.
    pub fn look(&mut self, at: &Author, resources: &[Arc<Resource>]) -> Result<Vec<String>, String> {
        if let Some(resource) = resources.iter().find(|resource| !is_of_its_zone(resource)) {
            return Err(format!("{at} holds {}, whose spec names another zone than its label", resource.meta.key));
        }
        let of_anybody = resources.iter().filter_map(|resource| identify(at, resource));
        // What peers made may come and go.
        let now: BTreeMap<Id, u64> = of_anybody.filter(|(id, _)| self.held.contains_key(&id.author)).collect();
        let Some(held) = self.held.get_mut(at) else { return Ok(Vec::new()) };
        let before = std::mem::replace(&mut held.now, now.clone());
        let mut changes = Vec::new();
        for (id, write) in &now {
            if before.get(id) != Some(write) {
                changes.push(format!("holds {id} #{write}"));
            }
        }
        for id in before.keys().filter(|id| !now.contains_key(id)) {
            changes.push(format!("drops {id}"));
        }
        if !changes.is_empty() {
            self.check(at, &before, &now)?;
        }
        Ok(changes)
    }

    fn check(&mut self, at: &Author, before: &BTreeMap<Id, u64>, now: &BTreeMap<Id, u64>) -> Result<(), String> {
        let ids: BTreeSet<&Id> = before.keys().chain(now.keys()).collect();
        for id in ids {
            let (was, is) = (before.get(id).copied(), now.get(id).copied());
            if was == is {
                continue;
            }
            let Some(written) = self.written.get(id) else {
                return Err(format!("{at} holds {id}, which nobody wrote"));
            };
            if id.author == *at {
                let may_be = |write| write == written.now || written.asked.is_some_and(|asked| write == asked.after);
                if !may_be(is) {
                    return Err(format!("{at}: its own {id} became {is:?}; its author wrote {:?}", written.now));
                }
                continue;
            }
            let excused = *at != Author::Global && self.doubtful.contains(&id.author);
            let newest = self.held.get(at).and_then(|held| held.newest.get(id)).copied().unwrap_or_default();
            match is {
                None if !excused && written.deleted < newest => {
                    return Err(format!("{at} drops {id} #{newest}, which nobody deleted"));
                }
                Some(write) if write < newest => {
                    return Err(format!("{at} goes back from #{newest} to #{write} of {id}"));
                }
                Some(write) if was.is_none() && write == newest && !excused => {
                    return Err(format!("{at} holds {id} #{write} again, which was deleted by #{}", written.deleted));
                }
                _ => {}
            }
        }
        if let Some(held) = self.held.get_mut(at) {
            for (id, write) in now {
                let newest = held.newest.entry(id.clone()).or_default();
                *newest = (*newest).max(*write);
            }
        }
        Ok(())
    }

    /// The first difference between what was written and what a control plane holds.
    pub fn difference(&self) -> Option<String> {
        for (at, held) in &self.held {
            let expected = self.expected(at);
            for (id, write) in &expected {
                match held.now.get(id) {
                    Some(held) if held == write => {}
                    Some(held) => return Some(format!("{at} holds {id} #{held} instead of #{write}")),
                    None => return Some(format!("{at} lacks {id} #{write}")),
                }
            }
            if let Some((id, write)) = held.now.iter().find(|(id, _)| !expected.contains_key(id)) {
                return Some(format!("{at} still holds {id} #{write}"));
            }
        }
        None
    }

    fn expected(&self, at: &Author) -> BTreeMap<Id, u64> {
        let reaches = |id: &Id| match (&id.author, at) {
            (author, at) if author == at => true,
            // The name belongs to another there.
            (Author::Global, Author::Zone(_)) if self.is_taken(at, id) => false,
            (Author::Zone(_), _) if id.kind == Kind::Secret => false,
            (Author::Global, Author::Zone(_)) | (Author::Zone(_), Author::Global) => true,
            (author, _) => content::crosses_zones(id.kind) && !self.disabled.contains(author),
        };
        let written = self.written.iter().filter(|(id, _)| reaches(id));
        written.filter_map(|(id, written)| Some((id.clone(), written.now?))).collect()
    }

    /// Whether a zone has made something itself that the global gives too.
    fn is_taken(&self, at: &Author, id: &Id) -> bool {
        let own = Id { author: at.clone(), ..id.clone() };
        id.kind == Kind::Secret && self.written.get(&own).is_some_and(|written| written.now.is_some())
    }

    /// How many resources there are in the eyes of their authors.
    pub fn count(&self) -> usize {
        self.written.values().filter(|written| written.now.is_some()).count()
    }
}

/// Whether a ZoneIngress is where its label says.
fn is_of_its_zone(resource: &Resource) -> bool {
    let (Kind::ZoneIngress, Some(zone)) = (resource.kind(), resource.meta.labels.get(labels::ZONE)) else {
        return true;
    };
    resource.spec.message::<ZoneIngress>().is_ok_and(|ingress| ingress.zone == zone)
}

/// Which resource of whom this is, and which write of it; none of what the simulation did not write.
fn identify(at: &Author, resource: &Resource) -> Option<(Id, u64)> {
    let of = &resource.meta.labels;
    let write = of.get(WRITE)?.parse().ok()?;
    let of_zone = of.get(labels::ZONE).map(|zone| Author::Zone(zone.into()));
    let author = match at {
        Author::Global => of_zone.unwrap_or(Author::Global),
        Author::Zone(_) if of.get(labels::ORIGIN) == Some(labels::ORIGIN_GLOBAL) => of_zone.unwrap_or(Author::Global),
        here @ Author::Zone(_) => here.clone(),
    };
    let key = &resource.meta.key;
    let id = Id { author, kind: key.kind, mesh: Arc::clone(&key.mesh), name: resource.meta.display_name().into() };
    Some((id, write))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> Author {
        Author::Zone(name.into())
    }

    fn id(author: Author) -> Id {
        Id { author, kind: Kind::MeshService, mesh: "default".into(), name: "web".into() }
    }

    /// The resource as others hold it.
    fn synced(id: &Id, write: u64) -> Vec<Arc<Resource>> {
        let mut resource = content::resource(id, write);
        resource.meta.labels = resource.meta.labels.with(labels::ORIGIN, labels::ORIGIN_GLOBAL);
        vec![Arc::new(resource)]
    }

    fn oracle() -> (Oracle, Id) {
        let mut oracle = Oracle::default();
        for author in [Author::Global, zone("a"), zone("b")] {
            oracle.watch(author);
        }
        let id = id(zone("a"));
        oracle.ask(&id, 1, true);
        oracle.answer(1, true);
        (oracle, id)
    }

    #[test]
    fn what_nobody_deleted_may_not_vanish() {
        let (mut oracle, id) = oracle();
        oracle.look(&zone("b"), &synced(&id, 1)).unwrap();
        let gone = oracle.look(&zone("b"), &[]).unwrap_err();
        assert!(gone.contains("nobody deleted"), "{gone}");
    }

    #[test]
    fn what_was_deleted_may_not_come_back() {
        let (mut oracle, id) = oracle();
        oracle.look(&zone("b"), &synced(&id, 1)).unwrap();
        oracle.ask(&id, 2, false);
        oracle.answer(2, true);
        oracle.look(&zone("b"), &[]).unwrap();
        let back = oracle.look(&zone("b"), &synced(&id, 1)).unwrap_err();
        assert!(back.contains("was deleted by #2"), "{back}");
    }

    #[test]
    fn a_version_may_not_go_back() {
        let (mut oracle, id) = oracle();
        oracle.ask(&id, 2, true);
        oracle.look(&zone("b"), &synced(&id, 2)).unwrap();
        let back = oracle.look(&zone("b"), &synced(&id, 1)).unwrap_err();
        assert!(back.contains("goes back from #2 to #1"), "{back}");
    }

    #[test]
    fn an_acknowledged_write_may_not_be_lost_nor_another_appear() {
        let (mut oracle, id) = oracle();
        let own = |write| vec![Arc::new(content::resource(&id, write))];
        oracle.look(&zone("a"), &own(1)).unwrap();
        assert!(oracle.look(&zone("a"), &[]).unwrap_err().contains("its own"));
        let (mut oracle, _) = self::oracle();
        assert!(oracle.look(&zone("a"), &own(7)).unwrap_err().contains("its own"));
    }

    #[test]
    fn a_spec_may_not_name_another_zone() {
        let (mut oracle, _) = oracle();
        let of = Id { author: zone("a"), kind: Kind::ZoneIngress, mesh: "".into(), name: "i".into() };
        let mut ingress = content::resource(&of, 1);
        ingress.meta.labels = ingress.meta.labels.with(labels::ZONE, "peer");
        let lie = oracle.look(&Author::Global, &[Arc::new(ingress)]).unwrap_err();
        assert!(lie.contains("names another zone"), "{lie}");
    }

    #[test]
    fn what_peers_make_is_theirs() {
        let (mut oracle, _) = oracle();
        let of_peer = content::resource(&id(zone("peer")), 9);
        assert!(oracle.look(&Author::Global, &[Arc::new(of_peer)]).unwrap().is_empty());
        let of_b = content::resource(&id(zone("b")), 9);
        assert!(oracle.look(&Author::Global, &[Arc::new(of_b)]).unwrap_err().contains("nobody wrote"));
    }

    /// A Secret of the zone's own keeps out the global's.
    #[test]
    fn a_name_that_is_taken_is_no_difference() {
        let mut oracle = Oracle::default();
        let (own, given) = (content::taken(zone("a")), content::taken(Author::Global));
        [Author::Global, zone("a")].into_iter().for_each(|author| oracle.watch(author));
        for (id, number) in [(&own, 0), (&given, 1)] {
            oracle.ask(id, number, true);
            oracle.answer(number, true);
        }
        oracle.look(&zone("a"), &[Arc::new(content::resource(&own, 0))]).unwrap();
        oracle.look(&Author::Global, &[Arc::new(content::resource(&given, 1))]).unwrap();
        assert_eq!(oracle.difference(), None);
        assert!(oracle.look(&zone("a"), &synced(&given, 1)).unwrap_err().contains("its own"));
    }

    #[test]
    fn a_difference_is_named() {
        let (mut oracle, id) = oracle();
        let own = vec![Arc::new(content::resource(&id, 1))];
        oracle.look(&zone("a"), &own).unwrap();
        assert!(oracle.difference().unwrap().starts_with("global lacks MeshService"));
        oracle.look(&Author::Global, &own).unwrap();
        assert!(oracle.difference().unwrap().starts_with("b lacks MeshService"));
        oracle.look(&zone("b"), &synced(&id, 1)).unwrap();
        assert_eq!(oracle.difference(), None);
        oracle.enable(&zone("a"), false);
        assert!(oracle.difference().unwrap().starts_with("b still holds"));
    }
}
