//! What a proxy's configuration is made from, beside the snapshot.

use std::sync::Arc;

use bytes::Bytes;
use model::{Kind, Resource, Snapshot};

/// How endpoints of other zones are weighted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weights {
    /// A zone's share is its share of healthy instances.
    #[default]
    Exact,
    /// Kuma's own numbers (zone-dataplane 7.2, 7.4).
    Kuma,
}

/// Settings of the control plane that change what proxies get.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the zone.
    pub zone: String,
    /// How endpoints are weighted.
    pub weights: Weights,
    /// Networks whose addresses count as internal, `10.0.0.0/8`.
    pub internal_networks: Vec<String>,
    /// The control plane's own namespace, on Kubernetes.
    pub system_namespace: Option<String>,
}

impl Settings {
    /// The settings of a fresh zone.
    pub fn new(zone: &str) -> Self {
        let networks =
            ["10.0.0.0/8", "192.168.0.0/16", "172.16.0.0/12", "fc00::/7", "fd00::/8", "127.0.0.1/32", "::1/128"];
        Self {
            zone: zone.to_owned(),
            weights: Weights::default(),
            internal_networks: networks.map(str::to_owned).into(),
            system_namespace: None,
        }
    }
}

/// What a proxy can do, from the metadata of its node (zone-dataplane 1.1).
#[derive(Clone, Debug, Default)]
pub struct Features {
    /// `feature-unified-resource-naming`
    pub unified_naming: bool,
    /// `feature-reuse-port`
    pub reuse_port: bool,
    /// `feature-strict-inbound-ports`
    pub strict_inbound_ports: bool,
    /// `feature-bind-outbounds`
    pub bind_outbounds: bool,
    /// `feature-readiness-unix-socket`
    pub readiness_unix_socket: bool,
    /// `feature-embedded-dns`
    pub embedded_dns: bool,
}

impl Features {
    /// From the words that a proxy sends; others are for somebody else.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut features = Self::default();
        for word in words {
            match word {
                "feature-unified-resource-naming" => features.unified_naming = true,
                "feature-reuse-port" => features.reuse_port = true,
                "feature-strict-inbound-ports" => features.strict_inbound_ports = true,
                "feature-bind-outbounds" => features.bind_outbounds = true,
                "feature-readiness-unix-socket" => features.readiness_unix_socket = true,
                "feature-embedded-dns" => features.embedded_dns = true,
                _ => {}
            }
        }
        features
    }
}

/// What a proxy tells about itself when it connects.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// What it can do.
    pub features: Features,
    /// Folder of its sockets.
    pub work_dir: String,
    /// Address of Envoy's admin interface, `127.0.0.1` usually.
    pub admin_address: String,
    /// Port of Envoy's admin interface; 0: none.
    pub admin_port: u32,
    /// Port that says whether the proxy is ready, where it has no socket for that.
    pub readiness_port: u32,
    /// Whether the host has IPv6 addresses.
    pub ipv6: bool,
    /// File with the CAs of the operating system; empty: none.
    pub system_ca_path: String,
    /// How connections are redirected to it, where they are.
    pub transparent_proxy: Option<TransparentProxy>,
}

/// Ports that connections are redirected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransparentProxy {
    /// Port for connections to the workload.
    pub inbound_port: u32,
    /// Port for connections from the workload.
    pub outbound_port: u32,
    /// Whether IPv6 is redirected too.
    pub ipv6: bool,
}

/// A certificate and its key, PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KeyPair {
    /// The certificate, and those that lead to its CA.
    pub certificate: Bytes,
    /// The key.
    pub key: Bytes,
}

/// Only that there is one: a key is a secret.
impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyPair({} bytes)", self.certificate.len())
    }
}

/// Secrets that a proxy is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets {
    /// Its identity by a MeshIdentity, and the identifier of that, which is the name of the secret.
    pub workload: Option<(String, KeyPair)>,
    /// Its identity in its mesh; a zone egress has one per mesh.
    pub identities: Vec<(String, KeyPair)>,
    /// CAs of meshes by name, PEM.
    pub mesh_cas: Vec<(String, Bytes)>,
    /// Certificate of its admin listener.
    pub admin: KeyPair,
    /// CA that the control plane's client certificate is chained to, PEM.
    pub admin_ca: Bytes,
}

/// A proxy to make a configuration for.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Everything that the zone knows.
    pub snapshot: &'a Snapshot,
    /// Settings of the control plane.
    pub settings: &'a Settings,
    /// The Dataplane, ZoneIngress or ZoneEgress.
    pub resource: &'a Arc<Resource>,
    /// What the proxy said when it connected.
    pub node: &'a Node,
    /// What it is given to prove who it is.
    pub secrets: &'a Secrets,
}

/// Why no configuration can be made: the proxy keeps its last one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The proxy's own resource does not decode, or is of another kind.
    #[error("{kind} {name:?} cannot be read: {reason}")]
    Proxy {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// There is no such mesh.
    #[error("mesh {0:?} does not exist in this zone yet")]
    NoMesh(String),
    /// A policy asks for what cannot be made.
    #[error("{policy}: {reason}")]
    Policy {
        /// The policy.
        policy: String,
        /// What is wrong.
        reason: String,
    },
}
