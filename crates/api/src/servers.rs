//! The ports of the API, with and without TLS.

use std::net::SocketAddr;

use axum::{Extension, Router};
use identity::tls::{Files, ServerTls};
use runtime::exit::listen;
use runtime::serve::{Limits, serve};
use runtime::{Fatal, Life};
use tokio::net::TcpListener;

use crate::serve::Tls;

/// Where the API listens.
#[derive(Clone, Debug, Default)]
pub struct Listeners {
    /// Without encryption.
    pub http: Option<SocketAddr>,
    /// With TLS.
    pub https: Option<(SocketAddr, Files)>,
    /// Bounds of both.
    pub limits: Limits,
}

/// Real addresses of a running API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Servers {
    /// Without encryption.
    pub http: Option<SocketAddr>,
    /// With TLS.
    pub https: Option<SocketAddr>,
}

/// Starts serving in the background, until the life drains; certificates are read again when it says so.
///
/// # Errors
/// An address cannot be listened on, or a certificate cannot be used.
pub async fn start(listeners: Listeners, router: &Router, life: &Life) -> Result<Servers, Fatal> {
    let mut servers = Servers { http: None, https: None };
    let https = match listeners.https {
        Some((address, files)) => Some((bind(address, "https").await?, ServerTls::load(files, &["h2", "http/1.1"])?)),
        None => None,
    };
    if let Some(address) = listeners.http {
        let listener = bind(address, "http").await?;
        servers.http = Some(local(&listener)?);
        tokio::spawn(serve(listener, None, router.clone(), listeners.limits, life.drain().listener()));
    }
    if let Some((listener, tls)) = https {
        servers.https = Some(local(&listener)?);
        let router = router.clone().layer(Extension(Tls));
        let config = Some(tls.config().clone());
        tokio::spawn(serve(listener, config, router, listeners.limits, life.drain().listener()));
        tls.keep_current("api-certificate", "api", life);
    }
    Ok(servers)
}

async fn bind(address: SocketAddr, which: &str) -> Result<TcpListener, Fatal> {
    listen(address, "API server", &format!("apiServer.{which}.port")).await
}

fn local(listener: &TcpListener) -> Result<SocketAddr, Fatal> {
    listener.local_addr().map_err(|error| Fatal::new("cannot tell the port of the API server").caused_by(error))
}
