//! Storing what a proxy brings, and removing it (zone-dataplane 1.5).

use std::time::Duration;

use kds_proto::kuma::mesh::v1alpha1::{Dataplane, DataplaneInsight, DiscoverySubscription, Mesh, ZoneIngress};
use kds_proto::kuma::mesh::v1alpha1::{ZoneEgressInsight, ZoneIngressInsight};
use model::mode::Mode;
use model::spec::dataplane;
use model::spec::{ProtoSpec, SpecError};
use model::{Key, Kind, Payload, Resource, Snapshot, label_rules, name};
use runtime::Clock;
use store::{ApplyError, Batch, Store};

/// Tries, when others write the same resource meanwhile.
const TRIES: u32 = 20;
/// Between them.
const PAUSE: Duration = Duration::from_millis(50);

/// Stores the resource that a proxy brings, in place of the one that is stored. `may_replace` judges the latter.
///
/// # Errors
/// Why it cannot be stored; `E` when the proxy may not replace what is there.
pub(crate) async fn register<E>(
    store: &Store,
    mode: &Mode,
    clock: &Clock,
    brought: &Resource,
    may_replace: impl Fn(&Snapshot, &Resource) -> Result<(), E>,
) -> Result<(), Failure<E>> {
    let key = &brought.meta.key;
    for _ in 0..TRIES {
        let stored = store.configuration().borrow().clone();
        let before = stored.get(key).cloned();
        if let Some(before) = &before {
            may_replace(&stored, before).map_err(Failure::NotAllowed)?;
        }
        let resource = completed(mode, &stored, brought, before.as_deref())?;
        let mut batch = match before {
            Some(before) if before.same_content(&resource) => return Ok(()),
            Some(before) => {
                let mut resource = resource;
                resource.meta.version = before.meta.version;
                Batch::new().update(resource)
            }
            None => Batch::new().create(resource),
        };
        if !key.mesh.is_empty() {
            batch = batch.require(Key::global(Kind::Mesh, &key.mesh));
        }
        match store.apply(batch).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_lost_race() => {}
            Err(ApplyError::RequirementMissing(mesh)) => {
                return Err(Failure::Refused(format!("mesh {:?} does not exist", mesh.name)));
            }
            Err(error) => return Err(Failure::Store(error)),
        }
        clock.sleep(PAUSE).await;
    }
    Err(Failure::Refused("others write it, again and again".to_owned()))
}

/// Why a resource was not stored.
#[derive(Debug)]
pub(crate) enum Failure<E> {
    /// The proxy may not replace what is there.
    NotAllowed(E),
    /// The resource may not be stored.
    Refused(String),
    /// The store failed.
    Store(ApplyError),
}

/// The resource as it is stored: with the zone's tags and labels, and what others have written into it.
fn completed<E>(
    mode: &Mode,
    stored: &Snapshot,
    brought: &Resource,
    before: Option<&Resource>,
) -> Result<Resource, Failure<E>> {
    let mut resource = brought.clone();
    if before.is_none() {
        let long = mode.zone().filter(|zone| zone.federated);
        let long = long.and_then(|zone| name::check_on_global(&zone.name, &brought.meta.key.name)).map(str::to_owned);
        if let Some(fault) = long.or_else(|| label_rules::workload_fault(&brought.meta, mode)) {
            return Err(Failure::Refused(fault));
        }
    }
    resource.meta.labels = label_rules::computed(&resource, mode);
    match resource.kind() {
        Kind::Dataplane => complete_dataplane(mode, stored, &mut resource, before)?,
        Kind::ZoneIngress => {
            let mut ingress = read::<ZoneIngress, E>(&resource)?;
            // What it offers is found out here, not told by it.
            ingress.available_services = before
                .map(read::<ZoneIngress, E>)
                .transpose()?
                .map(|before| before.available_services)
                .unwrap_or_default();
            resource.spec = Payload::from_message(&ingress);
        }
        _ => {}
    }
    Ok(resource)
}

fn complete_dataplane<E>(
    mode: &Mode,
    stored: &Snapshot,
    resource: &mut Resource,
    before: Option<&Resource>,
) -> Result<(), Failure<E>> {
    let mut spec = read::<Dataplane, E>(resource)?;
    if let Some(zone) = mode.zone() {
        dataplane::set_zone(&mut spec, &zone.name);
    }
    dataplane::await_probes(&mut spec);
    if let Some(before) = before {
        keep_health(&mut spec, &read::<Dataplane, E>(before)?);
    }
    let mesh = &resource.meta.key.mesh;
    let rules = stored.get(&Key::global(Kind::Mesh, mesh)).and_then(|mesh| mesh.spec.message::<Mesh>().ok());
    if let Some(rules) = rules {
        dataplane::check_membership(mesh, &rules, &spec).map_err(|error| Failure::Refused(error.to_string()))?;
    }
    resource.spec = Payload::from_message(&spec);
    Ok(())
}

/// What is known of the health of probed inbounds stays: the proxy that comes back does not know it.
fn keep_health(spec: &mut Dataplane, before: &Dataplane) {
    let known = before.networking.iter().flat_map(|networking| &networking.inbound);
    for inbound in spec.networking.iter_mut().flat_map(|networking| &mut networking.inbound) {
        let same = |known: &&_| {
            let known: &kds_proto::kuma::mesh::v1alpha1::dataplane::networking::Inbound = known;
            known.port == inbound.port
                && known.address == inbound.address
                && known.service_probe == inbound.service_probe
        };
        if let Some(known) = known.clone().find(same).filter(|_| inbound.service_probe.is_some()) {
            (inbound.state, inbound.health) = (known.state, known.health);
        }
    }
}

fn read<M: ProtoSpec + Clone, E>(resource: &Resource) -> Result<M, Failure<E>> {
    let read = resource.spec.message::<M>();
    read.map(|message| M::clone(&message)).map_err(|error: SpecError| Failure::Refused(error.to_string()))
}

/// Removes what a proxy brought, unless it is connected to another instance by now.
pub(crate) async fn deregister(store: &Store, instance: &str, key: Key) {
    let insight = insight_key(&key);
    let last = store.insights().borrow().get(&insight).and_then(|insight| subscriptions(insight).pop());
    if let Some(last) = last.filter(|last| last.control_plane_instance_id != instance) {
        let instance = last.control_plane_instance_id;
        tracing::debug!(proxy = %key, instance, "the proxy is connected to another instance");
        return;
    }
    match store.apply(Batch::new().remove(key.clone())).await {
        Ok(_) => tracing::info!(proxy = %key, "proxy removed"),
        Err(error) => tracing::warn!(proxy = %key, %error, "the proxy has left and cannot be removed"),
    }
}

/// Key of what is written down of a proxy's streams.
pub(crate) fn insight_key(proxy: &Key) -> Key {
    let kind = match proxy.kind {
        Kind::ZoneIngress => Kind::ZoneIngressInsight,
        Kind::ZoneEgress => Kind::ZoneEgressInsight,
        _ => Kind::DataplaneInsight,
    };
    Key { kind, ..proxy.clone() }
}

/// What is written down of a proxy's streams, the oldest first.
fn subscriptions(insight: &Resource) -> Vec<DiscoverySubscription> {
    let spec = &insight.spec;
    match insight.kind() {
        Kind::ZoneIngressInsight => spec.message::<ZoneIngressInsight>().map(|insight| insight.subscriptions.clone()),
        Kind::ZoneEgressInsight => spec.message::<ZoneEgressInsight>().map(|insight| insight.subscriptions.clone()),
        _ => spec.message::<DataplaneInsight>().map(|insight| insight.subscriptions.clone()),
    }
    .unwrap_or_default()
}
