//! Virtual addresses of services by their tag, of services outside the mesh and of names that VirtualOutbounds make
//! (zone-dataplane 8.4): in a Config of each mesh that never leaves the zone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::inbound::State;
use kds_proto::kuma::mesh::v1alpha1::{Dataplane, ExternalService, MeshGateway, VirtualOutbound, ZoneIngress};
use kds_proto::kuma::system::v1alpha1::Config;
use model::labels::{MESH, SERVICE_TAG};
use model::spec::external_service;
use model::spec::tags::{self, Tags};
use model::spec::virtual_outbound;
use model::vips::{Name, Origin, Outbound, Pool, View, config_key};
use model::{Key, Kind, Labels, Payload, Resource, Snapshot};

use super::Conclusion;
use super::inventory::is_own;
use super::round::Round;
use super::tag_sets::TagSets;

/// Port of an inbound that stands for a workload without a service.
const SERVICE_LESS: u32 = 49_151;

/// How names and addresses are given.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Name of the zone.
    pub zone: String,
    /// The network of the addresses (`dnsServer.CIDR`).
    pub network: String,
    /// Whether services have names without being asked (`dnsServer.serviceVipEnabled`).
    pub of_services: bool,
    /// The domain of those names (`dnsServer.domain`).
    pub domain: String,
}

/// Gives names and addresses.
pub(super) struct TagVips {
    settings: Settings,
    /// Tags of inbounds that have a name, ready or not.
    inbounds: TagSets,
}

impl TagVips {
    /// As the settings say.
    pub fn new(settings: Settings) -> Self {
        Self { settings, inbounds: TagSets::default() }
    }

    /// Whether the names of a mesh may have changed with a dataplane.
    fn count(&mut self, key: &Key, before: Option<&Arc<Resource>>, now: Option<&Arc<Resource>>) -> bool {
        let (before, now) = (named(before), named(now));
        if before == now {
            return false;
        }
        let mut changed = false;
        for tags in now {
            changed |= self.inbounds.add(&key.mesh, tags);
        }
        for tags in before {
            changed |= self.inbounds.take(&key.mesh, &tags);
        }
        changed
    }

    /// Every name of a mesh, without addresses.
    fn names(&self, mesh: &str, now: &Snapshot) -> View {
        let mut names = Names { view: View::default(), mesh, asked: asked(mesh, now), settings: &self.settings };
        for (_, tags, _) in self.inbounds.iter().filter(|(of, ..)| *of == mesh) {
            names.add_service(tags);
            names.add_asked(tags);
        }
        for ingress in now.list(Kind::ZoneIngress).filter_map(|ingress| ingress.spec.message::<ZoneIngress>().ok()) {
            if is_own(&ingress, &self.settings.zone) {
                continue;
            }
            for offered in ingress.available_services.iter().filter(|offered| offered.mesh == mesh) {
                names.add_service(&offered.tags);
                names.add_asked(&offered.tags);
            }
        }
        for resource in now.list_in(Kind::ExternalService, mesh) {
            if let Ok(external) = resource.spec.message::<ExternalService>() {
                names.add_external(&resource.meta.key.name, &external);
            }
        }
        for resource in now.list(Kind::MeshGateway) {
            if let Ok(gateway) = resource.spec.message::<MeshGateway>() {
                names.add_gateway(resource, &gateway);
            }
        }
        names.view
    }
}

/// The names of a mesh as they are found.
struct Names<'a> {
    view: View,
    mesh: &'a str,
    asked: Vec<Asked>,
    settings: &'a Settings,
}

/// A VirtualOutbound.
struct Asked {
    resource: Arc<Resource>,
    spec: Arc<VirtualOutbound>,
}

impl Names<'_> {
    fn add(&mut self, name: Name, outbound: Outbound) {
        if let Err(taken) = self.view.add(name, outbound) {
            tracing::debug!(mesh = self.mesh, %taken, "a name that is asked for twice");
        }
    }

    fn add_service(&mut self, tags: &Tags) {
        if let Some(service) = tags.get(SERVICE_TAG).filter(|_| self.settings.of_services) {
            self.add(Name::new(Origin::Service, service), of_service(service, 0));
        }
    }

    /// The names that VirtualOutbounds make of a service, the closest first.
    fn add_asked(&mut self, tags: &Tags) {
        let mut fitting: Vec<_> = self
            .asked
            .iter()
            .filter_map(|asked| {
                let selectors = asked.spec.selectors.iter().map(|selector| &selector.r#match);
                let rank = selectors.filter(|selector| tags::matches(selector, tags)).map(tags::rank).max()?;
                (rank > (0, 0)).then_some((rank, asked))
            })
            .collect();
        fitting.sort_by_key(|(rank, asked)| Reverse((*rank, asked.resource.meta.created)));
        let made: Vec<(Name, Outbound)> = fitting.into_iter().filter_map(|(_, asked)| asked.make(tags)).collect();
        made.into_iter().for_each(|(name, outbound)| self.add(name, outbound));
    }

    fn add_external(&mut self, name: &str, external: &ExternalService) {
        let service = external.tags.get(SERVICE_TAG).cloned().unwrap_or_default();
        let networking = external.networking.as_ref();
        let Some((host, port)) = external_service::host_and_port(external) else { return };
        if self.settings.of_services {
            self.add(Name::new(Origin::Service, &service), of_service(&service, port));
        }
        if !networking.is_some_and(|networking| networking.disable_host_dns_entry) {
            let origin = format!("external-service:{name}");
            self.add(Name::new(Origin::Host, host), Outbound { origin, ..of_service(&service, port) });
        }
        self.add_asked(&[(SERVICE_TAG.to_owned(), service)].into());
    }

    /// Listeners of gateways that other meshes may call.
    fn add_gateway(&mut self, resource: &Resource, gateway: &MeshGateway) {
        let (mesh, name) = (&*resource.meta.key.mesh, &*resource.meta.key.name);
        for listener in gateway.conf.iter().flat_map(|conf| &conf.listeners).filter(|listener| listener.cross_mesh) {
            let own = Some(&listener.hostname).filter(|host| !host.is_empty() && !host.contains('*')).cloned();
            let host = own.unwrap_or_else(|| format!("internal.{name}.{mesh}.{}", self.settings.domain));
            for selector in &gateway.selectors {
                let mut tag_set: Tags = gateway.tags.clone();
                tag_set.extend(listener.tags.clone());
                tag_set.insert(MESH.to_owned(), mesh.to_owned());
                tag_set.extend(selector.r#match.clone());
                let origin = format!("mesh-gateway:{mesh}:{name}:{host}");
                self.add(Name::new(Origin::Domain, &host), Outbound { port: listener.port, tag_set, origin });
            }
        }
    }
}

impl Asked {
    fn make(&self, tags: &Tags) -> Option<(Name, Outbound)> {
        let conf = self.spec.conf.as_ref()?;
        let made = virtual_outbound::host(conf, tags).and_then(|host| Ok((host, virtual_outbound::port(conf, tags)?)));
        let (mesh, name) = (&*self.resource.meta.key.mesh, &*self.resource.meta.key.name);
        match made {
            Ok((host, port)) => {
                let origin = format!("virtual-outbound:{name}");
                let tag_set = virtual_outbound::chosen(conf, tags);
                Some((Name::new(Origin::Domain, &host), Outbound { port: port.into(), tag_set, origin }))
            }
            Err(fault) => {
                tracing::debug!(
                    mesh,
                    virtual_outbound = name,
                    tags = tags::print(tags),
                    fault,
                    "no name for a service"
                );
                None
            }
        }
    }
}

fn of_service(service: &str, port: u32) -> Outbound {
    let tag_set = [(SERVICE_TAG.to_owned(), service.to_owned())].into();
    Outbound { port, tag_set, origin: "service".to_owned() }
}

fn asked(mesh: &str, now: &Snapshot) -> Vec<Asked> {
    let all = now.list_in(Kind::VirtualOutbound, mesh);
    all.filter_map(|resource| Some(Asked { spec: resource.spec.message().ok()?, resource: Arc::clone(resource) }))
        .collect()
}

/// Tags of the inbounds of a dataplane that have a name.
fn named(resource: Option<&Arc<Resource>>) -> Vec<Tags> {
    let proxy = resource.and_then(|resource| resource.spec.message::<Dataplane>().ok());
    let networking = proxy.iter().flat_map(|proxy| &proxy.networking);
    let inbounds = networking.flat_map(|networking| &networking.inbound);
    let counts = inbounds.filter(|inbound| inbound.state() != State::Ignored && inbound.port != SERVICE_LESS);
    counts.map(|inbound| inbound.tags.clone()).collect()
}

/// Meshes whose services an ingress of another zone offers.
fn offered_meshes(resource: Option<&Arc<Resource>>) -> BTreeMap<String, BTreeSet<String>> {
    let ingress = resource.and_then(|resource| resource.spec.message::<ZoneIngress>().ok());
    let mut meshes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for offered in ingress.iter().flat_map(|ingress| &ingress.available_services) {
        meshes.entry(offered.mesh.clone()).or_default().insert(tags::print(&offered.tags));
    }
    meshes
}

impl Conclusion for TagVips {
    fn step(&mut self, round: &mut Round) {
        let mut meshes: BTreeSet<String> = BTreeSet::new();
        let mut all = false;
        for key in &round.changed().cloned().collect::<Vec<_>>() {
            let (before, now) = (round.before(key), round.now().get(key));
            match key.kind {
                Kind::Dataplane if self.count(key, before, now) => drop(meshes.insert(key.mesh.to_string())),
                Kind::ExternalService | Kind::VirtualOutbound => drop(meshes.insert(key.mesh.to_string())),
                Kind::Mesh => drop(meshes.insert(key.name.to_string())),
                Kind::MeshGateway => all = true,
                // Whether and what, not how many: counts change often.
                Kind::ZoneIngress => {
                    let (before, now) = (offered_meshes(before), offered_meshes(now));
                    let differ = |mesh: &&String| before.get(*mesh) != now.get(*mesh);
                    meshes.extend(before.keys().chain(now.keys()).filter(differ).cloned());
                }
                Kind::Config => {
                    let of = key.name.strip_prefix("kuma-").and_then(|rest| rest.strip_suffix("-dns-vips"));
                    meshes.extend(of.map(str::to_owned));
                }
                _ => {}
            }
        }
        if all {
            meshes.extend(round.now().list(Kind::Mesh).map(|mesh| mesh.meta.key.name.to_string()));
        }
        meshes.iter().for_each(|mesh| self.conclude(mesh, round));
    }
}

impl TagVips {
    fn conclude(&self, mesh: &str, round: &mut Round) {
        let owner = Key::global(Kind::Mesh, mesh);
        if round.now().get(&owner).is_none() {
            return;
        }
        let Ok(pool) = Pool::new(&self.settings.network) else { return };
        let stored = View::stored(round.now(), mesh);
        let mut view = self.names(mesh, round.now());
        if let Err(error) = view.allocate(&stored, pool) {
            tracing::error!(mesh, %error, "not every name gets a virtual address");
        }
        if view == stored {
            return;
        }
        tracing::debug!(mesh, names = view.iter().count(), "names of the mesh changed");
        let spec = Payload::from_message(&Config { config: view.to_json() });
        let resource = match round.now().get(&config_key(mesh)) {
            Some(known) => Resource { spec, ..Resource::clone(known) },
            None => Resource::new(config_key(mesh), Labels::default(), spec),
        };
        round.put_owned(resource, owner);
    }
}

#[cfg(test)]
mod tests;
