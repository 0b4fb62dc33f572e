//! `cargo xtask bench kds`: a real global process, and zones that one process simulates.
//!
//! The hub is `kuma-global`, built for release and started as a user would, KDS in plaintext; its processor time and
//! memory are read from `/proc`. Zones and hub share this machine's processors, so latencies hold what the zones cost.
//! `--zones 10,100,1000`, `--dataplanes 100` (of each zone), `--rounds 100` changes of each sort, `--store sqlite`,
//! `postgres` or `both`.

#[path = "../support/hub.rs"]
#[expect(dead_code, reason = "another measurement needs the rest")]
mod hub;
mod rest;
mod zones;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use store::test_support::{Setup, TestPostgres};

use hub::{Database, Hub};
use rest::Client;
use zones::{Board, Fleet};

/// Longest wait for anything: a measurement that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long nothing happens, to see what that costs.
const REST: Duration = Duration::from_secs(10);

#[derive(Clone, clap::Parser)]
struct Args {
    /// Numbers of zones to measure with.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1_000])]
    zones: Vec<usize>,
    /// Dataplanes of each zone.
    #[arg(long, default_value_t = 100)]
    dataplanes: usize,
    /// Changes of each sort.
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// Database of the hub.
    #[arg(long, default_value = "both", value_parser = ["sqlite", "postgres", "both"])]
    store: String,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = <Args as clap::Parser>::parse();
    hub::build()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for zones in &args.zones {
        if args.store != "postgres" {
            println!("{zones} zones × {} dataplanes, SQLite", args.dataplanes);
            runtime.block_on(measure(Database::Sqlite, *zones, &args))?;
        }
        if args.store != "sqlite" {
            println!("{zones} zones × {} dataplanes, PostgreSQL (fsync on, same machine)", args.dataplanes);
            let postgres = TestPostgres::start(Setup { fsync: true, inside: None })?;
            let database = runtime.block_on(postgres.database())?;
            runtime.block_on(measure(Database::Postgres(Box::new(database)), *zones, &args))?;
        }
    }
    Ok(())
}

/// One hub, from its start to its restart.
async fn measure(database: Database, zones: usize, args: &Args) -> Result<()> {
    let mut hub = Hub::start(database).await?;
    hub.until_ready(PATIENCE)?;
    let goals = Goals::of(zones);

    let began = Instant::now();
    let fleet = Fleet::join(hub.kds, zones, args.dataplanes);
    let board = fleet.board();
    board.in_sync(PATIENCE).await?;
    let spent = hub.processor_time()?;
    println!("  {:34} {:>9}   CPU {}", "first sync, all zones at once", ms(began.elapsed()), ms(spent));

    idle(&hub, goals).await?;
    // The hub closes connections on which nobody asks.
    let mut client = Client::connect(hub.api).await?;
    policies(&hub, &mut client, board, args.rounds, goals).await?;
    ingresses(&hub, &fleet, args.rounds, goals).await?;

    hub.kill()?;
    board.forget();
    let began = Instant::now();
    hub.start_again().await?;
    board.in_sync(PATIENCE).await?;
    let verdict = goal(began.elapsed(), goals.restart);
    println!("  {:34} {:>9}   {verdict}", "kill -9, start, all in sync", ms(began.elapsed()));
    fleet.leave();
    hub.kill()
}

/// What nothing costs, and what is held.
async fn idle(hub: &Hub, goals: Goals) -> Result<()> {
    // The counters of the first sync are written within an interval of insights.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let (cpu, began) = (hub.processor_time()?, Instant::now());
    tokio::time::sleep(REST).await;
    let share = (hub.processor_time()? - cpu).as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
    let (idle, rss) =
        (goals.idle.map_or(String::new(), |goal| format!("(goal {goal} %: {})", kept(share <= goal))), hub.memory()?);
    println!("  {:34} {share:>7.2} %   {idle}", "CPU when nothing changes");
    let mib = rss as f64 / f64::from(1 << 20);
    let verdict = goals.memory.map_or(String::new(), |goal| format!("(goal {goal} MiB: {})", kept(mib <= goal)));
    println!("  {:34} {mib:>5.0} MiB   {verdict}", "memory of the hub (RSS)");
    Ok(())
}

/// A policy is put on the hub: how long until the last zone has it.
async fn policies(hub: &Hub, client: &mut Client, board: &Arc<Board>, rounds: usize, goals: Goals) -> Result<()> {
    let (cpu, bytes) = (hub.processor_time()?, board.bytes());
    let mut took = Vec::with_capacity(rounds);
    for n in 1..=rounds {
        let arrival = board.expect("MeshTimeout", board.zones());
        let sent = Instant::now();
        client.put_timeout(n).await?;
        took.push(arrival.last(PATIENCE).await?.duration_since(sent));
    }
    report("policy put → last zone has it", &mut took, goals.policy)?;
    costs(hub, cpu, board.bytes() - bytes, rounds * board.zones())
}

/// An ingress of one zone changes: how long until the last of the others has it.
async fn ingresses(hub: &Hub, fleet: &Fleet, rounds: usize, goals: Goals) -> Result<()> {
    let board = fleet.board();
    let (cpu, bytes) = (hub.processor_time()?, board.bytes());
    let mut took = Vec::with_capacity(rounds);
    for n in 1..=rounds {
        let arrival = board.expect("ZoneIngress", board.zones() - 1);
        let sent = Instant::now();
        fleet.change_ingress(n % board.zones(), n)?;
        took.push(arrival.last(PATIENCE).await?.duration_since(sent));
    }
    report("ingress changed → last other zone", &mut took, goals.ingress)?;
    costs(hub, cpu, board.bytes() - bytes, rounds * (board.zones() - 1))
}

fn report(what: &str, took: &mut [Duration], limit: Option<Duration>) -> Result<()> {
    ensure!(!took.is_empty(), "no round was measured");
    took.sort();
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
    println!("  {what:34} {:>9}   p50 {} {}", ms(at(99)), ms(at(50)), goal(at(99), limit));
    Ok(())
}

fn costs(hub: &Hub, before: Duration, bytes: u64, deliveries: usize) -> Result<()> {
    let each = (hub.processor_time()? - before).as_secs_f64() * 1e6 / deliveries as f64;
    let size = bytes / deliveries as u64;
    println!("  {:34} {each:>6.1} µs   {size} bytes (goal 50 µs: {})", "  CPU for each zone", kept(each <= 50.0));
    Ok(())
}

/// What is aimed at, where something is.
#[derive(Clone, Copy)]
struct Goals {
    policy: Option<Duration>,
    ingress: Option<Duration>,
    restart: Option<Duration>,
    idle: Option<f64>,
    memory: Option<f64>,
}

impl Goals {
    fn of(zones: usize) -> Self {
        let ms = |length| Some(Duration::from_millis(length));
        Self {
            policy: match zones {
                ..=10 => ms(10),
                11..=100 => ms(50),
                _ => ms(500),
            },
            ingress: (zones <= 10).then_some(Duration::from_millis(20)),
            restart: (zones <= 100).then_some(Duration::from_secs(2)),
            idle: (zones >= 1_000).then_some(2.0),
            memory: (zones >= 1_000).then_some(1_024.0),
        }
    }
}

fn goal(took: Duration, limit: Option<Duration>) -> String {
    limit.map_or(String::new(), |limit| format!("(goal {}: {})", ms(limit), kept(took <= limit)))
}

fn ms(length: Duration) -> String {
    format!("{:.1} ms", length.as_secs_f64() * 1e3)
}

fn kept(yes: bool) -> &'static str {
    if yes { "kept" } else { "MISSED" }
}
