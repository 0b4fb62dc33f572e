//! Envoy's own interface (zone-dataplane 1.7).

use kds_proto::envoy::config::cluster::v3::cluster::DiscoveryType;
use kds_proto::envoy::config::core::v3::TrafficDirection;
use kds_proto::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener};

use super::filter::{self, Filters};
use super::{cluster, listener, route, socket, tls};
use crate::plan::{Admin, Plan};
use crate::protocol::Protocol;
use crate::resource::{Emitted, Type};

/// The name in the control plane's client certificate.
const CLIENT: &str = "kuma-cp";
/// Networks whose addresses count as internal: the host alone.
const HOST: [&str; 2] = ["127.0.0.1/32", "::1/128"];

/// The interface, who says whether the proxy is ready, and a listener for both on the proxy's own address.
pub fn resources(plan: &Plan, admin: &Admin) -> Vec<Emitted> {
    let name = admin.naming.pick("kuma:envoy:admin", "system_envoy_admin");
    let readiness_name = admin.naming.pick("kuma:readiness", "system_probe_readiness");
    let interface =
        cluster::fixed(name, vec![cluster::host(socket(&admin.address, admin.port))], DiscoveryType::Static);
    let readiness = match &admin.readiness {
        crate::plan::Readiness::Socket(path) => cluster::local_socket(path),
        crate::plan::Readiness::Port(port) => cluster::host(socket(&admin.address, *port)),
    };
    let readiness = cluster::fixed(readiness_name, vec![readiness], DiscoveryType::Static);
    let mut resources =
        vec![Emitted::new(Type::Cluster, name, &interface), Emitted::new(Type::Cluster, readiness_name, &readiness)];
    if let Some(address) = &admin.listen {
        let listener = listener(plan, admin, address, name, readiness_name);
        resources.push(Emitted::new(Type::Listener, name, &listener));
    }
    resources
}

/// Everybody may ask whether the proxy is ready; the control plane may ask everything.
fn listener(plan: &Plan, admin: &Admin, address: &str, name: &str, readiness: &str) -> Listener {
    let ready = ("/ready", readiness);
    let filters = |paths: &[(&str, &str)]| {
        let routes = route::fixed(name, paths);
        Filters::requests(filter::manager(name, routes, Protocol::Http, &HOST.map(str::to_owned), plan.ipv6)).build()
    };
    let open = FilterChain { filters: filters(&[ready]), ..FilterChain::default() };
    let closed = FilterChain {
        filter_chain_match: Some(FilterChainMatch {
            transport_protocol: "tls".to_owned(),
            ..FilterChainMatch::default()
        }),
        filters: filters(&[ready, ("/", name)]),
        transport_socket: Some(tls::admin(&admin.identity, &admin.ca, CLIENT)),
        ..FilterChain::default()
    };
    Listener {
        name: name.to_owned(),
        filter_chains: vec![open, closed],
        listener_filters: vec![listener::tls_inspector()],
        ..listener::listen(address, admin.port, TrafficDirection::Inbound, true, plan.reuse_port)
    }
}
