//! Who lives: instances ping the leader, and the leader keeps the catalog.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kds_proto::kuma::system::v1alpha1::inter_cp_ping_service_client::InterCpPingServiceClient;
use kds_proto::kuma::system::v1alpha1::inter_cp_ping_service_server::InterCpPingService;
use kds_proto::kuma::system::v1alpha1::{PingRequest, PingResponse};
use runtime::tasks::{Backoff, OnFailure, Task};
use runtime::{Clock, Life};
use store::{ApplyError, Batch, Fence, Lease, Store};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::{Catalog, Instance, Peers, Settings};

/// How long a ping may take.
const LIMIT: Duration = Duration::from_secs(3);

/// What was heard of other instances, and when last.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    clock: Clock,
    leading: watch::Receiver<Option<Lease>>,
    others: Arc<Mutex<BTreeMap<String, (Instance, Duration)>>>,
}

impl Heard {
    fn others(&self) -> MutexGuard<'_, BTreeMap<String, (Instance, Duration)>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl InterCpPingService for Heard {
    async fn ping(&self, request: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        let PingRequest { instance_id: id, address, inter_cp_port, .. } = request.into_inner();
        let port = u16::try_from(inter_cp_port).map_err(|_| Status::invalid_argument("inter_cp_port is no port"))?;
        let leader = self.leading.borrow().is_some();
        if leader {
            let instance = Instance { id: id.clone(), address, inter_cp_port: port, leader: false };
            self.others().insert(id, (instance, self.clock.elapsed()));
        }
        Ok(Response::new(PingResponse { leader }))
    }
}

/// Starts pinging, and keeping the catalog while this instance leads. The first value tells which instances live.
pub(super) fn start(
    settings: &Settings,
    own: Instance,
    peers: &Peers,
    leading: watch::Receiver<Option<Lease>>,
    backoff: Backoff,
    life: &Life,
) -> (watch::Receiver<Option<BTreeSet<String>>>, Heard) {
    let clock = life.clock().clone();
    let heard = Heard { clock: clock.clone(), leading: leading.clone(), others: Arc::default() };
    let (living, told) = watch::channel(None);
    let living = Arc::new(living);
    let keeper = Keeper {
        store: peers.store.clone(),
        clock,
        heard: heard.clone(),
        own: own.clone(),
        settings: settings.clone(),
    };
    let task = |name| Task { name, owner: "inter-cp", on_failure: OnFailure::Restart(backoff) };
    let of = leading.clone();
    life.tasks().spawn(task("cp-catalog"), move || {
        let (keeper, leading, living) = (keeper.clone(), of.clone(), Arc::clone(&living));
        async move { Ok(keeper.keep(leading, &living).await?) }
    });
    let (peers, every) = (peers.clone(), settings.heartbeat);
    life.tasks().spawn(task("cp-heartbeat"), move || {
        let (peers, own, leading) = (peers.clone(), own.clone(), leading.clone());
        async move {
            ping_forever(&peers, &own, &leading, every).await;
            Ok(())
        }
    });
    (told, heard)
}

/// Pings the leader, unless this is it.
async fn ping_forever(peers: &Peers, own: &Instance, leading: &watch::Receiver<Option<Lease>>, every: Duration) {
    let mut failing = false;
    loop {
        let leader = Catalog::of(&peers.store.configuration().borrow()).leader().cloned();
        let leads = leading.borrow().is_some();
        if let Some(leader) = leader.filter(|leader| !leads && leader.id != own.id) {
            let pinged = ping(peers, own, &leader).await;
            match &pinged {
                Ok(()) if failing => tracing::info!(leader = leader.id, "the leader answers again"),
                Err(error) if !failing => tracing::warn!(leader = leader.id, error, "the leader does not answer"),
                _ => {}
            }
            failing = pinged.is_err();
        }
        peers.clock.sleep(every).await;
    }
}

async fn ping(peers: &Peers, own: &Instance, leader: &Instance) -> Result<(), String> {
    let channel = peers.channel.borrow().clone().ok_or("there is no authority of instances yet")?;
    let url = leader.url().parse().map_err(|error| format!("{}: {error}", leader.url()))?;
    let mut client = InterCpPingServiceClient::with_origin(channel, url);
    let request = PingRequest {
        instance_id: own.id.clone(),
        address: own.address.clone(),
        inter_cp_port: own.inter_cp_port.into(),
        ready: true,
    };
    match peers.clock.timeout(LIMIT, client.ping(request)).await {
        Some(Ok(_)) => Ok(()),
        Some(Err(status)) => Err(status.to_string()),
        None => Err(format!("no answer within {} s", LIMIT.as_secs())),
    }
}

/// Keeps the catalog.
#[derive(Clone, Debug)]
struct Keeper {
    store: Store,
    clock: Clock,
    heard: Heard,
    own: Instance,
    settings: Settings,
}

impl Keeper {
    async fn keep(
        &self,
        mut leading: watch::Receiver<Option<Lease>>,
        living: &watch::Sender<Option<BTreeSet<String>>>,
    ) -> Result<(), ApplyError> {
        loop {
            let Ok(lease) = leading.wait_for(Option::is_some).await.map(|lease| lease.clone()) else { return Ok(()) };
            let Some(Lease { fence, .. }) = lease else { continue };
            let deposed = |lease: &Option<Lease>| lease.as_ref().is_none_or(|lease| lease.fence != fence);
            let kept = tokio::select! {
                kept = self.lead(&fence, living) => kept,
                _ = leading.wait_for(deposed) => Ok(()),
            };
            living.send_replace(None);
            match kept {
                Ok(()) => {}
                Err(ApplyError::Deposed { .. }) => drop(leading.wait_for(deposed).await),
                Err(error) => return Err(error),
            }
        }
    }

    /// Who was in the catalog before counts as heard of just now: the others need a while to find the new leader.
    async fn lead(&self, fence: &Fence, living: &watch::Sender<Option<BTreeSet<String>>>) -> Result<(), ApplyError> {
        let begun = self.clock.elapsed();
        {
            let before = Catalog::of(&self.store.configuration().borrow());
            let mut others = self.heard.others();
            others.clear();
            let known = before.instances.into_iter().filter(|instance| instance.id != self.own.id);
            others.extend(known.map(|instance| (instance.id.clone(), (instance, begun))));
        }
        loop {
            let catalog = self.catalog();
            if catalog != Catalog::of(&self.store.configuration().borrow()) {
                self.store.apply(Batch::new().put(catalog.to_resource()).fenced(fence.clone())).await?;
            }
            if self.clock.elapsed() >= begun + self.settings.expiry {
                let ids: BTreeSet<String> = catalog.instances.into_iter().map(|instance| instance.id).collect();
                living.send_if_modified(|told| {
                    let news = told.as_ref() != Some(&ids);
                    *told = Some(ids);
                    news
                });
            }
            self.clock.sleep(self.settings.heartbeat.min(self.settings.expiry / 3)).await;
        }
    }

    fn catalog(&self) -> Catalog {
        let now = self.clock.elapsed();
        let mut others = self.heard.others();
        others.retain(|_, (_, heard)| now.saturating_sub(*heard) < self.settings.expiry);
        let own = Instance { leader: true, ..self.own.clone() };
        let mut instances: Vec<Instance> =
            others.values().map(|(instance, _)| Instance { leader: false, ..instance.clone() }).chain([own]).collect();
        instances.sort();
        Catalog { instances }
    }
}
