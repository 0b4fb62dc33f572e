//! Stores what a zone tells, as the zone's own (kds-wire 4.6, 7).

use std::sync::Arc;
use std::time::Duration;

use discovery::kds::receive::{Received, Taker, receive};
use discovery::stream::{Sink, Verdict};
use discovery::subscriber::Update;
use model::{Key, Kind};
use runtime::Clock;
use store::{Batch, Store, Write};

use super::metrics::Metrics;
use crate::insights::StreamKind;

/// Tries of one update when somebody else writes the same resources, which only another stream of the same zone does.
const TRIES: usize = 10;

/// Between them: the snapshot shows the other write a moment later.
const PAUSE: Duration = Duration::from_millis(20);

/// Names in one line of the log.
const NAMED: usize = 20;

/// The end of a `ZoneToGlobalSync` stream that writes.
#[derive(Debug)]
pub(crate) struct FromZone {
    pub zone: Arc<str>,
    pub hashes_names: bool,
    pub store: Store,
    pub clock: Clock,
    pub metrics: Metrics,
}

impl Sink for FromZone {
    async fn take(&mut self, update: &Update) -> Result<Verdict, String> {
        let kind: Kind = update.type_url.parse().map_err(|error| format!("{error}"))?;
        let verdict = match self.write(kind, update).await? {
            None => Verdict::Accepted,
            Some(message) => {
                self.metrics.rejected("global", kind.name());
                Verdict::Refused(message)
            }
        };
        let result = if verdict == Verdict::Accepted { "acknowledged" } else { "rejected" };
        self.metrics.response(StreamKind::ZoneToGlobal, result);
        Ok(verdict)
    }
}

impl FromZone {
    /// Compares and writes; what is refused is said. Again when another writer was faster.
    async fn write(&self, kind: Kind, update: &Update) -> Result<Option<String>, String> {
        let taker = Taker::Global { zone: &self.zone, hashes_names: self.hashes_names };
        let mut last = None;
        for _ in 0..TRIES {
            let stored = self.store.snapshots_of(kind).borrow().clone();
            let received = receive(taker, kind, update, &stored);
            let message = received.message();
            if let Some(message) = &message {
                self.tell(kind, &received, message);
            }
            if received.is_empty() {
                return Ok(message);
            }
            match self.store.apply(self.batch(received)).await {
                Ok(applied) => {
                    self.metrics.stored(applied.resources.len(), applied.removed.len());
                    return Ok(message);
                }
                Err(error) if error.is_lost_race() => last = Some(error),
                Err(error) => return Err(error.to_string()),
            }
            self.clock.sleep(PAUSE).await;
        }
        Err(last.map_or_else(String::new, |error| error.to_string()))
    }

    /// Everything of a zone goes when its Zone goes.
    fn batch(&self, received: Received) -> Batch {
        let owner = Key::global(Kind::Zone, &self.zone);
        let creates =
            received.creates.into_iter().map(|resource| Write::Create { resource, owner: Some(owner.clone()) });
        let updates = received.updates.into_iter().map(|resource| Write::Update { resource });
        let removes = received.removes.into_iter().map(|(key, version)| Write::Delete { key, version: Some(version) });
        creates.chain(removes).chain(updates).collect()
    }

    fn tell(&self, kind: Kind, received: &Received, message: &str) {
        let names: Vec<&str> = received.refusals.iter().take(NAMED).map(|refusal| &*refusal.key.name).collect();
        tracing::warn!(zone = &*self.zone, %kind, ?names, message, "resources of a zone are refused");
    }
}
