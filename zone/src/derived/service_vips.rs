//! Virtual addresses of services that are resources (zone-dataplane 8.4): each zone gives its own, in the status.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use model::spec::mesh_service::Vip;
use model::spec::{mesh_external_service, mesh_multi_zone_service, mesh_service};
use model::vips::Pool;
use model::{Key, Kind, Payload, Resource};

use super::Conclusion;
use super::round::Round;

/// The networks that services get addresses from, by their kind. They outlive a start from nothing: an address is not
/// given twice by one leader, so that who still sends to a service that is gone does not reach another.
#[derive(Clone, Debug)]
pub(super) struct Pools(Arc<Mutex<BTreeMap<Kind, Pool>>>);

impl Pools {
    /// Of the networks of kinds; what is no network is an empty one, which the configuration does not let through.
    pub fn new(networks: &[(Kind, String)]) -> Self {
        let pool = |(kind, network): &(Kind, String)| Some((*kind, Pool::new(network).ok()?));
        Self(Arc::new(Mutex::new(networks.iter().filter_map(pool).collect())))
    }
}

/// Gives addresses to services that have none.
pub(super) struct ServiceVips {
    pools: Pools,
    /// Kinds whose network is full, which is told once.
    full: Vec<Kind>,
}

impl ServiceVips {
    /// From these networks.
    pub fn new(pools: Pools) -> Self {
        Self { pools, full: Vec::new() }
    }
}

impl Conclusion for ServiceVips {
    fn step(&mut self, round: &mut Round) {
        let pools = self.pools.clone();
        let mut pools = pools.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changed: Vec<Key> = round.changed().filter(|key| pools.contains_key(&key.kind)).cloned().collect();
        let mut without = Vec::new();
        for service in changed.iter().filter_map(|key| round.now().get(key)) {
            let Some(pool) = pools.get_mut(&service.kind()) else { continue };
            let known = addresses(service);
            for address in &known {
                pool.reserve(address);
            }
            if known.is_empty() {
                without.push(Arc::clone(service));
            }
        }
        for service in without {
            let key = &service.meta.key;
            let Some(pool) = pools.get_mut(&key.kind) else { continue };
            match pool.allocate() {
                Ok(address) => {
                    tracing::debug!(kind = key.kind.name(), mesh = &*key.mesh, name = &*key.name, %address, "new address");
                    if let Some(addressed) = with_address(&service, &address.to_string()) {
                        round.put(addressed);
                    }
                }
                Err(error) if !self.full.contains(&key.kind) => {
                    self.full.push(key.kind);
                    tracing::error!(kind = key.kind.name(), %error, "services get no virtual address any more");
                }
                Err(_) => {}
            }
        }
    }
}

/// The addresses that a service has.
fn addresses(service: &Resource) -> Vec<String> {
    let Some(status) = &service.status else { return Vec::new() };
    let vips: Vec<Vip> = match service.kind() {
        Kind::MeshService => status.json::<mesh_service::Status>().map(|status| status.vips.clone()),
        Kind::MeshMultiZoneService => {
            status.json::<mesh_multi_zone_service::Status>().map(|status| status.vips.clone())
        }
        _ => status.json::<mesh_external_service::Status>().map(|status| vec![status.vip.clone()]),
    }
    .unwrap_or_default();
    vips.into_iter().map(|vip| vip.ip).filter(|ip| !ip.is_empty()).collect()
}

fn with_address(service: &Resource, address: &str) -> Option<Resource> {
    let vip = Vip { ip: address.to_owned() };
    let known = service.status.clone().unwrap_or_else(|| Payload::from_bytes("{}"));
    let status = match service.kind() {
        Kind::MeshService => {
            let known = known.json::<mesh_service::Status>().ok()?;
            Payload::from_json(&mesh_service::Status { vips: vec![vip], ..mesh_service::Status::clone(&known) })
        }
        Kind::MeshMultiZoneService => {
            let known = known.json::<mesh_multi_zone_service::Status>().ok()?;
            let known = mesh_multi_zone_service::Status::clone(&known);
            Payload::from_json(&mesh_multi_zone_service::Status { vips: vec![vip], ..known })
        }
        _ => {
            let known = known.json::<mesh_external_service::Status>().ok()?;
            Payload::from_json(&mesh_external_service::Status { vip, ..mesh_external_service::Status::clone(&known) })
        }
    };
    Some(Resource { status: Some(status.ok()?), ..service.clone() })
}

#[cfg(test)]
mod tests;
