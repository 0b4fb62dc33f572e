//! `cargo xtask test`: everything that has to hold before a change is merged, from a bare machine on.
//!
//! A step that fails does not hide the next one: all run, the last line tells which failed.

mod setup;
mod steps;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{collector, envoys, fuzz, tidy};
use steps::Passed;
pub use steps::cargo;

/// How much to run.
#[derive(clap::Args)]
pub struct Args {
    /// Leave out what is slow: tests marked `#[ignore = "slow: .."]` and fuzzing.
    #[arg(long)]
    quick: bool,
}

/// One step: its name, whether `--quick` leaves it out, and what it does.
struct Step {
    name: &'static str,
    slow: bool,
    run: Box<dyn FnOnce() -> Result<Passed>>,
}

/// Installs what is missing, then runs every step and prints a line for each.
///
/// # Errors
/// Something is missing and cannot be installed, or a step failed; its own output says why.
pub fn run(args: &Args) -> Result<()> {
    let start = Instant::now();
    setup::run(setup::FOR_TESTS)?;
    envoys::set_up()?;
    collector::set_up();
    let mut summary = Vec::new();
    let mut failed = Vec::new();
    for step in steps(args.quick) {
        if step.slow && args.quick {
            summary.push(format!("{:<8} left out (--quick)", step.name));
            continue;
        }
        println!("test: ── {} ──", step.name);
        let start = Instant::now();
        let outcome = (step.run)();
        let took = seconds(start.elapsed());
        summary.push(match outcome {
            Ok(passed) => format!("{:<8} ok      {took:>8}  {passed}", step.name),
            Err(error) => {
                failed.push(step.name);
                format!("{:<8} FAILED  {took:>8}  {error:#}", step.name)
            }
        });
        println!("test: {}", summary.last().map_or("", String::as_str));
    }
    println!("test: ── summary ──");
    summary.iter().for_each(|line| println!("test: {line}"));
    let took = seconds(start.elapsed());
    if !failed.is_empty() {
        bail!("test: FAILED after {took}: {}", failed.join(", "));
    }
    println!("test: all passed in {took}");
    Ok(())
}

/// The tests come last, so that a log ends with what they say.
fn steps(quick: bool) -> Vec<Step> {
    vec![
        step("format", || cargo(&["fmt", "--all", "--check"])),
        step("tidy", || tidy::run().map(|()| Passed::default())),
        step("lint", || cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])),
        Step { slow: true, ..step("fuzz", || fuzz::run_targets(None, fuzz::SHORT).map(Passed::all)) },
        step("tests", move || steps::cargo_test(quick)),
    ]
}

fn step(name: &'static str, run: impl FnOnce() -> Result<Passed> + 'static) -> Step {
    Step { name, slow: false, run: Box::new(run) }
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}
