//! Connections over the simulated network, which break as those of the kernel do.
//!
//! Turmoil delivers, delays or drops segments, and sends none a second time. The kernel does, and gives a silent
//! connection up after [`SILENCE`]: so a cut holds segments back, and what is cut for longer is reset.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use turmoil::net::TcpStream;

/// As long as the programs let a silent connection live (`runtime::socket`).
pub(crate) const SILENCE: Duration = runtime::socket::SILENCE;

/// All connections. Clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Network(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    ends: BTreeMap<u64, End>,
}

/// One end of a connection: the two machines, and the way to break it.
#[derive(Debug)]
struct End {
    between: [String; 2],
    reset: oneshot::Sender<()>,
}

impl Network {
    /// Takes one end of a connection in.
    pub fn wire(&self, here: &str, there: &str, stream: TcpStream) -> Wire {
        let (reset, broken) = oneshot::channel();
        let mut open = self.open();
        let id = open.next;
        open.next += 1;
        open.ends.insert(id, End { between: [here.to_owned(), there.to_owned()], reset });
        Wire { stream, broken, id, network: self.clone() }
    }

    /// The ends of the connections between two machines.
    pub fn between(&self, a: &str, b: &str) -> Vec<u64> {
        let is_between = |end: &End| end.between == [a, b] || end.between == [b, a];
        self.open().ends.iter().filter(|(_, end)| is_between(end)).map(|(id, _)| *id).collect()
    }

    /// Breaks connections, if they still are.
    pub fn reset(&self, ends: &[u64]) {
        for id in ends {
            let end = self.open().ends.remove(id);
            if let Some(end) = end {
                // Nobody hears of it when the connection has ended meanwhile.
                let _ = end.reset.send(());
            }
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    broken: oneshot::Receiver<()>,
    id: u64,
    network: Network,
}

impl Wire {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.broken.poll_unpin(context) {
            Poll::Ready(Ok(())) => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.network.open().ends.remove(&self.id);
    }
}
