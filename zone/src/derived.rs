//! What a zone concludes from its own resources and keeps beside them: what its ingresses offer, its services and how they
//! fare, virtual addresses and host names (zone-dataplane 5.2, 8.4, 9).
//!
//! One task of the leader does it all. Each [`Conclusion`] looks at what changed and says what should be otherwise; it sees
//! what those before it want, so that a new dataplane has its service, address and name after one batch. Everything is
//! written only where it differs, at the version that was looked at: who lost a race looks again.

mod hostnames;
mod inventory;
mod metrics;
mod multi_zone;
mod round;
mod service_status;
mod service_vips;
mod services;
mod tag_sets;
mod tag_vips;

use std::sync::Arc;
use std::time::Duration;

use config::Effective;
use model::mode::{Environment, Zone};
use model::{Kind, Snapshot};
use runtime::tasks::{Backoff, OnFailure, Task};
use runtime::{Clock, Life};
use store::{ApplyError, Batch, Fence, Lease, Store, Write};
use tokio::sync::watch;

pub(crate) use metrics::Metrics;
use round::{Round, Seen};
use service_vips::Pools;

/// Rest after a write that follows a quiet time: what changes meanwhile is one write.
const SHORTEST_REST: Duration = Duration::from_millis(10);
/// Longest rest while changes go on and on; it doubles until here.
const LONGEST_REST: Duration = Duration::from_millis(200);
/// Most writes of one batch: others write too.
const MOST_WRITES: usize = 500;

/// How a zone concludes.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Name of the zone.
    zone: String,
    /// Where its workloads run.
    environment: Environment,
    /// Whether services are made of dataplanes (`coreResources.enabled`).
    makes_services: bool,
    /// How long a service without dataplanes stays (`meshService.deletionGracePeriod`).
    grace: Duration,
    /// Networks that services get addresses from, by kind (`ipam`).
    networks: Vec<(Kind, String)>,
    /// How services by their tag are named.
    names: tag_vips::Settings,
    /// Whether services get host names (`coreResources.enabled`).
    gives_hostnames: bool,
    /// Prefixes of the tags that ingresses tell other zones; none: all of them (`experimental.ingressTagFilters`).
    tag_filters: Vec<String>,
}

/// Something that follows from other resources.
trait Conclusion: Send {
    /// Takes in what changed since the last step and puts right what is no longer true. After a step whose round was not
    /// written there is no other: a new one starts from nothing.
    fn step(&mut self, round: &mut Round);
}

impl Settings {
    /// Of a zone.
    pub fn configured(effective: &Effective, zone: &Zone) -> Self {
        let enabled = |kind: Kind| effective.texts("coreResources.enabled").iter().any(|path| path == kind.info().path);
        Self {
            zone: zone.name.clone(),
            environment: zone.environment,
            makes_services: enabled(Kind::MeshService),
            grace: effective.duration("meshService.deletionGracePeriod").to_std().unwrap_or_default(),
            networks: [
                (Kind::MeshService, "ipam.meshService.cidr"),
                (Kind::MeshExternalService, "ipam.meshExternalService.cidr"),
                (Kind::MeshMultiZoneService, "ipam.meshMultiZoneService.cidr"),
            ]
            .map(|(kind, key)| (kind, effective.text(key).to_owned()))
            .into(),
            names: tag_vips::Settings {
                zone: zone.name.clone(),
                network: effective.text("dnsServer.CIDR").to_owned(),
                of_services: effective.flag("dnsServer.serviceVipEnabled"),
                domain: effective.text("dnsServer.domain").to_owned(),
            },
            gives_hostnames: enabled(Kind::HostnameGenerator),
            tag_filters: effective.texts("experimental.ingressTagFilters").to_vec(),
        }
    }

    /// All of them, those that others build on first.
    fn conclusions(&self, pools: &Pools) -> Vec<Box<dyn Conclusion>> {
        let zone = &self.zone;
        let mut all: Vec<Box<dyn Conclusion>> = vec![
            Box::new(inventory::Inventory::new(zone, self.tag_filters.clone())),
            Box::new(tag_vips::TagVips::new(self.names.clone())),
        ];
        if self.makes_services {
            all.push(Box::new(services::Services::new(zone, self.environment.as_str(), self.grace)));
        }
        all.push(Box::new(service_status::ServiceStatus::new(zone, self.environment)));
        all.push(Box::new(multi_zone::MultiZone));
        if self.makes_services {
            all.push(Box::new(service_vips::ServiceVips::new(pools.clone())));
        }
        if self.gives_hostnames {
            all.push(Box::new(hostnames::Hostnames::new(zone)));
        }
        all
    }

    /// Networks of addresses that nobody has taken.
    fn pools(&self) -> Pools {
        Pools::new(&self.networks)
    }
}

/// Starts to conclude while this process leads.
pub(crate) fn start(
    settings: Settings,
    store: &Store,
    leading: &watch::Receiver<Option<Lease>>,
    life: &Life,
    metrics: Metrics,
    backoff: Backoff,
) {
    let task = Task { name: "derived", owner: "zone", on_failure: OnFailure::Restart(backoff) };
    let keeper = Arc::new(Keeper { settings, store: store.clone(), clock: life.clock().clone(), metrics });
    let leading = leading.clone();
    life.tasks().spawn(task, move || {
        let (keeper, leading) = (Arc::clone(&keeper), leading.clone());
        async move { Ok(keeper.keep(leading).await?) }
    });
}

struct Keeper {
    settings: Settings,
    store: Store,
    clock: Clock,
    metrics: Metrics,
}

impl Keeper {
    /// Returns when there is nobody left to lead.
    async fn keep(&self, mut leading: watch::Receiver<Option<Lease>>) -> Result<(), ApplyError> {
        loop {
            let Ok(lease) = leading.wait_for(Option::is_some).await.map(|lease| lease.clone()) else { return Ok(()) };
            let Some(Lease { fence, .. }) = lease else { continue };
            let deposed = |lease: &Option<Lease>| lease.as_ref().is_none_or(|lease| lease.fence != fence);
            let kept = tokio::select! {
                kept = self.follow(&fence) => kept,
                _ = leading.wait_for(deposed) => continue,
            };
            match kept {
                // The candidate hears of it too, a little later.
                Err(ApplyError::Deposed { .. }) => drop(leading.wait_for(deposed).await),
                kept => return kept,
            }
        }
    }

    async fn follow(&self, fence: &Fence) -> Result<(), ApplyError> {
        let (mut configuration, mut insights) = (self.store.configuration(), self.store.insights());
        let pools = self.settings.pools();
        let (mut conclusions, mut seen, mut rest) = (self.settings.conclusions(&pools), Seen::nothing(), SHORTEST_REST);
        loop {
            let now = Seen {
                configuration: configuration.borrow_and_update().clone(),
                insights: insights.borrow_and_update().clone(),
            };
            let started = self.clock.elapsed();
            let mut round = Round::new(seen, now.clone(), self.clock.now());
            for conclusion in &mut conclusions {
                conclusion.step(&mut round);
            }
            let due = round.due();
            let writes = round.writes();
            self.metrics.concluded(self.clock.elapsed().saturating_sub(started));
            seen = now;
            if writes.is_empty() {
                rest = SHORTEST_REST;
                if !self.change_or(due, &mut configuration, &mut insights).await {
                    return Ok(());
                }
                continue;
            }
            if let Err(error) = self.write(writes, fence).await {
                if !lost_a_race(&error) {
                    return Err(error);
                }
                tracing::debug!(%error, "somebody else was faster; looking again");
                self.metrics.lost_a_race();
                (conclusions, seen) = (self.settings.conclusions(&pools), Seen::nothing());
            }
            self.clock.sleep(rest).await;
            rest = (rest * 2).min(LONGEST_REST);
        }
    }

    /// Waits until something changes or is due; `false` when the store is closed.
    async fn change_or(
        &self,
        due: Option<Duration>,
        configuration: &mut watch::Receiver<Arc<Snapshot>>,
        insights: &mut watch::Receiver<Arc<Snapshot>>,
    ) -> bool {
        let due = async {
            match due {
                Some(length) => self.clock.sleep(length).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = configuration.changed() => changed.is_ok(),
            changed = insights.changed() => changed.is_ok(),
            () = due => true,
        }
    }

    async fn write(&self, writes: Vec<Write>, fence: &Fence) -> Result<(), ApplyError> {
        for part in writes.chunks(MOST_WRITES) {
            let batch: Batch = part.iter().cloned().collect();
            self.store.apply(batch.fenced(fence.clone())).await?;
            part.iter().for_each(|write| self.metrics.wrote(write.key().kind));
        }
        Ok(())
    }
}

/// Whether what was looked at had changed by the time of the write.
fn lost_a_race(error: &ApplyError) -> bool {
    error.is_lost_race() || matches!(error, ApplyError::RequirementMissing(_) | ApplyError::OwnerMissing { .. })
}

#[cfg(test)]
mod tests;
