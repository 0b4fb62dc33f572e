//! `MeshRateLimit`: how many requests and connections a proxy takes (api-and-kumactl 3.29, 3.30).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::kind::Kind;
use crate::resource::Meta;
use crate::spec::JsonSpec;
use crate::spec::check::{FROM_WITH_GATEWAYS, GREATER_THAN_ZERO, MUST_BE_DEFINED, MUST_NOT_BE_DEFINED, each};
use crate::spec::header_modifier::HeaderModifier;
use crate::spec::target_ref::{
    Allowed, Item, Policy, Rule, TargetKind, TargetRef, check_top, from_warning, top_warnings,
};
use crate::violation::{Path, Violations};

/// How much the selected proxies take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshRateLimit {
    /// The proxies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Limits for calls of clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Vec<Item<Conf>>>,
    /// Limits for calls through a gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<Item<Conf>>>,
    /// Limits for incoming calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<Rule<Conf>>>,
}

/// Limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Conf {
    /// Limits of each proxy by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<Local>,
}

/// Limits of each proxy by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Local {
    /// Limits of requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<LocalHttp>,
    /// Limits of connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<LocalTcp>,
}

/// Limits of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalHttp {
    /// Whether they are off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// How many requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_rate: Option<Rate>,
    /// What the others get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_rate_limit: Option<OnRateLimit>,
}

/// What requests beyond the limit get.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OnRateLimit {
    /// A status, 400 or higher; 429 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u32>,
    /// Headers of the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<HeaderModifier>,
}

/// Limits of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalTcp {
    /// Whether they are off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// How many connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_rate: Option<Rate>,
}

/// So many in so much time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rate {
    /// How many.
    pub num: u32,
    /// In how much time; more than 50 ms.
    pub interval: GoDuration,
}

const SYSTEM: Allowed<'_> = Allowed::kinds(&[
    TargetKind::Mesh,
    TargetKind::MeshSubset,
    TargetKind::MeshGateway,
    TargetKind::MeshService,
    TargetKind::MeshServiceSubset,
    TargetKind::MeshHttpRoute,
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
const MESH: Allowed<'_> = Allowed::kinds(&[TargetKind::Mesh]);

const SHORTEST_INTERVAL: GoDuration = GoDuration::from_millis(50);

impl Policy for MeshRateLimit {
    const KIND: Kind = Kind::MeshRateLimit;

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

impl JsonSpec for MeshRateLimit {
    fn validate(&self, meta: &Meta, found: &mut Violations) {
        let spec = Path::of("spec");
        let both_sides = !self.to().is_empty() || !self.from().is_empty();
        if both_sides && !self.rules().is_empty() {
            found.add(&spec, "fields 'to' and 'from' must be empty when 'rules' is defined");
        }
        check_top(self, meta, SYSTEM, OTHERS, found);
        let gateways = self.target_ref().is_none_or(TargetRef::includes_gateways);
        let rules = spec.field("rules");
        if gateways && !self.rules().is_empty() {
            found.add(&rules, MUST_NOT_BE_DEFINED);
        } else {
            for (at, rule) in each(&rules, self.rules()) {
                rule.default.check(&at.field("default"), found);
            }
        }
        check_items(&spec.field("from"), self.from(), gateways.then_some(FROM_WITH_GATEWAYS), found);
        check_items(&spec.field("to"), self.to(), (!gateways).then_some(MUST_NOT_BE_DEFINED), found);
    }

    fn warnings(&self, _: &Meta) -> Vec<String> {
        let mut warnings: Vec<String> = from_warning(self).into_iter().collect();
        warnings.extend(status_warnings("from", self.from().iter().map(|item| &item.default)));
        warnings.extend(status_warnings("rules", self.rules().iter().map(|rule| &rule.default)));
        warnings.extend(status_warnings("to", self.to().iter().map(|item| &item.default)));
        warnings.extend(top_warnings(self.target_ref()));
        warnings
    }
}

/// Checks a list, or refuses it as a whole for a reason.
fn check_items(at: &Path, items: &[Item<Conf>], refusal: Option<&str>, found: &mut Violations) {
    if let Some(reason) = refusal.filter(|_| !items.is_empty()) {
        return found.add(at, reason);
    }
    for (at, item) in each(at, items) {
        item.target_ref.check(&at.field("targetRef"), MESH, found);
        item.default.check(&at.field("default"), found);
    }
}

/// The path in the text is not quite that of the field, as in the real control plane.
fn status_warnings<'a>(list: &str, confs: impl Iterator<Item = &'a Conf>) -> Vec<String> {
    let too_low = confs.enumerate().filter(|(_, conf)| conf.status().is_some_and(|status| status < 400));
    too_low
        .map(|(index, _)| {
            format!(
                "'spec.{list}[{index}].default.local.http.requestRate.status' must be 400 or higher. \
                 Please update your configuration."
            )
        })
        .collect()
}

impl Conf {
    fn status(&self) -> Option<u32> {
        self.local.as_ref()?.http.as_ref()?.on_rate_limit.as_ref()?.status
    }

    fn check(&self, at: &Path, found: &mut Violations) {
        let at = at.field("local");
        let Some(local) = &self.local else { return found.add(&at, MUST_BE_DEFINED) };
        if local.tcp.is_none() && local.http.is_none() {
            found.add(&at, "must have at least one defined: tcp, http");
        }
        if let Some(http) = &local.http {
            http.check(&at.field("http"), found);
        }
        if let Some(tcp) = &local.tcp {
            tcp.check(&at.field("tcp"), found);
        }
    }
}

impl LocalHttp {
    fn check(&self, at: &Path, found: &mut Violations) {
        if *self == Self::default() {
            return found.add(at, "must have at least one defined: disabled, requestRate, onRateLimit");
        }
        if let Some(rate) = &self.request_rate {
            rate.check(&at.field("requestRate"), found);
        }
        if self.on_rate_limit.as_ref().is_some_and(|answer| answer.status == Some(0)) {
            found.add(&at.field("onRateLimit.status"), GREATER_THAN_ZERO);
        }
    }
}

impl LocalTcp {
    fn check(&self, at: &Path, found: &mut Violations) {
        if *self == Self::default() {
            return found.add(at, "must have at least one defined: disabled, connectionRate");
        }
        if let Some(rate) = &self.connection_rate {
            rate.check(&at.field("connectionRate"), found);
        }
    }
}

impl Rate {
    fn check(&self, at: &Path, found: &mut Violations) {
        if self.num == 0 {
            found.add(&at.field("num"), GREATER_THAN_ZERO);
        }
        if self.interval <= SHORTEST_INTERVAL {
            found.add(&at.field("interval"), format!("must be greater than: {SHORTEST_INTERVAL}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::spec::tabled::{assert_faults, assert_printed, warnings};

    fn rules(default: &str) -> String {
        format!(r#"{{"targetRef":{{"kind":"Dataplane"}},"rules":[{{"default":{default}}}]}}"#)
    }

    #[test]
    fn members_are_printed_in_order() {
        assert_printed::<MeshRateLimit>("{}", "{}");
        assert_printed::<MeshRateLimit>(
            r#"{"rules":[{}],"to":[],"from":[{"default":{"local":{"tcp":{"connectionRate":{"interval":"1s","num":10},"disabled":false},
                "http":{"onRateLimit":{"headers":{"set":[{"value":"1","name":"x"}]},"status":423},"requestRate":{"interval":"60s","num":5}}}},"targetRef":{"kind":"Mesh"}}]}"#,
            r#"{"from":[{"targetRef":{"kind":"Mesh"},"default":{"local":{"http":{"requestRate":{"num":5,"interval":"1m0s"},"onRateLimit":{"status":423,"headers":{"set":[{"name":"x","value":"1"}]}}},"tcp":{"disabled":false,"connectionRate":{"num":10,"interval":"1s"}}}}}],"to":[],"rules":[{"default":{}}]}"#,
        );
    }

    #[test]
    fn every_limit_is_checked() {
        assert_faults::<MeshRateLimit>(
            Kind::MeshRateLimit,
            &[
                ("{}", ""),
                (&rules("{}"), "spec.rules[0].default.local: must be defined"),
                (&rules(r#"{"local":{}}"#), "spec.rules[0].default.local: must have at least one defined: tcp, http"),
                (&rules(r#"{"local":{"tcp":{"disabled":false},"http":{"disabled":true}}}"#), ""),
                (
                    &rules(r#"{"local":{"http":{},"tcp":{}}}"#),
                    "spec.rules[0].default.local.http: must have at least one defined: disabled, requestRate, onRateLimit
                     spec.rules[0].default.local.tcp: must have at least one defined: disabled, connectionRate",
                ),
                (
                    &rules(r#"{"local":{"http":{"requestRate":{"num":0,"interval":"50ms"},"onRateLimit":{"status":0}},"tcp":{"connectionRate":{"num":1,"interval":"-1s"}}}}"#),
                    "spec.rules[0].default.local.http.requestRate.num: must be greater than 0
                     spec.rules[0].default.local.http.requestRate.interval: must be greater than: 50ms
                     spec.rules[0].default.local.http.onRateLimit.status: must be greater than 0
                     spec.rules[0].default.local.tcp.connectionRate.interval: must be greater than: 50ms",
                ),
            ],
        );
    }

    #[test]
    fn from_and_rules_are_for_sidecars_and_to_for_gateways() {
        let of_clients = "must not be defined when the scope includes a Gateway, select only proxyType Sidecar or select only gateways and use spec.to";
        assert_faults::<MeshRateLimit>(
            Kind::MeshRateLimit,
            &[
                (
                    r#"{"rules":[{}],"from":[{"targetRef":{"kind":"Mesh"}}]}"#,
                    &format!(
                        "spec: fields 'to' and 'from' must be empty when 'rules' is defined
                         spec.rules: must not be defined
                         spec.from: {of_clients}"
                    ),
                ),
                (
                    r#"{"targetRef":{"kind":"MeshHTTPRoute","name":"r"},"from":[{"targetRef":{"kind":"Mesh"}}],"to":[{"targetRef":{"kind":"MeshService","name":"a"},"default":{"local":{"tcp":{"disabled":true}}}}]}"#,
                    &format!(
                        "spec.from: {of_clients}
                         spec.to[0].targetRef.kind: value 'MeshService' is not supported"
                    ),
                ),
                (
                    r#"{"targetRef":{"kind":"MeshService","name":"a"},"from":[{"targetRef":{"kind":"MeshSubset"},"default":{"local":{"tcp":{"disabled":true}}}}],"to":[{"targetRef":{"kind":"Mesh"}}]}"#,
                    "spec.from[0].targetRef.kind: value 'MeshSubset' is not supported
                     spec.to: must not be defined",
                ),
            ],
        );
    }

    #[test]
    fn from_low_statuses_and_old_kinds_give_warnings() {
        let low = r#"{"targetRef":{"kind":"Mesh"},"default":{"local":{"http":{"onRateLimit":{"status":399}}}}}"#;
        let fine = r#"{"targetRef":{"kind":"Mesh"},"default":{"local":{"http":{"onRateLimit":{"status":400}}}}}"#;
        let document = format!(
            r#"{{"targetRef":{{"kind":"MeshService","name":"a"}},"from":[{fine},{low}],"to":[{low}],"rules":[{low}]}}"#
        );
        assert_eq!(
            warnings::<MeshRateLimit>(Kind::MeshRateLimit, &document),
            [
                "'from' field is deprecated, use 'rules' instead",
                "'spec.from[1].default.local.http.requestRate.status' must be 400 or higher. Please update your configuration.",
                "'spec.rules[0].default.local.http.requestRate.status' must be 400 or higher. Please update your configuration.",
                "'spec.to[0].default.local.http.requestRate.status' must be 400 or higher. Please update your configuration.",
                "MeshService value for 'targetRef.kind' is deprecated, use Dataplane with labels instead",
            ]
        );
    }
}
