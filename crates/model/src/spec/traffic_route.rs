//! `TrafficRoute`: the older way to route and split traffic (api-and-kumactl 3.14).
//!
//! Kuma's REST API tells an empty `split` or `destination` from an absent one; the stored content does not, and here
//! both are absent.

use kds_proto::kuma::mesh::v1alpha1::TrafficRoute;
use kds_proto::kuma::mesh::v1alpha1::traffic_route::http::r#match::{StringMatcher, string_matcher::MatcherType};
use kds_proto::kuma::mesh::v1alpha1::traffic_route::http::modify::{
    Headers, Host, Path as PathChange, RegexReplace, host, path,
};
use kds_proto::kuma::mesh::v1alpha1::traffic_route::http::{Match, Modify};
use kds_proto::kuma::mesh::v1alpha1::traffic_route::load_balancer::LbType;
use kds_proto::kuma::mesh::v1alpha1::traffic_route::{LoadBalancer, Split};

use crate::resource::Meta;
use crate::spec::ProtoSpec;
use crate::spec::tags::{self, Rules, Tags};
use crate::violation::{Path, Violations};

const EMPTY: &str = "cannot be empty";

impl ProtoSpec for TrafficRoute {
    fn validate(&self, _: &Meta, found: &mut Violations) {
        tags::check_connection(&self.sources, &self.destinations, found);
        let at = Path::of("conf");
        let Some(conf) = &self.conf else {
            found.add(&at, EMPTY);
            return;
        };
        check_target(&at, &conf.split, &conf.destination, found);
        for (position, http) in conf.http.iter().enumerate() {
            let at = at.field("http").index(position);
            check_match(&at.field("match"), http.r#match.as_ref(), found);
            if let Some(modify) = &http.modify {
                check_modify(&at.field("modify"), modify, http.r#match.as_ref(), found);
            }
            check_target(&at, &http.split, &http.destination, found);
        }
        if let Some(load_balancer) = &conf.load_balancer {
            check_load_balancer(&at.field("loadBalancer"), load_balancer, found);
        }
    }
}

fn check_target(at: &Path, split: &[Split], destination: &Tags, found: &mut Violations) {
    match (split.is_empty(), destination.is_empty()) {
        (true, true) => found.add(at, r#"requires either "destination" or "split""#),
        (false, false) => found.add(at, r#""split" cannot be defined at the same time as "destination""#),
        _ => {}
    }
    if !split.is_empty() {
        check_split(&at.field("split"), split, found);
    }
    if !destination.is_empty() {
        Rules::SERVICE.check(&at.field("destination"), destination, found);
    }
}

fn check_split(at: &Path, split: &[Split], found: &mut Violations) {
    for (position, part) in split.iter().enumerate() {
        if part.weight.is_none() {
            found.add(&at.index(position).field("weight"), "needs to be defined");
        }
        Rules::SERVICE.check(&at.index(position).field("destination"), &part.destination, found);
    }
    if split.iter().all(|part| part.weight.unwrap_or_default() == 0) {
        found.add(at, "there must be at least one split entry with weight above 0");
    }
}

fn check_match(at: &Path, matched: Option<&Match>, found: &mut Violations) {
    let Some(matched) = matched.filter(|matched| **matched != Match::default()) else {
        let reason = r#"must be present and contain at least one of the elements: "method", "path" or "headers""#;
        found.add(at, reason);
        return;
    };
    for (name, matcher) in [("method", &matched.method), ("path", &matched.path)] {
        if let Some(matcher) = matcher {
            check_matcher(&at.field(name), matcher, found);
        }
    }
    for (name, matcher) in &matched.headers {
        let at = at.field("headers").key(name);
        if name.is_empty() {
            found.add(&at, EMPTY);
        }
        check_matcher(&at, matcher, found);
    }
}

fn check_matcher(at: &Path, matcher: &StringMatcher, found: &mut Violations) {
    match &matcher.matcher_type {
        None => found.add(at, r#"cannot be empty. Available options: "exact", "split" or "regex""#),
        Some(MatcherType::Prefix(prefix)) => check_text(&at.field("prefix"), prefix, found),
        Some(MatcherType::Regex(regex)) => check_text(&at.field("regex"), regex, found),
        Some(MatcherType::Exact(_)) => {}
    }
}

fn check_modify(at: &Path, modify: &Modify, matched: Option<&Match>, found: &mut Violations) {
    if let Some(path) = &modify.path {
        check_path_change(&at.field("path"), path, matched, found);
    }
    if let Some(host) = &modify.host {
        check_host_change(&at.field("host"), host, found);
    }
    for (name, headers) in [("requestHeaders", &modify.request_headers), ("responseHeaders", &modify.response_headers)]
    {
        if let Some(headers) = headers {
            check_headers(&at.field(name), headers, found);
        }
    }
}

fn check_path_change(at: &Path, change: &PathChange, matched: Option<&Match>, found: &mut Violations) {
    match &change.r#type {
        None => found.add(at, r#"either "rewritePrefix" or "regex" has to be set"#),
        Some(path::Type::Regex(regex)) => check_regex(&at.field("regex"), regex, found),
        Some(path::Type::RewritePrefix(prefix)) => {
            let at = at.field("rewritePrefix");
            let matched = matched.and_then(|matched| matched.path.as_ref()?.matcher_type.as_ref());
            let by_prefix = matches!(matched, Some(MatcherType::Prefix(matched)) if !matched.is_empty());
            check_text(&at, prefix, found);
            if !prefix.is_empty() && !by_prefix {
                found.add(&at, "can only be set when .http.match.path.prefix is not empty");
            }
        }
    }
}

fn check_host_change(at: &Path, change: &Host, found: &mut Violations) {
    match &change.r#type {
        None => found.add(at, r#"either "value" or "fromPath" has to be set"#),
        Some(host::Type::Value(value)) => check_text(&at.field("value"), value, found),
        Some(host::Type::FromPath(regex)) => check_regex(&at.field("fromPath"), regex, found),
    }
}

fn check_regex(at: &Path, regex: &RegexReplace, found: &mut Violations) {
    check_text(&at.field("pattern"), &regex.pattern, found);
    check_text(&at.field("substitution"), &regex.substitution, found);
}

fn check_text(at: &Path, text: &str, found: &mut Violations) {
    if text.is_empty() {
        found.add(at, EMPTY);
    }
}

fn check_headers(at: &Path, headers: &Headers, found: &mut Violations) {
    for (position, header) in headers.add.iter().enumerate() {
        let at = at.field("add").index(position);
        check_header_name(&at.field("name"), &header.name, found);
        check_text(&at.field("value"), &header.value, found);
    }
    for (position, header) in headers.remove.iter().enumerate() {
        check_header_name(&at.field("remove").index(position).field("name"), &header.name, found);
    }
}

fn check_header_name(at: &Path, name: &str, found: &mut Violations) {
    check_text(at, name, found);
    if name.starts_with(':') || name == "host" || name == "Host" {
        found.add(at, "host header and HTTP/2 pseudo-headers are not allowed to be modified");
    }
}

fn check_load_balancer(at: &Path, load_balancer: &LoadBalancer, found: &mut Violations) {
    match &load_balancer.lb_type {
        Some(LbType::LeastRequest(least)) if least.choice_count == 1 => {
            found.add(&at.field("leastRequest.choiceCount"), "value must be greater than or equal to 2");
        }
        Some(LbType::RingHash(ring)) if !["XX_HASH", "MURMUR_HASH_2"].contains(&ring.hash_function.as_str()) => {
            found.add(&at.field("ringHash.hashFunction"), "must have a valid hash function");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::kind::Kind;
    use crate::spec::tabled::{between_services, proto_faults as faults};

    fn with(conf: Value) -> Vec<String> {
        faults(Kind::TrafficRoute, between_services(json!({"conf": conf})))
    }

    fn with_http(mut http: Value) -> Vec<String> {
        http["destination"] = json!({"kuma.io/service": "a"});
        with(json!({"destination": {"kuma.io/service": "a"}, "http": [http]}))
    }

    #[test]
    fn traffic_goes_to_a_destination_or_is_split() {
        assert_eq!(with(json!(null)), ["conf: cannot be empty"]);
        assert_eq!(with(json!({})), [r#"conf: requires either "destination" or "split""#]);
        assert_eq!(
            with(json!({"split": [{"destination": {}}, {"weight": 0, "destination": {"kuma.io/service": "a"}}]})),
            [
                "conf.split[0].weight: needs to be defined",
                "conf.split[0].destination: must have at least one tag",
                "conf.split[0].destination: mandatory tag \"kuma.io/service\" is missing",
                "conf.split: there must be at least one split entry with weight above 0"
            ]
        );
        assert!(
            with(json!({"split": [{"weight": 1, "destination": {"kuma.io/service": "a", "version": "1"}}]})).is_empty()
        );
    }

    #[test]
    fn a_match_has_conditions() {
        let empty = r#"cannot be empty. Available options: "exact", "split" or "regex""#;
        assert_eq!(
            with_http(
                json!({"match": {"method": {}, "path": {"prefix": ""}, "headers": {"": {"regex": ""}, "x": {}}}})
            ),
            [
                format!("conf.http[0].match.method: {empty}"),
                "conf.http[0].match.path.prefix: cannot be empty".to_owned(),
                "conf.http[0].match.headers[\"\"]: cannot be empty".to_owned(),
                "conf.http[0].match.headers[\"\"].regex: cannot be empty".to_owned(),
                format!("conf.http[0].match.headers[\"x\"]: {empty}"),
            ]
        );
    }

    #[test]
    fn modifications_are_complete() {
        let by_exact = json!({"path": {"exact": "/a"}});
        assert_eq!(
            with_http(json!({"match": by_exact, "modify": {"path": {}, "host": {},
                "requestHeaders": {"add": [{"name": "Host"}, {"value": "x"}]},
                "responseHeaders": {"remove": [{"name": ":status"}]}}})),
            [
                r#"conf.http[0].modify.path: either "rewritePrefix" or "regex" has to be set"#,
                r#"conf.http[0].modify.host: either "value" or "fromPath" has to be set"#,
                "conf.http[0].modify.requestHeaders.add[0].name: host header and HTTP/2 pseudo-headers are not allowed to be modified",
                "conf.http[0].modify.requestHeaders.add[0].value: cannot be empty",
                "conf.http[0].modify.requestHeaders.add[1].name: cannot be empty",
                "conf.http[0].modify.responseHeaders.remove[0].name: host header and HTTP/2 pseudo-headers are not allowed to be modified"
            ]
        );
        assert_eq!(
            with_http(
                json!({"match": by_exact, "modify": {"path": {"rewritePrefix": "/b"}, "host": {"fromPath": {}}}})
            ),
            [
                "conf.http[0].modify.path.rewritePrefix: can only be set when .http.match.path.prefix is not empty",
                "conf.http[0].modify.host.fromPath.pattern: cannot be empty",
                "conf.http[0].modify.host.fromPath.substitution: cannot be empty"
            ]
        );
        let by_prefix = json!({"path": {"prefix": "/a"}});
        assert!(with_http(json!({"match": by_prefix, "modify": {"path": {"rewritePrefix": "/b"}}})).is_empty());
    }

    #[test]
    fn a_load_balancer_has_sane_settings() {
        let with =
            |load_balancer| with(json!({"destination": {"kuma.io/service": "a"}, "loadBalancer": load_balancer}));
        assert!(with(json!({"leastRequest": {}})).is_empty());
        assert!(with(json!({"ringHash": {"hashFunction": "XX_HASH"}})).is_empty());
        assert_eq!(
            with(json!({"ringHash": {}})),
            ["conf.loadBalancer.ringHash.hashFunction: must have a valid hash function"]
        );
    }
}
