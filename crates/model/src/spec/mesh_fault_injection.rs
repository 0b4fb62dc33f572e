//! `MeshFaultInjection`: requests that fail, wait or trickle on purpose (api-and-kumactl 3.29, 3.30).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::kind::Kind;
use crate::number::{IntOrString, check_percentage};
use crate::resource::Meta;
use crate::spec::JsonSpec;
use crate::spec::check::{self, FROM_WITH_GATEWAYS, MUST_BE_DEFINED, MUST_NOT_BE_DEFINED, each};
use crate::spec::formats::is_bandwidth;
use crate::spec::inbound_match::Match;
use crate::spec::target_ref::{Allowed, Item, Policy, TargetKind, TargetRef, check_top, top_warnings};
use crate::violation::{Path, Violations};

/// Which requests fail, wait or trickle.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshFaultInjection {
    /// The proxies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Faults for calls of clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Vec<Item<Conf>>>,
    /// Faults for calls through a gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<Item<Conf>>>,
    /// Faults for incoming calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<Rule>>,
}

/// Faults for some incoming calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rule {
    /// The clients; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<Vec<Match>>,
    /// The faults.
    pub default: Conf,
}

/// Faults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Conf {
    /// Faults of HTTP requests, each for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Vec<Fault>>,
}

/// Faults that go together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// Requests that fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<Abort>,
    /// Requests that wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Delay>,
    /// Responses that trickle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_bandwidth: Option<ResponseBandwidth>,
}

/// Requests that fail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Abort {
    /// The status they get.
    pub http_status: i32,
    /// Their share, 0 to 100.
    pub percentage: IntOrString,
}

/// Requests that wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Delay {
    /// How long.
    pub value: GoDuration,
    /// Their share, 0 to 100.
    pub percentage: IntOrString,
}

/// Responses that trickle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResponseBandwidth {
    /// How fast, `50Mbps`.
    pub limit: String,
    /// Their share, 0 to 100.
    pub percentage: IntOrString,
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
const FROM: Allowed<'_> =
    Allowed::kinds(&[TargetKind::Mesh, TargetKind::MeshSubset, TargetKind::MeshServiceSubset, TargetKind::MeshService]);
const TO: Allowed<'_> = Allowed::kinds(&[TargetKind::Mesh]);

impl Policy for MeshFaultInjection {
    const KIND: Kind = Kind::MeshFaultInjection;

    type To = Item<Conf>;
    type From = Item<Conf>;
    type Rule = Rule;

    fn target_ref(&self) -> Option<&TargetRef> {
        self.target_ref.as_ref()
    }

    fn to(&self) -> &[Item<Conf>] {
        self.to.as_deref().unwrap_or_default()
    }

    fn from(&self) -> &[Item<Conf>] {
        self.from.as_deref().unwrap_or_default()
    }

    fn rules(&self) -> &[Rule] {
        self.rules.as_deref().unwrap_or_default()
    }
}

impl JsonSpec for MeshFaultInjection {
    fn validate(&self, meta: &Meta, found: &mut Violations) {
        let spec = Path::of("spec");
        check_top(self, meta, SYSTEM, OTHERS, found);
        if !self.from().is_empty() && !self.rules().is_empty() {
            found.add(&spec, "field 'from' must be empty when 'rules' is defined");
        }
        for (at, rule) in each(&spec.field("rules"), self.rules()) {
            for (at, condition) in each(&at.field("matches"), rule.matches.as_deref().unwrap_or_default()) {
                condition.check(&at, found);
            }
            rule.default.check(&at.field("default"), found);
        }
        let gateways = self.target_ref().is_none_or(TargetRef::includes_gateways);
        let lists = [
            ("from", self.from(), FROM, gateways, FROM_WITH_GATEWAYS),
            ("to", self.to(), TO, !gateways, MUST_NOT_BE_DEFINED),
        ];
        for (name, items, allowed, out_of_place, reason) in lists {
            let at = spec.field(name);
            if out_of_place && !items.is_empty() {
                found.add(&at, reason);
                continue;
            }
            for (at, item) in each(&at, items) {
                item.target_ref.check(&at.field("targetRef"), allowed, found);
                item.default.check(&at.field("default"), found);
            }
        }
    }

    fn warnings(&self, _: &Meta) -> Vec<String> {
        let old = self.from().iter().filter(|item| item.target_ref.kind == TargetKind::MeshService).map(|_| {
            "MeshService value for 'from[].targetRef.kind' is deprecated, use MeshSubset with 'kuma.io/service' instead"
                .to_owned()
        });
        top_warnings(self.target_ref()).into_iter().chain(old).collect()
    }
}

impl Conf {
    /// The index stands behind the name of the fault, as the real control plane has it.
    fn check(&self, at: &Path, found: &mut Violations) {
        let at = at.field("http");
        for (index, fault) in self.http.iter().flatten().enumerate() {
            let part = |name: &str| at.field(name).index(index);
            if let Some(abort) = &fault.abort {
                abort.check(&part("abort"), found);
            }
            if let Some(delay) = &fault.delay {
                delay.check(&part("delay"), found);
            }
            if let Some(bandwidth) = &fault.response_bandwidth {
                bandwidth.check(&part("responseBandwidth"), found);
            }
        }
    }
}

impl Abort {
    fn check(&self, at: &Path, found: &mut Violations) {
        check::status_code(&at.field("httpStatus"), self.http_status, found);
        check_percentage(&at.field("percentage"), &self.percentage, found);
    }
}

impl Delay {
    fn check(&self, at: &Path, found: &mut Violations) {
        check::not_negative(&at.field("value"), Some(self.value), found);
        check_percentage(&at.field("percentage"), &self.percentage, found);
    }
}

impl ResponseBandwidth {
    fn check(&self, at: &Path, found: &mut Violations) {
        if self.limit.is_empty() {
            found.add(&at.field("limit"), MUST_BE_DEFINED);
        } else if !is_bandwidth(&self.limit) {
            found.add(&at.field("limit"), "must be in kbps/Mbps/Gbps units");
        }
        check_percentage(&at.field("percentage"), &self.percentage, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::spec::tabled::{assert_faults, assert_printed, warnings};

    const FAULTS: &str = r#"{"http":[{},{"abort":{"httpStatus":99,"percentage":101},"delay":{"value":"-1s","percentage":"abc"},
        "responseBandwidth":{"limit":"50mbps","percentage":-1}},{"responseBandwidth":{"limit":"","percentage":"2.5"}}]}"#;

    fn expected(at: &str) -> String {
        format!(
            "{at}.http.abort[1].httpStatus: must be in inclusive range [100, 599]
             {at}.http.abort[1].percentage: must be in inclusive range [0.0, 100.0]
             {at}.http.delay[1].value: must not be negative when defined
             {at}.http.delay[1].percentage: string must be a valid number
             {at}.http.responseBandwidth[1].limit: must be in kbps/Mbps/Gbps units
             {at}.http.responseBandwidth[1].percentage: must be in inclusive range [0.0, 100.0]
             {at}.http.responseBandwidth[2].limit: must be defined"
        )
    }

    #[test]
    fn members_are_printed_in_order() {
        assert_printed::<MeshFaultInjection>("{}", "{}");
        assert_printed::<MeshFaultInjection>(
            r#"{"rules":[{"default":{},"matches":[]}],"to":[{"targetRef":{"kind":"Mesh"}}],
                "from":[{"default":{"http":[{"delay":{"percentage":5,"value":"5s"},"abort":{"percentage":"2.5","httpStatus":500}}]},"targetRef":{"kind":"Mesh"}}]}"#,
            r#"{"from":[{"targetRef":{"kind":"Mesh"},"default":{"http":[{"abort":{"httpStatus":500,"percentage":"2.5"},"delay":{"value":"5s","percentage":5}}]}}],"to":[{"targetRef":{"kind":"Mesh"},"default":{}}],"rules":[{"matches":[],"default":{}}]}"#,
        );
    }

    #[test]
    fn faults_are_checked_in_every_list() {
        let sidecar = r#""targetRef":{"kind":"Mesh","proxyTypes":["Sidecar"]}"#;
        let item = format!(r#"{{"targetRef":{{"kind":"Mesh"}},"default":{FAULTS}}}"#);
        assert_faults::<MeshFaultInjection>(
            Kind::MeshFaultInjection,
            &[
                ("{}", ""),
                (&format!(r#"{{{sidecar},"from":[{item}]}}"#), &expected("spec.from[0].default")),
                (&format!(r#"{{"to":[{item}]}}"#), &expected("spec.to[0].default")),
                (&format!(r#"{{"rules":[{{"default":{FAULTS}}}]}}"#), &expected("spec.rules[0].default")),
                (
                    r#"{"rules":[{"matches":[{"spiffeID":{"type":"Exact","value":"x"}}],"default":{}}]}"#,
                    "spec.rules[0].matches[0].spiffeID: must be a valid Spiffe ID",
                ),
            ],
        );
    }

    #[test]
    fn from_is_for_sidecars_and_to_for_gateways() {
        assert_faults::<MeshFaultInjection>(
            Kind::MeshFaultInjection,
            &[
                (
                    r#"{"from":[{"targetRef":{"kind":"Mesh"}}],"rules":[{"default":{}}]}"#,
                    "spec: field 'from' must be empty when 'rules' is defined
                     spec.from: must not be defined when the scope includes a Gateway, select only proxyType Sidecar or select only gateways and use spec.to",
                ),
                (
                    r#"{"targetRef":{"kind":"Dataplane"},"from":[{"targetRef":{"kind":"Dataplane"}}],"to":[{"targetRef":{"kind":"Mesh"}}]}"#,
                    "spec.from[0].targetRef.kind: value 'Dataplane' is not supported
                     spec.to: must not be defined",
                ),
                (
                    r#"{"targetRef":{"kind":"MeshGateway","name":"g"},"to":[{"targetRef":{"kind":"MeshService","name":"a"}}]}"#,
                    "spec.to[0].targetRef.kind: value 'MeshService' is not supported",
                ),
            ],
        );
    }

    #[test]
    fn old_kinds_give_warnings_and_from_does_not() {
        assert_eq!(
            warnings::<MeshFaultInjection>(
                Kind::MeshFaultInjection,
                r#"{"targetRef":{"kind":"MeshService","name":"a"},"from":[{"targetRef":{"kind":"Mesh"}},{"targetRef":{"kind":"MeshService","name":"b"}}]}"#
            ),
            [
                "MeshService value for 'targetRef.kind' is deprecated, use Dataplane with labels instead",
                "MeshService value for 'from[].targetRef.kind' is deprecated, use MeshSubset with 'kuma.io/service' instead",
            ]
        );
    }
}
