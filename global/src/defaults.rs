//! What the global makes at its first start (api-and-kumactl 6.1). What exists is never overwritten.

use std::sync::Arc;

use anyhow::Result;
use api::first_start::{self, create_missing};
use chrono::{DateTime, Utc};
use identity::first_start::{Internal, admin_token, missing_signing_key, missing_user_credentials};
use identity::signing_key::Purpose;
use model::{Resource, Snapshot, defaults};
use runtime::tasks::{Backoff, OnFailure, Task};
use runtime::{Clock, Life};
use store::{Batch, Candidate, Store};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::config::Defaults;

/// Makes what is missing once this instance leads. The program is not ready before it, or another, has done so.
pub(crate) fn start(wanted: Defaults, store: &Store, candidate: &Candidate, life: &Life, backoff: Backoff) {
    let task = Task { name: "defaults", owner: "defaults", on_failure: OnFailure::Restart(backoff) };
    let (made_in, leading, clock) = (store.clone(), candidate.leading(), life.clock().clone());
    life.tasks().spawn(task, move || {
        let (store, leading, clock) = (made_in.clone(), leading.clone(), clock.clone());
        async move { first_start::ensure(&store, leading, |stored| missing(wanted, stored, clock.clone())).await }
    });

    let task = Task { name: "defaults-seen", owner: "defaults", on_failure: OnFailure::Restart(backoff) };
    let configuration = store.configuration();
    let mut waiting = Some(life.readiness().not_ready("waiting for the default resources"));
    life.tasks().spawn(task, move || {
        let (mut configuration, waiting) = (configuration.clone(), waiting.take());
        async move {
            let seen = configuration.wait_for(|stored| stored.get(&first_start::cluster_id()).is_some()).await?.clone();
            drop(waiting);
            if wanted.admin_token && seen.get(&admin_token()).is_some() {
                tell_of_the_token(wanted.port);
            }
            Ok(())
        }
    });
}

async fn missing(wanted: Defaults, stored: Arc<Snapshot>, clock: Clock) -> Result<Batch> {
    let now = clock.now();
    let (of_users, of_zones, of_instances) = (stored.clone(), stored.clone(), stored.clone());
    // A key takes its time, and each has a processor's.
    let of_users = spawn_blocking(move || missing_user_credentials(&of_users, wanted.admin_token, Uuid::new_v4(), now));
    let of_zones = spawn_blocking(move || missing_signing_key(&of_zones, &Purpose::Zone));
    let of_instances = spawn_blocking(move || Internal::Instances.missing(&of_instances, now));
    let mesh =
        if wanted.mesh && wanted.tenant_resources { default_mesh(wanted, &stored, now).await? } else { Vec::new() };

    let mut resources = mesh;
    if wanted.tenant_resources {
        resources.extend(of_zones.await??.map(|key| key.to_secret(&Purpose::Zone)));
        if wanted.hostname_generators {
            resources.extend(defaults::global_hostname_generators()?);
        }
    }
    resources.extend(of_users.await??);
    resources.extend(of_instances.await??);
    resources.push(first_start::new_cluster_id());
    Ok(create_missing(Batch::new(), &stored, resources))
}

/// The mesh and what comes with it; nothing when it exists.
async fn default_mesh(wanted: Defaults, stored: &Arc<Snapshot>, now: DateTime<Utc>) -> Result<Vec<Resource>> {
    let mesh = first_start::default_mesh();
    if stored.get(&mesh.meta.key).is_some() {
        return Ok(Vec::new());
    }
    let companions = api::companions::of(wanted.new_mesh, stored, &mesh, true, now).await?;
    Ok(std::iter::once(mesh).chain(companions).collect())
}

fn tell_of_the_token(port: u16) {
    let name = admin_token().name;
    tracing::info!(
        "bootstrap of Admin User Token is enabled. To extract admin credentials execute 'curl \
         http://localhost:{port}/global-secrets/{name} | jq -r .data | base64 -d'. You configure kumactl with them 'kumactl \
         config control-planes add --auth-type=tokens --auth-conf token=YOUR_TOKEN'. To disable bootstrap of Admin User \
         Token set KUMA_API_SERVER_AUTHN_TOKENS_BOOTSTRAP_ADMIN_TOKEN to false."
    );
}
