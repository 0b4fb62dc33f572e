//! Which proxies a change may concern: those of a mesh, those of the zone, or all. A signal carries no data: who hears one
//! looks at the newest snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use identity::first_start::Internal;
use kds_proto::kuma::mesh::v1alpha1::ZoneIngress;
use model::kind::Scope;
use model::{Key, Kind, Snapshot};
use store::Store;
use tokio::sync::watch;

/// Where proxies listen for what concerns them. Cheap to clone; clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Touched(Arc<Mutex<BTreeMap<Arc<str>, watch::Sender<()>>>>);

/// Whom a change may concern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Reach {
    everybody: bool,
    meshes: BTreeSet<Arc<str>>,
    /// Ingresses and egresses.
    zone: bool,
}

impl Touched {
    /// What concerns the proxies of a mesh, or, without a mesh, those of the zone.
    pub fn of(&self, mesh: &Arc<str>) -> watch::Receiver<()> {
        self.channels().entry(Arc::clone(mesh)).or_default().subscribe()
    }

    /// Listens to the store until it closes.
    pub async fn follow(&self, store: &Store) {
        let mut snapshots = store.configuration();
        let mut before = snapshots.borrow_and_update().clone();
        while snapshots.changed().await.is_ok() {
            let now = snapshots.borrow_and_update().clone();
            self.tell(&reach(&before, &now));
            before = now;
        }
    }

    fn tell(&self, reach: &Reach) {
        self.channels().retain(|mesh, channel| {
            if reach.everybody || reach.meshes.contains(mesh) || (reach.zone && mesh.is_empty()) {
                channel.send_replace(());
            }
            channel.receiver_count() > 0
        });
    }

    fn channels(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn reach(before: &Snapshot, now: &Snapshot) -> Reach {
    let mut reach = Reach::default();
    for key in now.diff(before) {
        match key.kind {
            Kind::Mesh => {
                reach.meshes.insert(Arc::clone(&key.name));
                reach.zone = true;
            }
            Kind::ZoneIngress => {
                let sides = [before, now].into_iter().flat_map(|side| offered(side, &key));
                reach.meshes.extend(sides);
                reach.zone = true;
            }
            Kind::ZoneEgress | Kind::Zone => reach.everybody = true,
            Kind::GlobalSecret => reach.everybody |= key == Internal::ProxyAdmin.key(),
            kind if kind.info().scope == Scope::Mesh => {
                reach.meshes.insert(Arc::clone(&key.mesh));
                reach.zone = true;
            }
            _ => {}
        }
    }
    reach
}

/// Meshes of which an ingress offers something.
fn offered(side: &Snapshot, key: &Key) -> BTreeSet<Arc<str>> {
    let ingress = side.get(key).and_then(|resource| resource.spec.message::<ZoneIngress>().ok());
    let services = ingress.iter().flat_map(|ingress| &ingress.available_services);
    services.map(|service| service.mesh.as_str().into()).collect()
}

#[cfg(test)]
mod tests {
    use kds_proto::kuma::mesh::v1alpha1::zone_ingress::AvailableService;
    use model::{Change, Labels, Payload, Resource};

    use super::*;

    fn reached(resource: Resource) -> (bool, Vec<String>, bool) {
        let before = Snapshot::empty();
        let now = before.apply(1, [Change::Put(Arc::new(resource))]);
        let Reach { everybody, meshes, zone } = reach(&before, &now);
        (everybody, meshes.iter().map(ToString::to_string).collect(), zone)
    }

    fn empty(kind: Kind, mesh: &str, name: &str) -> Resource {
        Resource::new(Key::new(kind, mesh, name), Labels::default(), Payload::default())
    }

    #[test]
    fn a_change_concerns_those_whom_it_may_concern() {
        let of = |mesh: &str| (false, vec![mesh.to_owned()], true);
        assert_eq!(reached(empty(Kind::MeshTimeout, "default", "a")), of("default"));
        assert_eq!(reached(empty(Kind::Mesh, "", "other")), of("other"));
        assert_eq!(reached(empty(Kind::Zone, "", "east")), (true, vec![], false));
        assert_eq!(reached(empty(Kind::GlobalSecret, "", "zone-token-signing-key-1")), (false, vec![], false));
        assert_eq!(reached(empty(Kind::GlobalSecret, "", "envoy-admin-ca")), (true, vec![], false));
        assert_eq!(reached(empty(Kind::HostnameGenerator, "", "a")), (false, vec![], false));
        let services = vec![AvailableService { mesh: "shop".to_owned(), ..AvailableService::default() }];
        let ingress = ZoneIngress { available_services: services, ..ZoneIngress::default() };
        let spec = Payload::from_message(&ingress);
        assert_eq!(reached(Resource { spec, ..empty(Kind::ZoneIngress, "", "in") }), of("shop"));
    }

    #[test]
    fn a_mesh_nobody_listens_to_is_forgotten() {
        let touched = Touched::default();
        let mut listening = touched.of(&"default".into());
        drop(touched.of(&"gone".into()));
        listening.borrow_and_update();
        touched.tell(&Reach { meshes: ["default".into()].into(), ..Reach::default() });
        assert!(listening.has_changed().unwrap());
        assert_eq!(touched.channels().len(), 1);
        listening.borrow_and_update();
        touched.tell(&Reach { meshes: ["other".into()].into(), zone: true, ..Reach::default() });
        assert!(!listening.has_changed().unwrap());
    }
}
