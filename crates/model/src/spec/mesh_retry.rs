//! `MeshRetry`: when and how often to try again (api-and-kumactl 3.18).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::kind::Kind;
use crate::resource::Meta;
use crate::spec::JsonSpec;
use crate::spec::check::{self, each};
use crate::spec::header::{HeaderMatch, HeaderName};
use crate::spec::target_ref::{Allowed, Item, Policy, TargetKind, TargetRef, check_to, check_top, top_warnings};
use crate::spec::words::words;
use crate::violation::{Path, Violations};

/// When and how often the selected proxies try again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshRetry {
    /// The proxies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// What holds for calls to destinations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<Item<Conf>>>,
}

/// Retries by protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Conf {
    /// Of connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Tcp>,
    /// Of requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
    /// Of calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<Grpc>,
}

/// Retries of connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tcp {
    /// Attempts, the first one included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connect_attempt: Option<u32>,
}

/// Retries of HTTP requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Http {
    /// Attempts after the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_retries: Option<u32>,
    /// Time for one attempt; 0 for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_try_timeout: Option<GoDuration>,
    /// Time between attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_off: Option<BackOff>,
    /// Time between attempts, when the destination names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limited_back_off: Option<RateLimitedBackOff>,
    /// What is worth another attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<String>>")]
    pub retry_on: Option<Vec<HttpRetryOn>>,
    /// Headers of an answer that is worth another attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retriable_response_headers: Option<Vec<HeaderMatch>>,
    /// Headers of a request that may be tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retriable_request_headers: Option<Vec<HeaderMatch>>,
    /// Which hosts the next attempt avoids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_selection: Option<Vec<Predicate>>,
    /// Attempts to find another host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_selection_max_attempts: Option<i64>,
}

/// Retries of gRPC calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Grpc {
    /// Attempts after the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_retries: Option<u32>,
    /// Time for one attempt; 0 for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_try_timeout: Option<GoDuration>,
    /// Time between attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_off: Option<BackOff>,
    /// Time between attempts, when the destination names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limited_back_off: Option<RateLimitedBackOff>,
    /// What is worth another attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_on: Option<Vec<GrpcRetryOn>>,
}

words!(
    /// What makes an HTTP request worth another attempt; a status code is one of the others.
    open HttpRetryOn {
        All5xx = "5xx",
        GatewayError = "GatewayError",
        Reset = "Reset",
        Retriable4xx = "Retriable4xx",
        ConnectFailure = "ConnectFailure",
        EnvoyRatelimited = "EnvoyRatelimited",
        RefusedStream = "RefusedStream",
        Http3PostConnectFailure = "Http3PostConnectFailure",
        HttpMethodConnect = "HttpMethodConnect",
        HttpMethodDelete = "HttpMethodDelete",
        HttpMethodGet = "HttpMethodGet",
        HttpMethodHead = "HttpMethodHead",
        HttpMethodOptions = "HttpMethodOptions",
        HttpMethodPatch = "HttpMethodPatch",
        HttpMethodPost = "HttpMethodPost",
        HttpMethodPut = "HttpMethodPut",
        HttpMethodTrace = "HttpMethodTrace",
    }
);

words!(
    /// What makes a gRPC call worth another attempt.
    open GrpcRetryOn {
        Canceled = "Canceled",
        DeadlineExceeded = "DeadlineExceeded",
        Internal = "Internal",
        ResourceExhausted = "ResourceExhausted",
        Unavailable = "Unavailable",
    }
);

/// Time between attempts, growing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackOff {
    /// Where it begins; 25 ms when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_interval: Option<GoDuration>,
    /// Where it ends; ten times the beginning when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_interval: Option<GoDuration>,
}

/// Time between attempts, as headers of the answer name it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitedBackOff {
    /// The headers, the first that can be read counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_headers: Option<Vec<ResetHeader>>,
    /// The longest wait; 300 s when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_interval: Option<GoDuration>,
}

/// A header that names a wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResetHeader {
    /// The header.
    pub name: HeaderName,
    /// How it names the wait.
    pub format: RateLimitFormat,
}

words!(
    /// How a header names a wait: how long it is, or when it ends.
    RateLimitFormat { Seconds = "Seconds", UnixTimestamp = "UnixTimestamp" }
);

/// Hosts that the next attempt avoids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Predicate {
    /// The hosts.
    pub predicate: PredicateType,
    /// Tags of the hosts, for `OmitHostsWithTags`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
    /// After how many attempts priorities are computed anew, for `OmitPreviousPriorities`.
    #[serde(default = "two")]
    pub update_frequency: i32,
}

fn two() -> i32 {
    2
}

words!(
    /// Which hosts to avoid.
    open PredicateType {
        OmitPreviousHosts = "OmitPreviousHosts",
        OmitHostsWithTags = "OmitHostsWithTags",
        OmitPreviousPriorities = "OmitPreviousPriorities",
    }
);

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
const TO: Allowed<'_> = Allowed::kinds(&[
    TargetKind::Mesh,
    TargetKind::MeshService,
    TargetKind::MeshExternalService,
    TargetKind::MeshMultiZoneService,
    TargetKind::MeshHttpRoute,
]);
const TO_OF_GATEWAY: Allowed<'_> = Allowed::kinds(&[TargetKind::Mesh, TargetKind::MeshExternalService]);

impl Policy for MeshRetry {
    const KIND: Kind = Kind::MeshRetry;

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

impl JsonSpec for MeshRetry {
    fn validate(&self, meta: &Meta, found: &mut Violations) {
        check_top(self, meta, SYSTEM, OTHERS, found);
        check_to(self, found);
        let gateway = matches!(self.top_kind(), TargetKind::MeshGateway | TargetKind::MeshHttpRoute);
        for (at, item) in each(&Path::of("spec.to"), self.to()) {
            item.target_ref.check(&at.field("targetRef"), if gateway { TO_OF_GATEWAY } else { TO }, found);
            // Kuma's paths have this member, its documents have not (recorded).
            item.default.check(&at.field("default.conf"), found);
        }
    }

    fn warnings(&self, _: &Meta) -> Vec<String> {
        top_warnings(self.target_ref())
    }
}

impl Conf {
    fn check(&self, at: &Path, found: &mut Violations) {
        if *self == Self::default() {
            found.add(at, "at least one of the 'tcp', 'http', 'grpc' must be specified");
        }
        if let Some(tcp) = &self.tcp {
            tcp.check(&at.field("tcp"), found);
        }
        if let Some(http) = &self.http {
            http.check(&at.field("http"), found);
        }
        if let Some(grpc) = &self.grpc {
            grpc.check(&at.field("grpc"), found);
        }
    }
}

impl Tcp {
    fn check(&self, at: &Path, found: &mut Violations) {
        if self.max_connect_attempt.is_none() {
            found.add(at, check::MUST_NOT_BE_EMPTY);
        }
        check::counter(&at.field("maxConnectAttempt"), self.max_connect_attempt, found);
    }
}

impl Http {
    fn check(&self, at: &Path, found: &mut Violations) {
        if (Self { host_selection_max_attempts: None, ..self.clone() }) == Self::default() {
            found.add(at, check::MUST_NOT_BE_EMPTY);
        }
        check_back_offs(at, self.back_off.as_ref(), self.rate_limited_back_off.as_ref(), found);
        for (at, on) in each(&at.field("retryOn"), self.retry_on.as_deref().unwrap_or_default()) {
            if matches!(on, HttpRetryOn::Other(code) if !is_status(code)) {
                found.add(&at, format!("unknown item '{on}'"));
            }
        }
        self.check_host_selection(&at.field("hostSelection"), found);
    }

    fn check_host_selection(&self, at: &Path, found: &mut Violations) {
        let mut priorities = false;
        for (at, predicate) in each(at, self.host_selection.as_deref().unwrap_or_default()) {
            match &predicate.predicate {
                PredicateType::OmitPreviousHosts => {}
                PredicateType::OmitHostsWithTags if predicate.tags.is_none() => {
                    found.add(&at.field("tags"), check::MUST_BE_DEFINED);
                }
                PredicateType::OmitHostsWithTags => {}
                PredicateType::OmitPreviousPriorities => {
                    if priorities {
                        found.add(&at.field("predicate"), "OmitPreviousPriorities must only be specified once");
                    }
                    if predicate.update_frequency <= 0 {
                        found.add(&at.field("updateFrequency"), check::DEFINED_AND_GREATER_THAN_ZERO);
                    }
                    priorities = true;
                }
                PredicateType::Other(word) => {
                    found.add(&at.field("predicate"), format!("unknown predicate type '{word}'"));
                }
            }
        }
    }
}

/// Whether a text is the code of a status that has a name (IANA's registry, as far as Go knows it).
fn is_status(text: &str) -> bool {
    matches!(
        text.parse::<i64>(),
        Ok(
            100..=103
            | 200..=208
            | 226
            | 300..=305
            | 307..=308
            | 400..=418
            | 421..=426
            | 428..=429
            | 431
            | 451
            | 500..=508
            | 510..=511,
        )
    )
}

impl Grpc {
    fn check(&self, at: &Path, found: &mut Violations) {
        if *self == Self::default() {
            found.add(at, check::MUST_NOT_BE_EMPTY);
        }
        check_back_offs(at, self.back_off.as_ref(), self.rate_limited_back_off.as_ref(), found);
        for (at, on) in each(&at.field("retryOn"), self.retry_on.as_deref().unwrap_or_default()) {
            if matches!(on, GrpcRetryOn::Other(_)) {
                found.add(&at, format!("unknown item '{on}'"));
            }
        }
    }
}

fn check_back_offs(at: &Path, plain: Option<&BackOff>, limited: Option<&RateLimitedBackOff>, found: &mut Violations) {
    if plain.is_some_and(|plain| *plain == BackOff::default()) {
        found.add(&at.field("backOff"), check::MUST_NOT_BE_EMPTY);
    }
    let Some(limited) = limited else { return };
    let at = at.field("rateLimitedBackOff");
    if limited.max_interval.is_some_and(|interval| interval <= GoDuration::ZERO) {
        found.add(&at.field("maxInterval"), check::DEFINED_AND_GREATER_THAN_ZERO);
    }
    let at = at.field("resetHeaders");
    if limited.reset_headers.is_none() {
        found.add(&at, check::MUST_BE_DEFINED);
    }
    for (at, header) in each(&at, limited.reset_headers.as_deref().unwrap_or_default()) {
        if header.name.0.is_empty() {
            found.add(&at.field("name"), check::MUST_BE_DEFINED);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::spec::testing::{assert_prints, consumer_meta, faults_of, warnings};

    fn faults(spec: Value) -> Vec<String> {
        crate::spec::testing::faults::<MeshRetry>(spec)
    }

    /// Faults of a configuration, without the path that leads to it.
    fn conf_faults(default: Value) -> Vec<String> {
        let faults = faults(json!({"to": [{"targetRef": {"kind": "Mesh"}, "default": default}]}));
        faults.iter().map(|fault| fault.strip_prefix("spec.to[0].default.conf").unwrap().to_owned()).collect()
    }

    #[test]
    fn something_must_be_said() {
        assert_eq!(faults(json!({})), ["spec.to: needs at least one item"]);
        assert_eq!(conf_faults(json!({})), [": at least one of the 'tcp', 'http', 'grpc' must be specified"]);
        assert_eq!(
            conf_faults(json!({"tcp": {}, "http": {"hostSelectionMaxAttempts": 3}, "grpc": {}})),
            [".tcp: must not be empty", ".http: must not be empty", ".grpc: must not be empty"]
        );
        assert_eq!(
            conf_faults(json!({"tcp": {"maxConnectAttempt": 0}})),
            [".tcp.maxConnectAttempt: must be greater than 0"]
        );
        assert!(conf_faults(json!({"tcp": {"maxConnectAttempt": 1}, "http": {"retryOn": []}})).is_empty());
    }

    #[test]
    fn conditions_are_known_words_or_codes() {
        let on = json!(["5xx", "HttpMethodTrace", "503", "418", "foo", "419", "", "HttpMethod"]);
        assert_eq!(
            conf_faults(json!({"http": {"retryOn": on}, "grpc": {"retryOn": ["Internal", "503"]}})),
            [
                ".http.retryOn[4]: unknown item 'foo'",
                ".http.retryOn[5]: unknown item '419'",
                ".http.retryOn[6]: unknown item ''",
                ".http.retryOn[7]: unknown item 'HttpMethod'",
                ".grpc.retryOn[1]: unknown item '503'",
            ]
        );
    }

    #[test]
    fn waits_are_complete() {
        for protocol in ["http", "grpc"] {
            let limited = json!({"maxInterval": "0s", "resetHeaders": [{"name": "", "format": "Seconds"}]});
            assert_eq!(
                conf_faults(json!({protocol: {"backOff": {}, "rateLimitedBackOff": limited}})),
                [
                    format!(".{protocol}.backOff: must not be empty"),
                    format!(".{protocol}.rateLimitedBackOff.maxInterval: must be defined and greater than zero"),
                    format!(".{protocol}.rateLimitedBackOff.resetHeaders[0].name: must be defined"),
                ]
            );
            assert_eq!(
                conf_faults(json!({protocol: {"rateLimitedBackOff": {}}})),
                [format!(".{protocol}.rateLimitedBackOff.resetHeaders: must be defined")]
            );
        }
    }

    #[test]
    fn host_selection_says_what_its_predicates_need() {
        let predicates = json!([
            {"predicate": "OmitPreviousHosts"},
            {"predicate": "OmitHostsWithTags"},
            {"predicate": "OmitPreviousPriorities"},
            {"predicate": "OmitPreviousPriorities", "updateFrequency": 0},
            {"predicate": "OmitAll"},
            {"predicate": "OmitHostsWithTags", "tags": {}},
        ]);
        assert_eq!(
            conf_faults(json!({"http": {"hostSelection": predicates}})),
            [
                ".http.hostSelection[1].tags: must be defined",
                ".http.hostSelection[3].predicate: OmitPreviousPriorities must only be specified once",
                ".http.hostSelection[3].updateFrequency: must be defined and greater than zero",
                ".http.hostSelection[4].predicate: unknown predicate type 'OmitAll'",
            ]
        );
    }

    #[test]
    fn a_gateway_or_a_route_at_the_top_narrows_the_destinations() {
        let mut spec = json!({"to": [{"targetRef": {"kind": "MeshMultiZoneService"}, "default": {"tcp": {"maxConnectAttempt": 1}}}]});
        assert!(faults(spec.clone()).is_empty());
        for kind in ["MeshGateway", "MeshHTTPRoute"] {
            spec["targetRef"] = json!({"kind": kind, "name": "a"});
            let refused = "spec.to[0].targetRef.kind: value 'MeshMultiZoneService' is not supported";
            assert_eq!(faults(spec.clone()), [refused]);
            let top = format!("spec.targetRef.kind: value '{kind}' is not supported");
            assert_eq!(faults_of::<MeshRetry>(spec.clone(), &consumer_meta()), [&top, refused]);
        }
    }

    #[test]
    fn old_kinds_are_warned_about() {
        assert_eq!(
            warnings::<MeshRetry>(json!({"targetRef": {"kind": "MeshHTTPRoute", "name": "a"}})),
            ["MeshHTTPRoute value for 'targetRef.kind' is deprecated, use MeshHTTPRoute in spec.to[].targetRef"]
        );
    }

    #[test]
    fn members_are_printed_in_the_declared_order() {
        assert_prints::<MeshRetry>(
            r#"{"targetRef":{"kind":"Mesh"},"to":[{"targetRef":{"kind":"Mesh"},"default":{"tcp":{"maxConnectAttempt":5},
                "http":{"numRetries":5,"perTryTimeout":"16s","backOff":{"baseInterval":"25ms","maxInterval":"250ms"},
                "rateLimitedBackOff":{"resetHeaders":[{"name":"retry-after","format":"Seconds"}],"maxInterval":"5m0s"},
                "retryOn":["5xx","409"],"retriableResponseHeaders":[{"type":"Exact","name":"a","value":"b"}],
                "retriableRequestHeaders":[{"type":"Present","name":"a"}],"hostSelection":[{"predicate":"OmitPreviousPriorities",
                "tags":{"a":"b"},"updateFrequency":2}],"hostSelectionMaxAttempts":3},"grpc":{"numRetries":1,
                "perTryTimeout":"1s","backOff":{},"rateLimitedBackOff":{},"retryOn":["Canceled"]}}}]}"#,
        );
    }
}
