//! `FaultInjection`: the older way to delay, abort or slow down requests on purpose.

use kds_proto::kuma::mesh::v1alpha1::FaultInjection;
use kds_proto::kuma::mesh::v1alpha1::fault_injection::conf::{Abort, Delay, ResponseBandwidth};

use crate::resource::Meta;
use crate::spec::ProtoSpec;
use crate::spec::limits::check_percentage;
use crate::spec::tags::Rules;
use crate::violation::{Path, Violations};

impl ProtoSpec for FaultInjection {
    fn validate(&self, _: &Meta, found: &mut Violations) {
        Rules::ANY.check_selectors(&Path::of("sources"), &self.sources, found);
        Rules::HTTP.check_selectors(&Path::of("destinations"), &self.destinations, found);
        let at = Path::of("conf");
        let conf = self.conf.clone().unwrap_or_default();
        let delay = conf.delay.filter(|delay| *delay != Delay::default());
        let abort = conf.abort.filter(|abort| *abort != Abort::default());
        let bandwidth = conf.response_bandwidth.filter(|bandwidth| *bandwidth != ResponseBandwidth::default());
        if delay.is_none() && abort.is_none() && bandwidth.is_none() {
            found.add(&at, "must have at least one of the faults configured");
        }
        if let Some(delay) = delay {
            check_delay(&at.field("delay"), &delay, found);
        }
        if let Some(abort) = abort {
            check_abort(&at.field("abort"), &abort, found);
        }
        if let Some(bandwidth) = bandwidth {
            check_bandwidth(&at.field("responseBandwidth"), &bandwidth, found);
        }
    }
}

fn check_delay(at: &Path, delay: &Delay, found: &mut Violations) {
    check_percentage(&at.field("percentage"), delay.percentage, found);
    if delay.value.is_none() {
        found.add(&at.field("value"), "cannot be empty");
    }
}

fn check_abort(at: &Path, abort: &Abort, found: &mut Violations) {
    check_percentage(&at.field("percentage"), abort.percentage, found);
    let at = at.field("httpStatus");
    match abort.http_status {
        None => found.add(&at, "cannot be empty"),
        Some(status) if !has_name(status) => found.add(&at, "http status code is incorrect"),
        Some(_) => {}
    }
}

/// Whether a status has a name in the IANA registry, as far as Go knows it.
fn has_name(status: u32) -> bool {
    matches!(status, 100..=103 | 200..=208 | 226 | 300..=305 | 307 | 308 | 400..=418 | 421..=426 | 428 | 429 | 431 | 451)
        || matches!(status, 500..=508 | 510 | 511)
}

fn check_bandwidth(at: &Path, bandwidth: &ResponseBandwidth, found: &mut Violations) {
    check_percentage(&at.field("percentage"), bandwidth.percentage, found);
    let at = at.field("limit");
    match &bandwidth.limit {
        None => found.add(&at, "cannot be empty"),
        Some(limit) if !["gbps", "mbps", "kbps"].iter().any(|unit| limit.contains(unit)) => {
            found.add(&at, "has to be in kbps/mbps/gbps units");
        }
        Some(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::kind::Kind;
    use crate::spec::tabled::proto_faults as faults;

    #[test]
    fn destinations_speak_http() {
        let any = json!([{"match": {"kuma.io/service": "*"}}]);
        let tcp = json!([{"match": {"kuma.io/protocol": "tcp"}}]);
        let conf = json!({"abort": {"httpStatus": 404, "percentage": 0}});
        assert_eq!(
            faults(Kind::FaultInjection, json!({"sources": any, "destinations": any, "conf": conf})),
            ["destinations[0].match: protocol must be specified"]
        );
        assert_eq!(
            faults(Kind::FaultInjection, json!({"sources": any, "destinations": tcp, "conf": conf})),
            [r#"destinations[0].match["kuma.io/protocol"]: must be one of the [http, http2, grpc]"#]
        );
    }

    #[test]
    fn a_fault_is_complete_and_in_range() {
        let faults = |conf| {
            let http = json!([{"match": {"kuma.io/protocol": "http"}}]);
            faults(Kind::FaultInjection, json!({"sources": http, "destinations": http, "conf": conf}))
        };
        let nothing = ["conf: must have at least one of the faults configured"];
        assert_eq!(faults(json!(null)), nothing);
        assert_eq!(faults(json!({"delay": {}, "abort": {}, "responseBandwidth": {}})), nothing);
        assert_eq!(
            faults(
                json!({"delay": {"value": "1s"}, "abort": {"percentage": -1}, "responseBandwidth": {"limit": "5 MB"}})
            ),
            [
                "conf.delay.percentage: cannot be empty",
                "conf.abort.percentage: has to be in [0.0 - 100.0] range",
                "conf.abort.httpStatus: cannot be empty",
                "conf.responseBandwidth.percentage: cannot be empty",
                "conf.responseBandwidth.limit: has to be in kbps/mbps/gbps units"
            ]
        );
        assert_eq!(
            faults(json!({"abort": {"percentage": 100, "httpStatus": 306}})),
            ["conf.abort.httpStatus: http status code is incorrect"]
        );
    }
}
