//! HTTP with who stands beside us: Envoy, the workload.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use runtime::{Fatal, Life};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// For one call: all of these are on this machine.
const LIMIT: Duration = Duration::from_secs(5);
/// Largest answer, in bytes; an Envoy of a large mesh has many metrics.
const LARGEST: usize = 64 << 20;

/// Whom to call.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// A port.
    Tcp(SocketAddr),
    /// A socket.
    Unix(&'a Path),
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// Status of HTTP.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// All of it.
    pub body: Bytes,
}

/// GET with headers.
///
/// # Errors
/// Nobody answers in time, or with too much.
pub async fn get(target: &Target<'_>, path: &str, headers: &[(&str, &str)]) -> io::Result<Answer> {
    call(target, Method::GET, path, headers).await
}

/// POST without a body.
///
/// # Errors
/// Nobody answers in time.
pub async fn post(target: &Target<'_>, path: &str) -> io::Result<Answer> {
    call(target, Method::POST, path, &[]).await
}

async fn call(target: &Target<'_>, method: Method, path: &str, headers: &[(&str, &str)]) -> io::Result<Answer> {
    let called = async {
        match target {
            Target::Tcp(address) => exchange(TcpStream::connect(address).await?, method, path, headers).await,
            Target::Unix(socket) => exchange(UnixStream::connect(socket).await?, method, path, headers).await,
        }
    };
    tokio::time::timeout(LIMIT, called).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn exchange<S>(stream: S, method: Method, path: &str, headers: &[(&str, &str)]) -> io::Result<Answer>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // Ends when the sender and the answer are gone.
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
    let (parts, body) = sender.send_request(request).await.map_err(io::Error::other)?.into_parts();
    let body = Limited::new(body, LARGEST).collect().await.map_err(io::Error::other)?.to_bytes();
    Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
}

/// Listens on a port; `setting` tells the operator where to change it.
///
/// # Errors
/// The port is taken, or needs more rights.
pub fn bind(address: SocketAddr, what: &str, setting: &str) -> Result<TcpListener, Fatal> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    });
    bound.map_err(|error| {
        let remedy = format!("stop the program that uses it or set {setting} to a free port");
        Fatal::new(format!("cannot listen on {address} for the {what}")).caused_by(error).remedy(remedy)
    })
}

/// Serves on a socket of the system until the very end.
///
/// # Errors
/// There can be no such socket.
pub fn serve_unix(path: &Path, routes: Router, life: &Life) -> Result<(), Fatal> {
    let listener = UnixListener::bind(path)
        .map_err(|error| Fatal::new(format!("cannot listen on the socket {path:?}")).caused_by(error))?;
    let guard = life.drain().stream();
    tokio::spawn(async move {
        let serving = axum::serve(listener, routes).with_graceful_shutdown({
            let guard = guard.clone();
            async move { guard.closing().await }
        });
        if let Err(error) = serving.await {
            tracing::error!(%error, "a socket is not served any more");
        }
        drop(guard);
    });
    Ok(())
}
