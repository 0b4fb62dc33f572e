//! Questions in, answers out.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use runtime::{Fatal, Life, Metrics};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::names::Names;
use super::upstream::Upstream;
use crate::http::bind;
use crate::lasting;

/// Questions that are worked on at a time; those that wait for others cost a socket each.
const QUESTIONS: usize = 512;
/// Connections at a time.
const CONNECTIONS: usize = 128;
/// A connection on which nobody asks.
const IDLE: Duration = Duration::from_secs(10);
/// Longest question: names are short.
const LONGEST: usize = 4096;
/// What every resolver takes over UDP.
const PLAIN: u16 = 512;

#[derive(Clone, Debug, Default)]
struct Counters {
    answered: Counter,
    forwarded: Counter,
    failed: Counter,
    refused: Counter,
}

#[derive(Debug)]
struct Server {
    names: Names,
    upstream: Upstream,
    counters: Counters,
    places: Arc<Semaphore>,
}

/// Answers on a port, UDP and TCP, until the program ends; the real address.
///
/// # Errors
/// The port is in use.
pub async fn serve(address: SocketAddr, names: Names, metrics: &Metrics, life: &Life) -> Result<SocketAddr, Fatal> {
    let upstream = Upstream::of_machine(Path::new("/etc/resolv.conf"), address);
    start(address, names, upstream, metrics, life).await
}

async fn start(
    address: SocketAddr,
    names: Names,
    upstream: Upstream,
    metrics: &Metrics,
    life: &Life,
) -> Result<SocketAddr, Fatal> {
    let setting = "KUMA_DNS_PROXY_PORT (or switch it off with --dns-enabled=false)";
    let listener = bind(address, "name server", setting)?;
    let address = listener.local_addr().unwrap_or(address);
    let socket = UdpSocket::bind(address).await.map_err(|error| {
        Fatal::new(format!("cannot listen on {address} (UDP) for the name server"))
            .caused_by(error)
            .remedy(format!("stop the program that uses it or set {setting} to a free port"))
    })?;
    let counters = Counters::default();
    let known = Gauge::<i64>::default();
    metrics.register(|registry| {
        registry.register("dp_dns_answered", "Questions about names of the mesh", counters.answered.clone());
        registry.register(
            "dp_dns_forwarded",
            "Questions that the machine's servers answered",
            counters.forwarded.clone(),
        );
        registry.register("dp_dns_failed", "Questions that nobody answered", counters.failed.clone());
        registry.register("dp_dns_refused", "Questions that came while too many were open", counters.refused.clone());
        registry.register("dp_dns_names", "Names of the mesh", known.clone());
    });
    let server = Arc::new(Server { names, upstream, counters, places: Arc::new(Semaphore::new(QUESTIONS)) });
    let (socket, listener) = (Arc::new(socket), Arc::new(listener));
    let datagrams = Arc::clone(&server);
    life.tasks().spawn(lasting("dns-udp"), move || {
        let (server, socket, known) = (Arc::clone(&datagrams), Arc::clone(&socket), known.clone());
        async move { udp(server, socket, known).await }
    });
    life.tasks().spawn(lasting("dns-tcp"), move || {
        let (server, listener) = (Arc::clone(&server), Arc::clone(&listener));
        async move { tcp(server, listener).await }
    });
    Ok(address)
}

async fn udp(server: Arc<Server>, socket: Arc<UdpSocket>, known: Gauge) -> anyhow::Result<()> {
    let mut buffer = [0; LONGEST];
    loop {
        let (length, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // The kernel tells here that somebody did not wait for an answer.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error.into()),
        };
        known.set(i64::try_from(server.names.len()).unwrap_or(i64::MAX));
        let Ok(place) = Arc::clone(&server.places).try_acquire_owned() else {
            server.counters.refused.inc();
            continue;
        };
        let (server, socket, question) = (Arc::clone(&server), Arc::clone(&socket), buffer[..length].to_vec());
        tokio::spawn(async move {
            if let Some(answer) = server.answer(&question, false).await {
                // Whoever does not wait for it does without.
                let _ = socket.send_to(&answer, peer).await;
            }
            drop(place);
        });
    }
}

async fn tcp(server: Arc<Server>, listener: Arc<TcpListener>) -> anyhow::Result<()> {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await?;
        let (stream, _) = listener.accept().await?;
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let _ = server.connection(stream).await;
            drop(slot);
        });
    }
}

impl Server {
    /// One question after the other (RFC 7766), each after its length.
    async fn connection(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut question = vec![0; LONGEST];
        loop {
            let read = async {
                let length = usize::from(stream.read_u16().await?);
                let Some(question) = question.get_mut(..length) else { return Err(io::ErrorKind::InvalidData.into()) };
                stream.read_exact(question).await?;
                Ok::<_, io::Error>(length)
            };
            let length = tokio::time::timeout(IDLE, read).await.map_err(|_| io::ErrorKind::TimedOut)??;
            let Some(answer) = self.answer(&question[..length], true).await else { return Ok(()) };
            let size = u16::try_from(answer.len()).map_err(io::Error::other)?;
            let whole = [&size.to_be_bytes(), answer.as_slice()].concat();
            tokio::time::timeout(IDLE, stream.write_all(&whole)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        }
    }

    /// Nothing for what is no question.
    async fn answer(&self, question: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
        let request = Message::from_vec(question).ok()?;
        if let Some(answer) = self.names.answer(&request) {
            self.counters.answered.inc();
            return fitting(answer, &request, over_tcp);
        }
        match self.upstream.ask(question, over_tcp).await {
            Ok(answer) => {
                self.counters.forwarded.inc();
                Some(answer)
            }
            Err(error) => {
                self.counters.failed.inc();
                tracing::debug!(%error, "no name server answers");
                let mut answer =
                    Message::error_msg(request.metadata.id, request.metadata.op_code, ResponseCode::ServFail);
                answer.metadata.recursion_desired = request.metadata.recursion_desired;
                answer.add_queries(request.queries.iter().cloned());
                answer.to_vec().ok()
            }
        }
    }
}

/// An answer that is too long for a datagram says so, and is asked for again over TCP.
fn fitting(answer: Message, request: &Message, over_tcp: bool) -> Option<Vec<u8>> {
    let whole = answer.to_vec().ok()?;
    if over_tcp || whole.len() <= usize::from(request.max_payload().max(PLAIN)) {
        return Some(whole);
    }
    answer.truncate().to_vec().ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::rr::RecordType;
    use runtime::Clock;

    use super::super::names::tests::{names, question};
    use super::*;
    use crate::config::drain_limits;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    async fn server(names: Names, upstream: &[SocketAddr]) -> (SocketAddr, Life, Metrics) {
        let (life, metrics) = (Life::new(Clock::system(), drain_limits(Duration::from_secs(1))), Metrics::default());
        let address = start(ANY, names, Upstream::to(upstream), &metrics, &life).await.unwrap();
        (address, life, metrics)
    }

    async fn ask(server: SocketAddr, question: &Message, over_tcp: bool) -> Message {
        let answer = Upstream::to(&[server]).ask(&question.to_vec().unwrap(), over_tcp).await.unwrap();
        Message::from_vec(&answer).unwrap()
    }

    #[tokio::test]
    async fn names_of_the_mesh_are_answered_and_others_asked_for_elsewhere() {
        let other = Names::default();
        other.replace(&serde_json::from_str(r#"{"records":[{"name":"example.test","ips":["10.1.1.1"]}]}"#).unwrap());
        let (elsewhere, _life, _) = server(other, &[]).await;
        let (here, _own_life, metrics) = server(names(), &[elsewhere]).await;
        for over_tcp in [false, true] {
            let mesh = ask(here, &question("web.svc.mesh.local.", RecordType::A), over_tcp).await;
            assert_eq!(mesh.answers[0].data.to_string(), "241.0.0.52");
            let outside = ask(here, &question("example.test.", RecordType::A), over_tcp).await;
            assert_eq!(outside.answers[0].data.to_string(), "10.1.1.1");
            // As recorded where no server can be reached.
            let nobody = ask(here, &question("nope.mesh.", RecordType::A), over_tcp).await;
            assert_eq!((nobody.metadata.response_code, nobody.metadata.authoritative), (ResponseCode::ServFail, false));
        }
        let told = metrics.text().unwrap();
        assert!(told.contains("dp_dns_answered_total 2") && told.contains("dp_dns_forwarded_total 4"), "{told}");
    }

    #[tokio::test]
    async fn a_server_that_is_gone_is_passed_over_and_none_at_all_is_an_error() {
        let gone = UdpSocket::bind(ANY).await.unwrap().local_addr().unwrap();
        let (elsewhere, _life, _) = server(names(), &[]).await;
        let (here, _own_life, metrics) = server(Names::default(), &[gone, elsewhere]).await;
        let found = ask(here, &question("web.svc.mesh.local.", RecordType::AAAA), false).await;
        assert_eq!(found.answers[0].data.to_string(), "::ffff:241.0.0.52");
        let (alone, _last_life, _) = server(Names::default(), &[]).await;
        let nothing = ask(alone, &question("web.svc.mesh.local.", RecordType::A), false).await;
        assert_eq!(nothing.metadata.response_code, ResponseCode::ServFail);
        assert_eq!(nothing.queries.len(), 1);
        assert!(metrics.text().unwrap().contains("dp_dns_forwarded_total 1"));
    }

    #[tokio::test]
    async fn an_answer_too_long_for_a_datagram_comes_over_tcp() {
        let many: Vec<String> = (0..200).map(|n| format!("\"241.0.1.{n}\"")).collect();
        let names = Names::default();
        let text = format!(r#"{{"records":[{{"name":"many.mesh","ips":[{}]}}]}}"#, many.join(","));
        names.replace(&serde_json::from_str(&text).unwrap());
        let (here, _life, _) = server(names, &[]).await;
        let short = ask(here, &question("many.mesh.", RecordType::A), false).await;
        assert!(short.metadata.truncation && short.answers.is_empty());
        assert_eq!(ask(here, &question("many.mesh.", RecordType::A), true).await.answers.len(), 200);
    }

    #[tokio::test]
    async fn what_is_no_question_gets_no_answer_and_harms_nobody() {
        let (here, _life, _) = server(names(), &[]).await;
        let socket = UdpSocket::bind(ANY).await.unwrap();
        socket.send_to(b"hello", here).await.unwrap();
        let mut stream = TcpStream::connect(here).await.unwrap();
        stream.write_all(&[0xff, 0xff, 1, 2]).await.unwrap();
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
        let answer = ask(here, &question("web.svc.mesh.local.", RecordType::A), true).await;
        assert_eq!(answer.answers.len(), 1);
    }
}
