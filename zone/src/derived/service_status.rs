//! How the zone's own MeshServices fare: who proves to be them, whether they can be called, by mTLS too
//! (zone-dataplane 9.3). Those of other zones were looked at there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::Inbound;
use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::inbound::State as Ready;
use kds_proto::kuma::mesh::v1alpha1::{Dataplane, DataplaneInsight, Mesh};
use model::insight::is_online;
use model::labels::SERVICE_TAG;
use model::mode::Environment;
use model::number::IntOrString;
use model::spec::dataplane::{is_chosen_by, services, tag_sets};
use model::spec::mesh_identity::ProviderType;
use model::spec::mesh_service::{
    DataplaneProxies, Identity, IdentityType, Port, Selector, State, Status, Tls, TlsStatus,
};
use model::spec::{MeshService, MeshTrust, mesh};
use model::workload_identity::{self, Readiness};
use model::{Key, Kind, Meta, Payload, Resource};

use super::Conclusion;
use super::round::Round;

/// Looks after the status of MeshServices.
pub(super) struct ServiceStatus {
    zone: String,
    environment: Environment,
    /// Services whose proxies no index finds: any change of a proxy may be one of theirs.
    unindexed: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
}

/// A proxy behind a service.
struct Proxy {
    meta: Meta,
    dataplane: Arc<Dataplane>,
    insight: Option<Arc<DataplaneInsight>>,
}

/// What is known of a mesh beside its proxies.
struct Trust {
    mtls: bool,
    identities: Vec<workload_identity::Identity>,
    domains: BTreeSet<String>,
}

impl ServiceStatus {
    /// Of the services of a zone.
    pub fn new(zone: &str, environment: Environment) -> Self {
        Self { zone: zone.to_owned(), environment, unindexed: BTreeMap::new() }
    }

    /// Services that may fare otherwise after what changed.
    fn touched(&mut self, round: &Round) -> BTreeSet<Key> {
        let mut touched = BTreeSet::new();
        let mut meshes: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut proxies: BTreeSet<(Arc<str>, Arc<str>)> = BTreeSet::new();
        for key in round.changed() {
            match key.kind {
                Kind::MeshService => {
                    self.index(key, round);
                    touched.insert(key.clone());
                }
                Kind::Dataplane | Kind::DataplaneInsight => {
                    proxies.insert((Arc::clone(&key.mesh), Arc::clone(&key.name)));
                }
                Kind::Mesh => drop(meshes.insert(Arc::clone(&key.name))),
                Kind::MeshIdentity | Kind::MeshTrust => drop(meshes.insert(Arc::clone(&key.mesh))),
                _ => {}
            }
        }
        for mesh in &meshes {
            touched.extend(round.now().list_in(Kind::MeshService, mesh).map(|service| service.meta.key.clone()));
        }
        for (mesh, name) in proxies {
            let key = Key::new(Kind::Dataplane, &mesh, &name);
            for resource in [round.before(&key), round.now().get(&key)].into_iter().flatten() {
                let Ok(dataplane) = resource.spec.message::<Dataplane>() else { continue };
                touched.extend(services(&dataplane).into_iter().flat_map(|service| self.by_tag(&mesh, service, round)));
            }
            let others = self.unindexed.get(&mesh).into_iter().flatten();
            touched.extend(others.map(|name| Key::new(Kind::MeshService, &mesh, name)));
        }
        touched
    }

    /// The MeshServices that have a service tag for their name; others are found by what selects them.
    fn by_tag(&self, mesh: &str, service: &str, round: &Round) -> Option<Key> {
        let key = Key::new(Kind::MeshService, mesh, service);
        round.now().get(&key).map(|_| key)
    }

    /// Remembers a service of this zone that selects otherwise than by a service tag that is its name.
    fn index(&mut self, key: &Key, round: &Round) {
        let spec = round.now().get(key).filter(|resource| self.is_own(resource));
        let spec = spec.and_then(|resource| resource.spec.json::<MeshService>().ok());
        let by_name = |selector: &Selector| {
            let tag = selector.dataplane_tags.as_ref().and_then(|tags| tags.get(SERVICE_TAG));
            selector.dataplane_ref.is_none() && tag.is_some_and(|tag| **tag == *key.name)
        };
        let of_mesh = self.unindexed.entry(Arc::clone(&key.mesh)).or_default();
        match spec {
            Some(spec) if !by_name(&spec.selector) => of_mesh.insert(Arc::clone(&key.name)),
            _ => of_mesh.remove(&key.name),
        };
    }

    fn is_own(&self, service: &Resource) -> bool {
        service.meta.zone().is_none_or(|zone| zone.is_empty() || zone == self.zone)
    }

    /// What it should be, if it is not.
    fn corrected(&self, service: &Resource, trust: &Trust, round: &Round) -> Option<Resource> {
        let spec = service.spec.json::<MeshService>().ok()?;
        let status = service.status.as_ref().and_then(|status| status.json::<Status>().ok()).unwrap_or_default();
        let proxies = selected(&spec.selector, &service.meta.key.mesh, round);
        let counts = counts(&proxies, &spec.ports);
        let state = if counts.healthy > 0 { State::Available } else { State::Unavailable };
        let identities = Some(self.identities(&proxies, trust)).filter(|identities| !identities.is_empty());
        let known = spec.identities.clone().filter(|identities| !identities.is_empty());
        let tls = Tls { status: Some(self.tls(&status.tls, &proxies, trust)) };
        let mut corrected = service.clone();
        if spec.state.as_ref() != Some(&state) || known != identities {
            let spec = MeshService { state: Some(state), identities, ..MeshService::clone(&spec) };
            corrected.spec = Payload::from_json(&spec).ok()?;
        }
        if status.tls != tls || status.dataplane_proxies != counts {
            let status = Status { tls, dataplane_proxies: counts, ..Status::clone(&status) };
            corrected.status = Some(Payload::from_json(&status).ok()?);
        }
        (!corrected.same_content(service)).then_some(corrected)
    }

    /// Every service that its proxies are, then every SPIFFE ID that they have or are about to have.
    fn identities(&self, proxies: &[Proxy], trust: &Trust) -> Vec<Identity> {
        let tags = proxies.iter().flat_map(|proxy| tag_sets(&proxy.dataplane)).filter_map(|tags| tags.get(SERVICE_TAG));
        let tags: BTreeSet<String> = tags.cloned().collect();
        let mut ids = BTreeSet::new();
        for proxy in proxies {
            let known = trust.identities.iter().filter(|identity| identity.readiness != Readiness::NotReady);
            for identity in known.filter(|identity| identity.matches(&proxy.meta.labels)) {
                match identity.spiffe_id(&proxy.meta, &self.zone, self.environment) {
                    Ok(id) => drop(ids.insert(id)),
                    Err(error) => tracing::debug!(
                        identity = &*identity.name, dataplane = &*proxy.meta.key.name, %error, "no SPIFFE ID"
                    ),
                }
            }
        }
        let identity = |r#type: IdentityType| move |value: String| Identity { r#type: r#type.clone(), value };
        let tags = tags.into_iter().map(identity(IdentityType::ServiceTag));
        tags.chain(ids.into_iter().map(identity(IdentityType::SpiffeId))).collect()
    }

    /// Whether every proxy takes mTLS. Once so it stays so while there is mTLS: a new proxy has it from its start.
    fn tls(&self, known: &Tls, proxies: &[Proxy], trust: &Trust) -> TlsStatus {
        if !trust.mtls && trust.identities.is_empty() {
            return TlsStatus::NotReady;
        }
        if known.status == Some(TlsStatus::Ready) {
            return TlsStatus::Ready;
        }
        let ready = proxies
            .iter()
            .all(|proxy| if trust.mtls { proxy.has_certificate() } else { self.is_trusted(proxy, trust) });
        if ready { TlsStatus::Ready } else { TlsStatus::NotReady }
    }

    /// Whether others believe the identity that a proxy has without the mesh's own mTLS.
    fn is_trusted(&self, proxy: &Proxy, trust: &Trust) -> bool {
        let identity = workload_identity::best(&trust.identities, &proxy.meta.labels);
        let Some(identity) = identity.filter(|identity| identity.readiness == Readiness::Ready) else { return false };
        // SPIRE sees to trust itself.
        let by_spire = identity.spec.provider.as_ref().is_some_and(|provider| provider.r#type == ProviderType::Spire);
        let domain = identity.trust_domain(&proxy.meta, &self.zone);
        by_spire || domain.is_ok_and(|domain| trust.domains.contains(&domain))
    }
}

impl Conclusion for ServiceStatus {
    fn step(&mut self, round: &mut Round) {
        let mut trusts: BTreeMap<Arc<str>, Option<Trust>> = BTreeMap::new();
        for key in self.touched(round) {
            let Some(service) = round.now().get(&key).filter(|service| self.is_own(service)).cloned() else { continue };
            let trust = trusts.entry(Arc::clone(&key.mesh)).or_insert_with(|| Trust::of(&key.mesh, round));
            let Some(trust) = trust else { continue };
            if let Some(corrected) = self.corrected(&service, trust, round) {
                tracing::debug!(mesh = &*key.mesh, service = &*key.name, "the MeshService fares otherwise");
                round.put(corrected);
            }
        }
    }
}

impl Trust {
    /// `None` without such a mesh.
    fn of(mesh: &str, round: &Round) -> Option<Self> {
        let now = round.now();
        let spec = now.get(&Key::global(Kind::Mesh, mesh))?.spec.message::<Mesh>().ok()?;
        let trusts = now.list(Kind::MeshTrust).filter_map(|trust| trust.spec.json::<MeshTrust>().ok());
        Some(Self {
            mtls: mesh::enabled_backend(&spec).is_some(),
            identities: workload_identity::Identity::all(now, mesh),
            domains: trusts.map(|trust| trust.trust_domain.clone()).collect(),
        })
    }
}

impl Proxy {
    fn has_certificate(&self) -> bool {
        let mtls = self.insight.as_ref().and_then(|insight| insight.m_tls.as_ref());
        mtls.is_some_and(|mtls| !mtls.issued_backend.is_empty())
    }
}

/// The proxies behind a service, by name.
fn selected(selector: &Selector, mesh: &str, round: &Round) -> Vec<Proxy> {
    let now = round.now();
    let proxy = |resource: &Arc<Resource>| {
        let key = Key::new(Kind::DataplaneInsight, mesh, &resource.meta.key.name);
        let insight = round.insights().get(&key).and_then(|insight| insight.spec.message::<DataplaneInsight>().ok());
        Some(Proxy { meta: resource.meta.clone(), dataplane: resource.spec.message::<Dataplane>().ok()?, insight })
    };
    let has_inbound =
        |proxy: &Proxy| proxy.dataplane.networking.iter().any(|networking| !networking.inbound.is_empty());
    if let Some(reference) = &selector.dataplane_ref {
        let named = now.get(&Key::new(Kind::Dataplane, mesh, &reference.name));
        return named.and_then(proxy).filter(has_inbound).into_iter().collect();
    }
    let Some(tags) = selector.dataplane_tags.as_ref().filter(|tags| !tags.is_empty()) else { return Vec::new() };
    let fits = |proxy: &Proxy| has_inbound(proxy) && is_chosen_by(&proxy.dataplane, tags);
    match tags.get(SERVICE_TAG) {
        Some(service) => now.service(mesh, service).filter_map(proxy).filter(fits).collect(),
        None => now.list_in(Kind::Dataplane, mesh).filter_map(proxy).filter(fits).collect(),
    }
}

fn counts(proxies: &[Proxy], ports: &[Port]) -> DataplaneProxies {
    let count = |counts: &dyn Fn(&Proxy) -> bool| {
        i64::try_from(proxies.iter().filter(|proxy| counts(proxy)).count()).unwrap_or(i64::MAX)
    };
    let inbounds = |proxy: &Proxy| -> Vec<Inbound> {
        proxy.dataplane.networking.iter().flat_map(|networking| &networking.inbound).cloned().collect()
    };
    let is_healthy = |proxy: &Proxy| {
        let inbounds = inbounds(proxy);
        let answers =
            |port: &Port| inbounds.iter().any(|inbound| inbound.state() == Ready::Ready && is_target(inbound, port));
        ports.iter().all(answers)
    };
    let is_connected = |proxy: &Proxy| proxy.insight.as_ref().is_some_and(|insight| is_online(&insight.subscriptions));
    DataplaneProxies { connected: count(&is_connected), healthy: count(&is_healthy), total: count(&|_| true) }
}

/// Whether an inbound is what a port of a service means.
fn is_target(inbound: &Inbound, port: &Port) -> bool {
    match &port.target_port {
        Some(IntOrString::String(name)) => *inbound.name == **name,
        Some(IntOrString::Int(number)) => u32::try_from(*number) == Ok(inbound.port),
        None => u32::try_from(port.port) == Ok(inbound.port),
    }
}

#[cfg(test)]
mod tests;
