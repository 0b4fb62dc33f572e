//! The end of a program, in order: listeners first, then streams, each within a bound.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::clock::Clock;

/// How long each step of a drain may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From "not ready" until listeners close, so that balancers look away first.
    pub unready: Duration,
    /// For listeners to finish their requests.
    pub listeners: Duration,
    /// For streams to end.
    pub streams: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { unready: Duration::ZERO, listeners: Duration::from_secs(10), streams: Duration::from_secs(5) }
    }
}

/// Hands out guards to whatever must end well. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    listeners: Stage,
    streams: Stage,
}

#[derive(Clone, Debug, Default)]
struct Stage {
    closing: CancellationToken,
    open: TaskTracker,
}

impl Stage {
    fn guard(&self) -> Guard {
        Guard { closing: self.closing.clone(), _open: self.open.token() }
    }

    /// Whether all guards were dropped within the limit.
    async fn close(&self, clock: &Clock, limit: Duration) -> bool {
        self.closing.cancel();
        self.open.close();
        clock.timeout(limit, self.open.wait()).await.is_some()
    }
}

impl Drain {
    /// Guard for something that accepts connections or requests.
    pub fn listener(&self) -> Guard {
        self.listeners.guard()
    }

    /// Guard for a long-lived stream, or for anything that must outlive the listeners.
    pub fn stream(&self) -> Guard {
        self.streams.guard()
    }

    /// Closes listeners, then streams. `true` when all of them ended within their limits.
    pub(crate) async fn run(&self, clock: &Clock, limits: Limits) -> bool {
        clock.sleep(limits.unready).await;
        let listeners = self.listeners.close(clock, limits.listeners).await;
        let streams = self.streams.close(clock, limits.streams).await;
        listeners && streams
    }
}

/// While it lives, the drain waits for its holder (up to the limit).
#[derive(Clone, Debug)]
pub struct Guard {
    closing: CancellationToken,
    _open: TaskTrackerToken,
}

impl Guard {
    /// Waits until the holder should end.
    pub async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// Whether the holder should end.
    pub fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn listeners_end_before_streams_are_asked_to() {
        let drain = Drain::default();
        let order = Arc::new(Mutex::new(Vec::new()));
        for (guard, name, time) in [(drain.stream(), "stream", 1), (drain.listener(), "listener", 3)] {
            let order = Arc::clone(&order);
            tokio::spawn(async move {
                guard.closing().await;
                tokio::time::sleep(Duration::from_secs(time)).await;
                order.lock().unwrap().push(name);
            });
        }
        assert!(drain.run(&Clock::system(), Limits::default()).await);
        assert_eq!(*order.lock().unwrap(), ["listener", "stream"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_is_cut_off_at_the_limit() {
        let (drain, clock) = (Drain::default(), Clock::system());
        let _never_dropped = drain.stream();
        let before = clock.elapsed();
        assert!(!drain.run(&clock, Limits::default()).await);
        assert_eq!((clock.elapsed() - before).as_secs(), 5);
    }
}
