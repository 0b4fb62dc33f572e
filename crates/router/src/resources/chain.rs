//! Filter chains of a listener.

use std::mem;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use kds_proto::Any;
use kds_proto::envoy::config::core::v3::TransportSocket;
use kds_proto::envoy::config::core::v3::data_source::Specifier;
use kds_proto::envoy::config::listener::v3::filter::ConfigType;
use kds_proto::envoy::config::listener::v3::{
    Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter, listener_filter,
};
use kds_proto::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use kds_proto::envoy::extensions::filters::network::direct_response::v3::Config as DirectResponse;
use kds_proto::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use kds_proto::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;
use kds_proto::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use kds_proto::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use prost::{Message, Name};

use super::assignment::{Tags, lb_tags, socket_address};
use super::refusal::nothing_else;
use super::terminal::{self, ForwardSpec, Spec};
use crate::terminate::access::Access;

/// Where a chain leads. Chains that lead to the same place share their counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leads {
    pub cluster: String,
    pub tags: Tags,
}

/// What a chain does.
#[derive(Debug)]
pub(super) enum Chain {
    /// Routes these names.
    Route { names: Vec<String>, leads: Leads },
    /// Ends TLS of these names, or of all others; or serves what is no TLS.
    End { names: Vec<String>, spec: Spec },
    /// Answers everybody who is not routed with these bytes.
    Answer(Bytes),
}

/// How a chain is called in messages.
pub(super) fn title(chain: &FilterChain) -> String {
    let names = chain.filter_chain_match.as_ref().map(|matched| matched.server_names.join(", ")).unwrap_or_default();
    match (&*chain.name, &*names) {
        ("", "") => "the filter chain without a name".to_owned(),
        ("", names) => format!("the filter chain of {names:?}"),
        (name, _) => format!("the filter chain {name:?}"),
    }
}

/// Where a listener listens, if it is one that a router can serve at all.
pub(super) fn address(mut listener: Listener) -> Result<SocketAddr, String> {
    let (address, filters) = (listener.address.take(), mem::take(&mut listener.listener_filters));
    (listener.name, listener.stat_prefix) = (String::new(), String::new());
    (listener.enable_reuse_port, listener.metadata, listener.tcp_backlog_size) = (None, None, None);
    (listener.traffic_direction, listener.per_connection_buffer_limit_bytes) = (0, None);
    nothing_else(&listener)?;
    for filter in &filters {
        inspects(filter)?;
    }
    socket_address(&address.ok_or("it has no address")?)
}

fn inspects(filter: &ListenerFilter) -> Result<(), String> {
    match &filter.config_type {
        Some(listener_filter::ConfigType::TypedConfig(config))
            if config.message_name() == TlsInspector::full_name() =>
        {
            Ok(())
        }
        _ => Err(format!("not supported by this router: the listener filter {:?}", filter.name)),
    }
}

impl Chain {
    /// Takes the chain apart; its name and its match stay, to call it by.
    pub fn read(chain: &mut FilterChain) -> Result<Self, String> {
        let (mut filters, socket) = (mem::take(&mut chain.filters), chain.transport_socket.take());
        let (name, matched) = (mem::take(&mut chain.name), chain.filter_chain_match.take());
        chain.metadata = None;
        let rest = nothing_else(chain);
        (chain.name, chain.filter_chain_match) = (name, matched);
        rest?;
        let last = filters.pop().ok_or("it has no filters")?;
        let config = typed(&last)?;
        let names = names(chain.filter_chain_match.as_ref())?;
        let is_requests = config.message_name() == HttpConnectionManager::full_name();
        if socket.is_some() || is_requests {
            return Ok(Self::End { names: names.to_vec(), spec: end(socket.as_ref(), &filters, config, is_requests)? });
        }
        if let Some(filter) = filters.first() {
            return Err(format!("not supported by this router: the filter {:?}", filter.name));
        }
        if names.is_empty() && config.message_name() == DirectResponse::full_name() {
            return Ok(Self::Answer(answer(config)?));
        }
        if config.message_name() != TcpProxy::full_name() {
            return Err(format!("not supported by this router: the filter {:?}", last.name));
        }
        if names.is_empty() {
            return Err("it matches without serverNames".to_owned());
        }
        Ok(Self::Route { names: names.to_vec(), leads: leads(config)? })
    }
}

fn typed(filter: &Filter) -> Result<&Any, String> {
    match &filter.config_type {
        Some(ConfigType::TypedConfig(config)) => Ok(config),
        _ => Err(format!("the filter {:?} has no typedConfig", filter.name)),
    }
}

/// A chain in which TLS ends, or that is for what is no TLS.
fn end(socket: Option<&TransportSocket>, before: &[Filter], last: &Any, is_requests: bool) -> Result<Spec, String> {
    let mut access = Access::default();
    for filter in before {
        let config = typed(filter)?;
        if config.message_name() != NetworkRbac::full_name() {
            return Err(format!("not supported by this router: the filter {:?}", filter.name));
        }
        let rbac: NetworkRbac = terminal::decode(config)?;
        access.add(rbac.rules.as_ref(), rbac.matcher.as_ref())?;
    }
    let forward = if is_requests {
        ForwardSpec::Requests(terminal::manager(last, &mut access)?)
    } else if last.message_name() == TcpProxy::full_name() {
        ForwardSpec::Bytes(leads(last)?)
    } else {
        return Err(format!("not supported by this router: the filter {}", last.message_name()));
    };
    Ok(Spec { tls: socket.map(terminal::downstream).transpose()?, access, forward })
}

fn names(matched: Option<&FilterChainMatch>) -> Result<&[String], String> {
    let Some(matched) = matched else { return Ok(&[]) };
    let mut rest = matched.clone();
    (rest.server_names, rest.transport_protocol) = (Vec::new(), String::new());
    nothing_else(&rest)?;
    if !matches!(&*matched.transport_protocol, "" | "tls") {
        return Err(format!("not supported by this router: transportProtocol {:?}", matched.transport_protocol));
    }
    if let Some(wild) = matched.server_names.iter().find(|name| name.contains('*')) {
        return Err(format!("not supported by this router: the pattern {wild:?} among serverNames"));
    }
    Ok(&matched.server_names)
}

fn leads(config: &Any) -> Result<Leads, String> {
    let mut proxy = TcpProxy::decode(&*config.value).map_err(|error| format!("its tcp_proxy: {error}"))?;
    let tags = proxy.metadata_match.take().as_ref().map(lb_tags).unwrap_or_default();
    let specifier = proxy.cluster_specifier.take();
    proxy.stat_prefix.clear();
    // The router's own limit of silence holds: Kuma sets none for zone proxies (zone-dataplane 5.4).
    let idle = proxy.idle_timeout.take();
    nothing_else(&proxy)?;
    if idle.is_some_and(|idle| Duration::try_from(idle) != Ok(Duration::from_secs(3_600))) {
        return Err("not supported by this router: an idleTimeout other than 1 h".to_owned());
    }
    match specifier {
        Some(ClusterSpecifier::Cluster(cluster)) if !cluster.is_empty() => Ok(Leads { cluster, tags }),
        Some(ClusterSpecifier::WeightedClusters(_)) => Err("not supported by this router: weightedClusters".to_owned()),
        _ => Err("its tcp_proxy names no cluster".to_owned()),
    }
}

fn answer(config: &Any) -> Result<Bytes, String> {
    let response = DirectResponse::decode(&*config.value).map_err(|error| format!("its direct_response: {error}"))?;
    match response.response.and_then(|source| source.specifier) {
        Some(Specifier::InlineString(text)) => Ok(text.into()),
        Some(Specifier::InlineBytes(bytes)) => Ok(bytes.into()),
        None => Ok(Bytes::new()),
        Some(_) => Err("not supported by this router: a direct_response from outside".to_owned()),
    }
}
