//! What the proxies at the edge of a zone are to do (zone-dataplane 5 and 6): an ingress passes TLS on by its server name,
//! an egress does so too and ends TLS for services outside the mesh.

mod destinations;
mod egress;
mod ingress;

use std::collections::{BTreeMap, BTreeSet};

use model::spec::tags::Tags;

use super::{Admin, Assignment, Cluster, Plan, Security};
use crate::input::{Error, Input};
use crate::names::Naming;
use crate::protocol::Protocol;

pub use egress::plan as of_egress;
pub use ingress::plan as of_ingress;

/// The one listener of a zone proxy.
#[derive(Clone, Debug)]
pub struct Gate {
    /// Its name.
    pub name: String,
    /// Prefix of its statistics; `None`: its address.
    pub stat_prefix: Option<String>,
    /// Where it listens.
    pub address: String,
    /// Where it listens.
    pub port: u32,
    /// Where connections go, by server name.
    pub chains: Vec<GateChain>,
    /// What it says when it knows no server name at all; nothing is listened for without it.
    pub greeting: Option<String>,
}

/// Connections of one server name.
#[derive(Clone, Debug)]
pub struct GateChain {
    /// The server name.
    pub sni: String,
    /// The cluster that they go to.
    pub cluster: String,
    /// Only to endpoints with these tags.
    pub subset: Tags,
    /// Set where TLS ends here.
    pub terminated: Option<Terminated>,
}

/// Connections of a mesh that leave it.
#[derive(Clone, Debug)]
pub struct Terminated {
    /// Name of the chain.
    pub name: String,
    /// The mesh of the clients.
    pub mesh: String,
    /// Names of its secrets.
    pub naming: Naming,
    /// What clients must prove, and who may call.
    pub security: Security,
    /// What is spoken.
    pub protocol: Protocol,
    /// What its filters are called in statistics.
    pub stat: String,
    /// Name of its route configuration.
    pub route: String,
    /// Name of its virtual host.
    pub virtual_host: String,
}

/// A cluster of a zone proxy: endpoints in one zone, by subsets of their tags.
#[derive(Clone, Debug)]
pub struct Passage {
    /// Its name.
    pub name: String,
    /// Its endpoints.
    pub assignment: Assignment,
    /// The tags that chains choose by: each set is a subset.
    pub keys: BTreeSet<Vec<String>>,
}

/// What a zone proxy is to do beside the parts that all proxies have.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    /// The listener; `None` when there is nothing to listen for.
    pub gate: Option<Gate>,
    /// Where TLS is passed on to, by name.
    pub passages: BTreeMap<String, Passage>,
}

/// A plan without a dataplane.
fn skeleton(input: Input<'_>, address: &str, zone: Zone, clusters: BTreeMap<String, Cluster>) -> Plan {
    let unified = input.node.features.unified_naming;
    Plan {
        naming: if unified { Naming::Unified } else { Naming::Legacy },
        mesh: String::new(),
        tags: String::new(),
        internal_networks: input.settings.internal_networks.clone(),
        ipv6: input.node.ipv6,
        ipv6_address: address.contains(':'),
        reuse_port: input.node.features.reuse_port,
        inbounds: Vec::new(),
        outbounds: Vec::new(),
        clusters,
        redirect: None,
        names: None,
        zone,
        admin: Admin::new(input.node, address, input.secrets),
        secrets: crate::input::Secrets::default(),
        trust: BTreeMap::new(),
    }
}

fn unreadable(input: Input<'_>, reason: impl ToString) -> Error {
    let key = &input.resource.meta.key;
    Error::Proxy { kind: key.kind, name: key.name.to_string(), reason: reason.to_string() }
}
