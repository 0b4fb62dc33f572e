//! `cargo xtask fuzz`: targets in `fuzz/`, with stable Rust and without cargo-fuzz.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use cargo_metadata::MetadataCommand;

use crate::workspace;

/// Seconds per target that replay the corpus and find what a change broke in plain sight.
pub const SHORT: u32 = 15;
/// Memory above which a target fails.
const MEMORY_MIB: u32 = 1024;

/// What to fuzz.
#[derive(clap::Args)]
pub struct Args {
    /// One target; none runs all, one after the other.
    target: Option<String>,
    /// Seconds per target.
    #[arg(long, default_value_t = SHORT)]
    seconds: u32,
}

/// What `cargo fuzz -s none` passes: coverage feedback, and overflow and debug checks in an optimised build; but for one
/// codegen unit, with which the messages alone take minutes.
const FLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
];

/// Runs the command.
///
/// # Errors
/// There is no such target, the targets do not build, or an input breaks one.
pub fn run(args: &Args) -> Result<()> {
    run_targets(args.target.as_deref(), args.seconds).map(|_| ())
}

/// Builds the targets and runs one or all; says how many ran.
///
/// Inputs to start from are in `fuzz/seeds/<target>`; new ones go to `fuzz/target/corpus`, and one that breaks a
/// target to `fuzz/target/artifacts`.
///
/// # Errors
/// As [`run`].
pub fn run_targets(only: Option<&str>, seconds: u32) -> Result<u64> {
    let fuzz = workspace::root().join("fuzz");
    let manifest = fuzz.join("Cargo.toml");
    if !manifest.exists() {
        println!("fuzz: there is no target yet");
        return Ok(0);
    }
    let mut targets = targets(&manifest)?;
    if let Some(only) = only {
        if !targets.iter().any(|target| target == only) {
            bail!("no fuzz target is called {only:?}; there are: {}", targets.join(", "));
        }
        targets.retain(|target| target == only);
    }
    let host = host()?;
    let build = Command::new(env!("CARGO"))
        .args(["build", "--release", "--bins", "--target", &host])
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"))
        .current_dir(&fuzz)
        .status()
        .context("cannot start cargo")?;
    if !build.success() {
        bail!("the fuzz targets do not build ({build})");
    }
    for target in &targets {
        let program = fuzz.join("target").join(&host).join("release").join(target);
        run_target(&fuzz, &program, target, seconds)?;
    }
    Ok(targets.len() as u64)
}

fn run_target(fuzz: &Path, program: &Path, target: &str, seconds: u32) -> Result<()> {
    let corpus = fuzz.join("target/corpus").join(target);
    let artifacts = fuzz.join("target/artifacts").join(target);
    std::fs::create_dir_all(&corpus)?;
    std::fs::create_dir_all(&artifacts)?;
    let mut command = Command::new(program);
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
        .args(["-timeout=10", "-print_final_stats=1", "-verbosity=0"])
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(&corpus);
    let seeds = fuzz.join("seeds").join(target);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    println!("fuzz: {target}, {seconds} s");
    let status = command.status().with_context(|| format!("cannot start {}", program.display()))?;
    if !status.success() {
        bail!("{target} found an input that breaks it; it is in {}", artifacts.display());
    }
    Ok(())
}

fn targets(manifest: &Path) -> Result<Vec<String>> {
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().context("cargo metadata")?;
    let all = metadata.packages.iter().flat_map(|package| &package.targets);
    Ok(all.filter(|target| target.is_bin()).map(|target| target.name.clone()).collect())
}

/// A target named on the command line keeps the flags away from build scripts.
fn host() -> Result<String> {
    let output = Command::new("rustc").args(["--print", "host-tuple"]).output().context("cannot start rustc")?;
    if !output.status.success() {
        bail!("rustc --print host-tuple ({})", output.status);
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
