//! What goes to a proxy: resources, encoded once.

use bytes::Bytes;
use kds_proto::Any;
use kds_proto::envoy::config::cluster::v3::Cluster;
use kds_proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use kds_proto::envoy::config::listener::v3::Listener;
use kds_proto::envoy::config::route::v3::RouteConfiguration;
use kds_proto::envoy::extensions::transport_sockets::tls::v3::Secret;
use prost::{Message, Name};
use sha2::{Digest, Sha256};

/// The types of resources, in the order in which a proxy must learn them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    /// Secrets.
    Secret,
    /// Clusters.
    Cluster,
    /// Load assignments.
    Endpoint,
    /// Listeners.
    Listener,
    /// Route configurations.
    Route,
}

impl Type {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Secret, Self::Cluster, Self::Endpoint, Self::Listener, Self::Route];

    /// The type URL of the protocol.
    pub fn url(self) -> String {
        match self {
            Self::Secret => Secret::type_url(),
            Self::Cluster => Cluster::type_url(),
            Self::Endpoint => ClusterLoadAssignment::type_url(),
            Self::Listener => Listener::type_url(),
            Self::Route => RouteConfiguration::type_url(),
        }
    }
}

/// One resource, ready to be sent to any number of proxies.
#[derive(Clone, PartialEq, Eq)]
pub struct Emitted {
    /// Its name.
    pub name: String,
    /// Its type.
    pub r#type: Type,
    /// Hash of the content: equal content has an equal version, in every control plane.
    pub version: [u8; 16],
    /// The encoded message.
    pub bytes: Bytes,
}

/// Without the content: it may be a secret.
impl std::fmt::Debug for Emitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?} ({} bytes)", self.r#type, self.name, self.bytes.len())
    }
}

impl Emitted {
    /// Encodes a message. Maps are ordered, so equal messages have equal bytes.
    pub fn new(r#type: Type, name: &str, message: &impl Message) -> Self {
        let bytes = Bytes::from(message.encode_to_vec());
        let hash = Sha256::digest(&bytes);
        let mut version = [0; 16];
        version.copy_from_slice(&hash[..16]);
        Self { name: name.to_owned(), r#type, version, bytes }
    }

    /// The resource as responses carry it.
    pub fn any(&self) -> Any {
        Any { type_url: self.r#type.url(), value: self.bytes.clone() }
    }
}

/// A whole configuration: by type, then name.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    resources: Vec<Emitted>,
}

impl Configuration {
    /// Of resources of one type and name the last counts.
    pub(crate) fn new(mut resources: Vec<Emitted>) -> Self {
        resources.reverse();
        resources.sort_by(|a, b| (a.r#type, &a.name).cmp(&(b.r#type, &b.name)));
        resources.dedup_by(|later, first| later.r#type == first.r#type && later.name == first.name);
        Self { resources }
    }

    /// All resources.
    pub fn iter(&self) -> impl Iterator<Item = &Emitted> {
        self.resources.iter()
    }

    /// One of them.
    pub fn get(&self, r#type: Type, name: &str) -> Option<&Emitted> {
        let at = self.resources.binary_search_by(|resource| (resource.r#type, &*resource.name).cmp(&(r#type, name)));
        at.ok().and_then(|at| self.resources.get(at))
    }

    /// Those of a type, by name.
    pub fn of(&self, r#type: Type) -> impl Iterator<Item = &Emitted> {
        self.resources.iter().filter(move |resource| resource.r#type == r#type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_hashes_of_content() {
        let cluster = |stat: &str| Cluster { name: "a".into(), alt_stat_name: stat.into(), ..Cluster::default() };
        let version = |stat| Emitted::new(Type::Cluster, "a", &cluster(stat)).version;
        assert_eq!(version("x"), version("x"));
        assert_ne!(version("x"), version("y"));
    }

    #[test]
    fn the_last_of_a_name_counts() {
        let cluster = |stat: &str| {
            Emitted::new(Type::Cluster, "a", &Cluster { alt_stat_name: stat.into(), ..Cluster::default() })
        };
        let configuration = Configuration::new(vec![cluster("x"), cluster("y")]);
        assert_eq!(configuration.iter().collect::<Vec<_>>(), [&cluster("y")]);
        assert_eq!(configuration.get(Type::Cluster, "a"), Some(&cluster("y")));
        assert_eq!(configuration.get(Type::Listener, "a"), None);
    }
}
