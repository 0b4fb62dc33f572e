//! `Retry`: the older way to try again.

use std::collections::BTreeMap;

use kds_proto::kuma::mesh::v1alpha1::retry::conf::grpc::RetryOn;
use kds_proto::kuma::mesh::v1alpha1::retry::conf::{BackOff, Grpc, Http, Tcp};
use kds_proto::kuma::mesh::v1alpha1::{HttpMethod, HttpRetryOn, Retry};

use crate::resource::Meta;
use crate::spec::limits::{check_time, is_zero};
use crate::spec::{ProtoSpec, tags};
use crate::violation::{Path, Violations};

const EMPTY: &str = "field cannot be empty";

impl ProtoSpec for Retry {
    fn validate(&self, _: &Meta, found: &mut Violations) {
        tags::check_connection(&self.sources, &self.destinations, found);
        let at = Path::of("conf");
        let Some(conf) = &self.conf else {
            found.add(&at, "has to be defined");
            return;
        };
        if conf.http.is_none() && conf.grpc.is_none() && conf.tcp.is_none() {
            found.add(&at, "missing protocol [grpc|http|tcp] configuration");
        }
        if let Some(http) = &conf.http {
            check_http(&at.field("http"), http, found);
        }
        if let Some(grpc) = &conf.grpc {
            check_grpc(&at.field("grpc"), grpc, found);
        }
        if conf.tcp.as_ref().is_some_and(|tcp: &Tcp| tcp.max_connect_attempts == 0) {
            found.add(&at.field("tcp.maxConnectAttempts"), "has to be greater than 0");
        }
    }
}

fn check_http(at: &Path, http: &Http, found: &mut Violations) {
    if *http == Http::default() {
        found.add(at, EMPTY);
    }
    check_count(&at.field("numRetries"), http.num_retries, found);
    check_time(&at.field("perTryTimeout"), http.per_try_timeout.as_ref(), found);
    check_back_off(&at.field("backOff"), http.back_off.as_ref(), found);
    for (position, method) in http.retriable_methods.iter().enumerate() {
        if *method == HttpMethod::None as i32 {
            found.add(&at.field("retriableMethods").index(position), EMPTY);
        }
    }
    for (position, condition) in http.retry_on.iter().enumerate() {
        if *condition == HttpRetryOn::RetriableStatusCodes as i32 && http.retriable_status_codes.is_empty() {
            let reason = "retriableStatusCodes cannot be empty when this option is specified";
            found.add(&at.field("retryOn").index(position), reason);
        }
    }
}

fn check_grpc(at: &Path, grpc: &Grpc, found: &mut Violations) {
    if *grpc == Grpc::default() {
        found.add(at, EMPTY);
    }
    let mut positions = BTreeMap::<String, Vec<String>>::new();
    for (position, condition) in grpc.retry_on.iter().enumerate() {
        let name = RetryOn::try_from(*condition).map_or(condition.to_string(), |known| known.as_str_name().to_owned());
        positions.entry(name).or_default().push(position.to_string());
    }
    for (name, positions) in positions.iter().filter(|(_, positions)| positions.len() > 1) {
        let positions = positions.join(", ");
        found.add(&at.field("retryOn"), format!("repeated value {name:?} at indexes [{positions}]"));
    }
    check_count(&at.field("numRetries"), grpc.num_retries, found);
    check_time(&at.field("perTryTimeout"), grpc.per_try_timeout.as_ref(), found);
    check_back_off(&at.field("backOff"), grpc.back_off.as_ref(), found);
}

fn check_count(at: &Path, count: Option<u32>, found: &mut Violations) {
    if count == Some(0) {
        found.add(at, "has to be greater than 0 when defined");
    }
}

/// The longer interval is looked at only when the shorter is well.
fn check_back_off(at: &Path, back_off: Option<&BackOff>, found: &mut Violations) {
    let Some(back_off) = back_off else { return };
    match &back_off.base_interval {
        None => found.add(&at.field("baseInterval"), "has to be defined"),
        Some(base) if is_zero(base) => found.add(&at.field("baseInterval"), "has to be greater than 0"),
        Some(_) => check_time(&at.field("maxInterval"), back_off.max_interval.as_ref(), found),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::kind::Kind;
    use crate::spec::tabled::{between_services, proto_faults as faults};

    fn with(conf: Value) -> Vec<String> {
        faults(Kind::Retry, between_services(json!({"conf": conf})))
    }

    #[test]
    fn a_protocol_is_configured() {
        assert_eq!(with(json!(null)), ["conf: has to be defined"]);
        assert_eq!(with(json!({})), ["conf: missing protocol [grpc|http|tcp] configuration"]);
        assert!(with(json!({"http": {"retriableStatusCodes": [500]}})).is_empty());
    }

    #[test]
    fn counts_and_times_are_positive_when_defined() {
        assert_eq!(
            with(json!({"http": {"numRetries": 0, "perTryTimeout": "0s", "backOff": {"maxInterval": "0s"}},
                "grpc": {"numRetries": 0, "backOff": {"baseInterval": "0s", "maxInterval": "0s"}}})),
            [
                "conf.http.numRetries: has to be greater than 0 when defined",
                "conf.http.perTryTimeout: has to be greater than 0 when defined",
                "conf.http.backOff.baseInterval: has to be defined",
                "conf.grpc.numRetries: has to be greater than 0 when defined",
                "conf.grpc.backOff.baseInterval: has to be greater than 0"
            ]
        );
        assert_eq!(
            with(json!({"http": {"backOff": {"baseInterval": "1s", "maxInterval": "0s"}}})),
            ["conf.http.backOff.maxInterval: has to be greater than 0 when defined"]
        );
    }

    #[test]
    fn conditions_make_sense() {
        assert_eq!(
            with(
                json!({"http": {"retriableMethods": ["GET", "NONE"], "retryOn": ["reset", "retriable_status_codes"]}})
            ),
            [
                "conf.http.retriableMethods[1]: field cannot be empty",
                "conf.http.retryOn[1]: retriableStatusCodes cannot be empty when this option is specified"
            ]
        );
        assert_eq!(
            with(json!({"grpc": {"retryOn": ["unavailable", "cancelled", "unavailable", "cancelled", "internal"]}})),
            [
                r#"conf.grpc.retryOn: repeated value "cancelled" at indexes [1, 3]"#,
                r#"conf.grpc.retryOn: repeated value "unavailable" at indexes [0, 2]"#
            ]
        );
    }
}
