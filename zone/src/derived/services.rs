//! MeshServices made from the `kuma.io/service` tags of dataplanes (zone-dataplane 9.3).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use kds_proto::kuma::mesh::v1alpha1::mesh::mesh_services::Mode;
use kds_proto::kuma::mesh::v1alpha1::{Dataplane, Mesh};
use model::labels::{self, PROTOCOL_TAG, SERVICE_TAG};
use model::number::IntOrString;
use model::spec::MeshService;
use model::spec::dataplane;
use model::spec::mesh_service::{Port, Selector};
use model::spec::tags::Tags;
use model::{Key, Kind, Labels, Payload, Resource, syntax};

use super::Conclusion;
use super::round::Round;

/// Value of `kuma.io/managed-by`: what is made here is changed and deleted here.
const MANAGED_BY: &str = "meshservice-generator";

/// Makes MeshServices and takes them away.
pub(super) struct Services {
    zone: String,
    environment: &'static str,
    /// How long a service without dataplanes stays.
    grace: Duration,
    /// Services that wait for their end.
    ending: BTreeSet<Name>,
    /// Services whose dataplanes differ in their ports, and how many do: it is told once.
    conflicts: BTreeMap<Name, usize>,
}

/// A service of a mesh.
type Name = (Arc<str>, String);

impl Services {
    /// Of a zone in an environment; a service without dataplanes goes after a grace period.
    pub fn new(zone: &str, environment: &'static str, grace: Duration) -> Self {
        Self { zone: zone.to_owned(), environment, grace, ending: BTreeSet::new(), conflicts: BTreeMap::new() }
    }

    /// Services that may have to be made, changed or deleted after what changed.
    fn touched(&self, round: &Round) -> BTreeSet<Name> {
        let mut touched = BTreeSet::new();
        for key in round.changed() {
            match key.kind {
                Kind::Dataplane => {
                    let both = [round.before(key), round.now().get(key)];
                    touched.extend(
                        both.into_iter().flatten().flat_map(services).map(|name| (Arc::clone(&key.mesh), name)),
                    );
                }
                Kind::MeshService => drop(touched.insert((Arc::clone(&key.mesh), key.name.to_string()))),
                Kind::Mesh if mode(round, key, false) != mode(round, key, true) => {
                    let proxies = round.now().list_in(Kind::Dataplane, &key.name).flat_map(services);
                    let made =
                        round.now().list_in(Kind::MeshService, &key.name).map(|made| made.meta.key.name.to_string());
                    touched.extend(proxies.chain(made).map(|name| (Arc::clone(&key.name), name)));
                }
                _ => {}
            }
        }
        touched
    }

    fn conclude(&mut self, mesh: &str, name: &str, round: &mut Round) {
        let key = Key::new(Kind::MeshService, mesh, name);
        let known = round.now().get(&key).cloned();
        if known.as_ref().is_some_and(|known| !self.is_made_here(known)) {
            return;
        }
        let Some(mode) = mode(round, &Key::global(Kind::Mesh, mesh), true) else { return };
        if mode == Mode::Disabled {
            if known.is_some() {
                tracing::info!(mesh, service = name, "deleting the MeshService: the mesh has none any more");
                round.remove(&key);
            }
            return;
        }
        let proxies = round.now().service(mesh, name).cloned().collect();
        let offers = offers(proxies, name);
        match known {
            None if offers.is_empty() => {}
            None => self.make(key, &offers, round),
            Some(known) if offers.is_empty() => self.expire(&known, round),
            Some(known) => self.update(&known, &offers, round),
        }
    }

    /// Whether a service was made by this zone from its dataplanes.
    fn is_made_here(&self, resource: &Resource) -> bool {
        let label = |key| resource.meta.labels.get(key);
        label(labels::MANAGED_BY) == Some(MANAGED_BY)
            && label(labels::ORIGIN) != Some(labels::ORIGIN_GLOBAL)
            && label(labels::ZONE).is_none_or(|zone| zone == self.zone)
    }

    fn make(&mut self, key: Key, offers: &[Offer], round: &mut Round) {
        let (mesh, name) = (&*key.mesh, &*key.name);
        if let Some(fault) = syntax::dns_1035_label(name).first() {
            tracing::debug!(mesh, service = name, fault, "no MeshService for this kuma.io/service");
            return;
        }
        let ports = self.agreed(None, offers, &key);
        let tags = [(SERVICE_TAG.to_owned(), name.to_owned())].into();
        let selector = Selector { dataplane_tags: Some(tags), dataplane_ref: None };
        let spec = MeshService { state: None, selector, ports, identities: None };
        let own = [
            (labels::MESH, mesh),
            (labels::DISPLAY_NAME, name),
            (labels::MANAGED_BY, MANAGED_BY),
            (labels::ENV, self.environment),
            (labels::ZONE, &self.zone),
            (labels::ORIGIN, labels::ORIGIN_ZONE),
        ];
        let own: Labels = own.into_iter().collect();
        let Ok(spec) = Payload::from_json(&spec) else { return };
        tracing::info!(mesh, service = name, "making the MeshService");
        round.put(Resource::new(key, own, spec));
    }

    /// Starts the grace period of a service without dataplanes, or ends it.
    fn expire(&mut self, known: &Resource, round: &mut Round) {
        let (mesh, service) = (&*known.meta.key.mesh, &*known.meta.key.name);
        let mark = known.meta.labels.get(labels::DELETION_GRACE_PERIOD_STARTED_AT);
        let started =
            mark.and_then(|mark| DateTime::parse_from_rfc3339(mark).ok()).map(|mark| mark.with_timezone(&Utc));
        let Some(started) = started else {
            let now = round.time().to_rfc3339_opts(SecondsFormat::AutoSi, true);
            let labels = known.meta.labels.with(labels::DELETION_GRACE_PERIOD_STARTED_AT, &now);
            let seconds = self.grace.as_secs();
            tracing::info!(
                mesh,
                service,
                seconds,
                "the MeshService has no dataplane any more and goes after this time"
            );
            let mut marked = known.clone();
            marked.meta.labels = labels;
            round.put(marked);
            self.wait(&known.meta.key, self.grace, round);
            return;
        };
        let passed = round.time().signed_duration_since(started).to_std().unwrap_or_default();
        match self.grace.checked_sub(passed).filter(|left| !left.is_zero()) {
            Some(left) => self.wait(&known.meta.key, left, round),
            None => {
                tracing::info!(mesh, service, "deleting the MeshService: its grace period is over");
                round.remove(&known.meta.key);
            }
        }
    }

    fn wait(&mut self, key: &Key, length: Duration, round: &mut Round) {
        self.ending.insert((Arc::clone(&key.mesh), key.name.to_string()));
        round.look_again_after(length);
    }

    fn update(&mut self, known: &Resource, offers: &[Offer], round: &mut Round) {
        let Ok(spec) = known.spec.json::<MeshService>() else { return };
        let (mesh, service) = (&*known.meta.key.mesh, &*known.meta.key.name);
        let ports = self.agreed(Some(&spec.ports), offers, &known.meta.key);
        let marked = known.meta.labels.get(labels::DELETION_GRACE_PERIOD_STARTED_AT).is_some();
        if ports == spec.ports && !marked {
            return;
        }
        let mut updated = known.clone();
        if ports != spec.ports {
            tracing::info!(mesh, service, "the MeshService has other ports now");
            let Ok(spec) = Payload::from_json(&MeshService { ports, ..MeshService::clone(&spec) }) else { return };
            updated.spec = spec;
        }
        if marked {
            tracing::info!(mesh, service, "the MeshService has dataplanes again and stays");
            updated.meta.labels = known.meta.labels.without(labels::DELETION_GRACE_PERIOD_STARTED_AT);
        }
        round.put(updated);
    }

    /// The ports that hold: those that are known while one dataplane agrees, else those of the oldest.
    fn agreed(&mut self, known: Option<&[Port]>, offers: &[Offer], key: &Key) -> Vec<Port> {
        let confirmed = known.filter(|known| offers.iter().any(|offer| offer.ports == *known));
        let ports = confirmed.or_else(|| offers.first().map(|oldest| &*oldest.ports)).unwrap_or_default();
        let differing: Vec<&str> =
            offers.iter().filter(|offer| offer.ports != ports).map(|offer| &*offer.dataplane).collect();
        let name = (Arc::clone(&key.mesh), key.name.to_string());
        let told = if differing.is_empty() {
            self.conflicts.remove(&name)
        } else {
            self.conflicts.insert(name, differing.len())
        };
        if !differing.is_empty() && told != Some(differing.len()) {
            tracing::warn!(
                mesh = &*key.mesh,
                service = &*key.name,
                dataplanes = differing.len(),
                one = differing[0],
                "dataplanes have other ports for a service than its MeshService: inbounds of one kuma.io/service must be \
                 alike"
            );
        }
        ports.to_vec()
    }
}

impl Conclusion for Services {
    fn step(&mut self, round: &mut Round) {
        let mut touched = self.touched(round);
        touched.append(&mut self.ending);
        for (mesh, name) in touched {
            self.conclude(&mesh, &name, round);
        }
    }
}

/// Ports that one dataplane says a service has.
struct Offer {
    dataplane: Arc<str>,
    ports: Vec<Port>,
}

/// What dataplanes say about a service, the oldest first.
fn offers(mut proxies: Vec<Arc<Resource>>, service: &str) -> Vec<Offer> {
    proxies.sort_by(|a, b| (a.meta.created, &a.meta.key.name).cmp(&(b.meta.created, &b.meta.key.name)));
    let offer = |resource: Arc<Resource>| {
        let proxy = resource.spec.message::<Dataplane>().ok()?;
        let inbounds = proxy.networking.iter().flat_map(|networking| &networking.inbound);
        let of_service = inbounds.filter(|inbound| inbound.tags.get(SERVICE_TAG).is_some_and(|tag| tag == service));
        let ports: Vec<Port> = of_service
            .filter_map(|inbound| {
                let number = i32::try_from(inbound.port).ok()?;
                Some(Port {
                    name: Some(dataplane::section_name(inbound)),
                    port: number,
                    target_port: Some(IntOrString::Int(number)),
                    app_protocol: Some(protocol(&inbound.tags).to_owned()),
                })
            })
            .collect();
        (!ports.is_empty()).then(|| Offer { dataplane: Arc::clone(&resource.meta.key.name), ports })
    };
    proxies.into_iter().filter_map(offer).collect()
}

/// What an inbound says that it speaks; `tcp` for what Kuma does not know.
fn protocol(tags: &Tags) -> &'static str {
    let word = tags.get(PROTOCOL_TAG).map(|word| word.to_ascii_lowercase()).unwrap_or_default();
    let known = ["http", "http2", "grpc", "kafka", "tls", "mysql"];
    known.into_iter().find(|known| *known == word).unwrap_or("tcp")
}

/// Services of the inbounds of a dataplane.
fn services(resource: &Arc<Resource>) -> BTreeSet<String> {
    let proxy = resource.spec.message::<Dataplane>().ok();
    let networking = proxy.iter().flat_map(|proxy| &proxy.networking);
    let inbounds = networking.flat_map(|networking| &networking.inbound);
    inbounds.filter_map(|inbound| inbound.tags.get(SERVICE_TAG).cloned()).collect()
}

/// How a mesh has its services, now or at the last look; `None` when there is no such mesh.
fn mode(round: &Round, key: &Key, now: bool) -> Option<Mode> {
    let resource = if now { round.now().get(key) } else { round.before(key) };
    let mesh = resource?.spec.message::<Mesh>().ok()?;
    Some(mesh.mesh_services.as_ref().map_or(Mode::Disabled, |services| services.mode()))
}

#[cfg(test)]
mod tests;
