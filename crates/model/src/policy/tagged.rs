//! The older policies, which choose connections and proxies by tags: of each kind, the one that says most precisely
//! which it means holds.

use std::collections::BTreeSet;
use std::sync::Arc;

use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::Outbound;
use kds_proto::kuma::mesh::v1alpha1::{
    CircuitBreaker, Dataplane, FaultInjection, HealthCheck, MeshGatewayRoute, ProxyTemplate, RateLimit, Retry,
    Selector, Timeout, TrafficLog, TrafficPermission, TrafficRoute, TrafficTrace, VirtualOutbound,
};

use crate::kind::Kind;
use crate::labels::SERVICE_TAG;
use crate::resource::Resource;
use crate::snapshot::Snapshot;
use crate::spec::dataplane;
use crate::spec::tags::{self, Tags};

/// What stands for traffic to whatever the mesh does not know.
pub const PASS_THROUGH: &str = "pass_through";

/// Whom a policy means.
#[derive(Clone, Debug)]
pub enum Selectors {
    /// Connections from some proxies to some.
    Connections {
        /// Tags of the client's proxy.
        sources: Vec<Tags>,
        /// Tags of the destination.
        destinations: Vec<Tags>,
    },
    /// Proxies.
    Proxies(Vec<Tags>),
}

impl Selectors {
    /// Of a policy; `None` for other kinds and for what does not decode.
    pub fn of(policy: &Resource) -> Option<Self> {
        macro_rules! connections {
            ($message:ty) => {{
                let message = policy.spec.message::<$message>().ok()?;
                let (sources, destinations) = (tags_of(&message.sources), tags_of(&message.destinations));
                Some(Self::Connections { sources, destinations })
            }};
        }
        macro_rules! proxies {
            ($message:ty) => {
                Some(Self::Proxies(tags_of(&policy.spec.message::<$message>().ok()?.selectors)))
            };
        }
        match policy.kind() {
            Kind::CircuitBreaker => connections!(CircuitBreaker),
            Kind::FaultInjection => connections!(FaultInjection),
            Kind::HealthCheck => connections!(HealthCheck),
            Kind::RateLimit => connections!(RateLimit),
            Kind::Retry => connections!(Retry),
            Kind::Timeout => connections!(Timeout),
            Kind::TrafficLog => connections!(TrafficLog),
            Kind::TrafficPermission => connections!(TrafficPermission),
            Kind::TrafficRoute => connections!(TrafficRoute),
            Kind::MeshGatewayRoute => proxies!(MeshGatewayRoute),
            Kind::ProxyTemplate => proxies!(ProxyTemplate),
            Kind::TrafficTrace => proxies!(TrafficTrace),
            Kind::VirtualOutbound => proxies!(VirtualOutbound),
            _ => None,
        }
    }

    /// Whether a dataplane is meant, as either end of a connection.
    pub fn choose(&self, dataplane: &Dataplane) -> bool {
        let chosen = |selectors: &[Tags]| selectors.iter().any(|tags| dataplane::is_chosen_by(dataplane, tags));
        match self {
            Self::Connections { sources, destinations } => chosen(sources) || chosen(destinations),
            Self::Proxies(selectors) => chosen(selectors),
        }
    }
}

fn tags_of(selectors: &[Selector]) -> Vec<Tags> {
    selectors.iter().map(|selector| selector.r#match.clone()).collect()
}

/// The policies of one kind in a mesh that mean connections, by name.
#[derive(Debug)]
pub struct Connections<'a>(Vec<Connection<'a>>);

#[derive(Debug)]
struct Connection<'a> {
    policy: &'a Arc<Resource>,
    sources: Vec<Tags>,
    destinations: Vec<Tags>,
}

/// How closely a selector describes what it matches: by the number of its tags, then by how many name a value.
type Rank = (usize, usize);

/// The closest of what was offered; among equals the one that was created last, and of those the first.
#[derive(Default)]
struct Best<'a>(Option<(Rank, &'a Arc<Resource>)>);

impl<'a> Best<'a> {
    fn offer(&mut self, rank: Rank, policy: &'a Arc<Resource>) {
        let better =
            self.0.is_none_or(|(best, of)| rank > best || (rank == best && policy.meta.created > of.meta.created));
        if better {
            self.0 = Some((rank, policy));
        }
    }

    fn policy(self) -> Option<&'a Arc<Resource>> {
        self.0.map(|(_, policy)| policy)
    }
}

impl<'a> Connections<'a> {
    /// Those of a kind.
    pub fn new(snapshot: &'a Snapshot, mesh: &'a str, kind: Kind) -> Self {
        let read = |policy: &'a Arc<Resource>| match Selectors::of(policy)? {
            Selectors::Connections { sources, destinations } => Some(Connection { policy, sources, destinations }),
            Selectors::Proxies(_) => None,
        };
        Self(snapshot.list_in(kind, mesh).filter_map(read).collect())
    }

    /// The one that holds for connections of a dataplane to a service.
    pub fn to_service(&self, client: &Dataplane, service: &str) -> Option<&'a Arc<Resource>> {
        let destination = Tags::from([(SERVICE_TAG.to_owned(), service.to_owned())]);
        let mut best = Best::default();
        for Connection { policy, sources, destinations } in &self.0 {
            let ranks = sources.iter().filter(|tags| dataplane::is_chosen_by(client, tags)).map(tags::rank);
            let Some((count, exact)) = ranks.max() else { continue };
            for selector in destinations.iter().filter(|selector| tags::matches(selector, &destination)) {
                let (of_destination, exact_there) = tags::rank(selector);
                best.offer((count + of_destination, exact + exact_there), policy);
            }
        }
        best.policy()
    }

    /// The one that holds for connections to an inbound with these tags.
    pub fn to_inbound(&self, inbound: &Tags) -> Option<&'a Arc<Resource>> {
        let mut best = Best::default();
        for Connection { policy, destinations, .. } in &self.0 {
            for selector in destinations.iter().filter(|selector| tags::matches(selector, inbound)) {
                best.offer(tags::rank(selector), policy);
            }
        }
        best.policy()
    }

    /// All that mean connections to an inbound with these tags, those first that describe their clients more closely.
    /// Once for each selector that fits.
    pub fn all_to_inbound(&self, inbound: &Tags) -> Vec<&'a Arc<Resource>> {
        let mut all: Vec<(Rank, &Arc<Resource>)> = Vec::new();
        for Connection { policy, sources, destinations } in &self.0 {
            let fitting = destinations.iter().filter(|selector| tags::matches(selector, inbound)).count();
            let rank = sources.first().map(tags::rank).unwrap_or_default();
            all.extend(std::iter::repeat_n((rank, *policy), fitting));
        }
        all.sort_by(|(a, of_a), (b, of_b)| b.cmp(a).then(of_b.meta.created.cmp(&of_a.meta.created)));
        all.into_iter().map(|(_, policy)| policy).collect()
    }
}

/// The policy of a kind that means a dataplane most closely; one without selectors means all.
pub fn of_proxy<'a>(
    snapshot: &'a Snapshot,
    mesh: &'a str,
    kind: Kind,
    dataplane: &Dataplane,
) -> Option<&'a Arc<Resource>> {
    let mut best = Best::default();
    for policy in snapshot.list_in(kind, mesh) {
        let Some(Selectors::Proxies(selectors)) = Selectors::of(policy) else { continue };
        if selectors.is_empty() {
            best.offer((0, 0), policy);
        }
        for selector in selectors.iter().filter(|selector| dataplane::is_chosen_by(dataplane, selector)) {
            best.offer(tags::rank(selector), policy);
        }
    }
    best.policy()
}

/// The services that a dataplane's outbounds lead to, by the routes that hold for them.
pub fn services(dataplane: &Dataplane, routes: &Connections<'_>) -> BTreeSet<String> {
    let mut services = BTreeSet::new();
    for service in outbounds(dataplane).filter_map(|outbound| outbound.tags.get(SERVICE_TAG)) {
        let route = routes.to_service(dataplane, service).and_then(|route| route.spec.message::<TrafficRoute>().ok());
        let Some(conf) = route.as_ref().and_then(|route| route.conf.as_ref()) else {
            services.insert(service.clone());
            continue;
        };
        let own = Tags::from([(SERVICE_TAG.to_owned(), service.clone())]);
        let split = conf.split.iter().map(|split| &split.destination);
        let whole = (!conf.destination.is_empty()).then_some(&conf.destination);
        let destinations: Vec<&Tags> = if whole.is_some() { whole.into_iter().collect() } else { split.collect() };
        // A route to any service leads to the one that was asked for.
        let leads_to = |tags: &&Tags| match tags.get(SERVICE_TAG).map(String::as_str) {
            None | Some(tags::ANY_VALUE) => own.get(SERVICE_TAG).cloned(),
            Some(service) => Some(service.to_owned()),
        };
        services.extend(destinations.iter().filter_map(leads_to));
    }
    services
}

/// The outbounds that lead to services by tags.
pub fn outbounds(dataplane: &Dataplane) -> impl Iterator<Item = &Outbound> {
    let all = dataplane.networking.iter().flat_map(|networking| &networking.outbound);
    all.filter(|outbound| outbound.backend_ref.is_none())
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use serde_json::{Value, json};

    use super::*;
    use crate::resource::{Key, Payload};
    use crate::snapshot::Change;
    use crate::spec::proto_json;

    fn policy(kind: Kind, name: &str, age: i64, spec: Value) -> Change {
        let bytes = (kind.info().codec.from_json)(spec).unwrap();
        let key = Key::new(kind, "default", name);
        let mut resource = Resource::new(key, crate::labels::Labels::default(), Payload::from_bytes(bytes));
        resource.meta.created = DateTime::UNIX_EPOCH + TimeDelta::hours(100 - age);
        Change::Put(Arc::new(resource))
    }

    fn connection(sources: &[Value], destinations: &[Value]) -> Value {
        let selectors = |all: &[Value]| all.iter().map(|tags| json!({"match": tags})).collect::<Vec<_>>();
        json!({"sources": selectors(sources), "destinations": selectors(destinations)})
    }

    fn service(name: &str) -> Value {
        json!({"kuma.io/service": name})
    }

    fn web() -> Dataplane {
        let inbound = json!({"port": 80, "tags": {"kuma.io/service": "web", "version": "v1"}});
        let outbound = json!({"port": 81, "tags": {"kuma.io/service": "api"}});
        let networking = json!({"address": "10.0.0.1", "inbound": [inbound], "outbound": [outbound]});
        proto_json::from_value(&json!({"networking": networking})).unwrap()
    }

    fn name(policy: Option<&Arc<Resource>>) -> &str {
        policy.map_or("-", |policy| &policy.meta.key.name)
    }

    #[test]
    fn the_closest_description_of_both_ends_holds_and_among_equals_the_youngest() {
        let put =
            |name, age, source, destination| policy(Kind::Timeout, name, age, connection(&[source], &[destination]));
        let snapshot = Snapshot::empty().apply(
            1,
            [
                put("any", 0, service("*"), service("*")),
                put("by-client", 0, service("web"), service("*")),
                put("by-both-old", 9, service("web"), service("api")),
                put("by-both", 3, service("web"), service("api")),
                put("of-others", 0, service("shop"), service("api")),
                put("narrow-client", 0, json!({"kuma.io/service": "web", "version": "v1"}), service("db")),
            ],
        );
        let timeouts = Connections::new(&snapshot, "default", Kind::Timeout);
        assert_eq!(name(timeouts.to_service(&web(), "api")), "by-both");
        assert_eq!(name(timeouts.to_service(&web(), "db")), "narrow-client");
        assert_eq!(name(timeouts.to_service(&web(), "other")), "by-client");
        assert_eq!(name(timeouts.to_inbound(&Tags::from([("kuma.io/service".into(), "api".into())]))), "of-others");
        assert_eq!(name(Connections::new(&snapshot, "other", Kind::Timeout).to_service(&web(), "api")), "-");
    }

    #[test]
    fn all_that_mean_an_inbound_come_with_the_closest_client_first() {
        let limit = |name, age, source| policy(Kind::RateLimit, name, age, connection(&[source], &[service("*")]));
        let snapshot = Snapshot::empty().apply(
            1,
            [
                limit("any", 0, service("*")),
                limit("old", 5, service("shop")),
                limit("young", 1, service("shop")),
                limit("narrow", 9, json!({"kuma.io/service": "shop", "version": "v2"})),
            ],
        );
        let limits = Connections::new(&snapshot, "default", Kind::RateLimit);
        let tags = Tags::from([("kuma.io/service".into(), "web".into())]);
        let all: Vec<_> = limits.all_to_inbound(&tags).into_iter().map(|policy| name(Some(policy))).collect();
        assert_eq!(all, ["narrow", "young", "old", "any"]);
    }

    #[test]
    fn a_policy_without_selectors_means_every_proxy_and_gives_way_to_any_other() {
        let trace = |name, selectors| policy(Kind::TrafficTrace, name, 0, json!({"selectors": selectors}));
        let empty = Snapshot::empty().apply(1, [trace("all", json!([]))]);
        assert_eq!(name(of_proxy(&empty, "default", Kind::TrafficTrace, &web())), "all");
        let more = empty.apply(2, [trace("web", json!([{"match": service("web")}]))]);
        assert_eq!(name(of_proxy(&more, "default", Kind::TrafficTrace, &web())), "web");
        let of_web = Selectors::of(more.get(&Key::new(Kind::TrafficTrace, "default", "web")).unwrap()).unwrap();
        assert!(of_web.choose(&web()));
    }

    #[test]
    fn routes_tell_which_services_are_meant() {
        assert_eq!(services(&web(), &Connections::new(&Snapshot::empty(), "default", Kind::TrafficRoute)).len(), 1);
        let mut spec = connection(&[service("*")], &[service("api")]);
        spec["conf"] = json!({"split": [
            {"weight": 1, "destination": {"kuma.io/service": "api-v2"}},
            {"weight": 9, "destination": {"kuma.io/service": "*", "version": "v1"}},
        ]});
        let snapshot = Snapshot::empty().apply(1, [policy(Kind::TrafficRoute, "route", 0, spec)]);
        let routes = Connections::new(&snapshot, "default", Kind::TrafficRoute);
        let services: Vec<String> = services(&web(), &routes).into_iter().collect();
        assert_eq!(services, ["api", "api-v2"]);
    }
}
