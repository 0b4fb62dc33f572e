//! The life of a program from start to end, and the handles that its parts hold.
//!
//! `run(config)` of a program makes a [`Life`], hands its parts their handles, and returns; [`Life::end`] then waits
//! until somebody asks to stop or a vital task fails, and drains: readiness first, then listeners, then streams.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::drain::{Drain, Limits};
use crate::exit::Exit;
use crate::readiness::Readiness;
use crate::tasks::{Failures, Tasks};

/// What the parts of a program need to live and to end well.
#[derive(Debug)]
pub struct Life {
    clock: Clock,
    limits: Limits,
    readiness: Readiness,
    drain: Drain,
    tasks: Tasks,
    failures: Failures,
    stop: Stop,
    reload: Reload,
}

impl Life {
    /// A life that begins now.
    pub fn new(clock: Clock, limits: Limits) -> Self {
        let (tasks, failures) = Tasks::new(clock.clone());
        Self {
            clock,
            limits,
            readiness: Readiness::default(),
            drain: Drain::default(),
            tasks,
            failures,
            stop: Stop::default(),
            reload: Reload::default(),
        }
    }

    /// Time and waiting.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Whether the program is ready to serve.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Guards of whatever must end well.
    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// Background tasks.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Asks the program to stop.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Tells that files may have changed.
    pub fn reload(&self) -> &Reload {
        &self.reload
    }

    /// Waits for the end and carries it out. Tasks that are still running then are aborted.
    pub async fn end(mut self) -> Exit {
        let failed = tokio::select! {
            () = self.stop.asked() => None,
            task = self.failures.next() => Some(task),
        };
        let _draining = self.readiness.not_ready("draining");
        self.stop.ask();
        let in_time = self.drain.run(&self.clock, self.limits).await;
        self.tasks.abort();
        match failed {
            Some(task) => Exit::TaskFailed(task),
            None if in_time => Exit::Clean,
            None => Exit::Forced,
        }
    }
}

/// Asks the program to stop. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Stop(CancellationToken);

impl Stop {
    /// Asks; more than once does no harm.
    pub fn ask(&self) {
        self.0.cancel();
    }

    /// Whether somebody asked.
    pub fn is_asked(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until somebody asks.
    pub async fn asked(&self) {
        self.0.cancelled().await;
    }
}

/// Says "look at your files again" (SIGHUP). Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reload(Arc<watch::Sender<()>>);

impl Default for Reload {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(())))
    }
}

impl Reload {
    /// Says it.
    pub fn notify(&self) {
        self.0.send_replace(());
    }

    /// Hears it, from now on; several notices before a look are one.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tasks::{OnFailure, Task};

    #[tokio::test(start_paused = true)]
    async fn a_stop_drops_readiness_before_listeners_close() {
        let life = Life::new(Clock::system(), Limits { unready: Duration::from_secs(1), ..Limits::default() });
        let (readiness, stop, guard) = (life.readiness().clone(), life.stop().clone(), life.drain().listener());
        let end = tokio::spawn(life.end());
        stop.ask();
        while readiness.is_ready() {
            tokio::task::yield_now().await;
        }
        assert_eq!(readiness.reasons(), ["draining"]);
        assert!(!guard.is_closing());
        guard.closing().await;
        drop(guard);
        assert_eq!(end.await.unwrap(), Exit::Clean);
    }

    #[tokio::test(start_paused = true)]
    async fn a_vital_task_that_fails_ends_the_program() {
        let life = Life::new(Clock::system(), Limits::default());
        let vital = Task { name: "store-feed", owner: "store", on_failure: OnFailure::Stop };
        life.tasks().spawn(vital, || async { anyhow::bail!("the disk is gone") });
        assert_eq!(life.end().await, Exit::TaskFailed("store-feed"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_never_ends_forces_the_exit() {
        let life = Life::new(Clock::system(), Limits::default());
        let _stuck = life.drain().stream();
        life.stop().ask();
        assert_eq!(life.end().await, Exit::Forced);
    }

    #[tokio::test]
    async fn notices_to_reload_are_coalesced() {
        let reload = Reload::default();
        let mut seen = reload.subscribe();
        reload.notify();
        reload.notify();
        seen.changed().await.unwrap();
        assert!(!seen.has_changed().unwrap());
    }
}
