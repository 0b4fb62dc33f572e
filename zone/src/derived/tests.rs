//! What a zone concludes, compared with what Kuma's zone concluded from the same resources.

use std::collections::BTreeMap;
use std::fs;

use chrono::{DateTime, TimeDelta, Utc};
use kds_proto::kuma::mesh::v1alpha1::ZoneIngress;
use model::{Change, Key, Kind, Resource, rest_form};
use serde_json::Value;

use super::*;

/// Conclusions as they are without an own setting, in zone `east`.
pub(super) fn settings() -> Settings {
    Settings {
        zone: "east".to_owned(),
        environment: Environment::Universal,
        makes_services: true,
        grace: Duration::from_secs(3600),
        networks: [
            (Kind::MeshService, "241.0.0.0/8"),
            (Kind::MeshExternalService, "242.0.0.0/8"),
            (Kind::MeshMultiZoneService, "243.0.0.0/8"),
        ]
        .map(|(kind, network)| (kind, network.to_owned()))
        .into(),
        names: tag_vips::Settings {
            zone: "east".to_owned(),
            network: "240.0.0.0/4".to_owned(),
            of_services: true,
            domain: "mesh".to_owned(),
        },
        gives_hostnames: true,
        tag_filters: Vec::new(),
    }
}

/// Midnight of the day on which the tests take place.
pub(super) fn midnight() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
}

/// A store without a store: what is written is there at the next look.
pub(super) struct World {
    conclusions: Vec<Box<dyn Conclusion>>,
    seen: Seen,
    pub stored: Seen,
    pub time: DateTime<Utc>,
    pub due: Option<Duration>,
    /// Keys that were written, one list for each round.
    pub written: Vec<Vec<Key>>,
}

impl World {
    pub fn new(settings: &Settings, documents: &[Value]) -> Self {
        let mut world = Self {
            conclusions: settings.conclusions(&settings.pools()),
            seen: Seen::nothing(),
            stored: Seen::nothing(),
            time: midnight(),
            due: None,
            written: Vec::new(),
        };
        world.apply(documents);
        world
    }

    /// Puts documents as the API shows them, and lets all follow.
    pub fn apply(&mut self, documents: &[Value]) {
        let resources: Vec<Resource> = documents.iter().map(|document| resource(document).unwrap()).collect();
        self.change(resources.into_iter().map(|resource| Change::Put(Arc::new(resource))).collect());
    }

    /// Takes a resource away, and lets all follow.
    pub fn remove(&mut self, kind: Kind, mesh: &str, name: &str) {
        self.change(vec![Change::Remove(Key::new(kind, mesh, name))]);
    }

    pub fn change(&mut self, changes: Vec<Change>) {
        self.store(changes);
        self.settle();
    }

    fn store(&mut self, changes: Vec<Change>) {
        let kind = |change: &Change| match change {
            Change::Put(resource) => resource.kind(),
            Change::Remove(key) => key.kind,
        };
        let is_insight = |change: &Change| kind(change).info().access == model::kind::Access::ControlPlanes;
        let (insights, configuration): (Vec<_>, Vec<_>) = changes.into_iter().partition(is_insight);
        let next = |snapshot: &mut Arc<Snapshot>, changes: Vec<Change>| {
            let versioned = changes.into_iter().map(|change| match change {
                Change::Put(resource) => {
                    let known = snapshot.get(&resource.meta.key);
                    let (version, created) = known.map_or((0, self.time), |k| (k.meta.version, k.meta.created));
                    let mut resource = Resource::clone(&resource);
                    (resource.meta.version, resource.meta.created) = (version + 1, created);
                    Change::Put(Arc::new(resource))
                }
                remove => remove,
            });
            let versioned: Vec<Change> = versioned.collect();
            *snapshot = Arc::new(snapshot.apply(snapshot.revision() + 1, versioned));
        };
        next(&mut self.stored.insights, insights);
        next(&mut self.stored.configuration, configuration);
    }

    /// Concludes until nothing is left to say; a second round must find nothing.
    pub fn settle(&mut self) {
        for _ in 0..2 {
            let mut round = Round::new(self.seen.clone(), self.stored.clone(), self.time);
            self.conclusions.iter_mut().for_each(|conclusion| conclusion.step(&mut round));
            self.seen = self.stored.clone();
            self.due = round.due();
            let writes = round.writes();
            if writes.is_empty() {
                return;
            }
            self.written.push(writes.iter().map(|write| write.key().clone()).collect());
            let changes = writes.into_iter().map(|write| match write {
                Write::Create { resource, .. } => {
                    assert!(self.stored.configuration.get(&resource.meta.key).is_none());
                    Change::Put(Arc::new(resource))
                }
                Write::Update { resource } => {
                    let stored = self.stored.configuration.get(&resource.meta.key).unwrap();
                    assert_eq!(stored.meta.version, resource.meta.version, "{}", resource.meta.key);
                    Change::Put(Arc::new(resource))
                }
                Write::Delete { key, .. } => Change::Remove(key),
                other => panic!("{other:?}"),
            });
            let changes = changes.collect();
            self.store(changes);
        }
        let mut round = Round::new(self.seen.clone(), self.stored.clone(), self.time);
        self.conclusions.iter_mut().for_each(|conclusion| conclusion.step(&mut round));
        assert_eq!(format!("{:?}", round.writes()), "[]", "one round says it all");
        self.seen = self.stored.clone();
    }

    pub fn get(&self, kind: Kind, mesh: &str, name: &str) -> Option<&Arc<Resource>> {
        self.stored.configuration.get(&Key::new(kind, mesh, name))
    }

    pub fn ingress(&self, name: &str) -> Arc<ZoneIngress> {
        self.get(Kind::ZoneIngress, "", name).unwrap().spec.message::<ZoneIngress>().unwrap()
    }
}

/// A resource as the API shows it, in the store's form.
pub(super) fn resource(document: &Value) -> Option<Resource> {
    rest_form::read(document.clone()).ok()
}

/// Every recorded state of a zone: its name and the resources that it held.
pub(super) fn recorded() -> BTreeMap<String, Vec<Value>> {
    let lines = |name: &str| -> Vec<Value> {
        let path = format!("{}/../crates/envoy/tests/recorded/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
        fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let inputs = lines("inputs");
    // Secrets were recorded without their content, and services one by one.
    let is_kept = |document: &Value| document["type"] != "ServiceInsight" && resource(document).is_some();
    let scenario = |line: &Value| {
        let positions = line["inputs"].as_array().unwrap().iter().map(|position| position.as_u64().unwrap());
        let documents = positions.map(|position| inputs[usize::try_from(position).unwrap()].clone());
        (line["scenario"].as_str().unwrap().to_owned(), documents.filter(is_kept).collect())
    };
    lines("scenarios").iter().filter(|line| line["zone"] == "east").map(scenario).collect()
}
