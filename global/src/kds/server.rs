//! The server that zones dial: what is routed where, and what becomes of a call that nobody knows.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use identity::tls::ServerTls;
use kds_proto::envoy::service::discovery::v3::aggregated_discovery_service_server as ads;
use kds_proto::kuma::mesh::v1alpha1::global_kds_service_server::{self as admin, GlobalKdsServiceServer};
use kds_proto::kuma::mesh::v1alpha1::kds_sync_service_server::{self as sync, KdsSyncServiceServer};
use runtime::exit::listen;
use runtime::serve::{Limits, serve};
use runtime::{Fatal, Life};
use tonic::Status;
use tonic::codec::CompressionEncoding::Gzip;

use super::Door;
use crate::refusing;

/// Streams and calls of one zone at a time. It has five streams and a health check.
const STREAMS: u32 = 64;

/// Bytes that a zone may send ahead, over all its streams: one that waits for the store holds up no other.
const WINDOW: u32 = 8 << 20;

const METHODS: &[(&str, &[&str])] = &[
    (sync::SERVICE_NAME, &["GlobalToZoneSync", "ZoneToGlobalSync"]),
    (admin::SERVICE_NAME, &["StreamXDSConfigs", "StreamStats", "StreamClusters", "HealthCheck"]),
];

/// Starts serving in the background until the life drains; returns the real address.
///
/// # Errors
/// The port is taken, or the certificate cannot be used.
pub(crate) async fn start(
    address: SocketAddr,
    tls: Option<identity::tls::Files>,
    max_message: usize,
    door: Door,
    life: &Life,
) -> Result<SocketAddr, Fatal> {
    let listener = listen(address, "zones", "multizone.global.kds.grpcPort").await?;
    let real = listener.local_addr().map_err(|error| Fatal::new("cannot tell the port of zones").caused_by(error))?;
    // Kuma's library insists on h2.
    let tls = tls.map(|files| ServerTls::load(files, &["h2"])).transpose()?;
    let config = tls.as_ref().map(|tls| Arc::clone(tls.config()));
    if let Some(tls) = tls {
        tls.keep_current("kds-certificate", "kds", life);
    }
    tokio::spawn(serve(listener, config, router(&door, max_message), limits(), life.drain().listener()));
    Ok(real)
}

pub(super) fn limits() -> Limits {
    Limits { streams: STREAMS, window: WINDOW, notice_silence: true, ..Limits::default() }
}

pub(super) fn router(door: &Door, max_message: usize) -> Router {
    let admin = GlobalKdsServiceServer::new(door.clone())
        .accept_compressed(Gzip)
        .max_decoding_message_size(max_message)
        .max_encoding_message_size(max_message);
    let sync = KdsSyncServiceServer::new(door.clone())
        .accept_compressed(Gzip)
        .max_decoding_message_size(max_message)
        .max_encoding_message_size(max_message);
    let strangers = door.metrics.clone();
    let mut router = Router::new();
    for (service, methods) in METHODS {
        for method in *methods {
            let path = format!("/{service}/{method}");
            router = match *service {
                sync::SERVICE_NAME => router.route_service(&path, sync.clone()),
                _ => router.route_service(&path, admin.clone()),
            };
        }
    }
    router.fallback(move |request: Request| {
        let answer = unknown(&request);
        strangers.stranger();
        async { answer }
    })
}

/// Nobody's call. A proxy that came to the wrong door is told the right one.
fn unknown(request: &Request) -> Response {
    let path = request.uri().path();
    if !refusing::speaks_grpc(request) {
        return refusing::http(path);
    }
    let (service, method) = path.trim_start_matches('/').rsplit_once('/').unwrap_or_default();
    let status = if METHODS.iter().any(|(known, _)| *known == service) {
        Status::unimplemented(format!("unknown method {method} for service {service}"))
    } else if service == ads::SERVICE_NAME {
        refusing::grpc()
    } else {
        Status::unimplemented(format!("unknown service {service}"))
    };
    status.into_http::<axum::body::Body>().into_response()
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use http::header::CONTENT_TYPE;

    use super::*;

    fn answer(path: &str, content: Option<&str>) -> Response {
        let mut request = http::Request::builder().method("POST").uri(path);
        if let Some(content) = content {
            request = request.header(CONTENT_TYPE, content);
        }
        unknown(&request.body(axum::body::Body::empty()).unwrap())
    }

    #[test]
    fn who_comes_to_the_wrong_door_is_told_the_right_one() {
        let grpc = answer(
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
            Some("application/grpc"),
        );
        assert_eq!(grpc.headers()["grpc-status"], "9");
        assert_eq!(answer("/bootstrap", Some("application/json")).status(), StatusCode::MISDIRECTED_REQUEST);
        let unknown = answer("/a.b.C/D", Some("application/grpc"));
        assert_eq!(unknown.headers()["grpc-status"], "12");
    }
}
