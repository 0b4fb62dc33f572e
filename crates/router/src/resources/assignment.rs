//! Endpoints of a cluster, and the part of them that a route wants.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use kds_proto::envoy::config::cluster::v3::cluster::LbSubsetConfig;
use kds_proto::envoy::config::cluster::v3::cluster::lb_subset_config::LbSubsetFallbackPolicy;
use kds_proto::envoy::config::cluster::v3::cluster::lb_subset_config::lb_subset_selector::LbSubsetSelectorFallbackPolicy;
use kds_proto::envoy::config::core::v3::address::Address as AddressKind;
use kds_proto::envoy::config::core::v3::socket_address::{PortSpecifier, Protocol};
use kds_proto::envoy::config::core::v3::{Address, HealthStatus, Metadata, SocketAddress};
use kds_proto::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use kds_proto::envoy::config::endpoint::v3::{ClusterLoadAssignment, LbEndpoint};
use prost_types::Struct;
use prost_types::value::Kind as Value;

use crate::names::{Located, Place};
use crate::terminate::upstream::Upstream;

/// Percentage of its healthy share that a priority may take, when an assignment says nothing else.
pub(super) const OVERPROVISIONING: u32 = 140;
/// Name of the metadata by which endpoints are chosen.
const LB: &str = "envoy.lb";
/// Name of the metadata by which their TLS is.
const TLS: &str = "envoy.transport_socket_match";

/// Names and values, as they stand in `envoy.lb`.
pub(super) type Tags = BTreeMap<String, String>;

/// The endpoints that were assigned to a cluster.
#[derive(Debug)]
pub(super) struct Assignment {
    endpoints: Vec<Assigned>,
    pub overprovisioning: u32,
}

#[derive(Debug)]
struct Assigned {
    place: Place,
    weight: u32,
    priority: u32,
    well: bool,
    tags: Tags,
    /// By which its TLS is chosen.
    tls_tags: Tags,
}

/// Whether endpoints may have names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    Refused,
    LookedUp,
}

impl Default for Assignment {
    fn default() -> Self {
        Self { endpoints: Vec::new(), overprovisioning: OVERPROVISIONING }
    }
}

impl Assignment {
    /// Of equal addresses the first counts, as in Envoy (zone-dataplane 7.5).
    pub fn read(resource: &ClusterLoadAssignment, names: Names) -> Result<Self, String> {
        let (mut endpoints, mut seen) = (Vec::new(), HashSet::new());
        for locality in &resource.endpoints {
            for endpoint in &locality.lb_endpoints {
                let assigned = Assigned::read(endpoint, locality.priority, names)?;
                if seen.insert(assigned.place.clone()) {
                    endpoints.push(assigned);
                }
            }
        }
        let factor = resource.policy.as_ref().and_then(|policy| policy.overprovisioning_factor);
        Ok(Self { endpoints, overprovisioning: factor.unwrap_or(OVERPROVISIONING) })
    }

    fn having(&self, tags: &Tags, tls: &Sockets) -> Vec<Located> {
        let wanted = |assigned: &&Assigned| has(&assigned.tags, tags);
        self.endpoints.iter().filter(wanted).map(|assigned| assigned.located(tls)).collect()
    }
}

impl Assigned {
    fn read(endpoint: &LbEndpoint, priority: u32, names: Names) -> Result<Self, String> {
        let Some(HostIdentifier::Endpoint(host)) = &endpoint.host_identifier else {
            return Err("an endpoint without an address".to_owned());
        };
        let address = host.address.as_ref().ok_or("an endpoint without an address")?;
        Ok(Self {
            place: place(address, names)?,
            weight: endpoint.load_balancing_weight.unwrap_or(1),
            priority,
            well: matches!(
                endpoint.health_status(),
                HealthStatus::Unknown | HealthStatus::Healthy | HealthStatus::Degraded
            ),
            tags: endpoint.metadata.as_ref().map(lb_tags).unwrap_or_default(),
            tls_tags: endpoint.metadata.as_ref().map(|metadata| named_tags(metadata, TLS)).unwrap_or_default(),
        })
    }

    fn located(&self, tls: &Sockets) -> Located {
        let Self { weight, priority, well, .. } = *self;
        Located { place: self.place.clone(), tls: tls.of(&self.tls_tags), weight, priority, well }
    }
}

fn has(tags: &Tags, wanted: &Tags) -> bool {
    wanted.iter().all(|(key, value)| tags.get(key) == Some(value))
}

/// How TLS begins at the endpoints of a cluster: the first whose tags an endpoint has counts.
#[derive(Debug, Default)]
pub(super) struct Sockets(pub Vec<(Tags, Option<Arc<Upstream>>)>);

impl Sockets {
    fn of(&self, tags: &Tags) -> Option<Arc<Upstream>> {
        self.0.iter().find(|(wanted, _)| has(tags, wanted)).and_then(|(_, tls)| tls.clone())
    }
}

fn place(address: &Address, names: Names) -> Result<Place, String> {
    let refused = match socket_address(address) {
        Ok(address) => return Ok(Place::Address(address)),
        Err(refused) => refused,
    };
    match &address.address {
        Some(AddressKind::SocketAddress(socket)) if names == Names::LookedUp && !socket.address.is_empty() => {
            Ok(Place::Name(socket.address.clone(), port(socket)?))
        }
        _ => Err(refused),
    }
}

/// An IP address and a port over TCP.
pub(super) fn socket_address(address: &Address) -> Result<SocketAddr, String> {
    let Some(AddressKind::SocketAddress(socket)) = &address.address else {
        return Err("an address must be a socketAddress".to_owned());
    };
    let ip: IpAddr = socket.address.parse().map_err(|_| format!("{:?} is no IP address", socket.address))?;
    Ok(SocketAddr::new(ip, port(socket)?))
}

fn port(socket: &SocketAddress) -> Result<u16, String> {
    let Some(PortSpecifier::PortValue(port)) = &socket.port_specifier else {
        return Err(format!("the address {:?} has no portValue", socket.address));
    };
    if socket.protocol() != Protocol::Tcp {
        return Err(format!("the address {:?} is not of TCP", socket.address));
    }
    u16::try_from(*port).map_err(|_| format!("{port} is no port"))
}

/// What metadata says of load balancing. Only texts count there.
pub(super) fn lb_tags(metadata: &Metadata) -> Tags {
    named_tags(metadata, LB)
}

fn named_tags(metadata: &Metadata, name: &str) -> Tags {
    metadata.filter_metadata.get(name).map(tags).unwrap_or_default()
}

pub(super) fn tags(values: &Struct) -> Tags {
    let text = |(key, value): (&String, &prost_types::Value)| match &value.kind {
        Some(Value::StringValue(text)) => Some((key.clone(), text.clone())),
        _ => None,
    };
    values.fields.iter().filter_map(text).collect()
}

/// How a cluster is narrowed to the endpoints that a route wants.
#[derive(Debug)]
pub(super) struct Subset {
    selectors: Vec<(BTreeSet<String>, Option<Fallback>)>,
    otherwise: Fallback,
}

/// Who is chosen when nobody has the wanted tags.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fallback {
    Nobody,
    Anybody,
    Having(Tags),
}

impl Subset {
    /// Without a configuration what routes want does not matter.
    pub fn read(config: Option<&LbSubsetConfig>) -> Result<Self, String> {
        let Some(config) = config else { return Ok(Self { selectors: Vec::new(), otherwise: Fallback::Anybody }) };
        let by_default = || Fallback::Having(config.default_subset.as_ref().map(tags).unwrap_or_default());
        let otherwise = match config.fallback_policy() {
            LbSubsetFallbackPolicy::NoFallback => Fallback::Nobody,
            LbSubsetFallbackPolicy::AnyEndpoint => Fallback::Anybody,
            LbSubsetFallbackPolicy::DefaultSubset => by_default(),
        };
        let mut selectors = Vec::new();
        for selector in &config.subset_selectors {
            let fallback = match selector.fallback_policy() {
                LbSubsetSelectorFallbackPolicy::NotDefined => None,
                LbSubsetSelectorFallbackPolicy::NoFallback => Some(Fallback::Nobody),
                LbSubsetSelectorFallbackPolicy::AnyEndpoint => Some(Fallback::Anybody),
                LbSubsetSelectorFallbackPolicy::DefaultSubset => Some(by_default()),
                LbSubsetSelectorFallbackPolicy::KeysSubset => {
                    return Err("not supported by this router: a subset selector with KEYS_SUBSET".to_owned());
                }
            };
            selectors.push((selector.keys.iter().cloned().collect(), fallback));
        }
        Ok(Self { selectors, otherwise })
    }

    /// The endpoints for a route that wants these tags.
    pub fn select(&self, assignment: &Assignment, wanted: &Tags, tls: &Sockets) -> Vec<Located> {
        let keys: BTreeSet<String> = wanted.keys().cloned().collect();
        let selector = self.selectors.iter().find(|(selector, _)| *selector == keys);
        let mut fallback = &self.otherwise;
        if let Some((_, own)) = selector {
            let found = assignment.having(wanted, tls);
            if !found.is_empty() {
                return found;
            }
            fallback = own.as_ref().unwrap_or(fallback);
        }
        match fallback {
            Fallback::Nobody => Vec::new(),
            Fallback::Anybody => assignment.having(&Tags::new(), tls),
            Fallback::Having(tags) => assignment.having(tags, tls),
        }
    }
}
