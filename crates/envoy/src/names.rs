//! Names of Envoy resources (zone-dataplane 10).
//!
//! Every resource has an older name and a unified one, a KRI or `self_…`, which proxies ask for by a feature. Names that
//! do not depend on the plan are made here and nowhere else.

use std::collections::BTreeMap;

use model::kri::Kri;
use model::labels::{NAMESPACE, SERVICE_TAG, ZONE};
use model::spec::tags;
use model::{Kind, Meta};

/// Which names a proxy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// The older ones.
    Legacy,
    /// KRIs and `self_…`.
    Unified,
}

impl Naming {
    /// The name of the wanted form.
    pub fn pick<'a>(self, legacy: &'a str, unified: &'a str) -> &'a str {
        match self {
            Self::Legacy => legacy,
            Self::Unified => unified,
        }
    }
}

/// A listener for traffic to a workload.
pub fn inbound_listener(address: &str, port: u32) -> String {
    format!("inbound:{}", host_port(address, port))
}

/// A listener for traffic from a workload.
pub fn outbound_listener(address: &str, port: u32) -> String {
    format!("outbound:{}", host_port(address, port))
}

/// The cluster of a workload.
pub fn local_cluster(port: u32) -> String {
    format!("localhost:{port}")
}

/// The unified name of everything that belongs to an inbound.
pub fn inbound_section(section: &str) -> String {
    format!("self_inbound_dp_{section}")
}

fn host_port(address: &str, port: u32) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// The cluster of a service by its tags: the service, and a hash when there are more.
pub fn tagged_cluster(service: &str, tags: &BTreeMap<String, String>) -> String {
    let mut all = tags.clone();
    all.insert(SERVICE_TAG.to_owned(), service.to_owned());
    tags::cluster_name(&all)
}

/// The older name of the cluster of a port of a service that is a resource.
pub fn resource_cluster(meta: &Meta, port: u32) -> String {
    let label = |key| meta.labels.get(key).unwrap_or_default();
    let short = meta.key.kind.info().short_name.unwrap_or_default();
    format!("{}_{}_{}_{}_{short}_{port}", meta.key.mesh, meta.display_name(), label(NAMESPACE), label(ZONE))
}

/// A cluster of a zone proxy for a service of a mesh.
pub fn mesh_cluster(mesh: &str, service: &str) -> String {
    format!("{mesh}:{service}")
}

/// What statistics call a resource: characters that mean something there are replaced.
pub fn stat(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' }).collect()
}

/// The identifier of a port of a resource as a name; kinds without identifiers have none.
pub fn port_kri(meta: &Meta, section: &str) -> Option<Kri> {
    Some(Kri::of(meta)?.with_section(section))
}

/// Whether a kind of destination is outside the mesh.
pub fn is_external(kind: Kind) -> bool {
    kind == Kind::MeshExternalService
}

/// Secrets of a mesh by their older and unified names (zone-dataplane 3.5).
pub mod secret {
    use super::Naming;

    /// The certificate of a proxy.
    pub fn identity(naming: Naming, mesh: &str) -> String {
        naming.pick(&format!("identity_cert:secret:{mesh}"), &format!("system_mtls_identity_{mesh}")).to_owned()
    }

    /// The CAs of a mesh.
    pub fn ca(naming: Naming, mesh: &str) -> String {
        naming.pick(&format!("mesh_ca:secret:{mesh}"), &format!("system_mtls_ca_{mesh}")).to_owned()
    }

    /// The CAs of every trust domain.
    pub const TRUST_BUNDLE: &str = "system_trust_bundle";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of the reference (8.3).
    #[test]
    fn a_cluster_of_tags_ends_in_their_hash() {
        let tags: BTreeMap<String, String> = [("region".to_owned(), "eu".to_owned())].into();
        assert_eq!(tagged_cluster("backend", &tags), "backend-bb38a94289f18fb9");
        assert_eq!(tagged_cluster("backend", &BTreeMap::new()), "backend");
    }

    #[test]
    fn statistics_replace_what_separates() {
        assert_eq!(stat("inbound:127.0.0.1:80"), "inbound_127_0_0_1_80");
        assert_eq!(stat("default_backend__east_msvc_80"), "default_backend__east_msvc_80");
    }
}
