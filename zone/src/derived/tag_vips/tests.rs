use serde_json::{Value, json};

use super::super::Settings as All;
use super::super::tests::{World, settings};
use super::*;

fn mesh() -> Value {
    json!({"type": "Mesh", "name": "default"})
}

fn dataplane(name: &str, inbounds: Value) -> Value {
    json!({"type": "Dataplane", "mesh": "default", "name": name, "networking": {"address": "10.0.0.2", "inbound": inbounds}})
}

fn service(name: &str) -> Value {
    json!({"port": 80, "tags": {"kuma.io/service": name, "kuma.io/zone": "east"}})
}

fn view(world: &World) -> View {
    View::stored(&world.stored.configuration, "default")
}

/// Names with their addresses, a line each.
fn names(world: &World) -> Vec<String> {
    view(world).iter().map(|(name, outbound)| format!("{name} {}", outbound.address)).collect()
}

#[test]
fn services_here_and_in_other_zones_have_names() {
    let ingress = json!({"type": "ZoneIngress", "name": "west", "zone": "west", "networking": {"port": 1},
        "availableServices": [
            {"mesh": "default", "instances": 1, "tags": {"kuma.io/service": "far"}},
            {"mesh": "other", "instances": 1, "tags": {"kuma.io/service": "farther"}}]});
    let inbounds = json!([service("web"), {"port": 81, "state": "Ignored", "tags": {"kuma.io/service": "ignored"}},
        {"port": 49151, "tags": {"kuma.io/service": "none"}},
        {"port": 82, "state": "NotReady", "tags": {"kuma.io/service": "soon"}}]);
    let mut world = World::new(&settings(), &[mesh(), ingress, dataplane("a", inbounds)]);
    assert_eq!(names(&world), ["0:far 240.0.0.0", "0:soon 240.0.0.1", "0:web 240.0.0.2"]);
    let config = world.get(Kind::Config, "", "kuma-default-dns-vips").unwrap();
    let text = &config.spec.message::<Config>().unwrap().config;
    assert!(text.starts_with(
        r#"{"0:far":{"address":"240.0.0.0","outbounds":[{"Port":0,"TagSet":{"kuma.io/service":"far"},"Origin":"service"}]}"#
    ));
    // Addresses stay; a second instance is no change.
    let written = world.written.len();
    world.apply(&[dataplane("b", json!([service("web")]))]);
    assert_eq!(world.written.len(), written);
    world.apply(&[dataplane("b", json!([service("api")]))]);
    assert_eq!(names(&world), ["0:api 240.0.0.3", "0:far 240.0.0.0", "0:soon 240.0.0.1", "0:web 240.0.0.2"]);
    world.remove(Kind::ZoneIngress, "", "west");
    world.remove(Kind::Dataplane, "default", "a");
    assert_eq!(names(&world), ["0:api 240.0.0.3"]);
}

#[test]
fn services_outside_have_the_name_of_their_host_too() {
    let external = |name: &str, service: &str, address: &str, more: bool| {
        json!({"type": "ExternalService", "mesh": "default", "name": name, "tags": {"kuma.io/service": service},
            "networking": {"address": address, "disableHostDNSEntry": more}})
    };
    let documents = [
        mesh(),
        external("a", "httpbin", "httpbin.org:443", false),
        external("b", "ip", "192.0.2.1:80", false),
        external("c", "hidden", "hidden.org:80", true),
        external("d", "second", "httpbin.org:443", false),
    ];
    let world = World::new(&settings(), &documents);
    let expected = [
        "0:hidden 240.0.0.0",
        "0:httpbin 240.0.0.1",
        "0:ip 240.0.0.2",
        "0:second 240.0.0.3",
        "1:192.0.2.1 192.0.2.1",
        "1:httpbin.org 240.0.0.4",
    ];
    assert_eq!(names(&world), expected);
    let view = view(&world);
    let host = view.iter().find(|(name, _)| name.name == "httpbin.org").unwrap().1;
    assert_eq!((host.outbounds[0].port, host.outbounds[0].origin.as_str()), (443, "external-service:a"));
}

#[test]
fn virtual_outbounds_make_names_of_tags() {
    let asked = |name: &str, selector: Value, host: &str, port: &str| {
        json!({"type": "VirtualOutbound", "mesh": "default", "name": name, "selectors": [{"match": selector}],
            "conf": {"host": host, "port": port, "parameters": [
                {"name": "service", "tagKey": "kuma.io/service"}, {"name": "version"}, {"name": "port"}]}})
    };
    let instance =
        |version: &str| json!([{"port": 80, "tags": {"kuma.io/service": "web", "version": version, "port": "8080"}}]);
    let by_version =
        asked("v", json!({"kuma.io/service": "*", "version": "*"}), "{{.version}}.{{.service}}.x", "{{.port}}");
    let general = asked("g", json!({"kuma.io/service": "*"}), "{{.service}}.x", "80");
    let failing = asked("f", json!({"kuma.io/service": "*"}), "{{.service}}.y", "{{.nope}}");
    let world = World::new(
        &settings(),
        &[mesh(), by_version, general, failing, dataplane("a", instance("v1")), dataplane("b", instance("v2"))],
    );
    let expected = ["0:web 240.0.0.0", "2:v1.web.x 240.0.0.1", "2:v2.web.x 240.0.0.2", "2:web.x 240.0.0.3"];
    assert_eq!(names(&world), expected);
    let view = view(&world);
    let made = view.iter().find(|(name, _)| name.name == "v1.web.x").unwrap().1.outbounds[0].clone();
    let tags = [("kuma.io/service", "web"), ("port", "8080"), ("version", "v1")];
    assert_eq!(made.tag_set, tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    assert_eq!((made.port, made.origin.as_str()), (8080, "virtual-outbound:v"));
    // Two versions want one name with other tags: the first keeps it.
    assert_eq!(view.iter().find(|(name, _)| name.name == "web.x").unwrap().1.outbounds.len(), 1);
}

#[test]
fn listeners_for_other_meshes_have_a_name_in_every_mesh() {
    let gateway = json!({"type": "MeshGateway", "mesh": "other", "name": "edge", "tags": {"a": "1"},
        "selectors": [{"match": {"kuma.io/service": "edge"}}], "conf": {"listeners": [
            {"port": 80, "protocol": "HTTP", "crossMesh": true},
            {"port": 81, "protocol": "HTTP", "crossMesh": true, "hostname": "edge.example"},
            {"port": 82, "protocol": "HTTP"}]}});
    let other = json!({"type": "Mesh", "name": "other"});
    let world = World::new(&settings(), &[mesh(), other, gateway]);
    assert_eq!(names(&world), ["2:edge.example 240.0.0.0", "2:internal.edge.other.mesh 240.0.0.1"]);
    let tags = view(&world).iter().next().unwrap().1.outbounds[0].tag_set.clone();
    assert_eq!(tags.get(MESH).map(String::as_str), Some("other"));
}

#[test]
fn names_of_services_can_be_switched_off() {
    let mut off = settings();
    off.names.of_services = false;
    let off: All = off;
    assert_eq!(names(&World::new(&off, &[mesh(), dataplane("a", json!([service("web")]))])), [""; 0]);
}
