//! The zones that are connected to this instance: their streams, and their Zone objects (kds-wire 5.1, 5.5–5.7).
//!
//! A zone is created when it first calls, on whichever stream, before anything of it is processed (KDS-11). Each stream
//! is a [`Session`]: what it was admitted for, and the way to end it from outside.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use kds_proto::kuma::system::v1alpha1::Zone;
use model::{Key, Kind, Labels, Payload, Resource};
use runtime::Clock;
use store::{ApplyError, Batch, Store};
use tokio::sync::watch;

use crate::insights::StreamKind;
use crate::kds::ending::{Ending, Refusal};
use crate::kds::metrics::Metrics;

mod health;
mod proof;

pub(crate) use health::watch_health;
pub(crate) use proof::watch_proofs;

/// Streams of one kind that a zone may have at a time: some of a connection that is dead may be left.
const MOST_STREAMS: usize = 16;

/// How long two control planes may claim one name before somebody is told: a new leader of a zone comes before the old
/// one is gone.
const TAKEOVER: Duration = Duration::from_secs(15);

/// The streams of this instance. Cheap to clone; clones are one.
#[derive(Clone, Debug)]
pub struct Zones(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    clock: Clock,
    metrics: Metrics,
    next: AtomicU64,
    live: Mutex<BTreeMap<u64, Live>>,
}

/// One stream, as others see it.
#[derive(Debug)]
struct Live {
    facts: Facts,
    kind: StreamKind,
    connected: DateTime<Utc>,
    /// Instance of the zone's control plane, once it said so.
    instance: Option<String>,
    end: watch::Sender<Option<Ending>>,
}

/// What is known of a caller.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its zone.
    pub zone: Arc<str>,
    /// The other end of its connection.
    pub peer: Option<SocketAddr>,
    /// The credential that it showed, whether it was asked for one or not.
    pub shown: Option<Arc<str>>,
    /// Until when that is good, if it was asked for one.
    pub expires: Option<DateTime<Utc>>,
    /// Whether it says that it tells of its health.
    pub tells_health: bool,
}

/// A stream from its admission to its end. Dropping it says that it ended.
#[derive(Debug)]
pub struct Session {
    id: u64,
    zones: Zones,
    ending: watch::Receiver<Option<Ending>>,
    /// Its zone.
    pub zone: Arc<str>,
    /// When it came.
    pub connected: DateTime<Utc>,
    kind: StreamKind,
}

/// A stream as seen by who works on it.
#[derive(Clone, Debug)]
pub struct Handle {
    id: u64,
    zones: Zones,
    /// Its zone.
    pub zone: Arc<str>,
}

impl Zones {
    /// No streams yet.
    pub fn new(store: Store, clock: Clock, metrics: Metrics) -> Self {
        let (next, live) = (AtomicU64::new(0), Mutex::default());
        Self(Arc::new(Shared { store, clock, metrics, next, live }))
    }

    /// Takes a stream in; its Zone exists then.
    ///
    /// # Errors
    /// The zone has too many of this kind, or could not be created.
    pub async fn open(&self, facts: Facts, kind: StreamKind) -> Result<Session, Refusal> {
        self.ensure(&facts.zone).await?;
        let zone = Arc::clone(&facts.zone);
        let (end, ending) = watch::channel(None);
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let connected = self.0.clock.now();
        {
            let mut live = self.live();
            let of_kind = live.values().filter(|live| live.kind == kind && live.facts.zone == zone).count();
            if of_kind >= MOST_STREAMS {
                let text = format!("zone {zone:?} has {of_kind} streams {} open already", kind.name());
                return Err(Refusal::TooMany(text));
            }
            live.insert(id, Live { facts, kind, connected, instance: None, end });
        }
        self.0.metrics.opened(kind);
        tracing::info!(zone = &*zone, stream = kind.name(), "stream opened");
        Ok(Session { id, zones: self.clone(), ending, zone, connected, kind })
    }

    /// Creates the Zone unless there is one.
    ///
    /// # Errors
    /// The store fails, which is logged.
    async fn ensure(&self, zone: &str) -> Result<(), Refusal> {
        let key = Key::global(Kind::Zone, zone);
        if self.0.store.configuration().borrow().get(&key).is_some() {
            return Ok(());
        }
        let spec = Payload::from_message(&Zone { enabled: Some(true) });
        let created = self.0.store.apply(Batch::new().create(Resource::new(key, Labels::default(), spec))).await;
        match created {
            Ok(_) => tracing::info!(zone, "a zone connected for the first time and was created"),
            Err(ApplyError::AlreadyExists(_)) => {}
            Err(error) => {
                tracing::error!(zone, %error, "a zone connected and could not be created");
                return Err(Refusal::NotCreated);
            }
        }
        Ok(())
    }

    /// Ends the streams that a rule picks, and tells how many there were.
    fn end(&self, ending: &Ending, picks: impl Fn(u64, &Live) -> bool) -> usize {
        let live = self.live();
        let mut ended = 0;
        for (_, live) in live.iter().filter(|(id, live)| picks(**id, live)) {
            live.end.send_replace(Some(ending.clone()));
            ended += 1;
        }
        ended
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<u64, Live>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handle {
    /// Ends the stream.
    pub fn end(&self, ending: Ending) {
        self.zones.end(&ending, |id, _| id == self.id);
    }

    /// The zone's control plane says which of its instances it is. What the same instance left behind on an older
    /// connection is dead and ends now. Another instance may be taking over; if both stay, they share a name by mistake,
    /// and the operator is told.
    pub fn is_of(&self, instance: &str) {
        let mut rival = None;
        let mut live = self.zones.live();
        let Some(mine) = live.get_mut(&self.id) else { return };
        if mine.instance.as_deref() == Some(instance) {
            return;
        }
        mine.instance = Some(instance.to_owned());
        let (peer, kind) = (mine.facts.peer, mine.kind);
        let older: Vec<(Option<SocketAddr>, String)> = live
            .range(..self.id)
            .filter(|(_, other)| other.kind == kind && other.facts.zone == self.zone)
            .filter_map(|(_, other)| Some((other.facts.peer, other.instance.clone()?)))
            .collect();
        drop(live);
        for (other_peer, other) in older {
            if other != instance {
                rival = Some(other);
            } else if other_peer != peer {
                let left = self.zones.end(&Ending::Stale, |id, live| {
                    id < self.id && live.facts.zone == self.zone && live.facts.peer == other_peer
                });
                tracing::info!(zone = &*self.zone, streams = left, "a zone came back: its old connection is ended");
            }
        }
        if let Some(rival) = rival {
            self.zones.tell_of_rivals(Arc::clone(&self.zone), [rival, instance.to_owned()]);
        }
    }
}

impl Session {
    /// A handle for who works on the stream.
    pub fn handle(&self) -> Handle {
        Handle { id: self.id, zones: self.zones.clone(), zone: Arc::clone(&self.zone) }
    }

    /// Waits until somebody ends it from outside.
    pub async fn ended(&mut self) -> Ending {
        let ending = self.ending.wait_for(Option::is_some).await.ok().and_then(|ending| ending.clone());
        match ending {
            Some(ending) => ending,
            // The registry holds the sender as long as this session lives.
            None => std::future::pending().await,
        }
    }

    /// Ends the zone's older streams of this kind.
    pub fn replaces_older(&self) {
        let replaced = self.zones.end(&Ending::Stale, |id, live| {
            id < self.id && live.kind == self.kind && live.facts.zone == self.zone && live.facts.tells_health
        });
        if replaced > 0 {
            tracing::info!(zone = &*self.zone, stream = self.kind.name(), "an older stream is replaced");
        }
    }
}

impl Zones {
    /// Looks again after a while whether two instances still claim one zone.
    fn tell_of_rivals(&self, zone: Arc<str>, rivals: [String; 2]) {
        let zones = self.clone();
        tokio::spawn(async move {
            zones.0.clock.sleep(TAKEOVER).await;
            let here = |instance: &String| {
                let live = zones.live();
                live.values().any(|live| live.facts.zone == zone && live.instance.as_ref() == Some(instance))
            };
            if rivals.iter().all(here) {
                zones.0.metrics.name_conflict();
                tracing::warn!(
                    zone = &*zone,
                    instances = ?rivals,
                    "two control planes call themselves by the same zone name: each removes what the other one sends; \
                     give one of them another multizone.zone.name"
                );
            }
        });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.zones.live().remove(&self.id);
        self.zones.0.metrics.closed(self.kind);
    }
}
