//! What the store counts.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::stream::Stream;
use model::Snapshot;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    stream: &'static str,
}

type Gauges = Family<Of, Gauge<i64, std::sync::atomic::AtomicI64>>;

/// Metrics of one store. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    apply: Family<Outcome, Histogram, fn() -> Histogram>,
    written: Counter<u64, AtomicU64>,
    removed: Counter<u64, AtomicU64>,
    publish: Histogram,
    revision: Gauges,
    resources: Gauges,
    outages: Counter<u64, AtomicU64>,
}

/// 0.25 ms to 8 s.
fn latency() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 16))
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            apply: Family::new_with_constructor(latency),
            written: Counter::default(),
            removed: Counter::default(),
            publish: latency(),
            revision: Family::default(),
            resources: Family::default(),
            outages: Counter::default(),
        }
    }
}

impl Metrics {
    /// Adds them to a registry under `store_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("store");
        let seconds = Unit::Seconds;
        registry.register_with_unit(
            "apply_duration",
            "Time from asking for a batch until its snapshot was published, by result",
            seconds.clone(),
            self.apply.clone(),
        );
        registry.register_with_unit(
            "publish_duration",
            "Time from the end of a commit until its snapshot was published",
            seconds,
            self.publish.clone(),
        );
        registry.register("resources_written", "Resources created or updated", self.written.clone());
        registry.register("resources_removed", "Resources removed, those taken along included", self.removed.clone());
        registry.register("revision", "Revision of the published snapshot, by stream", self.revision.clone());
        registry.register("resources", "Resources in the published snapshot, by stream", self.resources.clone());
        registry.register("feed_outages", "Times that the database stopped telling of changes", self.outages.clone());
    }

    pub(crate) fn applied(&self, result: &'static str, took: Duration) {
        self.apply.get_or_create(&Outcome { result }).observe(took.as_secs_f64());
    }

    pub(crate) fn wrote(&self, written: usize, removed: usize) {
        self.written.inc_by(written as u64);
        self.removed.inc_by(removed as u64);
    }

    pub(crate) fn publish_took(&self, took: Duration) {
        self.publish.observe(took.as_secs_f64());
    }

    pub(crate) fn published(&self, stream: Stream, snapshot: &Snapshot) {
        let of = Of { stream: stream.name() };
        self.revision.get_or_create(&of).set(i64::try_from(snapshot.revision()).unwrap_or(i64::MAX));
        self.resources.get_or_create(&of).set(i64::try_from(snapshot.len()).unwrap_or(i64::MAX));
    }

    pub(crate) fn feed_failed(&self) {
        self.outages.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_their_units() {
        let (metrics, mut registry) = (Metrics::default(), Registry::default());
        metrics.register(&mut registry);
        metrics.applied("ok", Duration::from_millis(3));
        metrics.wrote(2, 0);
        metrics.published(Stream::Insights, &Snapshot::empty());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"store_apply_duration_seconds_count{result="ok"} 1"#,
            "store_resources_written_total 2",
            r#"store_revision{stream="insights"} 0"#,
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
