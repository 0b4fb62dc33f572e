//! Time as an argument: the system's, or one that a test moves by hand.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;
use tokio::time::Instant;

/// Zero of [`Clock::elapsed`]. Tokio's instant, so that a paused runtime pauses the system clock's sleeps too.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Tells the time and waits. Cheap to clone; clones of one manual clock move together.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Default)]
enum Source {
    #[default]
    System,
    Manual(Arc<watch::Sender<Moment>>),
    Simulated(SimulatedClock),
}

#[derive(Clone, Copy)]
struct Moment {
    wall: DateTime<Utc>,
    elapsed: Duration,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// Wall time. It may jump, forwards and back: fit for timestamps, not for measuring.
    pub fn now(&self) -> DateTime<Utc> {
        match &self.0 {
            Source::System => Utc::now(),
            Source::Manual(moment) => moment.borrow().wall,
            Source::Simulated(clock) => clock.wall(),
        }
    }

    /// Time since a fixed moment of this process. It never goes back: fit for measuring.
    pub fn elapsed(&self) -> Duration {
        match &self.0 {
            Source::System => ORIGIN.elapsed(),
            Source::Manual(moment) => moment.borrow().elapsed,
            Source::Simulated(clock) => clock.origin.elapsed(),
        }
    }

    /// Waits for a length of monotonic time.
    pub async fn sleep(&self, length: Duration) {
        self.sleep_until(self.elapsed().saturating_add(length)).await;
    }

    /// Waits until [`Clock::elapsed`] has reached a value; returns at once when it has.
    pub async fn sleep_until(&self, deadline: Duration) {
        match &self.0 {
            Source::System | Source::Simulated(_) => {
                tokio::time::sleep(deadline.saturating_sub(self.elapsed())).await;
            }
            Source::Manual(moment) => {
                let reached = moment.subscribe().wait_for(|now| now.elapsed >= deadline).await.is_ok();
                debug_assert!(reached, "the clock itself holds the sender");
            }
        }
    }

    /// What a future gives, or `None` when it takes longer than `limit`.
    pub async fn timeout<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = self.sleep(limit) => None,
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::Manual(moment) => write!(f, "manual, at {}", moment.borrow().wall),
            Self::Simulated(clock) => write!(f, "simulated, at {}", clock.wall()),
        }
    }
}

/// The clock of one simulated machine: time passes as tokio's does, and the wall time can be set.
///
/// Make it inside the runtime of the machine, whose paused time it follows.
#[derive(Clone, Debug)]
pub struct SimulatedClock {
    origin: Instant,
    /// Wall time at the origin.
    wall: Arc<watch::Sender<DateTime<Utc>>>,
}

impl SimulatedClock {
    /// A clock that shows a wall time now, with nothing elapsed.
    pub fn at(wall: DateTime<Utc>) -> Self {
        Self { origin: Instant::now(), wall: Arc::new(watch::Sender::new(wall)) }
    }

    /// The clock to hand out.
    pub fn clock(&self) -> Clock {
        Clock(Source::Simulated(self.clone()))
    }

    /// Moves the wall time alone, forwards or back.
    pub fn jump(&self, by: TimeDelta) {
        self.wall.send_modify(|wall| *wall += by);
    }

    fn wall(&self) -> DateTime<Utc> {
        *self.wall.borrow() + self.origin.elapsed()
    }
}

/// The hand that moves a test's clock.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<watch::Sender<Moment>>);

impl ManualClock {
    /// A clock that stands still at a wall time, with nothing elapsed.
    pub fn at(wall: DateTime<Utc>) -> Self {
        Self(Arc::new(watch::Sender::new(Moment { wall, elapsed: Duration::ZERO })))
    }

    /// The clock to hand out.
    pub fn clock(&self) -> Clock {
        Clock(Source::Manual(Arc::clone(&self.0)))
    }

    /// Lets time pass; sleeps that are due end.
    pub fn advance(&self, length: Duration) {
        self.0.send_modify(|moment| {
            moment.wall += length;
            moment.elapsed += length;
        });
    }

    /// Sets the wall time alone, as an administrator or a time server does.
    pub fn set_wall(&self, wall: DateTime<Utc>) {
        self.0.send_modify(|moment| moment.wall = wall);
    }

    /// How many sleeps wait for this clock: lets a test advance only once its subject sleeps.
    pub fn sleepers(&self) -> usize {
        self.0.receiver_count()
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?} elapsed)", self.wall, self.elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_manual_sleep_ends_when_its_time_has_passed_and_not_before() {
        let hand = ManualClock::at(DateTime::UNIX_EPOCH);
        let clock = hand.clock();
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(HOUR).await }
        });
        while hand.sleepers() == 0 {
            tokio::task::yield_now().await;
        }
        hand.advance(HOUR - Duration::from_nanos(1));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        hand.advance(Duration::from_nanos(1));
        sleeper.await.unwrap();
        assert_eq!(clock.now(), DateTime::UNIX_EPOCH + HOUR);
    }

    #[tokio::test(start_paused = true)]
    async fn a_simulated_clock_follows_the_paused_time_and_its_wall_time_jumps() {
        let machine = SimulatedClock::at(DateTime::UNIX_EPOCH + HOUR);
        let clock = machine.clock();
        clock.sleep(HOUR).await;
        assert_eq!((clock.elapsed(), clock.now()), (HOUR, DateTime::UNIX_EPOCH + 2 * HOUR));
        machine.jump(-TimeDelta::hours(2));
        assert_eq!((clock.elapsed(), clock.now()), (HOUR, DateTime::UNIX_EPOCH));
    }

    #[test]
    fn a_jump_of_the_wall_clock_is_not_time_passed() {
        let hand = ManualClock::at(DateTime::UNIX_EPOCH + HOUR);
        hand.set_wall(DateTime::UNIX_EPOCH);
        assert_eq!(hand.clock().now(), DateTime::UNIX_EPOCH);
        assert_eq!(hand.clock().elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_system_clock_measures_and_times_out() {
        let clock = Clock::system();
        let before = clock.elapsed();
        clock.sleep(HOUR).await;
        assert!(clock.elapsed() - before >= HOUR);
        assert_eq!(clock.timeout(HOUR, std::future::pending::<()>()).await, None);
        assert_eq!(clock.timeout(HOUR, async { 7 }).await, Some(7));
    }
}
