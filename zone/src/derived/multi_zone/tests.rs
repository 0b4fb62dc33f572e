use serde_json::json;

use super::super::tests::{World, recorded, settings};
use super::*;

fn status(world: &World, name: &str) -> Arc<Status> {
    let service = world.get(Kind::MeshMultiZoneService, "default", name).unwrap();
    service.status.as_ref().unwrap().json::<Status>().unwrap()
}

/// DP-59: the services that Kuma's zone found in the same resources.
#[test]
fn services_are_matched_as_they_were_recorded() {
    let mut compared = 0;
    for (scenario, documents) in recorded() {
        let stripped = documents.iter().cloned().map(|mut document| {
            if document["type"] == "MeshMultiZoneService" {
                document.as_object_mut().unwrap().remove("status");
            }
            document
        });
        let world = World::new(&settings(), &stripped.collect::<Vec<_>>());
        for document in documents.iter().filter(|document| document["type"] == "MeshMultiZoneService") {
            let found = serde_json::to_value(&*status(&world, document["name"].as_str().unwrap())).unwrap();
            for member in ["meshServices", "conditions"] {
                assert_eq!(found[member], document["status"][member], "{scenario}");
            }
            compared += 1;
        }
    }
    assert!(compared > 20, "{compared}");
}

#[test]
fn services_come_and_go() {
    let service = |name: &str, zone: &str, app: &str| {
        json!({"type": "MeshService", "mesh": "default", "name": name, "labels": {"kuma.io/zone": zone, "app": app,
            "kuma.io/display-name": "web", "kuma.io/origin": "global"},
            "spec": {"selector": {"dataplaneTags": {"a": "b"}}, "ports": []}})
    };
    let multi = json!({"type": "MeshMultiZoneService", "mesh": "default", "name": "all",
        "spec": {"selector": {"meshService": {"matchLabels": {"app": "x"}}}, "ports": [{"port": 80, "appProtocol": "tcp"}]}});
    let mut elsewhere = service("web-c", "south", "x");
    elsewhere["mesh"] = json!("other");
    let meshes = ["default", "other"].map(|name| json!({"type": "Mesh", "name": name}));
    let documents = [&meshes[..], &[multi, elsewhere, service("web-a", "west", "y")]].concat();
    let mut world = World::new(&settings(), &documents);
    let zones = |world: &World| -> Vec<String> {
        status(world, "all").mesh_services.iter().map(|found| format!("{}/{}", found.name, found.zone)).collect()
    };
    let told = |world: &World| {
        let condition = status(world, "all").conditions[0].clone();
        (condition.status, condition.reason, condition.message)
    };
    assert_eq!(zones(&world), [""; 0]);
    let nothing = "Selector does not match any MeshService in this zone".to_owned();
    assert_eq!(told(&world), (ConditionStatus::False, "NoMatchesFound".to_owned(), nothing));
    world.apply(&[service("web-a", "west", "x"), service("web-b", "north", "x")]);
    assert_eq!(zones(&world), ["web/north", "web/west"]);
    let two = "Matched 2 MeshService(s)".to_owned();
    assert_eq!(told(&world), (ConditionStatus::True, "MatchesFound".to_owned(), two));
    world.remove(Kind::MeshService, "default", "web-a");
    assert_eq!(zones(&world), ["web/north"]);
}
