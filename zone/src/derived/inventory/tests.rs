use serde_json::{Value, json};

use super::super::Settings;
use super::super::tests::{World, recorded, resource, settings};
use super::*;

fn mesh(name: &str, more: Value) -> Value {
    let mut mesh = json!({"type": "Mesh", "name": name});
    mesh.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    mesh
}

fn ingress(name: &str) -> Value {
    json!({"type": "ZoneIngress", "name": name, "networking": {"address": "10.0.0.1", "port": 10001}})
}

fn dataplane(mesh: &str, name: &str, inbounds: &[Value]) -> Value {
    json!({"type": "Dataplane", "mesh": mesh, "name": name, "networking": {"address": "10.0.0.2", "inbound": inbounds}})
}

fn inbound(service: &str, version: &str) -> Value {
    json!({"port": 80, "tags": {"kuma.io/service": service, "kuma.io/zone": "east", "version": version}})
}

fn unready(service: &str) -> Value {
    json!({"port": 81, "state": "NotReady", "tags": {"kuma.io/service": service, "kuma.io/zone": "east"}})
}

/// What an ingress offers, a line for each entry.
fn offered(world: &World, name: &str) -> Vec<String> {
    let line = |service: &AvailableService| {
        let outside = if service.external_service { " outside" } else { "" };
        format!("{} {} {}{outside}", service.mesh, tags::print(&service.tags), service.instances)
    };
    world.ingress(name).available_services.iter().map(line).collect()
}

/// DP-31, DP-34: what Kuma's zone concluded from the same resources, entry by entry.
#[test]
fn ingresses_offer_what_was_recorded() {
    let mut compared = 0;
    for (scenario, documents) in recorded() {
        let is_own = |document: &&Value| document["type"] == "ZoneIngress" && document.get("zone").is_none();
        let own: Vec<&Value> = documents.iter().filter(is_own).collect();
        let emptied = documents.iter().cloned().map(|mut document| {
            if is_own(&&document) {
                document.as_object_mut().unwrap().remove("availableServices");
            }
            document
        });
        let world = World::new(&settings(), &emptied.collect::<Vec<_>>());
        for document in own {
            let expected = resource(document).unwrap().spec.message::<ZoneIngress>().unwrap();
            let name = document["name"].as_str().unwrap();
            assert_eq!(world.ingress(name).available_services, expected.available_services, "{scenario}");
            compared += expected.available_services.len();
        }
    }
    assert!(compared > 70, "{compared}");
}

/// DP-31
#[test]
fn healthy_inbounds_are_counted_by_their_tags() {
    let world = World::new(
        &settings(),
        &[
            mesh("default", json!({})),
            mesh("aaa", json!({})),
            ingress("in"),
            dataplane("default", "a", &[inbound("web", "v1"), inbound("web", "v1"), inbound("api", "v1")]),
            dataplane("default", "b", &[inbound("web", "v1"), inbound("web", "v2"), unready("web")]),
            dataplane("aaa", "c", &[inbound("zzz", "v1")]),
            json!({"type": "Dataplane", "mesh": "default", "name": "edge", "networking": {"address": "10.0.0.3",
                "gateway": {"tags": {"kuma.io/service": "edge"}}}}),
        ],
    );
    let expected = [
        "aaa kuma.io/service=zzz kuma.io/zone=east version=v1 1",
        "default kuma.io/service=api kuma.io/zone=east version=v1 1",
        "default kuma.io/service=web kuma.io/zone=east version=v1 3",
        "default kuma.io/service=web kuma.io/zone=east version=v2 1",
    ];
    assert_eq!(offered(&world, "in"), expected);
}

/// DP-32
#[test]
fn an_inbound_that_is_not_ready_counts_no_more() {
    let proxy = |second| dataplane("default", "a", &[inbound("web", "v1"), second]);
    let mut world = World::new(&settings(), &[mesh("default", json!({})), ingress("in"), proxy(inbound("web", "v1"))]);
    assert_eq!(offered(&world, "in"), ["default kuma.io/service=web kuma.io/zone=east version=v1 2"]);
    let mut gone = inbound("web", "v1");
    gone["state"] = json!("NotReady");
    world.apply(&[proxy(gone)]);
    assert_eq!(offered(&world, "in"), ["default kuma.io/service=web kuma.io/zone=east version=v1 1"]);
    let mut unhealthy = inbound("web", "v1");
    unhealthy["health"] = json!({"ready": false});
    world.apply(&[proxy(unhealthy)]);
    assert_eq!(offered(&world, "in"), ["default kuma.io/service=web kuma.io/zone=east version=v1 1"]);
    world.remove(Kind::Dataplane, "default", "a");
    assert_eq!(offered(&world, "in"), [""; 0]);
}

/// DP-33, and those of other zones are left alone.
#[test]
fn every_ingress_of_the_zone_holds_the_list() {
    let mut other = ingress("other");
    other["zone"] = json!("west");
    let mut named = ingress("named");
    named["zone"] = json!("east");
    let proxy = dataplane("default", "a", &[inbound("web", "v1")]);
    let mut world = World::new(&settings(), &[mesh("default", json!({})), ingress("in"), named, other, proxy]);
    for name in ["in", "named"] {
        assert_eq!(offered(&world, name), ["default kuma.io/service=web kuma.io/zone=east version=v1 1"]);
    }
    assert_eq!(offered(&world, "other"), [""; 0]);
    world.apply(&[ingress("late")]);
    assert_eq!(offered(&world, "late").len(), 1);
    let written = world.written.len();
    // What changes no count is no write.
    world.apply(&[dataplane("default", "a", &[inbound("web", "v1"), unready("web")]), mesh("default", json!({}))]);
    assert_eq!(world.written.len(), written);
}

/// DP-34
#[test]
fn a_mesh_whose_services_are_resources_offers_nothing_here() {
    let proxy = dataplane("default", "a", &[inbound("web", "v1")]);
    let exclusive = |mode: &str| mesh("default", json!({"meshServices": {"mode": mode}}));
    let mut world = World::new(&settings(), &[exclusive("Everywhere"), ingress("in"), proxy]);
    assert_eq!(offered(&world, "in").len(), 1);
    world.apply(&[exclusive("Exclusive")]);
    assert_eq!(offered(&world, "in").len(), 0);
    world.apply(&[exclusive("ReachableBackends")]);
    assert_eq!(offered(&world, "in").len(), 1);
}

/// DP-35
#[test]
fn services_outside_are_offered_by_their_zone_where_egresses_are_used() {
    let external = |name: &str, zone: &str| {
        json!({"type": "ExternalService", "mesh": "default", "name": name, "networking": {"address": "httpbin:80"},
            "tags": {"kuma.io/service": "httpbin", "kuma.io/zone": zone}})
    };
    let through = |on: bool| mesh("default", json!({"routing": {"zoneEgress": on}}));
    let documents = [through(true), ingress("in"), external("a", "east"), external("b", "east"), external("c", "west")];
    let mut world = World::new(&settings(), &documents);
    assert_eq!(offered(&world, "in"), ["default kuma.io/service=httpbin kuma.io/zone=east 2 outside"]);
    world.apply(&[through(false)]);
    assert_eq!(offered(&world, "in"), [""; 0]);
    world.apply(&[through(true), external("b", "west")]);
    assert_eq!(offered(&world, "in"), ["default kuma.io/service=httpbin kuma.io/zone=east 1 outside"]);
}

#[test]
fn listeners_for_other_meshes_carry_the_tags_of_proxy_gateway_and_listener() {
    let proxy = json!({"type": "Dataplane", "mesh": "default", "name": "edge", "networking": {"address": "10.0.0.3",
        "gateway": {"type": "BUILTIN", "tags": {"kuma.io/service": "edge", "kuma.io/zone": "east"}}}});
    let gateway = |name: &str, selector: Value, port: &str| {
        json!({"type": "MeshGateway", "mesh": "default", "name": name, "selectors": [{"match": selector}],
            "tags": {"gateway": name}, "conf": {"listeners": [
                {"port": 80, "protocol": "HTTP", "crossMesh": true, "tags": {"port": port}},
                {"port": 81, "protocol": "HTTP", "crossMesh": true, "tags": {"port": port}},
                {"port": 82, "protocol": "HTTP", "tags": {"port": "own"}}]}})
    };
    let any = gateway("any", json!({"kuma.io/service": "*"}), "a");
    let exact = gateway("exact", json!({"kuma.io/service": "edge"}), "b");
    let mut world = World::new(&settings(), &[mesh("default", json!({})), ingress("in"), proxy, any, exact]);
    let line = "default gateway=exact kuma.io/mesh=default kuma.io/service=edge kuma.io/zone=east port=b 2";
    assert_eq!(offered(&world, "in"), [line]);
    world.remove(Kind::MeshGateway, "default", "exact");
    assert_eq!(offered(&world, "in"), [line.replace("exact", "any").replace("port=b", "port=a")]);
}

#[test]
fn tags_that_no_filter_lets_through_do_not_tell_instances_apart() {
    let settings = Settings { tag_filters: vec!["kuma.io/".to_owned()], ..settings() };
    let proxy = dataplane("default", "a", &[inbound("web", "v1"), inbound("web", "v2")]);
    let world = World::new(&settings, &[mesh("default", json!({})), ingress("in"), proxy]);
    assert_eq!(offered(&world, "in"), ["default kuma.io/service=web kuma.io/zone=east 2"]);
}
