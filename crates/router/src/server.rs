//! Accepts connections: a thread with a listener of its own for every core.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::client_hello::{self, Progress};
use crate::connect::connect;
use crate::table::{Counters, Route, Table};
use crate::terminate::{self, Terminal};
use crate::tunnel::{End, tunnel};

/// Connections that wait for an accept.
const BACKLOG: i32 = 4_096;
/// Pause after an accept that failed for lack of something.
const SHORTAGE: Duration = Duration::from_millis(10);

/// How a router behaves.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Threads, each with a listener.
    pub workers: usize,
    /// Longest wait for a complete ClientHello.
    pub hello: Duration,
    /// Longest time in which nothing flows.
    pub idle: Duration,
    /// Most connections at a time.
    pub connections: usize,
    /// Most connections at a time from one address.
    pub connections_per_source: usize,
    /// Whether every connection is told in the log when it ends.
    pub access_log: bool,
}

impl Default for Settings {
    /// Envoy's limits of time (zone-dataplane 12.2, 12.3).
    fn default() -> Self {
        Self {
            workers: thread::available_parallelism().map_or(1, Into::into),
            hello: Duration::from_secs(15),
            idle: Duration::from_secs(3_600),
            connections: 100_000,
            connections_per_source: 100_000,
            access_log: false,
        }
    }
}

/// Why a connection was closed without a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Refusal {
    /// Its first bytes are not TLS.
    NotTls,
    /// They are, and break its rules.
    Malformed,
    /// The hello is too long.
    TooLong,
    /// The hello did not come in time.
    Slow,
    /// The client went away before it was complete.
    Gone,
    /// The hello names no server.
    NoServerName,
    /// Nothing leads where it wants to go.
    UnknownServerName,
    /// No endpoint could be reached.
    Unreachable,
    /// There are too many connections, in all or from its address.
    TooMany,
    /// The certificate that would be shown has not come yet.
    NoCertificate,
    /// The client did not prove that it is of the mesh.
    Handshake,
    /// The client may not call.
    Denied,
}

impl Refusal {
    /// All, in order.
    pub const ALL: [Self; 12] = [
        Self::NotTls,
        Self::Malformed,
        Self::TooLong,
        Self::Slow,
        Self::Gone,
        Self::NoServerName,
        Self::UnknownServerName,
        Self::Unreachable,
        Self::TooMany,
        Self::NoCertificate,
        Self::Handshake,
        Self::Denied,
    ];

    /// Value of the label `reason` in metrics and logs.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotTls => "not_tls",
            Self::Malformed => "malformed_hello",
            Self::TooLong => "hello_too_long",
            Self::Slow => "hello_timeout",
            Self::Gone => "client_gone",
            Self::NoServerName => "no_server_name",
            Self::UnknownServerName => "unknown_server_name",
            Self::Unreachable => "no_endpoint_reachable",
            Self::TooMany => "too_many_connections",
            Self::NoCertificate => "no_certificate_yet",
            Self::Handshake => "handshake_failed",
            Self::Denied => "access_denied",
        }
    }
}

impl From<client_hello::Fault> for Refusal {
    fn from(fault: client_hello::Fault) -> Self {
        match fault {
            client_hello::Fault::NotTls => Self::NotTls,
            client_hello::Fault::Malformed => Self::Malformed,
            client_hello::Fault::TooLong => Self::TooLong,
        }
    }
}

impl From<terminate::Refusal> for Refusal {
    fn from(refusal: terminate::Refusal) -> Self {
        match refusal {
            terminate::Refusal::NoCertificate => Self::NoCertificate,
            terminate::Refusal::Handshake => Self::Handshake,
            terminate::Refusal::Denied => Self::Denied,
            terminate::Refusal::Unreachable => Self::Unreachable,
        }
    }
}

/// What all threads of a listener share.
#[derive(Debug)]
pub struct Shared {
    settings: Settings,
    table: ArcSwap<Table>,
    open: AtomicUsize,
    by_source: Mutex<HashMap<IpAddr, usize>>,
    refused: [AtomicU64; Refusal::ALL.len()],
    shortages: AtomicU64,
    closing: CancellationToken,
    connections: TaskTracker,
}

impl Shared {
    /// Connections that were refused for a reason.
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.refused[refusal as usize].load(Ordering::Relaxed)
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Times that a connection could not be accepted for lack of descriptors or memory.
    pub fn shortages(&self) -> u64 {
        self.shortages.load(Ordering::Relaxed)
    }

    fn refuse(&self, peer: SocketAddr, refusal: Refusal) {
        self.refused[refusal as usize].fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%peer, reason = refusal.reason(), "closed a connection");
    }
}

/// A listener that routes.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Server {
    /// Listens, with no routes yet.
    ///
    /// # Errors
    /// The address cannot be listened on, or a thread cannot be started.
    pub fn start(address: SocketAddr, settings: Settings) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            settings,
            table: ArcSwap::default(),
            open: AtomicUsize::new(0),
            by_source: Mutex::default(),
            refused: Default::default(),
            shortages: AtomicU64::new(0),
            closing: CancellationToken::new(),
            connections: TaskTracker::new(),
        });
        let first = listen(address)?;
        let address = first.local_addr()?;
        let mut listeners = vec![first];
        for _ in 1..settings.workers {
            listeners.push(listen(address)?);
        }
        for (at, listener) in listeners.into_iter().enumerate() {
            let shared = Arc::clone(&shared);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            thread::Builder::new()
                .name(format!("router-{at}"))
                .spawn(move || runtime.block_on(accept(listener, &shared)))?;
        }
        Ok(Self { address, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What its threads share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Routes by another table from the next connection on; open ones stay.
    pub fn swap(&self, table: Arc<Table>) {
        self.shared.table.store(table);
    }

    /// Accepts nothing more, and returns when the open connections have ended or `limit` is over.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.shared.closing.cancel();
        self.shared.connections.close();
        timeout(limit, self.shared.connections.wait()).await.is_ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.closing.cancel();
    }
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until the server closes; then stays for as long as its connections do.
async fn accept(listener: std::net::TcpListener, shared: &Arc<Shared>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "cannot wait for connections"),
    };
    // Given up when descriptors run out, so that whoever waits is told by a close and not left alone.
    let mut spare = File::open("/dev/null").ok();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.closing.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((client, peer)) => {
                let admitted = Admitted::new(shared, peer);
                match admitted {
                    Some(admitted) => drop(shared.connections.spawn(serve(admitted, client, peer))),
                    None => shared.refuse(peer, Refusal::TooMany),
                }
            }
            Err(error) => {
                shared.shortages.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "cannot accept a connection");
                drop(spare.take());
                let turned_away = timeout(SHORTAGE, listener.accept()).await;
                drop(turned_away);
                tokio::time::sleep(SHORTAGE).await;
                spare = File::open("/dev/null").ok();
            }
        }
    }
    drop(listener);
    shared.connections.wait().await;
}

/// A connection's place among the allowed ones.
struct Admitted {
    shared: Arc<Shared>,
    source: IpAddr,
}

impl Admitted {
    fn new(shared: &Arc<Shared>, peer: SocketAddr) -> Option<Self> {
        let source = peer.ip();
        let admitted = Self { shared: Arc::clone(shared), source };
        let open = shared.open.fetch_add(1, Ordering::Relaxed);
        let from_source = {
            let mut sources = shared.by_source.lock().unwrap_or_else(PoisonError::into_inner);
            let count = sources.entry(source).or_default();
            *count += 1;
            *count
        };
        // What was counted in vain is counted out by the drop.
        let limits = &shared.settings;
        (open < limits.connections && from_source <= limits.connections_per_source).then_some(admitted)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
        let mut sources = self.shared.by_source.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sources.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

/// One connection from its hello to its end.
async fn serve(admitted: Admitted, mut client: TcpStream, peer: SocketAddr) {
    let shared = &admitted.shared;
    let routed = timeout(shared.settings.hello, hello(&client, shared)).await;
    let (route, first) = match routed.unwrap_or(Err(Refusal::Slow)) {
        Ok(routed) => routed,
        Err(refusal) => {
            shared.refuse(peer, refusal);
            return answer(client, shared).await;
        }
    };
    let counters = &route.counters;
    Counters::add(&counters.connections, 1);
    if let Some(terminal) = &route.terminal {
        // Seldom, and large: it must not make all the others larger.
        return Box::pin(end_tls(shared, &route, terminal, client, peer, first)).await;
    }
    let Some((mut endpoint, host)) = connect(&route.cluster).await else {
        Counters::add(&counters.unreachable, 1);
        return shared.refuse(peer, Refusal::Unreachable);
    };
    // A nagled message would wait for its acknowledgement; a socket that is gone already says so when it is used.
    let _ = (client.set_nodelay(true), endpoint.set_nodelay(true));
    let active = Active::new(counters);
    let outcome = tunnel(&mut client, &mut endpoint, first, shared.settings.idle).await;
    drop(active);
    Counters::add(&counters.sent, outcome.sent);
    Counters::add(&counters.received, outcome.received);
    if shared.settings.access_log {
        let end = match &outcome.end {
            End::Finished => "finished",
            End::Idle => "idle",
            End::Broken(_) => "broken",
        };
        tracing::info!(
            %peer,
            cluster = route.cluster.name(),
            endpoint = %host.address(),
            sent_bytes = outcome.sent,
            received_bytes = outcome.received,
            end,
            "connection"
        );
    }
}

/// One connection of the mesh that goes on outside of it.
async fn end_tls(
    shared: &Shared,
    route: &Route,
    terminal: &Terminal,
    client: TcpStream,
    peer: SocketAddr,
    first: Vec<u8>,
) {
    let counters = &route.counters;
    let _ = client.set_nodelay(true);
    let active = Active::new(counters);
    let served = terminal.serve(client, peer, first, shared.settings.idle).await;
    drop(active);
    let (sent_bytes, received_bytes) = match served {
        Ok(carried) => carried,
        Err(refusal) => {
            if refusal == terminate::Refusal::Unreachable {
                Counters::add(&counters.unreachable, 1);
            }
            return shared.refuse(peer, refusal.into());
        }
    };
    Counters::add(&counters.sent, sent_bytes);
    Counters::add(&counters.received, received_bytes);
    if shared.settings.access_log {
        tracing::info!(%peer, cluster = route.cluster.name(), sent_bytes, received_bytes, end = "finished", "connection");
    }
}

struct Active<'r>(&'r Counters);

impl<'r> Active<'r> {
    fn new(counters: &'r Counters) -> Self {
        counters.active.fetch_add(1, Ordering::Relaxed);
        Self(counters)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

thread_local! {
    static SHARED_BUFFER: RefCell<Buffers> = RefCell::new(Buffers {
        read: vec![0; client_hello::MAX_LEN + 1].into_boxed_slice(),
        scratch: Vec::new(),
    });
}

struct Buffers {
    read: Box<[u8]>,
    scratch: Vec<u8>,
}

/// Reads until the hello is complete; its route, and all that was read.
async fn hello(client: &TcpStream, shared: &Shared) -> Result<(Arc<Route>, Vec<u8>), Refusal> {
    let mut read = Vec::new();
    loop {
        match SHARED_BUFFER.with_borrow_mut(|buffers| receive(client, &mut read, buffers, shared)) {
            Ok(Some(route)) => return Ok((route, read)),
            Ok(None) => {}
            Err(refusal) => return Err(refusal),
        }
        client.readable().await.map_err(|_| Refusal::Gone)?;
    }
}

/// Takes what has come; the route once that is enough.
fn receive(
    client: &TcpStream,
    read: &mut Vec<u8>,
    buffers: &mut Buffers,
    shared: &Shared,
) -> Result<Option<Arc<Route>>, Refusal> {
    let Buffers { read: buffer, scratch } = buffers;
    let room = (client_hello::MAX_LEN + 1).saturating_sub(read.len()).max(1);
    let len = match client.try_read(&mut buffer[..room]) {
        Ok(0) => return Err(Refusal::Gone),
        Ok(len) => len,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        Err(_) => return Err(Refusal::Gone),
    };
    read.extend_from_slice(&buffer[..len]);
    let table = shared.table.load();
    match client_hello::parse(read, scratch) {
        Ok(Progress::Incomplete { .. }) => Ok(None),
        Ok(Progress::Complete { server_name: None }) => {
            table.nameless().cloned().map(Some).ok_or(Refusal::NoServerName)
        }
        Ok(Progress::Complete { server_name: Some(name) }) => {
            table.find(name).or_else(|| table.nameless()).cloned().map(Some).ok_or(Refusal::UnknownServerName)
        }
        Err(fault) => match table.plain() {
            Some(route) if fault == client_hello::Fault::NotTls => Ok(Some(Arc::clone(route))),
            _ => Err(fault.into()),
        },
    }
}

/// Tells a client that is not routed what the table has for it; usually nothing.
async fn answer(mut client: TcpStream, shared: &Shared) {
    let Some(answer) = shared.table.load().answer().cloned() else { return };
    // It may be gone, and then nobody needs an answer.
    let _ = timeout(shared.settings.hello, client.write_all(&answer)).await;
}
