//! Tells whether the proxy is ready: on a socket, which Envoy asks, or on a port (zone-dataplane 11.3).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use runtime::{Fatal, Life, Readiness};

use crate::http::{bind, serve_unix};
use crate::sockets::Sockets;

/// Serves `/ready` until the very end.
///
/// # Errors
/// The socket or the port is in use.
pub fn serve(sockets: &Sockets, admin: Option<SocketAddr>, port: Option<u16>, life: &Life) -> Result<(), Fatal> {
    let routes = Router::new().route("/ready", get(ready)).with_state(life.readiness().clone());
    let Some(port) = port else { return serve_unix(&sockets.readiness, routes, life) };
    let address = SocketAddr::new(admin.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |admin| admin.ip()), port);
    let listener = bind(address, "readiness of the proxy", "KUMA_READINESS_PORT")?;
    let limits = runtime::serve::Limits { connections: 64, ..Default::default() };
    tokio::spawn(runtime::serve::serve(listener, None, routes, limits, life.drain().stream()));
    Ok(())
}

async fn ready(State(readiness): State<Readiness>) -> impl IntoResponse {
    let (status, body) =
        if readiness.is_ready() { (StatusCode::OK, "READY") } else { (StatusCode::SERVICE_UNAVAILABLE, "TERMINATING") };
    (status, [(header::CACHE_CONTROL, "no-cache, max-age=0"), (header::CONTENT_TYPE, "text/plain")], body)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use runtime::Clock;

    use super::*;
    use crate::config::drain_limits;
    use crate::http::{Target, get};

    async fn asked(target: &Target<'_>) -> (u16, String) {
        let answer = get(target, "/ready", &[]).await.unwrap();
        (answer.status, String::from_utf8(answer.body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn says_ready_until_the_end_begins() {
        let folder = tempfile::tempdir().unwrap();
        let life = Life::new(Clock::system(), drain_limits(Duration::from_secs(1)));
        let sockets = Sockets::take(folder.path(), "web", "default").await.unwrap();
        serve(&sockets, None, None, &life).unwrap();
        let target = Target::Unix(&sockets.readiness);
        assert_eq!(asked(&target).await, (200, "READY".to_owned()));
        let (guard, stop) = (life.drain().listener(), life.stop().clone());
        let end = tokio::spawn(life.end());
        stop.ask();
        guard.closing().await;
        assert_eq!(asked(&target).await, (503, "TERMINATING".to_owned()));
        drop(guard);
        end.await.unwrap();
    }
}
