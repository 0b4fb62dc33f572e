//! The port: what is routed where.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use futures::FutureExt;
use identity::tls::ServerTls;
use kds_proto::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryServiceServer, SERVICE_NAME as ADS,
};
use model::mode::{Mode, Zone};
use runtime::exit::listen_everywhere;
use runtime::serve::{Limits, serve};
use runtime::tasks::{Backoff, OnFailure, Task};
use runtime::{Fatal, Life};
use store::Store;

use super::workshop::Workshop;
use super::{Door, Inner, Metrics, Settings};
use crate::Identities;
use crate::bootstrap::{self, Bootstrap};
use crate::proxies::{self, Seats};

/// Largest request, in bytes: a proxy that names ten thousand clusters.
const MAX_REQUEST: usize = 4 << 20;

/// What it takes to serve proxies, beside the settings.
pub(crate) struct Server<'a> {
    /// The zone.
    pub zone: Zone,
    /// This process.
    pub instance: &'a str,
    /// Where everything is kept.
    pub store: &'a Store,
    /// What proxies prove who they are with.
    pub identities: Identities,
    /// What is counted.
    pub metrics: &'a Metrics,
    /// How the program lives.
    pub life: &'a Life,
}

/// Starts serving in the background until the life drains; returns the real address.
///
/// # Errors
/// The port is taken, or the certificate cannot be used.
pub(crate) async fn start(mut settings: Settings, server: Server<'_>) -> Result<SocketAddr, Fatal> {
    let life = server.life;
    let listener = listen_everywhere(settings.port, "proxies", "dpServer.port").await?;
    let real = listener.local_addr().map_err(|error| Fatal::new("cannot tell the port of proxies").caused_by(error))?;
    let tls = ServerTls::load(settings.tls.clone(), &["h2", "http/1.1"])?;
    check_host(&settings, &tls)?;
    if settings.bootstrap.xds_port == 0 {
        settings.bootstrap.xds_port = real.port();
    }
    let limits = Limits { head: settings.head, notice_silence: true, ..Limits::default() };
    let bootstrap =
        Bootstrap::new(settings.bootstrap.clone(), server.store.clone(), tls.clone(), server.metrics.clone());
    let router = router(bootstrap, door(settings, &server));
    let config = Some(Arc::clone(tls.config()));
    tls.keep_current("dp-server-certificate", "dp-server", life);
    tokio::spawn(serve(listener, config, router, limits, life.drain().listener()));
    Ok(real)
}

fn door(settings: Settings, server: &Server<'_>) -> Door {
    let Server { zone, instance, store, identities, metrics, life } = server;
    let workshop =
        Workshop::new((*store).clone(), settings.envoy, identities.clone(), (*metrics).clone(), life.clock().clone());
    let task = Task { name: "touched-proxies", owner: "dp-server", on_failure: OnFailure::Restart(Backoff::default()) };
    let follower = workshop.clone();
    life.tasks().spawn(task, move || {
        let follower = follower.clone();
        async move {
            follower.follow().await;
            Ok(())
        }
    });
    let (kept, own) = ((*store).clone(), (*instance).to_owned());
    let remove = move |key| {
        let (store, instance) = (kept.clone(), own.clone());
        async move { proxies::deregister(&store, &instance, key).await }.boxed()
    };
    Door(Arc::new(Inner {
        mode: Mode::Zone(zone.clone()),
        instance: (*instance).to_owned(),
        store: (*store).clone(),
        clock: life.clock().clone(),
        admission: settings.admission,
        seats: Seats::new(life.clock().clone(), settings.deregistration, life.drain().listener(), remove),
        workshop,
        metrics: (*metrics).clone(),
        closing: life.drain().listener(),
        drain: life.drain().clone(),
    }))
}

fn router(bootstrap: Bootstrap, door: Door) -> Router {
    let ads = AggregatedDiscoveryServiceServer::new(door).max_decoding_message_size(MAX_REQUEST);
    let mut router = Router::new().route("/bootstrap", post(bootstrap::answer)).with_state(Arc::new(bootstrap));
    for method in ["StreamAggregatedResources", "DeltaAggregatedResources"] {
        router = router.route_service(&format!("/{ADS}/{method}"), ads.clone());
    }
    router
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
