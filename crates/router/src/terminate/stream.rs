//! A connection of which some was read before.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// A connection, whatever carries it.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// Gives what was read before first.
#[derive(Debug)]
pub struct Prefixed<S> {
    stream: S,
    first: Vec<u8>,
    taken: usize,
}

impl<S> Prefixed<S> {
    /// A stream from which `first` was read.
    pub fn new(stream: S, first: Vec<u8>) -> Self {
        Self { stream, first, taken: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let rest = self.first.get(self.taken..).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let len = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..len]);
        self.taken += len;
        if self.taken == self.first.len() {
            (self.first, self.taken) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Breaks when nothing was read or written for so long.
#[derive(Debug)]
pub struct Idle<'s, S: ?Sized> {
    stream: &'s mut S,
    idle: Duration,
    last: Instant,
    limit: Pin<Box<Sleep>>,
}

impl<'s, S: ?Sized> Idle<'s, S> {
    /// Begins to look.
    pub fn new(stream: &'s mut S, idle: Duration) -> Self {
        let now = Instant::now();
        Self { stream, idle, last: now, limit: Box::pin(sleep_until(now + idle)) }
    }

    fn looked(&mut self, is_pending: bool, cx: &mut Context<'_>) -> io::Result<()> {
        if !is_pending {
            self.last = Instant::now();
            return Ok(());
        }
        while self.limit.as_mut().poll(cx).is_ready() {
            let until = self.last + self.idle;
            if Instant::now() >= until {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.limit.as_mut().reset(until);
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin + ?Sized> AsyncRead for Idle<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut *self.stream).poll_read(cx, buffer);
        self.looked(read.is_pending(), cx)?;
        read
    }
}

impl<S: AsyncWrite + Unpin + ?Sized> AsyncWrite for Idle<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.stream).poll_write(cx, bytes);
        self.looked(written.is_pending(), cx)?;
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn what_was_read_before_comes_first() {
        let mut stream = Prefixed::new(tokio::io::join(&b"second"[..], tokio::io::sink()), b"first ".to_vec());
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "first second");
    }
}
