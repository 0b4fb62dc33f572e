//! `Timeout`: the older way to bound waiting.

use kds_proto::kuma::mesh::v1alpha1::Timeout;
use prost_types::Duration;

use crate::resource::Meta;
use crate::spec::limits::{check_time, is_zero};
use crate::spec::{ProtoSpec, tags};
use crate::violation::{Path, Violations};

impl ProtoSpec for Timeout {
    fn validate(&self, _: &Meta, found: &mut Violations) {
        tags::check_connection(&self.sources, &self.destinations, found);
        let at = Path::of("conf");
        let Some(conf) = &self.conf else {
            found.add(&at, "has to be defined");
            return;
        };
        if let Some(tcp) = &conf.tcp {
            match &tcp.idle_timeout {
                Some(idle) if is_zero(idle) => found.add(&at.field("tcp.idleTimeout"), "has to be greater than 0"),
                idle => check_section(&at.field("tcp"), &[("idleTimeout", idle)], found),
            }
        }
        if let Some(http) = &conf.http {
            let times = [("requestTimeout", &http.request_timeout), ("idleTimeout", &http.idle_timeout)];
            check_section(&at.field("http"), &times, found);
        }
        if let Some(grpc) = &conf.grpc {
            let times =
                [("streamIdleTimeout", &grpc.stream_idle_timeout), ("maxStreamDuration", &grpc.max_stream_duration)];
            check_section(&at.field("grpc"), &times, found);
        }
    }
}

/// One of the timeouts must be there, and none zero.
fn check_section(at: &Path, times: &[(&str, &Option<Duration>)], found: &mut Violations) {
    if times.iter().all(|(_, time)| time.is_none()) {
        found.add(at, "at least one timeout in section has to be defined");
    }
    for (name, time) in times {
        check_time(&at.field(name), time.as_ref(), found);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::kind::Kind;
    use crate::spec::tabled::{between_services, proto_faults as faults};

    #[test]
    fn a_section_has_a_timeout_and_none_is_zero() {
        let faults = |conf| faults(Kind::Timeout, between_services(json!({"conf": conf})));
        assert_eq!(faults(json!(null)), ["conf: has to be defined"]);
        assert!(faults(json!({})).is_empty());
        let missing = "at least one timeout in section has to be defined";
        assert_eq!(
            faults(json!({"tcp": {}, "http": {"streamIdleTimeout": "1s"}, "grpc": {}})),
            [format!("conf.tcp: {missing}"), format!("conf.http: {missing}"), format!("conf.grpc: {missing}")]
        );
        assert_eq!(
            faults(json!({"tcp": {"idleTimeout": "0s"}, "http": {"requestTimeout": "0s", "idleTimeout": "1s"},
                "grpc": {"maxStreamDuration": "0s"}})),
            [
                "conf.tcp.idleTimeout: has to be greater than 0",
                "conf.http.requestTimeout: has to be greater than 0 when defined",
                "conf.grpc.maxStreamDuration: has to be greater than 0 when defined"
            ]
        );
    }
}
