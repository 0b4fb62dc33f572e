//! Endpoints that have names: looked up again and again, as Envoy does for `STRICT_DNS`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::cluster::{Cluster, Endpoint, Host};
use crate::terminate::upstream::Upstream;

/// For one answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// There.
    Address(SocketAddr),
    /// Where all addresses of this name are.
    Name(String, u16),
}

/// An endpoint before its name is looked up.
#[derive(Clone, Debug)]
pub struct Located {
    /// Where.
    pub place: Place,
    /// How TLS begins there, if it does.
    pub tls: Option<Arc<Upstream>>,
    /// As for [`Endpoint`].
    pub weight: u32,
    /// As for [`Endpoint`].
    pub priority: u32,
    /// As for [`Endpoint`].
    pub well: bool,
}

impl Located {
    fn at(&self, address: SocketAddr) -> Endpoint {
        let name = match &self.place {
            Place::Address(_) => None,
            Place::Name(name, _) => Some(&**name),
        };
        let Self { weight, priority, well, .. } = *self;
        Endpoint { host: Host::outside(address, name, self.tls.clone()), weight, priority, well }
    }
}

/// Which addresses of a name count, and how often they are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Lookup {
    /// Only IPv4; otherwise IPv6 if there is any, else IPv4.
    pub only_v4: bool,
    /// From one answer to the next question.
    pub refresh: Duration,
}

/// Gives a cluster these endpoints, and whatever their names become later.
pub fn assign(cluster: &Arc<Cluster>, endpoints: Vec<Located>, overprovisioning: u32, lookup: Lookup) {
    let address = |located: &Located| match located.place {
        Place::Address(address) => Some(located.at(address)),
        Place::Name(..) => None,
    };
    let known: Vec<Endpoint> = endpoints.iter().filter_map(address).collect();
    if known.len() == endpoints.len() {
        cluster.follow(None);
        return cluster.replace(known, overprovisioning);
    }
    // Without a runtime nobody connects, either.
    let Ok(handle) = Handle::try_current() else { return cluster.replace(known, overprovisioning) };
    let following = handle.spawn(follow(Arc::downgrade(cluster), endpoints, overprovisioning, lookup));
    cluster.follow(Some(AbortOnDropHandle::new(following)));
}

async fn follow(cluster: Weak<Cluster>, endpoints: Vec<Located>, overprovisioning: u32, lookup: Lookup) {
    let mut known: HashMap<Place, Vec<SocketAddr>> = HashMap::new();
    let mut before = None;
    loop {
        for located in &endpoints {
            let answered = addresses(&located.place, lookup.only_v4).await;
            match answered {
                Ok(found) => drop(known.insert(located.place.clone(), found)),
                Err(reason) => {
                    tracing::warn!(endpoint = ?located.place, reason, "cannot look up an endpoint; what is known of it stays");
                }
            }
        }
        let Some(cluster) = cluster.upgrade() else { return };
        if before.as_ref() != Some(&known) {
            let of = |located: &Located| {
                let found = known.get(&located.place).map(Vec::as_slice).unwrap_or_default();
                found.iter().map(|address| located.at(*address)).collect::<Vec<_>>()
            };
            cluster.replace(endpoints.iter().flat_map(of).collect(), overprovisioning);
            before = Some(known.clone());
        }
        drop(cluster);
        tokio::time::sleep(lookup.refresh).await;
    }
}

async fn addresses(place: &Place, only_v4: bool) -> Result<Vec<SocketAddr>, String> {
    let (name, port) = match place {
        Place::Address(address) => return Ok(vec![*address]),
        Place::Name(name, port) => (name.as_str(), *port),
    };
    let found = timeout(ANSWER, lookup_host((name, port))).await.map_err(|_| "no answer in time".to_owned())?;
    let mut found: Vec<SocketAddr> = found.map_err(|error| error.to_string())?.collect();
    let is_v6 = |address: &SocketAddr| matches!(address.ip(), IpAddr::V6(_));
    let wants_v6 = !only_v4 && found.iter().any(is_v6);
    found.retain(|address| is_v6(address) == wants_v6);
    found.sort();
    found.dedup();
    if found.is_empty() { Err("it has no address of the wanted kind".to_owned()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_becomes_its_addresses() {
        let cluster = Arc::new(Cluster::new("c"));
        let located = |place| Located { place, tls: None, weight: 1, priority: 0, well: true };
        let fixed = SocketAddr::from(([10, 0, 0, 1], 80));
        let endpoints = vec![located(Place::Name("localhost".to_owned(), 81)), located(Place::Address(fixed))];
        let lookup = Lookup { only_v4: true, refresh: Duration::from_millis(10) };
        assign(&cluster, endpoints, 140, lookup);
        let began = std::time::Instant::now();
        while cluster.endpoints().len() < 2 {
            assert!(began.elapsed() < Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let endpoints = cluster.endpoints();
        assert_eq!(endpoints[0].host.address(), SocketAddr::from(([127, 0, 0, 1], 81)));
        assert_eq!((endpoints[0].host.name(), endpoints[1].host.name()), (Some("localhost"), None));
        assert!(addresses(&Place::Name("no.such.host.invalid".to_owned(), 1), true).await.is_err());
    }
}
