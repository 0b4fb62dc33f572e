//! Envoy's process, started again when it dies.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use prometheus_client::metrics::counter::Counter;
use runtime::drain::Guard;
use runtime::tasks::{Backoff, OnFailure, Task};
use runtime::{Life, Metrics};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::{Bootstrap, Program, Settings};
use crate::config::ENVOY_ENDS;
use crate::sockets;

/// Pauses before it is started again: a crash costs a moment, one that comes back does not fill the log.
const AGAIN: Backoff = Backoff { base: Duration::from_millis(100), max: Duration::from_secs(30) };

/// Starts Envoy, and again whenever it dies, until streams close.
pub fn supervise(program: Program, settings: Settings, bootstrap: Bootstrap, metrics: &Metrics, life: &Life) {
    let restarts: Counter = Counter::default();
    metrics.register(|registry| {
        registry.register("dp_envoy_restarts", "How often Envoy died and was started again", restarts.clone());
    });
    let (guard, started) = (life.drain().stream(), Arc::new(AtomicBool::new(false)));
    let task = Task { name: "envoy", owner: "sidecar", on_failure: OnFailure::Restart(AGAIN) };
    life.tasks().spawn(task, move || {
        if started.swap(true, Ordering::Relaxed) {
            restarts.inc();
        }
        let (program, settings, bootstrap) = (program.clone(), settings.clone(), bootstrap.clone());
        let guard = guard.clone();
        async move { run(&program, &settings, &bootstrap, guard).await }
    });
}

async fn run(program: &Program, settings: &Settings, bootstrap: &Bootstrap, guard: Guard) -> Result<()> {
    if guard.is_closing() {
        return Ok(());
    }
    let mut command = Command::new(&program.path);
    command.args(arguments(settings)).arg("--config-path").arg(&bootstrap.path).stdin(Stdio::null());
    // A Ctrl-C in the terminal is for us: Envoy ends when connections have.
    command.process_group(0).kill_on_drop(true);
    let mut envoy = command.spawn().with_context(|| format!("cannot start {:?}", program.path))?;
    if let (Some(id), Some(folder)) = (envoy.id(), bootstrap.path.parent()) {
        sockets::note_envoy(folder, id);
        tracing::info!(process = id, version = program.version, "Envoy runs");
    }
    tokio::select! {
        ended = envoy.wait() => bail!("Envoy has ended by itself: {}", ended?),
        () = guard.closing() => end(envoy).await,
    }
}

/// As Kuma starts it (zone-dataplane 1.1).
fn arguments(settings: &Settings) -> Vec<String> {
    let drain = settings.drain_time.as_secs().max(1).to_string();
    let mut arguments: Vec<String> =
        ["--drain-time-s", &drain, "--drain-strategy", "immediate", "--disable-hot-restart", "--log-level"]
            .map(str::to_owned)
            .into();
    arguments.push(settings.log_level.clone());
    if let Some(levels) = &settings.component_log_level {
        arguments.extend(["--component-log-level".to_owned(), levels.clone()]);
    }
    match settings.concurrency {
        0 => arguments.push("--cpuset-threads".to_owned()),
        workers => arguments.extend(["--concurrency".to_owned(), workers.to_string()]),
    }
    arguments
}

async fn end(mut envoy: Child) -> Result<()> {
    if let Some(pid) = envoy.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        let _ = kill_process(pid, Signal::TERM);
    }
    match tokio::time::timeout(ENVOY_ENDS, envoy.wait()).await {
        Ok(ended) => tracing::info!(status = %ended?, "Envoy has ended"),
        Err(_) => {
            tracing::warn!("Envoy does not end: killing it");
            envoy.kill().await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use runtime::{Clock, Exit};

    use super::*;
    use crate::config::drain_limits;

    fn settings() -> Settings {
        Settings {
            program: PathBuf::from("envoy"),
            concurrency: 1,
            log_level: "info".to_owned(),
            component_log_level: None,
            drain_time: Duration::from_secs(1),
        }
    }

    #[test]
    fn the_command_line_is_the_recorded_one() {
        let recorded =
            "--drain-time-s 1 --drain-strategy immediate --disable-hot-restart --log-level info --concurrency 1";
        assert_eq!(arguments(&settings()).join(" "), recorded);
        let more = Settings { concurrency: 0, component_log_level: Some("upstream:debug".to_owned()), ..settings() };
        assert!(arguments(&more).join(" ").ends_with("info --component-log-level upstream:debug --cpuset-threads"));
    }

    /// A program that notes each start and dies at the first stands for Envoy.
    #[tokio::test]
    async fn it_is_started_again_and_ends_with_us() {
        let folder = tempfile::tempdir().unwrap();
        let (path, starts) = (folder.path().join("envoy"), folder.path().join("starts"));
        let script =
            format!("#!/bin/sh\necho >> {0}\n[ $(wc -l < {0}) -ge 3 ] || exit 1\nexec sleep 60\n", starts.display());
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let program = Program { path, version: String::new(), build: String::new() };
        let bootstrap = Bootstrap { path: folder.path().join("bootstrap.yaml"), admin: None };
        let (life, metrics) = (Life::new(Clock::system(), drain_limits(Duration::from_secs(1))), Metrics::default());
        supervise(program, settings(), bootstrap, &metrics, &life);
        let lines = || std::fs::read_to_string(&starts).unwrap_or_default().lines().count();
        tokio::time::timeout(Duration::from_secs(10), async {
            while lines() < 3 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .unwrap();
        let noted = std::fs::read_to_string(folder.path().join("envoy.pid")).unwrap();
        assert!(metrics.text().unwrap().contains("dp_envoy_restarts_total 2"));
        life.stop().ask();
        assert_eq!(life.end().await, Exit::Clean);
        assert!(!std::path::Path::new(&format!("/proc/{noted}")).exists());
    }
}
