//! The port where proxies would find their zone's control plane (5678). Those that dial a global are turned away, and
//! both logs say where to go.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use identity::tls::{Files, ServerTls};
use runtime::exit::listen;
use runtime::serve::{Limits, serve};
use runtime::{Fatal, Life};
use tonic::Status;

use crate::kds::metrics::Metrics;

const WRONG_DOOR: &str = "this is a global control plane, which serves no proxies: give the address of the control plane \
                          of your zone (kuma-dp run --cp-address https://<zone control plane>:5678). Control planes of \
                          zones dial a global on its port 5685";

/// Starts turning proxies away until the life drains; returns the real address.
///
/// # Errors
/// The port is taken, or the certificate cannot be used.
pub(crate) async fn start(
    address: SocketAddr,
    files: Files,
    metrics: Metrics,
    life: &Life,
) -> Result<SocketAddr, Fatal> {
    let listener = listen(address, "proxies that came to the wrong control plane", "dpServer.port").await?;
    let real = listener.local_addr().map_err(|error| Fatal::new("cannot tell the port of proxies").caused_by(error))?;
    let tls = ServerTls::load(files, &["h2", "http/1.1"])?;
    let config = Some(Arc::clone(tls.config()));
    tls.keep_current("refusing-certificate", "refusing", life);
    let limits = Limits { connections: 1024, streams: 16, ..Limits::default() };
    tokio::spawn(serve(listener, config, router(metrics), limits, life.drain().listener()));
    Ok(real)
}

fn router(metrics: Metrics) -> Router {
    Router::new().fallback(move |request: Request| {
        metrics.stranger();
        let answer = answer(&request);
        async { answer }
    })
}

fn answer(request: &Request) -> Response {
    let path = request.uri().path();
    let peer =
        request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| tracing::field::display(peer));
    tracing::warn!(peer, path, "a proxy dials this global instead of its zone's control plane and is turned away");
    if speaks_grpc(request) { grpc().into_http::<axum::body::Body>().into_response() } else { http(path) }
}

/// Whether a request wants an answer in gRPC.
pub(crate) fn speaks_grpc(request: &Request) -> bool {
    request.headers().get(CONTENT_TYPE).is_some_and(|content| content.as_bytes().starts_with(b"application/grpc"))
}

/// For what speaks gRPC: `FAILED_PRECONDITION`.
pub(crate) fn grpc() -> Status {
    Status::failed_precondition(WRONG_DOOR)
}

/// For what speaks plain HTTP, the bootstrap request of a proxy above all.
pub(crate) fn http(path: &str) -> Response {
    let text = format!("{path}: {WRONG_DOOR}\n");
    (StatusCode::MISDIRECTED_REQUEST, [(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}
