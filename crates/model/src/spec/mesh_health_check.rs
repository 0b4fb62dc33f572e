//! `MeshHealthCheck`: how proxies find out whether an endpoint is alive (api-and-kumactl 3.30).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::kind::Kind;
use crate::number::{IntOrString, check_percentage, check_whole_percentage};
use crate::resource::Meta;
use crate::spec::JsonSpec;
use crate::spec::check::{self, MUST_BE_DEFINED, each};
use crate::spec::formats::is_file_path;
use crate::spec::header_modifier::HeaderModifier;
use crate::spec::target_ref::{Allowed, Item, Policy, TargetKind, TargetRef, check_top, top_warnings};
use crate::violation::{Path, Violations};

/// How the selected proxies check their destinations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshHealthCheck {
    /// The proxies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Checks of destinations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<Item<Conf>>>,
}

/// How and how often endpoints are checked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Conf {
    /// From one check to the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<GoDuration>,
    /// Until a check has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,
    /// Failures in a row that make an endpoint unhealthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy_threshold: Option<i32>,
    /// Successes in a row that make it healthy again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_threshold: Option<i32>,
    /// Most time by which the first check is put off, at random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_jitter: Option<GoDuration>,
    /// Most time by which each check is put off, at random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_jitter: Option<GoDuration>,
    /// The same, in percent of the interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_jitter_percent: Option<i32>,
    /// Share of healthy endpoints below which health no longer counts. Deprecated: it stands in MeshCircuitBreaker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_panic_threshold: Option<IntOrString>,
    /// Whether calls fail when too few endpoints are healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail_traffic_on_panic: Option<bool>,
    /// File for changes of health.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_log_path: Option<String>,
    /// Whether every failure is logged, not only the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub always_log_health_check_failures: Option<bool>,
    /// From one check to the next of a destination that nobody has called yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_traffic_interval: Option<GoDuration>,
    /// Check by TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Tcp>,
    /// Check by HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
    /// Check by gRPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<Grpc>,
    /// Whether a connection serves several checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reuse_connection: Option<bool>,
}

/// Check by TCP: a connection, or an exchange of bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tcp {
    /// Whether it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Bytes to send, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send: Option<String>,
    /// Bytes to wait for, in this order, base64 each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive: Option<Vec<String>>,
}

/// Check by HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Http {
    /// Whether it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Path of the request; `/` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Headers of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_headers_to_add: Option<HeaderModifier>,
    /// Statuses that mean health; 200 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_statuses: Option<Vec<i32>>,
}

/// Check by gRPC's health service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Grpc {
    /// Whether it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Name of the service to ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// Value of `:authority`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
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
const TO: Allowed<'_> = Allowed::kinds(&[TargetKind::Mesh, TargetKind::MeshService, TargetKind::MeshMultiZoneService]);

impl Policy for MeshHealthCheck {
    const KIND: Kind = Kind::MeshHealthCheck;

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

impl JsonSpec for MeshHealthCheck {
    fn validate(&self, meta: &Meta, found: &mut Violations) {
        check_top(self, meta, TOP, TOP, found);
        for (at, item) in each(&Path::of("spec.to"), self.to()) {
            item.target_ref.check(&at.field("targetRef"), TO, found);
            if item.target_ref.kind == TargetKind::MeshExternalService && self.top_kind() != TargetKind::Mesh {
                let reason = "kind MeshExternalService is only allowed with targetRef.kind: Mesh as it is configured \
                              on the Zone Egress and shared by all clients in the mesh";
                found.add(&at.field("targetRef.kind"), reason);
            }
            item.default.check(&at.field("default"), found);
        }
    }

    fn warnings(&self, _: &Meta) -> Vec<String> {
        let moved = self.to().iter().filter(|item| item.default.healthy_panic_threshold.is_some()).map(|_| {
            "healthyPanicThreshold for 'to[].default' is deprecated. The setting has been moved to MeshCircuitBreaker \
             policy, please use MeshCircuitBreaker policy instead."
                .to_owned()
        });
        top_warnings(self.target_ref()).into_iter().chain(moved).collect()
    }
}

impl Conf {
    fn check(&self, at: &Path, found: &mut Violations) {
        check::positive(&at.field("interval"), self.interval, found);
        check::positive(&at.field("timeout"), self.timeout, found);
        check_threshold(&at.field("unhealthyThreshold"), self.unhealthy_threshold, found);
        check_threshold(&at.field("healthyThreshold"), self.healthy_threshold, found);
        check::positive(&at.field("initialJitter"), self.initial_jitter, found);
        check::positive(&at.field("intervalJitter"), self.interval_jitter, found);
        if let Some(percent) = self.interval_jitter_percent {
            check_whole_percentage(&at.field("intervalJitterPercent"), percent, found);
        }
        if let Some(share) = &self.healthy_panic_threshold {
            check_percentage(&at.field("healthyPanicThreshold"), share, found);
        }
        check::positive(&at.field("noTrafficInterval"), self.no_traffic_interval, found);
        if self.event_log_path.as_deref().is_some_and(|path| !is_file_path(path)) {
            found.add(&at.field("eventLogPath"), "must be a valid path when defined");
        }
        if let Some(http) = &self.http {
            http.check(&at.field("http"), found);
        }
        if self.http.is_none() && self.tcp.is_none() && self.grpc.is_none() {
            found.add(at, "must have at least one defined: http, tcp, grpc");
        }
    }
}

impl Http {
    fn check(&self, at: &Path, found: &mut Violations) {
        if self.path.as_deref() == Some("") {
            found.add(&at.field("path"), MUST_BE_DEFINED);
        }
        let statuses = self.expected_statuses.as_deref().unwrap_or_default();
        for (at, status) in each(&at.field("expectedStatuses"), statuses) {
            check::status_code(&at, *status, found);
        }
    }
}

fn check_threshold(at: &Path, threshold: Option<i32>, found: &mut Violations) {
    if threshold.is_some_and(|threshold| threshold <= 0) {
        found.add(at, "must be greater than zero when defined");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::spec::tabled::{assert_faults, assert_printed, warnings};

    fn to(default: &str) -> String {
        format!(r#"{{"to":[{{"targetRef":{{"kind":"Mesh"}},"default":{default}}}]}}"#)
    }

    #[test]
    fn members_are_printed_in_order() {
        assert_printed::<MeshHealthCheck>("{}", "{}");
        assert_printed::<MeshHealthCheck>(
            &to(r#"{"reuseConnection":false,"grpc":{"authority":"a","serviceName":"b","disabled":true},
                "http":{"expectedStatuses":[],"requestHeadersToAdd":{"add":[],"set":[{"value":"1","name":"x"}]},"path":"/"},
                "tcp":{"receive":["YQ=="],"send":""},"noTrafficInterval":"60s","alwaysLogHealthCheckFailures":true,
                "eventLogPath":"/x","failTrafficOnPanic":false,"healthyPanicThreshold":"61.9","intervalJitterPercent":1,
                "intervalJitter":"1s","initialJitter":"1s","healthyThreshold":1,"unhealthyThreshold":2,"timeout":"2s","interval":"10s"}"#),
            r#"{"to":[{"targetRef":{"kind":"Mesh"},"default":{"interval":"10s","timeout":"2s","unhealthyThreshold":2,"healthyThreshold":1,"initialJitter":"1s","intervalJitter":"1s","intervalJitterPercent":1,"healthyPanicThreshold":"61.9","failTrafficOnPanic":false,"eventLogPath":"/x","alwaysLogHealthCheckFailures":true,"noTrafficInterval":"1m0s","tcp":{"send":"","receive":["YQ=="]},"http":{"path":"/","requestHeadersToAdd":{"set":[{"name":"x","value":"1"}],"add":[]},"expectedStatuses":[]},"grpc":{"disabled":true,"serviceName":"b","authority":"a"},"reuseConnection":false}}]}"#,
        );
    }

    #[test]
    fn every_fault_is_found_in_order() {
        assert_faults::<MeshHealthCheck>(
            Kind::MeshHealthCheck,
            &[
                ("{}", ""),
                (&to(r#"{"tcp":{"send":"***"}}"#), ""),
                (&to("{}"), "spec.to[0].default: must have at least one defined: http, tcp, grpc"),
                (
                    &to(r#"{"interval":"0s","timeout":"-1s","unhealthyThreshold":0,"healthyThreshold":-1,"initialJitter":"0s",
                        "intervalJitter":"0s","intervalJitterPercent":101,"healthyPanicThreshold":"x","noTrafficInterval":"0s",
                        "eventLogPath":"x","http":{"path":"","expectedStatuses":[99,200,600]}}"#),
                    "spec.to[0].default.interval: must be greater than zero when defined
                     spec.to[0].default.timeout: must be greater than zero when defined
                     spec.to[0].default.unhealthyThreshold: must be greater than zero when defined
                     spec.to[0].default.healthyThreshold: must be greater than zero when defined
                     spec.to[0].default.initialJitter: must be greater than zero when defined
                     spec.to[0].default.intervalJitter: must be greater than zero when defined
                     spec.to[0].default.intervalJitterPercent: must be in inclusive range [0, 100]
                     spec.to[0].default.healthyPanicThreshold: string must be a valid number
                     spec.to[0].default.noTrafficInterval: must be greater than zero when defined
                     spec.to[0].default.eventLogPath: must be a valid path when defined
                     spec.to[0].default.http.path: must be defined
                     spec.to[0].default.http.expectedStatuses[0]: must be in inclusive range [100, 599]
                     spec.to[0].default.http.expectedStatuses[2]: must be in inclusive range [100, 599]",
                ),
                (
                    r#"{"targetRef":{"kind":"MeshSubset"},"to":[{"targetRef":{"kind":"MeshExternalService","name":"x"},"default":{"tcp":{}}}]}"#,
                    "spec.to[0].targetRef.kind: value 'MeshExternalService' is not supported
                     spec.to[0].targetRef.kind: kind MeshExternalService is only allowed with targetRef.kind: Mesh as it is configured on the Zone Egress and shared by all clients in the mesh",
                ),
            ],
        );
    }

    #[test]
    fn a_setting_that_moved_gives_a_warning() {
        assert_eq!(
            warnings::<MeshHealthCheck>(Kind::MeshHealthCheck, &to(r#"{"healthyPanicThreshold":50,"tcp":{}}"#)),
            [
                "healthyPanicThreshold for 'to[].default' is deprecated. The setting has been moved to MeshCircuitBreaker policy, please use MeshCircuitBreaker policy instead."
            ]
        );
    }
}
