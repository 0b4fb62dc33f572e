//! How long a `kuma-global` takes from its start until it is ready, as a process of its own.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::hub::{self, Database, Hub};
use crate::{ms, verdict};

/// With nothing stored, when it makes keys and everything else that it needs; and with a full store.
const EMPTY_GOAL: Duration = Duration::from_millis(300);
const FULL_GOAL: Duration = Duration::from_secs(3);

/// First starts; making keys takes its time by chance.
const FIRSTS: usize = 10;
const RESTARTS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);

/// First starts, and starts on a file that is full.
pub async fn measure(full: &Path) -> Result<()> {
    hub::build()?;
    let (mut took, mut cpu) = (Vec::new(), Duration::ZERO);
    for _ in 0..FIRSTS {
        let began = Instant::now();
        let mut hub = Hub::start(Database::Sqlite).await?;
        hub.until_ready(PATIENCE)?;
        took.push(began.elapsed());
        cpu += hub.processor_time()?;
    }
    report("first start to ready", took, cpu / FIRSTS as u32, EMPTY_GOAL);

    // What it makes is there from then on.
    Hub::start(Database::File(full.to_owned())).await?.until_ready(PATIENCE)?;
    let (mut took, mut cpu) = (Vec::new(), Duration::ZERO);
    for _ in 0..RESTARTS {
        let began = Instant::now();
        let mut hub = Hub::start(Database::File(full.to_owned())).await?;
        hub.until_ready(PATIENCE)?;
        took.push(began.elapsed());
        cpu += hub.processor_time()?;
    }
    report("start to ready, all stored", took, cpu / RESTARTS as u32, FULL_GOAL);
    Ok(())
}

fn report(what: &str, mut took: Vec<Duration>, cpu: Duration, goal: Duration) {
    took.sort();
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    println!(
        "  {what:28}            p50 {} worst {}   CPU {} (goal p50 {}: {})",
        ms(median),
        ms(worst),
        ms(cpu),
        ms(goal),
        verdict(median <= goal)
    );
}
