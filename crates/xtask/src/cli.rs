//! The commands and who runs them.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{bench, codegen, demo, envoys, fuzz, recordings, sim, test, tidy, workspace};

/// The workspace's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check everything that CI checks; what the machine lacks is installed first.
    Test(test::Args),
    /// Check the rules of the house: dependencies, sizes, citations, generated code.
    Tidy,
    /// Fuzz everything that reads what others wrote.
    Fuzz(fuzz::Args),
    /// Simulate a global and its zones while everything goes wrong: `--seeds 0..1000`, or `--seed 7` with its trace.
    Sim(sim::Args),
    /// Write the Rust of kds-proto's messages anew.
    Codegen,
    /// Measure: `cargo xtask bench <name>`; without a name, list what can be measured.
    Bench(bench::Args),
    /// Fetch the Envoys that tests run, into the target folder.
    Envoys,
    /// Start a whole mesh on this machine.
    Demo,
    /// Import what tests replay of the real system's recordings.
    Recordings(recordings::Args),
}

/// Runs the command of the command line; an error is printed with its causes and gives exit code 1.
pub fn run() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    match command {
        Command::Test(args) => test::run(&args),
        Command::Tidy => tidy::run(),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Sim(args) => sim::run(&args),
        Command::Codegen => codegen::write(&workspace::root()),
        Command::Bench(args) => bench::run(&args),
        Command::Envoys => envoys::set_up(),
        Command::Demo => demo::run(),
        Command::Recordings(args) => recordings::run(&args),
    }
}
