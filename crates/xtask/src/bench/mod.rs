//! `cargo xtask bench <name>`: measurements, always of an optimised build.
//!
//! A measurement is a program of its own, `crates/xtask/benches/<name>.rs` or `<name>/main.rs`, with a `[[bench]]`
//! entry in the manifest (`harness = false`) and what it needs under `[dev-dependencies]`: so these commands build
//! without the crates that they measure, and `clippy --all-targets` still sees every measurement. What follows the name
//! is passed on.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workspace;

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// Name of the measurement; none lists them.
    name: Option<String>,
    /// Passed to the measurement.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Builds and runs one measurement, or lists all.
///
/// # Errors
/// There is no such measurement, it does not build, or it fails.
pub fn run(args: &Args) -> Result<()> {
    let root = workspace::root();
    let known = names(&root.join("crates/xtask/benches"))?;
    let Some(name) = &args.name else {
        println!("{}", if known.is_empty() { "nothing to measure yet".to_owned() } else { known.join("\n") });
        return Ok(());
    };
    if !known.contains(name) {
        bail!("no measurement is called {name:?}; there are: {}", known.join(", "));
    }
    let status = Command::new(env!("CARGO"))
        .args(["bench", "--package", "xtask", "--bench", name, "--"])
        .args(&args.rest)
        .current_dir(&root)
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("bench {name} failed ({status})");
    }
    Ok(())
}

fn names(folder: &Path) -> Result<Vec<String>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") || path.join("main.rs").exists() {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}
