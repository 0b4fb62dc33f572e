use std::collections::{BTreeMap, BTreeSet};

use kds_proto::kuma::mesh::v1alpha1::dataplane::Networking;
use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::{Gateway, Inbound};
use kds_proto::kuma::mesh::v1alpha1::zone_ingress::AvailableService;
use kds_proto::kuma::mesh::v1alpha1::{Dataplane, ZoneIngress};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::labels::{Labels, SERVICE_TAG};
use crate::resource::Payload;

fn tags(service: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(SERVICE_TAG.to_owned(), service.to_owned())])
}

/// Services alternate between inbounds and the gateway, so that both are seen.
fn dataplane(services: &[&str]) -> Payload {
    let mut networking = Networking::default();
    for (position, service) in services.iter().enumerate() {
        match position {
            1 => networking.gateway = Some(Gateway { tags: tags(service), ..Gateway::default() }),
            _ => networking.inbound.push(Inbound { tags: tags(service), ..Inbound::default() }),
        }
    }
    Payload::from_message(&Dataplane { networking: Some(networking), ..Dataplane::default() })
}

fn resource(kind: Kind, mesh: &str, name: &str, labels: &[(&str, &str)], spec: Payload) -> Arc<Resource> {
    Arc::new(Resource::new(Key::new(kind, mesh, name), labels.iter().copied().collect(), spec))
}

fn names<'a>(resources: impl Iterator<Item = &'a Arc<Resource>>) -> Vec<&'a str> {
    resources.map(|resource| &*resource.meta.key.name).collect()
}

#[test]
fn lists_are_in_the_order_of_mesh_and_name() {
    let timeout = |mesh, name| Change::Put(resource(Kind::MeshTimeout, mesh, name, &[], Payload::default()));
    let zone = Change::Put(resource(Kind::Zone, "", "east", &[], Payload::default()));
    let snapshot = Snapshot::empty()
        .apply(7, [timeout("b", "1"), timeout("a", "2"), zone, timeout("a", "10"), timeout("aa", "0")]);
    assert_eq!(names(snapshot.list(Kind::MeshTimeout)), ["10", "2", "0", "1"]);
    assert_eq!(names(snapshot.list_in(Kind::MeshTimeout, "a")), ["10", "2"]);
    assert_eq!(names(snapshot.list_in(Kind::Zone, "ignored")), ["east"]);
    assert_eq!((snapshot.revision(), snapshot.len(), snapshot.count(Kind::MeshTimeout)), (7, 5, 4));
    assert_eq!(names(snapshot.iter()).len(), 5);
    assert_eq!(names(snapshot.list(Kind::Mesh)), [""; 0]);
}

#[test]
fn a_reader_keeps_what_it_has() {
    let put = |content: &'static str| {
        Change::Put(resource(
            Kind::MeshTimeout,
            "default",
            "a",
            &[("v", content)],
            Payload::from_bytes(content.as_bytes()),
        ))
    };
    let first = Snapshot::empty().apply(1, [put("one")]);
    let second = first.apply(2, [put("two")]);
    let third = second.apply(3, [Change::Remove(Key::new(Kind::MeshTimeout, "default", "a"))]);
    let content = |snapshot: &Snapshot| {
        snapshot.get(&Key::new(Kind::MeshTimeout, "default", "a")).map(|resource| resource.spec.bytes().clone())
    };
    assert_eq!((content(&first).as_deref(), content(&second).as_deref()), (Some(&b"one"[..]), Some(&b"two"[..])));
    assert_eq!(content(&third), None);
    assert_eq!(names(first.labelled(Kind::MeshTimeout, "v", "one")), ["a"]);
    assert_eq!(names(second.labelled(Kind::MeshTimeout, "v", "one")), [""; 0]);
    let labelled = second.labelled(Kind::MeshTimeout, "v", "two").next().unwrap();
    assert_eq!(labelled.spec.bytes().as_ref(), b"two");
    assert!(third.is_empty() && third.count(Kind::MeshTimeout) == 0);
}

#[test]
fn an_index_lets_the_old_resource_go() {
    let old = resource(Kind::Dataplane, "default", "dp", &[("a", "1")], dataplane(&["web"]));
    let new = resource(Kind::Dataplane, "default", "dp", &[("a", "1")], dataplane(&["web"]));
    let snapshot = Snapshot::empty().apply(1, [Change::Put(Arc::clone(&old))]).apply(2, [Change::Put(new)]);
    assert_eq!(Arc::strong_count(&old), 1);
    drop(snapshot);
}

#[test]
fn a_name_is_found_whether_it_is_stored_or_shown() {
    let timeout = |name, labels: &[(&str, &str)]| {
        Change::Put(resource(Kind::MeshTimeout, "default", name, labels, Payload::default()))
    };
    let shown = [(labels::DISPLAY_NAME, "mt")];
    let other = Change::Put(resource(Kind::MeshTimeout, "other", "mt-y", &shown, Payload::default()));
    let snapshot = Snapshot::empty().apply(1, [timeout("mt", &[]), timeout("mt-x", &shown), other]);
    assert_eq!(names(snapshot.named(Kind::MeshTimeout, "default", "mt")), ["mt", "mt-x"]);
    assert_eq!(names(snapshot.named(Kind::MeshTimeout, "default", "mt-x")), [""; 0]);
    let snapshot = snapshot.apply(2, [timeout("mt", &shown)]);
    assert_eq!(names(snapshot.named(Kind::MeshTimeout, "default", "mt")), ["mt", "mt-x"]);
}

#[test]
fn services_come_from_inbounds_gateways_and_ingresses() {
    let offer =
        |mesh: &str, service| AvailableService { mesh: mesh.to_owned(), tags: tags(service), ..Default::default() };
    let available_services = vec![offer("default", "web"), offer("default", "web"), offer("other", "api")];
    let ingress = Payload::from_message(&ZoneIngress { available_services, ..ZoneIngress::default() });
    let snapshot = Snapshot::empty().apply(
        1,
        [
            Change::Put(resource(Kind::Dataplane, "default", "both", &[], dataplane(&["web", "edge", "web"]))),
            Change::Put(resource(Kind::Dataplane, "default", "api", &[], dataplane(&["api"]))),
            Change::Put(resource(Kind::Dataplane, "other", "web", &[], dataplane(&["web"]))),
            Change::Put(resource(Kind::ZoneIngress, "", "zi", &[], ingress)),
        ],
    );
    assert_eq!(names(snapshot.service("default", "web")), ["both"]);
    assert_eq!(names(snapshot.service("default", "edge")), ["both"]);
    assert_eq!(names(snapshot.service("other", "web")), ["web"]);
    assert_eq!(names(snapshot.service("other", "api")), [""; 0]);
    assert_eq!(names(snapshot.ingresses_of("other", "api")), ["zi"]);
    assert_eq!(names(snapshot.ingresses_of("default", "web")), ["zi"]);
}

#[test]
fn what_does_not_decode_is_there_without_a_service() {
    let broken = resource(Kind::Dataplane, "default", "dp", &[("a", "1")], Payload::from_bytes(&b"\xff\xff"[..]));
    let snapshot = Snapshot::empty().apply(1, [Change::Put(broken)]);
    assert_eq!(names(snapshot.labelled(Kind::Dataplane, "a", "1")), ["dp"]);
    let snapshot =
        snapshot.apply(2, [Change::Put(resource(Kind::Dataplane, "default", "dp", &[], dataplane(&["web"])))]);
    assert_eq!(names(snapshot.service("default", "web")), ["dp"]);
}

#[test]
fn kinds_tell_when_they_changed() {
    let put = |kind| Change::Put(resource(kind, "default", "a", &[], Payload::default()));
    let first = Snapshot::empty().apply(3, [put(Kind::MeshTimeout), put(Kind::MeshRetry)]);
    let second = first.apply(5, [put(Kind::MeshRetry), Change::Remove(Key::new(Kind::MeshTrace, "default", "none"))]);
    assert_eq!(second.changed_kinds(&first).collect::<Vec<_>>(), [Kind::MeshRetry]);
    assert_eq!((second.changed_at(Kind::MeshTimeout), second.changed_at(Kind::MeshRetry)), (3, 5));
    assert_eq!(second.changed_at(Kind::MeshTrace), 0);
    let same = second.get(&Key::new(Kind::MeshRetry, "default", "a")).cloned().unwrap();
    assert_eq!(second.apply(6, [Change::Put(same)]).diff(&second), []);
}

/// More resources than fit in one node of a tree, so that first and last of each node are changed too.
#[test]
fn one_change_among_many_is_the_difference() {
    let put = |name: usize| {
        Change::Put(resource(Kind::MeshTimeout, "default", &format!("{name:04}"), &[], Payload::default()))
    };
    let mut snapshot = Snapshot::empty().apply(1, (0..1_500).map(put));
    let first = snapshot.clone();
    for name in 0..1_500 {
        let key = Key::new(Kind::MeshTimeout, "default", &format!("{name:04}"));
        let change = if name % 2 == 0 { put(name) } else { Change::Remove(key.clone()) };
        let next = snapshot.apply(name as u64 + 2, [change]);
        assert_eq!(next.diff(&snapshot), [key]);
        snapshot = next;
    }
    // Longer ago than the log reaches, and not derived from one another at all.
    assert_eq!(snapshot.diff(&first).len(), 1_500);
    assert_eq!(snapshot.diff(&Snapshot::empty()).len(), 750);
    let anew = Snapshot::empty().apply(1, snapshot.iter().cloned().map(Change::Put));
    assert_eq!(anew.diff(&snapshot), []);
}

/// A resource of a small world, so that changes meet: keys, labels and services repeat.
fn any_resource() -> impl Strategy<Value = Resource> {
    let kind = proptest::sample::select(&[Kind::Dataplane, Kind::MeshTimeout, Kind::Zone][..]);
    let labels = btree_map("[a-c]", "[x-z]", 0..3);
    let services = vec("[s-u]", 0..3);
    (kind, "[m-n]", "[a-e]", labels, services, any::<bool>()).prop_map(
        |(kind, mesh, name, labels, services, broken)| {
            let services: Vec<&str> = services.iter().map(String::as_str).collect();
            let spec = if broken { Payload::from_bytes(&b"\xff"[..]) } else { dataplane(&services) };
            Resource::new(Key::new(kind, &mesh, &name), labels.iter().collect::<Labels>(), spec)
        },
    )
}

fn any_change() -> impl Strategy<Value = Change> {
    let key = |resource: Resource| Change::Remove(resource.meta.key);
    prop_oneof![3 => any_resource().prop_map(|put| Change::Put(Arc::new(put))), 1 => any_resource().prop_map(key)]
}

/// What the indexes must say, found by looking at everything.
fn check_indexes(snapshot: &Snapshot) {
    let all: Vec<&Arc<Resource>> = snapshot.iter().collect();
    assert!(all.is_sorted_by(|a, b| a.meta.key < b.meta.key));
    assert_eq!(all.len(), snapshot.len());
    for kind in [Kind::Dataplane, Kind::MeshTimeout, Kind::Zone] {
        let of_kind: Vec<_> = all.iter().filter(|resource| resource.kind() == kind).copied().collect();
        assert!(snapshot.list(kind).eq(of_kind.iter().copied()));
        for mesh in of_kind.iter().map(|resource| &resource.meta.key.mesh) {
            assert_eq!(snapshot.count_in(kind, mesh), snapshot.list_in(kind, mesh).count());
        }
        assert_eq!(snapshot.count(kind), of_kind.len());
        for mesh in ["m", "n"] {
            let mesh_of = |resource: &&Arc<Resource>| [mesh, ""].contains(&&*resource.meta.key.mesh);
            assert!(snapshot.list_in(kind, mesh).eq(of_kind.iter().copied().filter(mesh_of)));
        }
        for (key, value) in ["a", "b", "c"].iter().flat_map(|key| ["x", "y", "z"].map(|value| (*key, value))) {
            let labelled = of_kind.iter().copied().filter(|resource| resource.meta.labels.get(key) == Some(value));
            assert!(snapshot.labelled(kind, key, value).same_as(labelled), "{kind} {key}={value}");
        }
    }
    for (mesh, service) in ["m", "n"].iter().flat_map(|mesh| ["s", "t", "u"].map(|service| (*mesh, service))) {
        let expected = snapshot.list_in(Kind::Dataplane, mesh).filter(|resource| {
            let networking =
                resource.spec.message::<Dataplane>().ok().and_then(|dataplane| dataplane.networking.clone());
            let networking = networking.unwrap_or_default();
            let inbounds = networking.inbound.iter().map(|inbound| &inbound.tags);
            inbounds
                .chain(networking.gateway.iter().map(|gateway| &gateway.tags))
                .any(|tags| tags[SERVICE_TAG] == service)
        });
        assert!(snapshot.service(mesh, service).same_as(expected), "{service} in {mesh}");
    }
}

/// The very same resources in the same order: an index that holds an old version of one is wrong.
trait SameResources<'a>: Iterator<Item = &'a Arc<Resource>> + Sized {
    fn same_as(self, other: impl Iterator<Item = &'a Arc<Resource>>) -> bool {
        self.map(Arc::as_ptr).eq(other.map(Arc::as_ptr))
    }
}

impl<'a, I: Iterator<Item = &'a Arc<Resource>>> SameResources<'a> for I {}

proptest! {
    #[test]
    fn changes_give_the_same_as_building_anew(batches in vec(vec(any_change(), 0..6), 0..12)) {
        let mut history = vec![Snapshot::empty()];
        let mut world: BTreeMap<Key, Arc<Resource>> = BTreeMap::new();
        for (at, batch) in batches.into_iter().enumerate() {
            let before = world.clone();
            for change in &batch {
                match change {
                    Change::Put(resource) => world.insert(resource.meta.key.clone(), Arc::clone(resource)),
                    Change::Remove(key) => world.remove(key),
                };
            }
            let last = history.last().unwrap();
            let next = last.apply(at as u64 + 1, batch);
            prop_assert!(next.iter().same_as(world.values()));
            check_indexes(&next);
            let differs = |key: &&Key| before.get(*key).map(Arc::as_ptr) != world.get(*key).map(Arc::as_ptr);
            let changed: BTreeSet<&Key> = before.keys().chain(world.keys()).filter(differs).collect();
            prop_assert!(next.diff(last).iter().eq(changed.iter().copied()));
            let kinds: BTreeSet<Kind> = next.changed_kinds(last).collect();
            prop_assert!(changed.iter().all(|key| kinds.contains(&key.kind)));
            history.push(next);
        }
        // Nothing that came later touched an earlier revision.
        history.iter().for_each(check_indexes);
        let (first, last) = (&history[0], history.last().unwrap());
        prop_assert!(last.diff(first).iter().eq(world.keys()));
        let anew = Snapshot::empty().apply(1, world.values().cloned().map(Change::Put));
        prop_assert!(anew.diff(last).is_empty());
    }
}
