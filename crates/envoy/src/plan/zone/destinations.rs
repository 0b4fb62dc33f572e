//! Which server names a zone proxy knows for the services of a mesh (zone-dataplane 5.3).

use std::collections::{BTreeMap, BTreeSet};

use kds_proto::kuma::mesh::v1alpha1::{TrafficRoute, VirtualOutbound};
use model::labels::SERVICE_TAG;
use model::sni::Legacy;
use model::spec::tags::{self, ANY_VALUE, Tags};
use model::spec::target_ref::{BackendRef, TargetKind, TargetRef};
use model::spec::{MeshHttpRoute, MeshTcpRoute};
use model::{Kind, Snapshot};

use super::GateChain;
use crate::endpoint::Endpoint;
use crate::names;
use crate::view::View;

/// Sets of tags that routes lead to, by service.
pub(super) struct Destinations(BTreeMap<String, Vec<Tags>>);

impl Destinations {
    /// What the routes of a mesh, and the names that it gives to `offered` services, lead to.
    pub(super) fn new<'a>(view: &View<'_>, offered: impl Iterator<Item = &'a Tags>) -> Self {
        let mut found = Self(BTreeMap::new());
        let (snapshot, mesh) = (view.snapshot, view.name.as_str());
        let traffic_routes = found.add_traffic_routes(snapshot, mesh);
        if !traffic_routes {
            // Without a route of the older kind everything may flow.
            found.add([(SERVICE_TAG.to_owned(), ANY_VALUE.to_owned())].into());
        }
        for resource in snapshot.list_in(Kind::MeshHTTPRoute, mesh) {
            let Ok(route) = resource.spec.json::<MeshHttpRoute>() else { continue };
            for to in route.to.iter().flatten() {
                let backends = to.rules.iter().map(|rule| rule.default.backend_refs.as_deref());
                found.add_rules(&to.target_ref, backends);
            }
        }
        for resource in snapshot.list_in(Kind::MeshTCPRoute, mesh) {
            let Ok(route) = resource.spec.json::<MeshTcpRoute>() else { continue };
            for to in route.to.iter().flatten() {
                let backends = to.rules.iter().map(|rule| rule.default.backend_refs.as_deref());
                found.add_rules(&to.target_ref, backends);
            }
        }
        found.add_virtual_outbounds(snapshot, mesh, offered);
        found
    }

    fn add(&mut self, tags: Tags) {
        let of_service = self.0.entry(tags.get(SERVICE_TAG).cloned().unwrap_or_default()).or_default();
        if !of_service.contains(&tags) {
            of_service.push(tags);
        }
    }

    fn add_rules<'a>(&mut self, to: &TargetRef, rules: impl Iterator<Item = Option<&'a [BackendRef]>>) {
        let Some(own) = tags_of(to) else { return };
        for backends in rules {
            match backends {
                None => self.add(own.clone()),
                Some(backends) => {
                    backends.iter().filter_map(|backend| tags_of(&backend.target)).for_each(|tags| self.add(tags))
                }
            }
        }
    }

    /// Whether there is a route of the older kind.
    fn add_traffic_routes(&mut self, snapshot: &Snapshot, mesh: &str) -> bool {
        let mut any = false;
        for resource in snapshot.list_in(Kind::TrafficRoute, mesh) {
            let Ok(route) = resource.spec.message::<TrafficRoute>() else { continue };
            any = true;
            let Some(conf) = &route.conf else { continue };
            let own = conf.split.iter().map(|split| &split.destination).chain([&conf.destination]);
            let of_requests = conf
                .http
                .iter()
                .flat_map(|http| http.split.iter().map(|split| &split.destination).chain([&http.destination]));
            own.chain(of_requests).filter(|tags| !tags.is_empty()).for_each(|tags| self.add(tags.clone()));
        }
        any
    }

    fn add_virtual_outbounds<'a>(&mut self, snapshot: &Snapshot, mesh: &str, offered: impl Iterator<Item = &'a Tags>) {
        let outbounds: Vec<_> = snapshot
            .list_in(Kind::VirtualOutbound, mesh)
            .filter_map(|resource| resource.spec.message::<VirtualOutbound>().ok())
            .collect();
        for tags in offered {
            let matching = outbounds
                .iter()
                .filter(|outbound| outbound.selectors.iter().any(|selector| tags::matches(&selector.r#match, tags)));
            for outbound in matching {
                let parameters = outbound.conf.iter().flat_map(|conf| &conf.parameters);
                let chosen = parameters.map(|parameter| {
                    (parameter.tag_key.clone(), tags.get(&parameter.tag_key).cloned().unwrap_or_default())
                });
                let mut chosen: Tags = chosen.collect();
                let service = tags.get(SERVICE_TAG).cloned().unwrap_or_default();
                chosen.insert(SERVICE_TAG.to_owned(), service);
                self.add(chosen);
            }
        }
    }

    /// What leads to a service: by its own name, then by any.
    pub(super) fn of(&self, service: &str) -> impl Iterator<Item = &Tags> {
        let of = |name: &str| self.0.get(name).into_iter().flatten();
        of(service).chain(of(ANY_VALUE))
    }
}

/// The tags that a reference to a service of old describes; `None` for others.
fn tags_of(target: &TargetRef) -> Option<Tags> {
    let mut tags = match target.kind {
        TargetKind::MeshService => Tags::new(),
        TargetKind::MeshServiceSubset => target.tags.clone().unwrap_or_default(),
        TargetKind::Mesh | TargetKind::MeshSubset => {
            let mut tags = target.tags.clone().unwrap_or_default();
            tags.insert(SERVICE_TAG.to_owned(), ANY_VALUE.to_owned());
            return Some(tags);
        }
        _ => return None,
    };
    tags.insert(SERVICE_TAG.to_owned(), target.name.clone().unwrap_or_default());
    Some(tags)
}

/// The server name of a service by the tags that a route leads to.
pub(super) fn sni(view: &View<'_>, service: &str, destination: &Tags) -> String {
    let mut tags = destination.clone();
    tags.insert(SERVICE_TAG.to_owned(), service.to_owned());
    Legacy::of(tags.iter().map(|(key, value)| (key.as_str(), value.as_str())), &view.name).to_string()
}

/// Chains of a service of old. A tag narrows the choice only where it would leave out an address: equal addresses are one
/// endpoint for Envoy, whose tags are those of the first.
pub(super) fn chains(
    view: &View<'_>,
    destinations: &Destinations,
    service: &str,
    endpoints: &[Endpoint],
    known: &mut BTreeSet<String>,
) -> Vec<GateChain> {
    let mut chains = Vec::new();
    for destination in destinations.of(service) {
        let sni = sni(view, service, destination);
        if !known.insert(sni.clone()) {
            continue;
        }
        let narrows = |(key, value): &(&String, &String)| {
            let address = |endpoint: &&Endpoint| (endpoint.address.clone(), endpoint.port);
            let fits = |endpoint: &&Endpoint| *value == ANY_VALUE || endpoint.tags.get(*key) == Some(*value);
            let all: BTreeSet<_> = endpoints.iter().map(|endpoint| address(&endpoint)).collect();
            let left: BTreeSet<_> = endpoints.iter().filter(fits).map(|endpoint| address(&endpoint)).collect();
            left.len() < all.len()
        };
        let relevant = destination.iter().filter(|(key, _)| *key != SERVICE_TAG).filter(narrows);
        chains.push(GateChain {
            sni,
            cluster: names::mesh_cluster(&view.name, service),
            subset: relevant.map(|(key, value)| (key.clone(), value.clone())).collect(),
            terminated: None,
        });
    }
    chains
}

/// The sets of tags that chains of a service choose by.
pub(super) fn keys(chains: &[GateChain]) -> BTreeSet<Vec<String>> {
    let keys = chains.iter().map(|chain| chain.subset.keys().cloned().collect::<Vec<_>>());
    keys.filter(|keys| !keys.is_empty()).collect()
}
