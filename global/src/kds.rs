//! The side of KDS that zones dial: a gRPC server on port 5685 (kds-wire 1 to 5).
//!
//! [`Settings`](settings::Settings) says how, [`admission`] who, [`server`] takes connections and unknown calls, `sync`
//! and `service` are the two services. Each stream is a [`Session`](crate::zones::Session): [`Door::run`] works on it
//! until one of the two ends has enough, and says why.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use discovery::kds::down::{Shared, matters};
use discovery::kds::node::TELLS_HEALTH;
use discovery::kds::{Moment, follow};
use futures::FutureExt;
use futures::future::BoxFuture;
use model::Kind;
use runtime::drain::{Drain, Guard};
use runtime::tasks::{Backoff, OnFailure, Task};
use runtime::{Clock, Fatal, Life};
use store::{Lease, Store};
use tokio::sync::{oneshot, watch};
use tonic::Status;

use crate::insights::{self, Insights, StreamKind};
use crate::proxy_admin::{Lines, ThroughZones};
use crate::zones::{self, Facts, Session, Zones};

pub mod admission;
mod caller;
pub mod ending;
pub mod metrics;
mod refusals;
mod server;
mod service;
pub mod settings;
mod sink;
mod sync;

use admission::Admission;
use caller::Caller;
use ending::{Ending, Refusal};
use metrics::Metrics;
use refusals::Refusals;
use settings::Settings;

/// What both services work with. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub store: Store,
    pub clock: Clock,
    pub zones: Zones,
    pub insights: Insights,
    pub lines: Lines,
    pub metrics: Metrics,
    /// The rules in force.
    pub admission: watch::Receiver<Arc<Admission>>,
    pub refusals: Arc<Refusals>,
    pub drain: Drain,
    /// What all zones share of what they are told.
    pub down: Arc<Shared>,
    /// What there is to tell, from one moment to the next.
    pub moments: watch::Receiver<Moment>,
    /// Says when streams shall end.
    pub closing: Guard,
    pub settings: Arc<Streams>,
}

/// How streams are worked on.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    /// Whether an older stream of a zone gives way to a newer one of its kind.
    pub replace_older: bool,
    /// How often zones shall tell that they are well.
    pub health_interval: std::time::Duration,
    /// Instance of this global.
    pub instance: String,
    /// Kinds that are switched off.
    pub off: BTreeSet<Kind>,
}

/// The global's side of KDS, before and while it serves.
#[derive(Debug)]
pub(crate) struct Kds {
    settings: Settings,
    door: Door,
    told: Arc<watch::Sender<Moment>>,
    rules: Arc<watch::Sender<Arc<Admission>>>,
}

impl Kds {
    /// Ready to [`start`](Kds::start).
    pub fn new(settings: Settings, store: &Store, life: &Life) -> Self {
        let (clock, metrics) = (life.clock().clone(), Metrics::default());
        settings.admission.warn();
        let streams = Streams {
            replace_older: settings.health.is_some_and(|health| health.close_stale),
            health_interval: settings.health_interval,
            instance: settings.instance.clone(),
            off: settings.off.clone(),
        };
        let (rules, admission) = watch::channel(Arc::new(settings.admission.clone()));
        let (told, moments) = watch::channel(Moment::latest(&store.configuration(), &store.insights()));
        let door = Door {
            down: Shared::new(settings.skip_prefixes.clone(), settings.off.clone()),
            moments,
            zones: Zones::new(store.clone(), clock.clone(), metrics.clone()),
            insights: Insights::new(settings.insights, &settings.instance, clock.clone()),
            lines: Lines::new(&clock),
            metrics,
            admission,
            refusals: Arc::default(),
            drain: life.drain().clone(),
            closing: life.drain().listener(),
            settings: Arc::new(streams),
            store: store.clone(),
            clock,
        };
        Self { settings, door, told: Arc::new(told), rules: Arc::new(rules) }
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.door.metrics
    }

    /// The way to the proxies of the zones that are connected to this instance.
    pub fn proxies(&self) -> ThroughZones {
        let Door { store, lines, metrics, settings, .. } = self.door.clone();
        ThroughZones { store, lines, metrics, instance: settings.instance.clone(), peers: None }
    }

    /// Starts what keeps insights, credentials and connections true.
    pub fn look_after(
        &self,
        leading: &watch::Receiver<Option<Lease>>,
        living: insights::Living,
        backoff: Backoff,
        life: &Life,
    ) {
        let spawn = |name, work: Work| {
            let task = Task { name, owner: "kds", on_failure: OnFailure::Restart(backoff) };
            life.tasks().spawn(task, work);
        };
        let Door { store, zones, insights, admission, clock, .. } = &self.door;
        let (of, told, timed) = (store.clone(), Arc::clone(&self.told), clock.clone());
        spawn(
            "moments",
            Box::new(move || {
                let (configuration, insights) = (of.configuration(), of.insights());
                let (told, clock) = (Arc::clone(&told), timed.clone());
                done(async move { follow(configuration, insights, &told, matters, || clock.elapsed()).await })
            }),
        );
        let (kept, of) = (store.clone(), insights.clone());
        spawn("zone-insights", Box::new(move || done(insights::keep(of.clone(), kept.clone()))));
        let (of, rules) = (zones.clone(), admission.clone());
        spawn("zone-credentials", Box::new(move || done(zones::watch_proofs(of.clone(), rules.clone()))));
        if let Some(reread) = self.settings.reread.clone() {
            let (rules, reload) = (Arc::clone(&self.rules), life.reload().clone());
            let follow = move || {
                let (reread, rules, reload) = (reread.clone(), Arc::clone(&rules), reload.clone());
                done(async move { reread.follow(&rules, &reload).await })
            };
            spawn("zone-rules", Box::new(follow));
        }
        if let Some(health) = self.settings.health {
            let of = zones.clone();
            spawn("zone-health", Box::new(move || done(zones::watch_health(of.clone(), health))));
        }
        let (kept, leading, clock, settings) = (store.clone(), leading.clone(), clock.clone(), self.settings.insights);
        spawn(
            "stale-subscriptions",
            Box::new(move || {
                let (kept, leading, living) = (kept.clone(), leading.clone(), living.clone());
                let finishing = insights::finish_stale(kept, leading, clock.clone(), settings, living);
                async { Ok(finishing.await?) }.boxed()
            }),
        );
    }

    /// What is served to zones, and its bounds.
    #[cfg(feature = "test-support")]
    pub fn routes(&self) -> (axum::Router, runtime::serve::Limits) {
        (server::router(&self.door, self.settings.max_message), server::limits())
    }

    /// Starts serving in the background until the life drains; returns the real address, and the insights, of which the
    /// last are to be written when everything has ended.
    ///
    /// # Errors
    /// The port is taken, or the certificate cannot be used.
    pub async fn start(self, life: &Life) -> Result<(SocketAddr, Insights), Fatal> {
        let insights = self.door.insights.clone();
        let Settings { address, tls, max_message, .. } = self.settings;
        Ok((server::start(address, tls, max_message, self.door, life).await?, insights))
    }
}

type Work = Box<dyn FnMut() -> BoxFuture<'static, anyhow::Result<()>> + Send>;

/// Work that ends with the program and does not fail.
fn done(work: impl Future<Output = ()> + Send + 'static) -> BoxFuture<'static, anyhow::Result<()>> {
    work.map(Ok).boxed()
}

impl Door {
    /// Who calls, if it may.
    ///
    /// # Errors
    /// Why it may not; logged and counted here.
    pub fn admit<T>(&self, request: &tonic::Request<T>, kind: Option<StreamKind>) -> Result<(Caller, Facts), Status> {
        let admitted = self.check(request);
        admitted.map_err(|(caller, refusal)| self.refuse(caller.as_ref(), &refusal, kind))
    }

    fn check<T>(&self, request: &tonic::Request<T>) -> Result<(Caller, Facts), (Option<Caller>, Refusal)> {
        let caller = Caller::of(request).map_err(|refusal| (None, refusal))?;
        if self.closing.is_closing() {
            return Err((Some(caller), Refusal::Stopping));
        }
        let snapshot = self.store.configuration().borrow().clone();
        let (shown, rules) = (caller.credential.as_deref(), Arc::clone(&self.admission.borrow()));
        match rules.check(&caller.zone, shown, &snapshot, self.clock.now()) {
            Ok(proof) => {
                self.refusals.forget(&caller.zone);
                let facts = Facts {
                    zone: Arc::clone(&caller.zone),
                    peer: caller.peer,
                    shown: caller.credential.clone(),
                    expires: proof.expires(),
                    tells_health: caller.has(TELLS_HEALTH),
                };
                Ok((caller, facts))
            }
            Err(why) => Err((Some(caller), Refusal::Unauthenticated(why))),
        }
    }

    fn refuse(&self, caller: Option<&Caller>, refusal: &Refusal, kind: Option<StreamKind>) -> Status {
        self.metrics.refused(refusal);
        self.refusals.tell(caller, refusal);
        refusal.status(kind)
    }

    /// A stream of a zone that may have one.
    ///
    /// # Errors
    /// Why it may not; logged and counted here.
    pub async fn open<T>(&self, request: &tonic::Request<T>, kind: StreamKind) -> Result<(Caller, Session), Status> {
        let (rules, secrets) = (Arc::clone(&self.admission.borrow()), self.store.configuration().borrow().clone());
        let (caller, facts) = self.admit(request, Some(kind))?;
        let opened = self.zones.open(facts, kind).await;
        let session = opened.map_err(|refusal| self.refuse(Some(&caller), &refusal, Some(kind)))?;
        // What changed before the stream was among the others was not held against it.
        if !Arc::ptr_eq(&rules, &self.admission.borrow())
            || !Arc::ptr_eq(&secrets, &self.store.configuration().borrow())
        {
            self.admit(request, Some(kind))?;
        }
        self.insights.connected(&session.zone, kind, session.connected);
        if self.settings.replace_older && caller.has(TELLS_HEALTH) {
            session.replaces_older();
        }
        Ok((caller, session))
    }

    /// Works on a stream until it ends, in the background. Whatever ends it, the zone is told by `end`.
    pub fn run<W>(&self, mut session: Session, kind: StreamKind, end: oneshot::Sender<Status>, work: W)
    where
        W: Future<Output = Ending> + Send + 'static,
    {
        let (closing, metrics, kept) = (self.closing.clone(), self.metrics.clone(), self.drain.stream());
        tokio::spawn(async move {
            let ending = tokio::select! {
                biased;
                () = closing.closing() => Ending::Stopping,
                ending = session.ended() => ending,
                ending = work => ending,
            };
            metrics.ended(kind, &ending);
            tell(&session, kind, &ending);
            // When the zone has hung up there is nobody to tell.
            let _ = end.send(ending.status(kind));
            drop((session, kept));
        });
    }
}

fn tell(session: &Session, kind: StreamKind, ending: &Ending) {
    let (zone, stream) = (&*session.zone, kind.name());
    match ending {
        Ending::Failed(reason) | Ending::TooLarge(reason) => tracing::warn!(zone, stream, reason, "stream failed"),
        Ending::Stranger(reason) => tracing::warn!(zone, stream, reason, "stream refused"),
        Ending::UnknownAnswer => tracing::warn!(zone, stream, "the zone answered what nobody had asked"),
        _ => tracing::info!(zone, stream, reason = ending.name(), "stream ended"),
    }
}
