//! A real PostgreSQL for tests: in a temporary folder, on a free port, as an unprivileged user.
//!
//! A small shell script holds the server and waits on a pipe from this process. However this process ends, the pipe
//! closes, and the script stops the server and deletes the folder.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;

use crate::settings::Postgres;

/// Users that may run the server when the tests run as root.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];
const START_DEADLINE: Duration = Duration::from_secs(60);
const KEEPER: &str = r#"
bin=$1 dir=$2 port=$3 fsync=$4
start() {
    "$bin/postgres" -D "$dir/data" -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
        -c fsync="$fsync" -c max_connections=200 -c shared_buffers=64MB >>"$dir/log" 2>&1 </dev/null &
    pid=$!
}
start
echo "$pid"
while read -r command; do
    case $command in
        start) start ;;
        *) kill -s "$command" "$pid"; wait "$pid" ;;
    esac
    echo "$pid"
done
# TERM ends a server that does not handle signals yet; INT makes one that does cut its clients off.
kill -s TERM "$pid" 2>/dev/null
kill -s INT "$pid" 2>/dev/null
wait "$pid"
rm -rf "$dir"
"#;

/// A server; stopped and deleted when dropped.
#[derive(Debug)]
pub struct TestPostgres {
    folder: PathBuf,
    port: u16,
    programs: PathBuf,
    keeper: Mutex<Keeper>,
    databases: AtomicU32,
    _log: Option<TempDir>,
}

#[derive(Debug)]
struct Keeper {
    child: Child,
    /// `None` once the keeper was told to end.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// How a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Open transactions are undone, clients are cut off.
    Fast,
    /// At once, as in a crash; the next start recovers from the log.
    Crash,
}

/// How a server is set up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup<'p> {
    /// Whether commits reach the disk; without, tests are faster.
    pub fsync: bool,
    /// Where the temporary folder is made, say on a small disk, the write-ahead log apart; `None`: the system's place.
    pub inside: Option<&'p Path>,
}

/// The users and groups that own files and processes.
#[derive(Clone, Copy, Debug)]
struct Account {
    uid: u32,
    gid: u32,
}

impl TestPostgres {
    /// The server that all tests of this process share.
    ///
    /// # Errors
    /// PostgreSQL is not installed or does not start; the text says what to do.
    pub fn shared() -> Result<&'static Self, String> {
        static SHARED: LazyLock<Result<TestPostgres, String>> =
            LazyLock::new(|| TestPostgres::start(Setup::default()).map_err(|error| error.to_string()));
        SHARED.as_ref().map_err(Clone::clone)
    }

    /// A server of its own.
    ///
    /// # Errors
    /// PostgreSQL is not installed or does not start.
    pub fn start(setup: Setup<'_>) -> io::Result<Self> {
        let programs = programs()?;
        let account = account()?;
        let mut builder = tempfile::Builder::new();
        builder.prefix("test-postgres-");
        let folder = match setup.inside {
            Some(parent) => owned(builder.tempdir_in(parent), account)?,
            None => owned(builder.tempdir(), account)?,
        };
        let mut initdb = command(&programs.join("initdb"), account);
        initdb.args(["--no-sync", "--auth=trust", "--username=kuma", "--encoding=UTF8", "--locale=C", "-D"]);
        initdb.arg(folder.path().join("data"));
        let log = setup.inside.map(|_| owned(tempfile::tempdir(), account)).transpose()?;
        if let Some(log) = &log {
            // A full disk under the log ends the server; one under the data does not.
            initdb.arg("--waldir").arg(log.path());
        }
        let made = initdb.stdin(Stdio::null()).output()?;
        if !made.status.success() {
            return Err(io::Error::other(format!("initdb failed: {}", String::from_utf8_lossy(&made.stderr))));
        }
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let mut child = command(Path::new("/bin/sh"), account)
            .args(["-c", KEEPER, "keeper"])
            .args([&programs, folder.path()])
            .args([port.to_string().as_str(), if setup.fsync { "on" } else { "off" }])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (commands, answers) = (child.stdin.take(), child.stdout.take());
        let answers = BufReader::new(answers.ok_or_else(|| io::Error::other("no pipe"))?);
        let server = Self {
            folder: folder.keep(),
            port,
            programs,
            keeper: Mutex::new(Keeper { child, commands, answers }),
            databases: AtomicU32::new(0),
            _log: log,
        };
        server.keeper().answer()?;
        server.wait_until_ready()?;
        Ok(server)
    }

    /// A new, empty database.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn database(&self) -> Result<Postgres, sqlx::Error> {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{number}");
        let mut connection = self.connect("postgres").await?;
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await?;
        connection.close().await?;
        Ok(self.settings(&name))
    }

    /// Settings that reach a database of this server.
    pub fn settings(&self, database: &str) -> Postgres {
        Postgres {
            host: "127.0.0.1".into(),
            port: self.port,
            user: "kuma".into(),
            password: String::new(),
            db_name: database.into(),
            max_open_connections: 10,
            ..Postgres::default()
        }
    }

    /// A connection beside the store.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn connect(&self, database: &str) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect(&format!("postgres://kuma@127.0.0.1:{}/{database}?sslmode=disable", self.port)).await
    }

    /// Ends the server and waits until it has.
    ///
    /// # Errors
    /// The server cannot be told.
    pub fn stop(&self, how: Stop) -> io::Result<()> {
        let signal = match how {
            Stop::Fast => "INT",
            Stop::Crash => "QUIT",
        };
        self.keeper().tell(signal)
    }

    /// Starts the server again and waits until it answers.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_again(&self) -> io::Result<()> {
        self.keeper().tell("start")?;
        self.wait_until_ready()
    }

    /// Folder that holds the server's data and log.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn keeper(&self) -> std::sync::MutexGuard<'_, Keeper> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until_ready(&self) -> io::Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        let port = self.port.to_string();
        loop {
            let asked =
                Command::new(self.programs.join("pg_isready")).args(["-q", "-h", "127.0.0.1", "-p", &port]).status()?;
            if asked.success() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                return Err(io::Error::other(format!("PostgreSQL does not start: {log}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for TestPostgres {
    fn drop(&mut self) {
        let mut keeper = self.keeper();
        keeper.commands = None;
        let _ = keeper.child.wait();
    }
}

impl Keeper {
    fn tell(&mut self, command: &str) -> io::Result<()> {
        let commands = self.commands.as_mut().ok_or_else(|| io::Error::other("the server has ended"))?;
        writeln!(commands, "{command}")?;
        self.answer()
    }

    fn answer(&mut self) -> io::Result<()> {
        let mut line = String::new();
        match self.answers.read_line(&mut line)? {
            0 => Err(io::Error::other("the keeper of the server has ended")),
            _ => Ok(()),
        }
    }
}

fn owned(folder: io::Result<TempDir>, account: Option<Account>) -> io::Result<TempDir> {
    let folder = folder?;
    if let Some(Account { uid, gid }) = account {
        std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid))?;
    }
    Ok(folder)
}

fn command(program: &Path, account: Option<Account>) -> Command {
    let mut command = Command::new(program);
    if let Some(Account { uid, gid }) = account {
        command.uid(uid).gid(gid);
    }
    // A folder that the other user may enter.
    command.current_dir("/").env("LC_ALL", "C");
    command
}

/// Whom to become: nobody when we are unprivileged already, since the server refuses to run as root.
fn account() -> io::Result<Option<Account>> {
    if id(&["-u"])? != 0 {
        return Ok(None);
    }
    let found = UNPRIVILEGED.iter().find_map(|user| {
        let (uid, gid) = (id(&["-u", user]).ok()?, id(&["-g", user]).ok()?);
        Some(Account { uid, gid })
    });
    found.map(Some).ok_or_else(|| io::Error::other("neither user postgres nor user nobody exists"))
}

fn id(arguments: &[&str]) -> io::Result<u32> {
    let output = Command::new("id").args(arguments).stderr(Stdio::null()).output()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().map_err(io::Error::other)
}

/// Folder of the server's programs: on the path, else the newest of Debian's.
fn programs() -> io::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut debian: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    debian.sort();
    std::env::split_paths(&path)
        .chain(debian.into_iter().rev())
        .find(|folder| ["initdb", "postgres", "pg_isready"].iter().all(|name| folder.join(name).exists()))
        .ok_or_else(|| io::Error::other("PostgreSQL is not installed: install the Debian package postgresql"))
}
