//! What is counted of certificates.

use std::sync::atomic::{AtomicI64, AtomicU64};

use chrono::{DateTime, Utc};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use runtime::Clock;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfMesh {
    mesh: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfBackend {
    mesh: String,
    backend: String,
}

type Counts = Family<OfMesh, Counter<u64, AtomicU64>>;

/// Metrics of certificates. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    issued: Counts,
    failed: Counts,
    duration: Histogram,
    held: Gauge<i64, AtomicI64>,
    authorities: Family<OfBackend, Gauge<i64, AtomicI64>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            issued: Family::default(),
            failed: Family::default(),
            duration: Histogram::new(exponential_buckets(0.000_1, 2.0, 14)),
            held: Gauge::default(),
            authorities: Family::default(),
        }
    }
}

impl Metrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("certificates");
        let issued = "Certificates issued to proxies, by mesh; without a mesh for their admin interfaces";
        registry.register("issued", issued, self.issued.clone());
        registry.register("failed", "Certificates that could not be issued, by mesh", self.failed.clone());
        registry.register_with_unit(
            "issue_duration",
            "Time to issue one, its key included",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register("held", "Certificates of the proxies that this instance serves", self.held.clone());
        registry.register_with_unit(
            "authority_expiry_timestamp",
            "When the certificate of a mesh's authority expires, by mesh and backend",
            Unit::Seconds,
            self.authorities.clone(),
        );
    }

    /// Issues, and counts and times it.
    pub(crate) fn timed<T, E>(&self, mesh: &str, clock: &Clock, issue: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let start = clock.elapsed();
        let issued = issue()?;
        self.duration.observe(clock.elapsed().saturating_sub(start).as_secs_f64());
        self.issued.get_or_create(&OfMesh { mesh: mesh.to_owned() }).inc();
        Ok(issued)
    }

    pub(crate) fn failed(&self, mesh: &str) {
        self.failed.get_or_create(&OfMesh { mesh: mesh.to_owned() }).inc();
    }

    pub(crate) fn held(&self, count: usize) {
        self.held.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn authority(&self, mesh: &str, backend: &str, expires: DateTime<Utc>) {
        let labels = OfBackend { mesh: mesh.to_owned(), backend: backend.to_owned() };
        self.authorities.get_or_create(&labels).set(expires.timestamp());
    }
}
