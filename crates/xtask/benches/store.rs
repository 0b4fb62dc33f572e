//! `cargo xtask bench store`: the store on both databases, with disks that sync.
//!
//! `--resources N` (100,000 unless given) sizes the list and the load.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use model::{Key, Kind, Labels, Payload, Resource};
use store::test_support::{Setup, TestPostgres};
use store::{Backend, Batch, Selection, Settings, Store, Write};

/// Goals: the feed's 99th percentile on SQLite and PostgreSQL, and the load of 100,000 resources.
const FEED_GOAL: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(15)];
const LOAD_GOAL: Duration = Duration::from_secs(2);
const WRITES: usize = 1_000;
const BATCHES: usize = 10;
const BATCH: usize = 1_000;

#[derive(clap::Parser)]
struct Args {
    /// Resources to list and load.
    #[arg(long, default_value_t = 100_000)]
    resources: usize,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = <Args as clap::Parser>::parse();
    tokio::runtime::Runtime::new()?.block_on(run(args.resources))
}

async fn run(resources: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    println!("SQLite");
    let sqlite = Backend::sqlite(folder.path().join("bench.db"));
    measure(sqlite, resources, FEED_GOAL[0]).await?;
    println!("PostgreSQL (fsync on, same machine)");
    let server = TestPostgres::start(Setup { fsync: true, inside: None })?;
    measure(Backend::Postgres(server.database().await?), resources, FEED_GOAL[1]).await
}

async fn measure(backend: Backend, resources: usize, feed_goal: Duration) -> Result<()> {
    let settings = Settings { migrate_on_open: true, ..Settings::new(backend) };
    let store = Store::open(settings.clone()).await?;
    single_writes(&store).await?;
    batches(&store).await?;
    fill(&store, resources).await?;
    feed(&store, &settings, feed_goal).await?;
    list(&store, resources).await?;
    store.close().await;
    drop(store);
    load(settings, resources).await
}

fn dataplane(n: usize) -> Resource {
    let labels: Labels = [("kuma.io/zone", "east"), ("kuma.io/origin", "zone")].into_iter().collect();
    Resource::new(
        Key::new(Kind::Dataplane, "default", &format!("dp-{n:06}")),
        labels,
        Payload::from_bytes(vec![7; 256]),
    )
}

async fn single_writes(store: &Store) -> Result<()> {
    let mut current = store.apply(Batch::new().create(dataplane(0))).await?.resources.remove(0);
    let mut took = Vec::with_capacity(WRITES);
    let started = Instant::now();
    for n in 0..WRITES {
        let begun = Instant::now();
        let next = Resource { spec: Payload::from_bytes(n.to_le_bytes().to_vec()), ..Resource::clone(&current) };
        current = store.apply(Batch::new().update(next)).await?.resources.remove(0);
        took.push(begun.elapsed());
    }
    let rate = WRITES as f64 / started.elapsed().as_secs_f64();
    let (p50, p99) = percentiles(&mut took);
    println!("  compare-and-set, one writer      {rate:8.0} /s   p50 {} p99 {}", ms(p50), ms(p99));
    Ok(())
}

async fn batches(store: &Store) -> Result<()> {
    let mut took = Vec::new();
    for round in 0..BATCHES {
        let batch: Batch = (0..BATCH).map(|n| put(dataplane(round * BATCH + n + 1))).collect();
        let begun = Instant::now();
        store.apply(batch).await?;
        took.push(begun.elapsed());
    }
    let (p50, p99) = percentiles(&mut took);
    let rate = BATCH as f64 / p50.as_secs_f64();
    println!("  batch of {BATCH:5}                   {rate:8.0} /s   p50 {} max {}", ms(p50), ms(p99));
    Ok(())
}

fn put(resource: Resource) -> Write {
    Write::Put { resource, owner: None }
}

async fn fill(store: &Store, resources: usize) -> Result<()> {
    let have = store.configuration().borrow().len();
    for first in (have..resources).step_by(5_000) {
        store.apply((first..resources.min(first + 5_000)).map(|n| put(dataplane(n))).collect()).await?;
    }
    Ok(())
}

/// From the end of the commit until the snapshot is published: in the writer's own store, and in another one that only
/// the feed tells (on PostgreSQL; a file has one store).
async fn feed(store: &Store, settings: &Settings, goal: Duration) -> Result<()> {
    let other = match settings.backend {
        Backend::Postgres(_) => Some(Store::open(settings.clone()).await?),
        _ => None,
    };
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for n in 0..WRITES {
        let mut resource = dataplane(n);
        resource.meta.labels = resource.meta.labels.with("round", "feed");
        let seen = other.as_ref().map(|other| {
            let (mut snapshots, key) = (other.configuration(), resource.meta.key.clone());
            tokio::spawn(async move {
                let is_new = |found: &Arc<Resource>| found.meta.labels.get("round").is_some();
                snapshots.wait_for(|snapshot| snapshot.get(&key).is_some_and(is_new)).await?;
                anyhow::Ok(Instant::now())
            })
        });
        let applied = store.apply(Batch::new().with(put(resource))).await?;
        let committed = Instant::now() - applied.published_after;
        here.push(applied.published_after);
        if let Some(seen) = seen {
            there.push(seen.await??.saturating_duration_since(committed));
        }
    }
    report("commit to snapshot, same store", &mut here, goal);
    if !there.is_empty() {
        report("commit to snapshot, other store", &mut there, goal);
    }
    Ok(())
}

fn report(what: &str, took: &mut [Duration], goal: Duration) {
    let (p50, p99) = percentiles(took);
    println!(
        "  {what:32}               p50 {} p99 {} (goal p99 {}: {})",
        ms(p50),
        ms(p99),
        ms(goal),
        verdict(p99 <= goal)
    );
}

async fn list(store: &Store, resources: usize) -> Result<()> {
    let begun = Instant::now();
    let listed = store.list(&Selection::of(Kind::Dataplane)).await?.len();
    anyhow::ensure!(listed >= resources, "listed {listed} of {resources}");
    let took = begun.elapsed();
    let rate = listed as f64 / took.as_secs_f64();
    println!("  list of {listed}                 {rate:8.0} /s   {}", ms(took));
    Ok(())
}

async fn load(settings: Settings, resources: usize) -> Result<()> {
    let begun = Instant::now();
    let store = Store::open(settings).await.context("opening the filled store")?;
    let took = begun.elapsed();
    anyhow::ensure!(store.configuration().borrow().len() >= resources, "not everything was loaded");
    println!(
        "  open with {resources}                            {} (goal {}: {})",
        ms(took),
        ms(LOAD_GOAL),
        verdict(took <= LOAD_GOAL)
    );
    store.close().await;
    Ok(())
}

fn percentiles(took: &mut [Duration]) -> (Duration, Duration) {
    took.sort();
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
    (at(50), at(99))
}

fn ms(length: Duration) -> String {
    format!("{:.2} ms", length.as_secs_f64() * 1e3)
}

fn verdict(kept: bool) -> &'static str {
    if kept { "kept" } else { "MISSED" }
}
