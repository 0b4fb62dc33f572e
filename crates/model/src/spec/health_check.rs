//! `HealthCheck`: the older way to probe endpoints.

use kds_proto::kuma::mesh::v1alpha1::HealthCheck;
use kds_proto::kuma::mesh::v1alpha1::health_check::conf::Http;

use crate::resource::Meta;
use crate::spec::limits::{check_duration, check_optional_duration, check_threshold};
use crate::spec::{ProtoSpec, tags};
use crate::violation::{Path, Violations};

impl ProtoSpec for HealthCheck {
    fn validate(&self, _: &Meta, found: &mut Violations) {
        tags::check_connection(&self.sources, &self.destinations, found);
        let at = Path::of("conf");
        let Some(conf) = &self.conf else {
            found.add(&at, "has to be defined");
            return;
        };
        check_duration(&at.field("interval"), conf.interval.as_ref(), found);
        check_duration(&at.field("timeout"), conf.timeout.as_ref(), found);
        check_threshold(&at.field("unhealthyThreshold"), conf.unhealthy_threshold, found);
        check_threshold(&at.field("healthyThreshold"), conf.healthy_threshold, found);
        check_optional_duration(&at.field("initialJitter"), conf.initial_jitter.as_ref(), found);
        check_optional_duration(&at.field("intervalJitter"), conf.interval_jitter.as_ref(), found);
        check_optional_duration(&at.field("noTrafficInterval"), conf.no_traffic_interval.as_ref(), found);
        if conf.healthy_panic_threshold.is_some_and(|share| !(0.0..=100.0).contains(&share)) {
            found.add(&at.field("healthyPanicThreshold"), "must be in range [0.0 - 100.0]");
        }
        if let Some(http) = &conf.http {
            check_http(&at.field("http"), http, found);
        }
        if conf.tcp.is_some() && conf.http.is_some() {
            found.add(&at, "http and tcp cannot be defined at the same time");
        }
    }
}

fn check_http(at: &Path, http: &Http, found: &mut Violations) {
    if http.path.is_empty() {
        found.add(&at.field("path"), "has to be defined and cannot be empty");
    }
    for (position, status) in http.expected_statuses.iter().enumerate() {
        if !(100..600).contains(status) {
            found.add(&at.field("expectedStatuses").index(position), "must be in range [100, 600)");
        }
    }
    for (position, option) in http.request_headers_to_add.iter().enumerate() {
        let at = at.field("requestHeadersToAdd").index(position).field("header");
        match &option.header {
            None => found.add(&at, "has to be defined"),
            Some(header) if header.key.is_empty() => found.add(&at.field("key"), "cannot be empty"),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::kind::Kind;
    use crate::spec::tabled::{between_services, proto_faults as faults};

    fn with(mut conf: Value) -> Vec<String> {
        for (member, value) in [("interval", json!("1s")), ("timeout", json!("1s"))] {
            conf.as_object_mut().unwrap().entry(member).or_insert(value);
        }
        for member in ["unhealthyThreshold", "healthyThreshold"] {
            conf.as_object_mut().unwrap().entry(member).or_insert(json!(1));
        }
        faults(Kind::HealthCheck, between_services(json!({"conf": conf})))
    }

    #[test]
    fn times_and_thresholds_are_positive() {
        assert_eq!(faults(Kind::HealthCheck, between_services(json!({}))), ["conf: has to be defined"]);
        assert_eq!(
            with(json!({"interval": null, "unhealthyThreshold": 0, "initialJitter": "0s", "noTrafficInterval": "0s",
                "healthyPanicThreshold": 100.5})),
            [
                "conf.interval: must have a positive value",
                "conf.unhealthyThreshold: must have a positive value",
                "conf.initialJitter: must have a positive value",
                "conf.noTrafficInterval: must have a positive value",
                "conf.healthyPanicThreshold: must be in range [0.0 - 100.0]"
            ]
        );
    }

    #[test]
    fn a_request_has_a_path_and_named_headers() {
        assert_eq!(
            with(json!({"tcp": {}, "http": {"expectedStatuses": [200, 600],
                "requestHeadersToAdd": [{}, {"header": {"value": "x"}}]}})),
            [
                "conf.http.path: has to be defined and cannot be empty",
                "conf.http.expectedStatuses[1]: must be in range [100, 600)",
                "conf.http.requestHeadersToAdd[0].header: has to be defined",
                "conf.http.requestHeadersToAdd[1].header.key: cannot be empty",
                "conf: http and tcp cannot be defined at the same time"
            ]
        );
    }
}
