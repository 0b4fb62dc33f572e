//! Background tasks with a name, an owner and a verdict on failure.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::clock::Clock;

/// What a task is called, whose it is, and what its failure means.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Name in logs and metrics, `kds-publisher`.
    pub name: &'static str,
    /// Part of the program that started it, `kds`.
    pub owner: &'static str,
    /// What happens when it fails.
    pub on_failure: OnFailure,
}

/// Verdict on a task that returned an error or panicked. One that returns `Ok` has done its work.
#[derive(Clone, Copy, Debug)]
pub enum OnFailure {
    /// It starts again, after a pause that grows.
    Restart(Backoff),
    /// The program cannot live without it and stops.
    Stop,
}

/// Pauses between restarts: doubling from `base` to `max`, with jitter; from `base` again after a run longer than `max`.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// First pause (`general.resilientComponentBaseBackoff`).
    pub base: Duration,
    /// Longest pause (`general.resilientComponentMaxBackoff`).
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_secs(5), max: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// The pauses, one after the other, without end.
    pub fn pauses(self) -> impl Iterator<Item = Duration> {
        let builder = ExponentialBuilder::default().with_min_delay(self.base).with_max_delay(self.max);
        builder.without_max_times().with_jitter().build().map(move |pause| pause.min(self.max))
    }
}

/// Starts tasks and looks after them. Cheap to clone.
#[derive(Clone)]
pub struct Tasks {
    clock: Clock,
    running: Arc<Mutex<JoinSet<()>>>,
    failed: mpsc::Sender<&'static str>,
}

/// Names of the vital tasks that failed.
#[derive(Debug)]
pub(crate) struct Failures(mpsc::Receiver<&'static str>);

impl Failures {
    pub(crate) async fn next(&mut self) -> &'static str {
        match self.0.recv().await {
            Some(name) => name,
            None => std::future::pending().await,
        }
    }
}

impl Tasks {
    pub(crate) fn new(clock: Clock) -> (Self, Failures) {
        let (failed, failures) = mpsc::channel(1);
        (Self { clock, running: Arc::default(), failed }, Failures(failures))
    }

    /// Starts a task; `make` is called again for every restart.
    pub fn spawn<M, F>(&self, task: Task, make: M)
    where
        M: FnMut() -> F + Send + 'static,
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let looked_after = supervise(task, make, self.clock.clone(), self.failed.clone());
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        running.spawn(looked_after);
    }

    /// Ends all of them where they are.
    pub(crate) fn abort(&self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tasks({} running)", self.running.lock().unwrap_or_else(PoisonError::into_inner).len())
    }
}

async fn supervise<M, F>(task: Task, mut make: M, clock: Clock, failed: mpsc::Sender<&'static str>)
where
    M: FnMut() -> F + Send + 'static,
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let Task { name, owner, on_failure } = task;
    let mut pauses = None;
    loop {
        let started = clock.elapsed();
        let Err(error) = caught(&mut make).await else {
            tracing::debug!(task = name, owner, "task done");
            return;
        };
        match on_failure {
            OnFailure::Stop => {
                tracing::error!(task = name, owner, error, "task failed, stopping");
                // The first failure ends the program; a later one has nothing to add.
                let _ = failed.try_send(name);
                return;
            }
            OnFailure::Restart(backoff) => {
                if clock.elapsed() - started > backoff.max {
                    pauses = None;
                }
                let pause = pauses.get_or_insert_with(|| backoff.pauses()).next().unwrap_or(backoff.max);
                tracing::warn!(task = name, owner, error, restart_in_ms = pause.as_millis() as u64, "task failed");
                clock.sleep(pause).await;
            }
        }
    }
}

/// Runs it once; an error or a panic is told as text.
async fn caught<F: Future<Output = anyhow::Result<()>>>(make: &mut impl FnMut() -> F) -> Result<(), String> {
    match AssertUnwindSafe(async { make().await }).catch_unwind().await {
        Ok(result) => result.map_err(|error| format!("{error:#}")),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(|s| &**s));
            Err(format!("panic: {}", text.unwrap_or("without a message")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(8) };

    fn restarted(name: &'static str) -> Task {
        Task { name, owner: "test", on_failure: OnFailure::Restart(BACKOFF) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_fails_or_panics_starts_again() {
        let (tasks, _failures) = Tasks::new(Clock::system());
        let runs = Arc::new(AtomicU32::new(0));
        let (done, finished) = tokio::sync::oneshot::channel();
        let (counted, mut done) = (Arc::clone(&runs), Some(done));
        tasks.spawn(restarted("flaky"), move || {
            let run = counted.fetch_add(1, Ordering::SeqCst);
            let done = if run == 2 { done.take() } else { None };
            async move {
                match run {
                    0 => anyhow::bail!("no luck"),
                    1 => panic!("worse luck"),
                    _ => done.unwrap().send(()).map_err(|()| anyhow::anyhow!("gone")),
                }
            }
        });
        finished.await.unwrap();
        assert_eq!(runs.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn pauses_grow_to_the_maximum_and_never_beyond() {
        let pauses: Vec<Duration> = BACKOFF.pauses().take(20).collect();
        assert!(pauses[0] >= BACKOFF.base);
        assert!(pauses.iter().all(|pause| *pause <= BACKOFF.max), "{pauses:?}");
        assert_eq!(pauses[19], BACKOFF.max);
    }

    #[tokio::test]
    async fn a_panic_of_a_vital_task_is_a_failure() {
        let (tasks, mut failures) = Tasks::new(Clock::system());
        let task = Task { name: "vital", owner: "test", on_failure: OnFailure::Stop };
        tasks.spawn(task, || async { panic!("gone") });
        assert_eq!(failures.next().await, "vital");
    }
}
