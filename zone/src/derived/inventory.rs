//! `availableServices` of the zone's ingresses: what other zones can reach here (zone-dataplane 5.2).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kds_proto::kuma::mesh::v1alpha1::zone_ingress::AvailableService;
use kds_proto::kuma::mesh::v1alpha1::{Dataplane, ExternalService, Mesh, MeshGateway, ZoneIngress};
use model::labels::{MESH, ZONE};
use model::spec::dataplane::{Role, is_ready, role};
use model::spec::mesh;
use model::spec::tags::{self, Tags};
use model::{Key, Kind, Payload, Resource, Snapshot};

use super::Conclusion;
use super::round::Round;
use super::tag_sets::TagSets;

/// Counts of everything that ingresses offer.
pub(super) struct Inventory {
    zone: String,
    filters: Vec<String>,
    inbounds: TagSets,
    externals: TagSets,
    /// Dataplanes that are gateways of their own: few, so they are looked at as a whole.
    gateways: BTreeSet<Key>,
}

impl Inventory {
    /// Of a zone. Only tags that begin with one of the filters are told; without any, all are.
    pub fn new(zone: &str, filters: Vec<String>) -> Self {
        Self {
            zone: zone.to_owned(),
            filters,
            inbounds: TagSets::default(),
            externals: TagSets::default(),
            gateways: BTreeSet::new(),
        }
    }

    /// Tags of the inbounds that can be called, as they are told.
    fn told(&self, resource: Option<&Arc<Resource>>) -> Vec<Tags> {
        let dataplane = resource.and_then(|resource| resource.spec.message::<Dataplane>().ok());
        let Some(dataplane) = dataplane else { return Vec::new() };
        let inbounds = dataplane.networking.iter().flat_map(|networking| &networking.inbound);
        let passes = |key: &str| self.filters.is_empty() || self.filters.iter().any(|filter| key.starts_with(filter));
        let told = |tags: &Tags| {
            let told = tags.iter().filter(|(key, _)| passes(key));
            told.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        inbounds.filter(|inbound| is_ready(inbound)).map(|inbound| told(&inbound.tags)).collect()
    }

    fn count_dataplane(&mut self, key: &Key, before: Option<&Arc<Resource>>, now: Option<&Arc<Resource>>) {
        for tags in self.told(before) {
            self.inbounds.take(&key.mesh, &tags);
        }
        for tags in self.told(now) {
            self.inbounds.add(&key.mesh, tags);
        }
        let dataplane = now.and_then(|resource| resource.spec.message::<Dataplane>().ok());
        if dataplane.is_some_and(|dataplane| role(&dataplane) == Role::BuiltinGateway) {
            self.gateways.insert(key.clone());
        } else {
            self.gateways.remove(key);
        }
    }

    fn count_external(&mut self, key: &Key, before: Option<&Arc<Resource>>, now: Option<&Arc<Resource>>) {
        let of_zone = |resource: Option<&Arc<Resource>>| {
            let external = resource?.spec.message::<ExternalService>().ok()?;
            (external.tags.get(ZONE) == Some(&self.zone)).then(|| external.tags.clone())
        };
        let (before, now) = (of_zone(before), of_zone(now));
        if let Some(tags) = before {
            self.externals.take(&key.mesh, &tags);
        }
        if let Some(tags) = now {
            self.externals.add(&key.mesh, tags);
        }
    }

    /// The list that every ingress of the zone holds.
    fn list(&self, now: &Snapshot) -> Vec<AvailableService> {
        let meshes: BTreeMap<&str, Arc<Mesh>> = now
            .list(Kind::Mesh)
            .filter_map(|resource| Some((&*resource.meta.key.name, resource.spec.message::<Mesh>().ok()?)))
            .collect();
        let by_tags = |name: &str| meshes.get(name).is_some_and(|mesh| !mesh::is_exclusive(mesh));
        let out = |name: &str| meshes.get(name).is_some_and(|mesh| mesh::uses_zone_egress(mesh));
        let service = |external_service| {
            move |(mesh, tags, instances): (&str, &Tags, u32)| AvailableService {
                tags: tags.clone(),
                instances,
                mesh: mesh.to_owned(),
                external_service,
            }
        };
        let inbounds = self.inbounds.iter().filter(|(mesh, ..)| by_tags(mesh)).map(service(false));
        let externals = self.externals.iter().filter(|(mesh, ..)| by_tags(mesh) && out(mesh)).map(service(true));
        let gateways = self.cross_mesh(now);
        inbounds.chain(externals).chain(gateways.iter().map(service(false))).collect()
    }

    /// Listeners of gateways that other meshes may call: one instance for each gateway proxy and listener.
    fn cross_mesh(&self, now: &Snapshot) -> TagSets {
        let mut sets = TagSets::default();
        for key in &self.gateways {
            let Some(proxy) = now.get(key).and_then(|resource| resource.spec.message::<Dataplane>().ok()) else {
                continue;
            };
            let Some(gateway) = gateway_of(now, key, &proxy) else { continue };
            let own = proxy.networking.iter().flat_map(|networking| &networking.gateway).flat_map(|own| &own.tags);
            for listener in gateway.conf.iter().flat_map(|conf| &conf.listeners).filter(|listener| listener.cross_mesh)
            {
                let mut merged: Tags = [(MESH.to_owned(), key.mesh.to_string())].into();
                let all = own.clone().chain(&gateway.tags).chain(&listener.tags);
                merged.extend(all.map(|(key, value)| (key.clone(), value.clone())));
                sets.add(&key.mesh, merged);
            }
        }
        sets
    }
}

/// The MeshGateway that a gateway proxy is one of: that with the most specific selector, of equal ones the youngest.
fn gateway_of(now: &Snapshot, key: &Key, proxy: &Dataplane) -> Option<Arc<MeshGateway>> {
    let own: Vec<&Tags> = model::spec::dataplane::tag_sets(proxy).collect();
    let chosen = |resource: &Arc<Resource>| {
        let gateway = resource.spec.message::<MeshGateway>().ok()?;
        let fitting = gateway.selectors.iter().map(|selector| &selector.r#match);
        let fitting = fitting.filter(|selector| own.iter().any(|tags| tags::matches(selector, tags)));
        let rank = fitting.map(tags::rank).max()?;
        Some((rank, resource.meta.created, std::cmp::Reverse(Arc::clone(&resource.meta.key.name)), gateway))
    };
    let all = now.list_in(Kind::MeshGateway, &key.mesh).filter_map(chosen);
    all.max_by(|a, b| (a.0, a.1, &a.2).cmp(&(b.0, b.1, &b.2))).map(|(.., gateway)| gateway)
}

/// Whether it is an ingress of this zone.
pub(super) fn is_own(ingress: &ZoneIngress, zone: &str) -> bool {
    ingress.zone.is_empty() || ingress.zone == zone
}

impl Conclusion for Inventory {
    fn step(&mut self, round: &mut Round) {
        let kinds = [Kind::Mesh, Kind::Dataplane, Kind::ExternalService, Kind::MeshGateway, Kind::ZoneIngress];
        let changed: Vec<Key> = round.changed().filter(|key| kinds.contains(&key.kind)).cloned().collect();
        if changed.is_empty() {
            return;
        }
        for key in &changed {
            match key.kind {
                Kind::Dataplane => self.count_dataplane(key, round.before(key), round.now().get(key)),
                Kind::ExternalService => self.count_external(key, round.before(key), round.now().get(key)),
                _ => {}
            }
        }
        let list = self.list(round.now());
        let outdated: Vec<Resource> = round
            .now()
            .list(Kind::ZoneIngress)
            .filter_map(|resource| {
                let ingress = resource.spec.message::<ZoneIngress>().ok()?;
                let differs = is_own(&ingress, &self.zone) && ingress.available_services != list;
                let spec = || ZoneIngress { available_services: list.clone(), ..ZoneIngress::clone(&ingress) };
                differs.then(|| Resource { spec: Payload::from_message(&spec()), ..Resource::clone(resource) })
            })
            .collect();
        for ingress in outdated {
            tracing::debug!(ingress = &*ingress.meta.key.name, services = list.len(), "telling what the zone offers");
            round.put(ingress);
        }
    }
}

#[cfg(test)]
mod tests;
