//! Waiting for what should come, and seeing that what is stays.

use std::time::{Duration, Instant};

/// Between two looks.
const AGAIN: Duration = Duration::from_millis(20);

/// Looks until it holds; how long that took.
///
/// # Panics
/// It does not hold in time.
pub async fn eventually(limit: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(AGAIN).await;
    }
    let took = started.elapsed();
    println!("e2e: {:>6} ms  {what}", took.as_millis());
    took
}

/// Looks again and again for so long.
///
/// # Panics
/// It ceases to hold.
pub async fn throughout(length: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while started.elapsed() < length {
        assert!(holds().await, "no more after {:?}: {what}", started.elapsed());
        tokio::time::sleep(AGAIN).await;
    }
}
