//! Sockets in the work folder, and what a `kuma-dp` that was killed left there.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime::Fatal;
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixStream;

/// Longest path without its ending: the system has room for little more.
const LONGEST: usize = 98;
/// For an Envoy that was left behind to end.
const ENDS: Duration = Duration::from_secs(5);
/// Envoy's process, as long as it runs.
const ENVOY: &str = "envoy.pid";

/// Paths that Envoy is told, or knows.
#[derive(Clone, Debug)]
pub struct Sockets {
    /// Pipe for lines of access logs; its name says otherwise.
    pub access_log: PathBuf,
    /// Where metrics are served.
    pub metrics: PathBuf,
    /// Where it is told whether the proxy is ready.
    pub readiness: PathBuf,
    /// Where Envoy tells what is for us.
    pub dynamic: PathBuf,
}

impl Sockets {
    /// Of a proxy, as Kuma names them (zone-dataplane 1.3).
    fn new(folder: &Path, name: &str, mesh: &str) -> Self {
        let path = |file: String| {
            let mut bytes = folder.join(file).into_os_string().into_vec();
            bytes.truncate(LONGEST);
            bytes.extend(b".sock");
            PathBuf::from(OsString::from_vec(bytes))
        };
        Self {
            access_log: path(format!("kuma-al-{name}-{mesh}")),
            metrics: path(format!("kuma-mh-{name}-{mesh}")),
            readiness: path("kuma-readiness-reporter".to_owned()),
            dynamic: path("kuma-mesh-metric-config".to_owned()),
        }
    }

    /// Makes the folder this program's: what somebody left who does not live any more is removed.
    ///
    /// # Errors
    /// Somebody lives there.
    pub async fn take(folder: &Path, name: &str, mesh: &str) -> Result<Self, Fatal> {
        let sockets = Self::new(folder, name, mesh);
        for path in [&sockets.metrics, &sockets.readiness] {
            if is_socket(path) && UnixStream::connect(path).await.is_ok() {
                let remedy = "stop it, or give this one a folder of its own with --work-dir";
                return Err(Fatal::new(format!("another kuma-dp uses the folder {folder:?}")).remedy(remedy));
            }
        }
        end_envoy(folder).await;
        for path in [&sockets.access_log, &sockets.metrics, &sockets.readiness, &sockets.dynamic] {
            remove(path).map_err(|error| {
                Fatal::new(format!("cannot remove {path:?}, which was left behind")).caused_by(error)
            })?;
        }
        Ok(sockets)
    }
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Notes the process of an Envoy, for whoever comes after us.
pub fn note_envoy(folder: &Path, id: u32) {
    if let Err(error) = fs::write(folder.join(ENVOY), id.to_string()) {
        tracing::debug!(%error, "the process of Envoy is not noted");
    }
}

/// Ends an Envoy that was left behind: it holds the ports.
async fn end_envoy(folder: &Path) {
    let noted = fs::read_to_string(folder.join(ENVOY)).ok().and_then(|text| text.trim().parse::<i32>().ok());
    let Some(pid) = noted.filter(|id| *id > 1).and_then(Pid::from_raw) else { return };
    let is_ours = || {
        let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        let folder = folder.as_os_str().as_bytes();
        line.windows(folder.len()).any(|part| part == folder)
    };
    if !is_ours() {
        return;
    }
    tracing::warn!(process = pid.as_raw_nonzero().get(), "ending an Envoy that a kuma-dp left behind");
    let _ = kill_process(pid, Signal::TERM);
    let ended = tokio::time::timeout(ENDS, async {
        while is_ours() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    if ended.await.is_err() {
        let _ = kill_process(pid, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    #[test]
    fn names_are_kumas_and_fit() {
        let sockets = Sockets::new(Path::new("/d"), "web", "default");
        assert_eq!(sockets.access_log, Path::new("/d/kuma-al-web-default.sock"));
        assert_eq!(Sockets::new(Path::new("/d"), "zi", "").metrics, Path::new("/d/kuma-mh-zi-.sock"));
        assert_eq!(sockets.dynamic, Path::new("/d/kuma-mesh-metric-config.sock"));
        let long = Sockets::new(Path::new("/d"), &"n".repeat(200), "default").access_log;
        assert_eq!(long.as_os_str().len(), LONGEST + ".sock".len());
    }

    #[tokio::test]
    async fn what_was_left_behind_goes_and_what_lives_stays() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Sockets::new(folder.path(), "web", "default");
        drop(UnixListener::bind(&paths.metrics).unwrap());
        assert!(paths.metrics.exists(), "a socket outlives who bound it");
        Sockets::take(folder.path(), "web", "default").await.unwrap();
        assert!(!paths.metrics.exists());

        let _living = UnixListener::bind(&paths.readiness).unwrap();
        let error = Sockets::take(folder.path(), "web", "default").await.unwrap_err().to_string();
        assert!(error.starts_with("another kuma-dp uses the folder"), "{error}");
    }

    #[tokio::test]
    async fn an_envoy_that_was_left_behind_ends() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("waits");
        fs::write(&file, "").unwrap();
        let mut left = tokio::process::Command::new("tail").arg("-f").arg(&file).spawn().unwrap();
        let id = left.id().unwrap();
        // For a moment after the start of a process its command line is not there yet.
        while fs::read(format!("/proc/{id}/cmdline")).unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        note_envoy(folder.path(), id);
        Sockets::take(folder.path(), "web", "default").await.unwrap();
        assert!(!tokio::time::timeout(ENDS, left.wait()).await.unwrap().unwrap().success());
    }
}
