//! The program that is measured, as a process of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use store::Postgres;
use tempfile::TempDir;

/// Where the hub keeps its truth.
pub enum Database {
    /// In its folder.
    Sqlite,
    /// In a file that outlives it.
    File(PathBuf),
    /// On a server.
    Postgres(Box<Postgres>),
}

/// A `kuma-global` of its own.
pub struct Hub {
    /// Where its API listens.
    pub api: SocketAddr,
    /// Where it waits for zones.
    pub kds: SocketAddr,
    diagnostics: SocketAddr,
    settings: Vec<String>,
    folder: TempDir,
    process: Child,
}

/// Builds the program for release.
pub fn build() -> Result<()> {
    let status = Command::new(env!("CARGO")).args(["build", "--release", "--package", "kuma-global"]).status()?;
    ensure!(status.success(), "kuma-global does not build");
    Ok(())
}

impl Hub {
    pub async fn start(database: Database) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (api, kds, diagnostics) = (free()?, free()?, free()?);
        let mut settings = vec![
            format!("apiServer.http.port={}", api.port()),
            "apiServer.https.enabled=false".to_owned(),
            format!("multizone.global.kds.grpcPort={}", kds.port()),
            "multizone.global.kds.tlsEnabled=false".to_owned(),
            "multizone.global.kds.auth.type=none".to_owned(),
            format!("diagnostics.serverPort={}", diagnostics.port()),
            format!("dpServer.port={}", free()?.port()),
            format!("interCp.server.port={}", free()?.port()),
        ];
        if let Database::File(path) = &database {
            settings.push(format!("store.sqlite.path={}", path.display()));
        }
        if let Database::Postgres(server) = &database {
            settings.extend([
                "store.type=postgres".to_owned(),
                format!("store.postgres.host={}", server.host),
                format!("store.postgres.port={}", server.port),
                format!("store.postgres.user={}", server.user),
                format!("store.postgres.password={}", server.password),
                format!("store.postgres.dbName={}", server.db_name),
            ]);
            let migrated = command(&folder, &settings).args(["migrate", "up"]).status()?;
            ensure!(migrated.success(), "the schema cannot be made");
        }
        let process = run(&folder, &settings)?;
        Ok(Self { api, kds, diagnostics, settings, folder, process })
    }

    /// Waits until `/ready` says that it serves.
    pub fn until_ready(&mut self, patience: Duration) -> Result<()> {
        let began = Instant::now();
        while !self.is_ready() {
            ensure!(self.process.try_wait()?.is_none(), "the hub has ended");
            ensure!(began.elapsed() < patience, "the hub is not ready after {patience:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn is_ready(&self) -> bool {
        let ask = || -> std::io::Result<Vec<u8>> {
            let mut stream = TcpStream::connect(self.diagnostics)?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"))
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    pub async fn start_again(&mut self) -> Result<()> {
        self.process = run(&self.folder, &self.settings)?;
        Ok(())
    }

    /// User and system time so far.
    pub fn processor_time(&self) -> Result<Duration> {
        /// Length of a tick: 100 a second on every Linux that we run on.
        const TICK: Duration = Duration::from_millis(10);
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let (_, tail) = stat.rsplit_once(')').context("a process without a name")?;
        // User and system time are the 14th and 15th field, the 12th and 13th behind the name.
        let ticks: u32 = tail.split_whitespace().skip(11).take(2).map(str::parse::<u32>).sum::<Result<_, _>>()?;
        Ok(TICK * ticks)
    }

    /// Resident memory, in bytes.
    pub fn memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib << 10)
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // Already ended when all went well.
        let _ = self.kill();
    }
}

fn run(folder: &TempDir, settings: &[String]) -> Result<Child> {
    Ok(command(folder, settings).arg("run").stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
}

fn command(folder: &TempDir, settings: &[String]) -> Command {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut command = Command::new(root.join(target).join("release/kuma-global"));
    command.arg("--data-dir").arg(folder.path()).args(["--log-level", "warn"]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    command
}

/// An address of this machine that nobody listens on.
fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
