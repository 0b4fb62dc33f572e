//! Envoy: its program, its bootstrap, its process.

mod process;
mod program;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime::{Fatal, Life};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use crate::http::{self, Target};
pub use process::supervise;
pub use program::Program;

/// How Envoy is started and ended.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its path, or its name on PATH.
    pub program: PathBuf,
    /// Its workers; 0: as many as it may use processors.
    pub concurrency: u32,
    /// What it logs.
    pub log_level: String,
    /// What parts of it log.
    pub component_log_level: Option<String>,
    /// How long connections may last after a SIGTERM.
    pub drain_time: Duration,
}

/// The level of Envoy that says as much as one of ours.
pub fn level(ours: &str) -> String {
    let word = ours.split(',').map(str::trim).find(|word| !word.contains('=')).unwrap_or("info");
    if word == "warn" { "warning".to_owned() } else { word.to_ascii_lowercase() }
}

/// What Envoy was told to start with.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// The file.
    pub path: PathBuf,
    /// Where its own interface is, if there is one.
    pub admin: Option<SocketAddr>,
}

impl Bootstrap {
    /// Writes a bootstrap that came from the control plane.
    ///
    /// # Errors
    /// It is no YAML, or cannot be written.
    pub fn write(yaml: &[u8], folder: &Path) -> Result<Self, Fatal> {
        let document: Value = serde_yaml::from_slice(yaml).map_err(|error| {
            Fatal::new("the control plane sent a bootstrap that cannot be understood").caused_by(error)
        })?;
        let path = folder.join("bootstrap.yaml");
        // It holds the token.
        let mut file = fs::OpenOptions::new();
        let file = file.write(true).create(true).truncate(true).mode(0o600).open(&path);
        file.and_then(|mut file| std::io::Write::write_all(&mut file, yaml))
            .map_err(|error| Fatal::new(format!("cannot write {path:?}")).caused_by(error))?;
        Ok(Self { path, admin: admin(&document) })
    }
}

/// In either spelling of protobuf's JSON.
fn admin(bootstrap: &Value) -> Option<SocketAddr> {
    let address = &bootstrap["admin"]["address"];
    let socket = address.get("socketAddress").or_else(|| address.get("socket_address"))?;
    let port = socket.get("portValue").or_else(|| socket.get("port_value"))?.as_u64()?;
    let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
    Some(SocketAddr::new(socket["address"].as_str()?.parse().ok()?, port))
}

/// Envoy's own interface.
#[derive(Clone, Copy, Debug)]
pub struct Admin(pub SocketAddr);

impl std::fmt::Display for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Admin {
    async fn tell(self, path: &str) {
        match http::post(&Target::Tcp(self.0), path).await {
            Ok(answer) if answer.status == 200 => {}
            Ok(answer) => tracing::warn!(status = answer.status, path, "Envoy does not do what it is told"),
            Err(error) => tracing::warn!(%error, path, "Envoy does not hear what it is told"),
        }
    }
}

/// Has connections end when the program does, and earlier on SIGUSR2 (zone-dataplane 11.4).
///
/// # Errors
/// The system refuses a handler.
pub fn drain_on_signal(admin: Admin, settings: &Settings, life: &Life) -> Result<(), Fatal> {
    let mut usr2 = signal(SignalKind::user_defined2())
        .map_err(|error| Fatal::new("cannot listen for SIGUSR2").caused_by(error))?;
    let (guard, clock, drain_time) = (life.drain().listener(), life.clock().clone(), settings.drain_time);
    tokio::spawn(async move {
        let mut drained = false;
        loop {
            tokio::select! {
                () = guard.closing() => break,
                told = usr2.recv(), if !drained => {
                    if told.is_some() {
                        tracing::info!(signal = "SIGUSR2", "draining connections to the workload");
                        admin.tell("/drain_listeners?inboundonly&graceful&skip_exit").await;
                    }
                    drained = true;
                }
            }
        }
        if !drained {
            tracing::info!(for_ms = drain_time.as_millis() as u64, "draining connections");
            admin.tell("/healthcheck/fail").await;
            clock.sleep(drain_time).await;
        }
        drop(guard);
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_bootstrap_is_written_for_us_alone_and_names_its_interface() {
        let folder = tempfile::tempdir().unwrap();
        let recorded = b"admin:\n  address:\n    socketAddress:\n      address: 127.0.0.1\n      portValue: 24521\n";
        let bootstrap = Bootstrap::write(recorded, folder.path()).unwrap();
        assert_eq!(bootstrap.admin, Some("127.0.0.1:24521".parse().unwrap()));
        assert_eq!(fs::metadata(&bootstrap.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read(&bootstrap.path).unwrap(), recorded);
        let without = Bootstrap::write(b"node: {}", folder.path()).unwrap();
        assert_eq!(without.admin, None);
        let error = Bootstrap::write(b"a: [", folder.path()).unwrap_err().to_string();
        assert!(error.starts_with("the control plane sent a bootstrap that cannot be understood"), "{error}");
    }

    #[test]
    fn levels_are_envoys() {
        assert_eq!(level("warn"), "warning");
        assert_eq!(level("kuma_dp=trace, DEBUG"), "debug");
        assert_eq!(level("kuma_dp=trace"), "info");
    }
}
