//! `MeshTCPRoute`: where connections go (api-and-kumactl 3.22).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::Kind;
use crate::resource::Meta;
use crate::spec::JsonSpec;
use crate::spec::check::{self, each};
use crate::spec::target_ref::{Allowed, BackendRef, Policy, TargetKind, TargetRef, check_top, top_warnings};
use crate::violation::{Path, Violations};

/// Where connections of the selected proxies go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshTcpRoute {
    /// The proxies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// What holds for connections to destinations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub to: Option<Vec<To>>,
}

/// What holds for connections to a destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct To {
    /// The destination.
    pub target_ref: TargetRef,
    /// What is done; there is nothing to tell connections apart by, so it is one at most.
    #[schemars(length(max = 1))]
    pub rules: Vec<Rule>,
}

/// What is done with connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rule {
    /// What is done.
    pub default: RuleConf,
}

/// What is done with connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleConf {
    /// Where they go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_refs: Option<Vec<BackendRef>>,
}

const SYSTEM: Allowed<'_> = Allowed::kinds(&[
    TargetKind::Mesh,
    TargetKind::MeshSubset,
    TargetKind::MeshGateway,
    TargetKind::MeshService,
    TargetKind::MeshServiceSubset,
    TargetKind::Dataplane,
])
.with_listener_tags();
const OTHERS: Allowed<'_> = Allowed::kinds(&[
    TargetKind::Mesh,
    TargetKind::MeshSubset,
    TargetKind::MeshService,
    TargetKind::MeshServiceSubset,
    TargetKind::Dataplane,
]);
const TO: Allowed<'_> =
    Allowed::kinds(&[TargetKind::MeshService, TargetKind::MeshExternalService, TargetKind::MeshMultiZoneService]);
const TO_OF_GATEWAY: Allowed<'_> = Allowed::kinds(&[TargetKind::Mesh]);
const BACKENDS: Allowed<'_> = Allowed::kinds(&[
    TargetKind::MeshService,
    TargetKind::MeshServiceSubset,
    TargetKind::MeshExternalService,
    TargetKind::MeshMultiZoneService,
]);

impl Policy for MeshTcpRoute {
    const KIND: Kind = Kind::MeshTCPRoute;

    type To = To;
    type From = ();
    type Rule = ();

    fn target_ref(&self) -> Option<&TargetRef> {
        self.target_ref.as_ref()
    }

    fn to(&self) -> &[To] {
        self.to.as_deref().unwrap_or_default()
    }
}

impl JsonSpec for MeshTcpRoute {
    fn validate(&self, meta: &Meta, found: &mut Violations) {
        check_top(self, meta, SYSTEM, OTHERS, found);
        let gateway = self.top_kind() == TargetKind::MeshGateway;
        for (at, to) in each(&Path::of("spec.to"), self.to()) {
            to.target_ref.check(&at.field("targetRef"), if gateway { TO_OF_GATEWAY } else { TO }, found);
            for (at, rule) in each(&at.field("rules"), &to.rules) {
                rule.default.check(&at.field("default"), found);
            }
        }
    }

    fn warnings(&self, _: &Meta) -> Vec<String> {
        top_warnings(self.target_ref())
    }
}

impl RuleConf {
    fn check(&self, at: &Path, found: &mut Violations) {
        let at = at.field("backendRefs");
        let backends = self.backend_refs.as_deref().unwrap_or_default();
        if backends.is_empty() {
            found.add(&at, check::MUST_BE_DEFINED);
        }
        for (at, backend) in each(&at, backends) {
            backend.check(&at, BACKENDS, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::spec::testing::{assert_prints, consumer_meta, faults_of, warnings};

    fn faults(spec: Value) -> Vec<String> {
        crate::spec::testing::faults::<MeshTcpRoute>(spec)
    }

    fn route(target: Value, backends: Value) -> Value {
        json!({"to": [{"targetRef": target, "rules": [{"default": {"backendRefs": backends}}]}]})
    }

    #[test]
    fn nothing_need_be_said_but_a_rule_has_back_ends() {
        assert!(faults(json!({})).is_empty());
        let service = json!({"kind": "MeshService", "name": "a"});
        assert!(faults(json!({"to": [{"targetRef": service, "rules": []}]})).is_empty());
        let missing = ["spec.to[0].rules[0].default.backendRefs: must be defined"];
        assert_eq!(faults(route(service.clone(), json!([]))), missing);
        assert_eq!(faults(route(service, Value::Null)), missing);
    }

    #[test]
    fn references_are_limited_to_their_positions() {
        let backends = json!([
            {"kind": "MeshService", "name": "a"}, {"kind": "MeshMultiZoneService", "name": "a"},
            {"kind": "MeshGateway", "name": "a"}, {"kind": "MeshService", "name": "kuma.io/unresolved-backend"},
        ]);
        assert_eq!(
            faults(route(json!({"kind": "Mesh"}), backends)),
            [
                "spec.to[0].targetRef.kind: value 'Mesh' is not supported",
                "spec.to[0].rules[0].default.backendRefs[1].port: must be defined with kind MeshMultiZoneService",
                "spec.to[0].rules[0].default.backendRefs[2].kind: value 'MeshGateway' is not supported",
                "spec.to[0].rules[0].default.backendRefs[3].name: invalid characters: must consist of lower case alphanumeric characters, '-', '.' and '_'.",
            ]
        );
    }

    #[test]
    fn a_gateway_at_the_top_is_for_the_system_and_goes_to_the_mesh() {
        let mut spec =
            route(json!({"kind": "MeshService", "name": "a"}), json!([{"kind": "MeshService", "name": "a"}]));
        spec["targetRef"] = json!({"kind": "MeshGateway", "name": "edge", "tags": {"port": "80"}});
        let refused = "spec.to[0].targetRef.kind: value 'MeshService' is not supported";
        assert_eq!(faults(spec.clone()), [refused]);
        assert_eq!(
            faults_of::<MeshTcpRoute>(spec, &consumer_meta()),
            ["spec.targetRef.kind: value 'MeshGateway' is not supported", refused]
        );
    }

    #[test]
    fn old_kinds_are_warned_about() {
        assert_eq!(
            warnings::<MeshTcpRoute>(json!({"targetRef": {"kind": "MeshServiceSubset", "name": "a"}})),
            ["MeshServiceSubset value for 'targetRef.kind' is deprecated, use Dataplane with labels instead"]
        );
    }

    #[test]
    fn the_schema_has_the_limits_that_the_rules_leave_to_it() {
        assert_eq!(schemars::schema_for!(MeshTcpRoute).pointer("/properties/to/minItems"), Some(&json!(1)));
        let to = schemars::schema_for!(To);
        assert_eq!(to.pointer("/properties/rules/maxItems"), Some(&json!(1)));
        assert_eq!(to.get("required"), Some(&json!(["targetRef", "rules"])));
    }

    #[test]
    fn members_are_printed_in_the_declared_order() {
        assert_prints::<MeshTcpRoute>(
            r#"{"targetRef":{"kind":"Mesh"},"to":[{"targetRef":{"kind":"MeshService","name":"a"},"rules":[{"default":{
                "backendRefs":[{"kind":"MeshService","name":"a","weight":100}]}}]}]}"#,
        );
    }
}
