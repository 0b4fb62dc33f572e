//! Endpoints of a destination: addresses, weights, localities.

use std::collections::BTreeMap;

use model::spec::tags::Tags;

/// A place that a destination can be reached at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address or host name.
    pub address: String,
    /// Port.
    pub port: u32,
    /// Tags of what is behind it.
    pub tags: Tags,
    /// Share of the traffic, relative to others.
    pub weight: u32,
    /// Where it stands, if it says.
    pub locality: Option<Locality>,
    /// The zone that it leads into, when that is another.
    pub remote: Option<String>,
    /// How many healthy instances are behind it.
    pub instances: u32,
}

/// Where endpoints stand, and when they are used.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Locality {
    /// The zone.
    pub zone: String,
    /// A part of it.
    pub sub_zone: String,
    /// Used when those of lower number fail.
    pub priority: u32,
    /// Share of the traffic of the priority; 0: not set.
    pub weight: u32,
}

impl Endpoint {
    /// An endpoint without locality that is one instance.
    pub fn new(address: &str, port: u32, tags: Tags, weight: u32) -> Self {
        Self { address: address.to_owned(), port, tags, weight, locality: None, remote: None, instances: 1 }
    }
}

/// Endpoints with weights such that every zone's share is its share of healthy instances, and with one endpoint for
/// each address: of equal addresses Envoy keeps the first alone (zone-dataplane 7.5).
///
/// A zone of `n` instances behind `k` addresses has `n/k` at each; all are scaled by the least common multiple of the
/// `k`, so that weights are integers.
pub fn exact(endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    let mut addresses: BTreeMap<&str, Vec<(&str, u32)>> = BTreeMap::new();
    for endpoint in &endpoints {
        if let Some(zone) = &endpoint.remote {
            let known = addresses.entry(zone).or_default();
            let address = (endpoint.address.as_str(), endpoint.port);
            if !known.contains(&address) {
                known.push(address);
            }
        }
    }
    let counts: BTreeMap<String, u64> =
        addresses.into_iter().map(|(zone, known)| (zone.to_owned(), known.len() as u64)).collect();
    let scale = counts.values().copied().fold(1, least_common_multiple);
    let weight = |endpoint: &Endpoint| {
        let behind = endpoint.remote.as_ref().and_then(|zone| counts.get(zone)).copied().unwrap_or(1).max(1);
        u64::from(endpoint.instances) * (scale / behind)
    };
    let mut merged: Vec<(Endpoint, u64)> = Vec::new();
    for endpoint in endpoints {
        let more = weight(&endpoint);
        let same = |(known, _): &&mut (Endpoint, u64)| known.address == endpoint.address && known.port == endpoint.port;
        match merged.iter_mut().find(same) {
            Some((known, weight)) => {
                *weight += more;
                known.instances = known.instances.saturating_add(endpoint.instances);
                known.tags.retain(|key, value| endpoint.tags.get(key) == Some(value));
            }
            None => merged.push((endpoint, more)),
        }
    }
    let divisor = merged.iter().map(|(_, weight)| *weight).fold(0, greatest_common_divisor).max(1);
    // Envoy bounds the sum of weights by 2^32.
    let bounded = |weight: u64| u32::try_from(weight / divisor).unwrap_or(u32::MAX);
    merged.into_iter().map(|(endpoint, weight)| Endpoint { weight: bounded(weight), ..endpoint }).collect()
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

fn least_common_multiple(a: u64, b: u64) -> u64 {
    a / greatest_common_divisor(a, b).max(1) * b
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(zone: &str, address: &str, version: &str, instances: u32) -> Endpoint {
        let tags = [("version".to_owned(), version.to_owned()), ("kuma.io/zone".to_owned(), zone.to_owned())].into();
        Endpoint { remote: Some(zone.into()), instances, ..Endpoint::new(address, 1, tags, 7) }
    }

    fn weights(endpoints: Vec<Endpoint>) -> Vec<(String, u32)> {
        exact(endpoints).into_iter().map(|endpoint| (endpoint.address, endpoint.weight)).collect()
    }

    fn local(address: &str) -> Endpoint {
        Endpoint::new(address, 1, Tags::new(), 9)
    }

    #[test]
    fn a_zones_share_is_its_share_of_instances() {
        let endpoints = vec![local("l1"), local("l2"), remote("b", "b1", "v1", 1), remote("c", "c1", "v1", 5)];
        assert_eq!(weights(endpoints), [("l1", 1), ("l2", 1), ("b1", 1), ("c1", 5)].map(|(a, w)| (a.to_owned(), w)));
    }

    #[test]
    fn instances_are_shared_by_the_addresses_of_their_zone() {
        let endpoints =
            vec![local("l"), remote("b", "b1", "v1", 3), remote("b", "b2", "v1", 3), remote("c", "c", "v1", 2)];
        assert_eq!(weights(endpoints), [("l", 2), ("b1", 3), ("b2", 3), ("c", 4)].map(|(a, w)| (a.to_owned(), w)));
    }

    #[test]
    fn tag_sets_behind_one_address_add_up() {
        let endpoints = vec![local("l"), remote("b", "b", "v1", 3), remote("b", "b", "v2", 2)];
        let merged = exact(endpoints);
        assert_eq!((merged.len(), merged[1].weight), (2, 5));
        assert_eq!(merged[1].tags.keys().collect::<Vec<_>>(), ["kuma.io/zone"], "what they have in common");
    }
}
