//! The other process of tests that kill, pause or trace one. A simulated disk is in this process, so there the other
//! process is a thread with a runtime of its own, and a kill drops whatever that runtime does.

use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use model::{Key, Kind};
use store::{ApplyError, Backend, Batch, Postgres, Settings, Store};

use tokio::sync::oneshot;

use crate::fixture::{Fixture, mesh, resource};

const ROLE: &str = "STORE_TEST_ROLE";
const DATABASE: &str = "STORE_TEST_DATABASE";
/// Resources of one batch of the writer.
pub const PARTS: [&str; 3] = ["a", "b", "c"];

/// What the other process does. It prints `ack N` after each thing that was acknowledged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Creates the resources `N-a`, `N-b` and `N-c` in one batch, for N from a number on.
    Writer(u32),
    /// Writes 20 insights.
    Insights,
    /// Takes a lease; writes with its fence for each line that it reads.
    Leader,
    /// The same, with a lease that outlives the test.
    LongLeader,
}

pub struct Running {
    pub process: Child,
    pub input: ChildStdin,
    pub lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args(["-s", signal, &self.process.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// The next acknowledgement; `None` when the process has ended.
    pub fn ack(&mut self) -> Option<String> {
        // The first one follows libtest's own words on one line.
        self.lines.by_ref().map_while(Result::ok).find_map(|line| line.split_once("ack ").map(|(_, n)| n.to_owned()))
    }
}

/// The other party of a case of the suite.
pub enum Other {
    Process(Running),
    Thread {
        thread: Option<JoinHandle<()>>,
        kill: Option<oneshot::Sender<()>>,
        acks: mpsc::Receiver<String>,
        input: mpsc::Sender<String>,
    },
}

impl Other {
    pub fn start(fixture: &Fixture, role: Role) -> Self {
        if fixture.disk.is_none() {
            return Self::Process(start(&fixture.backend, role, &[]));
        }
        let (kill, killed) = oneshot::channel();
        let (acknowledge, acks) = mpsc::channel();
        let (input, lines) = mpsc::channel();
        let backend = fixture.backend.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = play(role, backend, |ack| acknowledge.send(ack).unwrap(), lines.into_iter()) => {}
                    _ = killed => {}
                }
            });
        });
        Self::Thread { thread: Some(thread), kill: Some(kill), acks, input }
    }

    pub fn ack(&mut self) -> Option<String> {
        match self {
            Self::Process(running) => running.ack(),
            Self::Thread { acks, .. } => acks.recv().ok(),
        }
    }

    pub fn tell(&mut self, line: &str) {
        match self {
            Self::Process(running) => writeln!(running.input, "{line}").unwrap(),
            Self::Thread { input, .. } => input.send(line.to_owned()).unwrap(),
        }
    }

    /// Stops a process until it is resumed; a thread waits for its next line anyway.
    pub fn pause(&self) {
        if let Self::Process(running) = self {
            running.signal("STOP");
        }
    }

    pub fn resume(&self) {
        if let Self::Process(running) = self {
            running.signal("CONT");
        }
    }

    pub fn kill(&mut self) {
        match self {
            Self::Process(running) => {
                running.signal("KILL");
                running.process.wait().unwrap();
            }
            Self::Thread { thread, kill, .. } => {
                kill.take().unwrap().send(()).unwrap();
                thread.take().unwrap().join().unwrap();
            }
        }
    }

    /// Lets it run to its end.
    pub fn end(self) {
        match self {
            Self::Process(Running { mut process, input, .. }) => {
                drop(input);
                process.wait().unwrap();
            }
            Self::Thread { thread, input, kill, .. } => {
                drop(input);
                thread.unwrap().join().unwrap();
                drop(kill);
            }
        }
    }
}

pub fn command(backend: &Backend, role: Role) -> Vec<(String, String)> {
    let database = match backend {
        Backend::Sqlite { path, .. } => path.display().to_string(),
        Backend::SqliteInMemory | Backend::Simulated(_) => unreachable!("another process cannot open it"),
        Backend::Postgres(Postgres { port, db_name, .. }) => format!("{port} {db_name}"),
    };
    let role = match role {
        Role::Writer(first) => format!("writer {first}"),
        Role::Insights => "insights".to_owned(),
        Role::Leader => "leader".to_owned(),
        Role::LongLeader => "long-leader".to_owned(),
    };
    vec![(ROLE.to_owned(), role), (DATABASE.to_owned(), database)]
}

/// Starts another process, under a tracer if one is given.
pub fn start(backend: &Backend, role: Role, tracer: &[&str]) -> Running {
    let this = std::env::current_exe().unwrap();
    let mut line: Vec<std::ffi::OsString> = tracer.iter().map(Into::into).collect();
    line.push(this.into());
    let mut process = Command::new(&line[0])
        .args(&line[1..])
        .args(["child::child", "--exact", "--ignored", "--nocapture"])
        .envs(command(backend, role))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (input, output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
    Running { process, input, lines: BufReader::new(output).lines() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "other tests start it as a process"]
async fn child() {
    let (Ok(role), Ok(database)) = (std::env::var(ROLE), std::env::var(DATABASE)) else { return };
    let backend = match database.split_once(' ') {
        Some((port, name)) => {
            Backend::Postgres(Postgres { port: port.parse().unwrap(), db_name: name.into(), ..Postgres::default() })
        }
        None => Backend::sqlite(database),
    };
    let role = match role.split_once(' ') {
        Some((_, first)) => Role::Writer(first.parse().unwrap()),
        None if role == "insights" => Role::Insights,
        None if role == "long-leader" => Role::LongLeader,
        None => Role::Leader,
    };
    let acknowledge = |ack| {
        println!("ack {ack}");
        std::io::stdout().flush().unwrap();
    };
    play(role, backend, acknowledge, std::io::stdin().lines().map_while(Result::ok)).await;
}

async fn play(role: Role, backend: Backend, acknowledge: impl Fn(String), lines: impl Iterator<Item = String>) {
    let store = Store::open(Settings::new(backend)).await.unwrap();
    match role {
        Role::Writer(first) => write(&store, first, acknowledge).await,
        Role::Insights => write_insights(&store, acknowledge).await,
        Role::Leader => lead(&store, Duration::from_millis(500), acknowledge, lines).await,
        Role::LongLeader => lead(&store, Duration::from_secs(600), acknowledge, lines).await,
    }
}

async fn write(store: &Store, first: u32, acknowledge: impl Fn(String)) {
    for n in first.. {
        let batch = PARTS.iter().fold(Batch::new(), |batch, part| batch.create(mesh(&format!("{n}-{part}"))));
        store.apply(batch).await.unwrap();
        acknowledge(n.to_string());
    }
}

async fn write_insights(store: &Store, acknowledge: impl Fn(String)) {
    for n in 0..20 {
        let key = Key::new(Kind::DataplaneInsight, "m", &format!("dp-{n}"));
        store.apply(Batch::new().create(resource(key, "online"))).await.unwrap();
        acknowledge(n.to_string());
    }
}

async fn lead(store: &Store, ttl: Duration, acknowledge: impl Fn(String), lines: impl Iterator<Item = String>) {
    let lease = store.acquire("leader", "paused", ttl).await.unwrap().unwrap();
    acknowledge(lease.fence.token.to_string());
    for line in lines {
        let batch = Batch::new().put(resource(mesh("led").meta.key, &line)).fenced(lease.fence.clone());
        acknowledge(match store.apply(batch).await {
            Ok(_) => "written".to_owned(),
            Err(ApplyError::Deposed { .. }) => "refused".to_owned(),
            Err(error) => error.to_string(),
        });
    }
}
