//! Pipes for moving bulk inside the kernel, shared by the connections of a thread.
//!
//! A pipe costs two descriptors and kernel memory even when it is empty, so a connection has one only while bytes lie in
//! it or flow thick.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// Size of a pipe. As cheap per byte as larger ones, and an unprivileged user may have 256 of it in all.
const SIZE: usize = 256 << 10;
/// Empty pipes that a thread keeps.
const KEPT: usize = 64;

thread_local! {
    static POOL: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// A pipe and how many bytes lie in it.
#[derive(Debug)]
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    len: usize,
}

impl Pipe {
    /// An empty one, used or new.
    ///
    /// # Errors
    /// The process or the machine has no descriptors left.
    pub fn take() -> io::Result<Self> {
        if let Some(pipe) = POOL.with_borrow_mut(Vec::pop) {
            return Ok(pipe);
        }
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Past the user's limit the pipe stays as small as it is: slower, and still right.
        let _ = fcntl_setpipe_size(&writer, SIZE);
        Ok(Self { reader, writer, len: 0 })
    }

    /// Gives an empty one back. One with bytes in it is closed: they would reach another connection.
    pub fn give_back(self) {
        if self.len == 0 {
            POOL.with_borrow_mut(|pool| {
                if pool.len() < KEPT {
                    pool.push(self);
                }
            });
        }
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Moves what a socket has into the pipe; 0 at its end.
    ///
    /// # Errors
    /// `WouldBlock` when the socket has nothing, others when it is broken.
    pub fn fill(&mut self, from: impl AsFd) -> io::Result<usize> {
        let moved = splice(from, None, &self.writer, None, SIZE, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?;
        self.len += moved;
        Ok(moved)
    }

    /// Moves what is in the pipe to a socket.
    ///
    /// # Errors
    /// `WouldBlock` when the socket takes nothing, others when it is broken.
    pub fn drain(&mut self, to: impl AsFd) -> io::Result<usize> {
        let moved = splice(&self.reader, None, to, None, self.len, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?;
        self.len -= moved;
        Ok(moved)
    }
}
