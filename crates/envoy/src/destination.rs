//! What an outbound or a route leads to: a service by its tag, or a port of a service that is a resource.

use std::sync::Arc;

use model::kri::Kri;
use model::labels::{self, SERVICE_TAG, ZONE};
use model::policy::{self, ResourceSection};
use model::sni::{Hashed, Legacy};
use model::spec::dataplane;
use model::spec::mesh_service::{IdentityType, State, Status};
use model::spec::tags::Tags;
use model::spec::target_ref::BackendRef;
use model::spec::{MeshExternalService, MeshMultiZoneService, MeshService, mesh_multi_zone_service, mesh_service};
use model::{Kind, Meta, Resource};

use crate::endpoint::{Endpoint, Locality};
use crate::input::Weights;
use crate::names::{self, Naming};
use crate::protocol::Protocol;
use crate::view::View;

/// What an outbound or a route leads to.
#[derive(Clone, Debug)]
pub enum Destination {
    /// Whatever has these tags.
    Tagged(Tagged),
    /// A port of a MeshService, MeshExternalService or MeshMultiZoneService.
    Port(Port),
}

/// A service by its tag, perhaps narrowed by more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tagged {
    /// Value of `kuma.io/service`.
    pub service: String,
    /// The other tags.
    pub tags: Tags,
}

impl Tagged {
    /// From all tags.
    pub fn new(tags: &Tags) -> Self {
        let mut rest = tags.clone();
        let service = rest.remove(SERVICE_TAG).unwrap_or_default();
        Self { service, tags: rest }
    }

    /// Every tag.
    pub fn all(&self) -> Tags {
        let mut all = self.tags.clone();
        all.insert(SERVICE_TAG.to_owned(), self.service.clone());
        all
    }

    /// The server name that ingresses know it by.
    pub fn sni(&self, mesh: &str) -> String {
        let all = self.all();
        Legacy::of(all.iter().map(|(key, value)| (key.as_str(), value.as_str())), mesh).to_string()
    }
}

/// A port of a service that is a resource.
#[derive(Clone, Debug)]
pub struct Port {
    /// The service.
    pub resource: Arc<Resource>,
    /// Its identifier, the section as it was referred to.
    pub kri: Kri,
    /// Name of the port.
    pub name: String,
    /// Number of the port.
    pub number: u32,
    /// What it speaks.
    pub protocol: Protocol,
}

/// Ports of a service that is a resource: names, numbers and protocols.
pub fn ports(resource: &Resource) -> Vec<(String, u32, Protocol)> {
    let named = |name: Option<&String>, number: i32, protocol: &str| {
        let name = name.filter(|name| !name.is_empty()).cloned().unwrap_or_else(|| number.to_string());
        let protocol = if protocol.is_empty() { Protocol::Tcp } else { Protocol::parse(protocol) };
        (name, u32::try_from(number).unwrap_or_default(), protocol)
    };
    match resource.kind() {
        Kind::MeshService => resource.spec.json::<MeshService>().map_or_else(
            |_| Vec::new(),
            |spec| {
                let port = |port: &mesh_service::Port| {
                    named(port.name.as_ref(), port.port, port.app_protocol.as_deref().unwrap_or_default())
                };
                spec.ports.iter().map(port).collect()
            },
        ),
        Kind::MeshMultiZoneService => resource.spec.json::<MeshMultiZoneService>().map_or_else(
            |_| Vec::new(),
            |spec| {
                let port =
                    |port: &mesh_multi_zone_service::Port| named(port.name.as_ref(), port.port, &port.app_protocol);
                spec.ports.iter().map(port).collect()
            },
        ),
        Kind::MeshExternalService => resource
            .spec
            .json::<MeshExternalService>()
            .map_or_else(|_| Vec::new(), |spec| vec![named(None, spec.r#match.port, spec.r#match.protocol.as_str())]),
        _ => Vec::new(),
    }
}

impl Port {
    /// The port that a section's name or number means.
    pub fn find(section: &ResourceSection) -> Option<Self> {
        let resource = Arc::clone(&section.resource);
        let all = ports(&resource);
        let fits = |(name, number, _): &&(String, u32, Protocol)| {
            *name == section.section || number.to_string() == section.section
        };
        let (name, number, protocol) = all.iter().find(fits).cloned()?;
        let kri = names::port_kri(&resource.meta, &section.section)?;
        Some(Self { resource, kri, name, number, protocol })
    }

    /// The service's kind.
    pub fn kind(&self) -> Kind {
        self.resource.kind()
    }

    /// The older name of its cluster, which stands for its service tag too.
    pub fn service(&self) -> String {
        names::resource_cluster(&self.resource.meta, self.number)
    }

    /// The identifier that policies may name it by: by the name of the port.
    pub fn named(&self) -> Kri {
        self.kri.with_section(&self.name)
    }

    /// The server name that ingresses and egresses know it by.
    pub fn sni(&self, system_namespace: Option<&str>) -> String {
        let port = u16::try_from(self.number).unwrap_or_default();
        Hashed::of(&self.resource.meta, port, system_namespace).map(|sni| sni.to_string()).unwrap_or_default()
    }

    /// Whether it is a service of this zone.
    pub fn is_local(&self, zone: &str) -> bool {
        is_local(&self.resource.meta, zone)
    }

    /// Where it is (zone-dataplane 7.4).
    pub fn endpoints(&self, view: &View<'_>) -> Vec<Endpoint> {
        let raw = match self.kind() {
            Kind::MeshService => service_endpoints(view, &self.resource, self.number, &self.service()),
            Kind::MeshExternalService => external_endpoints(view, self),
            _ => multi_zone_endpoints(view, self),
        };
        match view.settings.weights {
            Weights::Kuma => raw,
            Weights::Exact => crate::endpoint::exact(raw),
        }
    }

    /// Who may answer for it: SPIFFE identifiers and service tags, sorted.
    pub fn identities(&self, view: &View<'_>) -> Vec<String> {
        let mut identities: Vec<String> = match self.kind() {
            Kind::MeshService => identities(&self.resource).map(|(_, value)| value).collect(),
            Kind::MeshMultiZoneService => matched(view, &self.resource)
                .iter()
                .flat_map(|service| identities(service))
                .map(|(_, value)| value)
                .collect(),
            _ => Vec::new(),
        };
        identities.sort();
        identities.dedup();
        identities
    }

    /// Whether its proxies are known to take mTLS; those of other zones always do.
    pub fn is_tls_ready(&self, zone: &str) -> bool {
        if self.kind() != Kind::MeshService || !self.is_local(zone) {
            return true;
        }
        let status = self.resource.status.as_ref().and_then(|status| status.json::<Status>().ok());
        status.is_some_and(|status| status.tls.status == Some(mesh_service::TlsStatus::Ready))
    }
}

/// Whether a resource is this zone's own.
pub fn is_local(meta: &Meta, zone: &str) -> bool {
    meta.zone().is_none_or(|owner| owner.is_empty() || owner == zone)
}

fn identities(service: &Resource) -> impl Iterator<Item = (IdentityType, String)> + use<> {
    let spec = service.spec.json::<MeshService>().ok();
    let identities = spec.and_then(|spec| spec.identities.clone()).unwrap_or_default();
    identities.into_iter().map(|identity| (identity.r#type, identity.value))
}

/// The MeshServices that a MeshMultiZoneService was found to mean.
fn matched(view: &View<'_>, service: &Resource) -> Vec<Arc<Resource>> {
    let status = service.status.as_ref().and_then(|status| status.json::<mesh_multi_zone_service::Status>().ok());
    let all = status.iter().flat_map(|status| &status.mesh_services);
    all.filter_map(|found| {
        let is_it = |resource: &&Arc<Resource>| {
            let label = |key| resource.meta.labels.get(key).unwrap_or_default();
            label(ZONE) == found.zone && label(labels::NAMESPACE) == found.namespace
        };
        view.snapshot.named(Kind::MeshService, &view.name, &found.name).find(is_it).cloned()
    })
    .collect()
}

/// Endpoints of a MeshService at a port: its healthy inbounds here, or the ingresses of its zone.
fn service_endpoints(view: &View<'_>, service: &Arc<Resource>, number: u32, name: &str) -> Vec<Endpoint> {
    let Ok(spec) = service.spec.json::<MeshService>() else { return Vec::new() };
    let Some(port) = spec.ports.iter().find(|port| u32::try_from(port.port) == Ok(number)) else { return Vec::new() };
    if !is_local(&service.meta, view.zone()) {
        return remote_endpoints(view, service, name);
    }
    let mut endpoints = Vec::new();
    for resource in selected(view, &spec.selector) {
        let Ok(proxy) = resource.spec.message::<kds_proto::kuma::mesh::v1alpha1::Dataplane>() else { continue };
        let Some(networking) = &proxy.networking else { continue };
        let by_tags = spec.selector.dataplane_tags.as_ref();
        for inbound in networking.inbound.iter().filter(|inbound| dataplane::is_ready(inbound)) {
            let chosen = by_tags.is_none_or(|tags| model::spec::tags::matches(tags, &inbound.tags));
            if !chosen || !is_target(inbound, port) {
                continue;
            }
            let interface = dataplane::interface(networking, inbound);
            let locality = inbound.tags.get(ZONE).map(|zone| Locality {
                zone: zone.clone(),
                priority: u32::from(view.locality_aware() && zone != view.zone()),
                ..Locality::default()
            });
            endpoints.push(Endpoint {
                locality,
                ..Endpoint::new(interface.advertised_address, interface.port, inbound.tags.clone(), 1)
            });
        }
    }
    endpoints
}

/// The zone's proxies that a selector chooses, by name.
fn selected<'a>(view: &View<'a>, selector: &mesh_service::Selector) -> Vec<&'a Arc<Resource>> {
    if let Some(reference) = &selector.dataplane_ref {
        return view.get(Kind::Dataplane, &reference.name).into_iter().collect();
    }
    let Some(tags) = selector.dataplane_tags.as_ref().filter(|tags| !tags.is_empty()) else { return Vec::new() };
    match tags.get(SERVICE_TAG).filter(|service| *service != model::spec::tags::ANY_VALUE) {
        Some(service) => {
            // The index borrows its question; the answer is a list of few.
            let of_service: Vec<_> =
                view.snapshot.service(&view.name, service).map(|found| found.meta.key.clone()).collect();
            of_service.iter().filter_map(|key| view.snapshot.get(key)).collect()
        }
        None => view.snapshot.list_in(Kind::Dataplane, &view.name).collect(),
    }
}

/// Whether an inbound is what a port of a service means.
fn is_target(
    inbound: &kds_proto::kuma::mesh::v1alpha1::dataplane::networking::Inbound,
    port: &mesh_service::Port,
) -> bool {
    use model::number::IntOrString;
    match &port.target_port {
        Some(IntOrString::String(name)) => !inbound.name.is_empty() && inbound.name == **name,
        Some(IntOrString::Int(number)) => u32::try_from(*number) == Ok(inbound.port),
        None => u32::try_from(port.port) == Ok(inbound.port),
    }
}

/// How many healthy instances a zone says its service has.
const HEALTHY_INSTANCES: &str = "kuma.io/healthy-instances";

fn remote_endpoints(view: &View<'_>, service: &Resource, name: &str) -> Vec<Endpoint> {
    let trusted =
        view.mtls() != crate::view::Mtls::Off || view.snapshot.list_in(Kind::MeshIdentity, &view.name).next().is_some();
    let Some(zone) = service.meta.zone().filter(|_| trusted) else { return Vec::new() };
    let instances = service.meta.labels.get(HEALTHY_INSTANCES).and_then(|count| count.parse().ok()).unwrap_or(1);
    let tags: Tags = [(SERVICE_TAG.to_owned(), name.to_owned()), (ZONE.to_owned(), zone.to_owned())].into();
    let endpoint = |(address, port): &(String, u32)| Endpoint {
        locality: Some(Locality { zone: zone.to_owned(), priority: 1, ..Locality::default() }),
        remote: Some(zone.to_owned()),
        instances,
        ..Endpoint::new(address, *port, tags.clone(), 1)
    };
    view.ingresses_of(zone).iter().map(endpoint).collect()
}

/// Endpoints of the MeshServices that it means, as far as they are there.
fn multi_zone_endpoints(view: &View<'_>, port: &Port) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for service in matched(view, &port.resource) {
        let Ok(spec) = service.spec.json::<MeshService>() else { continue };
        if !is_local(&service.meta, view.zone()) && spec.state != Some(State::Available) {
            continue;
        }
        let name = names::resource_cluster(&service.meta, port.number);
        endpoints.extend(service_endpoints(view, &service, port.number, &name));
    }
    endpoints
}

/// A service outside the mesh is reached through the zone's egresses, and in no other way.
fn external_endpoints(view: &View<'_>, port: &Port) -> Vec<Endpoint> {
    let tags: Tags = port.resource.meta.labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let endpoint = |(address, number): &(String, u32)| Endpoint::new(address, *number, tags.clone(), 1);
    view.egresses().iter().map(endpoint).collect()
}

impl Destination {
    /// What a back end of a route means; `None` when it means nothing that is there.
    pub fn of_backend(view: &View<'_>, origin: &Meta, backend: &BackendRef) -> Option<Self> {
        use model::spec::target_ref::TargetKind;
        let is_service = backend.target.kind == TargetKind::MeshService;
        let section = backend.target.section_name.as_ref().is_some_and(|section| !section.is_empty());
        let by_tag =
            backend.target.kind == TargetKind::MeshServiceSubset || (is_service && backend.port.is_none() && !section);
        if by_tag {
            let tags = backend.target.tags.clone().unwrap_or_default();
            return Some(Self::Tagged(Tagged { service: backend.target.name.clone().unwrap_or_default(), tags }));
        }
        Port::find(&policy::backend(view.snapshot, origin, backend)?).map(Self::Port)
    }

    /// What it speaks.
    pub fn protocol(&self, view: &View<'_>) -> Protocol {
        match self {
            Self::Tagged(tagged) => view.service_protocol(&tagged.service),
            Self::Port(port) => port.protocol,
        }
    }

    /// The name of its cluster.
    pub fn cluster(&self, naming: Naming) -> String {
        match self {
            Self::Tagged(tagged) => names::tagged_cluster(&tagged.service, &tagged.tags),
            Self::Port(port) => naming.pick(&port.service(), &port.kri.to_string()).to_owned(),
        }
    }

    /// The service tag that policies may know it by.
    pub fn service(&self) -> String {
        match self {
            Self::Tagged(tagged) => tagged.service.clone(),
            Self::Port(port) => port.service(),
        }
    }

    /// Whether it is outside the mesh.
    pub fn is_external(&self, view: &View<'_>) -> bool {
        match self {
            Self::Tagged(tagged) => !view.external_services(&tagged.service).is_empty(),
            Self::Port(port) => names::is_external(port.kind()),
        }
    }

    /// Where it is.
    pub fn endpoints(&self, view: &View<'_>) -> Vec<Endpoint> {
        match self {
            Self::Tagged(tagged) => view.service_endpoints(&tagged.service, &tagged.tags),
            Self::Port(port) => port.endpoints(view),
        }
    }
}
