//! What one proxy is to do, in types of our own: policies are selected, merged and resolved, names are chosen, nothing
//! is encoded. [`crate::emit`] turns a plan into Envoy resources, once, and looks at nothing else.

mod admin;
mod inbound;
mod outbound;
pub mod redirect;
pub mod zone;

use std::collections::{BTreeMap, BTreeSet};

use kds_proto::kuma::mesh::v1alpha1::Dataplane;
use model::policy::{self, Entry, Matched, Merge, Proxy, ResourceRules, SubsetRule};
use model::spec::tags::Tags;
use model::spec::target_ref::Policy;
use model::spec::{
    MeshCircuitBreaker, MeshHealthCheck, MeshHttpRoute, MeshLoadBalancingStrategy, MeshRetry, MeshTcpRoute,
    MeshTimeout, MeshTls, MeshTrafficPermission, mesh_circuit_breaker, mesh_health_check, mesh_http_route,
    mesh_load_balancing_strategy, mesh_retry, mesh_tcp_route, mesh_timeout,
};
use model::{Kri, labels};

use crate::destination::Destination;
use crate::input::{Error, Input, Secrets};
use crate::names::Naming;
use crate::policies::health_check;
use crate::view::View;

pub use admin::{Admin, Readiness};
pub use inbound::{Identity, Inbound, SERVICE_LESS, Security};
pub use outbound::{Assignment, Chain, Cluster, ClusterTls, Discovery, ExternalTls, Http, Outbound, Route, Split};

/// What a proxy is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The names that its resources have.
    pub naming: Naming,
    /// Its mesh; empty for zone proxies.
    pub mesh: String,
    /// Its tags, as it tells them to those whose health it asks for.
    pub tags: String,
    /// Networks whose addresses count as internal.
    pub internal_networks: Vec<String>,
    /// Whether the host has IPv6 addresses.
    pub ipv6: bool,
    /// Whether it has an IPv6 address itself.
    pub ipv6_address: bool,
    /// Whether listeners for traffic to it are shared by Envoy's workers through the kernel.
    pub reuse_port: bool,
    /// Traffic to its workload.
    pub inbounds: Vec<Inbound>,
    /// Traffic from its workload.
    pub outbounds: Vec<Outbound>,
    /// Destinations, by name.
    pub clusters: BTreeMap<String, Cluster>,
    /// Connections that are redirected to it.
    pub redirect: Option<redirect::Redirect>,
    /// Names that its workload may look up.
    pub names: Option<redirect::Names>,
    /// What it does at the edge of a zone.
    pub zone: zone::Zone,
    /// Envoy's own interface.
    pub admin: Option<Admin>,
    /// What it proves who it is with: what its resources refer to.
    pub secrets: Secrets,
    /// CAs by trust domain, PEM.
    pub trust: BTreeMap<String, Vec<u8>>,
}

/// The rules of one kind about destinations.
#[derive(Debug)]
pub struct To<C> {
    by_tag: Vec<SubsetRule<C>>,
    by_resource: ResourceRules<C>,
}

impl<C: Merge> To<C> {
    fn new<P: Policy>(view: &View<'_>, matched: &Matched<P>) -> Self
    where
        P::To: Entry<Conf = C>,
    {
        Self { by_tag: matched.to_rules(), by_resource: matched.resource_rules(view.snapshot) }
    }

    /// The rules of all policies of a mesh, as its egress goes by them.
    pub fn at_egress<P: Policy>(view: &View<'_>) -> Self
    where
        P::To: Entry<Conf = C>,
    {
        let matched = Matched::<P>::at_egress(view.snapshot, &view.name, None);
        Self { by_tag: Vec::new(), by_resource: matched.resource_rules(view.snapshot) }
    }

    /// What holds for a destination.
    pub fn conf(&self, destination: &Destination) -> Option<&C> {
        match destination {
            Destination::Tagged(tagged) => self.by_service(&tagged.service).map(|rule| &rule.conf),
            Destination::Port(port) => self.rule(port).and_then(|rule| rule.conf.first()),
        }
    }

    /// What holds for requests of one route to a destination.
    pub fn route_conf(&self, route: Option<&Kri>, destination: &Destination) -> Option<&C> {
        let exactly = |kri: &Kri| self.by_resource.exactly(kri).and_then(|rule| rule.conf.first());
        route
            .filter(|_| matches!(destination, Destination::Port(_)))
            .and_then(|route| exactly(route).or_else(|| exactly(&route.with_section(""))))
            .or_else(|| self.conf(destination))
    }

    /// The rule for a port of a resource: by the section that the outbound names, by the port's name, by the whole.
    pub fn rule(&self, port: &crate::destination::Port) -> Option<&policy::ResourceRule<C>> {
        self.by_resource.exactly(&port.kri).or_else(|| self.by_resource.compute(&port.named()))
    }

    /// The rule for a service tag.
    pub fn by_service(&self, service: &str) -> Option<&SubsetRule<C>> {
        policy::compute(&self.by_tag, &[(labels::SERVICE_TAG.to_owned(), service.to_owned())].into())
    }
}

/// Every policy that holds for one dataplane.
#[derive(Debug)]
pub struct Policies {
    /// Who may call.
    pub permission: Matched<MeshTrafficPermission>,
    /// Waiting, inbound.
    pub timeout: Matched<MeshTimeout>,
    /// Waiting, outbound.
    pub timeout_to: To<mesh_timeout::Conf>,
    /// Limits, inbound.
    pub breaker: Matched<MeshCircuitBreaker>,
    /// Limits, outbound.
    pub breaker_to: To<mesh_circuit_breaker::Conf>,
    /// Trying again.
    pub retry_to: To<mesh_retry::Conf>,
    /// Choosing among endpoints.
    pub balancing_to: To<mesh_load_balancing_strategy::Conf>,
    /// Probing endpoints.
    pub health_to: To<mesh_health_check::Conf>,
    /// Routes of requests.
    pub http_route_to: To<mesh_http_route::Rules>,
    /// Routes of connections.
    pub tcp_route_to: To<mesh_tcp_route::Rule>,
    /// TLS of inbounds, and of what they call.
    pub tls: Matched<MeshTls>,
}

impl Policies {
    fn new(view: &View<'_>, proxy: Proxy<'_>) -> Self {
        let snapshot = view.snapshot;
        let timeout = Matched::<MeshTimeout>::new(snapshot, proxy, false);
        let breaker = Matched::<MeshCircuitBreaker>::new(snapshot, proxy, false);
        Self {
            permission: Matched::new(snapshot, proxy, false),
            timeout_to: To::new(view, &timeout),
            timeout,
            breaker_to: To::new(view, &breaker),
            breaker,
            retry_to: To::new(view, &Matched::<MeshRetry>::new(snapshot, proxy, false)),
            balancing_to: To::new(view, &Matched::<MeshLoadBalancingStrategy>::new(snapshot, proxy, false)),
            health_to: To::new(view, &Matched::<MeshHealthCheck>::new(snapshot, proxy, false)),
            http_route_to: To::new(view, &Matched::<MeshHttpRoute>::new(snapshot, proxy, false)),
            tcp_route_to: To::new(view, &Matched::<MeshTcpRoute>::new(snapshot, proxy, false)),
            tls: Matched::new(snapshot, proxy, false),
        }
    }
}

/// A dataplane, its mesh and its policies: what the parts of a plan are made from.
pub struct Context<'a> {
    /// The mesh.
    pub view: View<'a>,
    /// Everything given.
    pub input: Input<'a>,
    /// The proxy.
    pub dataplane: &'a Dataplane,
    /// What holds for it.
    pub policies: Policies,
    /// The names of its resources.
    pub naming: Naming,
}

impl Context<'_> {
    /// The name of the secret that a MeshIdentity gives it.
    pub fn workload(&self) -> Option<&str> {
        self.input.secrets.workload.as_ref().map(|(name, _)| name.as_str())
    }

    /// How it proves who it is to clients and to services that are resources.
    pub fn identity(&self) -> Identity {
        match self.workload() {
            Some(name) => Identity::Workload(name.to_owned()),
            None => Identity::Mesh { trust: self.view.has_trust() },
        }
    }

    /// The CAs of each trust domain.
    pub fn trust(&self) -> BTreeMap<String, Vec<u8>> {
        let cas = &self.input.secrets.mesh_cas;
        let own = cas.iter().find(|(mesh, _)| *mesh == self.view.name).map(|(_, ca)| &**ca);
        self.view.trust(own)
    }

    /// Every value of each tag that the proxy has, sorted.
    pub fn first_value(&self, key: &str) -> Option<&str> {
        let values = model::spec::dataplane::tag_sets(self.dataplane).filter_map(|tags: &Tags| tags.get(key));
        values.min().map(String::as_str)
    }
}

/// The plan of a dataplane.
///
/// # Errors
/// Its resource cannot be read, or its mesh is not there.
pub fn of_dataplane(input: Input<'_>) -> Result<Plan, Error> {
    let key = &input.resource.meta.key;
    let unreadable = |reason: String| Error::Proxy { kind: key.kind, name: key.name.to_string(), reason };
    let dataplane = input.resource.spec.message::<Dataplane>().map_err(|error| unreadable(error.to_string()))?;
    let view = View::new(input.snapshot, input.settings, &key.mesh)?;
    let proxy = Proxy { meta: &input.resource.meta, dataplane: &dataplane };
    let policies = Policies::new(&view, proxy);
    let naming = view.naming(input.node.features.unified_naming);
    let context = Context { view, input, dataplane: &dataplane, policies, naming };
    let (outbounds, clusters) = outbound::plan(&context);
    let reachable = outbound::reachable(&context);
    let address = dataplane.networking.as_ref().map(|networking| networking.address.as_str()).unwrap_or_default();
    let inbounds = inbound::plan(&context);
    let secrets = secrets(&context, &inbounds, &clusters);
    Ok(Plan {
        naming,
        mesh: key.mesh.to_string(),
        tags: health_check::client(tag_values(&dataplane)),
        internal_networks: input.settings.internal_networks.clone(),
        ipv6: input.node.ipv6,
        ipv6_address: address.contains(':'),
        reuse_port: input.node.features.reuse_port,
        inbounds,
        outbounds,
        clusters,
        redirect: redirect::plan(&context),
        names: redirect::names(&context, reachable.iter().map(|service| &***service)),
        zone: zone::Zone::default(),
        admin: Admin::new(input.node, address, input.secrets),
        secrets,
        trust: context.trust(),
    })
}

/// Every value of each tag of a proxy.
fn tag_values(dataplane: &Dataplane) -> BTreeMap<String, BTreeSet<String>> {
    let mut values: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (key, value) in model::spec::dataplane::tag_sets(dataplane).flatten() {
        values.entry(key.clone()).or_default().insert(value.clone());
    }
    values
}

/// What is handed out in the mesh: what something refers to. A secret that nobody asks for stays here.
fn secrets(context: &Context<'_>, inbounds: &[Inbound], clusters: &BTreeMap<String, Cluster>) -> Secrets {
    let given = context.input.secrets;
    let of_inbounds =
        inbounds.iter().filter_map(|inbound| inbound.security.as_ref()).map(|security| &security.identity);
    let of_clusters = clusters.values().filter_map(|cluster| match &cluster.tls {
        Some(ClusterTls::Mesh { identity, .. }) => Some(identity),
        _ => None,
    });
    let (mut of_mesh, mut of_its_ca) = (false, false);
    for identity in of_inbounds.chain(of_clusters) {
        of_mesh |= matches!(identity, Identity::Mesh { .. });
        of_its_ca |= matches!(identity, Identity::Mesh { trust: false });
    }
    Secrets {
        workload: given.workload.clone(),
        identities: if of_mesh { given.identities.clone() } else { Vec::new() },
        mesh_cas: if of_its_ca { given.mesh_cas.clone() } else { Vec::new() },
        ..Secrets::default()
    }
}
