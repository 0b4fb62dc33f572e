//! Who is connected here: one stream for each proxy. A proxy that comes back within the delay of its deregistration finds
//! everything as it was (zone-dataplane 1.5).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use model::Key;
use runtime::Clock;
use runtime::drain::Guard;
use tokio::sync::watch;

/// The proxies that this instance serves or has just served. Cheap to clone; clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Seats(Arc<Inner>);

struct Inner {
    clock: Clock,
    delay: Duration,
    closing: Guard,
    seats: Mutex<BTreeMap<Key, State>>,
    /// Says that a removal is over.
    removed: watch::Sender<()>,
    remove: Box<dyn Fn(Key) -> BoxFuture<'static, ()> + Send + Sync>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seats").field("delay", &self.delay).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has a stream.
    Taken,
    /// It has left; the number tells one leave from the next.
    Left(u64),
    /// What it brought is being removed.
    Removing,
}

/// The place of a proxy that has a stream, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    key: Key,
    /// Whether the proxy brought its resource, which goes when it does not come back.
    registered: bool,
    seats: Seats,
}

impl Seats {
    /// Nobody yet. `remove` takes away what a proxy brought; while the program ends nothing is removed.
    pub fn new(
        clock: Clock,
        delay: Duration,
        closing: Guard,
        remove: impl Fn(Key) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        let (seats, removed) = (Mutex::default(), watch::Sender::new(()));
        Self(Arc::new(Inner { clock, delay, closing, seats, removed, remove: Box::new(remove) }))
    }

    /// A place for a proxy; `None` when it has one already. Waits while what it brought before is being removed.
    pub async fn take(&self, key: &Key) -> Option<Seat> {
        let mut removed = self.0.removed.subscribe();
        loop {
            {
                let mut seats = self.seats();
                let before = seats.get(key).copied();
                if before == Some(State::Taken) {
                    return None;
                }
                if before != Some(State::Removing) {
                    seats.insert(key.clone(), State::Taken);
                    let registered = before.is_some();
                    return Some(Seat { key: key.clone(), registered, seats: self.clone() });
                }
            }
            removed.changed().await.ok()?;
        }
    }

    fn seats(&self) -> MutexGuard<'_, BTreeMap<Key, State>> {
        self.0.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a proxy is still where it left, and if so, whether its removal begins.
    fn begin_removal(&self, key: &Key, left: u64) -> bool {
        let mut seats = self.seats();
        let stayed_away = seats.get(key) == Some(&State::Left(left));
        if stayed_away {
            seats.insert(key.clone(), State::Removing);
        }
        stayed_away
    }

    async fn remove_later(self, key: Key, left: u64) {
        tokio::select! {
            () = self.0.clock.sleep(self.0.delay) => {}
            () = self.0.closing.closing() => return,
        }
        if !self.begin_removal(&key, left) {
            return;
        }
        (self.0.remove)(key.clone()).await;
        self.seats().remove(&key);
        self.0.removed.send_replace(());
    }
}

impl Seat {
    /// The proxy brought its resource.
    pub fn registered(&mut self) {
        self.registered = true;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let seats = self.seats.clone();
        if !self.registered || seats.0.closing.is_closing() {
            seats.seats().remove(&self.key);
            return;
        }
        let left = u64::try_from(seats.0.clock.elapsed().as_nanos()).unwrap_or_default();
        seats.seats().insert(self.key.clone(), State::Left(left));
        tokio::spawn(seats.remove_later(self.key.clone(), left));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use chrono::DateTime;
    use futures::FutureExt;
    use model::Kind;
    use runtime::{Drain, ManualClock};

    use super::*;

    const DELAY: Duration = Duration::from_secs(10);

    struct Room {
        hand: ManualClock,
        seats: Seats,
        removals: Arc<AtomicUsize>,
    }

    fn room() -> Room {
        let hand = ManualClock::at(DateTime::UNIX_EPOCH);
        let removals = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&removals);
        let remove = move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            async {}.boxed()
        };
        let seats = Seats::new(hand.clock(), DELAY, Drain::default().stream(), remove);
        Room { hand, seats, removals }
    }

    impl Room {
        async fn pass(&self, length: Duration) {
            while self.hand.sleepers() == 0 {
                tokio::task::yield_now().await;
            }
            self.hand.advance(length);
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        }

        fn removals(&self) -> usize {
            self.removals.load(Ordering::SeqCst)
        }
    }

    fn web() -> Key {
        Key::new(Kind::Dataplane, "default", "web")
    }

    /// DP-7: one stream for each proxy; another proxy is not concerned.
    #[tokio::test]
    async fn a_proxy_has_one_place() {
        let room = room();
        let seat = room.seats.take(&web()).await.unwrap();
        assert!(room.seats.take(&web()).await.is_none());
        assert!(room.seats.take(&Key::new(Kind::Dataplane, "default", "api")).await.is_some());
        drop(seat);
        assert!(room.seats.take(&web()).await.is_some());
    }

    /// DP-8: what a proxy brought goes ten seconds after it, unless it comes back.
    #[tokio::test]
    async fn who_stays_away_is_removed_and_who_comes_back_is_not() {
        let room = room();
        let mut seat = room.seats.take(&web()).await.unwrap();
        seat.registered();
        drop(seat);
        room.pass(DELAY - Duration::from_millis(1)).await;
        let mut back = room.seats.take(&web()).await.unwrap();
        back.registered();
        room.hand.advance(DELAY);
        tokio::task::yield_now().await;
        assert_eq!(room.removals(), 0);
        drop(back);
        room.pass(DELAY).await;
        assert_eq!(room.removals(), 1);
        assert!(room.seats.take(&web()).await.is_some());
    }

    #[tokio::test]
    async fn what_was_there_before_the_proxy_stays() {
        let room = room();
        drop(room.seats.take(&web()).await.unwrap());
        assert_eq!(room.hand.sleepers(), 0);
        assert!(room.seats.seats().is_empty());
    }
}
