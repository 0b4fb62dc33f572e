//! `RateLimit`: the older way to limit requests.

use kds_proto::kuma::mesh::v1alpha1::RateLimit;
use kds_proto::kuma::mesh::v1alpha1::rate_limit::conf::Http;

use crate::labels::SERVICE_TAG;
use crate::resource::Meta;
use crate::spec::ProtoSpec;
use crate::spec::tags::{ANY_VALUE, Rules};
use crate::violation::{Path, Violations};

impl ProtoSpec for RateLimit {
    fn validate(&self, _: &Meta, found: &mut Violations) {
        Rules::ANY.check_selectors(&Path::of("sources"), &self.sources, found);
        Rules::ANY.check_selectors(&Path::of("destinations"), &self.destinations, found);
        let at = Path::of("conf");
        match &self.conf {
            None => found.add(&at, "must have conf"),
            Some(conf) => {
                if let Some(http) = &conf.http {
                    check_http(&at.field("http"), http, found);
                }
            }
        }
    }
}

fn check_http(at: &Path, http: &Http, found: &mut Violations) {
    if http.requests == 0 {
        found.add(&at.field("requests"), "requests must be set");
    }
    if http.interval.is_none() {
        found.add(&at.field("interval"), "interval must be set");
    }
    let headers = http.on_rate_limit.iter().flat_map(|answer| &answer.headers);
    for (position, header) in headers.enumerate() {
        let at = at.field("onRateLimit.header").key(&position.to_string());
        if header.key.is_empty() {
            found.add(&at, "key must be set");
        }
        if header.value.is_empty() {
            found.add(&at, "value must be set");
        }
    }
}

/// Whether a limit chooses a service outside the mesh by more than its service tag, which no egress can tell apart.
/// Asked of both sides when either is written.
pub fn chooses_parts_of(limit: &RateLimit, external_service: &str) -> bool {
    limit.destinations.iter().map(|destination| &destination.r#match).any(|tags| {
        let chosen = tags.get(SERVICE_TAG).is_some_and(|name| name == external_service || name == ANY_VALUE);
        chosen && tags.len() > 1
    })
}

#[cfg(test)]
mod tests {
    use kds_proto::kuma::mesh::v1alpha1::Selector;
    use serde_json::json;

    use super::*;
    use crate::kind::Kind;
    use crate::spec::tabled::{between_services, proto_faults as faults};

    #[test]
    fn a_limit_has_requests_and_interval() {
        let faults = |document| faults(Kind::RateLimit, between_services(document));
        assert_eq!(faults(json!({})), ["conf: must have conf"]);
        assert!(faults(json!({"conf": {}})).is_empty());
        assert_eq!(
            faults(json!({"conf": {"http": {"onRateLimit": {"headers": [{"key": "a", "value": "b"}, {}]}}}})),
            [
                "conf.http.requests: requests must be set",
                "conf.http.interval: interval must be set",
                r#"conf.http.onRateLimit.header["1"]: key must be set"#,
                r#"conf.http.onRateLimit.header["1"]: value must be set"#
            ]
        );
    }

    #[test]
    fn an_external_service_is_limited_as_a_whole() {
        let limit = |pairs: &[(&str, &str)]| {
            let tags = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            RateLimit { destinations: vec![Selector { r#match: tags }], ..RateLimit::default() }
        };
        assert!(!chooses_parts_of(&limit(&[("kuma.io/service", "a")]), "a"));
        assert!(!chooses_parts_of(&limit(&[("kuma.io/service", "b"), ("x", "y")]), "a"));
        assert!(chooses_parts_of(&limit(&[("kuma.io/service", "*"), ("x", "y")]), "a"));
    }
}
