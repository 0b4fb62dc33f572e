//! The router between real sockets.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test: what is missing ends it")]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use router::cluster::{Cluster, Endpoint, Host, Settings as ClusterSettings};
use router::server::{Refusal, Server, Settings};
use router::table::{Route, Table};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

/// A hello for a name in records of at most `size` bytes, padded to `padding` bytes more.
fn hello(name: &str, padding: usize, size: usize) -> Vec<u8> {
    fn vector(content: &[u8]) -> Vec<u8> {
        [&u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
    }
    let host = vector(&[&[0], vector(name.as_bytes()).as_slice()].concat());
    let extensions = [&[0, 0][..], &vector(&host), &[0, 21], &vector(&vec![0; padding])].concat();
    let body = [&[3, 3][..], &[7; 32], &[0], &vector(&[0x13, 1]), &[1, 0], &vector(&extensions)].concat();
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1, len[1], len[2], len[3]], body.as_slice()].concat();
    message.chunks(size).flat_map(|chunk| [&[22, 3, 1], vector(chunk).as_slice()].concat()).collect()
}

fn plain(name: &str) -> Vec<u8> {
    hello(name, 0, 16_384)
}

/// A server that hands each of its connections to a task.
async fn endpoint<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> (SocketAddr, JoinHandle<()>)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream));
        }
    });
    (address, task)
}

/// Answers every connection with a letter, then echoes.
async fn echo(letter: u8) -> SocketAddr {
    let (address, _) = endpoint(move |mut stream| async move {
        stream.write_all(&[letter]).await?;
        let (mut from, mut to) = stream.split();
        tokio::io::copy(&mut from, &mut to).await?;
        to.shutdown().await
    })
    .await;
    address
}

fn cluster(name: &str, endpoints: &[(SocketAddr, u32)]) -> Arc<Cluster> {
    let endpoint = |(address, weight): &(SocketAddr, u32)| Endpoint {
        host: Host::new(*address),
        weight: *weight,
        priority: 0,
        well: true,
    };
    let cluster = Cluster::new(name);
    cluster.set(ClusterSettings { connect_timeout: Duration::from_secs(1), ..ClusterSettings::default() });
    cluster.replace(endpoints.iter().map(endpoint).collect(), 140);
    Arc::new(cluster)
}

fn table(routes: &[(&str, &Arc<Cluster>)]) -> Arc<Table> {
    let mut table = Table::default();
    for (name, cluster) in routes {
        table.insert(name, Arc::new(Route::new(Arc::clone(cluster)))).unwrap();
    }
    Arc::new(table)
}

fn start(settings: Settings, table: &Arc<Table>) -> Server {
    let server = Server::start("127.0.0.1:0".parse().unwrap(), Settings { workers: 2, ..settings }).unwrap();
    server.swap(Arc::clone(table));
    server
}

async fn dial(server: &Server, first: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(first).await.unwrap();
    stream
}

/// All that comes until the end.
async fn rest(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("an end")?;
    Ok(bytes)
}

async fn letter(stream: &mut TcpStream) -> char {
    char::from(timeout(PATIENCE, stream.read_u8()).await.expect("an answer").unwrap())
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = tokio::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const A: &str = "backend{mesh=default}";

/// DP-30, DP-37, DP-39: one byte per segment, records of 64 bytes, a large hello; and all of it arrives as it was sent.
#[tokio::test]
async fn a_hello_is_routed_however_it_arrives() {
    let (a, b) = (cluster("a", &[(echo(b'a').await, 1)]), cluster("b", &[(echo(b'b').await, 1)]));
    let server = start(Settings::default(), &table(&[(A, &a), ("other", &b)]));
    for (name, want) in [(A, 'a'), ("BACKEND{mesh=Default}", 'a'), ("Other", 'b')] {
        for sent in [plain(name), hello(name, 1_400, 64), hello(name, 16_000 - 100, 16_384)] {
            let mut stream = dial(&server, &sent).await;
            assert_eq!(letter(&mut stream).await, want);
            stream.shutdown().await.unwrap();
            assert!(rest(&mut stream).await.unwrap() == sent, "the endpoint echoes what the client sent");
        }
    }
    let sent = hello(A, 30, 64);
    let mut stream = dial(&server, &[]).await;
    for byte in &sent {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    stream.write_all(b"early data").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await.unwrap(), [b"a", sent.as_slice(), b"early data"].concat());
}

/// DP-36, DP-38: what is not routed is closed without a byte, and counted.
#[tokio::test]
async fn what_leads_nowhere_is_closed_without_a_byte() {
    let a = cluster("a", &[(echo(b'a').await, 1)]);
    let settings = Settings { hello: Duration::from_millis(300), ..Settings::default() };
    let server = start(settings, &table(&[(A, &a)]));
    let cases: [(&[u8], Refusal); 6] = [
        (b"GET / HTTP/1.1\r\n\r\n", Refusal::NotTls),
        (&plain("unknown{mesh=default}"), Refusal::UnknownServerName),
        (&plain(""), Refusal::NoServerName),
        (&[22, 3, 1, 0, 0], Refusal::Malformed),
        (&hello(A, 17_000, 1_000), Refusal::TooLong),
        (&plain(A)[..40], Refusal::Slow),
    ];
    for (sent, refusal) in cases {
        let mut stream = dial(&server, sent).await;
        // Bytes that nobody read turn the close into a reset.
        let answer = rest(&mut stream).await.unwrap_or_default();
        assert!(answer.is_empty(), "{refusal:?}: {answer:?}");
        eventually("it is counted", || server.shared().refused(refusal) == 1).await;
    }
    drop(dial(&server, &plain(A)[..40]).await);
    eventually("a client that went away", || server.shared().refused(Refusal::Gone) == 1).await;
    eventually("nothing stays", || server.shared().open() == 0).await;
    assert_eq!(letter(&mut dial(&server, &plain(A)).await).await, 'a', "and it goes on");
}

/// DP-42: the end of one direction is passed on, and the other goes on.
#[tokio::test]
async fn a_late_answer_arrives_after_the_end_of_the_question() {
    let (address, _) = endpoint(|mut stream| async move {
        let mut question = Vec::new();
        stream.read_to_end(&mut question).await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
        stream.write_all(format!("{} bytes", question.len()).as_bytes()).await
    })
    .await;
    let server = start(Settings::default(), &table(&[(A, &cluster("a", &[(address, 1)]))]));
    let sent = plain(A);
    let mut stream = dial(&server, &sent).await;
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await.unwrap(), format!("{} bytes", sent.len()).as_bytes());
}

/// An abort is never a clean end, in either direction.
#[tokio::test]
async fn an_abort_is_passed_on() {
    let (reset, aborted) = tokio::sync::oneshot::channel();
    let reset = Arc::new(std::sync::Mutex::new(Some(reset)));
    let (address, _) = endpoint(move |mut stream| {
        let reset = Arc::clone(&reset);
        async move {
            let mut buffer = vec![0; 1 << 16];
            let ended = loop {
                match stream.read(&mut buffer).await {
                    Ok(0) => break Ok(()),
                    Ok(len) if buffer[..len].ends_with(b"abort") => {
                        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
                        return Ok(());
                    }
                    Ok(_) => {}
                    Err(error) => break Err(error.kind()),
                }
            };
            reset.lock().unwrap().take().unwrap().send(ended).unwrap();
            Ok(())
        }
    })
    .await;
    let server = start(Settings::default(), &table(&[(A, &cluster("a", &[(address, 1)]))]));
    let mut stream = dial(&server, &[&plain(A)[..], b"abort"].concat()).await;
    assert_eq!(rest(&mut stream).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);

    let stream = dial(&server, &plain(A)).await;
    eventually("it is routed", || server.shared().open() == 1).await;
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    assert_eq!(timeout(PATIENCE, aborted).await.unwrap().unwrap(), Err(io::ErrorKind::ConnectionReset));
}

/// Bulk in both directions at once, past every buffer and pipe, byte for byte.
#[tokio::test]
async fn bulk_arrives_byte_for_byte() {
    const LEN: usize = 24 << 20;
    let content: Vec<u8> = (0..LEN).map(|at| (at * 7 + at / 251) as u8).collect();
    let server = start(Settings::default(), &table(&[(A, &cluster("a", &[(echo(b'a').await, 1)]))]));
    let sent = plain(A);
    let stream = dial(&server, &sent).await;
    let (mut from, mut to) = stream.into_split();
    let upload = tokio::spawn({
        let content = content.clone();
        async move {
            // In uneven pieces, so that bulk turns into messages and back.
            for (n, piece) in content.chunks(700_001).enumerate() {
                to.write_all(piece).await.unwrap();
                if n % 5 == 0 {
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
            }
            to.shutdown().await.unwrap();
        }
    });
    let mut echoed = Vec::with_capacity(LEN + 1_000);
    timeout(PATIENCE, from.read_to_end(&mut echoed)).await.expect("an end").unwrap();
    upload.await.unwrap();
    assert!(echoed[1..] == [&sent[..], &content].concat(), "{} bytes came back", echoed.len());
}

/// DP-43 in short: a connection may be silent for as long as is allowed, and not for longer.
#[tokio::test]
async fn only_silence_ends_a_connection() {
    let settings = Settings { idle: Duration::from_millis(500), ..Settings::default() };
    let server = start(settings, &table(&[(A, &cluster("a", &[(echo(b'a').await, 1)]))]));
    let mut stream = dial(&server, &plain(A)).await;
    let mut received = 0;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        stream.write_all(b"x").await.unwrap();
        received += stream.read(&mut [0; 1_000]).await.unwrap();
    }
    assert!(received >= 8, "it lived for more than twice as long");
    assert!(rest(&mut stream).await.is_ok_and(|rest| rest.len() < 100), "and ends when nobody speaks");
}

/// Weights 2, 1, 5 over 10,000 connections: every class within one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_are_exact_over_real_connections() {
    let (a, b, c) = (echo(b'a').await, echo(b'b').await, echo(b'c').await);
    let server = Arc::new(start(Settings::default(), &table(&[(A, &cluster("a", &[(a, 2), (b, 1), (c, 5)]))])));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let server = Arc::clone(&server);
        clients.spawn(async move {
            let mut counts = [0; 3];
            for _ in 0..625 {
                let mut stream = dial(&server, &plain(A)).await;
                counts[usize::from(letter(&mut stream).await as u8 - b'a')] += 1;
                // No TIME_WAIT for each of them.
                SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
            counts
        });
    }
    let counts = clients
        .join_all()
        .await
        .into_iter()
        .fold([0_i32; 3], |sum, counts: [i32; 3]| [sum[0] + counts[0], sum[1] + counts[1], sum[2] + counts[2]]);
    for (count, want) in counts.iter().zip([2_500, 1_250, 6_250]) {
        assert!((count - want).abs() <= 1, "{counts:?}");
    }
}

/// A dead endpoint costs nobody a connection: another one is tried, then it is left out, and taken in when it lives.
#[tokio::test]
async fn a_dead_endpoint_is_left_out_and_taken_in_again() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let a = cluster("a", &[(echo(b'a').await, 1), (dead, 1)]);
    let server = start(Settings::default(), &table(&[(A, &a)]));
    for _ in 0..20 {
        assert_eq!(letter(&mut dial(&server, &plain(A)).await).await, 'a');
    }
    let endpoints = a.endpoints();
    assert!(endpoints[1].host.is_ejected() && !endpoints[0].host.is_ejected());
    let listener = TcpListener::bind(dead).await.unwrap();
    eventually("it is taken in again", || !a.endpoints()[1].host.is_ejected()).await;
    let (mut first, mut second) = (dial(&server, &plain(A)).await, dial(&server, &plain(A)).await);
    // The prober's connection comes first.
    let mut stream = loop {
        let (mut stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        if stream.read(&mut [0; 1]).await.unwrap() == 1 {
            break stream;
        }
    };
    stream.write_all(b"b").await.unwrap();
    let letters = tokio::join!(letter(&mut first), letter(&mut second));
    assert!(letters == ('a', 'b') || letters == ('b', 'a'), "{letters:?}");
}

#[tokio::test]
async fn nobody_to_connect_to_is_a_close() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (a, b) = (cluster("a", &[(dead, 1)]), cluster("b", &[]));
    let server = start(Settings::default(), &table(&[(A, &a), ("b", &b)]));
    for name in [A, "b", A, "b"] {
        assert!(rest(&mut dial(&server, &plain(name)).await).await.unwrap_or_default().is_empty());
    }
    eventually("all are counted", || server.shared().refused(Refusal::Unreachable) == 4).await;
}

/// Another table counts from the next connection on; open ones stay where they are.
#[tokio::test]
async fn a_swap_touches_no_open_connection() {
    let (a, b) = (cluster("a", &[(echo(b'a').await, 1)]), cluster("b", &[(echo(b'b').await, 1)]));
    let server = start(Settings::default(), &table(&[(A, &a)]));
    let mut before = dial(&server, &plain(A)).await;
    assert_eq!(letter(&mut before).await, 'a');
    server.swap(table(&[(A, &b)]));
    assert_eq!(letter(&mut dial(&server, &plain(A)).await).await, 'b');
    before.write_all(b"still here").await.unwrap();
    before.shutdown().await.unwrap();
    assert!(rest(&mut before).await.unwrap().ends_with(b"still here"));
}

#[tokio::test]
async fn there_are_limits_in_all_and_for_each_source() {
    let a = cluster("a", &[(echo(b'a').await, 1)]);
    let table = table(&[(A, &a)]);
    for settings in [
        Settings { connections: 2, ..Settings::default() },
        Settings { connections_per_source: 2, ..Settings::default() },
    ] {
        let server = start(settings, &table);
        let (mut first, mut second) = (dial(&server, &plain(A)).await, dial(&server, &plain(A)).await);
        assert_eq!((letter(&mut first).await, letter(&mut second).await), ('a', 'a'));
        assert!(rest(&mut dial(&server, &plain(A)).await).await.unwrap_or_default().is_empty());
        assert_eq!(server.shared().refused(Refusal::TooMany), 1);
        drop(first);
        eventually("a place is free", || server.shared().open() == 1).await;
        assert_eq!(letter(&mut dial(&server, &plain(A)).await).await, 'a');
    }
}

/// A drain accepts nothing more and waits for what is open.
#[tokio::test]
async fn a_drain_waits_for_open_connections() {
    let server = start(Settings::default(), &table(&[(A, &cluster("a", &[(echo(b'a').await, 1)]))]));
    let mut stream = dial(&server, &plain(A)).await;
    assert_eq!(letter(&mut stream).await, 'a');
    assert!(!server.drain(Duration::from_millis(100)).await, "one is open");
    assert!(TcpStream::connect(server.address()).await.is_err(), "nobody new");
    stream.shutdown().await.unwrap();
    rest(&mut stream).await.unwrap();
    assert!(server.drain(PATIENCE).await);
}

#[tokio::test]
async fn a_route_counts_what_goes_through_it() {
    let a = cluster("a", &[(echo(b'a').await, 1)]);
    let route = Arc::new(Route::new(a));
    let mut table = Table::default();
    table.insert(A, Arc::clone(&route)).unwrap();
    let server = start(Settings::default(), &Arc::new(table));
    let sent = plain(A);
    let mut stream = dial(&server, &sent).await;
    assert_eq!(letter(&mut stream).await, 'a');
    assert_eq!(route.counters.active.load(Ordering::Relaxed), 1);
    stream.shutdown().await.unwrap();
    rest(&mut stream).await.unwrap();
    eventually("it is over", || route.counters.active.load(Ordering::Relaxed) == 0).await;
    let len = sent.len() as u64;
    eventually("it is counted", || route.counters.received.load(Ordering::Relaxed) == len + 1).await;
    assert_eq!(route.counters.sent.load(Ordering::Relaxed), len);
    assert_eq!(route.counters.connections.load(Ordering::Relaxed), 1);
}
