//! `MeshCircuitBreaker`: when to stop calling (api-and-kumactl 3.19).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::kind::Kind;
use crate::number::{self, IntOrString};
use crate::resource::Meta;
use crate::spec::JsonSpec;
use crate::spec::check::{self, each};
use crate::spec::target_ref::{
    Allowed, Item, Policy, Rule, TargetKind, TargetRef, check_external_service, check_lists, check_top,
    from_and_top_warnings,
};
use crate::violation::{Path, Violations};

/// When the selected proxies stop calling, or being called.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshCircuitBreaker {
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

/// Limits, and how bad hosts are found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Conf {
    /// Limits of what is open at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_limits: Option<ConnectionLimits>,
    /// How bad hosts are found and left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<OutlierDetection>,
}

/// Limits of what is open at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionLimits {
    /// Connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// Pools of connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connection_pools: Option<u32>,
    /// Requests that wait for a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_pending_requests: Option<u32>,
    /// Retries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    /// Requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u32>,
}

/// How bad hosts are found and left alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutlierDetection {
    /// Switches it off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Time between two looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<GoDuration>,
    /// How long a host is left alone, times the number of times it has been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_ejection_time: Option<GoDuration>,
    /// Share of hosts that may be left alone, percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ejection_percent: Option<u32>,
    /// Tells faults of the host from faults on the way to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_external_and_local_errors: Option<bool>,
    /// What a bad host is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detectors: Option<Detectors>,
    /// Share of healthy hosts below which health is ignored, percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_panic_threshold: Option<IntOrString>,
}

/// What a bad host is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Detectors {
    /// Faults of any sort in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_failures: Option<Consecutive>,
    /// Answers 502, 503 or 504 in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_failures: Option<Consecutive>,
    /// Faults on the way to it in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_origin_failures: Option<Consecutive>,
    /// Fewer successes than others have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<SuccessRate>,
    /// A share of faults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_percentage: Option<FailurePercentage>,
}

/// Faults in a row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Consecutive {
    /// How many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive: Option<u32>,
}

/// Fewer successes than others have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuccessRate {
    /// Hosts with enough requests, for a comparison.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_hosts: Option<u32>,
    /// Requests in one interval that are enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_volume: Option<u32>,
    /// Standard deviations below the mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standard_deviation_factor: Option<IntOrString>,
}

/// A share of faults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailurePercentage {
    /// Hosts with enough requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_hosts: Option<u32>,
    /// Requests in one interval that are enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_volume: Option<u32>,
    /// The share, percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<u32>,
}

const TOP: Allowed<'_> = Allowed::kinds(&[
    TargetKind::Mesh,
    TargetKind::MeshSubset,
    TargetKind::MeshService,
    TargetKind::MeshGateway,
    TargetKind::MeshServiceSubset,
    TargetKind::Dataplane,
])
.with_listener_tags();
const FROM: Allowed<'_> = Allowed::kinds(&[TargetKind::Mesh]);
const TO: Allowed<'_> = Allowed::kinds(&[TargetKind::Mesh, TargetKind::MeshService, TargetKind::MeshMultiZoneService]);

impl Policy for MeshCircuitBreaker {
    const KIND: Kind = Kind::MeshCircuitBreaker;

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

impl JsonSpec for MeshCircuitBreaker {
    fn validate(&self, meta: &Meta, found: &mut Violations) {
        check_top(self, meta, TOP, TOP, found);
        check_lists(self, found);
        let spec = Path::of("spec");
        // Kuma calls these `from` (recorded).
        for (at, rule) in each(&spec.field("from"), self.rules()) {
            rule.default.check(&at.field("default"), found);
        }
        for (at, item) in each(&spec.field("from"), self.from()) {
            item.target_ref.check(&at.field("targetRef"), FROM, found);
            item.default.check(&at.field("default"), found);
        }
        for (at, item) in each(&spec.field("to"), self.to()) {
            item.target_ref.check(&at.field("targetRef"), TO, found);
            check_external_service(&at, &item.target_ref, &self.top_kind(), found);
            item.default.check(&at.field("default"), found);
        }
    }

    fn warnings(&self, _: &Meta) -> Vec<String> {
        from_and_top_warnings(self)
    }
}

impl Conf {
    fn check(&self, at: &Path, found: &mut Violations) {
        if *self == Self::default() {
            return found.add(at, "at least one of: 'connectionLimits' or 'outlierDetection' should be configured");
        }
        if let Some(limits) = &self.connection_limits {
            limits.check(&at.field("connectionLimits"), found);
        }
        if let Some(detection) = &self.outlier_detection {
            detection.check(&at.field("outlierDetection"), found);
        }
    }
}

impl ConnectionLimits {
    fn check(&self, at: &Path, found: &mut Violations) {
        check::counter(&at.field("maxConnections"), self.max_connections, found);
        check::counter(&at.field("maxConnectionPools"), self.max_connection_pools, found);
        check::counter(&at.field("maxPendingRequests"), self.max_pending_requests, found);
        check::counter(&at.field("maxRetries"), self.max_retries, found);
        check::counter(&at.field("maxRequests"), self.max_requests, found);
    }
}

impl OutlierDetection {
    fn check(&self, at: &Path, found: &mut Violations) {
        check::positive(&at.field("interval"), self.interval, found);
        check::positive(&at.field("baseEjectionTime"), self.base_ejection_time, found);
        if let Some(percent) = self.max_ejection_percent {
            number::check_whole_percentage(&at.field("maxEjectionPercent"), percent, found);
        }
        if let Some(threshold) = &self.healthy_panic_threshold {
            number::check_percentage(&at.field("healthyPanicThreshold"), threshold, found);
        }
        let at = at.field("detectors");
        match &self.detectors {
            None => found.add(&at, check::MUST_BE_DEFINED),
            Some(detectors) => detectors.check(&at, found),
        }
    }
}

impl Detectors {
    fn check(&self, at: &Path, found: &mut Violations) {
        if *self == Self::default() {
            let reason = "must have at least one defined: \
                          totalFailures, gatewayFailures, localOriginFailures, successRate, failurePercentage";
            return found.add(at, reason);
        }
        let in_a_row = [
            ("totalFailures", &self.total_failures),
            ("gatewayFailures", &self.gateway_failures),
            ("localOriginFailures", &self.local_origin_failures),
        ];
        for (member, detector) in in_a_row {
            let count = detector.as_ref().and_then(|detector| detector.consecutive);
            check::counter(&at.field(member).field("consecutive"), count, found);
        }
        if let Some(rate) = &self.success_rate {
            rate.check(&at.field("successRate"), found);
        }
        if let Some(percentage) = &self.failure_percentage {
            percentage.check(&at.field("failurePercentage"), found);
        }
    }
}

impl SuccessRate {
    fn check(&self, at: &Path, found: &mut Violations) {
        check::counter(&at.field("minimumHosts"), self.minimum_hosts, found);
        check::counter(&at.field("requestVolume"), self.request_volume, found);
        match self.standard_deviation_factor.as_ref().map(IntOrString::number) {
            Some(None) => found.add(&at.field("standardDeviationFactor"), "invalid number"),
            Some(Some(factor)) if factor <= 0.0 => {
                found.add(&at.field("standardDeviationFactor"), check::GREATER_THAN_ZERO);
            }
            _ => {}
        }
    }
}

impl FailurePercentage {
    fn check(&self, at: &Path, found: &mut Violations) {
        check::counter(&at.field("minimumHosts"), self.minimum_hosts, found);
        check::counter(&at.field("requestVolume"), self.request_volume, found);
        if let Some(threshold) = self.threshold {
            number::check_whole_percentage(&at.field("threshold"), threshold, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::spec::testing::{assert_prints, warnings};

    fn faults(spec: Value) -> Vec<String> {
        crate::spec::testing::faults::<MeshCircuitBreaker>(spec)
    }

    /// Faults of a configuration, without the path that leads to it.
    fn conf_faults(default: Value) -> Vec<String> {
        let faults = faults(json!({"to": [{"targetRef": {"kind": "Mesh"}, "default": default}]}));
        faults.iter().map(|fault| fault.strip_prefix("spec.to[0].default").unwrap().to_owned()).collect()
    }

    #[test]
    fn it_says_something_and_rules_stand_alone() {
        let conf = json!({"connectionLimits": {}});
        let item = json!({"targetRef": {"kind": "Mesh"}, "default": conf});
        assert_eq!(faults(json!({})), ["spec: at least one of 'from', 'to' or 'rules' has to be defined"]);
        assert_eq!(
            faults(json!({"from": [item], "rules": [{"default": conf}]})),
            ["spec: fields 'to' and 'from' must be empty when 'rules' is defined"]
        );
        assert!(faults(json!({"from": [item], "to": [item]})).is_empty());
        assert_eq!(
            conf_faults(json!({})),
            [": at least one of: 'connectionLimits' or 'outlierDetection' should be configured"]
        );
    }

    #[test]
    fn faults_of_rules_are_reported_under_from() {
        let conf = json!({"connectionLimits": {"maxRetries": 0}, "outlierDetection": {}});
        assert_eq!(
            faults(json!({"rules": [{"default": conf}]})),
            [
                "spec.from[0].default.connectionLimits.maxRetries: must be greater than 0",
                "spec.from[0].default.outlierDetection.detectors: must be defined",
            ]
        );
    }

    #[test]
    fn limits_are_above_zero() {
        let members = ["maxConnections", "maxConnectionPools", "maxPendingRequests", "maxRetries", "maxRequests"];
        let limits: Value = members.iter().map(|member| ((*member).to_owned(), json!(0))).collect();
        let expected = members.map(|member| format!(".connectionLimits.{member}: must be greater than 0"));
        assert_eq!(conf_faults(json!({"connectionLimits": limits})), expected);
    }

    #[test]
    fn detection_has_its_ranges() {
        let detection = json!({
            "interval": "0s", "baseEjectionTime": "-1s", "maxEjectionPercent": 101, "healthyPanicThreshold": "100.1",
            "detectors": {},
        });
        assert_eq!(
            conf_faults(json!({"outlierDetection": detection})),
            [
                ".outlierDetection.interval: must be greater than zero when defined",
                ".outlierDetection.baseEjectionTime: must be greater than zero when defined",
                ".outlierDetection.maxEjectionPercent: must be in inclusive range [0, 100]",
                ".outlierDetection.healthyPanicThreshold: must be in inclusive range [0.0, 100.0]",
                ".outlierDetection.detectors: must have at least one defined: totalFailures, gatewayFailures, localOriginFailures, successRate, failurePercentage",
            ]
        );
    }

    #[test]
    fn detectors_have_their_ranges() {
        let detectors = json!({
            "totalFailures": {"consecutive": 0}, "gatewayFailures": {}, "localOriginFailures": {"consecutive": 0},
            "successRate": {"minimumHosts": 0, "requestVolume": 0, "standardDeviationFactor": "x"},
            "failurePercentage": {"minimumHosts": 0, "requestVolume": 0, "threshold": 101},
        });
        let at = ".outlierDetection.detectors";
        assert_eq!(
            conf_faults(json!({"outlierDetection": {"detectors": detectors}})),
            [
                format!("{at}.totalFailures.consecutive: must be greater than 0"),
                format!("{at}.localOriginFailures.consecutive: must be greater than 0"),
                format!("{at}.successRate.minimumHosts: must be greater than 0"),
                format!("{at}.successRate.requestVolume: must be greater than 0"),
                format!("{at}.successRate.standardDeviationFactor: invalid number"),
                format!("{at}.failurePercentage.minimumHosts: must be greater than 0"),
                format!("{at}.failurePercentage.requestVolume: must be greater than 0"),
                format!("{at}.failurePercentage.threshold: must be in inclusive range [0, 100]"),
            ]
        );
        for zero in [json!(0), json!("-0.5")] {
            let detectors = json!({"successRate": {"standardDeviationFactor": zero}});
            assert_eq!(
                conf_faults(json!({"outlierDetection": {"detectors": detectors}})),
                [format!("{at}.successRate.standardDeviationFactor: must be greater than 0")]
            );
        }
    }

    #[test]
    fn references_are_limited_to_their_positions() {
        let item = |kind: &str| json!({"targetRef": {"kind": kind, "name": "a"}, "default": {"connectionLimits": {}}});
        let spec = json!({
            "targetRef": {"kind": "Dataplane"},
            "from": [item("MeshService")],
            "to": [item("MeshService"), item("MeshExternalService")],
        });
        assert_eq!(
            faults(spec),
            [
                "spec.from[0].targetRef.kind: value 'MeshService' is not supported",
                "spec.to[1].targetRef.kind: value 'MeshExternalService' is not supported",
                "spec.to[1].targetRef.kind: kind MeshExternalService is only allowed with targetRef.kind: Mesh as it is configured on the Zone Egress and shared by all clients in the mesh",
            ]
        );
    }

    #[test]
    fn from_is_warned_about() {
        let spec = json!({"from": [{"targetRef": {"kind": "Mesh"}}]});
        assert_eq!(warnings::<MeshCircuitBreaker>(spec), ["'from' field is deprecated, use 'rules' instead"]);
    }

    #[test]
    fn members_are_printed_in_the_declared_order() {
        assert_prints::<MeshCircuitBreaker>(
            r#"{"targetRef":{"kind":"Mesh"},"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionLimits":{
                "maxConnections":1,"maxConnectionPools":2,"maxPendingRequests":3,"maxRetries":4,"maxRequests":5},
                "outlierDetection":{"disabled":false,"interval":"10s","baseEjectionTime":"30s","maxEjectionPercent":10,
                "splitExternalAndLocalErrors":true,"detectors":{"totalFailures":{"consecutive":5},"gatewayFailures":{},
                "localOriginFailures":{},"successRate":{"minimumHosts":5,"requestVolume":10,"standardDeviationFactor":"1.9"},
                "failurePercentage":{"minimumHosts":5,"requestVolume":10,"threshold":85}},"healthyPanicThreshold":0}}}],
                "from":[{"targetRef":{"kind":"Mesh"},"default":{}}],"rules":[{"default":{}}]}"#,
        );
    }
}
