//! Traffic out of the zone (zone-dataplane 6).

use std::collections::{BTreeMap, BTreeSet};

use kds_proto::kuma::mesh::v1alpha1::{ExternalService, ZoneEgress};
use model::Kind;
use model::labels::{SERVICE_TAG, ZONE};
use model::policy::Subset;
use model::spec::MeshCircuitBreaker;
use model::spec::tags::Tags;

use super::destinations::{self, Destinations};
use super::ingress::{add, all_ports};
use super::{Gate, GateChain, Passage, Terminated, Zone, skeleton, unreadable};
use crate::destination::{Destination, Tagged, is_local};
use crate::endpoint::Endpoint;
use crate::external;
use crate::input::{Error, Input};
use crate::names::{self, Naming};
use crate::plan::{Assignment, Cluster, ClusterTls, Discovery, Identity, Plan, Security, To};
use crate::policies::load_balancing;
use crate::policies::tls::Parameters;
use crate::policies::traffic_permission::{self, Access};
use crate::protocol::Protocol;
use crate::view::{Mtls, View};

/// The parts of an egress that are planned mesh by mesh.
#[derive(Default)]
struct Parts {
    chains: Vec<GateChain>,
    passages: BTreeMap<String, Passage>,
    clusters: BTreeMap<String, Cluster>,
}

/// The plan of an egress.
///
/// # Errors
/// Its resource cannot be read.
pub fn plan(input: Input<'_>) -> Result<Plan, Error> {
    let egress = input.resource.spec.message::<ZoneEgress>().map_err(|error| unreadable(input, error))?;
    let networking = egress.networking.clone().unwrap_or_default();
    let naming = if input.node.features.unified_naming { Naming::Unified } else { Naming::Legacy };
    let mut parts = Parts::default();
    let mut meshes = BTreeSet::new();
    for mesh in input.snapshot.list(Kind::Mesh) {
        let view = View::of_egress(input.snapshot, input.settings, &mesh.meta.key.name)?;
        if view.mtls() == Mtls::Off {
            continue;
        }
        if view.uses_egress() {
            pass_on(&view, &mut parts);
        }
        if terminate(&view, naming, input.node.system_ca_path.as_str(), &mut parts) {
            meshes.insert(view.name.clone());
        }
    }
    let unified = format!("self_inbound_ze_{}", networking.port);
    let legacy = names::inbound_listener(&networking.address, networking.port);
    let name = naming.pick(&legacy, &unified).to_owned();
    let gate = (!parts.chains.is_empty()).then(|| Gate {
        name,
        stat_prefix: (naming == Naming::Unified).then_some(unified),
        address: networking.address.clone(),
        port: networking.port,
        chains: parts.chains,
        greeting: None,
    });
    let zone = Zone { gate, passages: parts.passages };
    let mut plan = skeleton(input, &networking.address, zone, parts.clusters);
    plan.secrets = input.secrets.clone();
    plan.secrets.identities.retain(|(mesh, _)| meshes.contains(mesh));
    plan.secrets.mesh_cas.retain(|(mesh, _)| meshes.contains(mesh));
    Ok(plan)
}

/// Services of other zones, by what their ingresses offer.
fn pass_on(view: &View<'_>, parts: &mut Parts) {
    let offered: Vec<(&Tags, bool)> = view.offered().collect();
    let destinations = Destinations::new(view, offered.iter().map(|(tags, _)| *tags));
    let mut known = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for (service, external) in offered.iter().filter_map(|(tags, external)| Some((tags.get(SERVICE_TAG)?, *external))) {
        let reachable = || view.external_services(service).iter().any(|service| is_reachable(view, &service.spec));
        if !seen.insert(service) || (external && reachable()) {
            continue;
        }
        let endpoints = with_mesh(view, view.service_endpoints(service, &Tags::new()));
        if endpoints.is_empty() {
            continue;
        }
        let chains = destinations::chains(view, &destinations, service, &endpoints, &mut known);
        let name = names::mesh_cluster(&view.name, service);
        let assignment = load_balancing::at_egress(view, service, endpoints);
        add(&mut parts.passages, name, assignment, &chains);
        parts.chains.extend(chains);
    }
}

/// Whether a service outside the mesh is not bound to another zone.
fn is_reachable(view: &View<'_>, service: &ExternalService) -> bool {
    service.tags.get(ZONE).is_none_or(|zone| zone == view.zone())
}

fn with_mesh(view: &View<'_>, mut endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    for endpoint in &mut endpoints {
        endpoint.tags.insert("mesh".to_owned(), view.name.clone());
    }
    endpoints
}

/// Services outside the mesh; whether there is one.
fn terminate(view: &View<'_>, naming: Naming, system_ca: &str, parts: &mut Parts) -> bool {
    let before = parts.chains.len();
    external_services(view, naming, parts);
    mesh_external_services(view, naming, system_ca, parts);
    parts.chains.len() > before
}

fn external_services(view: &View<'_>, naming: Naming, parts: &mut Parts) {
    let all = view.all_external_services();
    let destinations = Destinations::new(view, std::iter::empty());
    let mut known = BTreeSet::new();
    let services: BTreeSet<&String> = all.iter().filter_map(|service| service.spec.tags.get(SERVICE_TAG)).collect();
    for service in services {
        let of_service = || all.iter().filter(|external| external.spec.tags.get(SERVICE_TAG) == Some(service));
        let reachable: Vec<_> = of_service().filter(|external| is_reachable(view, &external.spec)).collect();
        let endpoints: Vec<Endpoint> =
            with_mesh(view, reachable.iter().filter_map(|external| external::endpoint(view, external)).collect());
        if endpoints.is_empty() {
            continue;
        }
        let protocol = external_protocol(&endpoints);
        let name = names::mesh_cluster(&view.name, service);
        let tls = reachable
            .iter()
            .zip(&endpoints)
            .filter_map(|(external, endpoint)| Some((endpoint.clone(), external::tls(view, external)?)));
        let cluster = cluster(&name, service, endpoints.clone(), tls.collect(), protocol);
        parts.clusters.insert(name.clone(), cluster);
        let chains = destinations::chains(view, &destinations, service, &endpoints, &mut known);
        // Kuma calls all of this by the cluster when names are unified.
        let called = naming.pick(service, &name).to_owned();
        let access = traffic_permission::of_external_service(view, service);
        parts.chains.extend(chains.into_iter().map(|chain| GateChain {
            subset: [("mesh".to_owned(), view.name.clone())].into_iter().chain(chain.subset).collect(),
            terminated: Some(Terminated {
                name: format!("{called}_{}", view.name),
                mesh: view.name.clone(),
                naming,
                security: security(access.clone()),
                protocol,
                stat: called.clone(),
                route: format!("outbound:{called}"),
                virtual_host: called.clone(),
            }),
            ..chain
        }));
    }
}

fn external_protocol(endpoints: &[Endpoint]) -> Protocol {
    let first = endpoints.first().and_then(|endpoint| endpoint.tags.get(model::labels::PROTOCOL_TAG));
    first.map_or(Protocol::Tcp, |word| Protocol::parse(word))
}

fn mesh_external_services(view: &View<'_>, naming: Naming, system_ca: &str, parts: &mut Parts) {
    let breakers = To::at_egress::<MeshCircuitBreaker>(view);
    for resource in view.snapshot.list_in(Kind::MeshExternalService, &view.name) {
        if !is_local(&resource.meta, view.zone()) {
            continue;
        }
        for port in all_ports(resource) {
            let (endpoints, tls) = external::of_resource(view, resource, system_ca);
            let endpoints = with_mesh(view, endpoints);
            if endpoints.is_empty() {
                continue;
            }
            let name = naming.pick(&port.service(), &port.named().to_string()).to_owned();
            let tls: Vec<_> = tls.into_iter().map(|tls| (endpoints[0].clone(), tls)).collect();
            let mut cluster = cluster(&name, &port.service(), endpoints, tls, port.protocol);
            cluster.destination = Destination::Port(port.clone());
            cluster.breaker = breakers.rule(&port).and_then(|rule| rule.conf.first()).cloned();
            parts.clusters.insert(name.clone(), cluster);
            let forbidden =
                view.mesh.routing.as_ref().is_some_and(|routing| routing.default_forbid_mesh_external_service_access);
            let everybody = if forbidden { Vec::new() } else { vec![Subset::default()] };
            parts.chains.push(GateChain {
                sni: port.sni(view.settings.system_namespace.as_deref()),
                cluster: name.clone(),
                subset: Tags::new(),
                terminated: Some(Terminated {
                    name: name.clone(),
                    mesh: view.name.clone(),
                    naming,
                    security: security(Access::Groups { allow: everybody, shadow_deny: Vec::new() }),
                    protocol: port.protocol,
                    stat: name.clone(),
                    route: name.clone(),
                    virtual_host: name,
                }),
            });
        }
    }
}

fn security(access: Access) -> Security {
    let identity = Identity::Mesh { trust: false };
    Security { permissive: false, parameters: Parameters::default(), identity, domains: Vec::new(), access }
}

fn cluster(
    name: &str,
    service: &str,
    endpoints: Vec<Endpoint>,
    tls: Vec<(Endpoint, crate::plan::ExternalTls)>,
    protocol: Protocol,
) -> Cluster {
    let http = match protocol {
        Protocol::Http => Some(Protocol::Http),
        Protocol::Http2 | Protocol::Grpc => Some(Protocol::Http2),
        _ => None,
    };
    let tagged = Tagged { service: service.to_owned(), tags: Tags::new() };
    Cluster {
        name: name.to_owned(),
        destination: Destination::Tagged(tagged),
        discovery: Discovery::Fixed(Assignment { endpoints, overprovisioning: None }),
        tls: (!tls.is_empty()).then_some(ClusterTls::External(tls)),
        http,
        protocol: Protocol::Unknown,
        timeout: None,
        breaker: None,
        balancing: None,
        health: None,
    }
}
