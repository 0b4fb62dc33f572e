//! Endpoints of a cluster, and the part of them that a route wants.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};

use kds_proto::envoy::config::cluster::v3::cluster::LbSubsetConfig;
use kds_proto::envoy::config::cluster::v3::cluster::lb_subset_config::LbSubsetFallbackPolicy;
use kds_proto::envoy::config::cluster::v3::cluster::lb_subset_config::lb_subset_selector::LbSubsetSelectorFallbackPolicy;
use kds_proto::envoy::config::core::v3::address::Address as AddressKind;
use kds_proto::envoy::config::core::v3::socket_address::{PortSpecifier, Protocol};
use kds_proto::envoy::config::core::v3::{Address, HealthStatus, Metadata};
use kds_proto::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use kds_proto::envoy::config::endpoint::v3::{ClusterLoadAssignment, LbEndpoint};
use prost_types::Struct;
use prost_types::value::Kind as Value;

use crate::cluster::{Endpoint, Host};

/// Percentage of its healthy share that a priority may take, when an assignment says nothing else.
pub(super) const OVERPROVISIONING: u32 = 140;
/// Name of the metadata by which endpoints are chosen.
const LB: &str = "envoy.lb";

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
    address: SocketAddr,
    weight: u32,
    priority: u32,
    well: bool,
    tags: Tags,
}

impl Default for Assignment {
    fn default() -> Self {
        Self { endpoints: Vec::new(), overprovisioning: OVERPROVISIONING }
    }
}

impl Assignment {
    /// Of equal addresses the first counts, as in Envoy (zone-dataplane 7.5).
    pub fn read(resource: &ClusterLoadAssignment) -> Result<Self, String> {
        let (mut endpoints, mut seen) = (Vec::new(), HashSet::new());
        for locality in &resource.endpoints {
            for endpoint in &locality.lb_endpoints {
                let assigned = Assigned::read(endpoint, locality.priority)?;
                if seen.insert(assigned.address) {
                    endpoints.push(assigned);
                }
            }
        }
        let factor = resource.policy.as_ref().and_then(|policy| policy.overprovisioning_factor);
        Ok(Self { endpoints, overprovisioning: factor.unwrap_or(OVERPROVISIONING) })
    }

    fn having(&self, tags: &Tags) -> Vec<Endpoint> {
        let wanted = |assigned: &&Assigned| tags.iter().all(|(key, value)| assigned.tags.get(key) == Some(value));
        self.endpoints.iter().filter(wanted).map(Assigned::endpoint).collect()
    }
}

impl Assigned {
    fn read(endpoint: &LbEndpoint, priority: u32) -> Result<Self, String> {
        let Some(HostIdentifier::Endpoint(host)) = &endpoint.host_identifier else {
            return Err("an endpoint without an address".to_owned());
        };
        let address = host.address.as_ref().ok_or("an endpoint without an address")?;
        Ok(Self {
            address: socket_address(address)?,
            weight: endpoint.load_balancing_weight.unwrap_or(1),
            priority,
            well: matches!(
                endpoint.health_status(),
                HealthStatus::Unknown | HealthStatus::Healthy | HealthStatus::Degraded
            ),
            tags: endpoint.metadata.as_ref().map(lb_tags).unwrap_or_default(),
        })
    }

    fn endpoint(&self) -> Endpoint {
        let Self { address, weight, priority, well, .. } = *self;
        Endpoint { host: Host::new(address), weight, priority, well }
    }
}

/// An IP address and a port over TCP.
pub(super) fn socket_address(address: &Address) -> Result<SocketAddr, String> {
    let Some(AddressKind::SocketAddress(socket)) = &address.address else {
        return Err("an address must be a socketAddress".to_owned());
    };
    let Some(PortSpecifier::PortValue(port)) = &socket.port_specifier else {
        return Err(format!("the address {:?} has no portValue", socket.address));
    };
    if socket.protocol() != Protocol::Tcp {
        return Err(format!("the address {:?} is not of TCP", socket.address));
    }
    let ip: IpAddr = socket.address.parse().map_err(|_| format!("{:?} is no IP address", socket.address))?;
    let port = u16::try_from(*port).map_err(|_| format!("{port} is no port"))?;
    Ok(SocketAddr::new(ip, port))
}

/// What metadata says of load balancing. Only texts count there.
pub(super) fn lb_tags(metadata: &Metadata) -> Tags {
    metadata.filter_metadata.get(LB).map(tags).unwrap_or_default()
}

fn tags(values: &Struct) -> Tags {
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
    pub fn select(&self, assignment: &Assignment, wanted: &Tags) -> Vec<Endpoint> {
        let keys: BTreeSet<String> = wanted.keys().cloned().collect();
        let selector = self.selectors.iter().find(|(selector, _)| *selector == keys);
        let mut fallback = &self.otherwise;
        if let Some((_, own)) = selector {
            let found = assignment.having(wanted);
            if !found.is_empty() {
                return found;
            }
            fallback = own.as_ref().unwrap_or(fallback);
        }
        match fallback {
            Fallback::Nobody => Vec::new(),
            Fallback::Anybody => assignment.having(&Tags::new()),
            Fallback::Having(tags) => assignment.having(tags),
        }
    }
}
