//! The machines of the simulation: what runs on them, and how it is told what users want.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use config::{Host, Loader, Role};
use kuma_global::kds::settings::Settings as HubSettings;
use kuma_global::simulated::Hub;
use kuma_zone::{Connect, Federation, Stream};
use model::{Key, Kind, Labels, Payload, Resource};
use runtime::{Clock, Life, SimulatedClock};
use store::simulated::Mount;
use store::{ApplyError, Backend, Batch, Candidate, Fence, Lease, Settings, Store};
use tokio::sync::{mpsc, watch};

use super::content;
use super::network::Network;
use super::oracle::{Author, Id};

/// Where zones dial.
pub(crate) const PORT: u16 = 5685;
/// Name and length of the lease that one of several replicas holds, as in the programs.
const LEASE: (&str, Duration) = ("leader", Duration::from_secs(5));
/// What a zone must have made before it follows a global: the authority of its instances.
const FIRST_SECRET: &str = "inter-cp-ca";

/// One process of a control plane, on a machine of its own.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub name: String,
    pub of: Author,
    pub mount: Mount,
    pub network: Network,
    pub running: Running,
    /// Whether its users have a Secret of their own, by a name that the global gives too.
    pub keeps_secret: bool,
    /// Names of the machines of the global.
    pub globals: Arc<[String]>,
}

/// Something to write, and its number.
#[derive(Debug)]
pub(crate) struct Order {
    pub number: u64,
    pub batch: Batch,
}

/// What a user is told.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// It is written.
    Made,
    /// It is not, for a reason.
    Refused(String),
    /// Nobody knows.
    Unknown(String),
}

/// The machines that run. Clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    live: BTreeMap<String, Live>,
    /// What leaders proved themselves by, in order, of each control plane.
    fences: BTreeMap<Author, Vec<Fence>>,
    answers: Vec<(u64, Answer)>,
}

#[derive(Debug)]
struct Live {
    orders: mpsc::UnboundedSender<Order>,
    clock: SimulatedClock,
}

impl Running {
    /// Hands an order to a machine; false when it is not up.
    pub fn order(&self, machine: &str, order: Order) -> bool {
        self.0.borrow().live.get(machine).is_some_and(|live| live.orders.send(order).is_ok())
    }

    /// Whether a machine is up.
    pub fn is_up(&self, machine: &str) -> bool {
        self.0.borrow().live.contains_key(machine)
    }

    /// What a leader that is deposed proved itself by.
    pub fn deposed(&self, of: &Author) -> Option<Fence> {
        let state = self.0.borrow();
        let fences = state.fences.get(of)?;
        let newest = fences.iter().map(|fence| fence.token).max()?;
        fences.iter().find(|fence| fence.token < newest).cloned()
    }

    /// Forgets a machine that crashed.
    pub fn gone(&self, machine: &str) {
        self.0.borrow_mut().live.remove(machine);
    }

    /// Sets the wall clock of a machine.
    pub fn jump(&self, machine: &str, by: TimeDelta) {
        if let Some(live) = self.0.borrow().live.get(machine) {
            live.clock.jump(by);
        }
    }

    /// Answers since the last call.
    pub fn answers(&self) -> Vec<(u64, Answer)> {
        std::mem::take(&mut self.0.borrow_mut().answers)
    }
}

/// Wall time of machines: as long after 2026 began as the simulation has run.
fn wall() -> DateTime<Utc> {
    let start = DateTime::from_timestamp(1_767_225_600, 0).unwrap_or_default();
    start + turmoil::sim_elapsed().unwrap_or_default()
}

impl Machine {
    /// Starts the control plane and serves users until the machine crashes.
    pub async fn run(self) -> turmoil::Result {
        let clock = SimulatedClock::at(wall());
        let settings = Settings { clock: clock.clock(), ..Settings::new(Backend::Simulated(self.mount.clone())) };
        let store = loop {
            match Store::open(settings.clone()).await {
                Ok(store) => break store,
                // As whoever starts the program again would.
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        };
        let life = Life::new(clock.clock(), runtime::drain::Limits::default());
        let candidate = store.stand(LEASE.0, &self.name, LEASE.1);
        tokio::task::spawn_local(self.clone().note_leases(candidate.leading()));
        self.first_write(&store).await;
        match self.of.clone() {
            Author::Global => self.serve(&store, &candidate, &life).await?,
            Author::Zone(zone) => self.follow(&zone, &store, &candidate, &life)?,
        }
        let (orders, mut inbox) = mpsc::unbounded_channel();
        self.running.0.borrow_mut().live.insert(self.name.clone(), Live { orders, clock });
        while let Some(Order { number, batch }) = inbox.recv().await {
            let (store, running) = (store.clone(), self.running.clone());
            tokio::task::spawn_local(async move {
                let answer = match store.apply(batch).await {
                    Ok(_) => Answer::Made,
                    Err(ApplyError::Storage(error)) => Answer::Unknown(error.to_string()),
                    Err(error) => Answer::Refused(error.to_string()),
                };
                running.0.borrow_mut().answers.push((number, answer));
            });
        }
        Ok(())
    }

    /// Notes by what this machine proves that it leads, whenever it does.
    async fn note_leases(self, mut leading: watch::Receiver<Option<Lease>>) {
        loop {
            let fence = leading.borrow_and_update().as_ref().map(|lease| lease.fence.clone());
            if let Some(fence) = fence {
                self.running.0.borrow_mut().fences.entry(self.of.clone()).or_default().push(fence);
            }
            if leading.changed().await.is_err() {
                return;
            }
        }
    }

    /// What the programs make at their first start and this needs: who the global is, and that a zone is ready.
    async fn first_write(&self, store: &Store) {
        let id = |kind, name: &str| Id { author: self.of.clone(), kind, mesh: "".into(), name: name.into() };
        let resource = match &self.of {
            Author::Global => {
                let made = content::resource(&id(Kind::Config, "kuma-cluster-id"), 0);
                Resource::new(made.meta.key, Labels::default(), made.spec)
            }
            Author::Zone(_) => {
                Resource::new(Key::global(Kind::GlobalSecret, FIRST_SECRET), Labels::default(), Payload::default())
            }
        };
        let mut batch = Batch::new().put(resource);
        if self.keeps_secret {
            batch = batch.put(content::resource(&content::taken(self.of.clone()), 0));
        }
        while store.apply(batch.clone()).await.is_err() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn serve(&self, store: &Store, candidate: &Candidate, life: &Life) -> turmoil::Result {
        let sets = ["multizone.global.kds.tlsEnabled=false", "multizone.global.kds.auth.type=none"];
        let settings = HubSettings::configured(&configured(Role::Global, &sets)?, &self.name)?;
        let instances: BTreeSet<String> = self.globals.iter().cloned().collect();
        let hub = Hub::start(settings, store, &candidate.leading(), instances, life);
        let listener = turmoil::net::TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT)).await?;
        let (here, network) = (self.name.clone(), self.network.clone());
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let there = turmoil::reverse_lookup(peer.ip()).unwrap_or_default();
                let (wire, hub) = (network.wire(&here, &there, stream), hub.clone());
                tokio::spawn(async move { hub.connection(wire, peer).await });
            }
        });
        Ok(())
    }

    fn follow(&self, zone: &str, store: &Store, candidate: &Candidate, life: &Life) -> turmoil::Result {
        let name = format!("multizone.zone.name={zone}");
        let sets = [name.as_str(), "multizone.zone.globalAddress=grpc://global:5685"];
        let federation = Federation::configured(&configured(Role::Zone, &sets)?)?.ok_or("no global is configured")?;
        let (globals, here, network) = (Arc::clone(&self.globals), self.name.clone(), self.network.clone());
        let connect = Connect(Arc::new(move || {
            // As a balancer would.
            let global = globals[fastrand::usize(..globals.len())].clone();
            let (here, network) = (here.clone(), network.clone());
            Box::pin(async move {
                let stream = turmoil::net::TcpStream::connect((&*global, PORT)).await?;
                Ok(Box::new(network.wire(&here, &global, stream)) as Box<dyn Stream>)
            })
        }));
        let federation = Federation { connect: Some(connect), ..federation };
        kuma_zone::simulated::follow(zone, &self.name, federation, store, &candidate.leading(), life);
        Ok(())
    }
}

fn configured(role: Role, sets: &[&str]) -> Result<config::Effective, Box<dyn std::error::Error>> {
    let loader = sets.iter().fold(Loader::new(role), |loader, set| loader.set(set));
    let mut effective = loader.load()?.effective;
    effective.fill_in(&Host { home: Some("/nowhere".into()), address: None });
    Ok(effective)
}

/// The system's clock has no place here; this is that of the disks.
pub(crate) fn hand() -> (runtime::ManualClock, Clock) {
    let hand = runtime::ManualClock::at(DateTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600));
    let clock = hand.clock();
    (hand, clock)
}
