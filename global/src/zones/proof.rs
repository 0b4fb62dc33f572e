//! Cuts off zones whose token is no longer good: revoked, expired, or its key is gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::{Kind, Snapshot};

use super::Zones;
use crate::kds::admission::Admission;
use crate::kds::ending::Ending;

/// Longest wait between two looks, against clocks that are set.
const AT_LEAST_EVERY: Duration = Duration::from_secs(30);

/// Checks the tokens of all streams again whenever secrets change or one expires, until the store is closed.
pub(crate) async fn watch_proofs(zones: Zones, admission: Arc<Admission>) {
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
        }
        let snapshot = configuration.borrow().clone();
        zones.check_proofs(&admission, &snapshot);
    }
}

impl Zones {
    /// Until the next token expires.
    fn next_expiry(&self) -> Duration {
        let now = self.0.clock.now();
        let first =
            self.live().values().filter_map(|live| live.facts.token.as_ref().map(|(_, expires)| *expires)).min();
        first.map_or(AT_LEAST_EVERY, |expires| {
            (expires - now).to_std().unwrap_or_default().max(Duration::from_millis(100))
        })
    }

    /// Ends the streams whose token is not good any more. Each token is checked once.
    fn check_proofs(&self, admission: &Admission, snapshot: &Snapshot) {
        let shown: BTreeMap<(Arc<str>, Arc<str>), ()> = {
            let live = self.live();
            let shown = live.values().filter_map(|live| {
                live.facts.token.as_ref().map(|(token, _)| ((Arc::clone(&live.facts.zone), Arc::clone(token)), ()))
            });
            shown.collect()
        };
        let now = self.0.clock.now();
        for (zone, token) in shown.into_keys() {
            let Err(why) = admission.check(&zone, Some(&token), snapshot, now) else { continue };
            let ended = self.end(&Ending::Unauthenticated(why.clone()), |_, live| {
                live.facts.zone == zone && live.facts.token.as_ref().is_some_and(|(shown, _)| *shown == token)
            });
            tracing::warn!(zone = &*zone, streams = ended, reason = why, "a zone is cut off");
        }
    }
}
