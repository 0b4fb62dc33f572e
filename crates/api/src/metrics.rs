//! What the API counts, and its line in the log per request.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use runtime::Clock;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: String,
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    route: String,
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    limit: &'static str,
}

/// Metrics of one API. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<Answered, Counter<u64, AtomicU64>>,
    duration: Family<Asked, Histogram, fn() -> Histogram>,
    in_flight: Gauge<i64, AtomicI64>,
    refused: Family<Of, Counter<u64, AtomicU64>>,
    pub(crate) audit_written: Counter<u64, AtomicU64>,
    pub(crate) audit_lost: Counter<u64, AtomicU64>,
}

/// Limits that refuse requests; each is told of from the start, so that nobody waits for a first time.
const LIMITS: [&str; 4] = ["body-size", "body-time", "concurrent", "work-time"];

/// 0.25 ms to 8 s.
fn latency() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 16))
}

impl Default for Metrics {
    fn default() -> Self {
        let refused = Family::default();
        for limit in LIMITS {
            drop(refused.get_or_create(&Of { limit }));
        }
        Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(latency),
            in_flight: Gauge::default(),
            refused,
            audit_written: Counter::default(),
            audit_lost: Counter::default(),
        }
    }
}

impl Metrics {
    /// Adds them to a registry under `api_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("api");
        registry.register("requests", "Requests answered, by route, method and status", self.requests.clone());
        registry.register_with_unit(
            "request_duration",
            "Time from the head of a request until the head of its answer, by route and method",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register("requests_in_flight", "Requests that wait for their answer", self.in_flight.clone());
        registry.register("requests_refused", "Requests refused by a limit, by limit", self.refused.clone());
        registry.register("audit_entries", "Entries written to the audit log", self.audit_written.clone());
        registry.register("audit_entries_lost", "Entries that could not be written", self.audit_lost.clone());
    }

    /// Counts a request that a limit refused.
    pub(crate) fn refused(&self, limit: &'static str) {
        self.refused.get_or_create(&Of { limit }).inc();
    }

    /// Begins to measure a request; `route` is the template of the path.
    pub(crate) fn begin<'a>(&'a self, route: &'a str, method: &Method, clock: &'a Clock) -> Measured<'a> {
        self.in_flight.inc();
        Measured { metrics: self, route, method: known(method), clock, began: clock.elapsed() }
    }
}

/// A request that is being answered. Dropped when its caller hangs up first.
pub(crate) struct Measured<'a> {
    metrics: &'a Metrics,
    route: &'a str,
    method: &'static str,
    clock: &'a Clock,
    began: Duration,
}

impl Measured<'_> {
    /// Counts the answer, and logs it: failures as warnings, the rest for who wants to see it.
    pub fn answered(self, status: StatusCode) {
        let Self { metrics, route, method, .. } = self;
        let took = self.clock.elapsed().saturating_sub(self.began);
        let asked = Asked { route: route.to_owned(), method };
        metrics.duration.get_or_create(&asked).observe(took.as_secs_f64());
        let status_code = status.as_u16();
        metrics.requests.get_or_create(&Answered { route: asked.route, method, status: status_code }).inc();
        let took_ms = took.as_secs_f64() * 1e3;
        if status.is_server_error() {
            tracing::warn!(method, route, status = status_code, took_ms, "a request failed");
        } else {
            tracing::debug!(method, route, status = status_code, took_ms, "a request was answered");
        }
    }
}

impl Drop for Measured<'_> {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
    }
}

/// One of a fixed set: a client may make methods up, and each would be a time series for good.
fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "PUT" => "PUT",
        "POST" => "POST",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        "PATCH" => "PATCH",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_once_and_leaves_nothing_in_flight() {
        let (metrics, clock, mut registry) = (Metrics::default(), Clock::system(), Registry::default());
        metrics.register(&mut registry);
        metrics.begin("/meshes/{mesh}", &Method::GET, &clock).answered(StatusCode::OK);
        drop(metrics.begin("/meshes/{mesh}", &Method::from_bytes(b"BREW").unwrap(), &clock));
        metrics.refused("body-size");
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"api_requests_total{route="/meshes/{mesh}",method="GET",status="200"} 1"#,
            r#"api_request_duration_seconds_count{route="/meshes/{mesh}",method="GET"} 1"#,
            "api_requests_in_flight 0",
            r#"api_requests_refused_total{limit="body-size"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
