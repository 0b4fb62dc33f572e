//! Listeners for traffic to and from the workload.

use kds_proto::envoy::config::core::v3::TrafficDirection;
use kds_proto::envoy::config::listener::v3::{
    FilterChain, FilterChainMatch, Listener, ListenerFilter, listener_filter,
};
use kds_proto::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use kds_proto::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use kds_proto::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    ForwardClientCertDetails, SetCurrentClientCertDetails,
};
use kds_proto::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;

use super::filter::{self, Filters};
use super::{any, metadata, rbac, route, socket, tls};
use crate::plan::{Chain, Inbound, Outbound, Plan, Security, Split};
use crate::policies::timeout;

/// Name under which patches and others look for the tags of a listener.
const TAGS: &[&str] = &["io.kuma.tags"];
/// How long a request to the workload may be silent where nothing is said of its route.
const STREAM_IDLE: prost_types::Duration = prost_types::Duration { seconds: 3600, nanos: 0 };

/// A listener for traffic to the workload: one chain, or three where clients may come without proof.
pub fn inbound(plan: &Plan, inbound: &Inbound) -> Listener {
    let open = |protocol: &str| FilterChain {
        filter_chain_match: Some(FilterChainMatch {
            transport_protocol: protocol.to_owned(),
            ..FilterChainMatch::default()
        }),
        filters: to_workload(plan, inbound).build(),
        ..FilterChain::default()
    };
    let chains = match &inbound.security {
        None => vec![FilterChain { filters: to_workload(plan, inbound).build(), ..FilterChain::default() }],
        Some(security) if security.permissive => {
            let kuma = FilterChainMatch {
                transport_protocol: "tls".to_owned(),
                application_protocols: vec![tls::ALPN.to_owned()],
                ..FilterChainMatch::default()
            };
            let secured = FilterChain { filter_chain_match: Some(kuma), ..secured(plan, inbound, security) };
            vec![open("raw_buffer"), open("tls"), secured]
        }
        Some(security) => vec![secured(plan, inbound, security)],
    };
    let inspects = chains.len() > 1;
    Listener {
        name: inbound.name.clone(),
        stat_prefix: inbound.stat_prefix.clone().unwrap_or_default(),
        filter_chains: chains,
        listener_filters: if inspects { vec![tls_inspector()] } else { Vec::new() },
        metadata: metadata(TAGS, &inbound.tags),
        ..listen(&inbound.address, inbound.port, TrafficDirection::Inbound, inbound.bind, plan.reuse_port)
    }
}

fn secured(plan: &Plan, inbound: &Inbound, security: &Security) -> FilterChain {
    let mut filters = to_workload(plan, inbound);
    rbac::restrict(&security.access, &plan.mesh, &inbound.name, &mut filters);
    FilterChain {
        filters: filters.build(),
        transport_socket: Some(tls::inbound(plan.naming, &plan.mesh, security)),
        ..FilterChain::default()
    }
}

fn to_workload(plan: &Plan, inbound: &Inbound) -> Filters {
    if !inbound.protocol.is_http() {
        let all = Split { cluster: inbound.cluster.clone(), weight: 1, external: false };
        let proxy = filter::tcp_proxy(&inbound.cluster, &[all]);
        return Filters::bytes(TcpProxy { idle_timeout: Some(timeout::idle(&inbound.timeout)), ..proxy });
    }
    let routes = route::to_workload(inbound);
    let manager = filter::manager(&inbound.cluster, routes, inbound.protocol, &plan.internal_networks, plan.ipv6);
    Filters::requests(HttpConnectionManager {
        common_http_protocol_options: Some(filter::endless()),
        forward_client_cert_details: ForwardClientCertDetails::SanitizeSet.into(),
        set_current_client_cert_details: Some(SetCurrentClientCertDetails {
            uri: true,
            ..SetCurrentClientCertDetails::default()
        }),
        request_headers_timeout: Some(timeout::request_headers(&inbound.timeout)),
        stream_idle_timeout: Some(STREAM_IDLE),
        ..manager
    })
}

/// A listener for traffic from the workload.
pub fn outbound(plan: &Plan, outbound: &Outbound) -> Listener {
    let filters = match &outbound.chain {
        Chain::Http(http) => {
            let routes = route::from_workload(http);
            let manager =
                filter::manager(&http.virtual_host, routes, outbound.protocol, &plan.internal_networks, plan.ipv6);
            let idle = outbound.protocol.is_http().then(filter::endless);
            Filters::requests(HttpConnectionManager {
                common_http_protocol_options: idle,
                normalize_path: Some(true),
                request_headers_timeout: http.request_headers,
                ..manager
            })
        }
        Chain::Tcp { splits, idle, attempts } => Filters::bytes(TcpProxy {
            idle_timeout: *idle,
            max_connect_attempts: *attempts,
            ..filter::tcp_proxy(&outbound.stat, splits)
        }),
    };
    Listener {
        name: outbound.name.clone(),
        stat_prefix: outbound.stat_prefix.clone().unwrap_or_default(),
        filter_chains: vec![FilterChain { filters: filters.build(), ..FilterChain::default() }],
        metadata: metadata(TAGS, &outbound.tags),
        ..listen(&outbound.address, outbound.port, TrafficDirection::Outbound, outbound.bind, false)
    }
}

/// A listener of no name and no chains.
pub fn listen(address: &str, port: u32, direction: TrafficDirection, bind: bool, reuse_port: bool) -> Listener {
    Listener {
        address: Some(socket(address, port)),
        traffic_direction: direction.into(),
        enable_reuse_port: reuse_port.then_some(true),
        bind_to_port: (!bind).then_some(false),
        ..Listener::default()
    }
}

/// Looks into TLS before a chain is chosen.
pub fn tls_inspector() -> ListenerFilter {
    ListenerFilter {
        name: "envoy.filters.listener.tls_inspector".to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(any(&TlsInspector::default()))),
        ..ListenerFilter::default()
    }
}
