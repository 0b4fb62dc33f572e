//! `MeshHTTPRoute`: where requests go, and as what (api-and-kumactl 3.21).

use std::collections::BTreeSet;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::kind::Kind;
use crate::number::IntOrString;
use crate::resource::Meta;
use crate::spec::JsonSpec;
use crate::spec::check::{self, each};
use crate::spec::formats;
use crate::spec::header::{HeaderMatch, HeaderName};
use crate::spec::target_ref::{Allowed, BackendRef, Policy, TargetKind, TargetRef, check_top, top_warnings};
use crate::spec::words::words;
use crate::violation::{Path, Violations};

/// Where requests of the selected proxies go, and as what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshHttpRoute {
    /// The proxies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// What holds for requests to destinations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<To>>,
}

/// What holds for requests to a destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct To {
    /// Hosts of a gateway's listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostnames: Option<Vec<String>>,
    /// The destination.
    pub target_ref: TargetRef,
    /// What is done with which requests.
    pub rules: Vec<Rule>,
}

/// What is done with the requests to a destination, added up over routes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rules {
    /// What is done with which requests, the first that fits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// Hosts of a gateway's listener.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
}

/// What is done with some requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rule {
    /// The requests: those that fit one of these.
    #[schemars(length(min = 1))]
    pub matches: Vec<Match>,
    /// What is done.
    pub default: RuleConf,
}

/// A condition on a request; all of it must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Match {
    /// On its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// On its method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// On the parameters of its query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_params: Option<Vec<QueryParamMatch>>,
    /// On its headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Vec<HeaderMatch>>,
}

/// A condition on a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PathMatch {
    /// What to compare with.
    #[schemars(length(min = 1))]
    pub value: String,
    /// How to compare.
    pub r#type: PathMatchType,
}

words!(
    /// How a [`PathMatch`] compares; a prefix ends at a `/`.
    PathMatchType { Exact = "Exact", PathPrefix = "PathPrefix", RegularExpression = "RegularExpression" }
);

words!(
    /// A method of HTTP.
    Method {
        Connect = "CONNECT",
        Delete = "DELETE",
        Get = "GET",
        Head = "HEAD",
        Options = "OPTIONS",
        Patch = "PATCH",
        Post = "POST",
        Put = "PUT",
        Trace = "TRACE",
    }
);

/// A condition on a parameter of a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueryParamMatch {
    /// How to compare.
    pub r#type: QueryParamMatchType,
    /// The parameter.
    #[schemars(length(min = 1))]
    pub name: String,
    /// What to compare with.
    pub value: String,
}

words!(
    /// How a [`QueryParamMatch`] compares.
    QueryParamMatchType { Exact = "Exact", RegularExpression = "RegularExpression" }
);

/// What is done with requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleConf {
    /// Changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Vec<Filter>>,
    /// Where they go; to the destination itself when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_refs: Option<Vec<BackendRef>>,
}

/// A change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Filter {
    /// Which of the members below counts.
    pub r#type: FilterType,
    /// Of the headers of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_header_modifier: Option<HeaderModifier>,
    /// Of the headers of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_header_modifier: Option<HeaderModifier>,
    /// An answer that sends the client elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_redirect: Option<RequestRedirect>,
    /// Of host and path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_rewrite: Option<UrlRewrite>,
    /// A copy that goes elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_mirror: Option<RequestMirror>,
}

words!(
    /// A sort of change.
    FilterType {
        RequestHeaderModifier = "RequestHeaderModifier",
        ResponseHeaderModifier = "ResponseHeaderModifier",
        RequestRedirect = "RequestRedirect",
        UrlRewrite = "URLRewrite",
        RequestMirror = "RequestMirror",
    }
);

/// A change of headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeaderModifier {
    /// Headers that replace others of their name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub set: Option<Vec<Header>>,
    /// Headers that come beside others of their name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub add: Option<Vec<Header>>,
    /// Names of headers that go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub remove: Option<Vec<String>>,
}

/// A header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Header {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: String,
}

/// An answer that sends the client elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestRedirect {
    /// Scheme of the new address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// Host of the new address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Hostname>,
    /// Path of the new address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathRewrite>,
    /// Port of the new address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 1, max = 65_535))]
    pub port: Option<u16>,
    /// Status of the answer.
    #[serde(default = "found_elsewhere")]
    #[schemars(schema_with = "redirect_statuses")]
    pub status_code: u16,
}

fn found_elsewhere() -> u16 {
    302
}

fn redirect_statuses(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "enum": [301, 302, 303, 307, 308] })
}

words!(
    /// Scheme of an address.
    Scheme { Http = "http", Https = "https" }
);

/// A host by its full name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Hostname(
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub String,
);

/// A change of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PathRewrite {
    /// Which of the members below counts.
    pub r#type: PathRewriteType,
    /// The new path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace_full_path: Option<String>,
    /// The new beginning, in place of the one that was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace_prefix_match: Option<String>,
}

words!(
    /// What of a path is changed.
    PathRewriteType { ReplaceFullPath = "ReplaceFullPath", ReplacePrefixMatch = "ReplacePrefixMatch" }
);

/// A change of host and path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UrlRewrite {
    /// The new host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Hostname>,
    /// The new path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathRewrite>,
    /// Takes the name of the back end for host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_to_backend_hostname: Option<bool>,
}

/// A copy that goes elsewhere, its answer ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestMirror {
    /// Share of requests, percent; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentage: Option<IntOrString>,
    /// Where it goes.
    pub backend_ref: BackendRef,
}

const SYSTEM: Allowed<'_> = Allowed::kinds(&[
    TargetKind::Mesh,
    TargetKind::MeshGateway,
    TargetKind::MeshSubset,
    TargetKind::MeshService,
    TargetKind::MeshServiceSubset,
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
const TO: Allowed<'_> =
    Allowed::kinds(&[TargetKind::MeshService, TargetKind::MeshExternalService, TargetKind::MeshMultiZoneService]);
const TO_OF_GATEWAY: Allowed<'_> = Allowed::kinds(&[TargetKind::Mesh]);
/// The odd name stands for a back end that Kubernetes could not find.
const BACKENDS: Allowed<'_> = Allowed::kinds(&[
    TargetKind::MeshService,
    TargetKind::MeshServiceSubset,
    TargetKind::MeshExternalService,
    TargetKind::MeshMultiZoneService,
])
.with_odd_name("kuma.io/unresolved-backend");
const MIRRORS: Allowed<'_> = Allowed::kinds(&[TargetKind::MeshService, TargetKind::MeshServiceSubset]);

impl Policy for MeshHttpRoute {
    const KIND: Kind = Kind::MeshHTTPRoute;

    type To = To;
    type From = ();
    type Rule = ();

    fn target_ref(&self) -> Option<&TargetRef> {
        self.target_ref.as_ref()
    }

    fn to(&self) -> &[To] {
        self.to.as_deref().unwrap_or_default()
    }
}

impl JsonSpec for MeshHttpRoute {
    fn validate(&self, meta: &Meta, found: &mut Violations) {
        check_top(self, meta, SYSTEM, OTHERS, found);
        let gateway = self.top_kind() == TargetKind::MeshGateway;
        for (at, to) in each(&Path::of("spec.to"), self.to()) {
            to.target_ref.check(&at.field("targetRef"), if gateway { TO_OF_GATEWAY } else { TO }, found);
            for (at, rule) in each(&at.field("rules"), &to.rules) {
                rule.check(&at, gateway, found);
            }
            if !gateway && to.hostnames.as_ref().is_some_and(|names| !names.is_empty()) {
                found.add(&at.field("hostnames"), check::MUST_NOT_BE_DEFINED);
            }
        }
    }

    fn warnings(&self, _: &Meta) -> Vec<String> {
        top_warnings(self.target_ref())
    }
}

impl Rule {
    fn check(&self, at: &Path, gateway: bool, found: &mut Violations) {
        for (at, condition) in each(&at.field("matches"), &self.matches) {
            condition.check(&at, found);
        }
        let is_prefix =
            |condition: &Match| condition.path.as_ref().is_some_and(|path| path.r#type == PathMatchType::PathPrefix);
        let scope = Scope { gateway, prefixes: self.matches.iter().all(is_prefix) };
        let filters = self.default.filters.as_deref().unwrap_or_default();
        for (at, filter) in each(&at.field("default.filters"), filters) {
            filter.check(&at, scope, found);
        }
        let at = at.field("default.backendRefs");
        let backends = self.default.backend_refs.as_deref().unwrap_or_default();
        let redirects = filters.iter().any(|filter| filter.r#type == FilterType::RequestRedirect);
        if backends.is_empty() && gateway && !redirects {
            found.add(&at, check::MUST_NOT_BE_EMPTY);
        }
        for (at, backend) in each(&at, backends) {
            backend.check(&at, BACKENDS, found);
        }
    }
}

impl Match {
    fn check(&self, at: &Path, found: &mut Violations) {
        if let Some(path) = &self.path {
            path.check(&at.field("path.value"), found);
        }
        let mut names = BTreeSet::new();
        for (at, parameter) in each(&at.field("queryParams"), self.query_params.as_deref().unwrap_or_default()) {
            if !names.insert(&parameter.name) {
                found.add(&at.field("name"), format!("multiple entries for name {}", parameter.name));
            }
        }
        for (at, header) in each(&at.field("headers"), self.headers.as_deref().unwrap_or_default()) {
            header.check(&at, found);
        }
    }
}

impl PathMatch {
    fn check(&self, at: &Path, found: &mut Violations) {
        if self.r#type == PathMatchType::PathPrefix && self.value != "/" && self.value.ends_with('/') {
            let reason =
                "does not need a trailing slash because only a `/`-separated prefix or an entire path is matched";
            found.add(at, reason);
        }
        if self.r#type != PathMatchType::RegularExpression && !self.value.starts_with('/') {
            found.add(at, "must be an absolute path");
        }
    }
}

/// What a filter's rules depend on.
#[derive(Clone, Copy)]
struct Scope {
    /// The policy is about a gateway.
    gateway: bool,
    /// Every match of the rule is about the beginning of a path.
    prefixes: bool,
}

impl Filter {
    fn check(&self, at: &Path, scope: Scope, found: &mut Violations) {
        match self.r#type {
            FilterType::RequestHeaderModifier => {
                let at = at.field("requestHeaderModifier");
                defined(&at, self.request_header_modifier.as_ref(), found, HeaderModifier::check);
            }
            FilterType::ResponseHeaderModifier => {
                let at = at.field("responseHeaderModifier");
                defined(&at, self.response_header_modifier.as_ref(), found, HeaderModifier::check);
            }
            FilterType::RequestRedirect => {
                defined(&at.field("requestRedirect"), self.request_redirect.as_ref(), found, |redirect, at, found| {
                    check_address(at, redirect.path.as_ref(), redirect.hostname.as_ref(), scope, found);
                });
            }
            FilterType::UrlRewrite => {
                defined(&at.field("urlRewrite"), self.url_rewrite.as_ref(), found, |rewrite, at, found| {
                    rewrite.check(at, scope, found);
                });
            }
            FilterType::RequestMirror => {
                defined(&at.field("requestMirror"), self.request_mirror.as_ref(), found, |mirror, at, found| {
                    mirror.backend_ref.target.check(&at.field("backendRef"), MIRRORS, found);
                });
            }
        }
    }
}

/// Checks the block that a filter's type asks for.
fn defined<T>(at: &Path, block: Option<&T>, found: &mut Violations, check: impl Fn(&T, &Path, &mut Violations)) {
    match block {
        None => found.add(at, check::MUST_BE_DEFINED),
        Some(block) => check(block, at, found),
    }
}

impl HeaderModifier {
    fn check(&self, at: &Path, found: &mut Violations) {
        if *self == Self::default() {
            return found.add(at, "must have at least one defined: set, add, remove");
        }
        let names = |headers: Option<&Vec<Header>>| -> Vec<String> {
            headers.into_iter().flatten().map(|header| header.name.0.clone()).collect()
        };
        let removed = self.remove.clone().unwrap_or_default();
        let lists = [("set", names(self.set.as_ref())), ("add", names(self.add.as_ref())), ("remove", removed)];
        let mut seen = BTreeSet::new();
        for (member, names) in &lists {
            for (at, name) in each(&at.field(member), names) {
                if !seen.insert(name) {
                    found.add(&at.field("name"), "duplicate header name");
                }
            }
        }
    }
}

impl UrlRewrite {
    fn check(&self, at: &Path, scope: Scope, found: &mut Violations) {
        check_address(at, self.path.as_ref(), self.hostname.as_ref(), scope, found);
        if self.host_to_backend_hostname != Some(true) {
            return;
        }
        let at = at.field("hostToBackendHostname");
        if !scope.gateway {
            found.add(&at, "can only be set with MeshGateway");
        }
        if self.hostname.is_some() {
            found.add(&at, "cannot be set together with hostname");
        }
    }
}

fn check_address(
    at: &Path,
    path: Option<&PathRewrite>,
    hostname: Option<&Hostname>,
    scope: Scope,
    found: &mut Violations,
) {
    if path.is_some_and(|path| path.replace_prefix_match.is_some()) && !scope.prefixes {
        found.add(&at.field("path.replacePrefixMatch"), "can only appear if all matches match a path prefix");
    }
    let at = at.field("hostname");
    match hostname {
        Some(Hostname(name)) if formats::is_ip_of_sorts(name) => found.add(&at, "cannot be an IP address"),
        Some(Hostname(name)) => formats::check_subdomain(&at, name, found),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::spec::testing::{assert_prints, consumer_meta, faults_of, warnings};

    fn faults(spec: Value) -> Vec<String> {
        crate::spec::testing::faults::<MeshHttpRoute>(spec)
    }

    fn route(matches: Value, default: Value) -> Value {
        let rule = json!({"matches": matches, "default": default});
        json!({"to": [{"targetRef": {"kind": "MeshService", "name": "a"}, "rules": [rule]}]})
    }

    fn of_gateway(mut spec: Value) -> Value {
        spec["targetRef"] = json!({"kind": "MeshGateway", "name": "edge", "tags": {"port": "80"}});
        spec["to"][0]["targetRef"] = json!({"kind": "Mesh"});
        spec
    }

    /// Faults of the one rule, without the path that leads to it.
    fn rule_faults(spec: Value) -> Vec<String> {
        faults(spec).iter().map(|fault| fault.strip_prefix("spec.to[0].rules[0].").unwrap().to_owned()).collect()
    }

    #[test]
    fn nothing_need_be_said() {
        assert!(faults(json!({})).is_empty());
        assert!(faults(route(json!([{}]), json!({}))).is_empty());
    }

    #[test]
    fn references_are_limited_to_their_positions() {
        let mut spec = route(json!([{}]), json!({"backendRefs": [{"kind": "Mesh"}]}));
        spec["to"][0]["targetRef"] = json!({"kind": "Mesh"});
        spec["to"][0]["hostnames"] = json!(["a.com"]);
        spec["targetRef"] = json!({"kind": "MeshHTTPRoute", "name": "a"});
        assert_eq!(
            faults(spec),
            [
                "spec.targetRef.kind: value 'MeshHTTPRoute' is not supported",
                "spec.to[0].targetRef.kind: value 'Mesh' is not supported",
                "spec.to[0].rules[0].default.backendRefs[0].kind: value 'Mesh' is not supported",
                "spec.to[0].hostnames: must not be defined",
            ]
        );
        let mut gateway =
            of_gateway(route(json!([{}]), json!({"backendRefs": [{"kind": "MeshService", "name": "b"}]})));
        gateway["to"][0]["hostnames"] = json!(["a.com"]);
        assert!(faults(gateway.clone()).is_empty());
        assert_eq!(
            faults_of::<MeshHttpRoute>(gateway.clone(), &consumer_meta()),
            ["spec.targetRef.kind: value 'MeshGateway' is not supported"]
        );
        gateway["to"][0]["targetRef"] = json!({"kind": "MeshService", "name": "a"});
        assert_eq!(faults(gateway), ["spec.to[0].targetRef.kind: value 'MeshService' is not supported"]);
    }

    #[test]
    fn paths_are_absolute_and_prefixes_end_without_a_slash() {
        let path =
            |kind: &str, value: &str| rule_faults(route(json!([{"path": {"type": kind, "value": value}}]), json!({})));
        let relative = "matches[0].path.value: must be an absolute path";
        let slash = "matches[0].path.value: does not need a trailing slash because only a `/`-separated prefix or an entire path is matched";
        assert_eq!(path("Exact", "rel/"), [relative]);
        assert_eq!(path("PathPrefix", "/a/"), [slash]);
        assert_eq!(path("PathPrefix", "a/"), [slash, relative]);
        assert!(path("PathPrefix", "/").is_empty() && path("Exact", "/a/").is_empty());
        assert!(path("RegularExpression", ".*").is_empty());
    }

    #[test]
    fn parameters_and_headers_are_told_apart() {
        let parameter = |name: &str| json!({"type": "Exact", "name": name, "value": "1"});
        let headers = json!([{"type": "Absent", "name": "a", "value": "b"}, {"name": "a", "value": "b"}]);
        let matches =
            json!([{}, {"queryParams": [parameter("a"), parameter("b"), parameter("a")], "headers": headers}]);
        assert_eq!(
            rule_faults(route(matches, json!({}))),
            [
                "matches[1].queryParams[2].name: multiple entries for name a",
                "matches[1].headers[0].value: must not be defined",
            ]
        );
    }

    #[test]
    fn a_filter_has_the_block_of_its_type() {
        let types =
            ["RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite", "RequestMirror"];
        let filters: Vec<_> = types.iter().map(|kind| json!({"type": kind})).collect();
        assert_eq!(
            rule_faults(route(json!([{}]), json!({"filters": filters}))),
            [
                "default.filters[0].requestHeaderModifier: must be defined",
                "default.filters[1].responseHeaderModifier: must be defined",
                "default.filters[2].requestRedirect: must be defined",
                "default.filters[3].urlRewrite: must be defined",
                "default.filters[4].requestMirror: must be defined",
            ]
        );
    }

    #[test]
    fn headers_are_changed_once() {
        let header = |name: &str| json!({"name": name, "value": "v"});
        let modifier = json!({"set": [header("a"), header("b")], "add": [header("a")], "remove": ["c", "b", "c"]});
        let filters = json!([
            {"type": "RequestHeaderModifier", "requestHeaderModifier": {}},
            {"type": "ResponseHeaderModifier", "responseHeaderModifier": modifier},
        ]);
        assert_eq!(
            rule_faults(route(json!([{}]), json!({"filters": filters}))),
            [
                "default.filters[0].requestHeaderModifier: must have at least one defined: set, add, remove",
                "default.filters[1].responseHeaderModifier.add[0].name: duplicate header name",
                "default.filters[1].responseHeaderModifier.remove[1].name: duplicate header name",
                "default.filters[1].responseHeaderModifier.remove[2].name: duplicate header name",
            ]
        );
    }

    #[test]
    fn a_prefix_is_replaced_where_one_was_matched() {
        let path = json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"});
        let filters = json!([
            {"type": "RequestRedirect", "requestRedirect": {"path": path}},
            {"type": "URLRewrite", "urlRewrite": {"path": path}},
        ]);
        let prefix = json!({"path": {"type": "PathPrefix", "value": "/a"}});
        let exact = json!({"path": {"type": "Exact", "value": "/a"}});
        let reason = "can only appear if all matches match a path prefix";
        let expected = [
            format!("default.filters[0].requestRedirect.path.replacePrefixMatch: {reason}"),
            format!("default.filters[1].urlRewrite.path.replacePrefixMatch: {reason}"),
        ];
        assert!(rule_faults(route(json!([prefix, prefix]), json!({"filters": filters}))).is_empty());
        assert_eq!(rule_faults(route(json!([prefix, exact]), json!({"filters": filters}))), expected);
        assert_eq!(rule_faults(route(json!([prefix, {}]), json!({"filters": filters}))), expected);
    }

    #[test]
    fn hosts_are_names() {
        let host = |name: &str| {
            let filters = json!([{"type": "URLRewrite", "urlRewrite": {"hostname": name}}]);
            rule_faults(route(json!([{}]), json!({"filters": filters})))
        };
        let at = "default.filters[0].urlRewrite.hostname";
        for address in ["10.0.0.1", "010.0.0.1", "::1"] {
            assert_eq!(host(address), [format!("{at}: cannot be an IP address")]);
        }
        let reason = r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
        assert_eq!(host("A.com"), [format!("{at}: {reason}")]);
        let long = format!("{}-", "a".repeat(253));
        assert_eq!(host(&long), [format!("{at}: must be no more than 253 characters"), format!("{at}: {reason}")]);
        assert!(host("a.example.com").is_empty());
    }

    #[test]
    fn the_host_of_the_back_end_is_for_gateways() {
        let rewrite = json!({"hostToBackendHostname": true, "hostname": "a"});
        let filters = json!([{"type": "URLRewrite", "urlRewrite": rewrite}]);
        let spec =
            route(json!([{}]), json!({"filters": filters, "backendRefs": [{"kind": "MeshService", "name": "a"}]}));
        let at = "default.filters[0].urlRewrite.hostToBackendHostname";
        assert_eq!(
            rule_faults(spec.clone()),
            [format!("{at}: can only be set with MeshGateway"), format!("{at}: cannot be set together with hostname")]
        );
        assert_eq!(rule_faults(of_gateway(spec)), [format!("{at}: cannot be set together with hostname")]);
    }

    #[test]
    fn a_gateway_needs_a_back_end_unless_it_redirects() {
        let spec = of_gateway(route(json!([{}]), json!({"backendRefs": []})));
        assert_eq!(rule_faults(spec), ["default.backendRefs: must not be empty"]);
        let filters = json!([{"type": "RequestRedirect", "requestRedirect": {"scheme": "https"}}]);
        assert!(rule_faults(of_gateway(route(json!([{}]), json!({"filters": filters})))).is_empty());
    }

    #[test]
    fn back_ends_and_mirrors_have_their_kinds() {
        let filters = json!([{"type": "RequestMirror", "requestMirror": {"backendRef": {"kind": "MeshMultiZoneService", "name": "a"}}}]);
        let backends = json!([
            {"kind": "MeshMultiZoneService", "name": "a"},
            {"kind": "MeshService", "name": "kuma.io/unresolved-backend"},
            {"kind": "MeshService", "name": "a/b"},
        ]);
        assert_eq!(
            rule_faults(route(json!([{}]), json!({"filters": filters, "backendRefs": backends}))),
            [
                "default.filters[0].requestMirror.backendRef.kind: value 'MeshMultiZoneService' is not supported",
                "default.backendRefs[0].port: must be defined with kind MeshMultiZoneService",
                "default.backendRefs[2].name: invalid characters: must consist of lower case alphanumeric characters, '-', '.' and '_'.",
            ]
        );
    }

    #[test]
    fn old_kinds_are_warned_about() {
        assert_eq!(
            warnings::<MeshHttpRoute>(json!({"targetRef": {"kind": "MeshSubset"}})),
            ["MeshSubset value for 'targetRef.kind' is deprecated, use Dataplane with labels instead"]
        );
    }

    #[test]
    fn the_schema_has_the_limits_that_the_rules_leave_to_it() {
        let modifier = schemars::schema_for!(HeaderModifier);
        for member in ["set", "add", "remove"] {
            assert_eq!(modifier.pointer(&format!("/properties/{member}/maxItems")), Some(&json!(16)));
        }
        let redirect = schemars::schema_for!(RequestRedirect);
        assert_eq!(redirect.pointer("/properties/statusCode/default"), Some(&json!(302)));
        assert_eq!(redirect.pointer("/properties/statusCode/enum"), Some(&json!([301, 302, 303, 307, 308])));
        assert_eq!(redirect.pointer("/properties/port/maximum"), Some(&json!(65_535)));
        assert_eq!(redirect.get("required"), None);
        assert_eq!(schemars::schema_for!(Rule).pointer("/properties/matches/minItems"), Some(&json!(1)));
    }

    #[test]
    fn members_are_printed_in_the_declared_order() {
        assert_prints::<MeshHttpRoute>(
            r#"{"targetRef":{"kind":"Mesh"},"to":[{"hostnames":["a"],"targetRef":{"kind":"MeshService","name":"a"},"rules":[{
                "matches":[{"path":{"value":"/v2","type":"PathPrefix"},"method":"GET","queryParams":[{"type":"Exact","name":"q",
                "value":"1"}],"headers":[{"type":"Exact","name":"x-v","value":"2"}]}],"default":{"filters":[
                {"type":"RequestHeaderModifier","requestHeaderModifier":{"set":[{"name":"a","value":""}],"add":[],"remove":["c"]}},
                {"type":"RequestRedirect","requestRedirect":{"scheme":"https","hostname":"a","path":{"type":"ReplaceFullPath",
                "replaceFullPath":"/"},"port":8080,"statusCode":301}},{"type":"URLRewrite","urlRewrite":{"hostname":"a","path":{
                "type":"ReplacePrefixMatch","replacePrefixMatch":"/"},"hostToBackendHostname":false}},{"type":"RequestMirror",
                "requestMirror":{"percentage":"0.1","backendRef":{"kind":"MeshService","name":"a","weight":1}}}],
                "backendRefs":[{"kind":"MeshServiceSubset","name":"a","tags":{"v":"2"},"weight":90,"port":80}]}}]}]}"#,
        );
    }
}
