//! The diagnostics server (port 5680): `/healthy`, `/ready`, `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rustls::ServerConfig;

use crate::exit::{self, Fatal};
use crate::life::Life;
use crate::metrics::{self, Metrics};
use crate::readiness::Readiness;
use crate::serve;

/// Starts the server in the background and returns its real address. It answers until streams close, so that
/// `/ready` can say "draining".
///
/// # Errors
/// The address cannot be listened on.
pub async fn start(
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    metrics: &Metrics,
    life: &Life,
) -> Result<SocketAddr, Fatal> {
    let listener = exit::listen(address, "diagnostics server", "diagnostics.serverPort").await?;
    let address =
        listener.local_addr().map_err(|error| Fatal::new("cannot tell the diagnostics port").caused_by(error))?;
    let routes = routes(metrics.clone(), life.readiness().clone());
    let limits = serve::Limits { connections: 128, ..serve::Limits::default() };
    tokio::spawn(serve::serve(listener, tls, routes, limits, life.drain().stream()));
    Ok(address)
}

fn routes(metrics: Metrics, readiness: Readiness) -> Router {
    Router::new()
        .route("/healthy", get(|| async { StatusCode::OK }))
        .route("/ready", get(ready).with_state(readiness))
        .route("/metrics", get(scrape).with_state(metrics))
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    let reasons = readiness.reasons();
    if reasons.is_empty() {
        return StatusCode::OK.into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", reasons.join(", "))).into_response()
}

async fn scrape(State(metrics): State<Metrics>) -> Response {
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "a metric cannot be written\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::clock::Clock;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// API-2: health and readiness live on this port.
    #[tokio::test]
    async fn tells_health_readiness_and_metrics_until_the_very_end() {
        let (life, metrics) = (Life::new(Clock::system(), Default::default()), Metrics::default());
        let starting = life.readiness().not_ready("reading the store");
        let address = start("127.0.0.1:0".parse().unwrap(), None, &metrics, &life).await.unwrap();

        assert!(get(address, "/healthy").await.starts_with("HTTP/1.1 200"));
        let waiting = get(address, "/ready").await;
        assert!(
            waiting.starts_with("HTTP/1.1 503") && waiting.ends_with("not ready: reading the store\n"),
            "{waiting}"
        );
        drop(starting);
        assert!(get(address, "/ready").await.starts_with("HTTP/1.1 200"));
        let scraped = get(address, "/metrics").await;
        assert!(scraped.contains("content-type: application/openmetrics-text") && scraped.ends_with("# EOF\n"));

        let (listener, stop) = (life.drain().listener(), life.stop().clone());
        let end = tokio::spawn(life.end());
        stop.ask();
        listener.closing().await;
        assert!(get(address, "/ready").await.ends_with("not ready: draining\n"));
        drop(listener);
        end.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
