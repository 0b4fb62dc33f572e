//! Filters that say who may call (zone-dataplane 8.2).

use std::collections::BTreeMap;

use kds_proto::envoy::config::rbac::v3::principal::{Authenticated, Identifier, Set};
use kds_proto::envoy::config::rbac::v3::rbac::Action as Verdict;
use kds_proto::envoy::config::rbac::v3::{Action, Permission, Policy, Principal, Rbac, permission};
use kds_proto::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use kds_proto::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;
use kds_proto::envoy::extensions::matching::common_inputs::ssl::v3::UriSanInput;
use kds_proto::envoy::r#type::matcher::v3::StringMatcher;
use kds_proto::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use kds_proto::xds::core::v3::TypedExtensionConfig;
use kds_proto::xds::r#type::matcher::v3::matcher::matcher_list::predicate::{
    MatchType, PredicateList, SinglePredicate, single_predicate,
};
use kds_proto::xds::r#type::matcher::v3::matcher::matcher_list::{FieldMatcher, Predicate};
use kds_proto::xds::r#type::matcher::v3::matcher::{MatcherList, MatcherType, OnMatch, on_match};
use kds_proto::xds::r#type::matcher::v3::{Matcher, StringMatcher as XdsStringMatcher, string_matcher};
use model::labels::SERVICE_TAG;
use model::policy::{Subset, Tag};
use model::spec::inbound_match::{Match, SpiffeIdMatchType};

use super::any;
use super::filter::{self, Filters};
use crate::names;
use crate::policies::traffic_permission::{Access, Rule};

/// Name of the one policy of groups.
const POLICY: &str = "MeshTrafficPermission";

/// Puts the filter where it belongs: into the connection manager when requests are told apart, else first in the chain.
pub fn restrict(access: &Access, mesh: &str, listener: &str, filters: &mut Filters) {
    let stat_prefix = format!("{}.", names::stat(listener));
    match access {
        Access::Older(policy) => {
            let policies = policy.iter().map(|(name, groups)| (name.clone(), policy_of(mesh, groups))).collect();
            let rules = Some(Rbac { policies, ..Rbac::default() });
            filters.network_first(
                "envoy.filters.network.rbac",
                any(&NetworkRbac { rules, stat_prefix, ..NetworkRbac::default() }),
            );
        }
        Access::Groups { allow, shadow_deny } => {
            let rules = Some(groups(mesh, allow, Verdict::Allow));
            let shadow_rules = (!shadow_deny.is_empty()).then(|| groups(mesh, shadow_deny, Verdict::Deny));
            if filters.has_requests() {
                let rbac = HttpRbac { rules, shadow_rules, ..HttpRbac::default() };
                filters.http_first(filter::http("envoy.filters.http.rbac", &rbac));
            } else {
                let rbac = NetworkRbac { rules, shadow_rules, stat_prefix, ..NetworkRbac::default() };
                filters.network_first("envoy.filters.network.rbac", any(&rbac));
            }
        }
        Access::Rules(rules) => {
            let (matcher, shadow_matcher) = (Some(matcher(rules)), shadow_matcher(rules));
            if filters.has_requests() {
                let rbac = HttpRbac { matcher, shadow_matcher, ..HttpRbac::default() };
                filters.http_first(filter::http("envoy.filters.http.rbac", &rbac));
            } else {
                let rbac = NetworkRbac { matcher, shadow_matcher, stat_prefix, ..NetworkRbac::default() };
                filters.network_first("envoy.filters.network.rbac", any(&rbac));
            }
        }
    }
}

fn groups(mesh: &str, groups: &[Subset], verdict: Verdict) -> Rbac {
    let policies: BTreeMap<String, Policy> =
        if groups.is_empty() { BTreeMap::new() } else { [(POLICY.to_owned(), policy_of(mesh, groups))].into() };
    Rbac { action: verdict.into(), policies, ..Rbac::default() }
}

fn policy_of(mesh: &str, groups: &[Subset]) -> Policy {
    Policy {
        permissions: vec![Permission { rule: Some(permission::Rule::Any(true)) }],
        principals: groups.iter().map(|group| principal(mesh, group)).collect(),
        ..Policy::default()
    }
}

/// Whoever is in a group: all tags stand in the client's certificate.
fn principal(mesh: &str, group: &Subset) -> Principal {
    let mut ids: Vec<Principal> = group.0.iter().map(|tag| of_tag(mesh, tag)).collect();
    match ids.len() {
        0 => Principal { identifier: Some(Identifier::Any(true)) },
        1 => ids.remove(0),
        _ => Principal { identifier: Some(Identifier::AndIds(Set { ids })) },
    }
}

fn of_tag(mesh: &str, tag: &Tag) -> Principal {
    let Tag { key, value, not } = tag;
    let name = if key == SERVICE_TAG { format!("spiffe://{mesh}/{value}") } else { format!("kuma://{key}/{value}") };
    let matcher = StringMatcher { match_pattern: Some(MatchPattern::Exact(name)), ..StringMatcher::default() };
    let authenticated = Identifier::Authenticated(Authenticated { principal_name: Some(matcher) });
    let principal = Principal { identifier: Some(authenticated) };
    if *not { Principal { identifier: Some(Identifier::NotId(Box::new(principal))) } } else { principal }
}

/// Rule by rule: refused, let in; whoever no rule is about is refused.
fn matcher(rules: &[Rule]) -> Matcher {
    let fields = rules.iter().flat_map(|rule| {
        [field(&rule.deny, Verdict::Deny, &rule.name), field(&rule.allow, Verdict::Allow, &rule.name)]
    });
    of_fields(fields.flatten().collect())
}

fn shadow_matcher(rules: &[Rule]) -> Option<Matcher> {
    let fields: Vec<FieldMatcher> =
        rules.iter().filter_map(|rule| field(rule.shadow_deny.as_ref()?, Verdict::Deny, &rule.name)).collect();
    (!fields.is_empty()).then(|| of_fields(fields))
}

fn of_fields(matchers: Vec<FieldMatcher>) -> Matcher {
    Matcher {
        on_no_match: Some(Box::new(verdict(Verdict::Deny, "default"))),
        matcher_type: (!matchers.is_empty()).then_some(MatcherType::MatcherList(MatcherList { matchers })),
    }
}

fn field(matches: &[Match], action: Verdict, name: &str) -> Option<FieldMatcher> {
    let mut predicates: Vec<Predicate> = matches.iter().filter_map(predicate).collect();
    let predicate = match predicates.len() {
        0 => return None,
        1 => predicates.remove(0),
        _ => Predicate { match_type: Some(MatchType::OrMatcher(PredicateList { predicate: predicates })) },
    };
    Some(FieldMatcher { predicate: Some(predicate), on_match: Some(verdict(action, name)) })
}

fn predicate(matches: &Match) -> Option<Predicate> {
    let id = matches.spiffe_id.as_ref()?;
    let pattern = match id.r#type {
        SpiffeIdMatchType::Exact => string_matcher::MatchPattern::Exact(id.value.clone()),
        SpiffeIdMatchType::Prefix => string_matcher::MatchPattern::Prefix(id.value.clone()),
    };
    let value = XdsStringMatcher { match_pattern: Some(pattern), ..XdsStringMatcher::default() };
    let input = TypedExtensionConfig {
        name: "envoy.matching.inputs.uri_san".to_owned(),
        typed_config: Some(any(&UriSanInput {})),
    };
    let single = SinglePredicate { input: Some(input), matcher: Some(single_predicate::Matcher::ValueMatch(value)) };
    Some(Predicate { match_type: Some(MatchType::SinglePredicate(single)) })
}

fn verdict(action: Verdict, name: &str) -> OnMatch {
    let action = Action { name: name.to_owned(), action: action.into() };
    let extension =
        TypedExtensionConfig { name: "envoy.filters.rbac.action".to_owned(), typed_config: Some(any(&action)) };
    OnMatch { on_match: Some(on_match::OnMatch::Action(extension)), ..OnMatch::default() }
}
