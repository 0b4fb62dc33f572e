//! What a zone counts of its conclusions.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use model::Kind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    kind: &'static str,
}

/// Metrics of what one zone concludes. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    step: Histogram,
    written: Family<Of, Counter<u64, AtomicU64>>,
    races: Counter<u64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        // 0.1 ms to 3.2 s.
        let step = Histogram::new(exponential_buckets(0.000_1, 2.0, 16));
        Self { step, written: Family::default(), races: Counter::default() }
    }
}

impl Metrics {
    /// Adds them to a registry under `derived_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("derived");
        registry.register_with_unit(
            "step_duration",
            "Time to conclude what follows from a change: services, addresses, names, what ingresses offer",
            Unit::Seconds,
            self.step.clone(),
        );
        registry.register("written", "Resources that the zone derived and wrote, by kind", self.written.clone());
        registry.register("lost_races", "Writes that came too late and were worked out anew", self.races.clone());
    }

    pub(super) fn concluded(&self, took: Duration) {
        self.step.observe(took.as_secs_f64());
    }

    pub fn wrote(&self, kind: Kind) {
        self.written.get_or_create(&Of { kind: kind.name() }).inc();
    }

    pub(super) fn lost_a_race(&self) {
        self.races.inc();
    }
}
