use serde_json::{Value, json};

use super::super::tests::{World, recorded, settings};
use super::*;

fn generator(name: &str, origin: &str, template: &str) -> Value {
    json!({"type": "HostnameGenerator", "name": name, "labels": {"kuma.io/origin": origin},
        "spec": {"selector": {"meshService": {}}, "template": template}})
}

fn service(mesh: &str, name: &str, zone: &str) -> Value {
    json!({"type": "MeshService", "mesh": mesh, "name": name,
        "labels": {"kuma.io/display-name": "web", "kuma.io/zone": zone, "kuma.io/origin": "global"},
        "spec": {"selector": {"dataplaneTags": {"a": "b"}}, "ports": []}})
}

fn status(world: &World, mesh: &str, name: &str) -> mesh_service::Status {
    let service = world.get(Kind::MeshService, mesh, name).unwrap();
    mesh_service::Status::clone(&service.status.as_ref().unwrap().json::<mesh_service::Status>().unwrap())
}

/// Names, and reasons of the generators that gave none.
fn told(world: &World, mesh: &str, name: &str) -> Vec<String> {
    let status = status(world, mesh, name);
    let names = status.addresses.iter().map(|address| address.hostname.clone());
    let conditions = status.hostname_generators.iter().flat_map(|generator| &generator.conditions);
    let failed = conditions.filter(|condition| condition.status != ConditionStatus::True);
    names.chain(failed.map(|condition| format!("{}: {}", condition.reason, condition.message))).collect()
}

/// DP-59: the names that Kuma's zone gave to the same services.
#[test]
fn names_are_those_that_were_recorded() {
    let mut compared = 0;
    for (scenario, documents) in recorded() {
        let is_named = |document: &Value| NAMED.iter().any(|kind| document["type"] == kind.name());
        let stripped = documents.iter().cloned().map(|mut document| {
            if is_named(&document) {
                document.as_object_mut().unwrap().remove("status");
            }
            document
        });
        let world = World::new(&settings(), &stripped.collect::<Vec<_>>());
        for document in documents.iter().filter(|document| is_named(document)) {
            let key = super::super::tests::resource(document).unwrap().meta.key;
            let found = world.stored.configuration.get(&key).unwrap().status.as_ref().unwrap();
            let found: Value = serde_json::from_slice(found.bytes()).unwrap();
            for member in ["addresses", "hostnameGenerators"] {
                assert_eq!(found[member], document["status"][member], "{scenario}: {key}");
            }
            compared += 1;
        }
    }
    assert!(compared > 100, "{compared}");
}

#[test]
fn the_first_to_claim_a_name_has_it() {
    let meshes = ["default", "other"].map(|name| json!({"type": "Mesh", "name": name}));
    let same = generator("same", "global", "{{ .DisplayName }}.mesh");
    let mut world = World::new(&settings(), &[&meshes[..], &[same, service("default", "web-b", "b")]].concat());
    assert_eq!(told(&world, "default", "web-b"), ["web.mesh"]);
    world.time += chrono::TimeDelta::seconds(1);
    world.apply(&[service("default", "web-a", "a"), service("other", "web-c", "c")]);
    assert_eq!(told(&world, "default", "web-b"), ["web.mesh"], "the older has it");
    assert_eq!(told(&world, "default", "web-a"), ["Collision: Hostname collision with MeshService: web-a"]);
    assert_eq!(told(&world, "other", "web-c"), ["web.mesh"], "another mesh has names of its own");
    world.remove(Kind::MeshService, "default", "web-b");
    assert_eq!(told(&world, "default", "web-a"), ["web.mesh"]);
    // One that comes back is younger.
    world.time += chrono::TimeDelta::seconds(1);
    world.apply(&[service("default", "web-b", "b")]);
    assert_eq!(told(&world, "default", "web-b"), ["Collision: Hostname collision with MeshService: web-b"]);
}

#[test]
fn generators_of_the_zone_come_first_then_the_older() {
    let mesh = json!({"type": "Mesh", "name": "default"});
    let a = service("default", "a", "one");
    let b = service("default", "b", "two");
    let by_name = |name: &str, origin: &str, app: &str| {
        let mut generator = generator(name, origin, "fixed.mesh");
        generator["spec"]["selector"]["meshService"] = json!({"matchLabels": {"kuma.io/zone": app}});
        generator
    };
    let mut world = World::new(&settings(), &[mesh, a, b, by_name("g", "global", "one")]);
    assert_eq!(told(&world, "default", "a"), ["fixed.mesh"]);
    world.time += chrono::TimeDelta::seconds(1);
    world.apply(&[by_name("z", "zone", "two")]);
    assert_eq!(told(&world, "default", "b"), ["fixed.mesh"]);
    assert_eq!(told(&world, "default", "a"), ["Collision: Hostname collision with MeshService: a"]);
    world.remove(Kind::HostnameGenerator, "", "z");
    assert_eq!(told(&world, "default", "a"), ["fixed.mesh"]);
    assert_eq!(told(&world, "default", "b"), [""; 0]);
}

#[test]
fn what_a_template_lacks_is_told_in_the_status() {
    let mesh = json!({"type": "Mesh", "name": "default"});
    let failing = generator("g", "zone", r#"{{ label "app" }}.mesh"#);
    let mut world = World::new(&settings(), &[mesh, failing, service("default", "web", "west")]);
    let told_of = told(&world, "default", "web");
    assert!(told_of[0].starts_with("TemplateError: pre evaluation of template") && told_of.len() == 1, "{told_of:?}");
    assert!(told_of[0].ends_with(r#"error calling label: label app not found""#), "{told_of:?}");
    let mut labelled = service("default", "web", "west");
    labelled["labels"]["app"] = json!("shop");
    world.apply(&[labelled]);
    assert_eq!(told(&world, "default", "web"), ["shop.mesh"]);
}
