//! When certificates are renewed: after 80 % of their life, as the wall clock has it (zone-dataplane 3.4).

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use runtime::Life;
use runtime::tasks::{OnFailure, Task};

use super::Identities;

/// Longest rest between two looks: the wall clock may jump meanwhile.
const LONGEST_REST: Duration = Duration::from_secs(60);
/// Rest before proxies are told again of what could not be renewed.
const PATIENCE: TimeDelta = TimeDelta::seconds(10);
/// Renewals that follow one another this closely are told of together.
const SHORTEST_REST: Duration = Duration::from_millis(100);

impl Identities {
    /// Starts to watch over lifetimes.
    pub fn watch(&self, life: &Life) {
        let task = Task { name: "certificate-renewal", owner: "identities", on_failure: OnFailure::Stop };
        let identities = self.clone();
        life.tasks().spawn(task, move || {
            let identities = identities.clone();
            async move {
                identities.renew().await;
                Ok(())
            }
        });
    }

    pub(super) async fn renew(self) {
        loop {
            let now = self.0.clock.now();
            let next = self.tell(now);
            let rest = next.map_or(LONGEST_REST, |next| (next - now).to_std().unwrap_or_default());
            let rest = rest.clamp(SHORTEST_REST, LONGEST_REST);
            tokio::select! {
                () = self.0.clock.sleep(rest) => {}
                () = self.0.issued.notified() => {}
            }
        }
    }

    /// Tells proxies whose certificates are due, and says when the next are.
    pub(super) fn tell(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let (mut due, mut next) = (0_usize, None);
        for held in self.held().values_mut() {
            let mut at = held.told.map_or_else(|| held.leaf.renewal(), |told| told + PATIENCE);
            if at <= now {
                due += 1;
                held.told = Some(now);
                at = now + PATIENCE;
            }
            next = Some(next.map_or(at, |next: DateTime<Utc>| next.min(at)));
        }
        if due > 0 {
            tracing::debug!(due, "certificates are to be renewed");
            self.0.changed.send_replace(());
        }
        next
    }
}
