//! The MeshServices that each MeshMultiZoneService means (zone-dataplane 9.1).

use std::collections::BTreeSet;
use std::sync::Arc;

use model::labels::{NAMESPACE, ZONE};
use model::spec::MeshMultiZoneService;
use model::spec::condition::{Condition, ConditionStatus};
use model::spec::mesh_multi_zone_service::{MatchedMeshService, Status};
use model::{Key, Kind, Payload, Resource};

use super::Conclusion;
use super::round::Round;

/// The condition that tells whether there is anything behind the name.
const MATCHED: &str = "MeshServicesMatched";

/// Looks for the MeshServices of each MeshMultiZoneService.
pub(super) struct MultiZone;

impl Conclusion for MultiZone {
    fn step(&mut self, round: &mut Round) {
        for key in touched(round) {
            let Some(service) = round.now().get(&key).cloned() else { continue };
            if let Some(corrected) = corrected(&service, round) {
                round.put(corrected);
            }
        }
    }
}

/// MeshMultiZoneServices that changed, and all of a mesh in which a MeshService came, went or got other labels.
fn touched(round: &Round) -> BTreeSet<Key> {
    let mut touched = BTreeSet::new();
    let mut meshes: BTreeSet<Arc<str>> = BTreeSet::new();
    for key in round.changed() {
        let labels = |resource: Option<&Arc<Resource>>| resource.map(|resource| resource.meta.labels.clone());
        match key.kind {
            Kind::MeshMultiZoneService => drop(touched.insert(key.clone())),
            Kind::MeshService if labels(round.before(key)) != labels(round.now().get(key)) => {
                meshes.insert(Arc::clone(&key.mesh));
            }
            _ => {}
        }
    }
    for mesh in meshes {
        touched.extend(round.now().list_in(Kind::MeshMultiZoneService, &mesh).map(|found| found.meta.key.clone()));
    }
    touched
}

/// What it should be, if it is not.
fn corrected(service: &Resource, round: &Round) -> Option<Resource> {
    let spec = service.spec.json::<MeshMultiZoneService>().ok()?;
    let known = service.status.as_ref().and_then(|status| status.json::<Status>().ok()).unwrap_or_default();
    let mut status = Status { mesh_services: matched(&spec, &service.meta.key.mesh, round), ..Status::clone(&known) };
    let condition = condition(status.mesh_services.len());
    match status.conditions.iter_mut().find(|known| known.r#type == condition.r#type) {
        Some(known) => *known = condition,
        None => status.conditions.push(condition),
    }
    let status = (status != *known).then(|| Payload::from_json(&status).ok()).flatten()?;
    Some(Resource { status: Some(status), ..service.clone() })
}

/// Sorted by name, namespace, zone and mesh.
fn matched(spec: &MeshMultiZoneService, mesh: &str, round: &Round) -> Vec<MatchedMeshService> {
    let selector = &spec.selector.mesh_service;
    let named = |resource: &Arc<Resource>| {
        let label = |key| resource.meta.labels.get(key).unwrap_or_default().to_owned();
        MatchedMeshService {
            name: resource.meta.display_name().to_owned(),
            namespace: label(NAMESPACE),
            zone: label(ZONE),
            mesh: resource.meta.key.mesh.to_string(),
        }
    };
    let fits = |resource: &&Arc<Resource>| *resource.meta.key.mesh == *mesh && selector.matches(&resource.meta.labels);
    let mut matched: Vec<MatchedMeshService> = match selector.match_labels.iter().flatten().next() {
        Some((key, value)) => round.now().labelled(Kind::MeshService, key, value).filter(fits).map(named).collect(),
        None => round.now().list_in(Kind::MeshService, mesh).filter(fits).map(named).collect(),
    };
    matched.sort_by_cached_key(|found| format!("{}/{}/{}/{}", found.name, found.namespace, found.zone, found.mesh));
    matched
}

fn condition(count: usize) -> Condition {
    let (status, reason, message) = match count {
        0 => {
            let message = "Selector does not match any MeshService in this zone".to_owned();
            (ConditionStatus::False, "NoMatchesFound", message)
        }
        _ => (ConditionStatus::True, "MatchesFound", format!("Matched {count} MeshService(s)")),
    };
    Condition { r#type: MATCHED.to_owned(), status, reason: reason.to_owned(), message }
}

#[cfg(test)]
mod tests;
