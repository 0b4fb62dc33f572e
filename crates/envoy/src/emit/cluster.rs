//! Clusters.

use kds_proto::envoy::config::cluster::v3::Cluster;
use kds_proto::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, EdsClusterConfig, LbSubsetConfig, TransportSocketMatch,
    lb_subset_config,
};
use kds_proto::envoy::config::core::v3::{BindConfig, Http1ProtocolOptions, Http2ProtocolOptions};
use kds_proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use kds_proto::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use kds_proto::envoy::config::endpoint::v3::{Endpoint, LbEndpoint, LocalityLbEndpoints};
use kds_proto::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use kds_proto::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use kds_proto::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions,
};
use model::labels::SERVICE_TAG;
use model::spec::mesh_timeout;
use prost::Name;
use prost_types::Duration;

use super::{any, endpoint, pipe, socket, socket_address, texts, tls};
use crate::external;
use crate::names;
use crate::plan::zone::Passage;
use crate::plan::{Cluster as Planned, ClusterTls, Discovery, Inbound, Plan};
use crate::policies::{circuit_breaker, health_check, load_balancing, timeout};
use crate::protocol::Protocol;

/// How long a connection may take where nothing is said.
const CONNECT: Duration = Duration { seconds: 5, nanos: 0 };
/// How long a connection of calls to the workload may be silent.
const CALLS_IDLE: Duration = Duration { seconds: 7200, nanos: 0 };

/// The workload itself.
pub fn workload(inbound: &Inbound) -> Cluster {
    let (address, port) = &inbound.workload;
    let mut cluster = fixed(&inbound.cluster, vec![host(socket(address, *port))], DiscoveryType::Static);
    cluster.connect_timeout = Some(timeout::connect(&inbound.timeout));
    cluster.upstream_bind_config = inbound
        .source
        .map(|source| BindConfig { source_address: Some(socket_address(source, 0)), ..BindConfig::default() });
    let http = Some(inbound.protocol).filter(|protocol| protocol.is_http());
    options(&mut cluster, http, inbound.protocol, Some(&inbound.timeout), true);
    if let Some(breaker) = &inbound.breaker {
        shape_breaker(breaker, &mut cluster);
    }
    cluster
}

/// A destination.
pub fn destination(plan: &Plan, planned: &Planned) -> Cluster {
    let mut cluster = match &planned.discovery {
        Discovery::Eds(_) => Cluster {
            eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(tls::ads()), service_name: String::new() }),
            ..named(&planned.name, DiscoveryType::Eds)
        },
        Discovery::Fixed(assignment) => {
            let names = assignment.endpoints.iter().any(|endpoint| external::is_name(&endpoint.address));
            let discovery = if names { DiscoveryType::StrictDns } else { DiscoveryType::Static };
            let family = if names && !plan.ipv6_address { DnsLookupFamily::V4Only } else { DnsLookupFamily::Auto };
            Cluster {
                dns_lookup_family: family.into(),
                load_assignment: Some(endpoint::assignment(&planned.name, assignment)),
                ..named(&planned.name, discovery)
            }
        }
    };
    match &planned.tls {
        Some(ClusterTls::External(all)) => {
            cluster.transport_socket_matches = all
                .iter()
                .map(|(endpoint, asked)| {
                    let mut tags = endpoint.tags.clone();
                    tags.remove(SERVICE_TAG);
                    TransportSocketMatch {
                        name: endpoint.address.clone(),
                        r#match: (!asked.shared).then(|| texts(&tags)),
                        transport_socket: Some(tls::external(asked)),
                    }
                })
                .collect();
        }
        Some(mesh) => cluster.transport_socket = tls::cluster(plan.naming, mesh),
        None => {}
    }
    if let Some(conf) = &planned.timeout {
        cluster.connect_timeout = Some(timeout::connect(conf));
    }
    options(&mut cluster, planned.http, planned.protocol, planned.timeout.as_ref(), false);
    if let Some(conf) = &planned.balancing {
        load_balancing::shape(conf, &mut cluster);
    }
    if let Some(conf) = &planned.health {
        health_check::shape(conf, planned.protocol, &plan.tags, &mut cluster);
    }
    if let Some(conf) = &planned.breaker {
        shape_breaker(conf, &mut cluster);
    }
    cluster
}

fn shape_breaker(conf: &model::spec::mesh_circuit_breaker::Conf, cluster: &mut Cluster) {
    cluster.circuit_breakers = circuit_breaker::limits(conf);
    cluster.outlier_detection = circuit_breaker::outliers(conf);
    if let Some(threshold) = circuit_breaker::panic_threshold(conf) {
        cluster.common_lb_config.get_or_insert_default().healthy_panic_threshold = Some(threshold);
    }
}

/// HTTP towards a cluster: its version, and how long connections live.
fn options(
    cluster: &mut Cluster,
    http: Option<Protocol>,
    protocol: Protocol,
    conf: Option<&mesh_timeout::Conf>,
    workload: bool,
) {
    let version = match http {
        Some(Protocol::Http) => Some(ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default())),
        Some(_) => Some(ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default())),
        None => None,
    };
    let connections = match protocol {
        Protocol::Http | Protocol::Http2 => conf.map(timeout::of_connections),
        Protocol::Grpc if workload => Some(kds_proto::envoy::config::core::v3::HttpProtocolOptions {
            idle_timeout: Some(CALLS_IDLE),
            ..kds_proto::envoy::config::core::v3::HttpProtocolOptions::default()
        }),
        _ => None,
    };
    if version.is_none() && connections.is_none() {
        return;
    }
    let explicit =
        |config| UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config: Some(config) });
    let options = HttpProtocolOptions {
        common_http_protocol_options: connections,
        upstream_protocol_options: version.map(explicit),
        ..HttpProtocolOptions::default()
    };
    cluster.typed_extension_protocol_options.insert(HttpProtocolOptions::full_name(), any(&options));
}

/// A cluster of a zone proxy.
pub fn passage(passage: &Passage) -> Cluster {
    use lb_subset_config::lb_subset_selector::LbSubsetSelectorFallbackPolicy;
    use lb_subset_config::{LbSubsetFallbackPolicy, LbSubsetSelector};
    let selector = |keys: &Vec<String>| LbSubsetSelector {
        keys: keys.clone(),
        fallback_policy: LbSubsetSelectorFallbackPolicy::NoFallback.into(),
        ..LbSubsetSelector::default()
    };
    let subsets = LbSubsetConfig {
        fallback_policy: LbSubsetFallbackPolicy::AnyEndpoint.into(),
        subset_selectors: passage.keys.iter().map(selector).collect(),
        ..LbSubsetConfig::default()
    };
    Cluster {
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(tls::ads()), service_name: String::new() }),
        lb_subset_config: (!passage.keys.is_empty()).then_some(subsets),
        ..named(&passage.name, DiscoveryType::Eds)
    }
}

/// A cluster of known hosts.
pub fn fixed(name: &str, hosts: Vec<LbEndpoint>, discovery: DiscoveryType) -> Cluster {
    Cluster {
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints: vec![LocalityLbEndpoints { lb_endpoints: hosts, ..LocalityLbEndpoints::default() }],
            ..ClusterLoadAssignment::default()
        }),
        ..named(name, discovery)
    }
}

/// A host without weight and tags.
pub fn host(address: kds_proto::envoy::config::core::v3::Address) -> LbEndpoint {
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint { address: Some(address), ..Endpoint::default() })),
        ..LbEndpoint::default()
    }
}

/// A host that is a socket.
pub fn local_socket(path: &str) -> LbEndpoint {
    host(pipe(path))
}

/// A cluster of a name.
pub fn named(name: &str, discovery: DiscoveryType) -> Cluster {
    let stat = names::stat(name);
    Cluster {
        name: name.to_owned(),
        alt_stat_name: if stat == name { String::new() } else { stat },
        connect_timeout: Some(CONNECT),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery.into())),
        ..Cluster::default()
    }
}
