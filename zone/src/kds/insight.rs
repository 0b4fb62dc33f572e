//! The zone's own ZoneInsight: how the global fares with what this zone tells it (kds-wire 5.2, last paragraph).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use chrono::{DateTime, Utc};
use kds_proto::kuma::system::v1alpha1::{KdsSubscription, ZoneInsight};
use model::insight::zone::{self, Count, Kept, Notes};
use model::{Key, Kind, Labels, Payload, Resource};
use prost_types::Timestamp;
use runtime::Clock;
use store::{ApplyError, Batch, Fence, Store};
use tokio::sync::Notify;
use uuid::Uuid;

/// Between two writes of what changes all the time.
const FLUSH: Duration = Duration::from_secs(10);

/// Keeps the account of one stream and writes it down.
#[derive(Debug)]
pub(crate) struct Account {
    zone: String,
    clock: Clock,
    state: Mutex<State>,
    /// Something that should not wait.
    urgent: Notify,
}

#[derive(Debug)]
struct State {
    subscription: KdsSubscription,
    changed: bool,
}

impl Account {
    /// Of a stream that opens now.
    pub fn open(zone: &str, instance: &str, clock: &Clock) -> Self {
        let mut subscription = zone::subscription(Uuid::new_v4().to_string(), "", timestamp(clock.now()));
        subscription.zone_instance_id = instance.to_owned();
        let state = Mutex::new(State { subscription, changed: true });
        Self { zone: zone.to_owned(), clock: clock.clone(), state, urgent: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the global tells of itself with its first question.
    pub fn describe(&self, describe: impl FnOnce(&mut KdsSubscription)) {
        let mut state = self.state();
        describe(&mut state.subscription);
        state.changed = true;
        self.urgent.notify_one();
    }

    /// Counts a response.
    pub fn count(&self, type_url: &str, what: Count) {
        let now = timestamp(self.clock.now());
        let mut state = self.state();
        zone::count(&mut state.subscription, type_url, what, now);
        state.changed = true;
    }

    /// Writes when the global was heard, and then what changed meanwhile, until the caller drops it.
    ///
    /// # Errors
    /// This instance does not lead any more.
    pub async fn keep(&self, store: &Store, fence: &Fence) -> Result<()> {
        self.urgent.notified().await;
        loop {
            self.write(store, fence).await?;
            tokio::select! {
                () = self.urgent.notified() => {}
                () = self.clock.sleep(FLUSH) => {}
            }
        }
    }

    /// Writes that the stream has ended.
    pub async fn close(&self, store: &Store, fence: &Fence) {
        {
            let mut state = self.state();
            state.subscription.disconnect_time = Some(timestamp(self.clock.now()));
            state.changed = true;
        }
        if let Err(error) = self.write(store, fence).await {
            tracing::debug!(%error, "the end of the connection is not in the zone's insight");
        }
    }

    async fn write(&self, store: &Store, fence: &Fence) -> Result<()> {
        let subscription = {
            let mut state = self.state();
            if !std::mem::take(&mut state.changed) {
                return Ok(());
            }
            state.subscription.clone()
        };
        let key = Key::global(Kind::ZoneInsight, &self.zone);
        let stored = store.insights().borrow().get(&key).cloned();
        let mut insight = match &stored {
            Some(stored) => stored.spec.message::<ZoneInsight>().map(|insight| (*insight).clone()).unwrap_or_default(),
            None => ZoneInsight::default(),
        };
        let notes = Notes { subscriptions: vec![subscription], ..Notes::default() };
        zone::merge(&mut insight, &notes, Kept::default(), timestamp(self.clock.now()));
        let resource = Resource::new(key, Labels::default(), Payload::from_message(&insight));
        let subject = Key::global(Kind::Zone, &self.zone);
        match store.apply(Batch::new().put(resource).require(subject).fenced(fence.clone())).await {
            Err(error @ ApplyError::Deposed { .. }) => Err(error.into()),
            Err(error) => {
                // Status is not worth a connection; the next write says it too.
                tracing::debug!(%error, "cannot write the zone's insight");
                self.state().changed = true;
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }
}

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap_or_default() }
}
