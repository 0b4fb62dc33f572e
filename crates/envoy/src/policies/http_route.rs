//! `MeshHTTPRoute`: where requests go, and as what.

use std::cmp::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::spec::mesh_http_route::{Filter, Match, PathMatch, PathMatchType, RequestMirror, Rules};
use model::spec::mesh_load_balancing_strategy::HashPolicy;
use model::spec::mesh_timeout;
use model::spec::target_ref::BackendRef;
use model::{Kri, Meta};
use sha2::{Digest, Sha256};

use super::{load_balancing, retry};
use crate::destination::Destination;
use crate::names::Naming;
use crate::plan::{Context, Split};
use crate::protocol::Protocol;

/// One route of a destination, everything that holds for it looked up.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name: what it matches, hashed, or the policy that it is from.
    pub name: String,
    /// The requests.
    pub matches: Match,
    /// What is changed.
    pub filters: Vec<Filter>,
    /// Where copies go: clusters, in the order of the filters that ask for them.
    pub mirrors: Vec<(RequestMirror, String)>,
    /// Where they go.
    pub splits: Vec<Split>,
    /// How long to wait; `None`: for ever.
    pub timeout: Option<mesh_timeout::Conf>,
    /// When to try again.
    pub retry: Option<retry::Retry>,
    /// What decides about the endpoint.
    pub hash: Vec<HashPolicy>,
}

/// A route as its policy says it.
pub struct Unresolved {
    name: String,
    origin: Option<(Kri, Meta)>,
    matches: Match,
    filters: Vec<Filter>,
    backends: Vec<BackendRef>,
}

/// What routes say of a destination, and where each rule is from.
fn rules(context: &Context<'_>, destination: &Destination) -> Option<(Rules, Vec<model::policy::Origin>)> {
    let routes = &context.policies.http_route_to;
    let of_resource = match destination {
        Destination::Port(port) => {
            routes.rule(port).and_then(|rule| Some((rule.conf.first()?.clone(), rule.origins.clone())))
        }
        Destination::Tagged(_) => None,
    };
    of_resource.or_else(|| {
        let rule = routes.by_service(&destination.service())?;
        Some((rule.conf.clone(), rule.origins.clone()))
    })
}

/// Whether a route is about a destination.
pub fn has_rules(context: &Context<'_>, destination: &Destination) -> bool {
    rules(context, destination).is_some()
}

/// The routes of a destination in the order in which they are tried, the one for everything else last. `None` when
/// requests to it cannot be told apart, and no route says to.
pub fn routes(context: &Context<'_>, destination: &Destination, protocol: Protocol) -> Option<Vec<Unresolved>> {
    let (rules, origins) = rules(context, destination).unwrap_or_default();
    if rules.rules.is_empty() && !protocol.is_http() {
        return None;
    }
    let mut routes = Vec::new();
    for rule in &rules.rules {
        let origin = origin(&origins, &rule.matches);
        let kri = origin.and_then(|origin| {
            let kri = Kri::of(&origin.policy.meta)?;
            Some(match context.naming {
                Naming::Unified => kri.with_section(format!("rule_{}", origin.index)),
                Naming::Legacy => kri,
            })
        });
        let name = match (destination, &kri) {
            (Destination::Port(_), Some(kri)) => kri.to_string(),
            _ => hash(&rule.matches),
        };
        let origin = kri.zip(origin.map(|origin| origin.policy.meta.clone()));
        routes.extend(rule.matches.iter().map(|matches| Unresolved {
            name: name.clone(),
            origin: origin.clone(),
            matches: matches.clone(),
            filters: rule.default.filters.clone().unwrap_or_default(),
            backends: rule.default.backend_refs.clone().unwrap_or_default(),
        }));
    }
    routes.sort_by(|a, b| compare(&a.matches, &b.matches));
    let everything = everything();
    if routes.iter().all(|route| route.matches != everything) {
        let name = hash(std::slice::from_ref(&everything));
        routes.push(Unresolved { name, origin: None, matches: everything, filters: Vec::new(), backends: Vec::new() });
    }
    Some(routes)
}

/// The item that a rule is from: of those that have its matches the strongest.
fn origin<'a>(origins: &'a [model::policy::Origin], matches: &[Match]) -> Option<&'a model::policy::Origin> {
    origins.iter().rev().find(|origin| {
        let spec = origin.policy.spec.json::<model::spec::MeshHttpRoute>().ok();
        let to = spec.as_ref().and_then(|spec| spec.to.as_ref()?.get(origin.index).cloned());
        to.is_some_and(|to| to.rules.iter().any(|rule| rule.matches == matches))
    })
}

/// Looks up what holds for a route and plans what it leads to; `None` when it leads nowhere.
pub fn resolve(
    context: &Context<'_>,
    destination: &Destination,
    protocol: Protocol,
    route: Unresolved,
    cluster: &mut impl FnMut(&Destination) -> String,
) -> Option<Route> {
    let own = || vec![(destination.clone(), 100)];
    let origin = route.origin.as_ref().map(|(_, meta)| meta);
    let resolved: Vec<(Destination, u32)> = route
        .backends
        .iter()
        .filter_map(|backend| {
            let weight = u32::try_from(backend.weight).unwrap_or(u32::MAX);
            Some((Destination::of_backend(&context.view, origin?, backend)?, weight))
        })
        .collect();
    let backends = if resolved.is_empty() { own() } else { resolved };
    let speaks = |to: &Destination| to.protocol(&context.view).is_http();
    let mut splits = Vec::new();
    for (to, weight) in backends.iter().filter(|(to, weight)| *weight > 0 && speaks(to)) {
        splits.push(Split { cluster: cluster(to), weight: *weight, external: to.is_external(&context.view) });
    }
    if splits.is_empty() {
        return None;
    }
    let asked = route.filters.iter().filter_map(|filter| filter.request_mirror.clone());
    let mirrors = asked
        .filter_map(|mirror| {
            let to = Destination::of_backend(&context.view, origin?, &mirror.backend_ref)?;
            speaks(&to).then(|| (mirror, cluster(&to)))
        })
        .collect();
    let kri = route.origin.as_ref().map(|(kri, _)| kri);
    let policies = &context.policies;
    let timeout = policies.timeout_to.route_conf(kri, destination).cloned();
    Some(Route {
        name: route.name,
        matches: Match { path: route.matches.path.or_else(|| everything().path), ..route.matches },
        filters: route.filters,
        mirrors,
        splits,
        timeout: match destination {
            Destination::Tagged(_) => timeout,
            Destination::Port(_) => Some(timeout.unwrap_or_default()),
        },
        retry: policies.retry_to.route_conf(kri, destination).and_then(|conf| retry::of_requests(conf, protocol)),
        hash: policies.balancing_to.route_conf(kri, destination).map(load_balancing::hash_policies).unwrap_or_default(),
    })
}

/// What every request matches.
fn everything() -> Match {
    let path = PathMatch { value: "/".to_owned(), r#type: PathMatchType::PathPrefix };
    Match { path: Some(path), ..Match::default() }
}

/// The name of a route by what it matches.
pub fn hash(matches: &[Match]) -> String {
    // Matches are texts and words: they always have a JSON form.
    let json = serde_json::to_vec(matches).unwrap_or_default();
    STANDARD.encode(Sha256::digest(json))
}

/// Which of two matches is tried first: by path (exact, then the longer prefix, then the longer expression), by having
/// a method, by the number of headers, by the number of parameters. (The precedence of the Gateway API.)
fn compare(a: &Match, b: &Match) -> Ordering {
    let rank = |path: &Option<PathMatch>| match path {
        Some(path) => match path.r#type {
            PathMatchType::Exact => (0, 0),
            PathMatchType::PathPrefix => (1, usize::MAX - path.value.len()),
            PathMatchType::RegularExpression => (2, usize::MAX - path.value.len()),
        },
        None => (3, 0),
    };
    let count = |list: Option<usize>| list.unwrap_or(0);
    rank(&a.path)
        .cmp(&rank(&b.path))
        .then_with(|| a.method.is_none().cmp(&b.method.is_none()))
        .then_with(|| count(b.headers.as_ref().map(Vec::len)).cmp(&count(a.headers.as_ref().map(Vec::len))))
        .then_with(|| count(b.query_params.as_ref().map(Vec::len)).cmp(&count(a.query_params.as_ref().map(Vec::len))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_named_by_what_it_matches() {
        assert_eq!(hash(&[everything()]), "9Zuf5Tg79OuZcQITwBbQykxAk2u4fRKrwYn3//AL4Yo=");
    }

    #[test]
    fn exact_paths_are_tried_before_longer_prefixes_before_shorter() {
        let path =
            |value: &str, r#type| Match { path: Some(PathMatch { value: value.into(), r#type }), ..Match::default() };
        let mut all = [
            Match::default(),
            path("/re", PathMatchType::RegularExpression),
            path("/a", PathMatchType::PathPrefix),
            path("/a/b", PathMatchType::PathPrefix),
            path("/", PathMatchType::Exact),
        ];
        let expected = [all[4].clone(), all[3].clone(), all[2].clone(), all[1].clone(), all[0].clone()];
        all.sort_by(compare);
        assert_eq!(all, expected);
    }
}
