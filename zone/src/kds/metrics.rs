//! What a zone counts of its connection to the global.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use runtime::Clock;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Which {
    kind: String,
    result: &'static str,
}

type Counts<L> = Family<L, Counter<u64, AtomicU64>>;

/// Metrics of one zone's connection. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    connected: Gauge<i64, AtomicI64>,
    connections: Counter<u64, AtomicU64>,
    failures: Counts<Why>,
    last_update: Gauge<i64, AtomicI64>,
    updates: Counts<Which>,
    refused: Counts<Kind>,
    sent: Counts<Which>,
    bytes: Counts<Kind>,
    delay: Delay,
}

/// How long changes waited.
#[derive(Clone, Debug)]
struct Delay(Histogram);

impl Default for Delay {
    fn default() -> Self {
        Self(Histogram::new(exponential_buckets(0.000_25, 2.0, 16)))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: String,
}

/// Why a connection ended or was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The global cannot be reached, or is not who it should be.
    Unreachable,
    /// It refuses this zone's token.
    Unauthenticated,
    /// It is another global than the one that this zone has joined.
    OtherGlobal,
    /// A connection that stood went away.
    Lost,
    /// The zone's own store failed.
    Store,
}

impl Reason {
    const ALL: [Self; 5] = [Self::Unreachable, Self::Unauthenticated, Self::OtherGlobal, Self::Lost, Self::Store];

    fn word(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Unauthenticated => "unauthenticated",
            Self::OtherGlobal => "other-global",
            Self::Lost => "lost",
            Self::Store => "store",
        }
    }
}

impl Metrics {
    /// Adds them to a registry. Each reason is told of from the start, so that nobody waits for a first time.
    pub fn register(&self, registry: &mut Registry) {
        for reason in Reason::ALL {
            drop(self.failures.get_or_create(&Why { reason: reason.word() }));
        }
        let registry = registry.sub_registry_with_prefix("kds_zone");
        registry.register(
            "connected",
            "1 while the global's updates arrive over a connection of this instance, else 0",
            self.connected.clone(),
        );
        registry.register("connections", "Connections to the global that stood", self.connections.clone());
        registry.register(
            "connection_failures",
            "Connections to the global that could not be made or ended, by reason",
            self.failures.clone(),
        );
        registry.register_with_unit(
            "last_update_timestamp",
            "When the last update of the global was taken over, since 1970",
            Unit::Seconds,
            self.last_update.clone(),
        );
        registry.register("updates", "Updates of the global, by kind and result", self.updates.clone());
        registry.register(
            "refused_resources",
            "Resources of the global that were refused, by kind",
            self.refused.clone(),
        );
        registry.register("sent", "Responses told to the global and its answers, by kind", self.sent.clone());
        registry.register_with_unit("sent", "Responses told to the global, by kind", Unit::Bytes, self.bytes.clone());
        registry.register_with_unit(
            "change_delay",
            "From a change of this zone to the response that tells the global of it",
            Unit::Seconds,
            self.delay.0.clone(),
        );
    }

    pub fn connected(&self) {
        self.connected.set(1);
        self.connections.inc();
    }

    pub fn disconnected(&self) {
        self.connected.set(0);
    }

    pub fn failed(&self, reason: Reason) {
        self.failures.get_or_create(&Why { reason: reason.word() }).inc();
    }

    /// An update was answered; `refused` resources of it were not taken over.
    pub fn updated(&self, kind: &str, refused: usize, clock: &Clock) {
        let result = if refused == 0 { "accepted" } else { "refused" };
        self.updates.get_or_create(&Which { kind: kind.to_owned(), result }).inc();
        if refused > 0 {
            self.refused.get_or_create(&Kind { kind: kind.to_owned() }).inc_by(refused as u64);
        }
        self.last_update.set(clock.now().timestamp());
    }

    /// A response to the global was sent, with its delay when it tells of a change.
    pub fn weighed(&self, kind: &str, bytes: usize, delay: Option<Duration>) {
        self.bytes.get_or_create(&Kind { kind: kind.to_owned() }).inc_by(bytes as u64);
        if let Some(delay) = delay {
            self.delay.0.observe(delay.as_secs_f64());
        }
    }

    /// A response to the global was `sent`, `accepted` or `refused`.
    pub fn told(&self, kind: &str, result: &'static str) {
        self.sent.get_or_create(&Which { kind: kind.to_owned(), result }).inc();
    }
}
