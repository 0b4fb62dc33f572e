//! What was decrypted goes on request by request.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;

use super::stream::Stream;
use super::{Carried, PathRoute, upstream};
use crate::cluster::Cluster;

/// For the head of a request.
const HEAD: Duration = Duration::from_secs(60);
/// Connections to endpoints that wait for the next request of a client.
const IDLE: usize = 16;
/// Headers that are about one connection only.
const OF_A_CONNECTION: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

type Body = Either<Incoming, Full<Bytes>>;

/// Serves a client to its end, HTTP/1.1 or HTTP/2. One that may not call is told so.
pub async fn serve(client: impl Stream, routes: Arc<[PathRoute]>, allowed: bool) -> Carried {
    let pools: Arc<[Pool]> = routes.iter().map(|_| Pool::default()).collect();
    let answer = service_fn(move |request| {
        let (routes, pools) = (Arc::clone(&routes), Arc::clone(&pools));
        async move { Ok::<_, Infallible>(answer(request, &routes, &pools, allowed).await) }
    });
    let mut server = Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    server.http2().timer(TokioTimer::new());
    if let Err(error) = server.serve_connection(TokioIo::new(client), answer).await {
        tracing::debug!(error = &*error, "a client's connection broke");
    }
    // Bytes are not counted here: the outside sees requests.
    (0, 0)
}

async fn answer(request: Request<Incoming>, routes: &[PathRoute], pools: &[Pool], allowed: bool) -> Response<Body> {
    if !allowed {
        return refusal(StatusCode::FORBIDDEN, "RBAC: access denied");
    }
    let path = request.uri().path();
    let Some((route, pool)) = routes.iter().zip(pools).find(|(route, _)| path.starts_with(&*route.prefix)) else {
        return refusal(StatusCode::NOT_FOUND, "");
    };
    let sent = pool.send(request, route);
    let answered = match route.timeout {
        None => sent.await,
        Some(limit) => match tokio::time::timeout(limit, sent).await {
            Ok(answered) => answered,
            Err(_) => return refusal(StatusCode::GATEWAY_TIMEOUT, "upstream request timeout"),
        },
    };
    match answered {
        Ok(response) => {
            let (mut head, body) = response.into_parts();
            strip(&mut head.headers);
            head.version = Version::default();
            Response::from_parts(head, Either::Left(body))
        }
        Err(Failure::Nobody) => refusal(StatusCode::SERVICE_UNAVAILABLE, "no healthy upstream"),
        Err(Failure::Broken(error)) => {
            tracing::debug!(cluster = route.cluster.name(), %error, "a request failed");
            let text = "upstream connect error or disconnect/reset before headers";
            refusal(StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
}

fn refusal(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Either::Right(Full::new(Bytes::from_static(text.as_bytes()))));
    *response.status_mut() = status;
    if !text.is_empty() {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    response
}

enum Failure {
    Nobody,
    Broken(hyper::Error),
}

/// Connections of one client to the endpoints of one route.
#[derive(Default)]
struct Pool {
    /// Those of HTTP/1.1 that may be idle.
    ones: Mutex<Vec<One>>,
    /// That of HTTP/2.
    many: tokio::sync::Mutex<Option<Many>>,
}

struct One {
    sender: http1::SendRequest<Incoming>,
    authority: Option<Authority>,
}

#[derive(Clone)]
struct Many {
    sender: http2::SendRequest<Incoming>,
    authority: Option<Authority>,
}

impl Pool {
    async fn send(&self, request: Request<Incoming>, route: &PathRoute) -> Result<Response<Incoming>, Failure> {
        if route.cluster.settings().http2 {
            return self.send_to_many(request, route).await;
        }
        let mut request = request;
        // A connection that waited may have been closed meanwhile: then the request has not left, and tries another.
        while let Some(one) = self.idle() {
            let plain = plain(request, route, one.authority.as_ref());
            match self.send_to_one(one, plain).await {
                Ok(response) => return Ok(response),
                Err((_, Some(back))) => request = back,
                Err((error, None)) => return Err(Failure::Broken(error)),
            }
        }
        let one = One::connect(&route.cluster).await?;
        let request = plain(request, route, one.authority.as_ref());
        self.send_to_one(one, request).await.map_err(|(error, _)| Failure::Broken(error))
    }

    async fn send_to_one(
        &self,
        mut one: One,
        request: Request<Incoming>,
    ) -> Result<Response<Incoming>, (hyper::Error, Option<Request<Incoming>>)> {
        match one.sender.try_send_request(request).await {
            Ok(response) => {
                let mut ones = self.ones();
                if ones.len() < IDLE {
                    ones.push(one);
                }
                Ok(response)
            }
            Err(mut error) => {
                let back = error.take_message();
                Err((error.into_error(), back))
            }
        }
    }

    /// One whose last answer is over.
    fn idle(&self) -> Option<One> {
        let mut ones = self.ones();
        ones.retain(|one| !one.sender.is_closed());
        let at = ones.iter().position(|one| one.sender.is_ready())?;
        Some(ones.swap_remove(at))
    }

    fn ones(&self) -> MutexGuard<'_, Vec<One>> {
        self.ones.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send_to_many(&self, request: Request<Incoming>, route: &PathRoute) -> Result<Response<Incoming>, Failure> {
        let mut many = {
            let mut there = self.many.lock().await;
            match there.as_ref().filter(|many| !many.sender.is_closed()) {
                Some(many) => many.clone(),
                None => there.insert(Many::connect(&route.cluster).await?).clone(),
            }
        };
        many.sender.ready().await.map_err(Failure::Broken)?;
        let request = whole(request, route, many.authority.as_ref());
        many.sender.send_request(request).await.map_err(Failure::Broken)
    }
}

impl One {
    async fn connect(cluster: &Arc<Cluster>) -> Result<Self, Failure> {
        let (stream, host) = upstream::connect(cluster).await.ok_or(Failure::Nobody)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(Failure::Broken)?;
        // It ends with the last of its senders; why it broke is told to whoever sent a request.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, authority: authority(host.name()) })
    }
}

impl Many {
    async fn connect(cluster: &Arc<Cluster>) -> Result<Self, Failure> {
        let (stream, host) = upstream::connect(cluster).await.ok_or(Failure::Nobody)?;
        let handshake =
            http2::Builder::new(TokioExecutor::new()).timer(TokioTimer::new()).handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(Failure::Broken)?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, authority: authority(host.name()) })
    }
}

fn authority(name: Option<&str>) -> Option<Authority> {
    name.and_then(|name| Authority::try_from(name).ok())
}

/// As HTTP/1.1 has it: the host in a header, the path alone in the first line.
fn plain(request: Request<Incoming>, route: &PathRoute, name: Option<&Authority>) -> Request<Incoming> {
    let (mut head, body) = request.into_parts();
    let asked = asked(&head.uri, &head.headers, route, name);
    strip(&mut head.headers);
    if let Some(host) = asked.and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()) {
        head.headers.insert(header::HOST, host);
    }
    head.uri = Uri::from(path(&head.uri));
    head.version = Version::HTTP_11;
    Request::from_parts(head, body)
}

/// As HTTP/2 has it: the host in the URI.
fn whole(request: Request<Incoming>, route: &PathRoute, name: Option<&Authority>) -> Request<Incoming> {
    let (mut head, body) = request.into_parts();
    let asked = asked(&head.uri, &head.headers, route, name);
    strip(&mut head.headers);
    head.headers.remove(header::HOST);
    let mut parts = http::uri::Parts::default();
    (parts.scheme, parts.authority) = (Some(Scheme::HTTP), asked);
    parts.path_and_query = Some(path(&head.uri));
    if parts.authority.is_none() {
        parts.scheme = None;
    }
    // A path without a host is a URI, and so is one with.
    head.uri = Uri::from_parts(parts).unwrap_or_default();
    head.version = Version::HTTP_2;
    Request::from_parts(head, body)
}

/// The host that the endpoint is asked for.
fn asked(uri: &Uri, headers: &HeaderMap, route: &PathRoute, name: Option<&Authority>) -> Option<Authority> {
    if route.rewrite_host
        && let Some(name) = name
    {
        return Some(name.clone());
    }
    let of_header = || Authority::try_from(headers.get(header::HOST)?.as_bytes()).ok();
    uri.authority().cloned().or_else(of_header)
}

fn path(uri: &Uri) -> PathAndQuery {
    uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

/// Takes out what is about one connection only.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in named.iter().chain(&OF_A_CONNECTION) {
        headers.remove(name);
    }
    // gRPC says with it that it takes trailers.
    if headers.get(header::TE).is_some_and(|value| value != "trailers") {
        headers.remove(header::TE);
    }
}
