//! Route configurations, in place.

use kds_proto::envoy::config::core::v3::data_source::Specifier;
use kds_proto::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use kds_proto::envoy::config::core::v3::{DataSource, HeaderValue, HeaderValueOption, RuntimeFractionalPercent};
use kds_proto::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use kds_proto::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use kds_proto::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use kds_proto::envoy::config::route::v3::retry_policy::{
    RateLimitedRetryBackOff, ResetHeader, ResetHeaderFormat, RetryBackOff, RetryHostPredicate, RetryPriority,
    retry_host_predicate, retry_priority,
};
use kds_proto::envoy::config::route::v3::route::Action;
use kds_proto::envoy::config::route::v3::route_action::hash_policy::{
    ConnectionProperties, Cookie, FilterState, Header, PolicySpecifier, QueryParameter,
};
use kds_proto::envoy::config::route::v3::route_action::{
    ClusterSpecifier, HashPolicy, HostRewriteSpecifier, RequestMirrorPolicy,
};
use kds_proto::envoy::config::route::v3::route_match::PathSpecifier;
use kds_proto::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use kds_proto::envoy::config::route::v3::{
    DirectResponseAction, HeaderMatcher, QueryParameterMatcher, RedirectAction, RetryPolicy, Route, RouteAction,
    RouteConfiguration, RouteMatch, VirtualHost, WeightedCluster,
};
use kds_proto::envoy::extensions::retry::host::omit_host_metadata::v3::OmitHostMetadataConfig;
use kds_proto::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use kds_proto::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use kds_proto::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use kds_proto::envoy::r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher, StringMatcher};
use kds_proto::envoy::r#type::v3::FractionalPercent;
use kds_proto::envoy::r#type::v3::fractional_percent::DenominatorType;
use model::spec::header::{HeaderMatch, HeaderMatchType};
use model::spec::mesh_http_route::{
    Filter, FilterType, HeaderModifier, Match, PathMatchType, PathRewrite, PathRewriteType, QueryParamMatchType,
    RequestMirror, RequestRedirect, UrlRewrite,
};
use model::spec::mesh_load_balancing_strategy as balancing;
use model::spec::mesh_retry::{PredicateType, RateLimitFormat};
use prost_types::Duration;

use super::{any, metadata};
use crate::plan::{Http, Inbound, Route as Planned, Split};
use crate::policies::retry::Retry;
use crate::policies::timeout;

/// A header of old that must not reach the workload.
const TAGS_HEADER: &str = "x-kuma-tags";

/// Every request goes to the workload.
pub fn to_workload(inbound: &Inbound) -> RouteConfiguration {
    let action = RouteAction {
        timeout: Some(timeout::request(&inbound.timeout)),
        idle_timeout: Some(timeout::stream_idle(&inbound.timeout)),
        cluster_specifier: Some(ClusterSpecifier::Cluster(inbound.cluster.clone())),
        ..RouteAction::default()
    };
    let route = Route { r#match: Some(prefix("/")), action: Some(Action::Route(action)), ..Route::default() };
    RouteConfiguration {
        request_headers_to_remove: vec![TAGS_HEADER.to_owned()],
        ..configuration(&inbound.route, &inbound.virtual_host, vec![route])
    }
}

/// Routes of an outbound.
pub fn from_workload(http: &Http) -> RouteConfiguration {
    configuration(&http.route, &http.virtual_host, http.routes.iter().flat_map(routes).collect())
}

/// Every request leaves the mesh, under the name of whoever it goes to.
pub fn outside(name: &str, virtual_host: &str, cluster: &str) -> RouteConfiguration {
    let action = RouteAction {
        timeout: Some(Duration::default()),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        host_rewrite_specifier: Some(HostRewriteSpecifier::AutoHostRewrite(true)),
        ..RouteAction::default()
    };
    let route = Route { r#match: Some(prefix("/")), action: Some(Action::Route(action)), ..Route::default() };
    configuration(name, virtual_host, vec![route])
}

/// A document at a path, which those who have it already are not given again.
pub fn document(name: &str, path: &str, body: &str, tag: &str) -> RouteConfiguration {
    let at = |headers| RouteMatch {
        headers,
        path_specifier: Some(PathSpecifier::Path(path.to_owned())),
        ..RouteMatch::default()
    };
    let answer = |status, body| {
        Some(Action::DirectResponse(DirectResponseAction { status, body, ..DirectResponseAction::default() }))
    };
    let known = header_matcher("If-None-Match", MatchPattern::Exact(tag.to_owned()));
    let unchanged = Route { r#match: Some(at(vec![known])), action: answer(304, None), ..Route::default() };
    let text = DataSource { specifier: Some(Specifier::InlineString(body.to_owned())), ..DataSource::default() };
    let etag = HeaderValue { key: "Etag".to_owned(), value: tag.to_owned(), ..HeaderValue::default() };
    let whole = Route {
        name: format!("{name}:{path}"),
        r#match: Some(at(Vec::new())),
        action: answer(200, Some(text)),
        response_headers_to_add: vec![HeaderValueOption { header: Some(etag), ..HeaderValueOption::default() }],
        ..Route::default()
    };
    RouteConfiguration {
        max_direct_response_body_size_bytes: u32::try_from(body.len()).ok(),
        validate_clusters: None,
        ..configuration("", name, vec![unchanged, whole])
    }
}

/// Paths that go to clusters of their own, and keep their beginning.
pub fn fixed(name: &str, paths: &[(&str, &str)]) -> RouteConfiguration {
    let route = |(path, cluster): &(&str, &str)| Route {
        r#match: Some(prefix(path)),
        action: Some(Action::Route(RouteAction {
            prefix_rewrite: (*path).to_owned(),
            cluster_specifier: Some(ClusterSpecifier::Cluster((*cluster).to_owned())),
            ..RouteAction::default()
        })),
        ..Route::default()
    };
    configuration("", name, paths.iter().map(route).collect())
}

fn configuration(name: &str, virtual_host: &str, routes: Vec<Route>) -> RouteConfiguration {
    let host =
        VirtualHost { name: virtual_host.to_owned(), domains: vec!["*".to_owned()], routes, ..VirtualHost::default() };
    RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: vec![host],
        // A route may lead to a cluster that arrives later.
        validate_clusters: Some(false),
        ..RouteConfiguration::default()
    }
}

fn prefix(path: &str) -> RouteMatch {
    RouteMatch { path_specifier: Some(PathSpecifier::Prefix(path.to_owned())), ..RouteMatch::default() }
}

/// One route, or two: a prefix ends at a `/`, which Envoy's own way of saying so cannot replace rightly.
fn routes(planned: &Planned) -> Vec<Route> {
    paths(&planned.matches).into_iter().map(|path| route(planned, path)).collect()
}

fn paths(matches: &Match) -> Vec<PathSpecifier> {
    let Some(path) = &matches.path else { return vec![PathSpecifier::Prefix("/".to_owned())] };
    match path.r#type {
        PathMatchType::Exact => vec![PathSpecifier::Path(path.value.clone())],
        PathMatchType::RegularExpression => vec![PathSpecifier::SafeRegex(regex(&path.value))],
        PathMatchType::PathPrefix if path.value == "/" => vec![PathSpecifier::Prefix("/".to_owned())],
        PathMatchType::PathPrefix => {
            let stem = path.value.strip_suffix('/').unwrap_or(&path.value);
            vec![PathSpecifier::Path(stem.to_owned()), PathSpecifier::Prefix(format!("{stem}/"))]
        }
    }
}

fn route(planned: &Planned, path: PathSpecifier) -> Route {
    let is_prefix = planned.matches.path.as_ref().is_some_and(|path| path.r#type == PathMatchType::PathPrefix);
    let place = Place { is_prefix, exact: matches!(path, PathSpecifier::Path(_)) };
    let mut route =
        Route { name: planned.name.clone(), r#match: Some(matching(&planned.matches, path)), ..Route::default() };
    let mut forward = action(planned);
    let mut redirect = None;
    for filter in &planned.filters {
        change(filter, place, &mut route, &mut forward, &mut redirect);
    }
    forward.request_mirror_policies = planned.mirrors.iter().map(|(mirror, cluster)| copy(mirror, cluster)).collect();
    route.action = Some(redirect.map_or(Action::Route(forward), Action::Redirect));
    route
}

/// Which of the two forms of a prefix a route is.
#[derive(Clone, Copy)]
struct Place {
    is_prefix: bool,
    exact: bool,
}

fn matching(matches: &Match, path: PathSpecifier) -> RouteMatch {
    let method = matches
        .method
        .as_ref()
        .map(|method| header_matcher(":method", MatchPattern::Exact(method.as_str().to_owned())));
    let mut headers: Vec<HeaderMatcher> = method.into_iter().collect();
    let mut seen = Vec::new();
    for header in matches.headers.iter().flatten() {
        if !seen.contains(&&header.name) {
            seen.push(&header.name);
            headers.push(header_match(header));
        }
    }
    let parameter = |parameter: &model::spec::mesh_http_route::QueryParamMatch| {
        let pattern = match parameter.r#type {
            QueryParamMatchType::Exact => MatchPattern::Exact(parameter.value.clone()),
            QueryParamMatchType::RegularExpression => MatchPattern::SafeRegex(regex(&parameter.value)),
        };
        QueryParameterMatcher {
            name: parameter.name.clone(),
            query_parameter_match_specifier: Some(QueryParameterMatchSpecifier::StringMatch(text(pattern))),
        }
    };
    RouteMatch {
        headers,
        query_parameters: matches.query_params.iter().flatten().map(parameter).collect(),
        path_specifier: Some(path),
        ..RouteMatch::default()
    }
}

/// A condition on a header.
fn header_match(header: &HeaderMatch) -> HeaderMatcher {
    let name = &header.name.0;
    let value = || header.value.clone();
    let presence = |present| HeaderMatcher {
        name: name.clone(),
        header_match_specifier: Some(HeaderMatchSpecifier::PresentMatch(present)),
        ..HeaderMatcher::default()
    };
    match header.r#type {
        HeaderMatchType::Exact => header_matcher(name, MatchPattern::Exact(value())),
        HeaderMatchType::RegularExpression => header_matcher(name, MatchPattern::SafeRegex(regex(&header.value))),
        // Envoy refuses an empty prefix.
        HeaderMatchType::Prefix if header.value.is_empty() => presence(true),
        HeaderMatchType::Prefix => header_matcher(name, MatchPattern::Prefix(value())),
        HeaderMatchType::Present => presence(true),
        HeaderMatchType::Absent => presence(false),
    }
}

fn header_matcher(name: &str, pattern: MatchPattern) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(text(pattern))),
        ..HeaderMatcher::default()
    }
}

fn text(pattern: MatchPattern) -> StringMatcher {
    StringMatcher { match_pattern: Some(pattern), ..StringMatcher::default() }
}

fn regex(regex: &str) -> RegexMatcher {
    RegexMatcher { regex: regex.to_owned(), ..RegexMatcher::default() }
}

fn action(planned: &Planned) -> RouteAction {
    let external = planned.splits.iter().any(|split| split.external);
    RouteAction {
        timeout: Some(planned.timeout.as_ref().map_or_else(Duration::default, timeout::request)),
        idle_timeout: planned.timeout.as_ref().map(timeout::stream_idle),
        retry_policy: planned.retry.as_ref().map(retry),
        hash_policy: planned.hash.iter().map(hash).collect(),
        cluster_specifier: Some(clusters(&planned.splits)),
        host_rewrite_specifier: external.then_some(HostRewriteSpecifier::AutoHostRewrite(true)),
        ..RouteAction::default()
    }
}

fn clusters(splits: &[Split]) -> ClusterSpecifier {
    if let [one] = splits {
        return ClusterSpecifier::Cluster(one.cluster.clone());
    }
    let weight = |split: &Split| ClusterWeight {
        name: split.cluster.clone(),
        weight: Some(split.weight),
        ..ClusterWeight::default()
    };
    ClusterSpecifier::WeightedClusters(WeightedCluster {
        clusters: splits.iter().map(weight).collect(),
        ..WeightedCluster::default()
    })
}

fn change(
    filter: &Filter,
    place: Place,
    route: &mut Route,
    forward: &mut RouteAction,
    redirect: &mut Option<RedirectAction>,
) {
    match filter.r#type {
        FilterType::RequestHeaderModifier => {
            let (set, removed) = filter.request_header_modifier.as_ref().map(headers).unwrap_or_default();
            route.request_headers_to_add.extend(set);
            route.request_headers_to_remove.extend(removed);
        }
        FilterType::ResponseHeaderModifier => {
            let (set, removed) = filter.response_header_modifier.as_ref().map(headers).unwrap_or_default();
            route.response_headers_to_add.extend(set);
            route.response_headers_to_remove.extend(removed);
        }
        FilterType::RequestRedirect => {
            *redirect = filter.request_redirect.as_ref().map(|asked| elsewhere(asked, place)).or(redirect.take());
        }
        FilterType::UrlRewrite => {
            if let Some(asked) = &filter.url_rewrite {
                rewrite(asked, place, forward);
            }
        }
        FilterType::RequestMirror => {}
    }
}

fn headers(modifier: &HeaderModifier) -> (Vec<HeaderValueOption>, Vec<String>) {
    let option = |action: HeaderAppendAction| {
        move |header: &model::spec::mesh_http_route::Header| HeaderValueOption {
            header: Some(HeaderValue {
                key: header.name.0.clone(),
                value: header.value.clone(),
                ..HeaderValue::default()
            }),
            append_action: action.into(),
            ..HeaderValueOption::default()
        }
    };
    let set = modifier.set.iter().flatten().map(option(HeaderAppendAction::OverwriteIfExistsOrAdd));
    let added = modifier.add.iter().flatten().map(option(HeaderAppendAction::AppendIfExistsOrAdd));
    (set.chain(added).collect(), modifier.remove.clone().unwrap_or_default())
}

/// What a path becomes.
enum NewPath {
    Whole(RegexMatchAndSubstitute),
    Beginning(String),
}

fn new_path(asked: &PathRewrite, place: Place) -> Option<NewPath> {
    let whole = |path: &str| {
        NewPath::Whole(RegexMatchAndSubstitute { pattern: Some(regex(".*")), substitution: path.to_owned() })
    };
    match asked.r#type {
        PathRewriteType::ReplaceFullPath => asked.replace_full_path.as_deref().map(whole),
        PathRewriteType::ReplacePrefixMatch if !place.is_prefix => None,
        PathRewriteType::ReplacePrefixMatch if place.exact => asked.replace_prefix_match.as_deref().map(whole),
        PathRewriteType::ReplacePrefixMatch => asked.replace_prefix_match.clone().map(NewPath::Beginning),
    }
}

fn rewrite(asked: &UrlRewrite, place: Place, forward: &mut RouteAction) {
    if let Some(host) = &asked.hostname {
        forward.host_rewrite_specifier = Some(HostRewriteSpecifier::HostRewriteLiteral(host.0.clone()));
    }
    match asked.path.as_ref().and_then(|path| new_path(path, place)) {
        Some(NewPath::Whole(path)) => forward.regex_rewrite = Some(path),
        Some(NewPath::Beginning(path)) => forward.prefix_rewrite = path,
        None => {}
    }
}

fn elsewhere(asked: &RequestRedirect, place: Place) -> RedirectAction {
    let code = match asked.status_code {
        301 => RedirectResponseCode::MovedPermanently,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::Found,
    };
    let scheme = asked.scheme.as_ref().map(|scheme| SchemeRewriteSpecifier::SchemeRedirect(scheme.as_str().to_owned()));
    let path = asked.path.as_ref().and_then(|path| new_path(path, place)).map(|path| match path {
        NewPath::Whole(path) => PathRewriteSpecifier::RegexRewrite(path),
        NewPath::Beginning(path) => PathRewriteSpecifier::PrefixRewrite(path),
    });
    RedirectAction {
        host_redirect: asked.hostname.as_ref().map(|host| host.0.clone()).unwrap_or_default(),
        port_redirect: asked.port.map_or(0, u32::from),
        response_code: code.into(),
        scheme_rewrite_specifier: scheme,
        path_rewrite_specifier: path,
        ..RedirectAction::default()
    }
}

fn copy(mirror: &RequestMirror, cluster: &str) -> RequestMirrorPolicy {
    let percentage = mirror.percentage.as_ref().and_then(model::number::IntOrString::number);
    RequestMirrorPolicy {
        cluster: cluster.to_owned(),
        runtime_fraction: percentage.map(|percentage| RuntimeFractionalPercent {
            default_value: Some(fraction(percentage)),
            ..RuntimeFractionalPercent::default()
        }),
        ..RequestMirrorPolicy::default()
    }
}

/// A percentage as a fraction of as few parts as it needs.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "validated as a percentage")]
pub fn fraction(percentage: f64) -> FractionalPercent {
    let parts = [(1.0, DenominatorType::Hundred), (100.0, DenominatorType::TenThousand)];
    let whole = |number: f64| (number - number.round()).abs() < 1e-9;
    let (factor, denominator) = parts
        .into_iter()
        .find(|(factor, _)| whole(percentage * factor))
        .unwrap_or((10_000.0, DenominatorType::Million));
    FractionalPercent { numerator: (percentage * factor).round() as u32, denominator: denominator.into() }
}

fn retry(asked: &Retry) -> RetryPolicy {
    let methods =
        asked.methods.iter().map(|method| header_matcher(":method", MatchPattern::Exact((*method).to_owned())));
    let mut policy = RetryPolicy {
        retry_on: asked.on.clone(),
        num_retries: asked.times,
        per_try_timeout: asked.per_try.map(Into::into),
        retry_back_off: asked.pauses.as_ref().map(|pauses| RetryBackOff {
            base_interval: pauses.base_interval.map(Into::into),
            max_interval: pauses.max_interval.map(Into::into),
        }),
        rate_limited_retry_back_off: asked.asked_pauses.as_ref().map(|pauses| RateLimitedRetryBackOff {
            reset_headers: pauses.reset_headers.iter().flatten().map(reset_header).collect(),
            max_interval: pauses.max_interval.map(Into::into),
        }),
        retriable_status_codes: asked.statuses.clone(),
        retriable_request_headers: methods.chain(asked.request_headers.iter().map(header_match)).collect(),
        retriable_headers: asked.response_headers.iter().map(header_match).collect(),
        host_selection_retry_max_attempts: asked.host_attempts,
        ..RetryPolicy::default()
    };
    for predicate in &asked.hosts {
        let host = |name: &str, config| RetryHostPredicate {
            name: name.to_owned(),
            config_type: Some(retry_host_predicate::ConfigType::TypedConfig(config)),
        };
        match predicate.predicate {
            PredicateType::OmitPreviousHosts => policy
                .retry_host_predicate
                .push(host("envoy.retry_host_predicates.previous_hosts", any(&PreviousHostsPredicate {}))),
            PredicateType::OmitHostsWithTags => {
                let tags = predicate.tags.clone().unwrap_or_default();
                let config = OmitHostMetadataConfig { metadata_match: metadata(&["envoy.lb"], &tags) };
                policy.retry_host_predicate.push(host("envoy.retry_host_predicates.omit_host_metadata", any(&config)));
            }
            PredicateType::OmitPreviousPriorities => {
                let config = PreviousPrioritiesConfig { update_frequency: predicate.update_frequency };
                policy.retry_priority = Some(RetryPriority {
                    name: "envoy.retry_priorities.previous_priorities".to_owned(),
                    config_type: Some(retry_priority::ConfigType::TypedConfig(any(&config))),
                });
            }
            PredicateType::Other(_) => {}
        }
    }
    policy
}

fn reset_header(header: &model::spec::mesh_retry::ResetHeader) -> ResetHeader {
    let format = match header.format {
        RateLimitFormat::Seconds => ResetHeaderFormat::Seconds,
        RateLimitFormat::UnixTimestamp => ResetHeaderFormat::UnixTimestamp,
    };
    ResetHeader { name: header.name.0.clone(), format: format.into() }
}

fn hash(asked: &balancing::HashPolicy) -> HashPolicy {
    use balancing::HashPolicyType;
    let specifier = match asked.r#type {
        HashPolicyType::Header => asked
            .header
            .as_ref()
            .map(|header| PolicySpecifier::Header(Header { header_name: header.name.clone(), ..Header::default() })),
        HashPolicyType::Cookie => asked.cookie.as_ref().map(|cookie| {
            PolicySpecifier::Cookie(Cookie {
                name: cookie.name.clone(),
                ttl: cookie.ttl.map(Into::into),
                path: cookie.path.clone().unwrap_or_default(),
                ..Cookie::default()
            })
        }),
        HashPolicyType::Connection => asked.connection.as_ref().map(|connection| {
            PolicySpecifier::ConnectionProperties(ConnectionProperties {
                source_ip: connection.source_ip.unwrap_or(false),
            })
        }),
        HashPolicyType::QueryParameter => asked
            .query_parameter
            .as_ref()
            .map(|parameter| PolicySpecifier::QueryParameter(QueryParameter { name: parameter.name.clone() })),
        HashPolicyType::FilterState => asked
            .filter_state
            .as_ref()
            .map(|state| PolicySpecifier::FilterState(FilterState { key: state.key.clone() })),
        HashPolicyType::SourceIp => None,
    };
    HashPolicy { terminal: asked.terminal.unwrap_or(false), policy_specifier: specifier }
}
