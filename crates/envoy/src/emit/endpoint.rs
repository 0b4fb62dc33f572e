//! Load assignments.

use std::collections::BTreeMap;

use kds_proto::envoy::config::core::v3::Locality as EnvoyLocality;
use kds_proto::envoy::config::endpoint::v3::cluster_load_assignment::Policy;
use kds_proto::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use kds_proto::envoy::config::endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints};
use model::labels::SERVICE_TAG;

use super::{metadata, socket};
use crate::endpoint::{Endpoint as Planned, Locality};
use crate::plan::Assignment;

/// Names under which Envoy looks for the tags of an endpoint: for subsets, and for the TLS that it takes.
const TAGS: &[&str] = &["envoy.lb", "envoy.transport_socket_match"];

/// Endpoints of one locality.
type Group<'a> = (Option<&'a Locality>, Vec<&'a Planned>);

/// Endpoints by locality, in order of their addresses.
pub fn assignment(cluster: &str, assignment: &Assignment) -> ClusterLoadAssignment {
    let mut by_locality: BTreeMap<(String, String), Group<'_>> = BTreeMap::new();
    for endpoint in &assignment.endpoints {
        let locality = endpoint.locality.as_ref();
        let key = locality.map(|locality| (locality.zone.clone(), locality.sub_zone.clone())).unwrap_or_default();
        by_locality.entry(key).or_insert_with(|| (locality, Vec::new())).1.push(endpoint);
    }
    let endpoints = by_locality.into_values().map(|(locality, mut endpoints)| {
        endpoints.sort_by(|a, b| (&a.address, a.port).cmp(&(&b.address, b.port)));
        of_locality(locality, &endpoints)
    });
    let factor = assignment.overprovisioning;
    ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: endpoints.collect(),
        policy: factor.map(|factor| Policy { overprovisioning_factor: Some(factor), ..Policy::default() }),
        ..ClusterLoadAssignment::default()
    }
}

fn of_locality(locality: Option<&Locality>, endpoints: &[&Planned]) -> LocalityLbEndpoints {
    LocalityLbEndpoints {
        locality: locality.map(|locality| EnvoyLocality {
            zone: locality.zone.clone(),
            sub_zone: locality.sub_zone.clone(),
            ..EnvoyLocality::default()
        }),
        priority: locality.map_or(0, |locality| locality.priority),
        load_balancing_weight: locality.map(|locality| locality.weight).filter(|weight| *weight > 0),
        lb_endpoints: endpoints.iter().map(|endpoint| of_endpoint(endpoint)).collect(),
        ..LocalityLbEndpoints::default()
    }
}

fn of_endpoint(endpoint: &Planned) -> LbEndpoint {
    let mut tags = endpoint.tags.clone();
    tags.remove(SERVICE_TAG);
    let address = socket(&endpoint.address, endpoint.port);
    LbEndpoint {
        metadata: metadata(TAGS, &tags),
        load_balancing_weight: Some(endpoint.weight).filter(|weight| *weight > 0),
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint { address: Some(address), ..Endpoint::default() })),
        ..LbEndpoint::default()
    }
}
