//! The listeners that are served, brought in line with those that shall be.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::resources::Resources;
use crate::server::{Server, Settings};
use crate::table::Table;

/// Servers by the name of their listener.
#[derive(Debug)]
pub struct Listeners {
    settings: Settings,
    served: Mutex<BTreeMap<String, Served>>,
}

#[derive(Debug)]
struct Served {
    wanted: SocketAddr,
    table: Arc<Table>,
    server: Server,
}

impl Listeners {
    /// None yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, served: Mutex::default() }
    }

    /// Serves what shall be served: new tables are swapped in, new listeners started, others closed while their open
    /// connections go on. Returns what cannot be listened on.
    pub fn apply(&self, resources: &Resources) -> Vec<String> {
        let wanted = resources.listeners();
        let mut served = self.lock();
        served.retain(|name, served| wanted.get(name).is_some_and(|wanted| wanted.address == served.wanted));
        let mut failed = Vec::new();
        for (name, listener) in wanted {
            let table = &listener.table;
            if let Some(there) = served.get_mut(name) {
                if !Arc::ptr_eq(&there.table, table) {
                    there.server.swap(Arc::clone(table));
                    there.table = Arc::clone(table);
                }
                continue;
            }
            match Server::start(listener.address, self.settings) {
                Ok(server) => {
                    server.swap(Arc::clone(table));
                    tracing::info!(listener = name, address = %server.address(), routes = table.len(), "listening");
                    served.insert(name.clone(), Served { wanted: listener.address, table: Arc::clone(table), server });
                }
                Err(error) => failed.push(format!("cannot listen on {} ({name}): {error}", listener.address)),
            }
        }
        failed
    }

    /// Where each listens.
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        self.lock().iter().map(|(name, served)| (name.clone(), served.server.address())).collect()
    }

    /// Looks at each server and its table.
    pub fn each(&self, mut look: impl FnMut(&str, &Server, &Table)) {
        for (name, served) in self.lock().iter() {
            look(name, &served.server, &served.table);
        }
    }

    /// Closes all and waits for their connections, for so long. `true` when all have ended.
    pub async fn drain(&self, limit: Duration) -> bool {
        let served = std::mem::take(&mut *self.lock());
        let mut drains = tokio::task::JoinSet::new();
        for (_, served) in served {
            drains.spawn(async move { served.server.drain(limit).await });
        }
        drains.join_all().await.into_iter().all(|ended| ended)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Served>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
