//! `MeshTimeout`: how long to wait (api-and-kumactl 3.17).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::kind::Kind;
use crate::resource::Meta;
use crate::spec::JsonSpec;
use crate::spec::check::{self, each};
use crate::spec::target_ref::{
    Allowed, Item, Policy, Rule, TargetKind, TargetRef, check_lists, check_top, from_and_top_warnings,
};
use crate::violation::{Path, Violations};

/// How long the selected proxies wait.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshTimeout {
    /// The proxies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// What holds for calls to destinations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<Item<Conf>>>,
    /// What holds for calls of clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Vec<Item<Conf>>>,
    /// What holds for incoming calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<Rule<Conf>>>,
}

/// Limits in time. What is absent leaves the default of 3.17.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Conf {
    /// Until a TCP connection is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_timeout: Option<GoDuration>,
    /// Without a byte on a connection; 0 for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<GoDuration>,
    /// Limits of HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
}

/// Limits of HTTP; 0 for ever.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Http {
    /// Until a request has its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_timeout: Option<GoDuration>,
    /// Without a byte on a stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_idle_timeout: Option<GoDuration>,
    /// Life of a stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_stream_duration: Option<GoDuration>,
    /// Life of a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connection_duration: Option<GoDuration>,
    /// Until the headers of a request are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_headers_timeout: Option<GoDuration>,
}

const SYSTEM: Allowed<'_> = Allowed::kinds(&[
    TargetKind::Mesh,
    TargetKind::MeshSubset,
    TargetKind::Dataplane,
    TargetKind::MeshGateway,
    TargetKind::MeshService,
    TargetKind::MeshServiceSubset,
    TargetKind::MeshHttpRoute,
])
.with_listener_tags();
const OTHERS: Allowed<'_> = Allowed::kinds(&[
    TargetKind::Mesh,
    TargetKind::Dataplane,
    TargetKind::MeshSubset,
    TargetKind::MeshService,
    TargetKind::MeshServiceSubset,
]);
const FROM: Allowed<'_> = Allowed::kinds(&[TargetKind::Mesh]);
const TO: Allowed<'_> = Allowed::kinds(&[
    TargetKind::Mesh,
    TargetKind::MeshService,
    TargetKind::MeshExternalService,
    TargetKind::MeshMultiZoneService,
    TargetKind::MeshHttpRoute,
]);
const TO_OF_GATEWAY: Allowed<'_> = Allowed::kinds(&[TargetKind::Mesh, TargetKind::MeshExternalService]);

impl Policy for MeshTimeout {
    const KIND: Kind = Kind::MeshTimeout;

    type To = Item<Conf>;
    type From = Item<Conf>;
    type Rule = Rule<Conf>;

    fn target_ref(&self) -> Option<&TargetRef> {
        self.target_ref.as_ref()
    }

    fn to(&self) -> &[Item<Conf>] {
        self.to.as_deref().unwrap_or_default()
    }

    fn from(&self) -> &[Item<Conf>] {
        self.from.as_deref().unwrap_or_default()
    }

    fn rules(&self) -> &[Rule<Conf>] {
        self.rules.as_deref().unwrap_or_default()
    }
}

impl JsonSpec for MeshTimeout {
    fn validate(&self, meta: &Meta, found: &mut Violations) {
        check_top(self, meta, SYSTEM, OTHERS, found);
        check_lists(self, found);
        let spec = Path::of("spec");
        let top = self.top_kind();
        let gateway = matches!(top, TargetKind::MeshGateway | TargetKind::MeshHttpRoute);
        if gateway && !self.from().is_empty() {
            found.add(&spec.field("from"), check::MUST_NOT_BE_DEFINED);
        }
        let from = if gateway { &[] } else { self.from() };
        for (at, item) in each(&spec.field("from"), from) {
            item.target_ref.check(&at.field("targetRef"), FROM, found);
            item.default.check(&at.field("default"), &top, found);
        }
        for (at, item) in each(&spec.field("to"), self.to()) {
            item.target_ref.check(&at.field("targetRef"), if gateway { TO_OF_GATEWAY } else { TO }, found);
            item.default.check(&at.field("default"), &top, found);
        }
        for (at, rule) in each(&spec.field("rules"), self.rules()) {
            rule.default.check(&at.field("default"), &top, found);
        }
    }

    fn warnings(&self, _: &Meta) -> Vec<String> {
        from_and_top_warnings(self)
    }
}

impl Conf {
    fn check(&self, at: &Path, top: &TargetKind, found: &mut Violations) {
        if *self == Self::default() {
            return found.add(at, "at least one timeout should be configured");
        }
        if *top == TargetKind::MeshHttpRoute {
            self.check_of_route(at, found);
        }
        check::positive(&at.field("connectionTimeout"), self.connection_timeout, found);
        check::not_negative(&at.field("idleTimeout"), self.idle_timeout, found);
        if let Some(http) = &self.http {
            http.check(&at.field("http"), found);
        }
    }

    /// A route has no say in what belongs to the connection.
    fn check_of_route(&self, at: &Path, found: &mut Violations) {
        let http = self.http.as_ref();
        let of_connection = [
            ("connectionTimeout", self.connection_timeout),
            ("idleTimeout", self.idle_timeout),
            ("http.maxStreamDuration", http.and_then(|http| http.max_stream_duration)),
            ("http.maxConnectionDuration", http.and_then(|http| http.max_connection_duration)),
        ];
        for (member, _) in of_connection.iter().filter(|(_, timeout)| timeout.is_some()) {
            let reason = "can't be specified when top-level TargetRef is referencing MeshHTTPRoute";
            found.add(&at.field(member), reason);
        }
    }
}

impl Http {
    fn check(&self, at: &Path, found: &mut Violations) {
        let limits = [
            ("requestTimeout", self.request_timeout),
            ("streamIdleTimeout", self.stream_idle_timeout),
            ("maxStreamDuration", self.max_stream_duration),
            ("maxConnectionDuration", self.max_connection_duration),
            ("requestHeadersTimeout", self.request_headers_timeout),
        ];
        // The last of them alone does not count (recorded).
        if limits.iter().take(4).all(|(_, timeout)| timeout.is_none()) {
            found.add(at, "at least one timeout in this section should be configured");
        }
        for (member, timeout) in limits {
            check::not_negative(&at.field(member), timeout, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::spec::testing::{assert_prints, consumer_meta, faults_of, warnings};

    fn faults(spec: Value) -> Vec<String> {
        crate::spec::testing::faults::<MeshTimeout>(spec)
    }

    fn to(default: Value) -> Value {
        json!({"to": [{"targetRef": {"kind": "Mesh"}, "default": default}]})
    }

    #[test]
    fn it_says_something_and_rules_stand_alone() {
        let item = json!({"targetRef": {"kind": "Mesh"}, "default": {"connectionTimeout": "1s"}});
        let rule = json!({"default": {"idleTimeout": "0s"}});
        assert_eq!(faults(json!({})), ["spec: at least one of 'from', 'to' or 'rules' has to be defined"]);
        for list in ["to", "from"] {
            assert_eq!(
                faults(json!({list: [item], "rules": [rule]})),
                ["spec: fields 'to' and 'from' must be empty when 'rules' is defined"]
            );
        }
        assert!(faults(json!({"to": [item], "from": [item], "rules": []})).is_empty());
        assert!(faults(json!({"rules": [rule]})).is_empty());
    }

    #[test]
    fn timeouts_have_their_ranges() {
        assert_eq!(faults(to(json!({}))), ["spec.to[0].default: at least one timeout should be configured"]);
        assert_eq!(
            faults(to(json!({"connectionTimeout": "0s", "idleTimeout": "-5s", "http": {}}))),
            [
                "spec.to[0].default.connectionTimeout: must be greater than zero when defined",
                "spec.to[0].default.idleTimeout: must not be negative when defined",
                "spec.to[0].default.http: at least one timeout in this section should be configured",
            ]
        );
        let members = [
            "requestTimeout",
            "streamIdleTimeout",
            "maxStreamDuration",
            "maxConnectionDuration",
            "requestHeadersTimeout",
        ];
        let http: Value = members.iter().map(|member| ((*member).to_owned(), json!("-1ns"))).collect();
        let negative =
            members.map(|member| format!("spec.to[0].default.http.{member}: must not be negative when defined"));
        assert_eq!(faults(to(json!({"http": http}))), negative);
        assert_eq!(
            faults(to(json!({"http": {"requestHeadersTimeout": "1s"}}))),
            ["spec.to[0].default.http: at least one timeout in this section should be configured"]
        );
    }

    #[test]
    fn a_gateway_or_a_route_at_the_top_narrows_the_rest() {
        let item = |kind: &str| json!({"targetRef": {"kind": kind, "name": "a"}, "default": {"http": {"requestTimeout": "1s"}}});
        for kind in ["MeshGateway", "MeshHTTPRoute"] {
            let spec = json!({
                "targetRef": {"kind": kind, "name": "a"},
                "from": [{"targetRef": {"kind": "Mesh"}}],
                "to": [item("MeshService"), item("MeshExternalService")],
            });
            assert_eq!(
                faults(spec),
                ["spec.from: must not be defined", "spec.to[0].targetRef.kind: value 'MeshService' is not supported"]
            );
        }
        let spec = json!({"from": [item("MeshService")], "to": [item("MeshHTTPRoute"), item("MeshSubset")]});
        assert_eq!(
            faults(spec),
            [
                "spec.from[0].targetRef.kind: value 'MeshService' is not supported",
                "spec.to[1].targetRef.kind: value 'MeshSubset' is not supported",
            ]
        );
    }

    #[test]
    fn a_route_has_no_say_in_connections() {
        let mut spec = to(json!({
            "connectionTimeout": "1s", "idleTimeout": "1s",
            "http": {"requestTimeout": "1s", "maxStreamDuration": "1s", "maxConnectionDuration": "1s"},
        }));
        assert!(faults(spec.clone()).is_empty());
        spec["targetRef"] = json!({"kind": "MeshHTTPRoute", "name": "a"});
        let members = ["connectionTimeout", "idleTimeout", "http.maxStreamDuration", "http.maxConnectionDuration"];
        let expected = members.map(|member| {
            format!(
                "spec.to[0].default.{member}: can't be specified when top-level TargetRef is referencing MeshHTTPRoute"
            )
        });
        assert_eq!(faults(spec), expected);
    }

    #[test]
    fn only_the_system_may_select_gateways_and_routes() {
        let mut spec = to(json!({"http": {"requestTimeout": "1s"}}));
        for kind in ["MeshGateway", "MeshHTTPRoute"] {
            spec["targetRef"] = json!({"kind": kind, "name": "a"});
            assert!(faults(spec.clone()).is_empty());
            assert_eq!(
                faults_of::<MeshTimeout>(spec.clone(), &consumer_meta()),
                [format!("spec.targetRef.kind: value '{kind}' is not supported")]
            );
        }
    }

    #[test]
    fn a_section_of_a_dataplane_needs_from_or_rules() {
        let section = json!({"kind": "Dataplane", "name": "a", "sectionName": "http"});
        let mut spec = to(json!({"idleTimeout": "1s"}));
        spec["targetRef"] = section.clone();
        assert_eq!(faults(spec), ["spec.targetRef.sectionName: can only be used with inbound policies"]);
        assert!(faults(json!({"targetRef": section, "rules": [{"default": {"idleTimeout": "1s"}}]})).is_empty());
    }

    #[test]
    fn from_and_old_kinds_are_warned_about() {
        let spec =
            json!({"targetRef": {"kind": "MeshService", "name": "a"}, "from": [{"targetRef": {"kind": "Mesh"}}]});
        assert_eq!(
            warnings::<MeshTimeout>(spec),
            [
                "'from' field is deprecated, use 'rules' instead",
                "MeshService value for 'targetRef.kind' is deprecated, use Dataplane with labels instead",
            ]
        );
        assert!(warnings::<MeshTimeout>(json!({"from": []})).is_empty());
    }

    #[test]
    fn members_are_printed_in_the_declared_order() {
        assert_prints::<MeshTimeout>(
            r#"{"targetRef":{"kind":"Mesh"},"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionTimeout":"5s",
                "idleTimeout":"1h0m0s","http":{"requestTimeout":"15s","streamIdleTimeout":"30m0s","maxStreamDuration":"0s",
                "maxConnectionDuration":"0s","requestHeadersTimeout":"0s"}}}],"from":[],"rules":[{"default":{}}]}"#,
        );
    }
}
