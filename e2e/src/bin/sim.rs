//! Simulates seeds: `sim --seeds 0..1000`, or `sim --seed 7` with its trace.
//!
//! Each seed has a process of its own, in which the system's random numbers and clocks are simulated too.

use std::ops::Range;
use std::process::{Command, ExitCode, Output};
use std::sync::Mutex;
use std::{io, thread};

use clap::Parser;
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Simulates a global and its zones while everything goes wrong.
#[derive(Parser)]
struct Args {
    /// Seeds, say `0..1000`.
    #[arg(long, value_parser = range, default_value = "0..50")]
    seeds: Range<u64>,
    /// One seed, with its trace.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let (first, end) = text.split_once("..").ok_or("expected two numbers, say 0..1000")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    Ok(number(first)?..number(end)?)
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.seed {
        Some(seed) => one(seed),
        None => many(args.seeds),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn one(seed: u64) -> io::Result<ExitCode> {
    mad_turmoil::rand::set_rng(StdRng::seed_from_u64(seed));
    // What this thread has used until now was random.
    let fresh = thread::Builder::new().stack_size(64 << 20).spawn(move || e2e::sim::run(seed))?;
    let outcome = fresh.join().map_err(|_| io::Error::other("the simulation panicked"))?;
    print!("{}", outcome.trace);
    Ok(if outcome.failure.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What all processes have found.
#[derive(Default)]
struct Found {
    failed: u64,
    /// In seconds.
    simulated: f64,
    latest: f64,
}

fn many(seeds: Range<u64>) -> io::Result<ExitCode> {
    let count = seeds.end.saturating_sub(seeds.start);
    let (left, found) = (Mutex::new(seeds), Mutex::new(Found::default()));
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let work = || -> io::Result<()> {
            while let Some(seed) = left.lock().map_err(poisoned)?.next() {
                let output = Command::new(std::env::current_exe()?).args(["--seed", &seed.to_string()]).output()?;
                found.lock().map_err(poisoned)?.add(seed, &output);
            }
            Ok(())
        };
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(poisoned)?)
    })?;
    let Found { failed, simulated, latest } = found.into_inner().map_err(poisoned)?;
    println!(
        "{count} seeds, {simulated:.0} s simulated, {failed} failed; all agreed {latest:.1} s after the last fault"
    );
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn poisoned<E>(_: E) -> io::Error {
    io::Error::other("a thread panicked")
}

impl Found {
    fn add(&mut self, seed: u64, output: &Output) {
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().last().unwrap_or_default();
        let mut words = last.split_whitespace();
        self.simulated += words.next().and_then(|time| time.parse().ok()).unwrap_or(0.0);
        if output.status.success() {
            self.latest = words.nth(2).and_then(|took| took.parse().ok()).unwrap_or(0.0_f64).max(self.latest);
        } else {
            self.failed += 1;
            println!("seed {seed}: {}{}", last.trim(), String::from_utf8_lossy(&output.stderr).trim());
        }
    }
}
