//! What the control plane told, and what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use discovery::subscriber::Update;
use kds_proto::Any;
use kds_proto::envoy::config::cluster::v3::Cluster;
use kds_proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use kds_proto::envoy::config::listener::v3::Listener;
use kds_proto::envoy::extensions::transport_sockets::tls::v3::Secret;
use kds_proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource};
use prost::Message;

use super::disk::Disk;
use crate::listeners::Listeners;
use crate::resources::{Refusal, Resources};

/// Types of resources, in the order in which they are taken when all are there: a route finds its cluster.
pub const TYPES: [&str; 4] = [SECRETS, CLUSTERS, ENDPOINTS, LISTENERS];
const CLUSTERS: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
const LISTENERS: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const SECRETS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// Resources by type and name, as they came, and the routes that they make.
#[derive(Debug)]
pub struct Held {
    told: BTreeMap<&'static str, BTreeMap<String, Any>>,
    /// Types of which everything was told since the start.
    complete: BTreeSet<&'static str>,
    resources: Resources,
    listeners: Arc<Listeners>,
    disk: Option<Disk>,
}

impl Held {
    /// What was kept on disk, if anything, served by these listeners.
    pub fn new(listeners: Arc<Listeners>, disk: Option<Disk>) -> Self {
        let mut held = Self {
            told: BTreeMap::new(),
            complete: BTreeSet::new(),
            resources: Resources::default(),
            listeners,
            disk: None,
        };
        let kept = disk.as_ref().map(Disk::read).unwrap_or_default();
        for type_url in TYPES {
            let of_type = kept.iter().filter(|response| response.type_url == type_url);
            for resource in of_type.flat_map(|response| &response.resources) {
                // It was refused before, and told; the rest counts.
                let _ = held.put(type_url, resource);
            }
        }
        for failed in held.serve() {
            tracing::error!("{failed}");
        }
        held.disk = disk;
        held
    }

    /// Whether there is anything to serve, or it was told that there is nothing.
    pub fn is_ready(&self) -> bool {
        self.is_complete() || !self.resources.listeners().is_empty()
    }

    /// Whether everything that makes routes was told since the start.
    pub fn is_complete(&self) -> bool {
        [CLUSTERS, ENDPOINTS, LISTENERS].iter().all(|type_url| self.complete.contains(type_url))
    }

    /// Takes an update. What cannot be served is told by name, and what was there before under that name stays.
    pub fn take(&mut self, update: &Update) -> Vec<String> {
        let Some(type_url) = TYPES.into_iter().find(|known| *known == &*update.type_url) else { return Vec::new() };
        let mut refused = Vec::new();
        let mut changed = self.forget(type_url, update);
        for resource in &update.resources {
            match self.put(type_url, resource) {
                Ok(put) => changed |= put,
                Err(reasons) => {
                    changed = true;
                    refused.extend(reasons);
                }
            }
        }
        if update.complete {
            self.complete.insert(type_url);
        }
        if changed && type_url == LISTENERS {
            refused.extend(self.serve());
        }
        if changed && let Some(disk) = &self.disk {
            disk.write();
        }
        refused
    }

    /// Listens where listening failed before.
    pub fn serve(&mut self) -> Vec<String> {
        self.listeners.apply(&self.resources)
    }

    fn forget(&mut self, type_url: &'static str, update: &Update) -> bool {
        let told = self.told.entry(type_url).or_default();
        let gone: Vec<String> = if update.complete {
            let there: BTreeSet<&str> = update.resources.iter().map(|resource| &*resource.name).collect();
            told.keys().filter(|name| !there.contains(&***name)).cloned().collect()
        } else {
            update.removed.iter().filter(|name| told.contains_key(*name)).cloned().collect()
        };
        for name in &gone {
            told.remove(name);
            match type_url {
                CLUSTERS => self.resources.remove_cluster(name),
                ENDPOINTS => self.resources.remove_assignment(name),
                SECRETS => self.resources.remove_secret(name),
                _ => self.resources.remove_listener(name),
            }
        }
        !gone.is_empty()
    }

    /// Takes a resource; whether it is another one than before.
    fn put(&mut self, type_url: &'static str, resource: &Resource) -> Result<bool, Vec<String>> {
        let Resource { name, resource: Some(packed), .. } = resource else {
            return Err(vec![format!("{:?} is empty", resource.name)]);
        };
        let told = self.told.entry(type_url).or_default();
        if told.get(name) == Some(packed) {
            return Ok(false);
        }
        let refused = self.resources.put(type_url, packed).map_err(|refused| vec![refused])?;
        told.insert(name.clone(), packed.clone());
        if refused.is_empty() { Ok(true) } else { Err(refused) }
    }

    /// Where it is kept, if it is.
    pub fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    /// What was told, as it is kept on disk.
    pub fn encoded(&self) -> Vec<DeltaDiscoveryResponse> {
        let resource = |(name, packed): (&String, &Any)| Resource {
            name: name.clone(),
            resource: Some(packed.clone()),
            ..Resource::default()
        };
        let response = |(type_url, told): (&&str, &BTreeMap<String, Any>)| DeltaDiscoveryResponse {
            type_url: (*type_url).to_owned(),
            resources: told.iter().map(resource).collect(),
            ..DeltaDiscoveryResponse::default()
        };
        self.told.iter().map(response).collect()
    }
}

impl Resources {
    /// Takes a resource of any type. What of a listener cannot be served is told, the rest of it counts.
    fn put(&mut self, type_url: &str, packed: &Any) -> Result<Vec<String>, String> {
        let text = |refusal: Refusal| refusal.to_string();
        match type_url {
            CLUSTERS => self.put_cluster(decode::<Cluster>(packed)?).map_err(text)?,
            ENDPOINTS => self.put_assignment(&decode::<ClusterLoadAssignment>(packed)?).map_err(text)?,
            SECRETS => self.put_secret(decode::<Secret>(packed)?).map_err(text)?,
            _ => {
                let refused = self.put_listener(decode::<Listener>(packed)?).map_err(text)?;
                return Ok(refused.into_iter().map(text).collect());
            }
        }
        Ok(Vec::new())
    }
}

fn decode<M: Message + Default>(packed: &Any) -> Result<M, String> {
    M::decode(&*packed.value).map_err(|error| format!("a resource cannot be decoded: {error}"))
}
