//! What the global writes down of its zones' connections: one ZoneInsight for each (kds-wire 5.2, 5.3, 5.8).
//!
//! Streams note what happens in memory; one task writes it, for all zones of this process. That a zone came or went is
//! written at once, counters once per `zoneInsightFlushInterval`. An insight has several writers (other instances, the
//! keeper of stale subscriptions), so each write starts from what is stored and is repeated when somebody was faster.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use kds_proto::kuma::system::v1alpha1::{KdsStream, KdsStreams, KdsSubscription, KumaCpVersion};
use model::insight::zone::{self, Count, Kept, Notes};
use prost_types::Timestamp;
use runtime::Clock;
use store::Store;
use tokio::sync::Notify;
use uuid::Uuid;

mod keeper;
mod stale;

pub(crate) use keeper::keep;
pub(crate) use stale::{Living, finish_stale};

/// How insights are kept.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Between two writes of counters.
    pub flush: Duration,
    /// What is kept of subscriptions that ended.
    pub kept: Kept,
    /// An open subscription that gave no sign of life for so long has ended.
    pub idle: Duration,
}

/// A zone's stream to this global.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamKind {
    /// What the zone is to hold.
    GlobalToZone,
    /// What the zone has.
    ZoneToGlobal,
    /// Questions for the configuration of proxies.
    ConfigDump,
    /// Questions for their statistics.
    Stats,
    /// Questions for their clusters.
    Clusters,
}

impl StreamKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::GlobalToZone, Self::ZoneToGlobal, Self::ConfigDump, Self::Stats, Self::Clusters];

    /// Value of the label `stream` of metrics and of the field of logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GlobalToZone => "global-to-zone",
            Self::ZoneToGlobal => "zone-to-global",
            Self::ConfigDump => "config-dump",
            Self::Stats => "stats",
            Self::Clusters => "clusters",
        }
    }

    /// The stream of this kind among those of an insight.
    pub fn of(self, streams: &mut KdsStreams) -> &mut Option<KdsStream> {
        match self {
            Self::GlobalToZone => &mut streams.global_to_zone,
            Self::ZoneToGlobal => &mut streams.zone_to_global,
            Self::ConfigDump => &mut streams.config_dump,
            Self::Stats => &mut streams.stats,
            Self::Clusters => &mut streams.clusters,
        }
    }
}

/// Everything noted and not yet written. Cheap to clone; clones are one.
#[derive(Clone, Debug)]
pub struct Insights(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    instance: String,
    clock: Clock,
    settings: Settings,
    zones: Mutex<BTreeMap<Arc<str>, Noted>>,
    urgent: Notify,
}

/// Of one zone.
#[derive(Debug, Default)]
struct Noted {
    subscriptions: Vec<Live>,
    streams: KdsStreams,
    health_check: Option<Timestamp>,
    /// Something waits that shall show at once.
    urgent: bool,
}

/// A subscription of a stream of this process.
#[derive(Debug)]
struct Live {
    subscription: KdsSubscription,
    /// Raised with each change.
    change: u64,
    /// The change that was written last.
    written: u64,
    /// When its generation grows next, on the clock's measure.
    sign_of_life: Duration,
    /// Whether its peer has asked for anything: before that nothing is written.
    begun: bool,
}

impl Insights {
    /// Nothing noted yet, for this instance of the global.
    pub fn new(settings: Settings, instance: &str, clock: Clock) -> Self {
        let zones = Mutex::default();
        Self(Arc::new(Shared { instance: instance.to_owned(), clock, settings, zones, urgent: Notify::new() }))
    }

    /// A stream came.
    pub fn connected(&self, zone: &Arc<str>, kind: StreamKind, connected: DateTime<Utc>) {
        let stream =
            KdsStream { global_instance_id: self.0.instance.clone(), connect_time: Some(timestamp(connected)) };
        self.note(zone, true, |noted| *kind.of(&mut noted.streams) = Some(stream));
    }

    /// A `GlobalToZoneSync` stream came; it is on record from its first request until the value is dropped.
    pub fn subscription(&self, zone: &Arc<str>, connected: DateTime<Utc>, token: bool) -> Subscription {
        let id = Uuid::new_v4().to_string();
        let begins = zone::subscription(id.clone(), &self.0.instance, timestamp(connected));
        let live = Live {
            subscription: KdsSubscription { auth_token_provided: token, ..begins },
            change: 1,
            written: 0,
            sign_of_life: self.0.clock.elapsed() + self.0.settings.idle / 2,
            begun: false,
        };
        self.note(zone, false, |noted| noted.subscriptions.push(live));
        Subscription { insights: self.clone(), zone: Arc::clone(zone), id }
    }

    /// The zone's control plane says that it is well.
    pub fn health_check(&self, zone: &Arc<str>) {
        let now = self.now();
        self.note(zone, true, |noted| noted.health_check = Some(now));
    }

    /// Writes everything that is noted.
    pub async fn flush(&self, store: &Store) {
        keeper::flush(self, store, true).await;
    }

    fn note(&self, zone: &Arc<str>, urgent: bool, change: impl FnOnce(&mut Noted)) {
        let mut zones = self.zones();
        let noted = zones.entry(Arc::clone(zone)).or_default();
        change(noted);
        noted.urgent |= urgent;
        drop(zones);
        if urgent {
            self.0.urgent.notify_one();
        }
    }

    fn zones(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Noted>> {
        self.0.zones.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        timestamp(self.0.clock.now())
    }
}

/// What is on record of one `GlobalToZoneSync` stream. Dropping it says that the stream ended.
#[derive(Debug)]
pub struct Subscription {
    insights: Insights,
    zone: Arc<str>,
    id: String,
}

impl Subscription {
    /// What the peer says of itself, in a request: the first one counts (kds-wire 2.3).
    pub fn described(&self, instance: &str, version: KumaCpVersion, config: &str) {
        self.change(true, |live| {
            let subscription = &mut live.subscription;
            live.begun = true;
            if !instance.is_empty() {
                subscription.zone_instance_id = instance.to_owned();
            }
            if subscription.version.is_none() {
                subscription.version = Some(zone::version(version, api::VERSION));
            }
            if subscription.config.is_empty() {
                subscription.config = config.to_owned();
            }
        });
    }

    /// A response was sent, taken or refused.
    pub fn count(&self, type_url: &str, what: Count) {
        let now = self.insights.now();
        self.change(false, |live| zone::count(&mut live.subscription, type_url, what, now));
    }

    fn change(&self, urgent: bool, change: impl FnOnce(&mut Live)) {
        self.insights.note(&self.zone, urgent, |noted| {
            if let Some(live) = noted.subscriptions.iter_mut().find(|live| live.subscription.id == self.id) {
                change(live);
                live.change += 1;
            }
        });
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let now = self.insights.now();
        self.change(true, |live| {
            live.begun = true;
            live.subscription.disconnect_time = Some(now);
        });
    }
}

impl Noted {
    /// What there is to write; on a `beat` counters and signs of life too.
    fn take(&mut self, beat: Option<(Duration, Duration)>) -> Option<Pending> {
        if !self.urgent && beat.is_none() {
            return None;
        }
        self.urgent = false;
        if let Some((elapsed, pause)) = beat {
            for live in self.subscriptions.iter_mut().filter(|live| live.sign_of_life <= elapsed) {
                live.sign_of_life = elapsed + pause;
                live.subscription.generation += 1;
                live.change += 1;
            }
        }
        let changed = || self.subscriptions.iter().filter(|live| live.begun && live.change > live.written);
        let pending = Pending {
            written: changed().map(|live| (live.subscription.id.clone(), live.change)).collect(),
            notes: Notes {
                subscriptions: changed().map(|live| live.subscription.clone()).collect(),
                streams: std::mem::take(&mut self.streams),
                health_check: self.health_check.take(),
            },
        };
        (pending.notes != Notes::default()).then_some(pending)
    }

    /// Notes that it is written; what ended is forgotten then.
    fn written(&mut self, pending: &Pending) {
        for (id, change) in &pending.written {
            if let Some(live) = self.subscriptions.iter_mut().find(|live| live.subscription.id == *id) {
                live.written = live.written.max(*change);
            }
        }
        self.subscriptions.retain(|live| live.written < live.change || live.subscription.disconnect_time.is_none());
    }

    /// Puts back what could not be written, under what was noted since.
    fn put_back(&mut self, pending: Pending) {
        let newer = std::mem::take(&mut self.streams);
        let older = pending.notes.streams;
        self.streams = KdsStreams {
            clusters: newer.clusters.or(older.clusters),
            config_dump: newer.config_dump.or(older.config_dump),
            stats: newer.stats.or(older.stats),
            global_to_zone: newer.global_to_zone.or(older.global_to_zone),
            zone_to_global: newer.zone_to_global.or(older.zone_to_global),
        };
        self.health_check = self.health_check.or(pending.notes.health_check);
    }

    fn is_empty(&self) -> bool {
        self.subscriptions.is_empty() && self.streams == KdsStreams::default() && self.health_check.is_none()
    }
}

/// What is about to be written of a zone.
#[derive(Debug)]
struct Pending {
    /// Subscriptions, by id, and how far they are written with it.
    written: Vec<(String, u64)>,
    notes: Notes,
}

pub(crate) fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap_or_default() }
}
