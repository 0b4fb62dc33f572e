//! What is counted of the zones' streams.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use model::Kind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::insights::StreamKind;
use crate::kds::ending::{Ending, Refusal};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStream {
    stream: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    stream: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Response {
    stream: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfType {
    by: &'static str,
    r#type: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Sent {
    r#type: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Question {
    operation: &'static str,
    result: &'static str,
}

type Count = Counter<u64, AtomicU64>;

/// Metrics of the global's side of KDS. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    open: Family<OfStream, Gauge<i64, AtomicI64>>,
    ended: Family<Ended, Count>,
    refused: Family<Refused, Count>,
    conflicts: Count,
    responses: Family<Response, Count>,
    rejections: Family<OfType, Count>,
    bytes: Family<Sent, Count>,
    delay: Histogram,
    written: Count,
    removed: Count,
    questions: Family<Question, Count>,
    strangers: Count,
}

/// Everything that can be counted is there from the start: what never happened is zero, not absent.
impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            open: Family::default(),
            ended: Family::default(),
            refused: Family::default(),
            conflicts: Count::default(),
            responses: Family::default(),
            rejections: Family::default(),
            bytes: Family::default(),
            delay: Histogram::new(exponential_buckets(0.000_25, 2.0, 16)),
            written: Count::default(),
            removed: Count::default(),
            questions: Family::default(),
            strangers: Count::default(),
        };
        for kind in StreamKind::ALL {
            let stream = kind.name();
            metrics.open.get_or_create(&OfStream { stream }).inc_by(0);
            for reason in Ending::NAMES {
                metrics.ended.get_or_create(&Ended { stream, reason }).inc_by(0);
            }
            match kind {
                StreamKind::GlobalToZone => {
                    for result in ["sent", "acknowledged", "rejected"] {
                        metrics.responses.get_or_create(&Response { stream, result }).inc_by(0);
                    }
                }
                StreamKind::ZoneToGlobal => {
                    for result in ["acknowledged", "rejected"] {
                        metrics.responses.get_or_create(&Response { stream, result }).inc_by(0);
                    }
                }
                StreamKind::ConfigDump | StreamKind::Stats | StreamKind::Clusters => {
                    for result in ["ok", "failed"] {
                        metrics.questions.get_or_create(&Question { operation: stream, result }).inc_by(0);
                    }
                }
            }
        }
        for reason in Refusal::NAMES {
            metrics.refused.get_or_create(&Refused { reason }).inc_by(0);
        }
        for kind in Kind::ALL {
            let (sync, r#type) = (kind.info().sync, kind.name());
            let refusers = [(sync.global_to_zone(), "zone"), (sync.zone_to_global(), "global")];
            if sync.global_to_zone() {
                metrics.bytes.get_or_create(&Sent { r#type: r#type.to_owned() }).inc_by(0);
            }
            for (_, by) in refusers.into_iter().filter(|(flows, _)| *flows) {
                metrics.rejections.get_or_create(&OfType { by, r#type: r#type.to_owned() }).inc_by(0);
            }
        }
        metrics
    }
}

impl Metrics {
    /// Adds them to a registry under `kds_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("kds");
        registry.register("streams_open", "Open streams of zones, by stream", self.open.clone());
        registry.register("streams_ended", "Streams of zones that ended, by stream and reason", self.ended.clone());
        registry.register("calls_refused", "Calls that were not let in, by reason", self.refused.clone());
        registry.register(
            "zone_name_conflicts",
            "Times that two control planes called themselves by one zone name",
            self.conflicts.clone(),
        );
        registry.register(
            "responses",
            "Responses on the streams of zones, by stream and result: on zone-to-global those that this global answered",
            self.responses.clone(),
        );
        registry.register(
            "rejections",
            "Responses that were rejected for some of their resources, by the end that rejected them and type",
            self.rejections.clone(),
        );
        registry.register_with_unit("sent", "Responses sent to zones, by type", Unit::Bytes, self.bytes.clone());
        registry.register_with_unit(
            "change_delay",
            "From a change that this global knows to the response that tells a zone of it",
            Unit::Seconds,
            self.delay.clone(),
        );
        registry.register("resources_stored", "Resources of zones created or updated here", self.written.clone());
        registry.register("resources_removed", "Resources that their zones removed here", self.removed.clone());
        registry.register(
            "proxy_questions",
            "Questions for the configuration, statistics or clusters of a zone's proxy, by operation and result",
            self.questions.clone(),
        );
        registry.register(
            "strangers",
            "Proxies and others that dialled the global instead of their zone",
            self.strangers.clone(),
        );
    }

    pub(crate) fn opened(&self, kind: StreamKind) {
        self.open.get_or_create(&OfStream { stream: kind.name() }).inc();
    }

    pub(crate) fn closed(&self, kind: StreamKind) {
        self.open.get_or_create(&OfStream { stream: kind.name() }).dec();
    }

    pub(crate) fn ended(&self, kind: StreamKind, ending: &Ending) {
        self.ended.get_or_create(&Ended { stream: kind.name(), reason: ending.name() }).inc();
    }

    pub(crate) fn refused(&self, refusal: &Refusal) {
        self.refused.get_or_create(&Refused { reason: refusal.name() }).inc();
    }

    pub(crate) fn name_conflict(&self) {
        self.conflicts.inc();
    }

    pub(crate) fn response(&self, kind: StreamKind, result: &'static str) {
        self.responses.get_or_create(&Response { stream: kind.name(), result }).inc();
    }

    /// `by` is `zone` or `global`. The type is one that this end knows.
    pub(crate) fn rejected(&self, by: &'static str, type_url: &str) {
        self.rejections.get_or_create(&OfType { by, r#type: type_url.to_owned() }).inc();
    }

    /// A response was sent, with its delay when it tells of a change.
    pub(crate) fn told(&self, type_url: &str, bytes: usize, delay: Option<Duration>) {
        if type_url.parse::<Kind>().is_ok() {
            self.bytes.get_or_create(&Sent { r#type: type_url.to_owned() }).inc_by(bytes as u64);
        }
        if let Some(delay) = delay {
            self.delay.observe(delay.as_secs_f64());
        }
    }

    pub(crate) fn stored(&self, written: usize, removed: usize) {
        self.written.inc_by(written as u64);
        self.removed.inc_by(removed as u64);
    }

    pub(crate) fn asked(&self, operation: &'static str, result: &'static str) {
        self.questions.get_or_create(&Question { operation, result }).inc();
    }

    pub(crate) fn stranger(&self) {
        self.strangers.inc();
    }
}
