//! Following a global over connections that a simulation makes.

use runtime::Life;
use store::{Lease, Store};
use tokio::sync::watch;

use crate::kds::{self, Federation};

/// Follows the global as [`run`](crate::run) does, while this instance leads.
pub fn follow(
    zone: &str,
    instance: &str,
    federation: Federation,
    store: &Store,
    leading: &watch::Receiver<Option<Lease>>,
    life: &Life,
) {
    let zone = kds::Zone {
        name: zone.to_owned(),
        instance: instance.to_owned(),
        federation,
        store: store.clone(),
        clock: life.clock().clone(),
        metrics: kds::Metrics::default(),
        proxies: None,
    };
    kds::start(zone, leading, life);
}
