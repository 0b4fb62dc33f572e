//! `MeshLoadBalancingStrategy`: which host of a destination is called (api-and-kumactl 3.20).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::kind::Kind;
use crate::number::{self, IntOrString};
use crate::resource::Meta;
use crate::spec::JsonSpec;
use crate::spec::check::{self, each};
use crate::spec::target_ref::{
    Allowed, Item, Policy, TargetKind, TargetRef, check_external_service, check_to, check_top, top_warnings,
};
use crate::spec::words::words;
use crate::violation::{Path, Violations};

/// Which host of a destination the selected proxies call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshLoadBalancingStrategy {
    /// The proxies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// What holds for calls to destinations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<Item<Conf>>>,
}

/// First the group of hosts, then the host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Conf {
    /// Which hosts come first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality_awareness: Option<LocalityAwareness>,
    /// Which of them is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
    /// What the balancers that hash look at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_policies: Option<Vec<HashPolicy>>,
}

/// Which hosts come first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalityAwareness {
    /// Treats all zones alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Inside the zone of the proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_zone: Option<LocalZone>,
    /// Among the other zones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross_zone: Option<CrossZone>,
}

/// Which hosts of the own zone come first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalZone {
    /// Tags in which the host should be like the proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity_tags: Option<Vec<AffinityTag>>,
}

/// A tag in which a host should be like the proxy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AffinityTag {
    /// The tag.
    pub key: String,
    /// Its weight; by the order of the tags when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

/// Which other zones come first, and when.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CrossZone {
    /// Rules, the first that fits the proxy's zone counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<Vec<Failover>>,
    /// When to go there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover_threshold: Option<FailoverThreshold>,
}

/// Where to go from some zones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Failover {
    /// The zones; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<FromZone>,
    /// Where to go.
    pub to: ToZone,
}

/// Zones to go from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FromZone {
    /// Their names.
    pub zones: Vec<String>,
}

/// Zones to go to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToZone {
    /// How `zones` is meant.
    pub r#type: ToZoneType,
    /// Names of zones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zones: Option<Vec<String>>,
}

words!(
    /// How a list of zones is meant.
    open ToZoneType { None = "None", Only = "Only", Any = "Any", AnyExcept = "AnyExcept" }
);

/// Share of healthy hosts below which other zones are called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FailoverThreshold {
    /// The share, percent.
    pub percentage: IntOrString,
}

/// Which host is called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancer {
    /// The balancer; of the settings below those of its name count.
    pub r#type: LoadBalancerType,
    /// Nothing to set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_robin: Option<Nothing>,
    /// Settings of `LeastRequest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_request: Option<LeastRequest>,
    /// Settings of `RingHash`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring_hash: Option<RingHash>,
    /// Nothing to set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random: Option<Nothing>,
    /// Settings of `Maglev`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maglev: Option<Maglev>,
}

words!(
    /// A way to choose a host.
    LoadBalancerType {
        RoundRobin = "RoundRobin",
        LeastRequest = "LeastRequest",
        RingHash = "RingHash",
        Random = "Random",
        Maglev = "Maglev",
    }
);

/// Settings of a balancer that has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Nothing {}

/// The host with the fewest open requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeastRequest {
    /// Hosts that are looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2))]
    pub choice_count: Option<u32>,
    /// How much open requests count where hosts have weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_request_bias: Option<IntOrString>,
}

/// The next host on a ring.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RingHash {
    /// How places on the ring are found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_function: Option<HashFunction>,
    /// Fewest places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8_000_000))]
    pub min_ring_size: Option<u32>,
    /// Most places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8_000_000))]
    pub max_ring_size: Option<u32>,
    /// What is hashed; superseded by that of [`Conf`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_policies: Option<Vec<HashPolicy>>,
}

words!(
    /// A function that hashes.
    HashFunction { XxHash = "XXHash", MurmurHash2 = "MurmurHash2" }
);

/// The host in a table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Maglev {
    /// Places in the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5_000_011))]
    pub table_size: Option<u32>,
    /// What is hashed; superseded by that of [`Conf`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_policies: Option<Vec<HashPolicy>>,
}

/// What is hashed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HashPolicy {
    /// Which of the members below counts.
    pub r#type: HashPolicyType,
    /// Nothing more is hashed after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<bool>,
    /// A header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<Named>,
    /// A cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<Cookie>,
    /// The connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
    /// A parameter of the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_parameter: Option<Named>,
    /// A value that a filter left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter_state: Option<FilterState>,
}

words!(
    /// A sort of thing that is hashed.
    HashPolicyType {
        Header = "Header",
        Cookie = "Cookie",
        Connection = "Connection",
        SourceIp = "SourceIP",
        QueryParameter = "QueryParameter",
        FilterState = "FilterState",
    }
);

/// A part of a request by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Named {
    /// The name.
    #[schemars(length(min = 1))]
    pub name: String,
}

/// A cookie, made where there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cookie {
    /// Its name.
    #[schemars(length(min = 1))]
    pub name: String,
    /// How long a new one lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<GoDuration>,
    /// Path of a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// What of a connection is hashed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Connection {
    /// The address of the client.
    #[serde(rename = "sourceIP", default, skip_serializing_if = "Option::is_none")]
    pub source_ip: Option<bool>,
}

/// A value that a filter left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FilterState {
    /// Its key.
    #[schemars(length(min = 1))]
    pub key: String,
}

const TOP: Allowed<'_> = Allowed::kinds(&[
    TargetKind::Mesh,
    TargetKind::MeshSubset,
    TargetKind::MeshGateway,
    TargetKind::MeshService,
    TargetKind::MeshServiceSubset,
    TargetKind::Dataplane,
])
.with_listener_tags();
const TO: Allowed<'_> = Allowed::kinds(&[
    TargetKind::Mesh,
    TargetKind::MeshService,
    TargetKind::MeshMultiZoneService,
    TargetKind::MeshHttpRoute,
]);
const TO_OF_GATEWAY: Allowed<'_> =
    Allowed::kinds(&[TargetKind::Mesh, TargetKind::MeshService, TargetKind::MeshMultiZoneService]);
/// The text names the kind of the top level (Kuma's own slip).
const TO_OF_GATEWAY_WITH_BALANCER: Allowed<'_> = Allowed::kinds(&[TargetKind::Mesh])
    .otherwise("value 'MeshGateway' is not supported, only Mesh is allowed if loadBalancer is set");

impl Policy for MeshLoadBalancingStrategy {
    const KIND: Kind = Kind::MeshLoadBalancingStrategy;

    type To = Item<Conf>;
    type From = ();
    type Rule = ();

    fn target_ref(&self) -> Option<&TargetRef> {
        self.target_ref.as_ref()
    }

    fn to(&self) -> &[Item<Conf>] {
        self.to.as_deref().unwrap_or_default()
    }
}

impl JsonSpec for MeshLoadBalancingStrategy {
    fn validate(&self, meta: &Meta, found: &mut Violations) {
        check_top(self, meta, TOP, TOP, found);
        check_to(self, found);
        let top = self.top_kind();
        for (at, item) in each(&Path::of("spec.to"), self.to()) {
            let allowed = match (&top, &item.default.load_balancer) {
                (TargetKind::MeshGateway, Some(_)) => TO_OF_GATEWAY_WITH_BALANCER,
                (TargetKind::MeshGateway, None) => TO_OF_GATEWAY,
                _ => TO,
            };
            item.target_ref.check(&at.field("targetRef"), allowed, found);
            check_external_service(&at, &item.target_ref, &top, found);
            item.default.check(&at.field("default"), &item.target_ref, found);
        }
    }

    fn warnings(&self, _: &Meta) -> Vec<String> {
        let items = self.to().iter().enumerate();
        let of_items = items.flat_map(|(index, item)| item.default.warnings(index));
        of_items.chain(top_warnings(self.target_ref())).collect()
    }
}

impl Conf {
    fn check(&self, at: &Path, target: &TargetRef, found: &mut Violations) {
        if target.kind == TargetKind::MeshHttpRoute {
            return self.check_of_route(at, found);
        }
        if let Some(balancer) = &self.load_balancer {
            balancer.check(&at.field("loadBalancer"), found);
        }
        if let Some(awareness) = &self.locality_awareness {
            awareness.check(&at.field("localityAwareness"), target, found);
        }
        self.check_hash_policies(at, found);
        if self.hash_policies.is_none() {
            return;
        }
        let ring = self.load_balancer.as_ref().and_then(|balancer| balancer.ring_hash.as_ref()?.hash_policies.as_ref());
        let maglev = self.load_balancer.as_ref().and_then(|balancer| balancer.maglev.as_ref()?.hash_policies.as_ref());
        for (member, twice) in [("ringHash", ring), ("maglev", maglev)] {
            if twice.is_some() {
                let at = at.field("loadBalancer").field(member).field("hashPolicies");
                found.add(&at, "hashPolicies already specified in the root level");
            }
        }
    }

    /// A route has a say in what is hashed and in nothing else.
    fn check_of_route(&self, at: &Path, found: &mut Violations) {
        self.check_hash_policies(at, found);
        let reason = "field is not allowed when targetRef.kind is MeshHTTPRoute, only hashPolicies is supported";
        if self.load_balancer.is_some() {
            found.add(&at.field("loadBalancer"), reason);
        }
        if self.locality_awareness.is_some() {
            found.add(&at.field("localityAwareness"), reason);
        }
    }

    fn check_hash_policies(&self, at: &Path, found: &mut Violations) {
        check_hash_policies(&at.field("hashPolicies"), self.hash_policies.as_deref(), found);
    }

    /// What should be said of the item at this index of `to`.
    fn warnings(&self, index: usize) -> Vec<String> {
        let Some((member, policies)) = self.load_balancer.as_ref().and_then(LoadBalancer::own_hash_policies) else {
            return Vec::new();
        };
        let at = format!("spec.to[{index}].default.loadBalancer.{member}.hashPolicies");
        let here = format!("configuration '{at}' is deprecated, use 'spec.to[{index}].default.hashPolicies' instead");
        let source_ips = policies.iter().enumerate().filter(|(_, policy)| policy.r#type == HashPolicyType::SourceIp);
        let of_types = source_ips.map(|(policy, _)| {
            format!("SourceIP type for '{at}[{policy}].type' is deprecated, use Connection instead")
        });
        std::iter::once(here).chain(of_types).collect()
    }
}

impl LoadBalancer {
    fn check(&self, at: &Path, found: &mut Violations) {
        if let (LoadBalancerType::LeastRequest, Some(least_request)) = (self.r#type, &self.least_request)
            && let Some(bias) = &least_request.active_request_bias
        {
            number::check_at_least(&at.field("leastRequest.activeRequestBias"), bias, 0, found);
        }
        if let Some((member, policies)) = self.own_hash_policies() {
            check_hash_policies(&at.field(member).field("hashPolicies"), Some(policies), found);
        }
    }

    /// What the chosen balancer hashes, if its own settings say so, with their name.
    fn own_hash_policies(&self) -> Option<(&'static str, &[HashPolicy])> {
        match self.r#type {
            LoadBalancerType::RingHash => Some(("ringHash", self.ring_hash.as_ref()?.hash_policies.as_deref()?)),
            LoadBalancerType::Maglev => Some(("maglev", self.maglev.as_ref()?.hash_policies.as_deref()?)),
            LoadBalancerType::RoundRobin | LoadBalancerType::LeastRequest | LoadBalancerType::Random => None,
        }
    }
}

fn check_hash_policies(at: &Path, policies: Option<&[HashPolicy]>, found: &mut Violations) {
    for (at, policy) in each(at, policies.unwrap_or_default()) {
        let (member, defined) = match policy.r#type {
            HashPolicyType::Header => ("header", policy.header.is_some()),
            HashPolicyType::Cookie => ("cookie", policy.cookie.is_some()),
            HashPolicyType::QueryParameter => ("queryParameter", policy.query_parameter.is_some()),
            HashPolicyType::FilterState => ("filterState", policy.filter_state.is_some()),
            HashPolicyType::Connection | HashPolicyType::SourceIp => ("connection", policy.connection.is_some()),
        };
        if !defined {
            found.add(&at.field(member), check::MUST_BE_DEFINED);
        }
        let path = policy.cookie.as_ref().and_then(|cookie| cookie.path.as_ref());
        if policy.r#type == HashPolicyType::Cookie && path.is_some_and(|path| !path.starts_with('/')) {
            found.add(&at.field("cookie.path"), "must be an absolute path");
        }
    }
}

impl LocalityAwareness {
    fn check(&self, at: &Path, target: &TargetRef, found: &mut Violations) {
        if let Some(zone) = &self.local_zone {
            zone.check(&at.field("localZone.affinityTags"), found);
        }
        if let Some(zones) = &self.cross_zone {
            zones.check(&at.field("crossZone"), target, found);
        }
    }
}

impl LocalZone {
    fn check(&self, at: &Path, found: &mut Violations) {
        let tags = self.affinity_tags.as_deref().unwrap_or_default();
        for (at, tag) in each(at, tags) {
            if tag.key.is_empty() {
                found.add(&at.field("key"), check::MUST_NOT_BE_EMPTY);
            }
            check::counter(&at.field("weight"), tag.weight, found);
        }
        let weighted = tags.iter().filter(|tag| tag.weight.is_some()).count();
        if weighted > 0 && weighted != tags.len() {
            found.add(at, "all or none affinity tags should have weight");
        }
    }
}

impl CrossZone {
    fn check(&self, at: &Path, target: &TargetRef, found: &mut Violations) {
        let section = target.section_name.as_ref().is_some_and(|name| !name.is_empty());
        let labels = target.labels.as_ref().is_some_and(|labels| !labels.is_empty());
        if target.kind == TargetKind::MeshService && (section || labels) {
            found.add(at, "must not be set: MeshService traffic is local");
        }
        for (at, failover) in each(&at.field("failover"), self.failover.as_deref().unwrap_or_default()) {
            failover.check(&at, found);
        }
        if let Some(threshold) = &self.failover_threshold {
            number::check_positive_percentage(&at.field("failoverThreshold.percentage"), &threshold.percentage, found);
        }
    }
}

impl Failover {
    fn check(&self, at: &Path, found: &mut Violations) {
        if let Some(from) = &self.from {
            let at = at.field("from.zones");
            if from.zones.is_empty() {
                found.add(&at, check::MUST_NOT_BE_EMPTY);
            }
            for (at, _) in each(&at, &from.zones).filter(|(_, zone)| zone.is_empty()) {
                found.add(&at, check::MUST_NOT_BE_EMPTY);
            }
        }
        let named = self.to.zones.as_ref().is_some_and(|zones| !zones.is_empty());
        let at = at.field("to");
        match &self.to.r#type {
            ToZoneType::Other(_) => found.add(&at.field("type"), "unrecognized type"),
            all @ (ToZoneType::Any | ToZoneType::None) if named => {
                found.add(&at.field("zones"), format!("must be empty when type is {all}"));
            }
            some @ (ToZoneType::AnyExcept | ToZoneType::Only) if !named => {
                found.add(&at.field("zones"), format!("must not be empty when type is {some}"));
            }
            ToZoneType::Any | ToZoneType::None | ToZoneType::AnyExcept | ToZoneType::Only => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::spec::testing::{assert_prints, warnings};

    fn faults(spec: Value) -> Vec<String> {
        crate::spec::testing::faults::<MeshLoadBalancingStrategy>(spec)
    }

    fn to(target: Value, default: Value) -> Value {
        json!({"to": [{"targetRef": target, "default": default}]})
    }

    /// Faults of a configuration, without the path that leads to it.
    fn conf_faults(default: Value) -> Vec<String> {
        let faults = faults(to(json!({"kind": "MeshService", "name": "a"}), default));
        faults.iter().map(|fault| fault.strip_prefix("spec.to[0].default.").unwrap().to_owned()).collect()
    }

    #[test]
    fn it_says_something_about_outgoing_traffic() {
        assert_eq!(faults(json!({})), ["spec.to: needs at least one item"]);
        assert!(conf_faults(json!({})).is_empty());
    }

    #[test]
    fn affinity_tags_have_keys_and_weights_all_or_none() {
        let tags = json!([{"key": "", "weight": 0}, {"key": "b"}]);
        assert_eq!(
            conf_faults(json!({"localityAwareness": {"localZone": {"affinityTags": tags}}})),
            [
                "localityAwareness.localZone.affinityTags[0].key: must not be empty",
                "localityAwareness.localZone.affinityTags[0].weight: must be greater than 0",
                "localityAwareness.localZone.affinityTags: all or none affinity tags should have weight",
            ]
        );
        let tags = json!([{"key": "a", "weight": 1}, {"key": "b", "weight": 2}]);
        assert!(conf_faults(json!({"localityAwareness": {"localZone": {"affinityTags": tags}}})).is_empty());
    }

    #[test]
    fn failover_names_zones_where_its_type_wants_them() {
        let failover = json!([
            {"to": {"type": "Any", "zones": ["a"]}},
            {"to": {"type": "None", "zones": ["a"]}},
            {"to": {"type": "Only"}},
            {"to": {"type": "AnyExcept", "zones": []}},
            {"from": {"zones": []}, "to": {"type": "None"}},
            {"from": {"zones": ["a", ""]}, "to": {"type": "Some"}},
            {"from": {"zones": ["a"]}, "to": {"type": "Only", "zones": ["b"]}},
        ]);
        let at = "localityAwareness.crossZone.failover";
        assert_eq!(
            conf_faults(json!({"localityAwareness": {"crossZone": {"failover": failover}}})),
            [
                format!("{at}[0].to.zones: must be empty when type is Any"),
                format!("{at}[1].to.zones: must be empty when type is None"),
                format!("{at}[2].to.zones: must not be empty when type is Only"),
                format!("{at}[3].to.zones: must not be empty when type is AnyExcept"),
                format!("{at}[4].from.zones: must not be empty"),
                format!("{at}[5].from.zones[1]: must not be empty"),
                format!("{at}[5].to.type: unrecognized type"),
            ]
        );
    }

    #[test]
    fn the_threshold_is_a_percentage_above_zero() {
        let threshold = |percentage: Value| {
            conf_faults(json!({"localityAwareness": {"crossZone": {"failoverThreshold": {"percentage": percentage}}}}))
        };
        let at = "localityAwareness.crossZone.failoverThreshold.percentage";
        assert_eq!(threshold(json!(0)), [format!("{at}: must be greater than 0")]);
        assert_eq!(threshold(json!("100.5")), [format!("{at}: must be in inclusive range [0.0, 100.0]")]);
        assert_eq!(threshold(json!("many")), [format!("{at}: string must be a valid number")]);
        assert!(threshold(json!("0.1")).is_empty() && threshold(json!(100)).is_empty());
    }

    #[test]
    fn traffic_of_a_service_with_a_section_or_labels_is_local() {
        let conf = json!({"localityAwareness": {"crossZone": {}}});
        let local = ["spec.to[0].default.localityAwareness.crossZone: must not be set: MeshService traffic is local"];
        assert_eq!(faults(to(json!({"kind": "MeshService", "name": "a", "sectionName": "http"}), conf.clone())), local);
        assert_eq!(faults(to(json!({"kind": "MeshService", "labels": {"a": "b"}}), conf.clone())), local);
        assert!(faults(to(json!({"kind": "MeshMultiZoneService", "labels": {"a": "b"}}), conf)).is_empty());
    }

    #[test]
    fn hashing_says_what_it_hashes() {
        let policies = json!([
            {"type": "Header"}, {"type": "Cookie"}, {"type": "QueryParameter"}, {"type": "FilterState"},
            {"type": "Connection"}, {"type": "SourceIP"}, {"type": "Cookie", "cookie": {"name": "c", "path": "rel"}},
            {"type": "Header", "header": {"name": "a"}, "cookie": {"name": "c", "path": "rel"}},
        ]);
        let expected = |at: &str| {
            [
                format!("{at}[0].header: must be defined"),
                format!("{at}[1].cookie: must be defined"),
                format!("{at}[2].queryParameter: must be defined"),
                format!("{at}[3].filterState: must be defined"),
                format!("{at}[4].connection: must be defined"),
                format!("{at}[5].connection: must be defined"),
                format!("{at}[6].cookie.path: must be an absolute path"),
            ]
        };
        assert_eq!(conf_faults(json!({"hashPolicies": policies})), expected("hashPolicies"));
        for (kind, member) in [("RingHash", "ringHash"), ("Maglev", "maglev")] {
            let balancer = json!({"type": kind, member: {"hashPolicies": policies}});
            let at = format!("loadBalancer.{member}.hashPolicies");
            assert_eq!(conf_faults(json!({"loadBalancer": balancer})), expected(&at));
            let unused = json!({"type": "Random", member: {"hashPolicies": policies}});
            assert!(conf_faults(json!({"loadBalancer": unused})).is_empty());
            assert_eq!(
                conf_faults(json!({"loadBalancer": unused, "hashPolicies": []})),
                [format!("{at}: hashPolicies already specified in the root level")]
            );
        }
    }

    #[test]
    fn a_route_has_a_say_in_hashing_alone() {
        let conf = json!({
            "localityAwareness": {}, "loadBalancer": {"type": "RingHash"}, "hashPolicies": [{"type": "Header"}],
        });
        let reason = "field is not allowed when targetRef.kind is MeshHTTPRoute, only hashPolicies is supported";
        assert_eq!(
            faults(to(json!({"kind": "MeshHTTPRoute", "name": "a"}), conf)),
            [
                "spec.to[0].default.hashPolicies[0].header: must be defined".to_owned(),
                format!("spec.to[0].default.loadBalancer: {reason}"),
                format!("spec.to[0].default.localityAwareness: {reason}"),
            ]
        );
    }

    #[test]
    fn a_gateway_at_the_top_narrows_the_destinations() {
        let mut spec = to(json!({"kind": "MeshHTTPRoute", "name": "a"}), json!({"hashPolicies": []}));
        assert!(faults(spec.clone()).is_empty());
        spec["targetRef"] = json!({"kind": "MeshGateway", "name": "edge"});
        assert_eq!(faults(spec.clone()), ["spec.to[0].targetRef.kind: value 'MeshHTTPRoute' is not supported"]);
        spec["to"][0] =
            json!({"targetRef": {"kind": "MeshService", "name": "a"}, "default": {"loadBalancer": {"type": "Random"}}});
        assert_eq!(
            faults(spec.clone()),
            [
                "spec.to[0].targetRef.kind: value 'MeshGateway' is not supported, only Mesh is allowed if loadBalancer is set"
            ]
        );
        spec["to"][0]["targetRef"] = json!({"kind": "Mesh"});
        assert!(faults(spec).is_empty());
    }

    #[test]
    fn the_bias_is_not_negative() {
        let bias = |bias: Value| {
            conf_faults(json!({"loadBalancer": {"type": "LeastRequest", "leastRequest": {"activeRequestBias": bias}}}))
        };
        let at = "loadBalancer.leastRequest.activeRequestBias";
        assert_eq!(bias(json!("-0.1")), [format!("{at}: must be greater or equal then: 0")]);
        assert_eq!(bias(json!("x")), [format!("{at}: string must be a valid number")]);
        assert!(bias(json!("1.3")).is_empty());
    }

    #[test]
    fn hashing_in_the_balancer_is_warned_about() {
        let policies = json!([{"type": "Connection"}, {"type": "SourceIP"}]);
        let item = |kind: &str, member: &str| {
            json!({
                "targetRef": {"kind": "Mesh"}, "default": {"loadBalancer": {"type": kind, member: {"hashPolicies": policies}}},
            })
        };
        let spec = json!({
            "targetRef": {"kind": "MeshSubset"},
            "to": [item("Maglev", "ringHash"), item("RingHash", "ringHash"), item("Maglev", "maglev")],
        });
        assert_eq!(
            warnings::<MeshLoadBalancingStrategy>(spec),
            [
                "configuration 'spec.to[1].default.loadBalancer.ringHash.hashPolicies' is deprecated, use 'spec.to[1].default.hashPolicies' instead",
                "SourceIP type for 'spec.to[1].default.loadBalancer.ringHash.hashPolicies[1].type' is deprecated, use Connection instead",
                "configuration 'spec.to[2].default.loadBalancer.maglev.hashPolicies' is deprecated, use 'spec.to[2].default.hashPolicies' instead",
                "SourceIP type for 'spec.to[2].default.loadBalancer.maglev.hashPolicies[1].type' is deprecated, use Connection instead",
                "MeshSubset value for 'targetRef.kind' is deprecated, use Dataplane with labels instead",
            ]
        );
    }

    #[test]
    fn members_are_printed_in_the_declared_order() {
        assert_prints::<MeshLoadBalancingStrategy>(
            r#"{"targetRef":{"kind":"Mesh"},"to":[{"targetRef":{"kind":"Mesh"},"default":{"localityAwareness":{"disabled":true,
                "localZone":{"affinityTags":[{"key":"a","weight":9}]},"crossZone":{"failover":[{"from":{"zones":["a"]},
                "to":{"type":"Only","zones":["b"]}}],"failoverThreshold":{"percentage":"70"}}},"loadBalancer":{"type":"RingHash",
                "roundRobin":{},"leastRequest":{"choiceCount":2,"activeRequestBias":1},"ringHash":{"hashFunction":"XXHash",
                "minRingSize":1,"maxRingSize":2,"hashPolicies":[]},"random":{},"maglev":{"tableSize":1,"hashPolicies":[]}},
                "hashPolicies":[{"type":"SourceIP","terminal":false,"header":{"name":"a"},"cookie":{"name":"a","ttl":"1m0s",
                "path":"/"},"connection":{"sourceIP":true},"queryParameter":{"name":"a"},"filterState":{"key":"a"}}]}}]}"#,
        );
    }
}
