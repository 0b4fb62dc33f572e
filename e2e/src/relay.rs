//! A way between two machines that takes its time: TCP is accepted here and goes on from here.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::network::TEST;

/// To find that a machine does not answer.
const CONNECT: Duration = Duration::from_secs(1);
/// Pieces on their way, per direction: a window of about 16 MiB.
const ON_THE_WAY: usize = 256;
const PIECE: usize = 64 << 10;

/// Passes connections on, to the first of its targets that answers.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    targets: Arc<Mutex<Vec<SocketAddr>>>,
    delay: watch::Sender<Duration>,
    /// Changes when all connections are to end.
    broken: watch::Sender<u64>,
    _tasks: JoinSet<()>,
}

impl Relay {
    pub(crate) async fn start(port: u16, targets: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind((TEST, port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let targets = Arc::new(Mutex::new(targets));
        let (delay, broken) = (watch::Sender::new(Duration::ZERO), watch::Sender::new(0));
        let mut tasks = JoinSet::new();
        let (to, slow, break_now) = (Arc::clone(&targets), delay.subscribe(), broken.subscribe());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((near, _)) = listener.accept().await else { continue };
                let targets = to.lock().unwrap_or_else(PoisonError::into_inner).clone();
                connections.spawn(pass(near, targets, slow.clone(), break_now.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, targets, delay, broken, _tasks: tasks }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on each piece arrives so much later, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.delay.send_replace(delay);
    }

    /// New connections go to these.
    pub fn lead_to(&self, targets: Vec<SocketAddr>) {
        *self.targets.lock().unwrap_or_else(PoisonError::into_inner) = targets;
    }

    /// Ends all connections, both ends of them.
    pub fn break_all(&self) {
        self.broken.send_modify(|count| *count += 1);
    }
}

async fn pass(
    near: TcpStream,
    targets: Vec<SocketAddr>,
    delay: watch::Receiver<Duration>,
    mut broken: watch::Receiver<u64>,
) {
    broken.mark_unchanged();
    for target in targets {
        let Ok(Ok(far)) = tokio::time::timeout(CONNECT, TcpStream::connect(target)).await else { continue };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let (near, far) = (near.into_split(), far.into_split());
        tokio::select! {
            _ = broken.changed() => {}
            () = one_way(near.0, far.1, delay.clone()) => {}
            () = one_way(far.0, near.1, delay) => {}
        }
        return;
    }
}

/// Until one of the ends is closed; what was under way arrives.
async fn one_way(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, delay: watch::Receiver<Duration>) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let reading = async move {
        let mut piece = vec![0; PIECE];
        while let Ok(length @ 1..) = from.read(&mut piece).await {
            let due = Instant::now() + *delay.borrow();
            if sender.send((due, piece[..length].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, piece)) = pieces.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}
