//! `cargo xtask bench api`: the REST API over loopback, in front of each database.
//!
//! Server and clients share this process and its processors; each has threads of its own, so that the server's time can
//! be told apart. `--resources N` (100,000 unless given) sizes the store, `--seconds N` (5) each measurement, `--store
//! sqlite`, `postgres` or `both`. On SQLite, starts of the program are measured too.

#[path = "../support/hub.rs"]
#[expect(dead_code, reason = "another measurement needs the rest")]
mod hub;
mod starts;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::{Instance as Process, Settings};
use config::{Host, Loader, Role};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use kds_proto::kuma::mesh::v1alpha1::dataplane::Networking;
use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::Inbound;
use kds_proto::kuma::mesh::v1alpha1::{Dataplane, Mesh};
use model::mode::Mode;
use model::{Key, Kind, Labels, Payload, Resource};
use runtime::{Clock, Drain, exit, serve};
use store::test_support::{Setup, TestPostgres};
use store::{Backend, Batch, Store, Write};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Goals: the 99th percentile of a read at this rate, and how long 10,000 Dataplanes take in pages.
const READ_GOAL: Duration = Duration::from_millis(2);
const RATE: u32 = 5_000;
const WALK_GOAL: Duration = Duration::from_secs(1);
const WALKED: usize = 10_000;

const CONNECTIONS: u32 = 16;
const PUTS: usize = 500;
/// Name of the server's threads.
const SERVER: &str = "api-server";

#[derive(Clone, clap::Parser)]
struct Args {
    /// Resources that are stored.
    #[arg(long, default_value_t = 100_000)]
    resources: usize,
    /// Length of each measurement.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Database of the server.
    #[arg(long, default_value = "both", value_parser = ["sqlite", "postgres", "both"])]
    store: String,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = <Args as clap::Parser>::parse();
    let runtime = |name| tokio::runtime::Builder::new_multi_thread().thread_name(name).enable_all().build();
    let (server, clients) = (runtime(SERVER)?, runtime("client")?);
    if args.store != "postgres" {
        println!("SQLite");
        let file = tempfile::tempdir()?;
        let path = file.path().join("bench.db");
        let address = server.block_on(start(Backend::sqlite(&path), args.resources))?;
        clients.block_on(measure(address, &args))?;
        clients.block_on(starts::measure(&path))?;
    }
    let mut postgres = None;
    if args.store != "sqlite" {
        println!("PostgreSQL (fsync on, same machine)");
        let running = postgres.insert(TestPostgres::start(Setup { fsync: true, inside: None })?);
        let backend = Backend::Postgres(server.block_on(running.database())?);
        let address = server.block_on(start(backend, args.resources))?;
        clients.block_on(measure(address, &args))?;
    }
    // The store's connections end before their server does.
    server.shutdown_timeout(Duration::from_secs(5));
    Ok(())
}

/// Fills a store and serves it until the runtime ends.
async fn start(backend: Backend, resources: usize) -> Result<SocketAddr> {
    let settings = store::Settings { migrate_on_open: true, ..store::Settings::new(backend) };
    let store = Store::open(settings).await?;
    let mesh = Payload::from_message(&Mesh::default());
    store
        .apply(Batch::new().create(Resource::new(Key::global(Kind::Mesh, "default"), Labels::default(), mesh)))
        .await?;
    for first in (0..resources).step_by(5_000) {
        let puts = (first..resources.min(first + 5_000)).map(|at| Write::Put { resource: dataplane(at), owner: None });
        store.apply(puts.collect()).await?;
    }
    let mut effective = Loader::new(Role::Global).load().map_err(|error| anyhow::anyhow!("{error:?}"))?.effective;
    effective.fill_in(&Host::default());
    let settings = Settings::configured(&effective, Mode::Global, Process::of_this_process("bench"))?;
    let router = api::router(settings, store, Clock::system());
    let listener = exit::listen(SocketAddr::from(([127, 0, 0, 1], 0)), "API server", "port").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        let drain = Drain::default();
        serve::serve(listener, None, router, serve::Limits::default(), drain.listener()).await;
    });
    Ok(address)
}

/// As a zone's Dataplane stands on the global.
fn dataplane(at: usize) -> Resource {
    let service = format!("backend-{}", at % 1_000);
    let tags = [("kuma.io/protocol", "http"), ("kuma.io/service", &service), ("kuma.io/zone", "east")];
    let inbound = Inbound {
        port: 8080,
        tags: tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>(),
        ..Inbound::default()
    };
    let networking = Networking { address: "10.0.0.1".into(), inbound: vec![inbound], ..Networking::default() };
    let spec = Payload::from_message(&Dataplane { networking: Some(networking), ..Dataplane::default() });
    let labels = [("kuma.io/mesh", "default"), ("kuma.io/origin", "zone"), ("kuma.io/zone", "east")];
    Resource::new(Key::new(Kind::Dataplane, "default", &name(at)), Labels::from_iter(labels), spec)
}

fn name(at: usize) -> String {
    format!("dp-{at:06}")
}

async fn measure(address: SocketAddr, args: &Args) -> Result<()> {
    let resources = args.resources;
    let one = move |n: usize| format!("/meshes/default/dataplanes/{}", name(n * 7_919 % resources));
    let page = move |n: usize| {
        let pages = (resources / 1_000).max(1);
        format!("/meshes/default/dataplanes?size=1000&offset={}", n % pages * 1_000)
    };
    let length = Duration::from_secs(args.seconds);
    flood("GET of one, as many as go", address, length, one).await?;
    paced(address, length, one).await?;
    flood("GET of 1,000, as many as go", address, length, page).await?;
    walk(address, resources).await?;
    puts(address).await
}

/// Every connection asks again as soon as it is answered.
async fn flood(
    what: &str,
    address: SocketAddr,
    length: Duration,
    path: impl Fn(usize) -> String + Copy + Send + 'static,
) -> Result<()> {
    let (cpu, began) = (server_time()?, Instant::now());
    let mut clients = JoinSet::new();
    for connection in 0..CONNECTIONS as usize {
        clients.spawn(async move {
            let mut client = Client::connect(address).await?;
            let mut took = Vec::new();
            while began.elapsed() < length {
                let asked = Instant::now();
                client.get(&path(connection * 104_729 + took.len())).await?;
                took.push(asked.elapsed());
            }
            anyhow::Ok(took)
        });
    }
    let mut took = all(clients).await?;
    let rate = took.len() as f64 / began.elapsed().as_secs_f64();
    let cpu = (server_time()?.saturating_sub(cpu)) / u32::try_from(took.len())?.max(1);
    let (p50, p99) = percentiles(&mut took);
    println!("  {what:28} {rate:7.0} /s   p50 {} p99 {}   server CPU {} each", ms(p50), ms(p99), ms(cpu));
    Ok(())
}

/// Requests are due at fixed times, and their latency counts from then: one that has to wait for the one before it is
/// late, not rare. Each connection has a thread that sleeps by itself: tokio's timers end up to a millisecond late.
async fn paced(
    address: SocketAddr,
    length: Duration,
    path: impl Fn(usize) -> String + Copy + Send + 'static,
) -> Result<()> {
    let (cpu, began) = (server_time()?, Instant::now());
    let every = Duration::from_secs(1) * CONNECTIONS / RATE;
    let mut clients = JoinSet::new();
    for connection in 0..CONNECTIONS {
        clients.spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let mut client = runtime.block_on(Client::connect(address))?;
            let mut took = Vec::new();
            let mut due = began + every * connection / CONNECTIONS;
            while due < began + length {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                runtime.block_on(client.get(&path(connection as usize * 104_729 + took.len())))?;
                took.push(due.elapsed());
                due += every;
            }
            anyhow::Ok(took)
        });
    }
    let mut took = all(clients).await?;
    let rate = took.len() as f64 / began.elapsed().as_secs_f64();
    let cpu = (server_time()?.saturating_sub(cpu)) / u32::try_from(took.len())?.max(1);
    let (p50, p99) = percentiles(&mut took);
    let kept = verdict(p99 <= READ_GOAL && rate >= f64::from(RATE) * 0.95);
    println!(
        "  {:28} {rate:7.0} /s   p50 {} p99 {}   server CPU {} each (goal p99 {}: {kept})",
        format!("GET of one, {RATE} /s due"),
        ms(p50),
        ms(p99),
        ms(cpu),
        ms(READ_GOAL),
    );
    Ok(())
}

/// One client reads 10,000 Dataplanes page by page, as `kumactl get dataplanes` does.
async fn walk(address: SocketAddr, resources: usize) -> Result<()> {
    let mut client = Client::connect(address).await?;
    let (began, mut bytes) = (Instant::now(), 0);
    let walked = WALKED.min(resources);
    for offset in (0..walked).step_by(1_000) {
        bytes += client.get(&format!("/meshes/default/dataplanes?size=1000&offset={offset}")).await?.len();
    }
    let (took, mib) = (began.elapsed(), bytes as f64 / f64::from(1 << 20));
    let kept = verdict(took <= WALK_GOAL);
    println!("  {walked} in pages of 1,000           {} ({mib:.1} MiB, goal {}: {kept})", ms(took), ms(WALK_GOAL));
    Ok(())
}

/// What was written is there for the next reader, on any connection, once the write is answered.
async fn puts(address: SocketAddr) -> Result<()> {
    const PATH: &str = "/meshes/default/meshtimeouts/t";
    let (mut writer, mut reader) = (Client::connect(address).await?, Client::connect(address).await?);
    let (mut wrote, mut seen) = (Vec::new(), Vec::new());
    for n in 1..=PUTS {
        // Below a second, so that it is read as it was written.
        let timeout = format!("{n}ms");
        let asked = Instant::now();
        writer.put(PATH, &timeout_policy(&timeout)).await?;
        wrote.push(asked.elapsed());
        let read = reader.get(PATH).await?;
        seen.push(asked.elapsed());
        let read: serde_json::Value = serde_json::from_slice(&read)?;
        let read = &read["spec"]["to"][0]["default"]["connectionTimeout"];
        ensure!(read.as_str() == Some(timeout.as_str()), "{timeout} was written and {read} is read");
    }
    for (what, took) in [("PUT, one writer", &mut wrote), ("PUT until a GET shows it", &mut seen)] {
        let rate = took.len() as f64 / took.iter().sum::<Duration>().as_secs_f64();
        let (p50, p99) = percentiles(took);
        println!("  {what:28} {rate:7.0} /s   p50 {} p99 {}", ms(p50), ms(p99));
    }
    Ok(())
}

fn timeout_policy(timeout: &str) -> String {
    let target = serde_json::json!({"kind": "Mesh"});
    let to = serde_json::json!([{"targetRef": target, "default": {"connectionTimeout": timeout}}]);
    let spec = serde_json::json!({"targetRef": target, "to": to});
    serde_json::json!({"type": "MeshTimeout", "mesh": "default", "name": "t", "spec": spec}).to_string()
}

/// A connection that is kept.
struct Client(SendRequest<Full<Bytes>>);

impl Client {
    async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (client, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(client))
    }

    async fn get(&mut self, path: &str) -> Result<Bytes> {
        self.send(Method::GET, path, String::new()).await
    }

    async fn put(&mut self, path: &str, body: &str) -> Result<Bytes> {
        self.send(Method::PUT, path, body.to_owned()).await
    }

    async fn send(&mut self, method: Method, path: &str, body: String) -> Result<Bytes> {
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let request = request.header("content-type", "application/json").body(Full::from(body))?;
        self.0.ready().await?;
        let response = self.0.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(
            matches!(status, StatusCode::OK | StatusCode::CREATED),
            "{path}: {status}: {}",
            String::from_utf8_lossy(&body)
        );
        Ok(body)
    }
}

async fn all(mut clients: JoinSet<Result<Vec<Duration>>>) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    while let Some(client) = clients.join_next().await {
        took.extend(client??);
    }
    ensure!(!took.is_empty(), "nothing was answered");
    Ok(took)
}

/// Processor time of the server's threads so far.
fn server_time() -> Result<Duration> {
    /// Length of a tick: 100 a second on every Linux that we run on.
    const TICK: Duration = Duration::from_millis(10);
    let mut ticks = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        // A thread may end meanwhile.
        let Ok(stat) = std::fs::read_to_string(task?.path().join("stat")) else { continue };
        let (head, tail) = stat.rsplit_once(')').context("a thread without a name")?;
        if head.contains(SERVER) {
            // User and system time are the 14th and 15th field, the 12th and 13th behind the name.
            let fields = tail.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
            ticks += fields.sum::<Result<u32, _>>()?;
        }
    }
    Ok(TICK * ticks)
}

fn percentiles(took: &mut [Duration]) -> (Duration, Duration) {
    took.sort();
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
    (at(50), at(99))
}

fn ms(length: Duration) -> String {
    format!("{:.3} ms", length.as_secs_f64() * 1e3)
}

fn verdict(kept: bool) -> &'static str {
    if kept { "kept" } else { "MISSED" }
}
