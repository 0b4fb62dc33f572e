//! Envoy's own interface, for the control plane and for probes (zone-dataplane 1.7).

use crate::input::{KeyPair, Node, Secrets};
use crate::names::Naming;
use bytes::Bytes;

/// Envoy's own interface.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Names of its resources: the proxy's wish alone decides.
    pub naming: Naming,
    /// Where Envoy serves it, a loopback address.
    pub address: String,
    /// Its port, there and on the proxy's own address.
    pub port: u32,
    /// The proxy's own address; `None` when that is where Envoy serves it.
    pub listen: Option<String>,
    /// Who says whether the proxy is ready: a socket's path, or a port.
    pub readiness: Readiness,
    /// What it proves who it is with.
    pub identity: KeyPair,
    /// CA of the control plane's certificate.
    pub ca: Bytes,
}

/// Who says whether the proxy is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// A socket.
    Socket(String),
    /// A port on the address of the admin interface.
    Port(u32),
}

impl Admin {
    /// `None` when Envoy serves none, or says that it does on an address that is not its host's own.
    pub(super) fn new(node: &Node, own: &str, secrets: &Secrets) -> Option<Self> {
        let address = match node.admin_address.as_str() {
            "" | "0.0.0.0" | "127.0.0.1" => "127.0.0.1",
            "::" | "::1" => "::1",
            // What a proxy says is not trusted to be a way to other hosts.
            _ => return None,
        };
        let readiness = if node.features.readiness_unix_socket {
            Readiness::Socket(format!("{}/kuma-readiness-reporter.sock", node.work_dir))
        } else {
            Readiness::Port(node.readiness_port)
        };
        (node.admin_port != 0).then(|| Self {
            naming: if node.features.unified_naming { Naming::Unified } else { Naming::Legacy },
            address: address.to_owned(),
            port: node.admin_port,
            // Without a certificate nobody could ask there, and Envoy would refuse the listener.
            listen: (own != address && !secrets.admin.certificate.is_empty()).then(|| own.to_owned()),
            readiness,
            identity: secrets.admin.clone(),
            ca: secrets.admin_ca.clone(),
        })
    }
}
