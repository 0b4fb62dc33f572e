//! Connections that are redirected to the proxy (zone-dataplane 8.1): those to ports that nothing is planned for, those to
//! addresses outside the mesh, and the names that the workload may look up.

use std::collections::BTreeMap;

use model::spec::hostname_generator::Address;
use model::spec::{mesh_external_service, mesh_multi_zone_service, mesh_service};
use model::{Kind, Resource};

use super::Context;
use crate::names::Naming;
use crate::view::Mtls;

/// Redirected connections.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// IPv4, and IPv6 where that is redirected too.
    pub families: Vec<Family>,
    /// Port for connections to the workload.
    pub inbound_port: u32,
    /// Port for connections from the workload.
    pub outbound_port: u32,
    /// The ports that connections to the workload may be for; `None`: any.
    pub ports: Option<Vec<u32>>,
    /// Whether addresses outside the mesh may be called.
    pub passthrough: bool,
}

/// The resources of one family of addresses.
#[derive(Clone, Debug)]
pub struct Family {
    /// Name of listener and cluster for connections to the workload.
    pub inbound: String,
    /// Name of listener and cluster for connections from the workload.
    pub outbound: String,
    /// Every address.
    pub any: &'static str,
    /// The address that the workload sees.
    pub source: &'static str,
}

/// Names that the workload may look up, and where kuma-dp asks for them.
#[derive(Clone, Debug)]
pub struct Names {
    /// Name of the listener.
    pub name: String,
    /// Path of its socket.
    pub socket: String,
    /// Addresses of each name, sorted.
    pub records: Vec<Record>,
}

/// The addresses of a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Record {
    /// The name.
    pub name: String,
    /// Its addresses.
    pub ips: Vec<String>,
}

/// `None` where nothing is redirected, or outbounds are bound instead.
pub(super) fn plan(context: &Context<'_>) -> Option<Redirect> {
    let node = context.input.node;
    let redirected = node.transparent_proxy.filter(|_| !node.features.bind_outbounds)?;
    let networking = context.dataplane.networking.as_ref()?;
    let is_strict = context.view.mtls() == Mtls::Strict || context.workload().is_some();
    let strict = node.features.strict_inbound_ports && is_strict;
    let mut ports: Vec<u32> = networking.inbound.iter().map(|inbound| inbound.port).collect();
    let mut seen = std::collections::BTreeSet::new();
    ports.retain(|port| seen.insert(*port));
    let mut families = vec![family(context.naming, 4)];
    if redirected.ipv6 {
        families.push(family(context.naming, 6));
    }
    let outbound = context.view.mesh.networking.as_ref().and_then(|networking| networking.outbound.as_ref());
    Some(Redirect {
        families,
        inbound_port: redirected.inbound_port,
        outbound_port: redirected.outbound_port,
        ports: (strict && !ports.is_empty()).then_some(ports),
        passthrough: outbound.and_then(|outbound| outbound.passthrough).unwrap_or(true),
    })
}

fn family(naming: Naming, version: u8) -> Family {
    let name = |direction: &str| {
        let unified = format!("self_transparentproxy_passthrough_{direction}_ipv{version}");
        naming.pick(&format!("{direction}:passthrough:ipv{version}"), &unified).to_owned()
    };
    let (any, source) = if version == 4 { ("0.0.0.0", "127.0.0.6") } else { ("::", "::6") };
    Family { inbound: name("inbound"), outbound: name("outbound"), any, source }
}

/// Names of the services that the workload has outbounds for, by their virtual addresses.
pub(super) fn names<'a>(context: &Context<'_>, services: impl Iterator<Item = &'a Resource>) -> Option<Names> {
    let node = context.input.node;
    let redirected = node.transparent_proxy.filter(|_| node.features.embedded_dns)?;
    let mut records: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for service in services {
        let (vips, addresses) = addresses(service);
        for vip in vips {
            for address in &addresses {
                let ips = records.entry(address.hostname.clone()).or_default();
                let mapped = vip.parse().ok().filter(|_| redirected.ipv6).map(mapped);
                for ip in [Some(vip.clone()), mapped].into_iter().flatten() {
                    if !ips.contains(&ip) {
                        ips.push(ip);
                    }
                }
            }
        }
    }
    Some(Names {
        name: context.naming.pick("_kuma:dynamicconfig", "system_dynamicconfig").to_owned(),
        socket: format!("{}/kuma-mesh-metric-config.sock", node.work_dir),
        records: records.into_iter().map(|(name, ips)| Record { name, ips }).collect(),
    })
}

/// `::ffff:` and the four bytes, as Kuma writes them: `::ffff:f100:2`.
fn mapped(ip: std::net::Ipv4Addr) -> String {
    let [a, b, c, d] = ip.octets().map(u32::from);
    format!("::ffff:{:x}:{:x}", a << 8 | b, c << 8 | d)
}

/// Virtual addresses and names of a service.
pub(super) fn addresses(service: &Resource) -> (Vec<String>, Vec<Address>) {
    let Some(status) = &service.status else { return (Vec::new(), Vec::new()) };
    let ips = |vips: &[mesh_service::Vip]| {
        vips.iter().map(|vip| vip.ip.clone()).filter(|ip| !ip.is_empty()).collect::<Vec<_>>()
    };
    match service.kind() {
        Kind::MeshService => {
            status.json::<mesh_service::Status>().map(|status| (ips(&status.vips), status.addresses.clone()))
        }
        Kind::MeshMultiZoneService => {
            status.json::<mesh_multi_zone_service::Status>().map(|status| (ips(&status.vips), status.addresses.clone()))
        }
        _ => status
            .json::<mesh_external_service::Status>()
            .map(|status| (ips(std::slice::from_ref(&status.vip)), status.addresses.clone())),
    }
    .unwrap_or_default()
}
