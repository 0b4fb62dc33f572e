//! The port: what is routed where.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use identity::tls::ServerTls;
use runtime::exit::listen;
use runtime::serve::{Limits, serve};
use runtime::{Fatal, Life};
use store::Store;

use super::{Metrics, Settings};
use crate::bootstrap::{self, Bootstrap};

/// Starts serving in the background until the life drains; returns the real address.
///
/// # Errors
/// The port is taken, or the certificate cannot be used.
pub(crate) async fn start(
    mut settings: Settings,
    store: &Store,
    metrics: &Metrics,
    life: &Life,
) -> Result<SocketAddr, Fatal> {
    let listener = listen(settings.address, "proxies", "dpServer.port").await?;
    let real = listener.local_addr().map_err(|error| Fatal::new("cannot tell the port of proxies").caused_by(error))?;
    let tls = ServerTls::load(settings.tls.clone(), &["h2", "http/1.1"])?;
    check_host(&settings, &tls)?;
    if settings.bootstrap.xds_port == 0 {
        settings.bootstrap.xds_port = real.port();
    }
    let limits = Limits { head: settings.head, notice_silence: true, ..Limits::default() };
    let bootstrap = Bootstrap::new(settings.bootstrap, store.clone(), tls.clone(), metrics.clone());
    let router = Router::new().route("/bootstrap", post(bootstrap::answer)).with_state(Arc::new(bootstrap));
    let config = Some(Arc::clone(tls.config()));
    tls.keep_current("dp-server-certificate", "dp-server", life);
    tokio::spawn(serve(listener, config, router, limits, life.drain().listener()));
    Ok(real)
}

/// A name that proxies are to dial has to be one that the certificate is good for.
fn check_host(settings: &Settings, tls: &ServerTls) -> Result<(), Fatal> {
    let host = &settings.bootstrap.xds_host;
    let shown = tls.shown().map_err(|error| Fatal::new("cannot read the certificate of dpServer").caused_by(error))?;
    if host.is_empty() || shown.hosts.contains(host) {
        return Ok(());
    }
    let known: Vec<&str> = shown.hosts.iter().map(String::as_str).collect();
    Err(Fatal::new(format!(
        "bootstrapServer.params.xdsHost is {host:?}, and the certificate of dpServer is good for {}",
        known.join(", ")
    ))
    .remedy("set it to one of those, or make a certificate for it (general.tlsCertFile)"))
}
