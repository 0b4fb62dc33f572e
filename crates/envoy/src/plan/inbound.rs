//! Traffic to the workload (zone-dataplane 8.1).

use model::labels::SERVICE_TAG;
use model::spec::dataplane;
use model::spec::tags::Tags;
use model::spec::{mesh_circuit_breaker, mesh_timeout};

use super::Context;
use crate::names;
use crate::names::Naming;
use crate::policies::tls::{self, Parameters};
use crate::policies::traffic_permission::{self, Access};
use crate::protocol::Protocol;
use crate::view::Mtls;

/// Port of an inbound that stands for a workload without service.
pub const SERVICE_LESS: u32 = 49151;

/// One inbound.
#[derive(Clone, Debug)]
pub struct Inbound {
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
    /// Tags of the inbound, or its name where it has none.
    pub tags: Tags,
    /// What it speaks.
    pub protocol: Protocol,
    /// Name of the workload's cluster.
    pub cluster: String,
    /// Where the workload listens.
    pub workload: (String, u32),
    /// The address that the workload sees; `None`: any.
    pub source: Option<&'static str>,
    /// Name of its route configuration.
    pub route: String,
    /// Name of its virtual host.
    pub virtual_host: String,
    /// Whether clients prove who they are, and who may call.
    pub security: Option<Security>,
    /// How long it waits.
    pub timeout: mesh_timeout::Conf,
    /// How much it lets through.
    pub breaker: Option<mesh_circuit_breaker::Conf>,
}

/// How clients prove who they are.
#[derive(Clone, Debug)]
pub struct Security {
    /// Clients may also come without.
    pub permissive: bool,
    /// Versions and ciphers.
    pub parameters: Parameters,
    /// How the proxy proves itself, and whom it takes.
    pub identity: Identity,
    /// Trust domains that clients may be of, where a MeshIdentity says who the proxy is.
    pub domains: Vec<String>,
    /// Who may call.
    pub access: Access,
}

/// How a proxy proves who it is, and whom it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// By the certificate of its mesh.
    Mesh {
        /// Whoever is of a trust domain counts, instead of whoever is of the mesh.
        trust: bool,
    },
    /// By a MeshIdentity, under this name; whoever is of a trust domain counts.
    Workload(String),
}

/// The inbounds of a dataplane.
pub(super) fn plan(context: &Context<'_>) -> Vec<Inbound> {
    let Some(networking) = &context.dataplane.networking else { return Vec::new() };
    let redirected = context.input.node.transparent_proxy.is_some();
    let planned = networking.inbound.iter().enumerate().filter(|(_, inbound)| inbound.port != SERVICE_LESS);
    planned
        .map(|(position, inbound)| {
            let interface = dataplane::interface(networking, inbound);
            let unified = names::inbound_section(&dataplane::section_name(inbound));
            let service = inbound.tags.get(SERVICE_TAG).cloned().unwrap_or_default();
            let pick = |legacy: &str| context.naming.pick(legacy, &unified).to_owned();
            let name = pick(&names::inbound_listener(interface.address, interface.port));
            let loopback = ["127.0.0.1", "::1"].contains(&interface.workload_address);
            let source = if interface.workload_address.contains(':') { "::6" } else { "127.0.0.6" };
            let tags = if inbound.tags.is_empty() { unified_name(&unified) } else { inbound.tags.clone() };
            Inbound {
                stat_prefix: (context.naming == Naming::Unified).then(|| unified.clone()),
                address: interface.address.to_owned(),
                port: interface.port,
                bind: !redirected,
                tags,
                protocol: Protocol::of_inbound(&inbound.tags),
                cluster: pick(&names::local_cluster(interface.workload_port)),
                workload: (interface.workload_address.to_owned(), interface.workload_port),
                source: (redirected && !loopback).then_some(source),
                route: pick(&format!("inbound:{service}")),
                virtual_host: pick(&service),
                security: security(context, position),
                timeout: context.policies.timeout.inbound_conf(position).map(|(conf, _)| conf).unwrap_or_default(),
                breaker: context.policies.breaker.inbound_conf(position).map(|(conf, _)| conf),
                name,
            }
        })
        .collect()
}

/// Tags of a listener that has none of its own: the name that patches find it by.
pub(super) fn unified_name(name: &str) -> Tags {
    [("kuma.io/unified-name".to_owned(), name.to_owned())].into()
}

fn security(context: &Context<'_>, position: usize) -> Option<Security> {
    let mesh = context.view.mtls();
    let has_workload_identity = context.workload().is_some();
    if mesh == Mtls::Off && !has_workload_identity {
        return None;
    }
    let conf = context.policies.tls.inbound_conf(position).map(|(conf, _)| conf).unwrap_or_default();
    Some(Security {
        permissive: tls::is_permissive(&conf, if has_workload_identity { Mtls::Strict } else { mesh }),
        parameters: if has_workload_identity { tls::of_workload(&conf) } else { tls::of_inbound(&conf) },
        identity: context.identity(),
        domains: if has_workload_identity { context.trust().into_keys().collect() } else { Vec::new() },
        access: traffic_permission::access(context, position),
    })
}
