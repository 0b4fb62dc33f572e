//! `cargo xtask sim`: the simulation of KDS, in `e2e/src/sim`.

use std::time::Instant;

use anyhow::Result;

use crate::test::cargo;

/// What to simulate.
#[derive(clap::Args)]
pub struct Args {
    /// Seeds, say `0..1000`.
    #[arg(long, default_value = "0..50")]
    seeds: String,
    /// One seed, with its trace: equal seeds give equal traces.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
}

/// Runs the command.
///
/// # Errors
/// Something was lost, came back or did not agree; the trace of its seed shows how.
pub fn run(args: &Args) -> Result<()> {
    let (flag, value) = match args.seed {
        Some(seed) => ("--seed", seed.to_string()),
        None => ("--seeds", args.seeds.clone()),
    };
    let started = Instant::now();
    let ran = cargo(&["run", "--quiet", "--package", "e2e", "--bin", "sim", "--", flag, &value]);
    if args.seed.is_none() {
        println!("took {:.0} s", started.elapsed().as_secs_f64());
    }
    ran.map(|_| ())
}
