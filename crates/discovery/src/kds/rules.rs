//! What flows where (kds-wire 4).

use std::collections::BTreeSet;
use std::sync::Arc;

use kds_proto::kuma::mesh::v1alpha1::ZoneIngress;
use kds_proto::kuma::system::v1alpha1::Zone;
use model::spec::HostnameGenerator;
use model::{Key, Kind, Resource, Snapshot, labels};
use serde_json::Value;

use super::node::Features;

/// Kinds that a zone asks its global for (43), without those that are switched off.
pub fn down_kinds(off: &BTreeSet<Kind>) -> impl Iterator<Item = Kind> {
    Kind::ALL.iter().copied().filter(|kind| kind.info().sync.global_to_zone() && !off.contains(kind))
}

/// Kinds that a global asks its zones for (29), without those that are switched off.
pub fn up_kinds(off: &BTreeSet<Kind>) -> impl Iterator<Item = Kind> {
    Kind::ALL.iter().copied().filter(|kind| kind.info().sync.zone_to_global() && !off.contains(kind))
}

/// The zone at the other end of a stream, as the global sees it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its name, which it has proven.
    pub zone: Arc<str>,
    /// What it can do.
    pub features: Features,
}

/// The only Config that zones get.
const CLUSTER_ID: &str = "kuma-cluster-id";

/// GlobalSecrets that zones do not get.
const KEPT_BACK: [&str; 4] = ["envoy-admin-ca", "admin-user-token", "inter-cp-ca", "user-token-revocations"];
const KEPT_BACK_KEYS: &str = "user-token-signing-key";

/// Whether the author keeps a resource from being sent, in either direction (KDS-46).
pub fn is_kept_home(resource: &Resource) -> bool {
    resource.meta.labels.get(labels::KDS_SYNC) == Some("disabled")
}

/// Whether a control plane of this origin made a resource itself.
fn is_own(resource: &Resource, origin: &str) -> bool {
    resource.meta.labels.get(labels::ORIGIN).is_none_or(|label| label.is_empty() || label == origin)
}

/// Whether the global sends a resource to a zone (kds-wire 4.4). `configuration` is of the same moment.
pub fn goes_down(resource: &Resource, peer: &Peer, configuration: &Snapshot) -> bool {
    let (kind, name) = (resource.kind(), &*resource.meta.key.name);
    let info = kind.info();
    if is_kept_home(resource) {
        return false;
    }
    match kind {
        Kind::Config => return name == CLUSTER_ID,
        Kind::GlobalSecret if KEPT_BACK.contains(&name) || name.starts_with(KEPT_BACK_KEYS) => return false,
        Kind::HostnameGenerator if !peer.features.hg_mz_selector && selects_multi_zone(resource) => return false,
        _ => {}
    }
    if is_own(resource, labels::ORIGIN_GLOBAL) {
        let made_here = info.sync.provided_by_global() && info.sync.global_to_zone();
        return made_here && takes_target_ref(resource, peer);
    }
    info.sync.across_zones() && crosses(resource, peer, configuration)
}

/// Whether a zone's resource goes on to another zone.
fn crosses(resource: &Resource, peer: &Peer, configuration: &Snapshot) -> bool {
    let owner = owner_zone(resource);
    if owner == *peer.zone || is_disabled(&owner, configuration) {
        return false;
    }
    if resource.kind().info().policy.is_none() {
        return true;
    }
    let Some(spec) = json(resource) else { return false };
    let target_ref = &spec["targetRef"];
    let subset_of = (target_ref["kind"] == "MeshSubset").then(|| target_ref["tags"]["kuma.io/zone"].as_str()).flatten();
    peer.features.producer_policy_flow
        && takes_target_ref(resource, peer)
        && resource.meta.labels.get(labels::POLICY_ROLE) == Some(PRODUCER)
        && role(&spec, resource) == Some(PRODUCER)
        && subset_of.is_none_or(|zone| *zone == *peer.zone)
}

/// The zone that a resource is of (kds-wire 4.4, step 5).
pub fn owner_zone(resource: &Resource) -> String {
    if resource.kind() == Kind::ZoneIngress
        && let Ok(ingress) = resource.spec.message::<ZoneIngress>()
    {
        return ingress.zone.clone();
    }
    let named = || resource.meta.key.name.split('.').next().unwrap_or_default();
    resource.meta.zone().unwrap_or_else(named).to_owned()
}

/// Whether a zone's Zone object says `enabled: false`; one that cannot be read does not.
pub fn is_disabled(zone: &str, configuration: &Snapshot) -> bool {
    let stored = configuration.get(&Key::global(Kind::Zone, zone));
    stored.and_then(|stored| stored.spec.message::<Zone>().ok()).is_some_and(|zone| zone.enabled == Some(false))
}

/// Older zones do not know policies without a `targetRef` of their own.
fn takes_target_ref(resource: &Resource, peer: &Peer) -> bool {
    let is_policy = resource.kind().info().policy.is_some_and(|policy| policy.target_ref);
    peer.features.optional_target_ref || !is_policy || json(resource).is_some_and(|spec| spec["targetRef"].is_object())
}

fn selects_multi_zone(resource: &Resource) -> bool {
    let spec = resource.spec.json::<HostnameGenerator>();
    spec.is_ok_and(|spec| spec.selector.mesh_multi_zone_service.is_some())
}

fn json(resource: &Resource) -> Option<Value> {
    serde_json::from_slice(resource.spec.bytes()).ok()
}

/// The role of policies that a service's owner makes for its callers.
const PRODUCER: &str = "producer";

/// The role that a policy in a namespace has by its content (kds-wire 4.7); `None` when it has none.
fn role(spec: &Value, resource: &Resource) -> Option<&'static str> {
    let namespace = resource.meta.labels.get(labels::NAMESPACE).filter(|namespace| !namespace.is_empty())?;
    let items = |name: &str| spec[name].as_array().map_or(&[][..], Vec::as_slice);
    let (to, from) = (items("to"), items("from"));
    if to.is_empty() || !from.is_empty() {
        return None;
    }
    let is_producer = |item: &Value| {
        let target = &item["targetRef"];
        let of_service = ["MeshService", "MeshHTTPRoute"].iter().any(|kind| target["kind"] == *kind);
        let named = target["name"].as_str().is_some_and(|name| !name.is_empty());
        let here = target["namespace"].as_str().is_none_or(|of| of.is_empty() || of == namespace);
        of_service && named && here
    };
    to.iter().all(is_producer).then_some(PRODUCER)
}

/// Whether a zone sends a resource to its global: its own, unless the author keeps it (kds-wire 4.4, KDS-45).
pub fn goes_up(resource: &Resource) -> bool {
    resource.kind().info().sync.zone_to_global() && !is_kept_home(resource) && is_own(resource, labels::ORIGIN_ZONE)
}

#[cfg(test)]
mod tests {
    use model::{Change, Labels, Payload};
    use serde_json::json;

    use super::*;

    fn resource(kind: Kind, name: &str, spec: Value, pairs: &[(&str, &str)]) -> Resource {
        let spec = (kind.info().codec.from_json)(spec).unwrap();
        let labels: Labels = pairs.iter().copied().collect();
        Resource::new(Key::new(kind, "default", name), labels, Payload::from_bytes(spec))
    }

    fn peer(zone: &str, features: Features) -> Peer {
        Peer { zone: zone.into(), features }
    }

    fn goes(resource: &Resource, zone: &str) -> bool {
        goes_down(resource, &peer(zone, Features::ALL), &Snapshot::empty())
    }

    const OF_EAST: &[(&str, &str)] = &[(labels::ORIGIN, "zone"), (labels::ZONE, "east")];

    /// KDS-46, KDS-50: what the global keeps to itself.
    #[test]
    fn some_things_never_leave_the_global() {
        for (kind, name, goes_down) in [
            (Kind::Config, "kuma-cluster-id", true),
            (Kind::Config, "cp-catalog", false),
            (Kind::GlobalSecret, "zone-token-signing-key-1", true),
            (Kind::GlobalSecret, "zone-token-revocations", true),
            (Kind::GlobalSecret, "anything", true),
            (Kind::GlobalSecret, "user-token-signing-key-1", false),
            (Kind::GlobalSecret, "user-token-revocations", false),
            (Kind::GlobalSecret, "admin-user-token", false),
            (Kind::GlobalSecret, "inter-cp-ca", false),
            (Kind::GlobalSecret, "envoy-admin-ca", false),
            (Kind::Zone, "east", false),
        ] {
            assert_eq!(goes(&resource(kind, name, json!({}), &[]), "east"), goes_down, "{kind} {name}");
        }
        let kept = resource(Kind::MeshTimeout, "a", json!({}), &[(labels::KDS_SYNC, "disabled")]);
        assert!(!goes(&kept, "east") && !goes_up(&kept));
        assert!(goes(&resource(Kind::MeshTimeout, "a", json!({}), &[(labels::KDS_SYNC, "x")]), "east"));
    }

    /// KDS-47, KDS-48: a zone's ingresses and services go to the others, and not back.
    #[test]
    fn ingresses_and_services_cross_to_other_zones() {
        let ingress = resource(Kind::ZoneIngress, "i", json!({"zone": "east"}), OF_EAST);
        let service = resource(Kind::MeshService, "s", json!({}), OF_EAST);
        for crossing in [&ingress, &service] {
            assert!(goes(crossing, "west") && !goes(crossing, "east"));
        }
        for kind in [Kind::Dataplane, Kind::ZoneEgress, Kind::MeshExternalService, Kind::MeshTrust, Kind::Workload] {
            let labels: Labels = OF_EAST.iter().copied().collect();
            let other = Resource::new(Key::new(kind, "default", "x"), labels, Payload::default());
            assert!(!goes(&other, "west"), "{kind}");
        }
    }

    /// KDS-21: those of a disabled zone stay; a zone whose object is missing counts as enabled.
    #[test]
    fn nothing_of_a_disabled_zone_crosses() {
        let service = resource(Kind::MeshService, "s", json!({}), OF_EAST);
        let with = |enabled: Value| {
            let zone = resource(Kind::Zone, "east", enabled, &[]);
            Snapshot::empty().apply(1, [Change::Put(Arc::new(zone))])
        };
        let west = peer("west", Features::ALL);
        assert!(!goes_down(&service, &west, &with(json!({"enabled": false}))));
        assert!(goes_down(&service, &west, &with(json!({"enabled": true}))));
        assert!(goes_down(&service, &west, &with(json!({}))));
    }

    /// KDS-49: of a zone's policies only those that producers made, and only where they are for.
    #[test]
    fn policies_of_producers_cross() {
        let to = |target: Value| json!({"to": [{"targetRef": target, "default": {}}]});
        let with = |spec: Value, role: &str| {
            let mut labels = OF_EAST.to_vec();
            labels.extend([(labels::NAMESPACE, "shop"), (labels::POLICY_ROLE, role)]);
            resource(Kind::MeshTimeout, "t", spec, &labels)
        };
        let service = json!({"kind": "MeshService", "name": "web"});
        assert!(goes(&with(to(service.clone()), "producer"), "west"));
        assert!(!goes(&with(to(service.clone()), "producer"), "east"));
        assert!(!goes(&with(to(service.clone()), "consumer"), "west"));
        assert!(!goes(&with(to(json!({"kind": "Mesh"})), "producer"), "west"));
        let elsewhere = json!({"kind": "MeshService", "name": "web", "namespace": "other"});
        assert!(!goes(&with(to(elsewhere), "producer"), "west"));
        let mut aimed = to(service.clone());
        aimed["targetRef"] = json!({"kind": "MeshSubset", "tags": {"kuma.io/zone": "west"}});
        assert!(goes(&with(aimed.clone(), "producer"), "west") && !goes(&with(aimed, "producer"), "north"));
        let unaware = peer("west", Features { producer_policy_flow: false, ..Features::ALL });
        assert!(!goes_down(&with(to(service), "producer"), &unaware, &Snapshot::empty()));
    }

    #[test]
    fn older_zones_do_not_get_what_they_do_not_know() {
        let bare = resource(Kind::MeshTimeout, "t", json!({"to": []}), &[]);
        let aimed = resource(Kind::MeshTimeout, "t", json!({"targetRef": {"kind": "Mesh"}}), &[]);
        let older = peer("east", Features::default());
        let goes_to_older = |resource: &Resource| goes_down(resource, &older, &Snapshot::empty());
        assert!(goes_to_older(&aimed) && !goes_to_older(&bare) && goes(&bare, "east"));
        let selector = json!({"selector": {"meshMultiZoneService": {}}, "template": "x"});
        let generator = resource(Kind::HostnameGenerator, "g", selector, &[]);
        assert!(!goes_to_older(&generator) && goes(&generator, "east"));
    }

    /// KDS-45: a zone sends what it made, not what the global sent.
    #[test]
    fn a_zone_sends_its_own() {
        assert!(goes_up(&resource(Kind::Dataplane, "d", json!({}), &[])));
        assert!(goes_up(&resource(Kind::MeshTimeout, "t", json!({}), &[(labels::ORIGIN, "zone")])));
        assert!(!goes_up(&resource(Kind::MeshTimeout, "t", json!({}), &[(labels::ORIGIN, "global")])));
        assert!(!goes_up(&resource(Kind::Mesh, "m", json!({}), &[])));
    }
}
