//! Serving HTTP/1 and HTTP/2, with or without TLS, bounded in connections and time, and draining well.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::drain::Guard;
use crate::socket::notice_silence;

/// Bounds of one server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections; further ones wait in the system's queue.
    pub connections: usize,
    /// For a TLS handshake.
    pub handshake: Duration,
    /// For the head of an HTTP/1 request, counted from the end of the one before it, and for the first of HTTP/2.
    pub head: Duration,
    /// Bytes of a request's head.
    pub head_size: usize,
    /// Requests at a time on one HTTP/2 connection.
    pub streams: u32,
    /// Bytes that an HTTP/2 client may send ahead of what was read, over all requests of a connection. More than the
    /// 1 MiB of a single request, or one that is not read for a while holds up the others.
    pub window: u32,
    /// Whether a client that falls silent without closing its connection is noticed within
    /// [`SILENCE`](crate::socket::SILENCE).
    pub notice_silence: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(30),
            head_size: 64 * 1024,
            streams: 256,
            window: 1 << 20,
            notice_silence: false,
        }
    }
}

/// Certificates that a client presented and that the TLS configuration accepted; a request extension.
#[derive(Clone, Debug)]
pub struct PeerCertificates(pub Arc<[CertificateDer<'static>]>);

/// Serves until the guard says that listeners close, then until every request in progress is answered.
///
/// Requests carry [`ConnectInfo`] of the peer and, when it presented one, its [`PeerCertificates`].
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    routes: Router,
    limits: Limits,
    guard: Guard,
) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let server = Arc::new(Server { tls: tls.map(TlsAcceptor::from), routes, limits, guard: guard.clone() });
    loop {
        let accepted = tokio::select! {
            () = guard.closing() => return,
            accepted = accept(&listener, &slots) => accepted,
        };
        let Some((stream, peer, slot)) = accepted else { continue };
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            server.connection(stream, peer).await;
            drop(slot);
        });
    }
}

/// Serves one connection that did not come through a socket of the system, as [`serve`] serves those that did.
pub async fn serve_connection<S>(stream: S, peer: SocketAddr, routes: Router, limits: Limits, guard: Guard)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    Server { tls: None, routes, limits, guard }.requests(stream, peer, None).await;
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, slot)),
        Err(error) => {
            // Out of file descriptors, mostly: accepting at once again would spin.
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(200)).await;
            None
        }
    }
}

struct Server {
    tls: Option<TlsAcceptor>,
    routes: Router,
    limits: Limits,
    guard: Guard,
}

impl Server {
    async fn connection(&self, stream: TcpStream, peer: SocketAddr) {
        let told = if self.limits.notice_silence { notice_silence(&stream) } else { stream.set_nodelay(true) };
        if let Err(error) = told {
            // Costs latency, no more.
            tracing::debug!(%peer, %error, "the kernel does not take the options of a connection");
        }
        let Some(tls) = &self.tls else { return self.requests(stream, peer, None).await };
        match tokio::time::timeout(self.limits.handshake, tls.accept(stream)).await {
            Ok(Ok(stream)) => {
                let certificates = stream.get_ref().1.peer_certificates();
                let certificates = certificates.map(|chain| chain.iter().map(|c| c.clone().into_owned()).collect());
                self.requests(stream, peer, certificates.map(PeerCertificates)).await;
            }
            Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
        }
    }

    async fn requests<S>(&self, stream: S, peer: SocketAddr, certificates: Option<PeerCertificates>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let asked = Arc::new(AtomicBool::new(false));
        let asks = Arc::clone(&asked);
        let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
            asks.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(ConnectInfo(peer));
            if let Some(certificates) = &certificates {
                request.extensions_mut().insert(certificates.clone());
            }
            let routes = self.routes.clone();
            async move { routes.oneshot(request.map(axum::body::Body::new)).await.or_else(never) }
        });
        let builder = self.builder();
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = self.guard.closing() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = silence(&asked, self.limits.head) => {
                tracing::debug!(%peer, "connection closed: it asked for nothing");
                return;
            }
        };
        if let Err(error) = result {
            tracing::debug!(%peer, error = %error, "connection failed");
        }
    }

    fn builder(&self) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head)
            .max_buf_size(self.limits.head_size);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(self.limits.head))
            .initial_connection_window_size(self.limits.window)
            .max_concurrent_streams(self.limits.streams)
            .max_header_list_size(u32::try_from(self.limits.head_size).unwrap_or(u32::MAX));
        builder
    }
}

/// Ends after a length of time if nothing has been asked by then. Hyper's own timer starts only once a client has shown
/// which version of HTTP it speaks.
async fn silence(asked: &AtomicBool, limit: Duration) {
    tokio::time::sleep(limit).await;
    if asked.load(Ordering::Relaxed) {
        std::future::pending().await
    }
}

fn never<T>(error: Infallible) -> Result<T, Infallible> {
    match error {}
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::Drain;
    use crate::clock::Clock;

    async fn start(limits: Limits) -> (SocketAddr, Drain) {
        let slow = || async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            "slow"
        };
        let who = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() };
        let routes = Router::new().route("/slow", get(slow)).route("/who", get(who));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, drain) = (listener.local_addr().unwrap(), Drain::default());
        tokio::spawn(serve(listener, None, routes, limits, drain.listener()));
        (address, drain)
    }

    async fn send(address: SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    async fn answer(mut stream: TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn a_request_in_progress_is_answered_while_draining() {
        let (address, drain) = start(Limits::default()).await;
        let idle = send(address, "").await;
        let busy = send(address, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert!(drain.run(&Clock::system(), crate::drain::Limits::default()).await);
        assert!(answer(busy).await.ends_with("slow"));
        assert_eq!(answer(idle).await, "");
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_slow_head_is_cut_off() {
        let (address, _drain) = start(Limits { head: Duration::from_millis(50), ..Limits::default() }).await;
        for begun in ["GET /who HTTP/1.1\r\nhost:", "GET /w", "", "PRI * HTTP/2.0\r\n"] {
            let slow = send(address, begun).await;
            let ended = tokio::time::timeout(Duration::from_secs(5), answer(slow)).await;
            assert!(ended.is_ok(), "a client that sends only {begun:?} holds the connection");
        }
    }

    #[tokio::test]
    async fn the_peer_is_known_and_a_huge_head_refused() {
        let (address, _drain) = start(Limits { head_size: 8192, ..Limits::default() }).await;
        let known = answer(send(address, "GET /who HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await).await;
        assert!(known.ends_with("127.0.0.1"), "{known}");
        let huge = format!("GET /who HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(9000));
        assert!(answer(send(address, &huge).await).await.starts_with("HTTP/1.1 431"));
    }
}
