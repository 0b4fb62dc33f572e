//! The programs under test, next to the test's own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::time::SystemTime;
use std::{env, fs};

const PROGRAMS: [&str; 3] = ["kuma-global", "kuma-zone", "kumactl"];
/// Folders whose code goes into them.
const SOURCES: [&str; 5] = ["crates", "global", "kds-proto", "kumactl", "zone"];

const APART: [&str; 3] = ["benches", "tests", "xtask"];

/// A program by its name: `target/debug/NAME` for a test `target/debug/deps/TEST`.
pub fn path(name: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join(name)
}

/// Builds what is missing or older than its sources. A test of the whole workspace has built everything already; a test
/// of this crate alone builds no programs.
pub fn build() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let newest = SOURCES.iter().filter_map(|folder| newest(&root.join(folder))).max();
        let built = PROGRAMS.iter().map(|name| modified(&path(name))).min().flatten();
        if built >= newest {
            return;
        }
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(root).arg("build").args(PROGRAMS.iter().flat_map(|name| ["--package", name]));
        assert!(command.status().unwrap().success(), "the programs do not build");
    });
}

/// When the newest Rust source below a folder was written; tests, and the workspace's own commands, go into no program.
fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let times = entries.filter_map(|entry| {
        let path = entry.path();
        match entry.file_type().ok()? {
            kind if kind.is_dir() && !APART.iter().any(|apart| entry.file_name() == *apart) => newest(&path),
            kind if kind.is_file() && path.extension().is_some_and(|extension| extension == "rs") => modified(&path),
            _ => None,
        }
    });
    times.max()
}

fn modified(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}
