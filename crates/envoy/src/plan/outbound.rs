//! Traffic from the workload (zone-dataplane 8.3): listeners, routes, and the clusters that they lead to.

use std::collections::BTreeMap;
use std::sync::Arc;

use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::Outbound as Asked;
use model::labels::{MESH, PROTOCOL_TAG};
use model::policy::ResourceSection;
use model::spec::tags::Tags;
use model::spec::target_ref::{BackendRef, TargetKind, TargetRef};
use model::spec::{
    mesh_circuit_breaker, mesh_external_service, mesh_health_check, mesh_load_balancing_strategy, mesh_timeout,
    outbound,
};

use super::inbound::{Identity, unified_name};
use super::{Context, redirect};
use crate::destination::{Destination, Port, Tagged, ports};
use crate::endpoint::Endpoint;
use crate::names::{self, Naming};
use crate::policies::load_balancing;
use crate::policies::tls::{self, Parameters};
use crate::policies::{http_route, retry, tcp_route, timeout};
use crate::protocol::Protocol;
use crate::view::Mtls;
use model::{Kind, Resource};

pub use crate::policies::http_route::Route;

/// One outbound.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// Name of the listener.
    pub name: String,
    /// Prefix of the listener's statistics; `None`: its address.
    pub stat_prefix: Option<String>,
    /// Where it listens.
    pub address: String,
    /// Where it listens.
    pub port: u32,
    /// Whether it opens a socket; not where connections are redirected.
    pub bind: bool,
    /// What patches find it by.
    pub tags: Tags,
    /// What it speaks.
    pub protocol: Protocol,
    /// What its filters are called in statistics.
    pub stat: String,
    /// What it does.
    pub chain: Chain,
}

/// What an outbound does with what it accepts.
#[derive(Clone, Debug)]
pub enum Chain {
    /// Sends requests where their routes say.
    Http(Http),
    /// Forwards bytes.
    Tcp {
        /// Where to.
        splits: Vec<Split>,
        /// How long a connection may be silent; `None`: as long as Envoy lets it.
        idle: Option<prost_types::Duration>,
        /// How often to try to connect; `None`: once.
        attempts: Option<u32>,
    },
}

/// Requests and their routes.
#[derive(Clone, Debug)]
pub struct Http {
    /// Name of the route configuration.
    pub route: String,
    /// Name of its virtual host.
    pub virtual_host: String,
    /// What is done with which requests, the first that fits.
    pub routes: Vec<Route>,
    /// How long headers may take; `None`: not said.
    pub request_headers: Option<prost_types::Duration>,
}

/// A share of the traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The cluster that it goes to.
    pub cluster: String,
    /// Its weight.
    pub weight: u32,
    /// Whether that is outside the mesh.
    pub external: bool,
}

/// A destination.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// The tags that patches know its listeners by.
    pub destination: Destination,
    /// How its endpoints are found.
    pub discovery: Discovery,
    /// How it is proven who answers.
    pub tls: Option<ClusterTls>,
    /// The version of HTTP that is spoken; `None`: bytes.
    pub http: Option<Protocol>,
    /// What its timeouts treat it as.
    pub protocol: Protocol,
    /// How long to wait.
    pub timeout: Option<mesh_timeout::Conf>,
    /// How much to let through.
    pub breaker: Option<mesh_circuit_breaker::Conf>,
    /// How to choose an endpoint.
    pub balancing: Option<mesh_load_balancing_strategy::Conf>,
    /// How to probe endpoints.
    pub health: Option<mesh_health_check::Conf>,
}

/// How endpoints are found.
#[derive(Clone, Debug)]
pub enum Discovery {
    /// They are sent on their own.
    Eds(Assignment),
    /// They are part of the cluster: addresses, or names that Envoy resolves.
    Fixed(Assignment),
}

/// Endpoints and how they share traffic.
#[derive(Clone, Debug, Default)]
pub struct Assignment {
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
    /// How far the health of a priority is rounded up, percent; `None`: as Envoy does.
    pub overprovisioning: Option<u32>,
}

/// How it is proven who answers.
#[derive(Clone, Debug)]
pub enum ClusterTls {
    /// Workloads of a mesh.
    Mesh {
        /// The mesh whose CAs count.
        mesh: String,
        /// Identifiers that may answer; empty: any of the mesh.
        identities: Vec<String>,
        /// The server name.
        sni: String,
        /// How the proxy proves itself, and whom it takes.
        identity: Identity,
        /// Versions and ciphers.
        parameters: Parameters,
    },
    /// Somebody outside, by endpoint.
    External(Vec<(Endpoint, ExternalTls)>),
}

/// TLS towards somebody outside the mesh.
#[derive(Clone, Debug, Default)]
pub struct ExternalTls {
    /// The server name.
    pub sni: String,
    /// The host, whose name the certificate must have.
    pub host: String,
    /// The certificate's name is not looked at.
    pub skip_name: bool,
    /// CAs, PEM.
    pub ca: Option<bytes::Bytes>,
    /// File with CAs that count where there are no others; empty: none.
    pub system_ca: String,
    /// What to prove who one is with.
    pub identity: Option<crate::input::KeyPair>,
    /// Whether the other side may start over.
    pub allow_renegotiation: bool,
    /// Names that the certificate may have beside.
    pub names: Vec<(mesh_external_service::SanMatchType, String)>,
    /// Versions.
    pub parameters: Parameters,
    /// All endpoints take it, whatever their tags.
    pub shared: bool,
}

type Clusters = BTreeMap<String, Cluster>;

/// Outbounds of a dataplane and the clusters that they lead to.
pub(super) fn plan(context: &Context<'_>) -> (Vec<Outbound>, Clusters) {
    let mut clusters = Clusters::new();
    let redirected = context.input.node.transparent_proxy.is_some();
    let places = if redirected { of_virtual_addresses(context) } else { as_asked(context) };
    let outbounds = places.into_iter().filter_map(|place| plan_one(context, place, &mut clusters)).collect();
    (outbounds, clusters)
}

/// Where an outbound listens, and what it leads to.
struct Place {
    address: String,
    port: u32,
    destination: Destination,
}

/// The outbounds that the dataplane lists.
fn as_asked(context: &Context<'_>) -> Vec<Place> {
    let asked = context.dataplane.networking.iter().flat_map(|networking| &networking.outbound);
    let place = |asked: &Asked| {
        let destination = destination(context, asked)?;
        Some(Place { address: outbound::address(asked).to_owned(), port: asked.port, destination })
    };
    asked.filter_map(place).collect()
}

/// An outbound for each port of each service that has a virtual address.
fn of_virtual_addresses(context: &Context<'_>) -> Vec<Place> {
    let mut places = Vec::new();
    for service in reachable(context) {
        let (vips, _) = redirect::addresses(service);
        for (section, _, _) in ports(service) {
            let Some(port) = Port::find(&ResourceSection { resource: Arc::clone(service), section }) else { continue };
            places.extend(vips.iter().map(|vip| Place {
                address: vip.clone(),
                port: port.number,
                destination: Destination::Port(port.clone()),
            }));
        }
    }
    places
}

/// The services of the mesh that the proxy is to know: all of them, or those that it lists.
pub(super) fn reachable<'a>(context: &Context<'a>) -> Vec<&'a Arc<Resource>> {
    use kds_proto::kuma::mesh::v1alpha1::mesh::mesh_services::Mode;
    let view = &context.view;
    let redirected = context.dataplane.networking.as_ref().and_then(|net| net.transparent_proxying.as_ref());
    let listed = redirected.and_then(|redirected| redirected.reachable_backends.as_ref());
    let mode = view.mesh.mesh_services.as_ref().map(|services| services.mode());
    if mode == Some(Mode::ReachableBackends) && listed.is_none() {
        return Vec::new();
    }
    let is_listed = |resource: &&Arc<Resource>| {
        listed.is_none_or(|listed| {
            listed.refs.iter().any(|reference| {
                let meta = &resource.meta;
                let named = reference.name.is_empty() || reference.name == meta.display_name();
                let labelled = reference.labels.iter().all(|(key, value)| meta.labels.get(key) == Some(value));
                reference.kind == meta.key.kind.info().name && named && labelled
            })
        })
    };
    let kinds = [Kind::MeshService, Kind::MeshExternalService, Kind::MeshMultiZoneService];
    kinds.into_iter().flat_map(|kind| view.snapshot.list_in(kind, &view.name)).filter(is_listed).collect()
}

/// `None` when it leads nowhere: to nothing that is there, or to nothing that speaks its protocol.
fn plan_one(context: &Context<'_>, place: Place, clusters: &mut Clusters) -> Option<Outbound> {
    let Place { address, port, destination } = place;
    let protocol = destination.protocol(&context.view);
    let legacy = names::outbound_listener(&address, port);
    let (kri, tags) = match &destination {
        Destination::Tagged(tagged) => {
            let mut tags = tagged.all();
            tags.remove(MESH);
            (None, tags)
        }
        Destination::Port(port) => (Some(port.kri.to_string()), unified_name(&port.kri.to_string())),
    };
    let unified = kri.as_deref().filter(|_| context.naming == Naming::Unified);
    let chain = http(context, &destination, protocol, clusters)
        .map(Chain::Http)
        .or_else(|| tcp(context, &destination, protocol, clusters))?;
    Some(Outbound {
        name: unified.unwrap_or(&legacy).to_owned(),
        stat_prefix: unified.map(str::to_owned),
        address,
        port,
        bind: context.input.node.transparent_proxy.is_none() || context.input.node.features.bind_outbounds,
        tags,
        protocol,
        stat: unified.map_or_else(|| destination.service(), str::to_owned),
        chain,
    })
}

fn destination(context: &Context<'_>, asked: &Asked) -> Option<Destination> {
    let Some(backend) = &asked.backend_ref else {
        return Some(Destination::Tagged(Tagged::new(&asked.tags)));
    };
    let mut target = TargetRef::of(TargetKind::from(backend.kind.as_str()));
    target.name = Some(backend.name.clone()).filter(|name| !name.is_empty());
    target.labels = Some(backend.labels.clone()).filter(|labels| !labels.is_empty());
    let backend = BackendRef { target, weight: 1, port: Some(backend.port) };
    Destination::of_backend(&context.view, &context.input.resource.meta, &backend)
}

fn http(context: &Context<'_>, destination: &Destination, protocol: Protocol, clusters: &mut Clusters) -> Option<Http> {
    let routes: Vec<Route> = http_route::routes(context, destination, protocol)?
        .into_iter()
        .filter_map(|route| {
            http_route::resolve(context, destination, protocol, route, &mut |to| cluster(context, to, clusters))
        })
        .collect();
    if routes.is_empty() {
        return None;
    }
    let legacy = format!("outbound:{}", destination.service());
    let (route, virtual_host) = match destination {
        Destination::Tagged(tagged) => (legacy, tagged.service.clone()),
        Destination::Port(port) => {
            let kri = port.kri.to_string();
            let virtual_host = context.naming.pick(&port.service(), &kri).to_owned();
            (kri, virtual_host)
        }
    };
    let conf = timeout::of_listener(context, destination);
    Some(Http { route, virtual_host, routes, request_headers: conf.as_ref().map(timeout::request_headers) })
}

fn tcp(context: &Context<'_>, destination: &Destination, protocol: Protocol, clusters: &mut Clusters) -> Option<Chain> {
    let backends = tcp_route::backends(context, destination, protocol)?;
    let splits = backends
        .iter()
        .filter(|(_, weight)| *weight > 0)
        .map(|(to, weight)| Split {
            cluster: cluster(context, to, clusters),
            weight: *weight,
            external: to.is_external(&context.view),
        })
        .collect();
    let bytes = !protocol.is_http();
    let conf = timeout::of_listener(context, destination).filter(|_| bytes);
    let idle = conf.as_ref().map(timeout::idle);
    let attempts = retry::connect_attempts(context, destination, protocol);
    Some(Chain::Tcp { splits, idle, attempts })
}

/// The name of a destination's cluster, which is planned when it is new.
fn cluster(context: &Context<'_>, destination: &Destination, clusters: &mut Clusters) -> String {
    let name = destination.cluster(context.naming);
    if !clusters.contains_key(&name) {
        clusters.insert(name.clone(), plan_cluster(context, &name, destination));
    }
    name
}

fn plan_cluster(context: &Context<'_>, name: &str, destination: &Destination) -> Cluster {
    let view = &context.view;
    let policies = &context.policies;
    let protocol = destination.protocol(view);
    let external = destination.is_external(view);
    let is_resource = matches!(destination, Destination::Port(_));
    let balancing = policies.balancing_to.conf(destination).cloned();
    let direct = matches!(destination, Destination::Tagged(_)) && external && !view.uses_egress();
    let (discovery, tls) = match destination {
        Destination::Tagged(tagged) if direct => crate::external::direct(context, tagged),
        _ => {
            let endpoints = destination.endpoints(view);
            let assignment = load_balancing::assignment(context, endpoints, balancing.as_ref(), is_resource);
            (Discovery::Eds(assignment), mesh_tls(context, destination, external))
        }
    };
    let http = match protocol {
        _ if !external => Some(Protocol::Http2),
        Protocol::Http => Some(Protocol::Http),
        Protocol::Http2 | Protocol::Grpc => Some(Protocol::Http2),
        Protocol::Unknown | Protocol::Tcp | Protocol::Kafka => None,
    };
    Cluster {
        name: name.to_owned(),
        destination: destination.clone(),
        discovery,
        tls,
        http,
        protocol: of_cluster(context, destination, protocol),
        timeout: Some(policies.timeout_to.conf(destination).cloned().unwrap_or_default()),
        breaker: policies.breaker_to.conf(destination).filter(|_| !(is_resource && external)).cloned(),
        balancing,
        health: policies.health_to.conf(destination).filter(|_| !(is_resource && external)).cloned(),
    }
}

/// What the timeouts of a cluster treat it as. For a service of several zones that is what its endpoints say, and those of
/// other zones do not say anything, as in Kuma.
fn of_cluster(context: &Context<'_>, destination: &Destination, protocol: Protocol) -> Protocol {
    match destination {
        Destination::Port(port) if port.kind() == Kind::MeshMultiZoneService => {
            let endpoints = port.endpoints(&context.view);
            let said = |endpoint: &Endpoint| {
                endpoint.tags.get(PROTOCOL_TAG).map_or(Protocol::Unknown, |word| Protocol::parse(word))
            };
            Protocol::common(endpoints.iter().map(said))
        }
        _ => protocol,
    }
}

/// Identity of whoever answers in the name of the zone's egress.
const EGRESS_SERVICE: &str = "zone-egress";

fn mesh_tls(context: &Context<'_>, destination: &Destination, external: bool) -> Option<ClusterTls> {
    let view = &context.view;
    let ready = match destination {
        _ if external => true,
        Destination::Tagged(tagged) => view.is_tls_ready(&tagged.service),
        Destination::Port(port) => port.is_tls_ready(view.zone()),
    };
    // To services by tag and to what is outside a proxy shows the certificate of its mesh, whatever it has besides.
    let has_workload_identity =
        context.workload().is_some() && !external && matches!(destination, Destination::Port(_));
    if !has_workload_identity && (view.mtls() == Mtls::Off || (view.mtls() == Mtls::Permissive && !ready)) {
        return None;
    }
    let spiffe = |service: &str| format!("spiffe://{}/{service}", view.name);
    let (identities, sni) = match destination {
        Destination::Tagged(tagged) => {
            let service = if external { EGRESS_SERVICE } else { &tagged.service };
            (vec![spiffe(service)], tagged.sni(&view.name))
        }
        Destination::Port(port) if external => {
            (vec![spiffe(EGRESS_SERVICE)], port.sni(view.settings.system_namespace.as_deref()))
        }
        Destination::Port(port) => {
            let identity = |identity: String| {
                if identity.starts_with("spiffe://") { identity } else { spiffe(&identity) }
            };
            let mut identities: Vec<String> = port.identities(view).into_iter().map(identity).collect();
            identities.sort();
            (identities, port.sni(view.settings.system_namespace.as_deref()))
        }
    };
    Some(ClusterTls::Mesh {
        mesh: view.name.clone(),
        identities,
        sni,
        identity: if has_workload_identity {
            context.identity()
        } else {
            Identity::Mesh { trust: view.has_trust() && !external }
        },
        parameters: if external && matches!(destination, Destination::Port(_)) {
            Parameters::default()
        } else {
            tls::of_clients(context)
        },
    })
}
