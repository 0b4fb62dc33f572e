//! The other process of tests that kill, pause or trace one.

use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use model::{Key, Kind};
use store::{ApplyError, Backend, Batch, Postgres, Settings, Store};

use crate::fixture::{mesh, resource};

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

pub fn command(backend: &Backend, role: Role) -> Vec<(String, String)> {
    let database = match backend {
        Backend::Sqlite { path, .. } => path.display().to_string(),
        Backend::SqliteInMemory => unreachable!("another process cannot open it"),
        Backend::Postgres(Postgres { port, db_name, .. }) => format!("{port} {db_name}"),
    };
    let role = match role {
        Role::Writer(first) => format!("writer {first}"),
        Role::Insights => "insights".to_owned(),
        Role::Leader => "leader".to_owned(),
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
    let store = Store::open(Settings::new(backend)).await.unwrap();
    match role.split_once(' ') {
        Some((_, first)) => write(&store, first.parse().unwrap()).await,
        None if role == "insights" => write_insights(&store).await,
        None => lead(&store).await,
    }
}

async fn write(store: &Store, first: u32) {
    for n in first.. {
        let batch = PARTS.iter().fold(Batch::new(), |batch, part| batch.create(mesh(&format!("{n}-{part}"))));
        store.apply(batch).await.unwrap();
        println!("ack {n}");
    }
}

async fn write_insights(store: &Store) {
    for n in 0..20 {
        let key = Key::new(Kind::DataplaneInsight, "m", &format!("dp-{n}"));
        store.apply(Batch::new().create(resource(key, "online"))).await.unwrap();
        println!("ack {n}");
    }
}

async fn lead(store: &Store) {
    let lease = store.acquire("leader", "paused", Duration::from_millis(500)).await.unwrap().unwrap();
    println!("ack {}", lease.fence.token);
    for line in std::io::stdin().lines() {
        let batch = Batch::new().put(resource(mesh("led").meta.key, &line.unwrap())).fenced(lease.fence.clone());
        match store.apply(batch).await {
            Ok(_) => println!("ack written"),
            Err(ApplyError::Deposed { .. }) => println!("ack refused"),
            Err(error) => println!("ack {error}"),
        }
        std::io::stdout().flush().unwrap();
    }
}
