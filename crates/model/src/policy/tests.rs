//! Selection and precedence, rule by rule; the recorded sums are in `tests/recorded_rules.rs`.

use std::sync::Arc;

use kds_proto::kuma::mesh::v1alpha1::Dataplane;
use serde_json::{Value, json};

use super::*;
use crate::kind::Kind;
use crate::labels::{self, Labels};
use crate::resource::{Key, Meta, Payload};
use crate::snapshot::{Change, Snapshot};
use crate::spec::MeshTimeout;
use crate::spec::proto_json;

const EAST: &[(&str, &str)] = &[(labels::ORIGIN, "zone"), (labels::ZONE, "east")];
const WEST: &[(&str, &str)] = &[(labels::ORIGIN, "zone"), (labels::ZONE, "west")];
const GLOBAL: &[(&str, &str)] = &[(labels::ORIGIN, "global")];

fn timeout(name: &str, labels: &[(&str, &str)], target: Value) -> Arc<Resource> {
    let spec = json!({"targetRef": target, "to": [{"targetRef": {"kind": "Mesh"}, "default": {"idleTimeout": "1s"}}]});
    let bytes = (Kind::MeshTimeout.info().codec.from_json)(spec).unwrap();
    let key = Key::new(Kind::MeshTimeout, "default", name);
    Arc::new(Resource::new(key, labels.iter().copied().collect(), Payload::from_bytes(bytes)))
}

fn dataplane() -> Dataplane {
    let inbound = |port: u32, service: &str| json!({"port": port, "name": format!("p{port}"), "tags": {"kuma.io/service": service, "version": "v1"}});
    let networking = json!({"address": "10.0.0.1", "inbound": [inbound(80, "web"), inbound(81, "api")]});
    proto_json::from_value(&json!({"networking": networking})).unwrap()
}

/// Names of the policies that hold for a dataplane of zone east, the weakest first, and the inbounds of each.
fn matched(policies: Vec<Arc<Resource>>) -> Vec<(String, Vec<usize>)> {
    let snapshot = Snapshot::empty().apply(1, policies.into_iter().map(Change::Put));
    let labels: Labels = EAST.iter().copied().chain([("team", "a")]).collect();
    let meta = Meta::new(Key::new(Kind::Dataplane, "default", "dp"), labels);
    let proxy = Proxy { meta: &meta, dataplane: &dataplane() };
    let matched = Matched::<MeshTimeout>::new(&snapshot, proxy, false);
    matched
        .policies()
        .iter()
        .map(|policy| (policy.resource.meta.key.name.to_string(), policy.inbounds.clone()))
        .collect()
}

fn names(policies: Vec<Arc<Resource>>) -> Vec<String> {
    matched(policies).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn references_select_inbounds_by_tags_names_labels_and_sections() {
    let selected = |target: Value| matched(vec![timeout("p", EAST, target)]).pop().map(|(_, inbounds)| inbounds);
    assert_eq!(selected(json!({"kind": "Mesh"})), Some(vec![0, 1]));
    assert_eq!(selected(json!({"kind": "Mesh", "proxyTypes": ["Gateway"]})), None);
    assert_eq!(selected(json!({"kind": "MeshService", "name": "api"})), Some(vec![1]));
    assert_eq!(selected(json!({"kind": "MeshSubset", "tags": {"version": "*"}})), Some(vec![0, 1]));
    assert_eq!(selected(json!({"kind": "MeshServiceSubset", "name": "web", "tags": {"version": "v2"}})), None);
    assert_eq!(selected(json!({"kind": "Dataplane"})), Some(vec![0, 1]));
    assert_eq!(selected(json!({"kind": "Dataplane", "name": "dp", "sectionName": "p81"})), Some(vec![1]));
    assert_eq!(selected(json!({"kind": "Dataplane", "name": "other"})), None);
    assert_eq!(selected(json!({"kind": "Dataplane", "labels": {"team": "a"}})), Some(vec![0, 1]));
    assert_eq!(selected(json!({"kind": "Dataplane", "labels": {"team": "b"}})), None);
    assert_eq!(selected(json!({"kind": "MeshGateway", "name": "g"})), None);
}

#[test]
fn a_name_means_a_dataplane_of_the_policys_own_zone() {
    let by_name = || json!({"kind": "Dataplane", "name": "dp"});
    assert_eq!(names(vec![timeout("p", EAST, by_name())]), ["p"]);
    assert!(names(vec![timeout("p", GLOBAL, by_name())]).is_empty());
}

#[test]
fn policies_of_other_zones_do_not_hold_except_a_producers() {
    let producer: Vec<_> = WEST.iter().copied().chain([(labels::POLICY_ROLE, "producer")]).collect();
    let shadow: Vec<_> = EAST.iter().copied().chain([(labels::EFFECT, "shadow")]).collect();
    let mesh = || json!({"kind": "Mesh"});
    let policies = vec![
        timeout("west", WEST, mesh()),
        timeout("producer", &producer, mesh()),
        timeout("shadow", &shadow, mesh()),
        timeout("east", EAST, mesh()),
    ];
    assert_eq!(names(policies), ["east", "producer"]);
}

#[test]
fn consumers_reach_their_own_namespace_alone() {
    let consumer: Vec<_> =
        EAST.iter().copied().chain([(labels::POLICY_ROLE, "consumer"), (labels::NAMESPACE, "ns")]).collect();
    assert!(names(vec![timeout("p", &consumer, json!({"kind": "Mesh"}))]).is_empty());
}

#[test]
fn precedence_is_by_reference_then_origin_then_name() {
    let policies = vec![
        timeout("a-mesh-zone", EAST, json!({"kind": "Mesh"})),
        timeout("z-mesh", GLOBAL, json!({"kind": "Mesh"})),
        timeout("a-mesh", GLOBAL, json!({"kind": "Mesh"})),
        timeout("section", EAST, json!({"kind": "Dataplane", "name": "dp", "sectionName": "p80"})),
        timeout("labels", EAST, json!({"kind": "Dataplane", "labels": {"team": "a"}})),
        timeout("service", GLOBAL, json!({"kind": "MeshService", "name": "web"})),
        timeout("subset", GLOBAL, json!({"kind": "MeshSubset", "tags": {"version": "v1"}})),
    ];
    let expected = ["z-mesh", "a-mesh", "a-mesh-zone", "labels", "section", "subset", "service"];
    assert_eq!(names(policies), expected);
}
