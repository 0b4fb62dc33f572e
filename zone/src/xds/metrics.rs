//! What a zone counts of its proxies.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::refusal::Refusal;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Stream {
    protocol: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    protocol: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Response {
    r#type: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Made {
    result: &'static str,
}

type Counts<L> = Family<L, Counter<u64, AtomicU64>>;

/// Metrics of the server that proxies dial. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    bootstraps: Counts<Answered>,
    open: Family<Stream, Gauge<i64, AtomicI64>>,
    ended: Counts<Ended>,
    responses: Counts<Response>,
    made: Counts<Made>,
    making: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            bootstraps: Family::default(),
            open: Family::default(),
            ended: Family::default(),
            responses: Family::default(),
            made: Family::default(),
            // From 0.1 ms to 1.6 s.
            making: Histogram::new(exponential_buckets(0.0001, 4.0, 8)),
        }
    }
}

impl Metrics {
    /// Adds them to a registry. What has labels is told of from the start, so that nobody waits for a first time.
    pub fn register(&self, registry: &mut Registry) {
        drop(self.bootstraps.get_or_create(&Answered { status: StatusCode::OK.as_u16() }));
        for protocol in ["sotw", "delta"] {
            drop(self.open.get_or_create(&Stream { protocol }));
            for reason in Refusal::NAMES {
                drop(self.ended.get_or_create(&Ended { protocol, reason }));
            }
        }
        for r#type in ["secret", "cluster", "endpoint", "listener", "route"] {
            for result in ["sent", "acknowledged", "refused"] {
                drop(self.responses.get_or_create(&Response { r#type, result }));
            }
        }
        for result in ["ok", "failed"] {
            drop(self.made.get_or_create(&Made { result }));
        }
        let registry = registry.sub_registry_with_prefix("dp_server");
        registry.register(
            "bootstrap_requests",
            "Proxies that asked how to start, by status of the answer",
            self.bootstraps.clone(),
        );
        registry.register("streams", "Open streams of proxies, by protocol", self.open.clone());
        registry.register(
            "ended_streams",
            "Streams of proxies that were not taken or ended, by protocol and reason",
            self.ended.clone(),
        );
        registry.register(
            "responses",
            "Responses to proxies and what became of them, by type of resource",
            self.responses.clone(),
        );
        registry.register("configurations", "Configurations of proxies that were made, by result", self.made.clone());
        registry.register_with_unit(
            "configuration_duration",
            "Time it takes to make the configuration of one proxy",
            Unit::Seconds,
            self.making.clone(),
        );
    }

    pub fn bootstrapped(&self, status: StatusCode) {
        self.bootstraps.get_or_create(&Answered { status: status.as_u16() }).inc();
    }

    pub fn opened(&self, protocol: &'static str) {
        self.open.get_or_create(&Stream { protocol }).inc();
    }

    pub fn closed(&self, protocol: &'static str) {
        self.open.get_or_create(&Stream { protocol }).dec();
    }

    pub fn ended(&self, protocol: &'static str, refusal: &Refusal) {
        self.ended.get_or_create(&Ended { protocol, reason: refusal.name() }).inc();
    }

    pub fn response(&self, r#type: &'static str, result: &'static str) {
        self.responses.get_or_create(&Response { r#type, result }).inc();
    }

    pub fn made(&self, took: Duration, well: bool) {
        self.made.get_or_create(&Made { result: if well { "ok" } else { "failed" } }).inc();
        self.making.observe(took.as_secs_f64());
    }
}
