//! Host names of services, by the HostnameGenerators (zone-dataplane 9.6).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use model::labels::{ORIGIN, ORIGIN_ZONE};
use model::spec::HostnameGenerator;
use model::spec::condition::{Condition, ConditionStatus};
use model::spec::hostname_generator::{Address, HostnameGeneratorRef, HostnameGeneratorStatus, Origin};
use model::spec::{mesh_external_service, mesh_multi_zone_service, mesh_service};
use model::{Key, Kind, Labels, Payload, Resource, hostname};

use super::Conclusion;
use super::round::Round;

/// Kinds that have host names.
const NAMED: [Kind; 3] = [Kind::MeshService, Kind::MeshExternalService, Kind::MeshMultiZoneService];

/// Gives host names. A change of a service costs that service and those that want the same names.
pub(super) struct Hostnames {
    zone: String,
    /// In the order in which they may claim names.
    generators: Vec<Generator>,
    /// What each generator makes of each service.
    made: BTreeMap<Key, Made>,
    /// Who wants a name, the first of them has it.
    claims: BTreeMap<Hostname, BTreeSet<Claim>>,
}

struct Generator {
    name: Arc<str>,
    spec: Arc<HostnameGenerator>,
}

/// What became of a service's names; by generator.
struct Made {
    labels: Labels,
    created: DateTime<Utc>,
    names: Vec<Option<Result<String, String>>>,
}

/// A name is unique among services of a kind in a mesh.
type Hostname = (Kind, Arc<str>, String);

/// By generator, then the older service.
type Claim = (usize, DateTime<Utc>, Arc<str>);

impl Hostnames {
    /// Of a zone.
    pub fn new(zone: &str) -> Self {
        Self { zone: zone.to_owned(), generators: Vec::new(), made: BTreeMap::new(), claims: BTreeMap::new() }
    }

    /// Takes the generators in their order: those of the zone first, then the older.
    fn look_at_generators(&mut self, round: &Round) {
        let mut all: Vec<&Arc<Resource>> = round.now().list(Kind::HostnameGenerator).collect();
        all.sort_by_key(|resource| {
            let meta = &resource.meta;
            (meta.labels.get(ORIGIN) != Some(ORIGIN_ZONE), meta.created, Arc::clone(&meta.key.name))
        });
        let generator = |resource: &Arc<Resource>| {
            Some(Generator { name: Arc::clone(&resource.meta.key.name), spec: resource.spec.json().ok()? })
        };
        self.generators = all.into_iter().filter_map(generator).collect();
        self.made.clear();
        self.claims.clear();
    }

    /// Makes the names of a service anew, and adds to `affected` who wants the same.
    fn rename(&mut self, key: &Key, service: Option<&Arc<Resource>>, affected: &mut BTreeSet<Key>) {
        affected.insert(key.clone());
        let same = |made: &Made| {
            service.is_some_and(|service| service.meta.labels == made.labels && service.meta.created == made.created)
        };
        if self.made.get(key).is_some_and(same) {
            return;
        }
        if let Some(made) = self.made.remove(key) {
            for (hostname, claim) in claims(key, &made) {
                self.affect(&hostname, affected);
                if let Some(wanting) = self.claims.get_mut(&hostname) {
                    wanting.remove(&claim);
                    if wanting.is_empty() {
                        self.claims.remove(&hostname);
                    }
                }
            }
        }
        let Some(service) = service else { return };
        let (meta, labels) = (&service.meta, &service.meta.labels);
        let names = self.generators.iter().map(|generator| {
            let made = hostname::generate(&generator.spec, meta, labels, &self.zone).transpose();
            made.map(|name| name.map_err(|error| hostname::explain(&error)))
        });
        let made = Made { names: names.collect(), labels: service.meta.labels.clone(), created: service.meta.created };
        for (hostname, claim) in claims(key, &made) {
            self.claims.entry(hostname.clone()).or_default().insert(claim);
            self.affect(&hostname, affected);
        }
        self.made.insert(key.clone(), made);
    }

    fn affect(&self, hostname: &Hostname, affected: &mut BTreeSet<Key>) {
        let wanting = self.claims.get(hostname).into_iter().flatten();
        affected.extend(wanting.map(|(.., name)| Key::new(hostname.0, &hostname.1, name)));
    }

    /// Names and what became of each generator, by the generator's name.
    fn status(&self, key: &Key) -> (Vec<Address>, Vec<HostnameGeneratorStatus>) {
        let made = self.made.get(key).into_iter().flat_map(|made| &made.names);
        let mut all: Vec<(&Generator, &Result<String, String>)> = self
            .generators
            .iter()
            .zip(made)
            .filter_map(|(generator, made)| Some((generator, made.as_ref()?)))
            .collect();
        all.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        let (mut addresses, mut statuses) = (Vec::new(), Vec::new());
        for (generator, made) in all {
            let hostname_generator_ref = HostnameGeneratorRef { core_name: generator.name.to_string() };
            let condition = match made {
                Ok(hostname) if self.has(key, hostname) => {
                    addresses.push(Address {
                        hostname: hostname.clone(),
                        origin: Some(Origin::HostnameGenerator),
                        hostname_generator_ref: hostname_generator_ref.clone(),
                    });
                    condition(ConditionStatus::True, "Generated", String::new())
                }
                // Kuma names the service itself here, not the one that has the name.
                Ok(_) => {
                    let message = format!("Hostname collision with {}: {}", key.kind, key.name);
                    condition(ConditionStatus::False, "Collision", message)
                }
                Err(fault) => condition(ConditionStatus::False, "TemplateError", fault.clone()),
            };
            statuses.push(HostnameGeneratorStatus { hostname_generator_ref, conditions: vec![condition] });
        }
        (addresses, statuses)
    }

    /// Whether a name that a service wants is its own.
    fn has(&self, key: &Key, hostname: &str) -> bool {
        let wanting = self.claims.get(&(key.kind, Arc::clone(&key.mesh), hostname.to_owned()));
        wanting.and_then(BTreeSet::first).is_some_and(|(.., name)| *name == key.name)
    }
}

impl Conclusion for Hostnames {
    fn step(&mut self, round: &mut Round) {
        let anew = round.changed().any(|key| key.kind == Kind::HostnameGenerator);
        let changed: Vec<Key> = if anew {
            self.look_at_generators(round);
            let all = NAMED.into_iter().flat_map(|kind| round.now().list(kind));
            all.map(|service| service.meta.key.clone()).collect()
        } else {
            round.changed().filter(|key| NAMED.contains(&key.kind)).cloned().collect()
        };
        let mut affected = BTreeSet::new();
        for key in &changed {
            let service = round.now().get(key).cloned();
            self.rename(key, service.as_ref(), &mut affected);
        }
        for key in affected {
            let Some(service) = round.now().get(&key).cloned() else { continue };
            let (addresses, statuses) = self.status(&key);
            if let Some(named) = with_names(&service, addresses, statuses) {
                tracing::debug!(kind = key.kind.name(), mesh = &*key.mesh, name = &*key.name, "new host names");
                round.put(named);
            }
        }
    }
}

/// The names that a service wants, and with which right.
fn claims(key: &Key, made: &Made) -> Vec<(Hostname, Claim)> {
    let names = made.names.iter().enumerate();
    let wanted = names.filter_map(|(rank, name)| Some((rank, name.as_ref()?.as_ref().ok()?)));
    wanted
        .map(|(rank, name)| {
            ((key.kind, Arc::clone(&key.mesh), name.clone()), (rank, made.created, Arc::clone(&key.name)))
        })
        .collect()
}

fn condition(status: ConditionStatus, reason: &str, message: String) -> Condition {
    Condition { r#type: "Generated".to_owned(), status, reason: reason.to_owned(), message }
}

/// The service with these names; `None` when it has them.
fn with_names(
    service: &Resource,
    addresses: Vec<Address>,
    hostname_generators: Vec<HostnameGeneratorStatus>,
) -> Option<Resource> {
    let known = service.status.clone().unwrap_or_else(|| Payload::from_bytes("{}"));
    let status = match service.kind() {
        Kind::MeshService => {
            let known = known.json::<mesh_service::Status>().ok()?;
            let status = mesh_service::Status { addresses, hostname_generators, ..mesh_service::Status::clone(&known) };
            (status != *known).then(|| Payload::from_json(&status))
        }
        Kind::MeshMultiZoneService => {
            let known = known.json::<mesh_multi_zone_service::Status>().ok()?;
            let own = mesh_multi_zone_service::Status::clone(&known);
            let status = mesh_multi_zone_service::Status { addresses, hostname_generators, ..own };
            (status != *known).then(|| Payload::from_json(&status))
        }
        _ => {
            let known = known.json::<mesh_external_service::Status>().ok()?;
            let own = mesh_external_service::Status::clone(&known);
            let status = mesh_external_service::Status { addresses, hostname_generators, ..own };
            (status != *known).then(|| Payload::from_json(&status))
        }
    };
    Some(Resource { status: Some(status?.ok()?), ..service.clone() })
}

#[cfg(test)]
mod tests;
