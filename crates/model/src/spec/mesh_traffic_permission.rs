//! `MeshTrafficPermission`: which clients may call (api-and-kumactl 3.16).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::Kind;
use crate::resource::Meta;
use crate::spec::JsonSpec;
use crate::spec::check::{self, each};
use crate::spec::inbound_match::Match;
use crate::spec::target_ref::{Allowed, Item, Policy, TargetKind, TargetRef, check_top, top_warnings};
use crate::spec::words::words;
use crate::violation::{Path, Violations};

/// Which clients may call the selected proxies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshTrafficPermission {
    /// The proxies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// What holds for groups of clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Vec<Item<Conf>>>,
    /// What holds for clients by their identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<Rule>>,
}

/// What is done with a group of clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Conf {
    /// Whether they may call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
}

words!(
    /// Whether clients may call.
    Action { Allow = "Allow", Deny = "Deny", AllowWithShadowDeny = "AllowWithShadowDeny" }
);

/// What holds for clients by their identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rule {
    /// The clients.
    pub default: RuleConf,
}

/// Clients by what is done with them; a refusal outweighs a permission.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleConf {
    /// Clients that may not call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deny: Option<Vec<Match>>,
    /// Clients that may call, with a note in the log that they will not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_with_shadow_deny: Option<Vec<Match>>,
    /// Clients that may call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<Match>>,
}

const TOP: Allowed<'_> = Allowed::kinds(&[
    TargetKind::Mesh,
    TargetKind::MeshSubset,
    TargetKind::MeshService,
    TargetKind::MeshServiceSubset,
    TargetKind::Dataplane,
]);
const FROM: Allowed<'_> =
    Allowed::kinds(&[TargetKind::Mesh, TargetKind::MeshSubset, TargetKind::MeshService, TargetKind::MeshServiceSubset]);

impl Policy for MeshTrafficPermission {
    const KIND: Kind = Kind::MeshTrafficPermission;

    type To = ();
    type From = Item<Conf>;
    type Rule = Rule;

    fn target_ref(&self) -> Option<&TargetRef> {
        self.target_ref.as_ref()
    }

    fn from(&self) -> &[Item<Conf>] {
        self.from.as_deref().unwrap_or_default()
    }

    fn rules(&self) -> &[Rule] {
        self.rules.as_deref().unwrap_or_default()
    }
}

impl JsonSpec for MeshTrafficPermission {
    fn validate(&self, meta: &Meta, found: &mut Violations) {
        check_top(self, meta, TOP, TOP, found);
        let spec = Path::of("spec");
        match (self.from(), self.rules()) {
            ([], []) => found.add(&spec, "at least one of 'from' or 'rules' has to be defined"),
            ([_, ..], [_, ..]) => found.add(&spec, "field 'from' must be empty when 'rules' is defined"),
            _ => {}
        }
        for (at, rule) in each(&spec.field("rules"), self.rules()) {
            rule.default.check(&at, found);
        }
        for (at, item) in each(&spec.field("from"), self.from()) {
            item.target_ref.check(&at.field("targetRef"), FROM, found);
            if item.default.action.is_none() {
                found.add(&at.field("default.action"), check::MUST_BE_DEFINED);
            }
        }
    }

    fn warnings(&self, _: &Meta) -> Vec<String> {
        let services = self.from().iter().filter(|item| item.target_ref.kind == TargetKind::MeshService);
        let advice = "MeshService value for 'from[].targetRef.kind' is deprecated, \
                      use MeshSubset with 'kuma.io/service' instead";
        top_warnings(self.target_ref()).into_iter().chain(services.map(|_| advice.to_owned())).collect()
    }
}

impl RuleConf {
    /// Faults are reported at the rule, without the `default` in between (recorded).
    fn check(&self, at: &Path, found: &mut Violations) {
        let lists = [
            ("allow", self.allow.as_deref().unwrap_or_default()),
            ("allowWithShadowDeny", self.allow_with_shadow_deny.as_deref().unwrap_or_default()),
            ("deny", self.deny.as_deref().unwrap_or_default()),
        ];
        if lists.iter().all(|(_, matches)| matches.is_empty()) {
            found.add(at, "at least one of 'allow', 'allowWithShadowDeny', 'deny' has to be defined");
        }
        for (member, matches) in lists {
            for (at, condition) in each(&at.field(member), matches) {
                condition.check(&at, found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spec::testing::{assert_prints, warnings};

    type Faults = Vec<String>;

    fn faults(spec: serde_json::Value) -> Faults {
        crate::spec::testing::faults::<MeshTrafficPermission>(spec)
    }

    #[test]
    fn it_has_either_from_or_rules() {
        let from = json!([{"targetRef": {"kind": "Mesh"}, "default": {"action": "Allow"}}]);
        let rules = json!([{"default": {"deny": [{"spiffeID": {"type": "Exact", "value": "spiffe://a/b"}}]}}]);
        assert_eq!(faults(json!({})), ["spec: at least one of 'from' or 'rules' has to be defined"]);
        assert_eq!(faults(json!({"from": [], "rules": []})), faults(json!({})));
        assert_eq!(
            faults(json!({"from": from, "rules": rules})),
            ["spec: field 'from' must be empty when 'rules' is defined"]
        );
        assert!(faults(json!({"from": from})).is_empty());
        assert!(faults(json!({"rules": rules})).is_empty());
    }

    #[test]
    fn faults_of_rules_come_before_those_of_from() {
        let bad = |kind: &str| json!([{"spiffeID": {"type": kind, "value": "nospiffe"}}, {}]);
        let spec = json!({
            "targetRef": {"kind": "MeshGateway", "name": "a"},
            "from": [{"targetRef": {"kind": "Dataplane"}}, {"targetRef": {"kind": "MeshSubset"}, "default": {}}],
            "rules": [{"default": {}}, {"default": {"deny": bad("Exact"), "allowWithShadowDeny": bad("Prefix"), "allow": bad("Exact")}}],
        });
        assert_eq!(
            faults(spec),
            [
                "spec.targetRef.kind: value 'MeshGateway' is not supported",
                "spec: field 'from' must be empty when 'rules' is defined",
                "spec.rules[0]: at least one of 'allow', 'allowWithShadowDeny', 'deny' has to be defined",
                "spec.rules[1].allow[0].spiffeID: must be a valid Spiffe ID",
                "spec.rules[1].allowWithShadowDeny[0].spiffeID: must be a valid Spiffe ID",
                "spec.rules[1].deny[0].spiffeID: must be a valid Spiffe ID",
                "spec.from[0].targetRef.kind: value 'Dataplane' is not supported",
                "spec.from[0].default.action: must be defined",
                "spec.from[1].default.action: must be defined",
            ]
        );
    }

    #[test]
    fn every_service_in_from_is_warned_about() {
        let from = |kind| json!({"targetRef": {"kind": kind, "name": "a"}, "default": {"action": "Deny"}});
        let spec = json!({"targetRef": {"kind": "MeshSubset"}, "from": [from("MeshService"), from("Mesh"), from("MeshService")]});
        let services = "MeshService value for 'from[].targetRef.kind' is deprecated, use MeshSubset with 'kuma.io/service' instead";
        assert_eq!(
            warnings::<MeshTrafficPermission>(spec),
            [
                "MeshSubset value for 'targetRef.kind' is deprecated, use Dataplane with labels instead",
                services,
                services
            ]
        );
    }

    #[test]
    fn members_are_printed_in_the_declared_order() {
        assert_prints::<MeshTrafficPermission>(
            r#"{"targetRef":{"kind":"Mesh"},"from":[{"targetRef":{"kind":"Mesh"},"default":{"action":"AllowWithShadowDeny"}}],
                "rules":[{"default":{"deny":[],"allowWithShadowDeny":[],"allow":[{"spiffeID":{"type":"Prefix","value":"a"}}]}}]}"#,
        );
        assert_prints::<MeshTrafficPermission>(r#"{"from":[{"targetRef":{"kind":"Mesh"},"default":{}}]}"#);
    }
}
