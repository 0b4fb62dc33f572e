//! From Envoy's resources to tables: the subset of Listener, Cluster and ClusterLoadAssignment that an SNI router needs
//! (zone-dataplane 5.4, 6.3).
//!
//! A resource that asks for more is refused by name and takes nobody along: a route whose cluster is refused leads
//! nowhere, the others go on. An update of endpoints reaches the clusters that are in use without a new table.

mod assignment;
mod chain;
mod protocol;
mod refusal;
mod secret;
mod terminal;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use kds_proto::envoy::config::cluster::v3::Cluster as ClusterResource;
use kds_proto::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, LbPolicy};
use kds_proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use kds_proto::envoy::config::listener::v3::Listener as ListenerResource;
use kds_proto::envoy::extensions::transport_sockets::tls::v3::Secret;
use kds_proto::envoy::extensions::transport_sockets::tls::v3::secret::Type as SecretType;

pub use refusal::Refusal;

use crate::cluster::{Cluster, Settings};
use crate::names::{self, Lookup};
use crate::table::{Route, Table};
use crate::terminate::downstream::Downstream;
use crate::terminate::{Forward, PathRoute, Terminal};
use assignment::{Assignment, Names, Sockets, Subset, Tags};
use chain::{Chain, Leads};
use protocol::{H2, requests, sockets};
use secret::Kept;
use terminal::{ForwardSpec, PathSpec, Spec, TlsSpec};

/// Connect timeout of a cluster that names none (Envoy's default).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// All resources that a router has, and what it made of them.
#[derive(Debug, Default)]
pub struct Resources {
    clusters: HashMap<String, Definition>,
    assignments: HashMap<String, Assignment>,
    listeners: BTreeMap<String, Listener>,
    secrets: HashMap<String, Kept>,
    /// Certificates of chains in which TLS ends.
    ends: Vec<(TlsSpec, Weak<Downstream>)>,
    /// Clusters in use, by name and then by the tags that narrow them.
    live: HashMap<String, BTreeMap<Tags, Weak<Cluster>>>,
}

#[derive(Debug)]
struct Definition {
    settings: Settings,
    subset: Subset,
    sockets: Sockets,
    lookup: Lookup,
}

/// A listener as it shall be served.
#[derive(Debug)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it leads; another one after each change of its chains.
    pub table: Arc<Table>,
    routes: HashMap<Leads, Arc<Route>>,
}

/// As often as Envoy looks names up.
const REFRESH: Duration = Duration::from_secs(5);

impl Resources {
    /// Takes a cluster, new or changed.
    ///
    /// # Errors
    /// It asks for something that a router does not do; the one that was there is kept.
    pub fn put_cluster(&mut self, cluster: ClusterResource) -> Result<(), Refusal> {
        let refusal = |reason: String| Refusal::new("Cluster", &cluster.name, reason);
        let mut rest = cluster.clone();
        (rest.name, rest.alt_stat_name) = (String::new(), String::new());
        (rest.connect_timeout, rest.load_assignment, rest.eds_cluster_config) = (None, None, None);
        (rest.lb_subset_config, rest.cluster_discovery_type, rest.metadata) = (None, None, None);
        (rest.transport_socket, rest.transport_socket_matches) = (None, Vec::new());
        rest.dns_lookup_family = 0;
        rest.typed_extension_protocol_options = BTreeMap::new();
        rest.lb_policy = 0;
        // A limit of connections, which we have for a listener, and of buffers, of which we have none. Who does not answer
        // is left out in any case, by rules of our own.
        (rest.circuit_breakers, rest.per_connection_buffer_limit_bytes) = (None, None);
        (rest.outlier_detection, rest.common_lb_config) = (None, None);
        refusal::nothing_else(&rest).map_err(refusal)?;
        if cluster.lb_policy != LbPolicy::RoundRobin as i32 {
            return Err(refusal("lbPolicy must be ROUND_ROBIN".to_owned()));
        }
        let inline = match &cluster.cluster_discovery_type {
            None => Some(Names::Refused),
            Some(ClusterDiscoveryType::Type(kind)) => match DiscoveryType::try_from(*kind) {
                Ok(DiscoveryType::Eds) => None,
                Ok(DiscoveryType::Static) => Some(Names::Refused),
                Ok(DiscoveryType::StrictDns) => Some(Names::LookedUp),
                _ => return Err(refusal("type must be EDS, STATIC or STRICT_DNS".to_owned())),
            },
            Some(_) => return Err(refusal("type must be EDS, STATIC or STRICT_DNS".to_owned())),
        };
        let subset = Subset::read(cluster.lb_subset_config.as_ref()).map_err(refusal)?;
        let connect_timeout = match &cluster.connect_timeout {
            None => CONNECT_TIMEOUT,
            Some(given) => Duration::try_from(*given)
                .ok()
                .filter(|timeout| !timeout.is_zero())
                .ok_or_else(|| refusal("connectTimeout must be positive".to_owned()))?,
        };
        let http = requests(&cluster).map_err(refusal)?;
        let sockets = sockets(&cluster, http).map_err(refusal)?;
        let lookup = Lookup { only_v4: cluster.dns_lookup_family() == DnsLookupFamily::V4Only, refresh: REFRESH };
        if let Some(names) = inline {
            let given = cluster.load_assignment.as_ref();
            let read = |given| Assignment::read(given, names);
            let assignment = given.map(read).transpose().map_err(refusal)?.unwrap_or_default();
            self.assignments.insert(cluster.name.clone(), assignment);
        }
        let settings = Settings { connect_timeout, http2: http == Some(H2) };
        let name = cluster.name;
        self.clusters.insert(name.clone(), Definition { settings, subset, sockets, lookup });
        self.refresh(&name);
        Ok(())
    }

    /// Forgets a cluster and its endpoints: routes to it lead nowhere.
    pub fn remove_cluster(&mut self, name: &str) {
        self.clusters.remove(name);
        self.assignments.remove(name);
        self.refresh(name);
    }

    /// Takes the endpoints of a cluster, whether it is known yet or not.
    ///
    /// # Errors
    /// An endpoint is of a kind that a router does not do; those that were there are kept.
    pub fn put_assignment(&mut self, assignment: &ClusterLoadAssignment) -> Result<(), Refusal> {
        let name = &assignment.cluster_name;
        let read = Assignment::read(assignment, Names::Refused);
        let read = read.map_err(|reason| Refusal::new("ClusterLoadAssignment", name, reason))?;
        self.assignments.insert(name.clone(), read);
        self.refresh(name);
        Ok(())
    }

    /// Forgets the endpoints of a cluster.
    pub fn remove_assignment(&mut self, name: &str) {
        self.assignments.remove(name);
        self.refresh(name);
    }

    /// Takes a secret: a certificate with its key, or authorities.
    ///
    /// # Errors
    /// It is something else.
    pub fn put_secret(&mut self, secret: Secret) -> Result<(), Refusal> {
        match &secret.r#type {
            Some(SecretType::TlsCertificate(_) | SecretType::ValidationContext(_)) => {
                let name = secret.name.clone();
                let kept = Kept::read(&secret).map_err(|reason| Refusal::new("Secret", &name, reason))?;
                self.secrets.insert(name.clone(), kept);
                self.exchange(&name).map_err(|reason| Refusal::new("Secret", &name, reason))
            }
            _ => Err(Refusal::new("Secret", &secret.name, "it is no certificate and no authorities".to_owned())),
        }
    }

    /// Forgets a secret.
    pub fn remove_secret(&mut self, name: &str) {
        self.secrets.remove(name);
        // Nothing can be wrong with nothing.
        let _ = self.exchange(name);
    }

    /// Has the chains that use a secret use what it is now.
    fn exchange(&mut self, secret: &str) -> Result<(), String> {
        self.ends.retain(|(_, end)| end.strong_count() > 0);
        let mut failed = Ok(());
        for (spec, end) in self.ends.iter().filter(|(spec, _)| spec.uses(secret)) {
            if let Some(end) = end.upgrade() {
                failed = end.exchange(spec.material(&self.secrets)).and(failed);
            }
        }
        failed
    }

    /// TLS of a chain, with its certificate or waiting for it.
    fn end_of(&mut self, spec: TlsSpec) -> Result<Arc<Downstream>, String> {
        let end = Arc::new(Downstream::new(spec.wanted.clone(), spec.required));
        end.exchange(spec.material(&self.secrets))?;
        self.ends.retain(|(_, end)| end.strong_count() > 0);
        self.ends.push((spec, Arc::downgrade(&end)));
        Ok(end)
    }

    /// A route of a chain in which TLS ends.
    fn ending(&mut self, spec: Spec) -> Result<Route, String> {
        let tls = spec.tls.map(|tls| self.end_of(tls)).transpose()?;
        let (forward, cluster) = match spec.forward {
            ForwardSpec::Bytes(leads) => {
                let cluster = self.live(&leads);
                (Forward::Bytes(Arc::clone(&cluster)), cluster)
            }
            ForwardSpec::Requests(paths) => {
                let route = |path: PathSpec| PathRoute {
                    prefix: path.prefix,
                    cluster: self.live(&path.leads),
                    rewrite_host: path.rewrite_host,
                    timeout: path.timeout,
                };
                let routes: Arc<[PathRoute]> = paths.into_iter().map(route).collect();
                let first = routes.first().ok_or("it routes no path")?;
                let cluster = Arc::clone(&first.cluster);
                (Forward::Requests(routes), cluster)
            }
        };
        let terminal = Terminal { tls, access: spec.access, forward };
        Ok(Route { terminal: Some(terminal), ..Route::new(cluster) })
    }

    /// Takes a listener, new or changed. Chains that are refused are told, the others count.
    ///
    /// # Errors
    /// Nothing of it can be served; the one that was there is kept.
    pub fn put_listener(&mut self, mut listener: ListenerResource) -> Result<Vec<Refusal>, Refusal> {
        let name = listener.name.clone();
        let mut chains = std::mem::take(&mut listener.filter_chains);
        let address = chain::address(listener).map_err(|reason| Refusal::new("Listener", &name, reason))?;
        let mut refused = Vec::new();
        let mut table = Table::with_capacity(chains.len());
        let mut routes = HashMap::with_capacity(chains.len());
        let known = self.listeners.remove(&name);
        for mut given in chains.drain(..) {
            let read = Chain::read(&mut given);
            let refuse =
                |reason: String| Refusal::new("Listener", &name, format!("{}: {reason}", chain::title(&given)));
            match read {
                Ok(Chain::Answer(answer)) => table.answer_all(answer),
                Ok(Chain::Route { names, leads }) => {
                    let before = known.as_ref().and_then(|known| known.routes.get(&leads));
                    let route = before.cloned().unwrap_or_else(|| Arc::new(Route::new(self.live(&leads))));
                    for server_name in names {
                        if let Err(taken) = table.insert(&server_name, Arc::clone(&route)) {
                            refused.push(refuse(taken.to_string()));
                        }
                    }
                    routes.insert(leads, route);
                }
                Ok(Chain::End { names, spec }) => {
                    let is_plain = spec.tls.is_none();
                    let route = match self.ending(spec) {
                        Ok(route) => Arc::new(route),
                        Err(reason) => {
                            refused.push(refuse(reason));
                            continue;
                        }
                    };
                    for server_name in &names {
                        if let Err(taken) = table.insert(server_name, Arc::clone(&route)) {
                            refused.push(refuse(taken.to_string()));
                        }
                    }
                    let alone =
                        !names.is_empty() || if is_plain { table.route_plain(route) } else { table.otherwise(route) };
                    if !alone {
                        refused.push(refuse("another chain matches the same".to_owned()));
                    }
                }
                Err(reason) => refused.push(refuse(reason)),
            }
        }
        self.listeners.insert(name, Listener { address, table: Arc::new(table), routes });
        Ok(refused)
    }

    /// Forgets a listener.
    pub fn remove_listener(&mut self, name: &str) {
        self.listeners.remove(name);
    }

    /// All listeners, by name.
    pub fn listeners(&self) -> &BTreeMap<String, Listener> {
        &self.listeners
    }

    /// The cluster that a chain leads to, made when it is first needed.
    fn live(&mut self, leads: &Leads) -> Arc<Cluster> {
        let subsets = self.live.entry(leads.cluster.clone()).or_default();
        if let Some(cluster) = subsets.get(&leads.tags).and_then(Weak::upgrade) {
            return cluster;
        }
        let cluster = Arc::new(Cluster::new(&leads.cluster));
        subsets.insert(leads.tags.clone(), Arc::downgrade(&cluster));
        self.fill(&leads.cluster, &leads.tags, &cluster);
        cluster
    }

    /// Brings the clusters in use up to date.
    fn refresh(&mut self, name: &str) {
        let Some(subsets) = self.live.get_mut(name) else { return };
        subsets.retain(|_, cluster| cluster.strong_count() > 0);
        let live: Vec<_> =
            subsets.iter().filter_map(|(tags, cluster)| Some((tags.clone(), cluster.upgrade()?))).collect();
        if live.is_empty() {
            self.live.remove(name);
        }
        for (tags, cluster) in live {
            self.fill(name, &tags, &cluster);
        }
    }

    fn fill(&self, name: &str, tags: &Tags, cluster: &Arc<Cluster>) {
        let (definition, assignment) = (self.clusters.get(name), self.assignments.get(name));
        let (Some(definition), Some(assignment)) = (definition, assignment) else {
            cluster.follow(None);
            return cluster.replace(Vec::new(), assignment::OVERPROVISIONING);
        };
        cluster.set(definition.settings);
        let endpoints = definition.subset.select(assignment, tags, &definition.sockets);
        names::assign(cluster, endpoints, assignment.overprovisioning, definition.lookup);
    }
}

#[cfg(test)]
mod tests;
