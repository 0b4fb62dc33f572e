//! What a zone makes at its first start (api-and-kumactl 6.4).

use std::sync::Arc;

use api::first_start::{Error, Switches, cluster_id, create_missing, default_mesh, making};
use identity::first_start::{Internal, missing_signing_key, missing_user_credentials};
use identity::signing_key::Purpose;
use kds_proto::kuma::system::v1alpha1;
use model::mode::{Environment, Zone};
use model::{Key, Kind, Labels, Payload, Resource, Snapshot, defaults};
use runtime::Clock;
use store::Batch;
use uuid::Uuid;

/// What there has to be.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub switches: Switches,
    pub zone: Zone,
}

pub(crate) async fn missing(wanted: Wanted, stored: Arc<Snapshot>, clock: Clock) -> Result<Batch, Error> {
    let Wanted { switches, zone } = wanted;
    let now = clock.now();
    let (of_users, of_zones) = (Arc::clone(&stored), Arc::clone(&stored));
    let (of_instances, of_proxies) = (Arc::clone(&stored), Arc::clone(&stored));
    let of_users = making(move || missing_user_credentials(&of_users, switches.admin_token, Uuid::new_v4(), now));
    let of_instances = making(move || Internal::Instances.missing(&of_instances, now));
    let of_proxies = making(move || Internal::ProxyAdmin.missing(&of_proxies, now));

    let (mut batch, mut resources) = (Batch::new(), Vec::new());
    if switches.tenant_resources {
        batch = other_zones(&zone.name, &stored).fold(batch, Batch::delete);
        resources.push(own_zone(&zone.name));
        resources.extend(of_proxies.await?);
    }
    if switches.hostname_generators {
        resources.extend(hostname_generators(&zone)?);
    }
    if !zone.federated {
        resources.extend(default_mesh(&switches, &stored, now).await?);
        if switches.tenant_resources {
            let key = making(move || missing_signing_key(&of_zones, &Purpose::Zone)).await?;
            resources.extend(key.map(|key| key.to_secret(&Purpose::Zone)));
        }
        resources.push(cluster_id());
    }
    resources.extend(of_users.await?);
    resources.extend(of_instances.await?);
    Ok(create_missing(batch, &stored, resources))
}

fn own_zone(name: &str) -> Resource {
    let empty = Payload::from_message(&v1alpha1::Zone::default());
    Resource::new(Key::global(Kind::Zone, name), Labels::default(), empty)
}

/// Names that this zone had before.
fn other_zones(name: &str, stored: &Snapshot) -> impl Iterator<Item = Key> {
    let others = stored.list(Kind::Zone).filter(move |zone| *zone.meta.key.name != *name);
    others
        .map(|zone| {
            tracing::info!(zone = %zone.meta.key.name, "deleting the Zone of another name than this zone's");
            zone.meta.key.clone()
        })
        .collect::<Vec<_>>()
        .into_iter()
}

/// Services of a zone on Kubernetes have names already.
fn hostname_generators(zone: &Zone) -> Result<Vec<Resource>, Error> {
    let mut generators = defaults::zone_hostname_generators()?;
    if zone.environment == Environment::Kubernetes {
        generators.retain(|generator| &*generator.meta.key.name != "local-universal-mesh-service");
    }
    Ok(generators)
}

#[cfg(test)]
mod tests {
    use config::{Loader, Role};
    use model::mode::Mode;
    use model::snapshot::Change;
    use store::Write;

    use super::*;

    fn wanted(federated: bool) -> Wanted {
        let effective = Loader::new(Role::Zone).load().unwrap().effective;
        let switches = Switches::configured(&effective, &api::Listeners::default());
        let Mode::Zone(zone) = Mode::universal_zone("east", federated) else { panic!() };
        Wanted { switches, zone }
    }

    async fn made(federated: bool, stored: Snapshot) -> Vec<String> {
        let batch = missing(wanted(federated), Arc::new(stored), Clock::system()).await.unwrap();
        let mut writes: Vec<String> = batch
            .writes()
            .iter()
            .map(|write| {
                let sign = if matches!(write, Write::Delete { .. }) { "-" } else { "" };
                format!("{sign}{}", write.key().name)
            })
            .collect();
        writes.sort_unstable();
        writes
    }

    /// API-17: a zone without a global has a mesh, keys of zones and an identity of its own.
    #[tokio::test]
    async fn a_federated_zone_makes_only_what_is_its_own() {
        let own = [
            "admin-user-token",
            "east",
            "envoy-admin-ca",
            "inter-cp-ca",
            "local-mesh-external-service",
            "local-universal-mesh-service",
            "user-token-signing-key-1",
        ];
        assert_eq!(made(true, Snapshot::empty()).await, own);
        let alone = [
            "dataplane-token-signing-key-default-1",
            "default",
            "kuma-cluster-id",
            "mesh-circuit-breaker-all-default",
            "mesh-gateways-timeout-all-default",
            "mesh-retry-all-default",
            "mesh-timeout-all-default",
            "zone-token-signing-key-1",
        ];
        let mut all = [&own[..], &alone[..]].concat();
        all.sort_unstable();
        assert_eq!(made(false, Snapshot::empty()).await, all);
    }

    #[tokio::test]
    async fn a_zone_that_was_renamed_deletes_its_old_self() {
        let old = Snapshot::empty().apply(1, [Change::Put(Arc::new(own_zone("west")))]);
        let made = made(true, old).await;
        assert!(made.contains(&"-west".to_owned()) && made.contains(&"east".to_owned()), "{made:?}");
    }
}
