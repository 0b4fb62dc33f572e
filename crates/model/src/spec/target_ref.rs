//! What the targetRef policies are built of (api-and-kumactl 3.15): references to proxies, destinations and back ends,
//! the items that pair one with a configuration, and the rules that all of them obey.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::Kind;
use crate::labels;
use crate::resource::Meta;
use crate::spec::words::words;
use crate::spec::{JsonSpec, check, tags};
use crate::violation::{Path, Violations};

words!(
    /// What a [`TargetRef`] refers to.
    open TargetKind {
        Mesh = "Mesh",
        MeshSubset = "MeshSubset",
        MeshGateway = "MeshGateway",
        MeshService = "MeshService",
        MeshExternalService = "MeshExternalService",
        MeshMultiZoneService = "MeshMultiZoneService",
        MeshServiceSubset = "MeshServiceSubset",
        MeshHttpRoute = "MeshHTTPRoute",
        Dataplane = "Dataplane",
    }
);

words!(
    /// What sort of proxy a [`TargetRef`] means.
    ProxyType { Sidecar = "Sidecar", Gateway = "Gateway" }
);

/// A reference to proxies, or to a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// What it refers to.
    pub kind: TargetKind,
    /// Name of the resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tags that narrow a subset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
    /// Reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<String>,
    /// Sorts of proxies; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_types: Option<Vec<ProxyType>>,
    /// Namespace of the resource on Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Labels of the resources, instead of a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// A part of the resource: the name of a port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

/// Where traffic goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackendRef {
    /// The destination.
    #[serde(flatten)]
    pub target: TargetRef,
    /// Share of the traffic, relative to the other back ends.
    #[serde(default = "one")]
    #[schemars(with = "i64", range(min = 0))]
    pub weight: u64,
    /// Port of a service that is a resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
}

fn one() -> u64 {
    1
}

/// A group of clients or destinations and what holds for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(bound = "C: JsonSchema + Serialize + Default")]
pub struct Item<C> {
    /// The group.
    pub target_ref: TargetRef,
    /// What holds for it.
    #[serde(default)]
    pub default: C,
}

/// What holds for all inbound traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(bound = "C: JsonSchema + Serialize + Default")]
pub struct Rule<C> {
    /// What holds.
    #[serde(default)]
    pub default: C,
}

/// A policy with `targetRef`, as selecting and merging see it. A list that a kind does not have is empty.
pub trait Policy: JsonSpec {
    /// Its kind.
    const KIND: Kind;

    /// One of `to`.
    type To;
    /// One of `from`.
    type From;
    /// One of `rules`.
    type Rule;

    /// The proxies that it is about; all of the mesh when absent.
    fn target_ref(&self) -> Option<&TargetRef>;

    /// What holds for outgoing traffic.
    fn to(&self) -> &[Self::To] {
        &[]
    }

    /// What holds for incoming traffic, by client.
    fn from(&self) -> &[Self::From] {
        &[]
    }

    /// What holds for incoming traffic, by request.
    fn rules(&self) -> &[Self::Rule] {
        &[]
    }

    /// Whether it says anything about incoming traffic.
    fn affects_inbounds(&self) -> bool {
        !self.from().is_empty() || !self.rules().is_empty()
    }

    /// Kind of the top level, which an absent reference makes the mesh.
    fn top_kind(&self) -> TargetKind {
        self.target_ref().map_or(TargetKind::Mesh, |target| target.kind.clone())
    }
}

/// What a reference may be in one position of one policy.
#[derive(Clone, Copy, Debug)]
pub struct Allowed<'a> {
    kinds: &'a [TargetKind],
    otherwise: Option<&'a str>,
    listener_tags: bool,
    section_of_dataplane: bool,
    odd_name: Option<&'a str>,
}

impl<'a> Allowed<'a> {
    /// References of these kinds.
    pub const fn kinds(kinds: &'a [TargetKind]) -> Self {
        Self { kinds, otherwise: None, listener_tags: false, section_of_dataplane: false, odd_name: None }
    }

    /// What to say of other kinds, instead of `value 'X' is not supported`.
    #[must_use]
    pub const fn otherwise(self, reason: &'a str) -> Self {
        Self { otherwise: Some(reason), ..self }
    }

    /// A `MeshGateway` may be narrowed to listeners by their tags.
    #[must_use]
    pub const fn with_listener_tags(self) -> Self {
        Self { listener_tags: true, ..self }
    }

    /// A `Dataplane` may be narrowed to one inbound when the policy is about inbounds.
    #[must_use]
    pub const fn inbound(self, about_inbounds: bool) -> Self {
        Self { section_of_dataplane: about_inbounds, ..self }
    }

    /// One name is accepted although its characters are not.
    #[must_use]
    pub const fn with_odd_name(self, name: &'a str) -> Self {
        Self { odd_name: Some(name), ..self }
    }
}

/// Checks the reference of a policy's top level. Whoever writes for the whole mesh (`kuma.io/policy-role` is `system`
/// or absent) may use the kinds of `system`, others those of `others`.
pub fn check_top<P: Policy>(policy: &P, meta: &Meta, system: Allowed<'_>, others: Allowed<'_>, found: &mut Violations) {
    let Some(target) = policy.target_ref() else { return };
    let role = meta.labels.get(labels::POLICY_ROLE).unwrap_or_default();
    let allowed = if matches!(role, "" | "system") { system } else { others };
    target.check(&Path::of("spec.targetRef"), allowed.inbound(policy.affects_inbounds()), found);
}

/// Checks that a policy says something, and about incoming traffic in one way.
pub fn check_lists<P: Policy>(policy: &P, found: &mut Violations) {
    let (rules, lists) = (!policy.rules().is_empty(), !(policy.to().is_empty() && policy.from().is_empty()));
    let spec = Path::of("spec");
    if rules && lists {
        found.add(&spec, "fields 'to' and 'from' must be empty when 'rules' is defined");
    }
    if !rules && !lists {
        found.add(&spec, "at least one of 'from', 'to' or 'rules' has to be defined");
    }
}

/// Checks that a policy says something about outgoing traffic.
pub fn check_to<P: Policy>(policy: &P, found: &mut Violations) {
    if policy.to().is_empty() {
        found.add(&Path::of("spec.to"), "needs at least one item");
    }
}

/// Refuses one of `to` that is set up at the zone egress, for all clients, in a policy for a part of them.
pub fn check_external_service(at: &Path, target: &TargetRef, top: &TargetKind, found: &mut Violations) {
    if target.kind == TargetKind::MeshExternalService && *top != TargetKind::Mesh {
        let reason = "kind MeshExternalService is only allowed with targetRef.kind: Mesh \
                      as it is configured on the Zone Egress and shared by all clients in the mesh";
        found.add(&at.field("targetRef.kind"), reason);
    }
}

/// What should be said of the kind of a policy's top level.
pub fn top_warnings(target: Option<&TargetRef>) -> Vec<String> {
    let advice = match target.map(|target| &target.kind) {
        Some(TargetKind::MeshService | TargetKind::MeshServiceSubset | TargetKind::MeshSubset) => {
            "use Dataplane with labels instead"
        }
        Some(TargetKind::MeshHttpRoute) => "use MeshHTTPRoute in spec.to[].targetRef",
        _ => return Vec::new(),
    };
    target
        .map(|target| format!("{} value for 'targetRef.kind' is deprecated, {advice}", target.kind))
        .into_iter()
        .collect()
}

/// [`top_warnings`], after the one for the use of `from` where `rules` would do.
pub fn from_and_top_warnings<P: Policy>(policy: &P) -> Vec<String> {
    from_warning(policy).into_iter().chain(top_warnings(policy.target_ref())).collect()
}

/// What should be said when `from` is used where `rules` would do.
pub fn from_warning<P: Policy>(policy: &P) -> Option<String> {
    (!policy.from().is_empty()).then(|| "'from' field is deprecated, use 'rules' instead".to_owned())
}

impl TargetRef {
    /// A reference of a kind, to nothing in particular.
    pub fn of(kind: TargetKind) -> Self {
        Self {
            kind,
            name: None,
            tags: None,
            mesh: None,
            proxy_types: None,
            namespace: None,
            labels: None,
            section_name: None,
        }
    }

    /// Whether proxies of gateways are among what it selects.
    pub fn includes_gateways(&self) -> bool {
        match self.kind {
            TargetKind::MeshGateway | TargetKind::MeshHttpRoute => true,
            TargetKind::Mesh | TargetKind::MeshSubset => {
                let types = self.proxy_types.as_deref().unwrap_or_default();
                types.is_empty() || types.contains(&ProxyType::Gateway)
            }
            _ => false,
        }
    }

    /// Adds what is wrong with the reference at this path.
    pub fn check(&self, at: &Path, allowed: Allowed<'_>, found: &mut Violations) {
        if self.kind.as_str().is_empty() {
            return found.add(&at.field("kind"), check::MUST_BE_DEFINED);
        }
        if !allowed.kinds.contains(&self.kind) {
            let usual = || format!("value '{}' is not supported", self.kind);
            return found.add(&at.field("kind"), allowed.otherwise.map_or_else(usual, str::to_owned));
        }
        let mut check = Check { target: self, at, allowed, found };
        match self.kind {
            TargetKind::Mesh => check.mesh(),
            TargetKind::Dataplane => check.dataplane(),
            TargetKind::MeshSubset => check.mesh_subset(),
            TargetKind::MeshService => check.mesh_service(),
            TargetKind::MeshHttpRoute => check.mesh_http_route(),
            TargetKind::MeshExternalService => check.mesh_external_service(),
            TargetKind::MeshServiceSubset | TargetKind::MeshGateway => check.mesh_gateway_or_service_subset(),
            TargetKind::MeshMultiZoneService | TargetKind::Other(_) => {}
        }
    }
}

/// One check of one reference; the methods are in the order in which faults are reported.
struct Check<'a, 'f> {
    target: &'a TargetRef,
    at: &'a Path,
    allowed: Allowed<'a>,
    found: &'f mut Violations,
}

impl Check<'_, '_> {
    fn mesh(&mut self) {
        if is_set(&self.target.name) {
            self.add("name", "using name with kind Mesh is not yet supported");
        }
        self.refuse(&["mesh", "tags", "labels", "namespace", "sectionName"]);
        self.proxy_types();
    }

    fn dataplane(&mut self) {
        self.refuse(&["tags", "mesh", "proxyTypes"]);
        self.labels_or("name and namespace");
        if !self.allowed.section_of_dataplane && is_set(&self.target.section_name) {
            self.add("sectionName", "can only be used with inbound policies");
        }
    }

    fn mesh_subset(&mut self) {
        self.refuse(&["name", "mesh"]);
        self.tags(tags::Rules::OWN);
        self.refuse(&["labels", "namespace", "sectionName"]);
        self.proxy_types();
    }

    fn mesh_service(&mut self) {
        self.name();
        self.refuse(&["mesh", "tags", "proxyTypes"]);
        self.name_unless_labels();
        self.labels_or("name and namespace");
    }

    fn mesh_http_route(&mut self) {
        self.name();
        self.refuse(&["mesh", "tags", "proxyTypes", "sectionName"]);
        self.name_unless_labels();
        self.labels_or("name and namespace");
    }

    fn mesh_external_service(&mut self) {
        self.name();
        self.refuse(&["mesh", "tags", "proxyTypes"]);
        self.name_unless_labels();
        self.labels_or("name");
        self.refuse(&["sectionName"]);
    }

    fn mesh_gateway_or_service_subset(&mut self) {
        self.require_name();
        self.name();
        self.refuse(&["mesh", "proxyTypes"]);
        self.tags(tags::Rules::SELECTING);
        if self.target.kind == TargetKind::MeshGateway && !self.allowed.listener_tags {
            self.refuse(&["tags"]);
        }
        self.refuse(&["labels", "namespace", "sectionName"]);
    }

    fn add(&mut self, member: &str, reason: impl Into<String>) {
        self.found.add(&self.at.field(member), reason);
    }

    /// Refuses members that have no meaning with the kind.
    fn refuse(&mut self, members: &[&str]) {
        for member in members {
            if self.has(member) {
                self.add(member, format!("must not be set with kind {}", self.target.kind));
            }
        }
    }

    fn has(&self, member: &str) -> bool {
        let target = self.target;
        match member {
            "name" => is_set(&target.name),
            "mesh" => is_set(&target.mesh),
            "namespace" => is_set(&target.namespace),
            "sectionName" => is_set(&target.section_name),
            "tags" => target.tags.as_ref().is_some_and(|tags| !tags.is_empty()),
            "labels" => target.labels.as_ref().is_some_and(|labels| !labels.is_empty()),
            "proxyTypes" => target.proxy_types.as_ref().is_some_and(|types| !types.is_empty()),
            _ => false,
        }
    }

    fn require_name(&mut self) {
        if !is_set(&self.target.name) {
            self.add("name", format!("must be set with kind {}", self.target.kind));
        }
    }

    fn name_unless_labels(&mut self) {
        if !self.has("labels") {
            self.require_name();
        }
    }

    fn name(&mut self) {
        let name = self.target.name.as_deref().unwrap_or_default();
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
        if Some(name) != self.allowed.odd_name && !name.chars().all(known) {
            let reason = "invalid characters: must consist of lower case alphanumeric characters, '-', '.' and '_'.";
            self.add("name", reason);
        }
    }

    fn labels_or(&mut self, others: &str) {
        if self.has("labels") && (self.has("name") || self.has("namespace")) {
            self.add("labels", format!("either labels or {others} must be specified"));
        }
    }

    fn tags(&mut self, rules: tags::Rules) {
        if let Some(tags) = &self.target.tags {
            rules.check(&self.at.field("tags"), tags, self.found);
        }
    }

    fn proxy_types(&mut self) {
        if self.target.proxy_types.as_ref().is_some_and(Vec::is_empty) {
            self.add("proxyTypes", "must be undefined or have at least one element");
        }
    }
}

fn is_set(text: &Option<String>) -> bool {
    text.as_ref().is_some_and(|text| !text.is_empty())
}

impl BackendRef {
    /// Adds what is wrong with the reference at this path.
    pub fn check(&self, at: &Path, allowed: Allowed<'_>, found: &mut Violations) {
        self.target.check(at, allowed, found);
        self.check_port(at, found);
    }

    fn check_port(&self, at: &Path, found: &mut Violations) {
        if self.target.kind == TargetKind::MeshMultiZoneService && self.port.is_none() {
            found.add(&at.field("port"), "must be defined with kind MeshMultiZoneService");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ALL: &[TargetKind] = &[
        TargetKind::Mesh,
        TargetKind::MeshSubset,
        TargetKind::MeshGateway,
        TargetKind::MeshService,
        TargetKind::MeshExternalService,
        TargetKind::MeshMultiZoneService,
        TargetKind::MeshServiceSubset,
        TargetKind::MeshHttpRoute,
        TargetKind::Dataplane,
    ];

    fn faults(target: &Value, allowed: Allowed<'_>) -> Vec<String> {
        let target: TargetRef = serde_json::from_value(target.clone()).unwrap();
        let mut found = Violations::default();
        target.check(&Path::of("spec.targetRef"), allowed, &mut found);
        found.iter().map(|fault| format!("{}: {}", fault.field, fault.reason)).collect()
    }

    fn all_faults(target: &Value) -> Vec<String> {
        faults(target, Allowed::kinds(ALL))
    }

    /// A reference of a kind with every member set.
    fn crowded(kind: &str) -> Value {
        json!({
            "kind": kind, "name": "n", "tags": {"a": "b"}, "mesh": "m", "proxyTypes": ["Sidecar"],
            "namespace": "ns", "labels": {"a": "b"}, "sectionName": "http",
        })
    }

    #[test]
    fn every_kind_refuses_the_members_it_has_no_use_for() {
        let refused = |kind: &str| -> Vec<String> {
            let reason = format!(": must not be set with kind {kind}");
            let faults = all_faults(&crowded(kind));
            let members = faults.iter().filter_map(|fault| fault.strip_suffix(&reason));
            members.map(|field| field.trim_start_matches("spec.targetRef.").to_owned()).collect()
        };
        assert_eq!(refused("Mesh"), ["mesh", "tags", "labels", "namespace", "sectionName"]);
        assert_eq!(refused("MeshSubset"), ["name", "mesh", "labels", "namespace", "sectionName"]);
        assert_eq!(refused("Dataplane"), ["tags", "mesh", "proxyTypes"]);
        assert_eq!(refused("MeshService"), ["mesh", "tags", "proxyTypes"]);
        assert_eq!(refused("MeshHTTPRoute"), ["mesh", "tags", "proxyTypes", "sectionName"]);
        assert_eq!(refused("MeshExternalService"), ["mesh", "tags", "proxyTypes", "sectionName"]);
        assert_eq!(refused("MeshServiceSubset"), ["mesh", "proxyTypes", "labels", "namespace", "sectionName"]);
        assert_eq!(refused("MeshGateway"), ["mesh", "proxyTypes", "tags", "labels", "namespace", "sectionName"]);
        assert!(all_faults(&crowded("MeshMultiZoneService")).is_empty());
    }

    #[test]
    fn a_kind_must_be_named_and_allowed() {
        assert_eq!(all_faults(&json!({})), ["spec.targetRef.kind: must be defined"]);
        assert_eq!(all_faults(&json!({"kind": "Foo"})), ["spec.targetRef.kind: value 'Foo' is not supported"]);
        let mesh_alone = Allowed::kinds(&[TargetKind::Mesh]);
        let dataplane = json!({"kind": "Dataplane", "tags": {"": ""}});
        assert_eq!(faults(&dataplane, mesh_alone), ["spec.targetRef.kind: value 'Dataplane' is not supported"]);
        assert_eq!(faults(&dataplane, mesh_alone.otherwise("only Mesh")), ["spec.targetRef.kind: only Mesh"]);
    }

    #[test]
    fn names_and_labels_exclude_each_other() {
        for (kind, others) in [
            ("MeshService", "name and namespace"),
            ("MeshHTTPRoute", "name and namespace"),
            ("MeshExternalService", "name"),
        ] {
            let both = json!({"kind": kind, "name": "a", "labels": {"a": "b"}});
            assert_eq!(
                all_faults(&both),
                [format!("spec.targetRef.labels: either labels or {others} must be specified")]
            );
            let neither = json!({"kind": kind, "labels": {}});
            assert_eq!(all_faults(&neither), [format!("spec.targetRef.name: must be set with kind {kind}")]);
            assert!(all_faults(&json!({"kind": kind, "labels": {"a": "b"}})).is_empty());
            assert!(all_faults(&json!({"kind": kind, "name": "a"})).is_empty());
        }
        let both = json!({"kind": "Dataplane", "namespace": "ns", "labels": {"a": "b"}});
        assert_eq!(all_faults(&both), ["spec.targetRef.labels: either labels or name and namespace must be specified"]);
        assert!(all_faults(&json!({"kind": "Dataplane"})).is_empty());
    }

    #[test]
    fn a_name_has_the_characters_of_a_service_unless_it_is_the_odd_one() {
        let at = "spec.targetRef.name: invalid characters: must consist of lower case alphanumeric characters, '-', '.' and '_'.";
        let odd = json!({"kind": "MeshService", "name": "kuma.io/unresolved-backend"});
        assert_eq!(all_faults(&odd), [at]);
        assert_eq!(all_faults(&json!({"kind": "MeshGateway", "name": "Edge"})), [at]);
        assert!(faults(&odd, Allowed::kinds(ALL).with_odd_name("kuma.io/unresolved-backend")).is_empty());
        assert!(all_faults(&json!({"kind": "MeshService", "name": "a_b.c-9"})).is_empty());
    }

    #[test]
    fn a_section_of_a_dataplane_needs_a_policy_about_inbounds() {
        let section = json!({"kind": "Dataplane", "sectionName": "http"});
        assert_eq!(all_faults(&section), ["spec.targetRef.sectionName: can only be used with inbound policies"]);
        assert!(faults(&section, Allowed::kinds(ALL).inbound(true)).is_empty());
    }

    #[test]
    fn tags_of_a_gateway_need_listener_tags() {
        let gateway = json!({"kind": "MeshGateway", "name": "edge", "tags": {"port": "*"}});
        assert_eq!(all_faults(&gateway), ["spec.targetRef.tags: must not be set with kind MeshGateway"]);
        assert!(faults(&gateway, Allowed::kinds(ALL).with_listener_tags()).is_empty());
    }

    #[test]
    fn tags_are_checked_as_selectors_or_as_tags_of_a_proxy() {
        let subset = all_faults(&json!({"kind": "MeshSubset", "tags": {"": "a", "a!": "", "b": "*"}}));
        assert_eq!(
            subset,
            [
                "spec.targetRef.tags: tag name must be non-empty",
                "spec.targetRef.tags[\"a!\"]: tag name must consist of alphanumeric characters, dots, dashes, slashes and underscores",
                "spec.targetRef.tags[\"a!\"]: tag value must be non-empty",
                "spec.targetRef.tags[\"b\"]: tag value must consist of alphanumeric characters, dots, dashes and underscores",
            ]
        );
        let selector = json!({"kind": "MeshServiceSubset", "name": "a", "tags": {"a": "*", "b": "x/y", "c": "**"}});
        assert_eq!(
            all_faults(&selector),
            [
                "spec.targetRef.tags[\"c\"]: tag value must consist of alphanumeric characters, dots, dashes, slashes and underscores or be \"*\""
            ]
        );
    }

    #[test]
    fn sorts_of_proxies_are_absent_or_some() {
        for kind in ["Mesh", "MeshSubset"] {
            assert_eq!(
                all_faults(&json!({"kind": kind, "proxyTypes": []})),
                ["spec.targetRef.proxyTypes: must be undefined or have at least one element"]
            );
            assert!(all_faults(&json!({"kind": kind, "proxyTypes": ["Gateway"]})).is_empty());
        }
    }

    #[test]
    fn gateways_are_included_unless_sidecars_are_meant() {
        let includes = |target: Value| serde_json::from_value::<TargetRef>(target).unwrap().includes_gateways();
        assert!(includes(json!({"kind": "Mesh"})));
        assert!(includes(json!({"kind": "MeshSubset", "proxyTypes": []})));
        assert!(includes(json!({"kind": "Mesh", "proxyTypes": ["Sidecar", "Gateway"]})));
        assert!(!includes(json!({"kind": "Mesh", "proxyTypes": ["Sidecar"]})));
        assert!(includes(json!({"kind": "MeshHTTPRoute"})) && includes(json!({"kind": "MeshGateway"})));
        assert!(!includes(json!({"kind": "Dataplane"})) && !includes(json!({"kind": "MeshService"})));
    }

    #[test]
    fn deprecated_kinds_of_the_top_level_are_named() {
        let warning = |kind| top_warnings(Some(&TargetRef::of(kind))).join("\n");
        for kind in [TargetKind::MeshService, TargetKind::MeshServiceSubset, TargetKind::MeshSubset] {
            let name = kind.to_string();
            let text = format!("{name} value for 'targetRef.kind' is deprecated, use Dataplane with labels instead");
            assert_eq!(warning(kind), text);
        }
        assert_eq!(
            warning(TargetKind::MeshHttpRoute),
            "MeshHTTPRoute value for 'targetRef.kind' is deprecated, use MeshHTTPRoute in spec.to[].targetRef"
        );
        assert_eq!(warning(TargetKind::Mesh), "");
        assert!(top_warnings(None).is_empty());
    }

    #[test]
    fn a_backend_weighs_one_and_prints_its_target_first() {
        let backend: BackendRef =
            serde_json::from_value(json!({"port": 80, "name": "a", "kind": "MeshService"})).unwrap();
        assert_eq!(backend.weight, 1);
        assert_eq!(
            serde_json::to_string(&backend).unwrap(),
            r#"{"kind":"MeshService","name":"a","weight":1,"port":80}"#
        );
    }

    #[test]
    fn a_multi_zone_backend_needs_a_port() {
        let check = |backend: Value| {
            let backend: BackendRef = serde_json::from_value(backend).unwrap();
            let mut found = Violations::default();
            backend.check(&Path::of("b"), Allowed::kinds(ALL), &mut found);
            found.to_string()
        };
        let multi_zone = json!({"kind": "MeshMultiZoneService", "name": "a"});
        assert_eq!(check(multi_zone), "b.port: must be defined with kind MeshMultiZoneService");
        assert_eq!(check(json!({"kind": "MeshMultiZoneService", "name": "a", "port": 80})), "");
    }

    #[test]
    fn members_are_printed_in_the_declared_order() {
        let printed = serde_json::to_string(&serde_json::from_value::<TargetRef>(crowded("Mesh")).unwrap()).unwrap();
        let order = ["kind", "name", "tags", "mesh", "proxyTypes", "namespace", "labels", "sectionName"];
        let places: Vec<_> = order.iter().map(|member| printed.find(&format!("\"{member}\":")).unwrap()).collect();
        assert!(places.is_sorted(), "{printed}");
    }

    #[test]
    fn the_schema_demands_the_kind_and_lists_the_kinds() {
        let schema = schemars::schema_for!(Item<BTreeMap<String, String>>);
        assert_eq!(schema.get("required"), Some(&json!(["targetRef"])));
        let backend = schemars::schema_for!(BackendRef);
        assert_eq!(backend.get("required"), Some(&json!(["kind"])));
        assert_eq!(backend.pointer("/properties/weight/default"), Some(&json!(1)));
        assert_eq!(backend.pointer("/properties/weight/minimum"), Some(&json!(0)));
        let kinds = backend.pointer("/$defs/TargetKind/enum").unwrap();
        assert_eq!(kinds, &json!(ALL));
    }
}
