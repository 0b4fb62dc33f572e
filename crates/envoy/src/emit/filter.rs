//! Filters of a chain.

use kds_proto::Any;
use kds_proto::envoy::config::core::v3::{CidrRange, HttpProtocolOptions};
use kds_proto::envoy::config::listener::v3::{Filter, filter};
use kds_proto::envoy::config::route::v3::RouteConfiguration;
use kds_proto::envoy::extensions::filters::http::grpc_stats::v3::FilterConfig;
use kds_proto::envoy::extensions::filters::http::router::v3::Router;
use kds_proto::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    InternalAddressConfig, RouteSpecifier,
};
use kds_proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, http_filter,
};
use kds_proto::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use kds_proto::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::{
    ClusterSpecifier, WeightedCluster, weighted_cluster,
};
use prost::{Message, Name};

use super::any;
use crate::names;
use crate::plan::Split;
use crate::protocol::Protocol;

/// The filters of one chain: what comes before, and the one that forwards.
pub struct Filters {
    before: Vec<Filter>,
    last: Last,
}

enum Last {
    Requests(Box<HttpConnectionManager>),
    Bytes(Box<TcpProxy>),
    Nothing,
}

impl Filters {
    /// Requests are told apart.
    pub fn requests(manager: HttpConnectionManager) -> Self {
        Self { before: Vec::new(), last: Last::Requests(Box::new(manager)) }
    }

    /// Bytes are forwarded; without a destination there is no filter at all.
    pub fn bytes(proxy: TcpProxy) -> Self {
        let last = if proxy.cluster_specifier.is_some() { Last::Bytes(Box::new(proxy)) } else { Last::Nothing };
        Self { before: Vec::new(), last }
    }

    /// Whether requests are told apart.
    pub fn has_requests(&self) -> bool {
        matches!(self.last, Last::Requests(_))
    }

    /// A filter before all others of the chain.
    pub fn network_first(&mut self, name: &str, config: Any) {
        self.before.insert(0, network(name, config));
    }

    /// A filter before all others of requests.
    pub fn http_first(&mut self, filter: HttpFilter) {
        if let Last::Requests(manager) = &mut self.last {
            manager.http_filters.insert(0, filter);
        }
    }

    /// The chain.
    pub fn build(self) -> Vec<Filter> {
        let last = match self.last {
            Last::Requests(manager) => Some(network("envoy.filters.network.http_connection_manager", any(&*manager))),
            Last::Bytes(proxy) => Some(network("envoy.filters.network.tcp_proxy", any(&*proxy))),
            Last::Nothing => None,
        };
        self.before.into_iter().chain(last).collect()
    }
}

fn network(name: &str, config: Any) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(config)) }
}

/// A filter of requests.
pub fn http<M: Message + Name>(name: &str, config: &M) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(any(config))),
        ..HttpFilter::default()
    }
}

/// A connection manager with routes in place; `protocol` decides about statistics of calls.
pub fn manager(
    stat: &str,
    routes: RouteConfiguration,
    protocol: Protocol,
    internal: &[String],
    ipv6: bool,
) -> HttpConnectionManager {
    let stats = FilterConfig { emit_filter_state: true, ..FilterConfig::default() };
    let calls = (protocol == Protocol::Grpc).then(|| http("envoy.filters.http.grpc_stats", &stats));
    let router = http("envoy.filters.http.router", &Router::default());
    HttpConnectionManager {
        stat_prefix: names::stat(stat),
        http_filters: calls.into_iter().chain([router]).collect(),
        internal_address_config: Some(InternalAddressConfig {
            cidr_ranges: internal.iter().filter_map(|network| cidr(network, ipv6)).collect(),
            ..InternalAddressConfig::default()
        }),
        route_specifier: Some(RouteSpecifier::RouteConfig(routes)),
        ..HttpConnectionManager::default()
    }
}

fn cidr(network: &str, ipv6: bool) -> Option<CidrRange> {
    let (address, length) = network.split_once('/')?;
    if address.contains(':') && !ipv6 {
        return None;
    }
    Some(CidrRange { address_prefix: address.to_owned(), prefix_len: Some(length.parse().ok()?) })
}

/// Connections may be silent for as long as their clusters let them.
pub fn endless() -> HttpProtocolOptions {
    HttpProtocolOptions { idle_timeout: Some(prost_types::Duration::default()), ..HttpProtocolOptions::default() }
}

/// A filter that forwards bytes to shares of clusters.
pub fn tcp_proxy(stat: &str, splits: &[Split]) -> TcpProxy {
    let specifier = match splits {
        [] => None,
        [one] => Some(ClusterSpecifier::Cluster(one.cluster.clone())),
        many => {
            let weight = |split: &Split| weighted_cluster::ClusterWeight {
                name: split.cluster.clone(),
                weight: split.weight,
                ..weighted_cluster::ClusterWeight::default()
            };
            Some(ClusterSpecifier::WeightedClusters(WeightedCluster { clusters: many.iter().map(weight).collect() }))
        }
    };
    TcpProxy { stat_prefix: names::stat(stat), cluster_specifier: specifier, ..TcpProxy::default() }
}
