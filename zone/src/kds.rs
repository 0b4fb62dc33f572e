//! Following a global (kds-wire 1.1, 5.9): what comes down goes into the store, what is this zone's own goes up.
//!
//! The leader alone holds one connection, on which six calls share one fate: whatever ends one of them ends all, and after
//! a pause everything starts anew. Nothing else waits for the global: a zone starts, serves and changes without it.

mod admin;
mod dial;
mod health;
mod identity_first;
mod insight;
mod membership;
mod metrics;
mod receive;
mod session;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use api::proxy_admin::ProxyAdmin;
use identity::first_start::Internal;
use model::Snapshot;
use runtime::tasks::{Backoff, OnFailure, Task};
use runtime::{Clock, Fatal, Life};
use store::{ApplyError, Lease, Store};
use tokio::sync::watch;
use tonic::{Code, Status};

use membership::Misfit;
use metrics::Reason;

#[cfg(feature = "test-support")]
pub use dial::{Connect, Stream};
pub(crate) use metrics::Metrics;
pub use settings::{Address, Federation, MigrateFrom, Token};

/// The same trouble is told again after this long.
const REMINDER: Duration = Duration::from_secs(60);

/// What it takes to follow a global.
pub(crate) struct Zone {
    pub name: String,
    /// This process, `<host name>-<4 hex digits>`.
    pub instance: String,
    pub federation: Federation,
    pub store: Store,
    pub clock: Clock,
    pub metrics: Metrics,
    /// The way to this zone's proxies.
    pub proxies: Option<Arc<dyn ProxyAdmin>>,
}

impl Federation {
    /// Whether a zone may start under a name.
    ///
    /// # Errors
    /// The store is that of a zone with another name.
    pub(crate) fn check_name(&self, stored: &Snapshot, zone: &str) -> Result<(), Fatal> {
        membership::check_name(stored, zone, &self.migrate_from)
    }
}

/// Starts to follow the global while this process leads.
pub(crate) fn start(zone: Zone, leading: &watch::Receiver<Option<Lease>>, life: &Life) {
    for warning in zone.federation.warnings() {
        tracing::warn!("{warning}");
    }
    let task = Task { name: "kds", owner: "kds", on_failure: OnFailure::Restart(Backoff::default()) };
    let (zone, leading, drain) = (Arc::new(zone), leading.clone(), life.drain().clone());
    life.tasks().spawn(task, move || {
        let (zone, leading, guard) = (Arc::clone(&zone), leading.clone(), drain.stream());
        async move {
            tokio::select! {
                () = guard.closing() => {}
                () = zone.follow(leading) => {}
            }
            Ok(())
        }
    });
}

impl Zone {
    /// Returns when there is nobody left to lead.
    async fn follow(&self, mut leading: watch::Receiver<Option<Lease>>) {
        loop {
            let Ok(lease) = leading.wait_for(Option::is_some).await.map(|lease| lease.clone()) else { return };
            let Some(Lease { fence, .. }) = lease else { continue };
            let deposed = |lease: &Option<Lease>| lease.as_ref().is_none_or(|lease| lease.fence != fence);
            tokio::select! {
                () = self.stay_connected(&fence) => {}
                _ = leading.wait_for(deposed) => tracing::info!("another instance follows the global from now on"),
            }
            self.metrics.disconnected();
        }
    }

    /// Connects again and again, once there is everything that a zone makes at its first start: what comes later would be
    /// told as gone first.
    async fn stay_connected(&self, fence: &store::Fence) {
        let last = Internal::Instances.key();
        if self.store.configuration().wait_for(|stored| stored.get(&last).is_some()).await.is_err() {
            return;
        }
        let backoff = self.federation.backoff;
        let mut pauses = None;
        let mut told = Told::default();
        loop {
            let started = self.clock.elapsed();
            let session::Ended { error, stood } = session::run(self, fence).await;
            self.metrics.disconnected();
            let now = self.clock.elapsed();
            if now - started > backoff.max {
                pauses = None;
            }
            let pause = pauses.get_or_insert_with(|| backoff.pauses()).next().unwrap_or(backoff.max);
            let reason = reason(&error, stood);
            self.metrics.failed(reason);
            told.tell(&self.federation.global, describe(&error, reason), stood, pause, now);
            self.clock.sleep(pause).await;
        }
    }
}

/// What was told of the last failure, so that a log does not fill with one sentence.
#[derive(Default)]
struct Told {
    last: Option<(String, Duration)>,
}

impl Told {
    fn tell(&mut self, global: &Address, error: String, stood: bool, pause: Duration, now: Duration) {
        let retry_in_ms = pause.as_millis() as u64;
        let again = self.last.as_ref().is_some_and(|(last, at)| *last == error && now - *at < REMINDER);
        if stood {
            tracing::warn!(%global, error, retry_in_ms, "lost the global; the zone goes on with what it has");
        } else if again {
            tracing::debug!(%global, error, retry_in_ms, "no connection to the global");
            return;
        } else {
            tracing::warn!(%global, error, retry_in_ms, "no connection to the global; the zone goes on with what it has");
        }
        self.last = Some((error, now));
    }
}

/// The reason under which an end is counted.
fn reason(error: &anyhow::Error, stood: bool) -> Reason {
    let refused = |status: &Status| matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied);
    if error.downcast_ref::<Misfit>().is_some() {
        Reason::OtherGlobal
    } else if error.downcast_ref::<ApplyError>().is_some() {
        Reason::Store
    } else if error.downcast_ref::<Status>().is_some_and(refused) {
        Reason::Unauthenticated
    } else if stood {
        Reason::Lost
    } else {
        Reason::Unreachable
    }
}

/// An error in one line, statuses in the words of whoever made them.
fn describe(error: &anyhow::Error, reason: Reason) -> String {
    if let (Reason::Unauthenticated, Some(status)) = (reason, error.downcast_ref::<Status>()) {
        // All calls are refused alike; which of them heard it first is of no interest.
        return format!("the global refuses this zone: {}", status.message());
    }
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let part = match cause.downcast_ref::<Status>() {
            Some(status) if status.message().is_empty() => format!("{:?}", status.code()),
            Some(status) => format!("{:?}: {}", status.code(), status.message()),
            None if cause.to_string().contains("close_notify") => "it broke off".to_owned(),
            None => cause.to_string(),
        };
        // Some errors repeat their cause.
        if !parts.iter().any(|known| known.contains(&part)) {
            parts.push(part);
        }
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_refusal_is_repeated_in_the_globals_words() {
        let refused = Status::unauthenticated("the token of zone west is not one of zone east");
        let error = Err::<(), _>(refused).context("GlobalToZoneSync failed").unwrap_err();
        assert_eq!(reason(&error, true), Reason::Unauthenticated);
        let text = "the global refuses this zone: the token of zone west is not one of zone east";
        assert_eq!(describe(&error, Reason::Unauthenticated), text);
        let failed = Err::<(), _>(Status::internal("stream failed")).context("GlobalToZoneSync failed").unwrap_err();
        assert_eq!(describe(&failed, Reason::Lost), "GlobalToZoneSync failed: Internal: stream failed");
        let broken =
            anyhow::anyhow!("peer closed connection without sending TLS close_notify: https://x").context("lost");
        assert_eq!(describe(&broken, Reason::Lost), "lost: it broke off");
        let other = anyhow::Error::new(Misfit::Unknown { remembered: "a".to_owned() }).context("refused");
        assert_eq!(reason(&other, true), Reason::OtherGlobal);
        assert_eq!(reason(&anyhow::anyhow!("x"), true), Reason::Lost);
        assert_eq!(reason(&anyhow::anyhow!("x"), false), Reason::Unreachable);
    }
}
