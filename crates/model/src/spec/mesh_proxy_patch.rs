//! `MeshProxyPatch`: changes to the Envoy configuration of proxies (api-and-kumactl 3.30).

use std::collections::BTreeMap;

use prost::{Message, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use kds_proto::envoy::config::cluster::v3::Cluster;
use kds_proto::envoy::config::listener::v3::{Filter, Listener};
use kds_proto::envoy::config::route::v3::VirtualHost;
use kds_proto::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;

use crate::kind::Kind;
use crate::resource::Meta;
use crate::spec::JsonSpec;
use crate::spec::check::{MUST_BE_DEFINED, MUST_NOT_BE_DEFINED, MUST_NOT_BE_EMPTY, each};
use crate::spec::envoy_fragment;
use crate::spec::json_patch::{self, JsonPatchBlock};
use crate::spec::target_ref::{Allowed, Policy, TargetKind, TargetRef, check_top, top_warnings};
use crate::spec::words::words;
use crate::violation::{Path, Violations};

/// Changes to the Envoy configuration of the selected proxies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshProxyPatch {
    /// The proxies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// The changes.
    pub default: Conf,
}

/// Changes, made in this order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Conf {
    /// The changes, after those of policies with less weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub append_modifications: Option<Vec<Modification>>,
}

/// One change; exactly one of the members is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Modification {
    /// Of clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Mod<ClusterMatch, Operation>>,
    /// Of listeners.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<Mod<ListenerMatch, Operation>>,
    /// Of filters in listeners.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_filter: Option<Mod<FilterMatch, FilterOperation>>,
    /// Of HTTP filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_filter: Option<Mod<FilterMatch, FilterOperation>>,
    /// Of virtual hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_host: Option<VirtualHostMod>,
}

/// What is done to things of one sort.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mod<M, O> {
    /// The things; all of the sort when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#match: Option<M>,
    /// What is done to them.
    pub operation: O,
    /// What is added, or merged into them: Envoy's configuration as YAML or JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// How they are changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_patches: Option<Vec<JsonPatchBlock>>,
}

/// What is done to virtual hosts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualHostMod {
    /// The virtual hosts.
    #[schemars(required)]
    pub r#match: Option<VirtualHostMatch>,
    /// What is done to them.
    pub operation: Operation,
    /// What is added, or merged into them: Envoy's configuration as YAML or JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// How they are changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_patches: Option<Vec<JsonPatchBlock>>,
}

words!(
    /// What is done to clusters, listeners and virtual hosts.
    open Operation { Add = "Add", Remove = "Remove", Patch = "Patch" }
);

words!(
    /// What is done to filters, whose order counts.
    open FilterOperation {
        Remove = "Remove",
        Patch = "Patch",
        AddFirst = "AddFirst",
        AddBefore = "AddBefore",
        AddAfter = "AddAfter",
        AddLast = "AddLast",
    }
);

/// Some clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterMatch {
    /// What made them: `inbound`, `outbound`, `prometheus`, ..
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Their name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Some listeners.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListenerMatch {
    /// What made them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Their name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tags in their metadata, `io.kuma.tags`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
}

/// Some filters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FilterMatch {
    /// What made their listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Their name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Name of their listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_name: Option<String>,
    /// Tags in the metadata of their listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_tags: Option<BTreeMap<String, String>>,
}

/// Some virtual hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualHostMatch {
    /// What made their listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Their name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Name of their route configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_configuration_name: Option<String>,
}

const SYSTEM: Allowed<'_> = Allowed::kinds(&[
    TargetKind::Mesh,
    TargetKind::MeshSubset,
    TargetKind::MeshService,
    TargetKind::MeshServiceSubset,
    TargetKind::MeshGateway,
    TargetKind::Dataplane,
]);
const OTHERS: Allowed<'_> = Allowed::kinds(&[
    TargetKind::Mesh,
    TargetKind::MeshSubset,
    TargetKind::Dataplane,
    TargetKind::MeshService,
    TargetKind::MeshServiceSubset,
]);

impl Policy for MeshProxyPatch {
    const KIND: Kind = Kind::MeshProxyPatch;

    type To = ();
    type From = ();
    type Rule = ();

    fn target_ref(&self) -> Option<&TargetRef> {
        self.target_ref.as_ref()
    }
}

impl JsonSpec for MeshProxyPatch {
    fn validate(&self, meta: &Meta, found: &mut Violations) {
        check_top(self, meta, SYSTEM, OTHERS, found);
        let at = Path::of("spec.default.appendModifications");
        let modifications = self.default.append_modifications.as_deref().unwrap_or_default();
        if modifications.is_empty() {
            found.add(&at, MUST_NOT_BE_EMPTY);
        }
        for (at, modification) in each(&at, modifications) {
            modification.check(&at, found);
        }
    }

    fn warnings(&self, _: &Meta) -> Vec<String> {
        top_warnings(self.target_ref())
    }
}

impl Modification {
    fn check(&self, at: &Path, found: &mut Violations) {
        match self {
            Self { cluster: Some(it), listener: None, network_filter: None, http_filter: None, virtual_host: None } => {
                let change = Change::new("cluster", at, it.value.as_deref(), it.json_patches.as_deref());
                change.check::<Cluster>(&it.operation, it.r#match.as_ref().map(|_| "match"), found);
            }
            Self { listener: Some(it), cluster: None, network_filter: None, http_filter: None, virtual_host: None } => {
                let change = Change::new("listener", at, it.value.as_deref(), it.json_patches.as_deref());
                change.check::<Listener>(&it.operation, it.r#match.as_ref().map(|_| "match"), found);
            }
            Self { virtual_host: Some(it), cluster: None, listener: None, network_filter: None, http_filter: None } => {
                let change = Change::new("virtualHost", at, it.value.as_deref(), it.json_patches.as_deref());
                let name = it.r#match.as_ref().and_then(|found| found.name.as_ref());
                change.check::<VirtualHost>(&it.operation, name.map(|_| "match.name"), found);
            }
            Self { network_filter: Some(it), cluster: None, listener: None, http_filter: None, virtual_host: None } => {
                let change = Change::new("networkFilter", at, it.value.as_deref(), it.json_patches.as_deref());
                change.check_filter::<Filter>(&it.operation, it.r#match.as_ref(), found);
            }
            Self { http_filter: Some(it), cluster: None, listener: None, network_filter: None, virtual_host: None } => {
                let change = Change::new("httpFilter", at, it.value.as_deref(), it.json_patches.as_deref());
                change.check_filter::<HttpFilter>(&it.operation, it.r#match.as_ref(), found);
            }
            _ => {
                let count = self.count();
                let reason = format!(
                    "exactly one modification can be defined at a time. Currently, {count} modifications are defined"
                );
                found.add(at, reason);
            }
        }
    }

    fn count(&self) -> usize {
        let Self { cluster, listener, network_filter, http_filter, virtual_host } = self;
        let are_there = [
            cluster.is_some(),
            listener.is_some(),
            network_filter.is_some(),
            http_filter.is_some(),
            virtual_host.is_some(),
        ];
        are_there.into_iter().filter(|is_there| *is_there).count()
    }
}

/// What a modification does, wherever it does it.
struct Change<'a> {
    /// `cluster`
    sort: &'a str,
    at: Path,
    value: Option<&'a str>,
    json_patches: &'a [JsonPatchBlock],
}

impl<'a> Change<'a> {
    fn new(
        sort: &'a str,
        modification: &Path,
        value: Option<&'a str>,
        json_patches: Option<&'a [JsonPatchBlock]>,
    ) -> Self {
        Self { sort, at: modification.field(sort), value, json_patches: json_patches.unwrap_or_default() }
    }

    /// `matched`: the member that selects what is there already, which `Add` must not have.
    fn check<M: Message + Name + Default>(&self, operation: &Operation, matched: Option<&str>, found: &mut Violations) {
        match operation {
            Operation::Add => {
                if let Some(member) = matched {
                    found.add(&self.at.field(member), MUST_NOT_BE_DEFINED);
                }
                self.check_value::<M>(found);
            }
            Operation::Patch => self.check_patch::<M>(found),
            Operation::Remove => self.check_no_value(found),
            Operation::Other(_) => self.refuse_operation(r#""Add", "Patch", "Remove""#, found),
        }
    }

    fn check_filter<M: Message + Name + Default>(
        &self,
        operation: &FilterOperation,
        matched: Option<&FilterMatch>,
        found: &mut Violations,
    ) {
        let mut need_name = |reason: &str| {
            if matched.is_none_or(|matched| matched.name.is_none()) {
                found.add(&self.at.field("match.name"), reason);
            }
        };
        match operation {
            FilterOperation::AddFirst | FilterOperation::AddLast => self.check_value::<M>(found),
            FilterOperation::AddBefore => {
                need_name("must be defined. You need to pick a filter before which this one will be added");
                self.check_value::<M>(found);
            }
            FilterOperation::AddAfter => {
                need_name("must be defined. You need to pick a filter after which this one will be added");
                self.check_value::<M>(found);
            }
            FilterOperation::Patch => {
                need_name(MUST_BE_DEFINED);
                self.check_patch::<M>(found);
            }
            FilterOperation::Remove => self.check_no_value(found),
            FilterOperation::Other(_) => {
                let operations = r#""AddFirst", "AddLast", "AddBefore", "AddAfter", "Patch", "Remove""#;
                self.refuse_operation(operations, found);
            }
        }
    }

    fn refuse_operation(&self, operations: &str, found: &mut Violations) {
        found.add(&self.at.field("operation"), format!("invalid operation. Available operations: {operations}"));
    }

    fn check_no_value(&self, found: &mut Violations) {
        if self.value.is_some() {
            found.add(&self.at.field("value"), MUST_NOT_BE_DEFINED);
        }
    }

    fn check_value<M: Message + Name + Default>(&self, found: &mut Violations) {
        let at = self.at.field("value");
        let Some(value) = self.value else { return found.add(&at, MUST_BE_DEFINED) };
        if let Err(reason) = envoy_fragment::check::<M>(value) {
            found.add(&at, format!("native Envoy resource is not valid: {reason}"));
        }
    }

    fn check_patch<M: Message + Name + Default>(&self, found: &mut Violations) {
        match (self.value, self.json_patches) {
            (None, []) => {
                let reason = format!("{} must have exactly one defined: value, jsonPatches", self.sort);
                found.add(&self.at, reason);
            }
            (None, changes) => json_patch::check(&self.at.field("jsonPatches"), changes, found),
            (Some(_), []) => self.check_value::<M>(found),
            (Some(_), _) => {
                let reason = format!("{} must have only one type defined: value, jsonPatches", self.sort);
                found.add(&self.at, reason);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::spec::tabled::{assert_faults, assert_printed, warnings};

    fn of(modifications: &str) -> String {
        format!(r#"{{"default":{{"appendModifications":[{modifications}]}}}}"#)
    }

    #[test]
    fn members_are_printed_in_order() {
        assert_printed::<MeshProxyPatch>(
            &of(r#"{"httpFilter":{"jsonPatches":[{"value":{"b":1,"a":2},"path":"/","op":"add"}],"operation":"Patch",
                "match":{"listenerTags":{"b":"2","a":"1"},"listenerName":"l","name":"n","origin":"o"}}},
                {"virtualHost":{"value":"","operation":"Add","match":{}}}"#),
            r#"{"default":{"appendModifications":[{"httpFilter":{"match":{"origin":"o","name":"n","listenerName":"l","listenerTags":{"a":"1","b":"2"}},"operation":"Patch","jsonPatches":[{"op":"add","path":"/","value":{"a":2,"b":1}}]}},{"virtualHost":{"match":{},"operation":"Add","value":""}}]}}"#,
        );
    }

    #[test]
    fn there_is_one_modification_at_a_time() {
        assert_faults::<MeshProxyPatch>(
            Kind::MeshProxyPatch,
            &[
                (r#"{"default":{}}"#, "spec.default.appendModifications: must not be empty"),
                (
                    &of(r#"{},{"cluster":{"operation":"Remove"},"listener":{"operation":"Remove"}},{"cluster":{"operation":"Remove"}}"#),
                    "spec.default.appendModifications[0]: exactly one modification can be defined at a time. Currently, 0 modifications are defined
                     spec.default.appendModifications[1]: exactly one modification can be defined at a time. Currently, 2 modifications are defined",
                ),
                (
                    r#"{"targetRef":{"kind":"MeshGateway","name":"g","tags":{"a":"b"}},"default":{"appendModifications":[{"cluster":{"operation":"Remove"}}]}}"#,
                    "spec.targetRef.tags: must not be set with kind MeshGateway",
                ),
            ],
        );
    }

    #[test]
    fn clusters_listeners_and_virtual_hosts() {
        let at = "spec.default.appendModifications";
        assert_faults::<MeshProxyPatch>(
            Kind::MeshProxyPatch,
            &[
                (
                    &of(
                        r#"{"cluster":{"operation":"Add","value":"name: a\nconnectTimeout: 5s"}},{"listener":{"operation":"Patch","value":"foo: bar"}},
                    {"virtualHost":{"match":{"routeConfigurationName":"r"},"operation":"Patch","jsonPatches":[{"op":"remove","path":"/a"}]}}"#,
                    ),
                    "",
                ),
                (
                    &of(
                        r#"{"cluster":{"operation":"Add","match":{}}},{"listener":{"operation":"Remove","value":"x: y"}},{"cluster":{"operation":"AddFirst"}},
                        {"cluster":{"operation":"Patch"}},{"listener":{"operation":"Patch","value":"{","jsonPatches":[{"op":"remove","path":"/a"}]}},
                        {"virtualHost":{"match":{"name":"n"},"operation":"Add","value":"{"}},{"listener":{"operation":"Patch","jsonPatches":[{"op":"remove","path":"/"}]}}"#,
                    ),
                    &format!(
                        r#"{at}[0].cluster.match: must not be defined
                           {at}[0].cluster.value: must be defined
                           {at}[1].listener.value: must not be defined
                           {at}[2].cluster.operation: invalid operation. Available operations: "Add", "Patch", "Remove"
                           {at}[3].cluster: cluster must have exactly one defined: value, jsonPatches
                           {at}[4].listener: listener must have only one type defined: value, jsonPatches
                           {at}[5].virtualHost.match.name: must not be defined
                           {at}[5].virtualHost.value: native Envoy resource is not valid: unexpected EOF
                           {at}[6].listener.jsonPatches[0].path: root path cannot be removed"#
                    ),
                ),
            ],
        );
    }

    #[test]
    fn filters_have_an_order() {
        let at = "spec.default.appendModifications";
        assert_faults::<MeshProxyPatch>(
            Kind::MeshProxyPatch,
            &[
                (
                    &of(
                        r#"{"httpFilter":{"operation":"AddFirst","value":"name: a"}},{"networkFilter":{"match":{"name":"a"},"operation":"Patch","value":"name: b"}},
                    {"networkFilter":{"operation":"Remove"}}"#,
                    ),
                    "",
                ),
                (
                    &of(
                        r#"{"httpFilter":{"operation":"AddLast","value":"{"}},{"networkFilter":{"operation":"AddBefore"}},{"httpFilter":{"match":{"origin":"a"},"operation":"AddAfter","value":"name: a"}},
                        {"networkFilter":{"operation":"Patch","value":"name: a"}},{"httpFilter":{"operation":"Remove","value":"a: b"}},{"httpFilter":{"operation":"Add"}}"#,
                    ),
                    &format!(
                        r#"{at}[0].httpFilter.value: native Envoy resource is not valid: unexpected EOF
                           {at}[1].networkFilter.match.name: must be defined. You need to pick a filter before which this one will be added
                           {at}[1].networkFilter.value: must be defined
                           {at}[2].httpFilter.match.name: must be defined. You need to pick a filter after which this one will be added
                           {at}[3].networkFilter.match.name: must be defined
                           {at}[4].httpFilter.value: must not be defined
                           {at}[5].httpFilter.operation: invalid operation. Available operations: "AddFirst", "AddLast", "AddBefore", "AddAfter", "Patch", "Remove""#
                    ),
                ),
            ],
        );
    }

    #[test]
    fn old_kinds_give_warnings() {
        let old = r#"{"targetRef":{"kind":"MeshSubset"},"default":{}}"#;
        assert_eq!(warnings::<MeshProxyPatch>(Kind::MeshProxyPatch, old).len(), 1);
    }
}
