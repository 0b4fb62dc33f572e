//! Listeners and clusters of redirected connections (zone-dataplane 8.1, 8.5).

use kds_proto::envoy::config::cluster::v3::Cluster;
use kds_proto::envoy::config::cluster::v3::cluster::{DiscoveryType, LbPolicy};
use kds_proto::envoy::config::core::v3::{BindConfig, TrafficDirection};
use kds_proto::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener};
use sha2::{Digest, Sha256};

use super::filter::{self, Filters};
use super::{cluster, listener, pipe, route, socket_address};
use crate::plan::redirect::{Family, Names, Redirect};
use crate::plan::{Plan, SERVICE_LESS, Split};
use crate::protocol::Protocol;
use crate::resource::{Emitted, Type};

/// The cluster of what must not be reached.
const NOWHERE: &str = "self_transparentproxy_no_destination_inbound";
/// How long an answer may be kept, seconds.
const TTL: u32 = 30;
/// Networks whose addresses count as internal: the host alone.
const HOST: [&str; 2] = ["127.0.0.1/32", "::1/128"];

/// Everything about redirected connections.
pub fn resources(plan: &Plan, redirect: &Redirect) -> Vec<Emitted> {
    let nowhere = Cluster { alt_stat_name: NOWHERE.to_owned(), ..cluster::named(NOWHERE, DiscoveryType::Static) };
    let mut resources = vec![Emitted::new(Type::Cluster, NOWHERE, &nowhere)];
    for family in &redirect.families {
        let to_workload = Cluster {
            upstream_bind_config: Some(BindConfig {
                source_address: Some(socket_address(family.source, 0)),
                ..BindConfig::default()
            }),
            ..original(&family.inbound)
        };
        resources.push(Emitted::new(Type::Cluster, &family.inbound, &to_workload));
        if redirect.passthrough {
            resources.push(Emitted::new(Type::Cluster, &family.outbound, &original(&family.outbound)));
        }
        resources.push(Emitted::new(Type::Listener, &family.inbound, &inbound(plan, redirect, family)));
        resources.push(Emitted::new(Type::Listener, &family.outbound, &outbound(redirect, family)));
    }
    resources
}

/// Connections go where they were meant to go before they were redirected.
fn original(name: &str) -> Cluster {
    Cluster { lb_policy: LbPolicy::ClusterProvided.into(), ..cluster::named(name, DiscoveryType::OriginalDst) }
}

/// Ports that nothing is planned for have no chain: what is for them is closed.
fn inbound(plan: &Plan, redirect: &Redirect, family: &Family) -> Listener {
    let chains = match &redirect.ports {
        None => vec![forward(&family.inbound, &family.inbound)],
        Some(ports) => ports
            .iter()
            .map(|port| {
                let fits = FilterChainMatch { destination_port: Some(*port), ..FilterChainMatch::default() };
                let to = if *port == SERVICE_LESS { NOWHERE } else { &family.inbound };
                FilterChain { filter_chain_match: Some(fits), ..forward(&family.inbound, to) }
            })
            .collect(),
    };
    Listener {
        name: family.inbound.clone(),
        filter_chains: chains,
        use_original_dst: Some(true),
        ..listener::listen(family.any, redirect.inbound_port, TrafficDirection::Inbound, true, plan.reuse_port)
    }
}

fn outbound(redirect: &Redirect, family: &Family) -> Listener {
    Listener {
        name: family.outbound.clone(),
        filter_chains: vec![forward(&family.outbound, &family.outbound)],
        use_original_dst: Some(true),
        ..listener::listen(family.any, redirect.outbound_port, TrafficDirection::Outbound, true, false)
    }
}

fn forward(stat: &str, cluster: &str) -> FilterChain {
    let all = Split { cluster: cluster.to_owned(), weight: 1, external: false };
    let filters = Filters::bytes(filter::tcp_proxy(stat, &[all]));
    FilterChain { filters: filters.build(), ..FilterChain::default() }
}

/// The names, for kuma-dp to ask for: unchanged ones are not sent again.
pub fn names(plan: &Plan, names: &Names) -> Emitted {
    // Names and addresses are texts: they always have a JSON form.
    let body = serde_json::json!({ "records": names.records, "ttl": TTL }).to_string();
    let tag: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
    let routes = route::document(&names.name, "/dns", &body, &tag);
    let networks = HOST.map(str::to_owned);
    let filters = Filters::requests(filter::manager(&names.name, routes, Protocol::Http, &networks, plan.ipv6));
    let listener = Listener {
        name: names.name.clone(),
        address: Some(pipe(&names.socket)),
        filter_chains: vec![FilterChain { filters: filters.build(), ..FilterChain::default() }],
        ..Listener::default()
    };
    Emitted::new(Type::Listener, &names.name, &listener)
}
