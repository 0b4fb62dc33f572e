//! Carries bytes both ways between two sockets until both are done.
//!
//! Each direction ends by itself: the end of one is passed on, and the other goes on for as long as it has something to
//! say. A broken connection breaks the other one too; it is never turned into a clean end. While nothing flows, nothing
//! is kept: small messages go through a buffer of the thread, bulk through a [pipe](crate::pipe) of the thread.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::pipe::Pipe;

/// Size of the thread's buffer.
const BUFFER: usize = 64 << 10;
/// A read of this begins bulk: a receiver that keeps up seldom finds more waiting.
const BULK: usize = 16 << 10;
/// A read of bulk below this is a thin one.
const THIN: usize = 8 << 10;
/// Thin reads in a row that end bulk.
const THIN_READS: u8 = 4;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into_boxed_slice());
}

/// What a tunnel carried, and how it ended.
#[derive(Debug)]
pub struct Outcome {
    /// Bytes from the client to the endpoint.
    pub sent: u64,
    /// Bytes from the endpoint to the client.
    pub received: u64,
    /// Why it is over.
    pub end: End,
}

/// Why a tunnel is over.
#[derive(Debug)]
pub enum End {
    /// Both sides said that they are done.
    Finished,
    /// Nothing flowed for too long.
    Idle,
    /// One side broke; so the other was reset.
    Broken(io::Error),
}

/// Carries bytes until both sides are done. `first` was read from the client before and goes out first.
pub async fn tunnel(client: &mut TcpStream, endpoint: &mut TcpStream, first: Vec<u8>, idle: Duration) -> Outcome {
    let (sent, received, end) = {
        let (from_client, to_client) = client.split();
        let (from_endpoint, to_endpoint) = endpoint.split();
        let mut up = Half::new(from_client, to_endpoint, first);
        let mut down = Half::new(from_endpoint, to_client, Vec::new());
        let mut limit = pin!(sleep_until(Instant::now() + idle));
        let mut carried = 0;
        let end = poll_fn(|cx| {
            let polled = (up.poll(cx), down.poll(cx));
            let end = match polled {
                (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => End::Broken(error),
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => End::Finished,
                _ => {
                    let so_far = up.carried + down.carried;
                    let moved = std::mem::replace(&mut carried, so_far) != so_far;
                    ready!(poll_idle(limit.as_mut(), moved, idle, cx));
                    End::Idle
                }
            };
            Poll::Ready(end)
        })
        .await;
        (up.finish(), down.finish(), end)
    };
    if let End::Broken(_) = end {
        for socket in [&*client, &*endpoint] {
            // Without lingering a close is a reset. A socket that is gone already cannot be told.
            let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
        }
    }
    Outcome { sent, received, end }
}

/// Ready when nothing moved for `idle`.
fn poll_idle(mut limit: Pin<&mut Sleep>, moved: bool, idle: Duration, cx: &mut Context<'_>) -> Poll<()> {
    if moved {
        limit.as_mut().reset(Instant::now() + idle);
    }
    limit.poll(cx)
}

/// One direction.
struct Half<'s> {
    from: ReadHalf<'s>,
    to: WriteHalf<'s>,
    /// What the other socket did not take yet; no memory while that is nothing.
    waiting: Vec<u8>,
    taken: usize,
    pipe: Option<Pipe>,
    mode: Mode,
    ended: Ended,
    carried: u64,
}

#[derive(Clone, Copy)]
enum Mode {
    /// Through the thread's buffer.
    Messages,
    /// Through a pipe; so many thin reads in a row.
    Bulk(u8),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    No,
    /// The end was read and is still to be passed on.
    Reading,
    /// It was passed on.
    Both,
}

impl<'s> Half<'s> {
    fn new(from: ReadHalf<'s>, to: WriteHalf<'s>, waiting: Vec<u8>) -> Self {
        Self { from, to, waiting, taken: 0, pipe: None, mode: Mode::Messages, ended: Ended::No, carried: 0 }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_write(cx))?;
            match self.ended {
                Ended::Both => return Poll::Ready(Ok(())),
                Ended::Reading => {
                    ready!(Pin::new(&mut self.to).poll_shutdown(cx))?;
                    self.ended = Ended::Both;
                }
                Ended::No => {
                    let read = match self.mode {
                        Mode::Messages => self.poll_message(cx),
                        Mode::Bulk(thin) => self.poll_bulk(thin, cx),
                    };
                    if read.is_pending() {
                        self.rest();
                    }
                    ready!(read)?;
                }
            }
        }
    }

    /// Writes what waits, from the buffer or the pipe.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.taken < self.waiting.len() {
            let written = ready!(Pin::new(&mut self.to).poll_write(cx, &self.waiting[self.taken..]))?;
            self.taken += written;
            self.carried += written as u64;
        }
        if self.taken > 0 {
            (self.waiting, self.taken) = (Vec::new(), 0);
        }
        while let Some(pipe) = self.pipe.as_mut().filter(|pipe| pipe.len() > 0) {
            let socket: &TcpStream = self.to.as_ref();
            ready!(socket.poll_write_ready(cx))?;
            match socket.try_io(Interest::WRITABLE, || pipe.drain(socket)) {
                Ok(moved) => self.carried += moved as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads into the thread's buffer and writes at once what the other socket takes.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        SHARED.with_borrow_mut(|shared| {
            let mut buffer = ReadBuf::new(shared);
            ready!(Pin::new(&mut self.from).poll_read(cx, &mut buffer))?;
            let read = buffer.filled();
            if read.is_empty() {
                self.ended = Ended::Reading;
                return Poll::Ready(Ok(()));
            }
            if read.len() >= BULK {
                self.mode = Mode::Bulk(0);
            }
            let written = match Pin::new(&mut self.to).poll_write(cx, read) {
                Poll::Ready(written) => written?,
                Poll::Pending => 0,
            };
            self.carried += written as u64;
            if written < read.len() {
                self.waiting = read[written..].to_vec();
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Moves what there is into a pipe.
    fn poll_bulk(&mut self, thin: u8, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket: &TcpStream = self.from.as_ref();
        ready!(socket.poll_read_ready(cx))?;
        let pipe = match &mut self.pipe {
            Some(pipe) => pipe,
            empty => match Pipe::take() {
                Ok(pipe) => empty.insert(pipe),
                // Out of descriptors: slower, and it goes on.
                Err(_) => {
                    self.mode = Mode::Messages;
                    return Poll::Ready(Ok(()));
                }
            },
        };
        match socket.try_io(Interest::READABLE, || pipe.fill(socket)) {
            Ok(0) => self.ended = Ended::Reading,
            Ok(moved) if moved >= THIN => self.mode = Mode::Bulk(0),
            Ok(_) if thin + 1 < THIN_READS => self.mode = Mode::Bulk(thin + 1),
            Ok(_) => self.mode = Mode::Messages,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
        Poll::Ready(Ok(()))
    }

    /// Keeps nothing while there is nothing to do.
    fn rest(&mut self) {
        if let Some(pipe) = self.pipe.take_if(|pipe| pipe.len() == 0) {
            pipe.give_back();
        }
    }

    fn finish(mut self) -> u64 {
        self.rest();
        self.carried
    }
}
