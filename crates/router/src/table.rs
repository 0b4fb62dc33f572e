//! Server names and where they lead: an immutable value, swapped as a whole.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::cluster::Cluster;
use crate::terminate::Terminal;

/// Longest name that is brought to lower case on the stack; a TLS server name of DNS has at most 253.
const USUAL: usize = 256;

/// A destination with what went there.
#[derive(Debug)]
pub struct Route {
    /// Where its connections go.
    pub cluster: Arc<Cluster>,
    /// What went there since it was made.
    pub counters: Counters,
    /// What is done with TLS that ends here; `None`: it is passed on as it is.
    pub terminal: Option<Terminal>,
}

impl Route {
    /// A route that passes on.
    pub fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, counters: Counters::default(), terminal: None }
    }
}

/// Counts of a route. They only grow, `active` apart.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that were routed here.
    pub connections: AtomicU64,
    /// Those that are open.
    pub active: AtomicU64,
    /// Those for which no endpoint could be reached.
    pub unreachable: AtomicU64,
    /// Bytes from clients.
    pub sent: AtomicU64,
    /// Bytes to clients.
    pub received: AtomicU64,
}

impl Counters {
    /// Adds to a count.
    pub fn add(count: &AtomicU64, by: u64) {
        count.fetch_add(by, Ordering::Relaxed);
    }
}

/// All routes of a listener.
#[derive(Debug, Default)]
pub struct Table {
    routes: HashMap<Box<[u8]>, Arc<Route>>,
    /// Of TLS whose name has no route.
    otherwise: Option<Arc<Route>>,
    /// Of what is no TLS.
    plain: Option<Arc<Route>>,
    answer: Option<Bytes>,
}

/// Two routes have one name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server name {name:?} is taken by cluster {by:?}: names differ by more than the case of their letters")]
pub struct Taken {
    /// The name.
    pub name: String,
    /// Cluster of the route that has it.
    pub by: String,
}

impl Table {
    /// A table for about so many names.
    pub fn with_capacity(names: usize) -> Self {
        Self { routes: HashMap::with_capacity(names), ..Self::default() }
    }

    /// Adds a name, any bytes; letters of ASCII count without their case, as Envoy's do.
    ///
    /// # Errors
    /// It has a route, which stays.
    pub fn insert(&mut self, name: &str, route: Arc<Route>) -> Result<(), Taken> {
        let key = name.to_ascii_lowercase().into_bytes().into_boxed_slice();
        if let Some(there) = self.routes.get(&key) {
            return Err(Taken { name: name.to_owned(), by: there.cluster.name().to_owned() });
        }
        self.routes.insert(key, route);
        Ok(())
    }

    /// The route of a name as a client sent it.
    pub fn find(&self, name: &[u8]) -> Option<&Arc<Route>> {
        let mut usual = [0; USUAL];
        let Some(lower) = usual.get_mut(..name.len()) else {
            return self.routes.get(name.to_ascii_lowercase().as_slice());
        };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        self.routes.get(&*lower)
    }

    /// Routes TLS whose name has no route; `false` when it was routed before.
    pub fn otherwise(&mut self, route: Arc<Route>) -> bool {
        self.otherwise.replace(route).is_none()
    }

    /// Routes what is no TLS, and TLS that nobody else routes; `false` when it was routed before.
    pub fn route_plain(&mut self, route: Arc<Route>) -> bool {
        self.plain.replace(route).is_none()
    }

    /// The route of TLS without a name that has one.
    pub fn nameless(&self) -> Option<&Arc<Route>> {
        self.otherwise.as_ref().or(self.plain.as_ref())
    }

    /// The route of what is no TLS.
    pub fn plain(&self) -> Option<&Arc<Route>> {
        self.plain.as_ref()
    }

    /// Has everybody who is not routed answered with these bytes instead of a close.
    pub fn answer_all(&mut self, answer: Bytes) {
        self.answer = Some(answer);
    }

    /// What whoever is not routed is answered, if anything.
    pub fn answer(&self) -> Option<&Bytes> {
        self.answer.as_ref()
    }

    /// Every route once, by its cluster's name.
    pub fn routes(&self) -> Vec<Arc<Route>> {
        let mut routes: Vec<&Arc<Route>> = self.routes.values().chain(&self.otherwise).chain(&self.plain).collect();
        routes.sort_by_key(|route| (route.cluster.name(), Arc::as_ptr(route)));
        routes.dedup_by_key(|route| Arc::as_ptr(route));
        routes.into_iter().cloned().collect()
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(name: &str) -> Arc<Route> {
        Arc::new(Route::new(Arc::new(Cluster::new(name))))
    }

    fn found<'t>(table: &'t Table, name: &str) -> Option<&'t str> {
        table.find(name.as_bytes()).map(|route| route.cluster.name())
    }

    /// DP-30
    #[test]
    fn names_count_without_the_case_of_ascii_letters() {
        let mut table = Table::default();
        table.insert("Backend{mesh=Default}", route("a")).unwrap();
        table.insert("ä", route("b")).unwrap();
        let long = "l".repeat(400);
        table.insert(&long, route("long")).unwrap();
        assert_eq!(found(&table, "backend{mesh=default}"), Some("a"));
        assert_eq!(found(&table, "BACKEND{MESH=DEFAULT}"), Some("a"));
        assert_eq!(found(&table, "ä"), Some("b"));
        assert_eq!(found(&table, "Ä"), None);
        assert_eq!(found(&table, &long.to_uppercase()), Some("long"));
        assert_eq!(found(&table, "backend{mesh=other}"), None);
    }

    #[test]
    fn a_name_that_is_taken_costs_only_itself() {
        let mut table = Table::default();
        table.insert("b{version=v1}", route("first")).unwrap();
        let refused = table.insert("b{version=V1}", route("second")).unwrap_err();
        assert!(refused.to_string().contains(r#""b{version=V1}" is taken by cluster "first""#), "{refused}");
        assert_eq!(found(&table, "b{version=v1}"), Some("first"));
    }
}
