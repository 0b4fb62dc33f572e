//! What a zone counts of its proxies.

use std::sync::atomic::AtomicU64;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    status: u16,
}

type Counts<L> = Family<L, Counter<u64, AtomicU64>>;

/// Metrics of the server that proxies dial. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    bootstraps: Counts<Answered>,
}

impl Metrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("dp_server");
        registry.register(
            "bootstrap_requests",
            "Proxies that asked how to start, by status of the answer",
            self.bootstraps.clone(),
        );
    }

    pub fn bootstrapped(&self, status: StatusCode) {
        self.bootstraps.get_or_create(&Answered { status: status.as_u16() }).inc();
    }
}
