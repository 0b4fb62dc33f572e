//! Which Envoy there is.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use runtime::Fatal;

/// The oldest that understands what control planes send.
const OLDEST: (u32, u32) = (1, 36);
/// For it to tell its version, on a busy machine.
const TELLS: Duration = Duration::from_secs(10);

/// An Envoy that can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// `1.36.4`
    pub version: String,
    /// All that it tells about itself: revision, version, status, type, TLS library.
    pub build: String,
}

impl Program {
    /// Looks for it and asks for its version.
    ///
    /// # Errors
    /// There is none, it does not run, or it is too old.
    pub async fn find(given: &Path) -> Result<Self, Fatal> {
        let path = look_for(given, std::env::var_os("PATH").as_deref()).ok_or_else(|| {
            let remedy = format!("install Envoy {}.{} or newer, or name it with --binary-path", OLDEST.0, OLDEST.1);
            Fatal::new(format!("there is no Envoy {given:?}, neither at that path nor on PATH")).remedy(remedy)
        })?;
        let cannot = |why: String| Fatal::new(format!("cannot use {path:?} as Envoy")).caused_by(why);
        let mut command = tokio::process::Command::new(&path);
        command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(TELLS, command.output()).await;
        let output = output
            .map_err(|_| cannot(format!("it does not tell its version within {} s", TELLS.as_secs())))?
            .map_err(|error| cannot(error.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let (build, version) =
            parse(&text).ok_or_else(|| cannot(format!("it says {:?} for its version", text.trim())))?;
        if number(&version).is_none_or(|found| found < OLDEST) {
            let remedy = format!("install {}.{} or newer", OLDEST.0, OLDEST.1);
            return Err(Fatal::new(format!("Envoy {version} ({path:?}) is too old")).remedy(remedy));
        }
        Ok(Self { path, version, build })
    }
}

/// A path as it is; a bare name on PATH, in this folder, or beside this program.
fn look_for(given: &Path, path: Option<&OsStr>) -> Option<PathBuf> {
    if given.components().count() > 1 {
        return given.is_file().then(|| given.to_owned());
    }
    let on_path = path.into_iter().flat_map(std::env::split_paths);
    let beside = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.to_owned()));
    let folders = on_path.chain(std::env::current_dir().ok()).chain(beside);
    folders.map(|folder| folder.join(given)).find(|path| path.is_file())
}

/// `envoy  version: bad8280…/1.36.4/Clean/RELEASE/BoringSSL`
fn parse(text: &str) -> Option<(String, String)> {
    let build = text.lines().find_map(|line| line.split_once("version:"))?.1.trim();
    let parts: Vec<&str> = build.split('/').collect();
    (parts.len() == 5).then(|| (build.to_owned(), parts[1].to_owned()))
}

fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    async fn found(script: &str) -> Result<Program, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("envoy");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Program::find(&path).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn the_version_is_what_it_says() {
        let program = found("echo; echo '/x/envoy  version: ab12/1.36.4/Clean/RELEASE/BoringSSL'").await.unwrap();
        assert_eq!(
            (program.version.as_str(), program.build.as_str()),
            ("1.36.4", "ab12/1.36.4/Clean/RELEASE/BoringSSL")
        );
    }

    #[tokio::test]
    async fn none_an_old_one_and_another_program_are_one_line_each() {
        let error = Program::find(Path::new("no-such-envoy")).await.unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no Envoy \"no-such-envoy\", neither at that path nor on PATH; install Envoy 1.36 or newer, or \
             name it with --binary-path"
        );
        let error = found("echo 'envoy  version: ab12/1.30.1/Clean/RELEASE/BoringSSL'").await.unwrap_err();
        assert!(error.contains("is too old; install 1.36 or newer"), "{error}");
        let error = found("echo hello").await.unwrap_err();
        assert!(error.contains("it says \"hello\" for its version"), "{error}");
    }

    #[test]
    fn a_bare_name_is_looked_for_on_path() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("my-envoy"), "").unwrap();
        let path = folder.path().as_os_str();
        assert_eq!(look_for(Path::new("my-envoy"), Some(path)), Some(folder.path().join("my-envoy")));
        assert_eq!(look_for(Path::new("./my-envoy"), Some(path)), None);
    }
}
