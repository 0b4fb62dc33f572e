//! Clients and backends: what is not measured.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::hello::{ANSWER, HELLO, hello};

/// The server names that lead to the backends.
pub const NAMES: [&str; 3] = ["plain-0{mesh=default}", "plain-1{mesh=default}", "plain-2{mesh=default}"];
/// Clients at a time.
const CLIENTS: usize = 32;
const QUESTION: usize = 64;
const REPLY: usize = 512;
const CHUNK: usize = 256 << 10;
/// Longest wait for any byte.
const PATIENCE: Duration = Duration::from_secs(30);

/// Three servers. What a connection is for stands in the first byte behind its hello.
pub struct Backends {
    servers: Vec<(SocketAddr, Arc<AtomicUsize>)>,
}

/// First byte behind the hello.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Purpose {
    /// One exchange.
    Exchange = b'x',
    /// 1-KiB messages back and forth.
    Echo = b'e',
    /// The server sends as much as it can.
    Down = b'd',
    /// The server takes as much as it can.
    Up = b'u',
}

#[derive(Clone, Copy)]
pub enum Way {
    Down,
    Up,
}

impl Backends {
    pub fn start() -> Result<Self> {
        let mut servers = Vec::new();
        for _ in 0..3 {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let (address, count) = (listener.local_addr()?, Arc::new(AtomicUsize::new(0)));
            servers.push((address, Arc::clone(&count)));
            thread::spawn(move || {
                while let Ok((stream, _)) = listener.accept() {
                    count.fetch_add(1, Ordering::Relaxed);
                    // A client that goes away in the middle ends its connection here.
                    let serving = thread::Builder::new().stack_size(64 << 10);
                    let _ = serving.spawn(move || serve(stream));
                }
            });
        }
        Ok(Self { servers })
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(|(address, _)| *address).collect()
    }

    /// One of them, to be asked without a proxy.
    pub fn echo(&self) -> SocketAddr {
        self.servers[0].0
    }

    /// How many connections each got meanwhile.
    pub fn counted(&self, during: impl FnOnce() -> Result<()>) -> Result<Vec<usize>> {
        let now = || self.servers.iter().map(|(_, count)| count.load(Ordering::Relaxed));
        let before: Vec<usize> = now().collect();
        during()?;
        Ok(now().zip(before).map(|(now, before)| now - before).collect())
    }
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.read_exact(&mut [0; HELLO])?;
    stream.write_all(&[0; ANSWER])?;
    let mut purpose = [0];
    stream.read_exact(&mut purpose)?;
    match purpose[0] {
        b'e' => {
            let mut message = [0; 1_024];
            loop {
                stream.read_exact(&mut message)?;
                stream.write_all(&message)?;
            }
        }
        b'd' => loop {
            stream.write_all(&vec![0; CHUNK])?;
        },
        b'u' => {
            let mut buffer = vec![0; CHUNK];
            while stream.read(&mut buffer)? > 0 {}
        }
        _ => {
            stream.read_exact(&mut [0; QUESTION - 1])?;
            stream.write_all(&[0; REPLY])?;
        }
    }
    Ok(())
}

/// A connection whose hello was answered.
fn greeted(address: SocketAddr, name: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&hello(name))?;
    stream.read_exact(&mut [0; ANSWER]).context("the hello is not answered")?;
    Ok(stream)
}

fn purposeful(address: SocketAddr, purpose: Purpose) -> Result<TcpStream> {
    let mut stream = greeted(address, NAMES[0])?;
    stream.write_all(&[purpose as u8])?;
    Ok(stream)
}

/// So many whole connections, over the three names.
pub fn connections(address: SocketAddr, count: usize) -> Result<()> {
    in_parallel(count, |n| exchange(address, NAMES[n % NAMES.len()]))
}

/// So many whole connections to one name.
pub fn connections_to(address: SocketAddr, name: &str, count: usize) -> Result<()> {
    in_parallel(count, |_| exchange(address, name))
}

fn in_parallel(count: usize, one: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let work = || -> Result<()> {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= count {
                    return Ok(());
                }
                one(n)?;
            }
        };
        let workers: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(result) => result,
            Err(_) => bail!("a client died"),
        })
    })
}

fn exchange(address: SocketAddr, name: &str) -> Result<()> {
    let mut stream = greeted(address, name)?;
    let mut question = [0; QUESTION];
    question[0] = Purpose::Exchange as u8;
    stream.write_all(&question)?;
    stream.read_exact(&mut [0; REPLY])?;
    Ok(())
}

/// Bytes that went through four connections in so long.
pub fn bulk(address: SocketAddr, way: Way, length: Duration) -> Result<u64> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let carry = || -> Result<u64> {
            let purpose = match way {
                Way::Down => Purpose::Down,
                Way::Up => Purpose::Up,
            };
            let (mut stream, mut buffer) = (purposeful(address, purpose)?, vec![0; CHUNK]);
            let mut bytes = 0;
            while !over.load(Ordering::Relaxed) {
                bytes += match way {
                    Way::Down => stream.read(&mut buffer)?,
                    Way::Up => stream.write(&buffer)?,
                } as u64;
            }
            Ok(bytes)
        };
        let carriers: Vec<_> = (0..4).map(|_| scope.spawn(carry)).collect();
        thread::sleep(length);
        over.store(true, Ordering::Relaxed);
        carriers.into_iter().try_fold(0, |sum, carrier| match carrier.join() {
            Ok(bytes) => Ok(sum + bytes?),
            Err(_) => bail!("a client died"),
        })
    })
}

/// A connection for ping-pong, and how long each took.
pub struct Pair {
    stream: TcpStream,
    took: Vec<Duration>,
}

impl Pair {
    pub fn open(address: SocketAddr) -> Result<Self> {
        Ok(Self { stream: purposeful(address, Purpose::Echo)?, took: Vec::new() })
    }

    /// So many messages, one after the other's answer, with a pause between them.
    pub fn turn(&mut self, messages: usize) -> Result<()> {
        let mut message = [7; 1_024];
        for _ in 0..messages {
            let sent = Instant::now();
            self.stream.write_all(&message)?;
            self.stream.read_exact(&mut message)?;
            self.took.push(sent.elapsed());
            thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// In microseconds.
    pub fn median(&mut self) -> f64 {
        self.took.sort();
        self.took[self.took.len() / 2].as_secs_f64() * 1e6
    }
}

/// Opens so many connections, each with its hello answered, and leaves them idle.
pub fn hold(address: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    let mut held = Vec::with_capacity(count);
    for n in 0..count {
        held.push(greeted(address, NAMES[n % NAMES.len()])?);
    }
    // Whatever is freed late is freed now.
    thread::sleep(Duration::from_secs(1));
    Ok(held)
}

/// Tries until a name is routed.
pub fn until_routed(address: SocketAddr, name: &str) -> Result<()> {
    let began = Instant::now();
    loop {
        let routed = (|| -> std::io::Result<()> {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(&hello(name))?;
            stream.read_exact(&mut [0; ANSWER])
        })();
        match routed {
            Ok(()) => return Ok(()),
            Err(error) => {
                let expected = [ErrorKind::ConnectionRefused, ErrorKind::ConnectionReset, ErrorKind::UnexpectedEof];
                ensure!(expected.contains(&error.kind()) || error.kind() == ErrorKind::BrokenPipe, "{error}");
                ensure!(began.elapsed() < Duration::from_secs(60), "{name} is never routed");
                thread::sleep(Duration::from_millis(2));
            }
        }
    }
}
