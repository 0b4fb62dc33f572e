//! `cargo xtask bench router`: our router beside Envoy, HAProxy and nginx, in one run and turn about.
//!
//! All route three server names to three backends on loopback, with two threads or processes each; ours and Envoy read
//! the same file. Every round measures all of them, in an order that shifts; the figures are medians over rounds, and
//! only their ratios count: clients, backends and proxies share the processors. Processor time is that of the proxy's
//! threads and processes alone. `--rounds 5`, `--only router,envoy`, `--skip bulk,idle`.
//!
//! Peers are fetched once: Envoy as for tests (`cargo xtask envoys`), the others from Debian into `target/peers`.

mod ends;
#[expect(dead_code, reason = "only the set-up of tests fetches all of them")]
#[path = "../../src/envoys.rs"]
mod envoys;
mod hello;
#[path = "../../src/packaged.rs"]
mod packaged;
mod peers;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use ends::{Backends, Pair};
use peers::{Kind, Peer, Plan};

/// Connections of one turn of the first measure.
const CONNECTIONS: usize = 4_000;
/// Length of one turn of bulk, each way.
const BULK: Duration = Duration::from_secs(2);
/// Messages of one turn of ping-pong, and how many turns make a round.
const MESSAGES: usize = 500;
const TURNS: usize = 8;
/// Connections that are held idle.
const IDLE: usize = 4_000;
/// Routes of the last measure.
const ROUTES: usize = 10_000;

#[derive(Clone, clap::Parser)]
struct Args {
    /// How often everything is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Programs to measure.
    #[arg(long, value_delimiter = ',', default_values = ["router", "envoy", "haproxy", "nginx"])]
    only: Vec<String>,
    /// Measures to leave out.
    #[arg(long, value_delimiter = ',')]
    skip: Vec<String>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A row of the table: its goal is a ratio to Envoy, or a value.
struct Measure {
    name: &'static str,
    unit: &'static str,
    goal: Option<Goal>,
}

enum Goal {
    Ratio { must: f64, goal: f64 },
    Value(f64),
}

const MEASURES: &[Measure] = &[
    ratio("CPU per new connection", "µs", 0.45, 0.40),
    ratio("CPU per GiB, down", "s", 0.33, 0.28),
    ratio("CPU per GiB, up", "s", 0.33, 0.28),
    ratio("added p50 of a 1-KiB ping-pong", "µs", 0.65, 0.58),
    Measure { name: "CPU per ping-pong", unit: "µs", goal: None },
    value("memory per 10,000 idle", "MiB", 15.0),
    value("10,000 routes: start → routed", "s", 0.1),
    value("10,000 routes: memory", "MiB", 60.0),
    value("weights 2/1/5: worst deviation", "", 1.0),
];

const fn ratio(name: &'static str, unit: &'static str, must: f64, goal: f64) -> Measure {
    Measure { name, unit, goal: Some(Goal::Ratio { must, goal }) }
}

const fn value(name: &'static str, unit: &'static str, goal: f64) -> Measure {
    Measure { name, unit, goal: Some(Goal::Value(goal)) }
}

/// Values by measure and program.
type Results = BTreeMap<(&'static str, Kind), Vec<f64>>;

fn main() -> Result<()> {
    let args = <Args as clap::Parser>::parse();
    let kinds: Vec<Kind> = args.only.iter().map(|name| Kind::named(name)).collect::<Result<_>>()?;
    peers::fetch(&kinds)?;
    let backends = Backends::start()?;
    let mut results = Results::new();
    for round in 0..args.rounds {
        eprintln!("round {} of {}", round + 1, args.rounds);
        let mut order = kinds.clone();
        order.rotate_left(round % kinds.len());
        measure(&order, &backends, &args, &mut results)?;
    }
    print(&kinds, &results);
    Ok(())
}

fn measure(order: &[Kind], backends: &Backends, args: &Args, results: &mut Results) -> Result<()> {
    let wanted = |measure: &str| !args.skip.iter().any(|skipped| skipped == measure);
    let plan = Plan::three(backends);
    let started: Vec<Peer> = order.iter().map(|kind| Peer::start(*kind, &plan)).collect::<Result<_>>()?;
    let mut add = |measure, peer: &Peer, value| results.entry((measure, peer.kind)).or_default().push(value);
    if wanted("connections") {
        for peer in &started {
            ends::connections(peer.address, CONNECTIONS / 8)?;
            let cpu = peer.processor_time()?;
            ends::connections(peer.address, CONNECTIONS)?;
            let spent = peer.processor_time()? - cpu;
            add("CPU per new connection", peer, spent.as_secs_f64() * 1e6 / CONNECTIONS as f64);
        }
    }
    if wanted("bulk") {
        for peer in &started {
            for (way, name) in [(ends::Way::Down, "CPU per GiB, down"), (ends::Way::Up, "CPU per GiB, up")] {
                let cpu = peer.processor_time()?;
                let bytes = ends::bulk(peer.address, way, BULK)?;
                let spent = peer.processor_time()? - cpu;
                add(name, peer, spent.as_secs_f64() / (bytes as f64 / f64::from(1 << 30)));
            }
        }
    }
    if wanted("latency") {
        let mut pairs: Vec<Pair> = started.iter().map(|peer| Pair::open(peer.address)).collect::<Result<_>>()?;
        let mut direct = Pair::open(backends.echo())?;
        let before: Vec<Duration> = started.iter().map(Peer::processor_time).collect::<Result<_>>()?;
        for _ in 0..TURNS {
            direct.turn(MESSAGES)?;
            pairs.iter_mut().try_for_each(|pair| pair.turn(MESSAGES))?;
        }
        let base = direct.median();
        for ((peer, pair), before) in started.iter().zip(&mut pairs).zip(before) {
            add("added p50 of a 1-KiB ping-pong", peer, (pair.median() - base).max(0.1));
            let spent = (peer.processor_time()? - before).as_secs_f64() * 1e6;
            add("CPU per ping-pong", peer, spent / (MESSAGES * TURNS) as f64);
        }
    }
    drop(started);
    for kind in order {
        if wanted("idle") {
            let peer = Peer::start(*kind, &plan)?;
            let base = peer.memory()?;
            let held = ends::hold(peer.address, IDLE)?;
            let grown = peer.memory()?.saturating_sub(base) as f64 / f64::from(1 << 20);
            add("memory per 10,000 idle", &peer, grown * 10_000.0 / IDLE as f64);
            drop(held);
        }
        if wanted("routes") {
            let plan = Plan::many(backends, ROUTES);
            let files = peers::Files::write(*kind, &plan)?;
            let began = Instant::now();
            let peer = Peer::run(*kind, files)?;
            ends::until_routed(peer.address, &plan.last_name())?;
            add("10,000 routes: start → routed", &peer, began.elapsed().as_secs_f64());
            add("10,000 routes: memory", &peer, peer.memory()? as f64 / f64::from(1 << 20));
        }
        if wanted("weights") {
            let plan = Plan::weighted(backends, &[2, 1, 5]);
            let peer = Peer::start(*kind, &plan)?;
            let counts = backends.counted(|| ends::connections_to(peer.address, "weighted{mesh=default}", 10_000))?;
            let shares = [2_500, 1_250, 6_250];
            let worst = counts.iter().zip(shares).map(|(count, share)| count.abs_diff(share)).max().unwrap_or_default();
            add("weights 2/1/5: worst deviation", &peer, worst as f64);
        }
    }
    Ok(())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn print(kinds: &[Kind], results: &Results) {
    let header: Vec<String> = kinds.iter().map(|kind| format!(" {} |", kind.name())).collect();
    println!("| measure (median) |{} ours / Envoy | goal |", header.concat());
    println!("|---|{}---|---|", "---:|".repeat(kinds.len()));
    for Measure { name, unit, goal } in MEASURES {
        let of = |kind: Kind| results.get(&(*name, kind)).map(|values| median(values));
        if kinds.iter().all(|kind| of(*kind).is_none()) {
            continue;
        }
        let cells: Vec<String> =
            kinds.iter().map(|kind| of(*kind).map_or(" |".to_owned(), |v| format!(" {v:.2} |"))).collect();
        let ratio = of(Kind::Router).zip(of(Kind::Envoy)).map(|(ours, envoy)| ours / envoy);
        let goal = match goal {
            Some(Goal::Ratio { must, goal }) => {
                format!("{must} / {goal}: {}", verdict(ratio.map(|r| grade(r, *must, *goal))))
            }
            Some(Goal::Value(most)) => format!("{most}: {}", verdict(of(Kind::Router).map(|v| grade(v, *most, *most)))),
            None => String::new(),
        };
        let ratio = ratio.filter(|ratio| ratio.is_finite()).map_or(String::new(), |ratio| format!("{ratio:.2}"));
        println!("| {name}, {unit} |{} {ratio} | {goal} |", cells.concat());
    }
}

fn grade(value: f64, must: f64, goal: f64) -> &'static str {
    if value <= goal {
        "kept"
    } else if value <= must {
        "must kept, goal missed"
    } else {
        "MISSED"
    }
}

fn verdict(grade: Option<&'static str>) -> &'static str {
    grade.unwrap_or("not measured")
}

impl Kind {
    fn named(name: &str) -> Result<Self> {
        match Self::ALL.iter().find(|kind| kind.name() == name) {
            Some(kind) => Ok(*kind),
            None => bail!("no program is called {name:?}; there are router, envoy, haproxy, nginx"),
        }
    }
}
