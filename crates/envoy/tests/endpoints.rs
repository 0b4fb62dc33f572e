//! Endpoints and weights of a service that several zones have (zone-dataplane 7): the worked examples of the reference in
//! Kuma's numbers, and the shares that ours promise.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy::view::View;
use envoy::{Settings, Weights};
use model::labels::Labels;
use model::resource::{Key, Payload};
use model::spec::tags::Tags;
use model::{Change, Kind, Resource, Snapshot};
use serde_json::{Value, json};

fn resource(kind: Kind, name: &str, content: Value) -> Change {
    let bytes = (kind.info().codec.from_json)(content).unwrap();
    let key = Key::new(kind, "default", name);
    Change::Put(Arc::new(Resource::new(key, Labels::default(), Payload::from_bytes(bytes))))
}

fn mesh(settings: Value) -> Change {
    let mut mesh = json!({"mtls": {"enabledBackend": "ca", "backends": [{"name": "ca", "type": "builtin"}]}});
    mesh.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    resource(Kind::Mesh, "default", mesh)
}

/// Instances of `backend` in the own zone, `zone-1`.
fn local(count: usize) -> Vec<Change> {
    let tags = json!({"kuma.io/service": "backend", "kuma.io/zone": "zone-1"});
    let dataplane = |n: usize| {
        let inbound = json!([{"port": 80, "tags": tags}]);
        resource(
            Kind::Dataplane,
            &format!("b{n}"),
            json!({"networking": {"address": format!("10.0.0.{n}"), "inbound": inbound}}),
        )
    };
    (1..=count).map(dataplane).collect()
}

/// An ingress of a zone that has so many instances of each version of `backend`.
fn ingress(name: &str, zone: &str, address: &str, versions: &[(&str, u32)]) -> Change {
    let offered: Vec<Value> = versions
        .iter()
        .map(|(version, instances)| {
            let tags = json!({"kuma.io/service": "backend", "kuma.io/zone": zone, "version": version});
            json!({"tags": tags, "instances": instances, "mesh": "default"})
        })
        .collect();
    let networking = json!({"address": address, "port": 10001, "advertisedAddress": address, "advertisedPort": 10001});
    resource(Kind::ZoneIngress, name, json!({"zone": zone, "networking": networking, "availableServices": offered}))
}

/// Zones 2 and 3 of the reference's examples: one instance, and five.
fn others() -> Vec<Change> {
    vec![ingress("i2", "zone-2", "192.0.2.2", &[("v1", 1)]), ingress("i3", "zone-3", "192.0.2.3", &[("v1", 5)])]
}

/// Address, weight and priority of every endpoint of `backend`, in Kuma's order.
fn endpoints(weights: Weights, changes: Vec<Change>) -> Vec<(String, u32, u32)> {
    let snapshot = Snapshot::empty().apply(1, changes);
    let settings = Settings { weights, ..Settings::new("zone-1") };
    let view = View::new(&snapshot, &settings, "default").unwrap();
    let endpoints = view.service_endpoints("backend", &Tags::new());
    let mut shown: Vec<_> = endpoints
        .into_iter()
        .map(|endpoint| (endpoint.address, endpoint.weight, endpoint.locality.map_or(0, |locality| locality.priority)))
        .collect();
    shown.sort();
    shown
}

fn of(expected: &[(&str, u32, u32)]) -> Vec<(String, u32, u32)> {
    expected.iter().map(|(address, weight, priority)| ((*address).to_owned(), *weight, *priority)).collect()
}

/// DP-44: example A.
#[test]
fn local_endpoints_weigh_as_many_as_there_are_ingresses_in_kumas_numbers() {
    let changes = [vec![mesh(json!({}))], local(2), others()].concat();
    let expected = of(&[("10.0.0.1", 2, 0), ("10.0.0.2", 2, 0), ("192.0.2.2", 1, 0), ("192.0.2.3", 5, 0)]);
    assert_eq!(endpoints(Weights::Kuma, changes), expected);
}

/// DP-45: example B, and its variant with one shared address.
#[test]
fn a_second_ingress_counts_unless_it_shares_its_address() {
    let with = |address: &str| {
        let second = ingress("i3b", "zone-3", address, &[("v1", 5)]);
        let found = endpoints(Weights::Kuma, [vec![mesh(json!({}))], local(2), others(), vec![second]].concat());
        found.into_iter().find(|(address, ..)| address == "10.0.0.1").unwrap().1
    };
    assert_eq!(with("192.0.2.33"), 3);
    assert_eq!(with("192.0.2.3"), 2);
}

/// DP-46
#[test]
fn without_an_address_or_without_mtls_there_is_no_remote_endpoint() {
    let nowhere = json!({"zone": "zone-2", "networking": {"address": "192.0.2.2", "port": 10001},
        "availableServices": [{"tags": {"kuma.io/service": "backend"}, "instances": 1, "mesh": "default"}]});
    let changes = [vec![mesh(json!({})), resource(Kind::ZoneIngress, "i2", nowhere)], local(1)].concat();
    assert_eq!(endpoints(Weights::Kuma, changes), of(&[("10.0.0.1", 1, 0)]));
    let off = resource(Kind::Mesh, "default", json!({}));
    assert_eq!(endpoints(Weights::Kuma, [vec![off], local(1), others()].concat()), of(&[("10.0.0.1", 1, 0)]));
}

/// DP-47
#[test]
fn an_ingress_without_services_does_not_hide_its_sibling() {
    let silent = ingress("i1-new", "zone-2", "192.0.2.2", &[]);
    let changes = [vec![mesh(json!({})), silent], others()].concat();
    assert_eq!(endpoints(Weights::Kuma, changes), of(&[("192.0.2.2", 1, 0), ("192.0.2.3", 5, 0)]));
}

/// DP-48
#[test]
fn other_zones_wait_when_the_mesh_is_aware_of_localities() {
    let aware = mesh(json!({"routing": {"localityAwareLoadBalancing": true}}));
    let found = endpoints(Weights::Kuma, [vec![aware], local(1), others()].concat());
    assert_eq!(found.iter().map(|(.., priority)| *priority).collect::<Vec<_>>(), [0, 1, 1]);
}

/// DP-54: endpoints of other zones are those of the egress, of weight 1 each.
#[test]
fn through_an_egress_other_zones_have_its_address() {
    let egress = resource(Kind::ZoneEgress, "e", json!({"networking": {"address": "10.0.0.99", "port": 10002}}));
    let through = mesh(json!({"routing": {"zoneEgress": true}}));
    let found = endpoints(Weights::Kuma, [vec![through, egress], local(1), others()].concat());
    assert_eq!(found, of(&[("10.0.0.1", 2, 0), ("10.0.0.99", 1, 0), ("10.0.0.99", 1, 0)]));
}

/// Another zone: its instances by version, and at how many addresses they are.
type Other = (&'static [u32], usize);

/// The weight of each zone, by the number of its instances, in any table of zones.
#[test]
fn exact_weights_are_shares_of_instances() {
    // Instances here; of every other zone: instances by version, and addresses.
    let tables: &[(usize, &[Other])] = &[
        (2, &[(&[1], 1), (&[5], 1)]),
        (1, &[(&[3], 2), (&[2], 3), (&[7], 1)]),
        (3, &[(&[3, 2], 1), (&[1, 1, 1], 2)]),
        (0, &[(&[4], 3)]),
    ];
    for (here, zones) in tables {
        let mut changes = vec![mesh(json!({}))];
        changes.extend(local(*here));
        for (zone, (versions, addresses)) in zones.iter().enumerate() {
            let names: Vec<String> = (0..versions.len()).map(|n| format!("v{n}")).collect();
            let offered: Vec<(&str, u32)> = names.iter().map(String::as_str).zip(versions.iter().copied()).collect();
            for n in 0..*addresses {
                let (name, address) = (format!("i{zone}-{n}"), format!("192.0.{zone}.{n}"));
                changes.push(ingress(&name, &format!("zone-{}", zone + 2), &address, &offered));
            }
        }
        let mut by_zone: BTreeMap<String, u64> = BTreeMap::new();
        for (address, weight, _) in endpoints(Weights::Exact, changes) {
            let zone = address.rsplit_once('.').unwrap().0.to_owned();
            *by_zone.entry(zone).or_default() += u64::from(weight);
        }
        let total: u64 = by_zone.values().sum();
        let instances = |versions: &[u32]| u64::from(versions.iter().sum::<u32>());
        let all = *here as u64 + zones.iter().map(|(versions, _)| instances(versions)).sum::<u64>();
        for (zone, (versions, _)) in zones.iter().enumerate() {
            let weight = by_zone[&format!("192.0.{zone}")];
            assert_eq!(weight * all, instances(versions) * total, "{here} {zones:?}: {by_zone:?}");
        }
    }
}
