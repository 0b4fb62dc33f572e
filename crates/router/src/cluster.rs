//! Where connections of a route can go: endpoints with weights and priorities, and which of them answer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::task::AbortOnDropHandle;

use crate::balance::{self, Order};
use crate::terminate::upstream::Upstream;

/// Refused or timed-out connects in a row after which an endpoint is left out.
const FAILURES: u32 = 2;

/// A place to connect to, as one cluster knows it. It survives updates of the cluster that keep its address.
#[derive(Debug)]
pub struct Host {
    address: SocketAddr,
    /// The name that had this address, when it was found by one.
    name: Option<Box<str>>,
    tls: Option<Arc<Upstream>>,
    ejected: AtomicBool,
    failures: AtomicU32,
}

impl Host {
    /// A host that is taken to be well.
    pub fn new(address: SocketAddr) -> Arc<Self> {
        Self::outside(address, None, None)
    }

    /// One that may have been found by a name, and may want TLS.
    pub fn outside(address: SocketAddr, name: Option<&str>, tls: Option<Arc<Upstream>>) -> Arc<Self> {
        let (ejected, failures) = (AtomicBool::new(false), AtomicU32::new(0));
        Arc::new(Self { address, name: name.map(Into::into), tls, ejected, failures })
    }

    /// The name by which it was found.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// How TLS begins there, if it does.
    pub fn tls(&self) -> Option<&Upstream> {
        self.tls.as_deref()
    }

    fn is_like(&self, other: &Self) -> bool {
        self.name == other.name && self.tls == other.tls
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it is left out.
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    /// It answered. `true` when it was left out before.
    pub fn answered(&self) -> bool {
        // A connect that succeeds is the usual case: it reads and does not write.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        self.is_ejected() && self.ejected.swap(false, Ordering::Relaxed)
    }

    /// It refused, or did not answer in time. `true` when it is left out from now on.
    pub fn failed(&self) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        failures >= FAILURES && !self.ejected.swap(true, Ordering::Relaxed)
    }
}

/// A host in a cluster.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where.
    pub host: Arc<Host>,
    /// Its share among those of its priority.
    pub weight: u32,
    /// 0 first.
    pub priority: u32,
    /// Whether whoever assigned it takes it to be well.
    pub well: bool,
}

impl Endpoint {
    fn answers(&self) -> bool {
        self.well && !self.host.is_ejected()
    }
}

/// How a cluster behaves, apart from its endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Whether requests go there in HTTP/2.
    pub http2: bool,
}

impl Default for Settings {
    /// As Kuma configures zone proxies (zone-dataplane 5.4).
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(5), http2: false }
    }
}

/// Endpoints behind one name.
#[derive(Debug)]
pub struct Cluster {
    name: Box<str>,
    settings: ArcSwap<Settings>,
    endpoints: ArcSwap<Assigned>,
    plan: ArcSwap<Plan>,
    turn: AtomicUsize,
    /// Looks up the names of its endpoints.
    following: Mutex<Option<AbortOnDropHandle<()>>>,
}

#[derive(Debug, Default)]
struct Assigned {
    endpoints: Vec<Endpoint>,
    overprovisioning: u32,
}

/// Who gets what as long as neither endpoints nor their health change.
#[derive(Debug, Default)]
struct Plan {
    loads: Vec<u32>,
    levels: Vec<Level>,
}

#[derive(Debug, Default)]
struct Level {
    hosts: Vec<Arc<Host>>,
    order: Order,
    turn: AtomicUsize,
}

impl Cluster {
    /// A cluster without endpoints: nothing can be connected.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            settings: ArcSwap::default(),
            endpoints: ArcSwap::default(),
            plan: ArcSwap::default(),
            turn: AtomicUsize::new(0),
            following: Mutex::default(),
        }
    }

    /// Has its endpoints kept current by this task, and by no other.
    pub fn follow(&self, task: Option<AbortOnDropHandle<()>>) {
        *self.following.lock().unwrap_or_else(PoisonError::into_inner) = task;
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it behaves.
    pub fn settings(&self) -> Settings {
        **self.settings.load()
    }

    /// Lets it behave otherwise from the next connection on.
    pub fn set(&self, settings: Settings) {
        if self.settings() != settings {
            self.settings.store(Arc::new(settings));
        }
    }

    /// Its endpoints.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.endpoints.load().endpoints.clone()
    }

    /// Gives it other endpoints; `overprovisioning` is the percentage of its healthy share that a priority may take.
    /// Open connections stay where they are, the order goes on where it stood, and an address that was left out stays
    /// so.
    pub fn replace(&self, endpoints: Vec<Endpoint>, overprovisioning: u32) {
        let before = self.endpoints.load();
        let known: HashMap<SocketAddr, &Arc<Host>> =
            before.endpoints.iter().map(|known| (known.host.address, &known.host)).collect();
        let keep = |endpoint: Endpoint| match known.get(&endpoint.host.address) {
            Some(host) if host.is_like(&endpoint.host) => Endpoint { host: Arc::clone(host), ..endpoint },
            _ => endpoint,
        };
        let endpoints = endpoints.into_iter().map(keep).collect();
        self.endpoints.store(Arc::new(Assigned { endpoints, overprovisioning }));
        self.lay_out();
    }

    /// Whether a host is among its endpoints.
    pub fn has(&self, host: &Arc<Host>) -> bool {
        self.endpoints.load().endpoints.iter().any(|endpoint| Arc::ptr_eq(&endpoint.host, host))
    }

    /// Lays the order out anew, after the health of a host has changed.
    pub fn lay_out(&self) {
        let Assigned { endpoints, overprovisioning } = &**self.endpoints.load();
        self.plan.rcu(|before| Plan::new(endpoints, *overprovisioning, before));
    }

    /// The host of the next connection, other than one that has just failed. `None` when there is no other.
    pub fn next(&self, failed: Option<&Arc<Host>>) -> Option<Arc<Host>> {
        let plan = self.plan.load();
        let level = balance::priority_of(&plan.loads, self.turn.fetch_add(1, Ordering::Relaxed));
        let chosen = level.and_then(|level| plan.levels.get(level))?.next(failed);
        // A priority with nobody else to offer hands over to the others, first to last.
        chosen.or_else(|| plan.levels.iter().find_map(|level| level.next(failed)))
    }
}

impl Plan {
    fn new(endpoints: &[Endpoint], overprovisioning: u32, before: &Self) -> Self {
        let anybody = endpoints.iter().any(Endpoint::answers);
        // With everybody out, a try is better than none.
        let counts = |endpoint: &Endpoint| !anybody || endpoint.answers();
        let priorities = endpoints.iter().map(|endpoint| endpoint.priority).max().map_or(0, |highest| highest + 1);
        let (mut healthy, mut levels) = (Vec::new(), Vec::new());
        for priority in 0..priorities {
            let all = || endpoints.iter().filter(move |endpoint| endpoint.priority == priority);
            let well = || all().filter(|endpoint| counts(endpoint));
            healthy.push((well().count(), all().count()));
            let weights: Vec<u32> = well().map(|endpoint| endpoint.weight).collect();
            let turn = before.levels.get(levels.len()).map_or(0, |level| level.turn.load(Ordering::Relaxed));
            let hosts = well().map(|endpoint| Arc::clone(&endpoint.host)).collect();
            levels.push(Level { hosts, order: Order::new(&weights), turn: AtomicUsize::new(turn) });
        }
        Self { loads: balance::priority_loads(&healthy, overprovisioning), levels }
    }
}

impl Level {
    fn next(&self, failed: Option<&Arc<Host>>) -> Option<Arc<Host>> {
        let Some(failed) = failed else {
            let at = self.order.at(self.turn.fetch_add(1, Ordering::Relaxed))?;
            return self.hosts.get(at).cloned();
        };
        // A second try must not take the turn of a first one from everybody else: it only looks ahead.
        let from = self.turn.load(Ordering::Relaxed);
        let ahead = (0..self.order.len()).filter_map(|step| self.hosts.get(self.order.at(from + step)?));
        ahead.into_iter().find(|host| !Arc::ptr_eq(host, failed)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(last: u8, weight: u32, priority: u32) -> Endpoint {
        Endpoint { host: Host::new(SocketAddr::from(([10, 0, 0, last], 80))), weight, priority, well: true }
    }

    fn of(endpoints: &[Endpoint]) -> Cluster {
        let cluster = Cluster::new("c");
        cluster.replace(endpoints.to_vec(), 140);
        cluster
    }

    fn shares(cluster: &Cluster, connections: usize) -> Vec<(u8, usize)> {
        let mut shares = std::collections::BTreeMap::new();
        for _ in 0..connections {
            let SocketAddr::V4(address) = cluster.next(None).unwrap().address() else { unreachable!() };
            *shares.entry(address.ip().octets()[3]).or_default() += 1;
        }
        shares.into_iter().collect()
    }

    #[test]
    fn an_update_does_not_begin_the_order_again() {
        let endpoints = vec![endpoint(1, 1, 0), endpoint(2, 1, 0)];
        let cluster = of(&endpoints);
        let mut counts = [0, 0];
        for _ in 0..100 {
            let host = cluster.next(None).unwrap();
            counts[usize::from(Arc::ptr_eq(&host, &endpoints[1].host))] += 1;
            cluster.replace(endpoints.clone(), 140);
        }
        assert_eq!(counts, [50, 50]);
    }

    #[test]
    fn whoever_fails_twice_is_left_out_until_it_answers() {
        let endpoints = vec![endpoint(1, 2, 0), endpoint(2, 1, 0), endpoint(3, 5, 0)];
        let cluster = of(&endpoints);
        assert_eq!(shares(&cluster, 800), [(1, 200), (2, 100), (3, 500)]);
        let dead = &endpoints[2].host;
        assert!(!dead.failed() && dead.failed() && !dead.failed(), "told once");
        cluster.lay_out();
        assert_eq!(shares(&cluster, 300), [(1, 200), (2, 100)]);
        assert!(dead.answered() && !dead.answered());
        cluster.lay_out();
        assert_eq!(shares(&cluster, 800), [(1, 200), (2, 100), (3, 500)]);
    }

    #[test]
    fn a_second_try_goes_elsewhere() {
        let endpoints = vec![endpoint(1, 9, 0), endpoint(2, 1, 0)];
        let cluster = of(&endpoints);
        let again = cluster.next(Some(&endpoints[0].host)).unwrap();
        assert!(Arc::ptr_eq(&again, &endpoints[1].host));
        let alone = of(&endpoints[..1]);
        assert!(alone.next(Some(&endpoints[0].host)).is_none());
        let other_priority = vec![endpoints[0].clone(), endpoint(3, 1, 1)];
        let cluster = of(&other_priority);
        assert!(cluster.next(Some(&endpoints[0].host)).is_some());
    }

    #[test]
    fn the_next_priority_takes_what_the_first_cannot() {
        let endpoints = vec![endpoint(1, 1, 0), endpoint(2, 1, 0), endpoint(3, 1, 1), endpoint(4, 1, 1)];
        let cluster = of(&endpoints);
        assert_eq!(shares(&cluster, 100), [(1, 50), (2, 50)]);
        let eject = |at: usize| assert!(!endpoints[at].host.failed() && endpoints[at].host.failed());
        eject(1);
        cluster.lay_out();
        assert_eq!(shares(&cluster, 100), [(1, 70), (3, 15), (4, 15)]);
        eject(0);
        cluster.lay_out();
        assert_eq!(shares(&cluster, 100), [(3, 50), (4, 50)]);
        eject(2);
        eject(3);
        cluster.lay_out();
        assert_eq!(shares(&cluster, 100), [(1, 50), (2, 50)], "with everybody out, all are tried");
    }

    #[test]
    fn an_empty_cluster_leads_nowhere() {
        assert!(Cluster::new("c").next(None).is_none());
    }
}
