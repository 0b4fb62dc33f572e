//! One connection to the global: TCP, TLS, HTTP/2, and what every call on it carries (kds-wire 1.1 to 1.3, 2.1).

use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use discovery::kds::node::ON_CALLS;
use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, HeaderName, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use identity::tls::client::{self, Trust};
use runtime::Clock;
use runtime::socket;
use rustls::CertificateError;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::codegen::Service;

use super::settings::Federation;

/// For one address of the global's name.
const CONNECT: Duration = Duration::from_secs(3);
/// For everything until calls can be made.
const DIAL: Duration = Duration::from_secs(10);
/// From quiet to a ping. A global of Kuma hangs up on who pings more often than every 15 s (KDS-5).
const PING: Duration = Duration::from_secs(20);
/// From a ping to the end of a connection that does not answer.
const PONG: Duration = Duration::from_secs(10);

/// A connection on which calls are made. It ends when `ended` does; nothing moves unless that is polled.
pub(crate) struct Connection {
    pub calls: Calls,
    pub ended: BoxFuture<'static, anyhow::Error>,
}

/// Makes calls. Cheap to clone; clones share the connection.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    sender: SendRequest<Body>,
    metadata: Arc<HeaderMap>,
    origin: Uri,
}

impl Calls {
    /// Scheme and authority of the global.
    pub fn origin(&self) -> Uri {
        self.origin.clone()
    }
}

impl Service<Request<Body>> for Calls {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let headers = request.headers_mut();
        for name in self.metadata.keys() {
            headers.remove(name);
        }
        for (name, value) in self.metadata.iter() {
            headers.append(name, value.clone());
        }
        Box::pin(self.sender.send_request(request))
    }
}

/// Connects; the token is read anew, so that it can be exchanged.
///
/// # Errors
/// The global cannot be reached, is not who it should be, or the token cannot be read.
pub(crate) async fn dial(federation: &Federation, zone: &str, clock: &Clock) -> Result<Connection> {
    let global = &federation.global;
    let dialled = clock.timeout(DIAL, connect(federation, zone)).await;
    dialled
        .unwrap_or_else(|| Err(anyhow!("no answer within {} s", DIAL.as_secs())))
        .with_context(|| format!("cannot connect to {global}"))
}

/// No window that adapts itself: that sends pings of its own (KDS-5).
fn http2() -> Builder<TokioExecutor> {
    let mut http2 = Builder::new(TokioExecutor::new());
    http2.timer(TokioTimer::new()).keep_alive_interval(PING).keep_alive_timeout(PONG).keep_alive_while_idle(true);
    http2
}

async fn connect(federation: &Federation, zone: &str) -> Result<Connection> {
    let global = &federation.global;
    let metadata = Arc::new(metadata(zone, federation.token.read()?.as_deref())?);
    let stream = transport(federation).await?;
    let (sender, connection) =
        http2().handshake(TokioIo::new(stream)).await.context("the other end does not speak HTTP/2")?;
    let scheme = if global.tls { "https" } else { "http" };
    let origin = Uri::builder().scheme(scheme).authority(global.authority()).path_and_query("/").build()?;
    let ended = Box::pin(async move {
        match connection.await {
            Ok(()) => anyhow!("the global closed the connection"),
            Err(error) => anyhow::Error::new(error).context("lost the connection"),
        }
    });
    Ok(Connection { calls: Calls { sender, metadata, origin }, ended })
}

/// What HTTP/2 is spoken over.
async fn transport(federation: &Federation) -> Result<Box<dyn Stream>> {
    #[cfg(feature = "test-support")]
    if let Some(connect) = &federation.connect {
        return Ok(tokio::time::timeout(CONNECT, connect.0()).await??);
    }
    let global = &federation.global;
    let stream = socket::reach(&global.host, global.port, CONNECT).await?;
    socket::notice_silence(&stream)?;
    Ok(if federation.global.tls { Box::new(encrypt(federation, stream).await?) } else { Box::new(stream) })
}

/// Makes the connections of a simulation.
#[cfg(feature = "test-support")]
#[derive(Clone)]
pub struct Connect(pub Arc<dyn Fn() -> Connecting + Send + Sync>);

/// A connection that is being made.
#[cfg(feature = "test-support")]
pub type Connecting = BoxFuture<'static, io::Result<Box<dyn Stream>>>;

#[cfg(feature = "test-support")]
impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connect")
    }
}

async fn encrypt(federation: &Federation, stream: TcpStream) -> Result<impl Stream + use<>> {
    let trust = match &federation.ca_file {
        _ if federation.skip_verify => Trust::Anybody,
        Some(file) => Trust::File(file),
        None => Trust::System,
    };
    let connector = TlsConnector::from(Arc::new(client::config(trust, &["h2"])?));
    let name = ServerName::try_from(federation.global.host.clone())?;
    let stream = connector.connect(name, stream).await.map_err(untrusted)?;
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        bail!("the other end does not offer HTTP/2 over TLS; KDS of a global listens on port 5685");
    }
    Ok(stream)
}

/// Why the global's certificate will not do, and what helps.
fn untrusted(error: io::Error) -> anyhow::Error {
    let rustls = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    let remedy = match rustls {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            "; name its authority with multizone.zone.kds.rootCaFile"
        }
        Some(rustls::Error::InvalidMessage(_)) => "; does it speak TLS? without, the address begins with grpc://",
        _ => "",
    };
    anyhow!("TLS: {error}{remedy}")
}

/// What every call carries (KDS-6).
fn metadata(zone: &str, token: Option<&str>) -> Result<HeaderMap> {
    let text = |text: &str| HeaderValue::from_str(text);
    let mut metadata = HeaderMap::new();
    let mut add = |name: &'static str, value: HeaderValue| metadata.append(HeaderName::from_static(name), value);
    add("client-id", text(zone)?);
    add("kds-version", HeaderValue::from_static("v3"));
    for feature in ON_CALLS {
        add("features", HeaderValue::from_static(feature));
    }
    add("version", HeaderValue::from_static(api::VERSION));
    metadata.append(USER_AGENT, text(&user_agent())?);
    if let Some(token) = token {
        let mut bearer = text(&format!("Bearer {token}")).context("the zone's token holds what no header can")?;
        bearer.set_sensitive(true);
        metadata.append(AUTHORIZATION, bearer);
    }
    Ok(metadata)
}

/// In the form of Kuma's, with Go's names of machines.
fn user_agent() -> String {
    let (product, version) = (api::PRODUCT, api::VERSION);
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("kds/{version} ({}; {machine}; {product}/rust) kuma-zone/{}", std::env::consts::OS, crate::VERSION)
}

/// A connection, whatever carries it.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use identity::tls::{Files, ServerTls, ensure_certificate};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::kds::Token;

    /// KDS-6.
    #[test]
    fn a_call_carries_what_a_zone_of_kuma_sends() {
        let metadata = metadata("east", Some("t")).unwrap();
        let values = |name: &str| metadata.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(values("client-id"), ["east"]);
        assert_eq!(values("kds-version"), ["v3"]);
        assert_eq!(values("features"), ["zone-ping-health", "hash-suffix"]);
        assert_eq!(values("version"), ["2.13.10"]);
        assert_eq!(values("authorization"), ["Bearer t"]);
        assert!(values("user-agent")[0].starts_with("kds/2.13.10 ("));
        assert!(!format!("{metadata:?}").contains("Bearer"));
    }

    /// KDS-5: a connection on which nothing happens is pinged, and not more often than a global of Kuma bears.
    #[tokio::test(start_paused = true)]
    async fn pings_are_far_between() {
        const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        const PING_FRAME: u8 = 6;
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let (_sender, connection) = http2().handshake::<_, Body>(TokioIo::new(ours)).await.unwrap();
        let connection = tokio::spawn(connection);
        theirs.write_all(&SETTINGS).await.unwrap();
        theirs.read_exact(&mut [0; "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len()]).await.unwrap();
        let (started, mut pings) = (tokio::time::Instant::now(), Vec::new());
        while started.elapsed() < Duration::from_secs(300) {
            let mut head = [0; 9];
            theirs.read_exact(&mut head).await.unwrap();
            let mut content = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            theirs.read_exact(&mut content).await.unwrap();
            if head[3] == PING_FRAME && head[4] == 0 {
                pings.push(started.elapsed());
                let answer = [&[0, 0, 8, PING_FRAME, 1, 0, 0, 0, 0], &content[..]].concat();
                theirs.write_all(&answer).await.unwrap();
            }
        }
        assert!(pings.len() >= 10, "{pings:?}");
        assert!(pings.windows(2).all(|two| two[1] - two[0] >= Duration::from_secs(15)), "{pings:?}");
        connection.abort();
    }

    fn federation(address: &str, ca_file: Option<&Path>) -> Federation {
        let sets = [format!("multizone.zone.globalAddress={address}")];
        let loader = sets.iter().fold(config::Loader::new(config::Role::Zone), |loader, set| loader.set(set));
        let effective = loader.load().unwrap().effective;
        let federation = Federation::configured(&effective).unwrap().unwrap();
        Federation { ca_file: ca_file.map(Path::to_owned), ..federation }
    }

    async fn refusal(federation: &Federation) -> String {
        format!("{:#}", dial(federation, "east", &Clock::system()).await.expect_err("a refusal"))
    }

    /// A server with a certificate for localhost that ends each connection after the handshake.
    async fn server(folder: &Path, alpn: &[&str]) -> (u16, Files) {
        let files = Files { certificate: folder.join("cp.crt"), key: folder.join("cp.key"), ..Files::default() };
        ensure_certificate(&files.certificate, &files.key, &["localhost".to_owned()], chrono::Utc::now()).unwrap();
        let acceptor = TlsAcceptor::from(Arc::clone(ServerTls::load(files.clone(), alpn).unwrap().config()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move { drop(acceptor.accept(stream).await) });
            }
        });
        (port, files)
    }

    #[tokio::test]
    async fn a_global_is_trusted_by_its_authority_and_by_no_other_means() {
        let folder = tempfile::tempdir().unwrap();
        let (port, files) = server(folder.path(), &["h2"]).await;
        let address = format!("grpcs://localhost:{port}");
        dial(&federation(&address, Some(&files.certificate)), "east", &Clock::system()).await.unwrap();
        let blind = Federation { skip_verify: true, ..federation(&address, None) };
        let connection = dial(&blind, "east", &Clock::system()).await.unwrap();
        assert_eq!(connection.calls.origin().to_string(), format!("https://localhost:{port}/"));
        let why = connection.ended.await.to_string();
        assert!(why == "the global closed the connection" || why == "lost the connection", "{why}");

        let other = tempfile::tempdir().unwrap();
        let (_, others) = server(other.path(), &["h2"]).await;
        let text = refusal(&federation(&address, Some(&others.certificate))).await;
        let beginning = format!("cannot connect to {address}: TLS: invalid peer certificate");
        assert!(text.starts_with(&beginning) && text.ends_with("multizone.zone.kds.rootCaFile"), "{text}");
    }

    #[tokio::test]
    async fn what_is_no_global_is_told_from_one() {
        let folder = tempfile::tempdir().unwrap();
        let (port, files) = server(folder.path(), &["http/1.1"]).await;
        let address = format!("grpcs://localhost:{port}");
        let text = refusal(&federation(&address, Some(&files.certificate))).await;
        assert!(text.starts_with(&format!("cannot connect to {address}: ")), "{text}");

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nobody = listener.local_addr().unwrap();
        drop(listener);
        let text = refusal(&federation(&format!("grpc://{nobody}"), None)).await;
        let expected = format!("cannot connect to grpc://{nobody}: {nobody}: Connection refused");
        assert!(text.starts_with(&expected), "{text}");
        let text = refusal(&federation("grpc://no.such.host.invalid:1", None)).await;
        assert!(text.contains("cannot find \"no.such.host.invalid\""), "{text}");
        let lost = Federation { token: Token::File("/nope".into()), ..federation(&format!("grpc://{nobody}"), None) };
        assert!(refusal(&lost).await.contains("cannot read the zone's token \"/nope\""));
    }
}
