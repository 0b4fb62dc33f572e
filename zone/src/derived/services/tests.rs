use serde_json::{Value, json};

use super::super::Settings;
use super::super::tests::{World, recorded, settings};
use super::*;

fn mesh(mode: &str) -> Value {
    json!({"type": "Mesh", "name": "default", "meshServices": {"mode": mode}})
}

fn dataplane(name: &str, inbounds: Value) -> Value {
    json!({"type": "Dataplane", "mesh": "default", "name": name, "networking": {"address": "10.0.0.2", "inbound": inbounds}})
}

fn web(name: &str, port: u32) -> Value {
    dataplane(name, json!([{"port": port, "tags": {"kuma.io/service": "web", "kuma.io/protocol": "HTTP"}}]))
}

fn services(world: &World) -> Vec<String> {
    world.stored.configuration.list(Kind::MeshService).map(|service| service.meta.key.name.to_string()).collect()
}

fn spec(world: &World, name: &str) -> Arc<MeshService> {
    world.get(Kind::MeshService, "default", name).unwrap().spec.json::<MeshService>().unwrap()
}

fn ports(world: &World, name: &str) -> Vec<i32> {
    spec(world, name).ports.iter().map(|port| port.port).collect()
}

/// What Kuma's zone made of the same dataplanes, to the byte.
#[test]
fn services_are_made_as_they_were_recorded() {
    let mut compared = 0;
    for (scenario, documents) in recorded() {
        let is_made = |document: &Value| {
            document["type"] == "MeshService" && document["labels"][labels::ORIGIN] == labels::ORIGIN_ZONE
        };
        let (made, others): (Vec<Value>, Vec<Value>) = documents.into_iter().partition(is_made);
        let world = World::new(&settings(), &others);
        for document in &made {
            // Left over from dataplanes that were gone when it was recorded.
            if !document["labels"][labels::DELETION_GRACE_PERIOD_STARTED_AT].is_null() {
                continue;
            }
            let name = document["name"].as_str().unwrap();
            let found = world.get(Kind::MeshService, "default", name).unwrap_or_else(|| panic!("{scenario}: {name}"));
            let labels: Labels = serde_json::from_value(document["labels"].clone()).unwrap();
            assert_eq!(found.meta.labels, labels, "{scenario}: {name}");
            let content: Value = serde_json::from_slice(found.spec.bytes()).unwrap();
            assert_eq!(content, document["spec"], "{scenario}: {name}");
            compared += 1;
        }
    }
    assert!(compared > 30, "{compared}");
}

#[test]
fn a_service_has_the_ports_of_its_inbounds() {
    let tags = json!({"kuma.io/service": "web"});
    let inbounds = json!([
        {"name": "main", "port": 80, "tags": tags},
        {"port": 81, "tags": {"kuma.io/service": "web", "kuma.io/protocol": "grpc"}},
        {"port": 82, "tags": {"kuma.io/service": "web", "kuma.io/protocol": "odd"}},
        {"port": 83, "tags": {"kuma.io/service": "Not_A_Label"}},
    ]);
    let world = World::new(&settings(), &[mesh("Everywhere"), dataplane("a", inbounds)]);
    assert_eq!(services(&world), ["web"]);
    let content: Value = serde_json::to_value(&*spec(&world, "web")).unwrap();
    let port = |name: &str, port: u32, protocol: &str| json!({"name": name, "port": port, "targetPort": port, "appProtocol": protocol});
    assert_eq!(content["ports"], json!([port("main", 80, "tcp"), port("81", 81, "grpc"), port("82", 82, "tcp")]));
    assert_eq!(content["selector"], json!({"dataplaneTags": {"kuma.io/service": "web"}}));
}

#[test]
fn a_mesh_that_wants_none_has_none() {
    let mut world = World::new(&settings(), &[mesh("Disabled"), web("a", 80)]);
    assert_eq!(services(&world), [""; 0]);
    world.apply(&[mesh("Exclusive")]);
    assert_eq!(services(&world), ["web"]);
    world.apply(&[mesh("Disabled")]);
    assert_eq!(services(&world), [""; 0]);
    let off = Settings { makes_services: false, ..settings() };
    assert_eq!(services(&World::new(&off, &[mesh("Everywhere"), web("a", 80)])), [""; 0]);
}

#[test]
fn the_known_ports_hold_while_a_dataplane_agrees() {
    let mut world = World::new(&settings(), &[mesh("Everywhere"), web("b", 80)]);
    world.time += chrono::TimeDelta::seconds(1);
    world.apply(&[web("a", 81)]);
    assert_eq!(ports(&world, "web"), [80]);
    world.remove(Kind::Dataplane, "default", "b");
    assert_eq!(ports(&world, "web"), [81]);
    // Of dataplanes that came anew the oldest is right.
    let world = World::new(&settings(), &[mesh("Everywhere"), web("y", 90), web("x", 91)]);
    assert_eq!(ports(&world, "web"), [91], "of one age the first by name");
}

#[test]
fn a_service_without_dataplanes_goes_after_its_grace_period() {
    let mut world = World::new(&settings(), &[mesh("Everywhere"), web("a", 80)]);
    assert_eq!(world.due, None);
    world.remove(Kind::Dataplane, "default", "a");
    let mark = |world: &World| {
        let service = world.get(Kind::MeshService, "default", "web").unwrap();
        service.meta.labels.get(labels::DELETION_GRACE_PERIOD_STARTED_AT).map(str::to_owned)
    };
    assert_eq!(mark(&world).as_deref(), Some("2024-10-04T00:00:00Z"));
    assert_eq!(world.due, Some(Duration::from_secs(3600)));
    world.time += chrono::TimeDelta::seconds(3000);
    world.settle();
    assert_eq!(world.due, Some(Duration::from_secs(600)));
    // It comes back.
    world.apply(&[web("b", 80)]);
    assert_eq!(mark(&world), None);
    world.remove(Kind::Dataplane, "default", "b");
    world.time += chrono::TimeDelta::seconds(3600);
    world.settle();
    assert_eq!(services(&world), [""; 0]);
    assert_eq!(world.due, None);
}

/// A control plane that starts, or takes the lead, finds the marks of the one before it.
#[test]
fn a_grace_period_outlives_the_control_plane() {
    let mut world = World::new(&settings(), &[mesh("Everywhere"), web("a", 80)]);
    world.remove(Kind::Dataplane, "default", "a");
    let stored = world.stored.clone();
    let mut next = World::new(&settings(), &[]);
    next.time += chrono::TimeDelta::seconds(1800);
    next.change(stored.configuration.iter().cloned().map(model::Change::Put).collect());
    assert_eq!((services(&next), next.due), (vec!["web".to_owned()], Some(Duration::from_secs(1800))));
    next.time += chrono::TimeDelta::seconds(1801);
    next.settle();
    assert_eq!(services(&next), [""; 0]);
}

/// What others made is never touched: a user's service of that name, and that of another zone.
#[test]
fn only_what_is_made_here_is_changed_here() {
    let service = |name: &str, labels: Value| {
        json!({"type": "MeshService", "mesh": "default", "name": name, "labels": labels, "spec": {
            "state": "Unavailable", "selector": {"dataplaneTags": {"app": "x"}},
            "ports": [{"port": 1, "targetPort": 1, "appProtocol": "tcp"}]}})
    };
    let own = service("web", json!({"kuma.io/origin": "zone", "kuma.io/zone": "east"}));
    let synced = json!({"kuma.io/origin": "global", "kuma.io/zone": "west", "kuma.io/display-name": "api",
        "kuma.io/managed-by": MANAGED_BY, "kuma.io/env": "universal"});
    let mut world = World::new(&settings(), &[mesh("Everywhere"), own, service("api-x", synced), web("a", 80)]);
    assert_eq!(ports(&world, "web"), [1]);
    let written: Vec<String> = world.written.concat().iter().map(|key| key.name.to_string()).collect();
    assert!(!written.contains(&"api-x".to_owned()) || ports(&world, "api-x") == [1]);
    let label = |world: &World, name: &str| {
        let labels = &world.get(Kind::MeshService, "default", name).unwrap().meta.labels;
        labels.get(labels::DELETION_GRACE_PERIOD_STARTED_AT).map(str::to_owned)
    };
    assert_eq!((label(&world, "api-x"), label(&world, "web")), (None, None));
    world.apply(&[mesh("Disabled")]);
    assert_eq!(services(&world), ["api-x", "web"]);
}
