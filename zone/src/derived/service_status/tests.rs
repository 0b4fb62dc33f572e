use serde_json::{Value, json};

use super::super::tests::{World, recorded, settings};
use super::*;

fn mesh(more: Value) -> Value {
    let mut mesh = json!({"type": "Mesh", "name": "default", "meshServices": {"mode": "Everywhere"}});
    mesh.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    mesh
}

fn mtls() -> Value {
    mesh(json!({"mtls": {"enabledBackend": "ca", "backends": [{"name": "ca", "type": "builtin"}]}}))
}

fn web(name: &str, states: [&str; 2]) -> Value {
    let inbound = |port: u32, state: &str| json!({"port": port, "state": state, "tags": {"kuma.io/service": "web"}});
    json!({"type": "Dataplane", "mesh": "default", "name": name, "labels": {"kuma.io/workload": name},
        "networking": {"address": "10.0.0.2", "inbound": [inbound(80, states[0]), inbound(81, states[1])]}})
}

fn insight(name: &str, connected: bool, backend: &str) -> Value {
    let mut subscription = json!({"id": "1", "connectTime": "2026-01-01T00:00:00Z"});
    if !connected {
        subscription["disconnectTime"] = json!("2026-01-01T00:01:00Z");
    }
    json!({"type": "DataplaneInsight", "mesh": "default", "name": name, "subscriptions": [subscription],
        "mTLS": {"issuedBackend": backend}})
}

fn status(world: &World, name: &str) -> Arc<Status> {
    let service = world.get(Kind::MeshService, "default", name).unwrap();
    service.status.as_ref().unwrap().json::<Status>().unwrap()
}

fn spec(world: &World, name: &str) -> Arc<MeshService> {
    world.get(Kind::MeshService, "default", name).unwrap().spec.json::<MeshService>().unwrap()
}

fn tls(world: &World) -> Option<TlsStatus> {
    status(world, "web").tls.status
}

/// Counts and readiness as Kuma's zone found them in the same resources.
#[test]
fn services_fare_as_they_were_recorded_to() {
    let mut compared = 0;
    for (scenario, documents) in recorded() {
        let own: Vec<Value> = documents
            .iter()
            .filter(|document| document["type"] == "MeshService" && document["labels"][model::labels::ORIGIN] == "zone")
            .cloned()
            .collect();
        let stripped = documents.into_iter().map(|mut document| {
            if document["type"] == "MeshService" {
                document.as_object_mut().unwrap().remove("status");
            }
            // Recorded without them; all proxies of the zone were connected.
            if document["type"] == "DataplaneInsight" {
                document["subscriptions"] = json!([{"id": "1", "connectTime": "2026-01-01T00:00:00Z"}]);
            }
            document
        });
        let world = World::new(&settings(), &stripped.collect::<Vec<_>>());
        for document in own {
            let name = document["name"].as_str().unwrap();
            let found = status(&world, name);
            let proxies = serde_json::to_value(&found.dataplane_proxies).unwrap();
            assert_eq!(proxies, document["status"]["dataplaneProxies"], "{scenario}: {name}");
            assert_eq!(serde_json::to_value(&found.tls).unwrap(), document["status"]["tls"], "{scenario}: {name}");
            let found = serde_json::to_value(&*spec(&world, name)).unwrap();
            assert_eq!(found, document["spec"], "{scenario}: {name}");
            compared += 1;
        }
    }
    assert!(compared > 30, "{compared}");
}

#[test]
fn a_service_is_available_while_a_dataplane_has_all_its_ports() {
    let mut world =
        World::new(&settings(), &[mesh(json!({})), web("a", ["Ready", "NotReady"]), web("b", ["Ready"; 2])]);
    let counts = |world: &World| {
        let counts = status(world, "web").dataplane_proxies.clone();
        (counts.connected, counts.healthy, counts.total)
    };
    assert_eq!((counts(&world), spec(&world, "web").state.clone()), ((0, 1, 2), Some(State::Available)));
    world.apply(&[insight("a", true, ""), insight("b", false, "")]);
    assert_eq!(counts(&world), (1, 1, 2));
    world.apply(&[web("b", ["NotReady"; 2])]);
    assert_eq!((counts(&world), spec(&world, "web").state.clone()), ((1, 0, 2), Some(State::Unavailable)));
    world.remove(Kind::Dataplane, "default", "a");
    world.remove(Kind::Dataplane, "default", "b");
    assert_eq!(counts(&world), (0, 0, 0));
}

#[test]
fn mtls_is_ready_once_every_proxy_has_a_certificate_and_stays_so() {
    let mut world = World::new(&settings(), &[mesh(json!({})), web("a", ["Ready"; 2]), web("b", ["Ready"; 2])]);
    assert_eq!(tls(&world), Some(TlsStatus::NotReady));
    world.apply(&[mtls(), insight("a", true, "ca")]);
    assert_eq!(tls(&world), Some(TlsStatus::NotReady));
    world.apply(&[insight("b", true, "another-ca")]);
    assert_eq!(tls(&world), Some(TlsStatus::Ready));
    world.apply(&[web("c", ["Ready"; 2])]);
    assert_eq!(tls(&world), Some(TlsStatus::Ready), "a new proxy has it from its start");
    world.apply(&[mesh(json!({}))]);
    assert_eq!(tls(&world), Some(TlsStatus::NotReady));
}

#[test]
fn identities_are_tags_and_the_names_of_mesh_identities() {
    let identity = |ready: &str| {
        json!({"type": "MeshIdentity", "mesh": "default", "name": "id", "spec": {"selector": {"dataplane": {}}},
            "status": {"conditions": [{"type": "Ready", "status": ready, "reason": "x", "message": ""}]}})
    };
    let gateway = json!({"type": "Dataplane", "mesh": "default", "name": "g", "networking": {"address": "10.0.0.3",
        "gateway": {"tags": {"kuma.io/service": "web"}}}});
    let mut world = World::new(&settings(), &[mesh(json!({})), web("a", ["Ready"; 2]), gateway, identity("False")]);
    let identities = |world: &World| -> Vec<String> {
        spec(world, "web").identities.iter().flatten().map(|identity| identity.value.clone()).collect()
    };
    assert_eq!(identities(&world), ["web"]);
    world.apply(&[identity("True")]);
    assert_eq!(identities(&world), ["web", "spiffe://default.east.mesh.local/workload/a"]);
    assert_eq!((tls(&world), status(&world, "web").dataplane_proxies.total), (Some(TlsStatus::NotReady), 1));
    let trust = |domain: &str| json!({"type": "MeshTrust", "mesh": "default", "name": "t", "spec": {"trustDomain": domain, "caBundles": []}});
    world.apply(&[trust("another")]);
    assert_eq!(tls(&world), Some(TlsStatus::NotReady));
    world.apply(&[trust("default.east.mesh.local")]);
    assert_eq!(tls(&world), Some(TlsStatus::Ready));
}

/// Services that users make choose proxies by any tags, or one by its name.
#[test]
fn services_of_users_are_looked_after_too() {
    let service = |name: &str, selector: Value, target: Value| {
        json!({"type": "MeshService", "mesh": "default", "name": name, "spec": {"state": "Unavailable",
            "selector": selector, "ports": [{"port": 1, "targetPort": target, "appProtocol": "tcp"}]}})
    };
    let documents = [
        mesh(json!({})),
        service("by-tag", json!({"dataplaneTags": {"app": "x"}}), json!("main")),
        service("by-ref", json!({"dataplaneRef": {"name": "a"}}), json!(80)),
        service("by-nothing", json!({}), json!(80)),
    ];
    let mut world = World::new(&settings(), &documents);
    world.apply(&[json!({"type": "Dataplane", "mesh": "default", "name": "a", "networking": {"address": "10.0.0.2",
        "inbound": [{"name": "main", "port": 80, "tags": {"kuma.io/service": "web", "app": "x"}}]}})]);
    let healthy =
        |world: &World| ["by-tag", "by-ref", "by-nothing"].map(|name| status(world, name).dataplane_proxies.healthy);
    assert_eq!(healthy(&world), [1, 1, 0]);
    world.remove(Kind::Dataplane, "default", "a");
    assert_eq!(healthy(&world), [0, 0, 0]);
}
