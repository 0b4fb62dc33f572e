//! One mesh as its proxies see it: where services are and what they speak.

use std::collections::BTreeMap;
use std::sync::Arc;

use kds_proto::kuma::mesh::v1alpha1::certificate_authority_backend::Mode;
use kds_proto::kuma::mesh::v1alpha1::{Dataplane, ExternalService, Mesh, ZoneEgress, ZoneIngress};
use model::labels::{PROTOCOL_TAG, SERVICE_TAG, ZONE};
use model::resource::Key;
use model::spec::tags::Tags;
use model::spec::{MeshTrust, dataplane, mesh, zone_ingress};
use model::{Kind, Resource, Snapshot};

use crate::endpoint::{Endpoint, Locality};
use crate::input::{Error, Settings, Weights};
use crate::names::Naming;
use crate::protocol::Protocol;

/// A mesh at one revision.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// Everything that the zone knows.
    pub snapshot: &'a Snapshot,
    /// Settings of the control plane.
    pub settings: &'a Settings,
    /// Name of the mesh.
    pub name: String,
    /// Its settings.
    pub mesh: Arc<Mesh>,
    /// Ingresses of other zones that can be dialled.
    ingresses: Vec<Ingress>,
    side: Side,
}

/// Who looks: each proxy sees other endpoints of the same services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// A sidecar: all of them.
    Sidecar,
    /// An ingress: those of its zone.
    Ingress,
    /// An egress: those of other zones.
    Egress,
}

/// A service outside the mesh, of the older kind.
#[derive(Clone, Debug)]
pub struct External {
    /// Its name in the store.
    pub name: String,
    /// What it is.
    pub spec: Arc<ExternalService>,
}

/// An ingress of another zone.
#[derive(Clone, Debug)]
pub struct Ingress {
    address: String,
    port: u32,
    zone: String,
    resource: Arc<ZoneIngress>,
    /// It has the address of one before it, whose services count.
    repeated: bool,
}

/// Whether workloads of a mesh prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mtls {
    /// They do not.
    Off,
    /// They must.
    Strict,
    /// They may.
    Permissive,
}

impl<'a> View<'a> {
    /// The mesh of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn new(snapshot: &'a Snapshot, settings: &'a Settings, name: &str) -> Result<Self, Error> {
        let resource = snapshot.get(&Key::global(Kind::Mesh, name));
        let mesh = resource.and_then(|resource| resource.spec.message::<Mesh>().ok());
        let mesh = mesh.ok_or_else(|| Error::NoMesh(name.to_owned()))?;
        let ingresses = ingresses(snapshot, settings);
        Ok(Self { snapshot, settings, name: name.to_owned(), mesh, ingresses, side: Side::Sidecar })
    }

    /// The mesh as an ingress sees it: without other zones.
    ///
    /// # Errors
    /// There is no such mesh.
    pub fn of_ingress(snapshot: &'a Snapshot, settings: &'a Settings, name: &str) -> Result<Self, Error> {
        Ok(Self { ingresses: Vec::new(), side: Side::Ingress, ..Self::new(snapshot, settings, name)? })
    }

    /// The mesh as an egress sees it: other zones alone.
    ///
    /// # Errors
    /// There is no such mesh.
    pub fn of_egress(snapshot: &'a Snapshot, settings: &'a Settings, name: &str) -> Result<Self, Error> {
        Ok(Self { side: Side::Egress, ..Self::new(snapshot, settings, name)? })
    }

    /// Whether mTLS is on.
    pub fn mtls(&self) -> Mtls {
        let Some(enabled) = mesh::enabled_backend(&self.mesh) else { return Mtls::Off };
        let backends = self.mesh.mtls.iter().flat_map(|mtls| &mtls.backends);
        match backends.into_iter().find(|backend| backend.name == enabled).map(|backend| backend.mode()) {
            Some(Mode::Permissive) => Mtls::Permissive,
            _ => Mtls::Strict,
        }
    }

    /// Whether remote endpoints of a legacy service wait until the local ones fail.
    pub fn locality_aware(&self) -> bool {
        self.mesh.routing.as_ref().is_some_and(|routing| routing.locality_aware_load_balancing)
    }

    /// Whether traffic that leaves the zone goes through its egress.
    pub fn uses_egress(&self) -> bool {
        mesh::uses_zone_egress(&self.mesh)
    }

    /// Whether this proxy sends what leaves the zone to an egress.
    fn sends_to_egress(&self) -> bool {
        self.uses_egress() && self.side != Side::Egress
    }

    /// Whether trust comes from MeshTrust resources.
    pub fn has_trust(&self) -> bool {
        self.snapshot.list_in(Kind::MeshTrust, &self.name).next().is_some()
    }

    /// The CAs of each trust domain, PEM: those of the MeshTrusts, and the mesh's own while mTLS is on. Without a
    /// MeshTrust there is none (zone-dataplane 3.8).
    pub fn trust(&self, own: Option<&[u8]>) -> BTreeMap<String, Vec<u8>> {
        let mut domains: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut add = |domain: &str, pem: &[u8]| {
            let known = domains.entry(domain.to_owned()).or_default();
            if !known.is_empty() && !known.ends_with(b"\n") {
                known.push(b'\n');
            }
            known.extend_from_slice(pem);
        };
        for resource in self.snapshot.list_in(Kind::MeshTrust, &self.name) {
            let Ok(trust) = resource.spec.json::<MeshTrust>() else { continue };
            let bundles = trust.ca_bundles.iter().filter_map(|bundle| bundle.pem.as_ref());
            bundles.for_each(|pem| add(&trust.trust_domain, pem.value.as_bytes()));
        }
        if let Some(own) = own.filter(|_| self.has_trust() && self.mtls() != Mtls::Off) {
            add(&self.name, own);
        }
        domains
    }

    /// Whether its services are resources and nothing else.
    pub fn is_exclusive(&self) -> bool {
        mesh::is_exclusive(&self.mesh)
    }

    /// The names that a proxy of the mesh has.
    pub fn naming(&self, asked_for: bool) -> Naming {
        if asked_for && self.is_exclusive() { Naming::Unified } else { Naming::Legacy }
    }

    /// Zone of this control plane.
    pub fn zone(&self) -> &str {
        &self.settings.zone
    }

    /// Addresses and ports of the zone's egresses, by name.
    pub fn egresses(&self) -> Vec<(String, u32)> {
        let local = |egress: &ZoneEgress| egress.zone.is_empty() || egress.zone == self.settings.zone;
        let egresses =
            self.snapshot.list(Kind::ZoneEgress).filter_map(|egress| egress.spec.message::<ZoneEgress>().ok());
        egresses
            .filter(|egress| local(egress))
            .filter_map(|egress| egress.networking.as_ref().map(|net| (net.address.clone(), net.port)))
            .collect()
    }

    /// ExternalServices with this service tag, by name.
    pub fn external_services(&self, service: &str) -> Vec<External> {
        let mut all = self.all_external_services();
        all.retain(|external| external.spec.tags.get(SERVICE_TAG).is_some_and(|tag| tag == service));
        all
    }

    /// Every ExternalService, by name.
    pub fn all_external_services(&self) -> Vec<External> {
        let all = self.snapshot.list_in(Kind::ExternalService, &self.name);
        let external = |resource: &Arc<Resource>| {
            let spec = resource.spec.message::<ExternalService>().ok()?;
            Some(External { name: resource.meta.key.name.to_string(), spec })
        };
        all.filter_map(external).collect()
    }

    /// What a legacy service speaks: what all its endpoints and external forms have in common.
    pub fn service_protocol(&self, service: &str) -> Protocol {
        let of_tags = |tags: &Tags| tags.get(PROTOCOL_TAG).map_or(Protocol::Unknown, |word| Protocol::parse(word));
        let externals = self.external_services(service);
        if !externals.is_empty() {
            return Protocol::common(externals.iter().map(|external| of_tags(&external.spec.tags)));
        }
        Protocol::common(self.raw_endpoints(service).iter().map(|endpoint| of_tags(&endpoint.tags)))
    }

    /// Whether every proxy of a legacy service is known to take mTLS.
    pub fn is_tls_ready(&self, service: &str) -> bool {
        use kds_proto::kuma::mesh::v1alpha1::ServiceInsight;
        let Some(backend) = mesh::enabled_backend(&self.mesh) else { return false };
        let insights = self.snapshot.list_in(Kind::ServiceInsight, &self.name);
        let insights = insights.filter_map(|resource| resource.spec.message::<ServiceInsight>().ok());
        let of_service = insights.filter_map(|insight| insight.services.get(service).cloned());
        let issued = of_service.map(|service| {
            let proxies = service.dataplanes.unwrap_or_default();
            (proxies.online + proxies.offline, service.issued_backends.get(backend).copied().unwrap_or(0))
        });
        let (total, ready) = issued.fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        // A service that nobody counted is not known to be ready.
        total > 0 && total == ready
    }

    /// Endpoints of a legacy service, of all tags, as they are handed to load balancing (zone-dataplane 7.2).
    pub fn service_endpoints(&self, service: &str, tags: &Tags) -> Vec<Endpoint> {
        let fits = |endpoint: &Endpoint| tags.iter().all(|(key, value)| endpoint.tags.get(key) == Some(value));
        let raw: Vec<Endpoint> = self.raw_endpoints(service).into_iter().filter(fits).collect();
        match self.settings.weights {
            Weights::Kuma => raw,
            Weights::Exact => crate::endpoint::exact(raw),
        }
    }

    /// Local inbounds, then what ingresses offer; weights are Kuma's, and every endpoint says how many instances it is.
    fn raw_endpoints(&self, service: &str) -> Vec<Endpoint> {
        let externals = self.external_services(service);
        if !externals.is_empty() && self.sends_to_egress() {
            return self.external_endpoints(&externals);
        }
        let mut endpoints = self.remote_endpoints(service);
        if self.side == Side::Egress {
            return endpoints;
        }
        let addresses: u32 = if self.mtls() == Mtls::Off {
            0
        } else {
            let offering = |ingress: &&Ingress| !ingress.repeated && !ingress.resource.available_services.is_empty();
            u32::try_from(self.ingresses.iter().filter(offering).count()).unwrap_or(u32::MAX)
        };
        for resource in self.snapshot.service(&self.name, service) {
            let Ok(proxy) = resource.spec.message::<Dataplane>() else { continue };
            let Some(networking) = &proxy.networking else { continue };
            let ready = networking.inbound.iter().filter(|inbound| dataplane::is_ready(inbound));
            let of_service = ready.filter(|inbound| inbound.tags.get(SERVICE_TAG).is_some_and(|tag| tag == service));
            endpoints.extend(of_service.map(|inbound| {
                let interface = dataplane::interface(networking, inbound);
                let weight = addresses.max(1);
                Endpoint {
                    locality: self.locality(inbound.tags.get(ZONE)),
                    ..Endpoint::new(interface.advertised_address, interface.port, inbound.tags.clone(), weight)
                }
            }));
        }
        endpoints
    }

    fn remote_endpoints(&self, service: &str) -> Vec<Endpoint> {
        if self.mtls() == Mtls::Off {
            return Vec::new();
        }
        let egresses = self.sends_to_egress().then(|| self.egresses());
        let mut endpoints = Vec::new();
        for ingress in self.ingresses.iter().filter(|ingress| !ingress.repeated) {
            for offered in &ingress.resource.available_services {
                let is_it = offered.tags.get(SERVICE_TAG).is_some_and(|tag| tag == service);
                if offered.mesh != self.name || !is_it {
                    continue;
                }
                let locality = self.locality(offered.tags.get(ZONE));
                let endpoint = |address: &str, port, weight| Endpoint {
                    locality: locality.clone(),
                    remote: Some(ingress.zone.clone()),
                    instances: offered.instances,
                    ..Endpoint::new(address, port, offered.tags.clone(), weight)
                };
                match &egresses {
                    None => endpoints.push(endpoint(&ingress.address, ingress.port, offered.instances)),
                    Some(egresses) => {
                        endpoints.extend(egresses.iter().map(|(address, port)| endpoint(address, *port, 1)));
                    }
                }
            }
        }
        endpoints
    }

    /// Endpoints of a service outside the mesh that is reached through the egress.
    fn external_endpoints(&self, externals: &[External]) -> Vec<Endpoint> {
        let egresses = self.egresses();
        let of_service = |external: &External| -> Vec<Endpoint> {
            let endpoint = |(address, port): &(String, u32)| Endpoint {
                locality: self.locality(external.spec.tags.get(ZONE)),
                ..Endpoint::new(address, *port, external.spec.tags.clone(), 1)
            };
            egresses.iter().map(endpoint).collect()
        };
        externals.iter().flat_map(of_service).collect()
    }

    /// Where an endpoint of a zone stands; nowhere when it does not say.
    fn locality(&self, zone: Option<&String>) -> Option<Locality> {
        let zone = zone?;
        let remote = self.locality_aware() && *zone != self.settings.zone;
        Some(Locality { zone: zone.clone(), priority: u32::from(remote), ..Locality::default() })
    }

    /// Ingresses of a zone that can be dialled: the first of each address.
    pub fn ingresses_of(&self, zone: &str) -> Vec<(String, u32)> {
        let mut addresses = Vec::new();
        for ingress in self.ingresses.iter().filter(|ingress| ingress.zone == zone) {
            let address = (ingress.address.clone(), ingress.port);
            // Instances behind one address are one for Envoy, which keeps the first of equal addresses.
            if self.settings.weights == Weights::Kuma || !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// Everything that ingresses of other zones offer of this mesh: tags and how often.
    pub fn offered(&self) -> impl Iterator<Item = (&Tags, bool)> {
        let of_mesh = |ingress: &'_ Ingress| !ingress.repeated;
        self.ingresses.iter().filter(move |ingress| of_mesh(ingress)).flat_map(|ingress| {
            let services = ingress.resource.available_services.iter().filter(|service| service.mesh == self.name);
            services.map(|service| (&service.tags, service.external_service))
        })
    }

    /// A resource of the mesh by its name in the store.
    pub fn get(&self, kind: Kind, name: &str) -> Option<&'a Arc<Resource>> {
        self.snapshot.get(&Key::new(kind, &self.name, name))
    }
}

/// Ingresses of other zones that say where they can be dialled, by name (zone-dataplane 7.1).
fn ingresses(snapshot: &Snapshot, settings: &Settings) -> Vec<Ingress> {
    let mut representatives: BTreeMap<(String, u32), ()> = BTreeMap::new();
    let mut found = Vec::new();
    for resource in snapshot.list(Kind::ZoneIngress) {
        let Ok(ingress) = resource.spec.message::<ZoneIngress>() else { continue };
        if ingress.zone.is_empty() || ingress.zone == settings.zone {
            continue;
        }
        let Some((address, port)) = zone_ingress::public_address(&ingress) else { continue };
        let (address, zone) = (address.to_owned(), ingress.zone.clone());
        let repeated = representatives.contains_key(&(address.clone(), port));
        // One without services, new perhaps, neither counts nor stands in the way of its sibling.
        if !repeated && !ingress.available_services.is_empty() {
            representatives.insert((address.clone(), port), ());
        }
        found.push(Ingress { address, port, zone, resource: ingress, repeated });
    }
    found
}
