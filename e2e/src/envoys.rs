//! Real Envoys.

use std::fs;
use std::path::{Path, PathBuf};

/// The program of an Envoy whose version starts so, `1.36.`, which `cargo xtask envoys` has fetched.
///
/// # Errors
/// It has not.
pub fn envoy(version: &str) -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()));
    let folders = fs::read_dir(target.join("envoy")).into_iter().flatten().flatten();
    let fits = |folder: &fs::DirEntry| folder.file_name().to_string_lossy().starts_with(version);
    let mut programs =
        folders.filter(fits).map(|folder| folder.path().join("envoy")).filter(|program| program.exists());
    let found = programs.next().and_then(|program| program.canonicalize().ok());
    found.ok_or_else(|| format!("there is no Envoy {version}*; run: cargo xtask envoys"))
}
