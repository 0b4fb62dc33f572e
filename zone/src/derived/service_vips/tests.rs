use serde_json::{Value, json};

use super::super::tests::{World, settings};
use super::*;

fn mesh() -> Value {
    json!({"type": "Mesh", "name": "default"})
}

fn service(name: &str) -> Value {
    json!({"type": "MeshService", "mesh": "default", "name": name, "spec": {"selector": {}, "ports": []}})
}

fn address(world: &World, kind: Kind, name: &str) -> String {
    addresses(world.get(kind, "default", name).unwrap()).concat()
}

#[test]
fn each_kind_has_its_network() {
    let multi = json!({"type": "MeshMultiZoneService", "mesh": "default", "name": "m", "spec": {
        "selector": {"meshService": {"matchLabels": {"a": "b"}}}, "ports": []}});
    let external = json!({"type": "MeshExternalService", "mesh": "default", "name": "e",
        "spec": {"match": {"type": "HostnameGenerator", "port": 80, "protocol": "tcp"}}});
    let world = World::new(&settings(), &[mesh(), service("a"), service("b"), multi, external]);
    let all = [
        (Kind::MeshService, "a"),
        (Kind::MeshService, "b"),
        (Kind::MeshExternalService, "e"),
        (Kind::MeshMultiZoneService, "m"),
    ];
    let found = all.map(|(kind, name)| address(&world, kind, name));
    assert_eq!(found, ["241.0.0.0", "241.0.0.1", "242.0.0.0", "243.0.0.0"]);
}

/// An address stays as long as its service, over restarts too, and is not given again by the same leader.
#[test]
fn addresses_stay() {
    let mut world = World::new(&settings(), &[mesh(), service("b"), service("c")]);
    world.apply(&[service("a")]);
    let all = |world: &World| ["a", "b", "c"].map(|name| address(world, Kind::MeshService, name));
    assert_eq!(all(&world), ["241.0.0.2", "241.0.0.0", "241.0.0.1"]);
    let mut next = World::new(&settings(), &[]);
    next.change(world.stored.configuration.iter().cloned().map(model::Change::Put).collect());
    assert_eq!(all(&next), all(&world));
    next.remove(Kind::MeshService, "default", "b");
    next.apply(&[service("d")]);
    assert_eq!(address(&next, Kind::MeshService, "d"), "241.0.0.3");
}

#[test]
fn a_full_network_leaves_the_rest_without() {
    let small = super::super::Settings { networks: vec![(Kind::MeshService, "10.0.0.0/31".to_owned())], ..settings() };
    let world = World::new(&small, &[mesh(), service("a"), service("b"), service("c")]);
    let found = ["a", "b", "c"].map(|name| address(&world, Kind::MeshService, name));
    assert_eq!(found, ["10.0.0.0", "10.0.0.1", ""]);
}
