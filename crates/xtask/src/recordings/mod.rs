//! `cargo xtask recordings --from DIR`: what tests replay of recordings of the real system, as compact JSON lines.
//!
//! The recordings lie outside the project; a test reads only what is committed here. An import is a pure function
//! of the recordings, so a test can say whether what is committed is current (`RECORDINGS_DIR`).

mod bootstrap;
mod config;
mod envoy;
mod kds;
mod kumactl;
mod rest;
mod tokens;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::workspace;

/// Where the recordings are.
#[derive(clap::Args)]
pub struct Args {
    /// Folder that holds `kds`, `rest`, `kumactl` and `envoy`.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
}

/// A file of the project that is made from the recordings.
struct Import {
    /// Path from the workspace's root.
    path: String,
    content: String,
}

impl Import {
    fn new(path: impl Into<String>, content: impl Into<String>) -> Self {
        Self { path: path.into(), content: content.into() }
    }

    /// One JSON value a line.
    fn lines(path: impl Into<String>, values: &[Value]) -> Self {
        Self::new(path, values.iter().map(|value| format!("{value}\n")).collect::<String>())
    }

    /// The crate that replays it: nothing is imported for a crate that is not there.
    fn has_reader(&self, root: &Path) -> bool {
        let package = Path::new(&self.path).ancestors().find(|folder| folder.ends_with("tests")).and_then(Path::parent);
        package.is_some_and(|package| root.join(package).join("Cargo.toml").exists())
    }
}

/// Writes every import whose crate exists.
///
/// # Errors
/// The folder does not hold the recordings, or a file cannot be read or written.
pub fn run(args: &Args) -> Result<()> {
    let root = workspace::root();
    for import in imports(&args.from)?.iter().filter(|import| import.has_reader(&root)) {
        let path = root.join(&import.path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, &import.content).with_context(|| format!("cannot write {}", path.display()))?;
        println!(
            "recordings: {:>5} lines, {:>8} bytes  {}",
            import.content.lines().count(),
            import.content.len(),
            import.path
        );
    }
    Ok(())
}

/// Files that an import would change, among those whose crate exists.
#[cfg(test)]
fn drift(from: &Path, root: &Path) -> Result<Vec<String>> {
    let mut drifted = Vec::new();
    for import in imports(from)?.into_iter().filter(|import| import.has_reader(root)) {
        if fs::read_to_string(root.join(&import.path)).ok().as_ref() != Some(&import.content) {
            drifted.push(import.path);
        }
    }
    Ok(drifted)
}

fn imports(from: &Path) -> Result<Vec<Import>> {
    let mut imports = rest::imports(&from.join("rest"))?;
    imports.extend(kds::imports(&from.join("kds"))?);
    imports.extend(kumactl::imports(&from.join("kumactl"))?);
    imports.extend(bootstrap::imports(&from.join("envoy"))?);
    imports.extend(config::imports(from)?);
    imports.extend(envoy::imports(&from.join("envoy"))?);
    imports.extend(tokens::imports(&from.join("rest"))?);
    Ok(imports)
}

/// Every `.json` file of a folder, by name.
fn json_files(folder: &Path) -> Result<Vec<Value>> {
    let mut paths: Vec<PathBuf> = folder
        .read_dir()
        .with_context(|| format!("cannot read {}: is this the folder of the recordings?", folder.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    if paths.is_empty() {
        bail!("{} holds no .json file", folder.display());
    }
    paths.iter().map(|path| json_file(path)).collect()
}

fn json_file(path: &Path) -> Result<Value> {
    serde_json::from_str(&text(path)?).with_context(|| format!("{} is no JSON", path.display()))
}

/// One JSON value a line.
fn json_lines(path: &Path) -> Result<Vec<Value>> {
    let parse = |(number, line)| {
        serde_json::from_str(line).with_context(|| format!("{}:{} is no JSON", path.display(), number + 1))
    };
    text(path)?.lines().enumerate().map(parse).collect()
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only where the recordings are at hand: a clone with nothing beside it has what it needs.
    #[test]
    fn what_is_committed_is_what_an_import_would_write() {
        let Some(from) = std::env::var_os("RECORDINGS_DIR") else {
            println!("RECORDINGS_DIR is not set: nothing to compare with");
            return;
        };
        let drifted = drift(Path::new(&from), &workspace::root()).unwrap();
        assert!(drifted.is_empty(), "run `cargo xtask recordings --from {}`: {drifted:?}", from.display());
    }

    #[test]
    fn nothing_is_imported_for_a_crate_that_is_not_there() {
        let root = workspace::root();
        assert!(Import::new("kds-proto/tests/recorded/a.jsonl", "").has_reader(&root));
        assert!(Import::new("crates/model/tests/recorded/deep/a.jsonl", "").has_reader(&root));
        assert!(!Import::new("crates/none/tests/recorded/a.jsonl", "").has_reader(&root));
    }
}
