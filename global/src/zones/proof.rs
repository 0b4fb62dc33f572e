//! Cuts off zones whose token is no longer good, be it revoked, expired or its key gone, and those that need one from now
//! on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::{Kind, Snapshot};
use tokio::sync::watch;

use super::{Live, Zones};
use crate::kds::admission::Admission;
use crate::kds::ending::Ending;

/// Longest wait between two looks, against clocks that are set.
const AT_LEAST_EVERY: Duration = Duration::from_secs(30);

/// Checks all streams again whenever secrets or the rules change or a token expires, until the store is closed.
pub(crate) async fn watch_proofs(zones: Zones, mut rules: watch::Receiver<Arc<Admission>>) {
    let clock = zones.0.clock.clone();
    let mut configuration = zones.0.store.configuration();
    let mut looked_at = configuration.borrow_and_update().changed_at(Kind::GlobalSecret);
    loop {
        let next = zones.next_expiry().min(AT_LEAST_EVERY);
        tokio::select! {
            () = clock.sleep(next) => {}
            changed = configuration.changed() => {
                if changed.is_err() {
                    return;
                }
                let changed = configuration.borrow_and_update().changed_at(Kind::GlobalSecret);
                if changed == looked_at {
                    continue;
                }
                looked_at = changed;
            }
            changed = rules.changed() => if changed.is_err() {
                return;
            },
        }
        let (snapshot, rules) = (configuration.borrow().clone(), Arc::clone(&rules.borrow_and_update()));
        zones.check_proofs(&rules, &snapshot);
    }
}

impl Zones {
    /// Until the next token expires.
    fn next_expiry(&self) -> Duration {
        let now = self.0.clock.now();
        let first = self.live().values().filter_map(|live| live.facts.expires).min();
        first.map_or(AT_LEAST_EVERY, |expires| {
            (expires - now).to_std().unwrap_or_default().max(Duration::from_millis(100))
        })
    }

    /// Ends the streams that would not be let in any more. Each credential is checked once.
    fn check_proofs(&self, admission: &Admission, snapshot: &Snapshot) {
        let shown: BTreeSet<(Arc<str>, Option<Arc<str>>)> =
            self.live().values().map(|live| (Arc::clone(&live.facts.zone), live.facts.shown.clone())).collect();
        let now = self.0.clock.now();
        for (zone, shown) in shown {
            let is_of = |live: &Live| live.facts.zone == zone && live.facts.shown == shown;
            match admission.check(&zone, shown.as_deref(), snapshot, now) {
                Ok(proof) => self
                    .live()
                    .values_mut()
                    .filter(|live| is_of(live))
                    .for_each(|live| live.facts.expires = proof.expires()),
                Err(why) => {
                    let ended = self.end(&Ending::Unauthenticated(why.clone()), |_, live| is_of(live));
                    tracing::warn!(zone = &*zone, streams = ended, reason = why, "a zone is cut off");
                }
            }
        }
    }
}
