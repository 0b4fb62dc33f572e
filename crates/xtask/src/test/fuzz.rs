//! A short fuzzing run of every target in `fuzz/`, with stable Rust and without cargo-fuzz.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use cargo_metadata::MetadataCommand;

use super::steps::Passed;

/// Seconds per target: enough to replay the corpus and to find what a change broke in plain sight.
const SECONDS: &str = "15";
/// Bytes of memory, in MiB, above which a target fails.
const MEMORY: &str = "1024";

/// What `cargo fuzz -s none` passes: coverage feedback, and overflow and debug checks in an optimised build.
const FLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Ccodegen-units=1",
];

/// Builds and runs every target; seeds come from `fuzz/seeds/<target>`, finds go to `fuzz/target/artifacts`.
pub fn run(root: &Path) -> Result<Passed> {
    let manifest = root.join("fuzz/Cargo.toml");
    if !manifest.exists() {
        println!("fuzz: there is no target yet");
        return Ok(Passed::default());
    }
    let targets = targets(&manifest)?;
    let host = host()?;
    let build = Command::new(env!("CARGO"))
        .args(["build", "--release", "--bins", "--target", &host, "--manifest-path"])
        .arg(&manifest)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"))
        .current_dir(root.join("fuzz"))
        .status()
        .context("cannot start cargo")?;
    if !build.success() {
        bail!("the fuzz targets do not build ({build})");
    }
    let output = root.join("fuzz/target");
    for target in &targets {
        fuzz(root, &output, &output.join(&host).join("release").join(target), target)?;
    }
    Ok(Passed { passed: targets.len() as u64, ignored: 0 })
}

fn fuzz(root: &Path, output: &Path, program: &Path, target: &str) -> Result<()> {
    let corpus = output.join("corpus").join(target);
    let artifacts = output.join("artifacts").join(target);
    std::fs::create_dir_all(&corpus)?;
    std::fs::create_dir_all(&artifacts)?;
    let mut command = Command::new(program);
    command
        .arg(format!("-max_total_time={SECONDS}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg("-timeout=10")
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(&corpus);
    let seeds = root.join("fuzz/seeds").join(target);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    println!("fuzz: {target}, {SECONDS} s");
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
