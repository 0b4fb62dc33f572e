use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kds_proto::kuma::mesh::v1alpha1::{Dataplane, DataplaneInsight, ExternalService};

use super::{MeshTally, Proxy};
use crate::kind::{Kind, Scope};
use crate::labels::Labels;
use crate::resource::{Key, Payload, Resource};
use crate::snapshot::Snapshot;

/// Keeps the insights of all meshes true, one pair of snapshots after the other.
///
/// A step costs what changed since the last one. A step that is lost costs nothing: the next one sees its changes too.
#[derive(Debug)]
pub struct Bookkeeper {
    configuration: Arc<Snapshot>,
    insights: Arc<Snapshot>,
    meshes: BTreeMap<Arc<str>, MeshTally>,
}

/// What has to be written for the insights to be true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Corrections {
    /// Insights that are missing or say something else.
    pub put: Vec<Resource>,
    /// Insights of meshes that are gone.
    pub remove: Vec<Key>,
}

impl Bookkeeper {
    /// One that has seen nothing yet.
    pub fn new() -> Self {
        let nothing = Arc::new(Snapshot::empty());
        Self { configuration: Arc::clone(&nothing), insights: nothing, meshes: BTreeMap::new() }
    }

    /// Takes in what changed and tells what to write.
    pub fn follow(&mut self, configuration: &Arc<Snapshot>, insights: &Arc<Snapshot>) -> Corrections {
        let mut touched = BTreeSet::new();
        let mut proxies = BTreeSet::new();
        for key in configuration.diff(&self.configuration) {
            match key.kind {
                Kind::Mesh => {
                    touched.insert(Arc::clone(&key.name));
                }
                kind if kind.info().scope == Scope::Mesh => {
                    if kind == Kind::Dataplane {
                        proxies.insert((Arc::clone(&key.mesh), Arc::clone(&key.name)));
                    }
                    touched.insert(Arc::clone(&key.mesh));
                    self.count(&key, configuration);
                }
                _ => {}
            }
        }
        for key in insights.diff(&self.insights) {
            match key.kind {
                Kind::DataplaneInsight => {
                    touched.insert(Arc::clone(&key.mesh));
                    proxies.insert((key.mesh, key.name));
                }
                // Somebody else wrote or removed what we keep.
                Kind::MeshInsight => drop(touched.insert(key.name)),
                Kind::ServiceInsight => drop(touched.insert(key.mesh)),
                _ => {}
            }
        }
        for (mesh, name) in proxies {
            let tally = self.meshes.entry(Arc::clone(&mesh)).or_default();
            if let Some(before) = proxy(&self.configuration, &self.insights, &mesh, &name) {
                tally.remove(&before);
            }
            if let Some(now) = proxy(configuration, insights, &mesh, &name) {
                tally.add(&now);
            }
        }
        self.configuration = Arc::clone(configuration);
        self.insights = Arc::clone(insights);
        self.corrections(touched)
    }

    /// Counts a resource that came or went, and the content of an external service.
    fn count(&mut self, key: &Key, configuration: &Snapshot) {
        let tally = self.meshes.entry(Arc::clone(&key.mesh)).or_default();
        let external = |resource: &Arc<Resource>| resource.spec.message::<ExternalService>().ok();
        if let Some(before) = self.configuration.get(key) {
            tally.remove_resource(key.kind);
            if let Some(service) = (key.kind == Kind::ExternalService).then(|| external(before)).flatten() {
                tally.remove_external(&service);
            }
        }
        if let Some(now) = configuration.get(key) {
            tally.add_resource(key.kind);
            if let Some(service) = (key.kind == Kind::ExternalService).then(|| external(now)).flatten() {
                tally.add_external(&service);
            }
        }
    }

    fn corrections(&mut self, touched: BTreeSet<Arc<str>>) -> Corrections {
        let mut corrections = Corrections::default();
        for mesh in touched {
            if self.configuration.get(&Key::global(Kind::Mesh, &mesh)).is_some() {
                let tally = self.meshes.entry(Arc::clone(&mesh)).or_default();
                let wanted = insights_of(&mesh, tally);
                let untrue = |insight: &Resource| {
                    self.insights.get(&insight.meta.key).is_none_or(|stored| !stored.same_content(insight))
                };
                corrections.put.extend(wanted.into_iter().filter(untrue));
            } else {
                self.meshes.retain(|name, tally| *name != mesh || *tally != MeshTally::default());
                let stored = keys_of(&mesh).into_iter().filter(|key| self.insights.get(key).is_some());
                corrections.remove.extend(stored);
            }
        }
        corrections
    }
}

impl Default for Bookkeeper {
    fn default() -> Self {
        Self::new()
    }
}

/// Keys of the two insights of a mesh.
fn keys_of(mesh: &str) -> [Key; 2] {
    let services = format!("all-services-{mesh}");
    [Key::global(Kind::MeshInsight, mesh), Key::new(Kind::ServiceInsight, mesh, &services)]
}

fn insights_of(mesh: &str, tally: &MeshTally) -> [Resource; 2] {
    let [of_mesh, of_services] = keys_of(mesh);
    [
        Resource::new(of_mesh, Labels::default(), Payload::from_message(&tally.mesh_insight())),
        Resource::new(of_services, Labels::default(), Payload::from_message(&tally.service_insight())),
    ]
}

/// A proxy as two snapshots show it; one whose content does not decode is not counted.
fn proxy(configuration: &Snapshot, insights: &Snapshot, mesh: &str, name: &str) -> Option<Proxy> {
    let dataplane = configuration.get(&Key::new(Kind::Dataplane, mesh, name))?.spec.message::<Dataplane>().ok()?;
    let insight = insights.get(&Key::new(Kind::DataplaneInsight, mesh, name));
    let insight = insight.and_then(|insight| insight.spec.message::<DataplaneInsight>().ok());
    Some(Proxy { dataplane, insight })
}

#[cfg(test)]
mod tests {
    use kds_proto::kuma::mesh::v1alpha1::{MeshInsight, ServiceInsight};
    use serde_json::{Value, json};

    use super::*;
    use crate::snapshot::Change;

    fn put(key: Key, json: Value) -> Change {
        let spec = (key.kind.info().codec.from_json)(json).unwrap();
        Change::Put(Arc::new(Resource::new(key, Labels::default(), Payload::from_bytes(spec))))
    }

    fn mesh() -> Change {
        put(Key::global(Kind::Mesh, "default"), json!({}))
    }

    fn dataplane(name: &str) -> Change {
        let json = json!({"networking": {"inbound": [{"port": 80, "tags": {"kuma.io/service": "backend"}}]}});
        put(Key::new(Kind::Dataplane, "default", name), json)
    }

    fn connected(name: &str) -> Change {
        let json = json!({"subscriptions": [{"connectTime": "2026-01-01T00:00:00Z"}]});
        put(Key::new(Kind::DataplaneInsight, "default", name), json)
    }

    /// Follows until nothing is left to correct, writing the corrections as a store would.
    fn settle(keeper: &mut Bookkeeper, configuration: &Arc<Snapshot>, insights: &mut Arc<Snapshot>) {
        for _ in 0..3 {
            let Corrections { put, remove } = keeper.follow(configuration, insights);
            if put.is_empty() && remove.is_empty() {
                return;
            }
            let changes =
                put.into_iter().map(|r| Change::Put(Arc::new(r))).chain(remove.into_iter().map(Change::Remove));
            *insights = Arc::new(insights.apply(insights.revision() + 1, changes));
        }
        panic!("corrections never end");
    }

    fn told(insights: &Snapshot) -> (MeshInsight, ServiceInsight) {
        let [mesh, services] = keys_of("default");
        let spec = |key| &insights.get(&key).unwrap().spec;
        (MeshInsight::clone(&spec(mesh).message().unwrap()), ServiceInsight::clone(&spec(services).message().unwrap()))
    }

    #[test]
    fn insights_follow_proxies_and_their_connections() {
        let mut keeper = Bookkeeper::new();
        let mut configuration = Arc::new(Snapshot::empty().apply(1, [mesh(), dataplane("a"), dataplane("b")]));
        let mut insights = Arc::new(Snapshot::empty());
        settle(&mut keeper, &configuration, &mut insights);
        assert_eq!(told(&insights).0.dataplanes.unwrap().offline, 2);

        insights = Arc::new(insights.apply(10, [connected("a")]));
        settle(&mut keeper, &configuration, &mut insights);
        assert_eq!(told(&insights).1.services["backend"].dataplanes.unwrap().online, 1);

        let gone = Change::Remove(Key::new(Kind::Dataplane, "default", "b"));
        configuration = Arc::new(configuration.apply(2, [gone]));
        settle(&mut keeper, &configuration, &mut insights);
        let (mesh, _) = told(&insights);
        assert_eq!((mesh.dataplanes.unwrap().total, mesh.resources["Dataplane"].total), (1, 1));
    }

    #[test]
    fn one_who_steps_in_late_comes_to_the_same() {
        let mut early = Bookkeeper::new();
        let mut insights = Arc::new(Snapshot::empty());
        let mut configuration = Arc::new(Snapshot::empty());
        for (revision, change) in [mesh(), dataplane("a"), dataplane("b")].into_iter().enumerate() {
            configuration = Arc::new(configuration.apply(revision as u64 + 1, [change]));
            settle(&mut early, &configuration, &mut insights);
        }
        let late = Bookkeeper::new().follow(&configuration, &insights);
        assert_eq!(late, Corrections::default());
    }

    #[test]
    fn insights_of_a_deleted_mesh_go() {
        let mut keeper = Bookkeeper::new();
        let mut configuration = Arc::new(Snapshot::empty().apply(1, [mesh()]));
        let mut insights = Arc::new(Snapshot::empty());
        settle(&mut keeper, &configuration, &mut insights);
        configuration = Arc::new(configuration.apply(2, [Change::Remove(Key::global(Kind::Mesh, "default"))]));
        settle(&mut keeper, &configuration, &mut insights);
        assert!(insights.is_empty());
    }
}
