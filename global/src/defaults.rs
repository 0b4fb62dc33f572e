//! What the global makes at its first start (api-and-kumactl 6.1).

use std::sync::Arc;

use api::first_start::{Error, Switches, cluster_id, create_missing, default_mesh, making};
use identity::first_start::{Internal, missing_signing_key, missing_user_credentials};
use identity::signing_key::Purpose;
use model::{Snapshot, defaults};
use runtime::Clock;
use store::Batch;
use uuid::Uuid;

pub(crate) async fn missing(switches: Switches, stored: Arc<Snapshot>, clock: Clock) -> Result<Batch, Error> {
    let now = clock.now();
    let (of_users, of_zones, of_instances) = (Arc::clone(&stored), Arc::clone(&stored), Arc::clone(&stored));
    let of_users = making(move || missing_user_credentials(&of_users, switches.admin_token, Uuid::new_v4(), now));
    let of_zones = making(move || missing_signing_key(&of_zones, &Purpose::Zone));
    let of_instances = making(move || Internal::Instances.missing(&of_instances, now));

    let mut resources = default_mesh(&switches, &stored, now).await?;
    resources.extend(of_users.await?);
    resources.extend(of_instances.await?);
    if switches.tenant_resources {
        resources.extend(of_zones.await?.map(|key| key.to_secret(&Purpose::Zone)));
    }
    if switches.hostname_generators {
        resources.extend(defaults::global_hostname_generators()?);
    }
    resources.push(cluster_id());
    Ok(create_missing(Batch::new(), &stored, resources))
}
