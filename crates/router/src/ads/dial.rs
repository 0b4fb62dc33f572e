//! One connection to the control plane: TCP, TLS, HTTP/2, and the token that every call carries.

use std::fmt;
use std::sync::Arc;
use std::task::{Context as Polling, Poll};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use futures::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use identity::tls::client::{self, Trust};
use runtime::socket;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::codegen::Service;

use super::source::{Source, Tls};

/// For one address of the control plane's name.
const CONNECT: Duration = Duration::from_secs(3);
/// For everything until calls can be made.
const DIAL: Duration = Duration::from_secs(10);
/// From quiet to a ping. Kuma's control plane hangs up on who pings more often than every 15 s (zone-dataplane 1.4).
const PING: Duration = Duration::from_secs(20);
/// From a ping to the end of a connection that does not answer.
const PONG: Duration = Duration::from_secs(10);
/// What may arrive ahead of what was read: a listener of 10,000 routes at once.
const WINDOW: u32 = 4 << 20;

/// A connection on which calls are made. It ends when `ended` does; nothing moves unless that is polled.
pub struct Connection {
    /// Makes calls.
    pub calls: Calls,
    /// Scheme and authority.
    pub origin: Uri,
    /// Why it ended.
    pub ended: BoxFuture<'static, anyhow::Error>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.origin)
    }
}

/// Makes calls. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Calls {
    sender: SendRequest<Body>,
    token: Option<HeaderValue>,
}

impl Service<Request<Body>> for Calls {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, polling: &mut Polling<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(polling)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        Box::pin(self.sender.send_request(request))
    }
}

/// Connects. `token` is the bare one: Kuma wants no `Bearer` (zone-dataplane 1.3).
///
/// # Errors
/// The control plane cannot be reached, or is not who it should be.
pub async fn dial(source: &Source, token: Option<&str>) -> Result<Connection> {
    let dialled = tokio::time::timeout(DIAL, connect(source, token)).await;
    dialled
        .unwrap_or_else(|_| Err(anyhow!("no answer within {} s", DIAL.as_secs())))
        .with_context(|| format!("cannot connect to {}:{}", source.host, source.port))
}

async fn connect(source: &Source, token: Option<&str>) -> Result<Connection> {
    let header = |token: &str| {
        let mut header = HeaderValue::from_str(token).context("the token holds what no header can")?;
        header.set_sensitive(true);
        anyhow::Ok(header)
    };
    let token = token.map(header).transpose()?;
    let stream = socket::reach(&source.host, source.port, CONNECT).await?;
    socket::notice_silence(&stream)?;
    let stream: Box<dyn Stream> = match &source.tls {
        Some(tls) => Box::new(encrypt(tls, stream).await?),
        None => Box::new(stream),
    };
    let (sender, connection) = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake(TokioIo::new(stream))
        .await
        .context("the other end does not speak HTTP/2")?;
    let scheme = if source.tls.is_some() { "https" } else { "http" };
    let host = if source.host.contains(':') { format!("[{}]", source.host) } else { source.host.clone() };
    let origin =
        Uri::builder().scheme(scheme).authority(format!("{host}:{}", source.port)).path_and_query("/").build()?;
    let ended = Box::pin(async move {
        match connection.await {
            Ok(()) => anyhow!("the control plane closed the connection"),
            Err(error) => anyhow::Error::new(error).context("lost the connection"),
        }
    });
    Ok(Connection { calls: Calls { sender, token }, origin, ended })
}

async fn encrypt(tls: &Tls, stream: TcpStream) -> Result<impl Stream + use<>> {
    let trust = match &tls.authorities {
        Some(pem) => Trust::Pem(pem, "the bootstrap"),
        None => Trust::System,
    };
    let connector = TlsConnector::from(Arc::new(client::config(trust, &["h2"])?));
    let name = ServerName::try_from(tls.name.clone())?;
    let stream = connector.connect(name, stream).await.map_err(|error| anyhow!("TLS: {error}"))?;
    if stream.get_ref().1.alpn_protocol().is_some_and(|chosen| chosen != b"h2") {
        bail!("the other end does not offer HTTP/2 over TLS");
    }
    Ok(stream)
}

/// A connection, whatever carries it.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}
