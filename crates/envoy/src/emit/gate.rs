//! The listener of a zone proxy (zone-dataplane 5.4, 6.4).

use kds_proto::envoy::config::core::v3::DataSource;
use kds_proto::envoy::config::core::v3::TrafficDirection;
use kds_proto::envoy::config::core::v3::data_source::Specifier;
use kds_proto::envoy::config::listener::v3::{
    Filter, FilterChain, FilterChainMatch, Listener, filter as listener_filter,
};
use kds_proto::envoy::extensions::filters::network::direct_response::v3::Config;
use kds_proto::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;

use super::filter::{self, Filters};
use super::{any, listener as listeners, metadata, rbac, route, tls};
use crate::plan::zone::{Gate, GateChain, Terminated};
use crate::plan::{Plan, Split};

/// One chain for each server name; none of them fits what is not TLS.
pub fn listener(plan: &Plan, gate: &Gate) -> Listener {
    let mut chains: Vec<FilterChain> = gate.chains.iter().map(|chain| of_chain(plan, gate, chain)).collect();
    chains.extend(gate.greeting.as_deref().map(greeting));
    Listener {
        name: gate.name.clone(),
        stat_prefix: gate.stat_prefix.clone().unwrap_or_default(),
        filter_chains: chains,
        listener_filters: vec![listeners::tls_inspector()],
        ..listeners::listen(&gate.address, gate.port, TrafficDirection::Inbound, true, plan.reuse_port)
    }
}

fn of_chain(plan: &Plan, gate: &Gate, chain: &GateChain) -> FilterChain {
    let fits = FilterChainMatch {
        transport_protocol: "tls".to_owned(),
        server_names: vec![chain.sni.clone()],
        ..FilterChainMatch::default()
    };
    let base = FilterChain { filter_chain_match: Some(fits), ..FilterChain::default() };
    match &chain.terminated {
        None => FilterChain { filters: pass_on(chain, &chain.cluster).build(), ..base },
        Some(terminated) => FilterChain {
            name: terminated.name.clone(),
            filters: terminate(plan, gate, chain, terminated),
            transport_socket: Some(tls::inbound(terminated.naming, &terminated.mesh, &terminated.security)),
            ..base
        },
    }
}

fn pass_on(chain: &GateChain, stat: &str) -> Filters {
    let all = Split { cluster: chain.cluster.clone(), weight: 1, external: false };
    let proxy = filter::tcp_proxy(stat, &[all]);
    Filters::bytes(TcpProxy { metadata_match: metadata(&["envoy.lb"], &chain.subset), ..proxy })
}

fn terminate(plan: &Plan, gate: &Gate, chain: &GateChain, terminated: &Terminated) -> Vec<Filter> {
    let mut filters = if terminated.protocol.is_http() {
        let routes = route::outside(&terminated.route, &terminated.virtual_host, &chain.cluster);
        // Calls are not told apart here: the workload's own proxy counts them.
        let protocol = crate::protocol::Protocol::Http;
        Filters::requests(filter::manager(&terminated.stat, routes, protocol, &plan.internal_networks, plan.ipv6))
    } else {
        pass_on(chain, &terminated.stat)
    };
    rbac::restrict(&terminated.security.access, &terminated.mesh, &gate.name, &mut filters);
    filters.build()
}

/// Envoy refuses a listener without chains: this one says who it is, and closes.
fn greeting(text: &str) -> FilterChain {
    let response = DataSource { specifier: Some(Specifier::InlineString(text.to_owned())), ..DataSource::default() };
    let config = any(&Config { response: Some(response) });
    let filter = Filter {
        name: "envoy.filters.network.direct_response".to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(config)),
    };
    FilterChain { filters: vec![filter], ..FilterChain::default() }
}
