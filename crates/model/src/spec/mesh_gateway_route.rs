//! `MeshGatewayRoute`: the older routes of a builtin gateway. Several of its fields are reported under names of the proto
//! file, and what a match requires of its path, at the match itself.

use kds_proto::kuma::mesh::v1alpha1::MeshGatewayRoute;
use kds_proto::kuma::mesh::v1alpha1::mesh_gateway_route::conf::Route;
use kds_proto::kuma::mesh::v1alpha1::mesh_gateway_route::http_route::filter::{self, header_filter, rewrite};
use kds_proto::kuma::mesh::v1alpha1::mesh_gateway_route::http_route::r#match::{header, path};
use kds_proto::kuma::mesh::v1alpha1::mesh_gateway_route::http_route::{Filter, Match, Rule};
use kds_proto::kuma::mesh::v1alpha1::mesh_gateway_route::{Backend, HttpRoute};

use crate::resource::Meta;
use crate::spec::ProtoSpec;
use crate::spec::address::check_port;
use crate::spec::limits::check_percentage;
use crate::spec::tags::Rules;
use crate::violation::{Path, Violations};

const EMPTY: &str = "cannot be empty";

impl ProtoSpec for MeshGatewayRoute {
    fn validate(&self, _: &Meta, found: &mut Violations) {
        Rules::SERVICE.check_selectors(&Path::of("selectors"), &self.selectors, found);
        let at = Path::of("conf");
        match self.conf.as_ref().and_then(|conf| conf.route.as_ref()) {
            None => found.add(&at, EMPTY),
            Some(Route::Tcp(_)) => {}
            Some(Route::Http(http)) => check_http(&at.field("http.rules"), http, found),
        }
    }
}

fn check_http(at: &Path, http: &HttpRoute, found: &mut Violations) {
    if http.rules.is_empty() {
        found.add(at, EMPTY);
    }
    for (position, rule) in http.rules.iter().enumerate() {
        check_rule(&at.index(position), rule, found);
    }
}

fn check_rule(at: &Path, rule: &Rule, found: &mut Violations) {
    if rule.matches.is_empty() {
        found.add(&at.field("matches"), EMPTY);
        return;
    }
    for (position, matched) in rule.matches.iter().enumerate() {
        check_match(&at.field("matches").index(position), matched, found);
    }
    let rewrites_host = |filter: &&Filter| matches!(&filter.filter, Some(filter::Filter::Rewrite(rewrite)) if rewrite.host_to_backend_hostname);
    let context = Context {
        by_prefix: rule
            .matches
            .iter()
            .any(|matched| matches!(&matched.path, Some(path) if path.r#match() == path::MatchType::Prefix)),
        rewrites_host: rule.filters.iter().any(|filter| rewrites_host(&filter)),
    };
    // Positions are those among the others.
    for (position, filter) in rule.filters.iter().filter(|filter| !rewrites_host(filter)).enumerate() {
        context.check_filter(&at.field("filters").index(position), filter, found);
    }
    let redirects = rule.filters.iter().any(|filter| matches!(filter.filter, Some(filter::Filter::Redirect(_))));
    if redirects && rule.filters.len() != 1 {
        found.add(&at.field("filters"), "redirects cannot be used with other filters");
        return;
    }
    let at = at.field("backends");
    match (redirects, rule.backends.is_empty()) {
        (false, true) => found.add(&at, EMPTY),
        (true, false) => found.add(&at, "must be empty when using redirect filters"),
        _ => {}
    }
    for (position, backend) in rule.backends.iter().enumerate() {
        check_backend(&at.index(position), Some(backend), found);
    }
}

fn check_match(at: &Path, matched: &Match, found: &mut Violations) {
    if *matched == Match::default() {
        found.add(at, EMPTY);
    }
    if let Some(path) = &matched.path {
        match path.r#match() {
            path::MatchType::Regex if path.value.is_empty() => found.add(&at.field("value"), EMPTY),
            path::MatchType::Exact | path::MatchType::Prefix if !path.value.starts_with('/') => {
                found.add(&at.field("value"), "must be an absolute path");
            }
            _ => {}
        }
    }
    for (position, header) in matched.headers.iter().enumerate() {
        let at = at.field("headers").index(position);
        if header.name.is_empty() {
            found.add(&at.field("name"), EMPTY);
        }
        let takes_value = matches!(header.r#match(), header::MatchType::Exact | header::MatchType::Regex);
        match (takes_value, header.value.is_empty()) {
            (false, false) => found.add(&at.field("value"), "cannot be set"),
            (true, true) => found.add(&at.field("value"), EMPTY),
            _ => {}
        }
    }
    for (position, query) in matched.query_parameters.iter().enumerate() {
        let at = at.field("query_parameters").index(position);
        for (member, text) in [("name", &query.name), ("value", &query.value)] {
            if text.is_empty() {
                found.add(&at.field(member), EMPTY);
            }
        }
    }
}

/// What a filter's rules depend on in the rest of its route rule.
struct Context {
    by_prefix: bool,
    rewrites_host: bool,
}

impl Context {
    fn check_filter(&self, at: &Path, filter: &Filter, found: &mut Violations) {
        match &filter.filter {
            Some(filter::Filter::RequestHeader(headers)) => {
                self.check_headers(&at.field("request_header"), headers, found)
            }
            Some(filter::Filter::Redirect(redirect)) => {
                let at = at.field("redirect");
                if redirect.port > 0 {
                    check_port(&at.field("port"), redirect.port, found);
                }
                if !(300..=308).contains(&redirect.status_code) {
                    found.add(&at.field("status_code"), "must be in the range [300, 308]");
                }
            }
            Some(filter::Filter::Mirror(mirror)) => {
                let at = at.field("mirror");
                check_percentage(&at.field("percentage"), mirror.percentage, found);
                check_backend(&at.field("backend"), mirror.backend.as_ref(), found);
            }
            Some(filter::Filter::Rewrite(rewrite)) => {
                if matches!(rewrite.path, Some(rewrite::Path::ReplacePrefixMatch(_))) && !self.by_prefix {
                    let reason = "cannot be used without a match on path prefix";
                    found.add(&at.field("rewrite.replacePrefixMatch"), reason);
                }
            }
            Some(filter::Filter::ResponseHeader(_)) | None => {}
        }
    }

    fn check_headers(&self, at: &Path, headers: &filter::HeaderFilter, found: &mut Violations) {
        if *headers == filter::HeaderFilter::default() {
            found.add(at, EMPTY);
        }
        self.check_header_list(&at.field("set"), &headers.set, found);
        self.check_header_list(&at.field("add"), &headers.add, found);
        for (position, name) in headers.remove.iter().enumerate() {
            if name.is_empty() {
                found.add(&at.field("remove").index(position), EMPTY);
            }
        }
    }

    fn check_header_list(&self, at: &Path, headers: &[header_filter::Header], found: &mut Violations) {
        for (position, header) in headers.iter().enumerate() {
            let at = at.index(position);
            match header.name.as_str() {
                "" => found.add(&at.field("name"), EMPTY),
                name @ (":authority" | "Host" | "host") if self.rewrites_host => found.add(
                    &at,
                    format!(
                        "cannot modify '{name}' header, when route has set 'rewrite.host_to_backend_hostname' option"
                    ),
                ),
                _ => {}
            }
            if header.value.is_empty() {
                found.add(&at.field("value"), EMPTY);
            }
        }
    }
}

fn check_backend(at: &Path, backend: Option<&Backend>, found: &mut Violations) {
    match backend {
        None => found.add(at, EMPTY),
        Some(backend) => Rules::SERVICE.check(at, &backend.destination, found),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::kind::Kind;
    use crate::spec::tabled::proto_faults as faults;

    fn with(conf: Value) -> Vec<String> {
        faults(Kind::MeshGatewayRoute, json!({"selectors": [{"match": {"kuma.io/service": "gw"}}], "conf": conf}))
    }

    /// A rule with a match on `/` and a backend, other members replaced.
    fn with_rule(members: Value) -> Vec<String> {
        let mut rule =
            json!({"matches": [{"path": {"value": "/"}}], "backends": [{"destination": {"kuma.io/service": "a"}}]});
        rule.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let at = "conf.http.rules[0].";
        with(json!({"http": {"rules": [rule]}}))
            .iter()
            .map(|fault| fault.strip_prefix(at).unwrap().to_owned())
            .collect()
    }

    #[test]
    fn a_route_has_rules_with_matches_and_backends() {
        assert_eq!(with(json!({})), ["conf: cannot be empty"]);
        assert!(with(json!({"tcp": {}})).is_empty());
        assert_eq!(with(json!({"http": {}})), ["conf.http.rules: cannot be empty"]);
        assert_eq!(with_rule(json!({"matches": []})), ["matches: cannot be empty"]);
        assert!(with_rule(json!({})).is_empty());
        assert_eq!(with_rule(json!({"backends": []})), ["backends: cannot be empty"]);
        assert_eq!(
            with_rule(json!({"backends": [{"destination": {"a": "b"}}]})),
            ["backends[0]: mandatory tag \"kuma.io/service\" is missing"]
        );
    }

    #[test]
    fn matches_are_complete() {
        assert_eq!(
            with_rule(json!({"matches": [
                {}, {"path": {"match": "REGEX"}}, {"path": {"match": "PREFIX", "value": "a"}},
                {"headers": [{"match": "PRESENT", "value": "x"}, {"name": "x"}]}, {"queryParameters": [{}]}
            ]})),
            [
                "matches[0]: cannot be empty",
                "matches[1].value: cannot be empty",
                "matches[2].value: must be an absolute path",
                "matches[3].headers[0].name: cannot be empty",
                "matches[3].headers[0].value: cannot be set",
                "matches[3].headers[1].value: cannot be empty",
                "matches[4].query_parameters[0].name: cannot be empty",
                "matches[4].query_parameters[0].value: cannot be empty"
            ]
        );
    }

    #[test]
    fn a_redirect_stands_alone() {
        assert_eq!(
            with_rule(json!({"filters": [{"redirect": {"port": 70000, "statusCode": 200}}]})),
            [
                "filters[0].redirect.port: port must be in the range [1, 65535]",
                "filters[0].redirect.status_code: must be in the range [300, 308]",
                "backends: must be empty when using redirect filters"
            ]
        );
        assert_eq!(
            with_rule(json!({"filters": [{"redirect": {"statusCode": 301}}, {"rewrite": {}}]})),
            ["filters: redirects cannot be used with other filters"]
        );
    }

    #[test]
    fn filters_are_complete_and_fit_the_match() {
        assert_eq!(
            with_rule(json!({"filters": [
                {"rewrite": {"hostToBackendHostname": true}},
                {"rewrite": {"replacePrefixMatch": "/b"}},
                {"mirror": {"percentage": 101}},
                {"requestHeader": {}},
                {"requestHeader": {"set": [{"name": "host", "value": "x"}], "add": [{}], "remove": [""]}}
            ]})),
            [
                "filters[0].rewrite.replacePrefixMatch: cannot be used without a match on path prefix",
                "filters[1].mirror.percentage: has to be in [0.0 - 100.0] range",
                "filters[1].mirror.backend: cannot be empty",
                "filters[2].request_header: cannot be empty",
                "filters[3].request_header.set[0]: cannot modify 'host' header, when route has set 'rewrite.host_to_backend_hostname' option",
                "filters[3].request_header.add[0].name: cannot be empty",
                "filters[3].request_header.add[0].value: cannot be empty",
                "filters[3].request_header.remove[0]: cannot be empty"
            ]
        );
    }
}
