//! What several instances of a global on one database have to say to each other (kds-wire 5.8).
//!
//! Every instance serves zones; an answer of a zone is to be had at the instance that holds its stream. The
//! [catalog](catalog::Catalog), a Config in the store, says where that is. The leader keeps it: the others ping it. All
//! calls are mutually authenticated with certificates of the authority `inter-cp-ca`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use config::Effective;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use identity::instances::InstanceTls;
use kds_proto::kuma::mesh::v1alpha1::inter_cp_envoy_admin_forward_service_server as forward;
use kds_proto::kuma::system::v1alpha1::inter_cp_ping_service_server as ping;
use runtime::exit::listen;
use runtime::serve::{Limits, serve};
use runtime::tasks::{Backoff, OnFailure, Task};
use runtime::{Clock, Fatal, Life};
use store::{Lease, Store};
use tokio::sync::watch;

use crate::insights::Living;
use crate::kds::settings::everywhere;
use crate::proxy_admin::ThroughZones;

mod catalog;
mod forwarding;
mod heartbeat;

use catalog::{Catalog, Instance};

/// How instances find each other.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where this one listens.
    pub address: SocketAddr,
    /// Address by which the others call it (`interCp.catalog.instanceAddress`).
    pub advertised: String,
    /// Between two pings of the leader.
    pub heartbeat: Duration,
    /// Without a ping for so long, an instance is gone.
    pub expiry: Duration,
    /// Largest message, in bytes.
    pub max_message: usize,
}

impl Settings {
    /// `interCp`; `None` where there is but one instance: SQLite belongs to one process.
    ///
    /// # Errors
    /// The port is out of range.
    pub fn configured(effective: &Effective) -> Result<Option<Self>, Fatal> {
        if effective.text("store.type") != "postgres" {
            return Ok(None);
        }
        let length = |key: &str| effective.duration(key).to_std().unwrap_or_default();
        Ok(Some(Self {
            address: everywhere(effective, "interCp.server.port")?,
            advertised: effective.text("interCp.catalog.instanceAddress").to_owned(),
            heartbeat: length("interCp.catalog.heartbeatInterval").max(Duration::from_millis(100)),
            expiry: length("interCp.catalog.writerInterval").max(Duration::from_millis(300)),
            max_message: usize::try_from(effective.number("multizone.global.kds.maxMsgSize")).unwrap_or_default(),
        }))
    }
}

/// A client of another instance.
pub(crate) type Channel = Client<HttpsConnector<HttpConnector>, tonic::body::Body>;

/// The other instances, as this one reaches them.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    store: Store,
    clock: Clock,
    channel: watch::Receiver<Option<Channel>>,
    max_message: usize,
}

/// What is known of the instances of this global.
#[derive(Debug)]
pub(crate) struct Instances {
    /// Where this one is called by the others.
    pub address: Option<SocketAddr>,
    /// The way to the others.
    pub peers: Option<Peers>,
    /// Which live; `None` as long as this one has not led for a while.
    pub living: Living,
}

impl Instances {
    /// Of a global that is one process.
    fn alone(id: &str) -> Self {
        let living = BTreeSet::from([id.to_owned()]);
        Self { address: None, peers: None, living: watch::channel(Some(living)).1 }
    }
}

/// Starts talking to the other instances, if there can be any.
///
/// # Errors
/// The port is taken.
pub(crate) async fn start(
    settings: Option<Settings>,
    id: &str,
    through: ThroughZones,
    leading: watch::Receiver<Option<Lease>>,
    backoff: Backoff,
    life: &Life,
) -> Result<Instances, Fatal> {
    let Some(settings) = settings else { return Ok(Instances::alone(id)) };
    let listener = listen(settings.address, "other instances", "interCp.server.port").await?;
    let real =
        listener.local_addr().map_err(|error| Fatal::new("cannot tell the port of instances").caused_by(error))?;
    let (store, clock) = (through.store.clone(), life.clock().clone());
    let (id, address, inter_cp_port) = (id.to_owned(), settings.advertised.clone(), real.port());
    let own = Instance { id, address, inter_cp_port, leader: false };
    let (reached, channel) = watch::channel(None);
    let peers = Peers { store: store.clone(), clock: clock.clone(), channel, max_message: settings.max_message };
    let (living, heard) = heartbeat::start(&settings, own, &peers, leading, backoff, life);

    let routes = router(through, heard, settings.max_message);
    let parts = (listener, routes, life.drain().listener());
    let (mut parts, reached, advertised) = (Some(parts), Arc::new(reached), settings.advertised);
    let task = Task { name: "inter-cp", owner: "inter-cp", on_failure: OnFailure::Stop };
    life.tasks().spawn(task, move || {
        let parts = parts.take();
        let (store, clock, advertised, reached) =
            (store.clone(), clock.clone(), advertised.clone(), Arc::clone(&reached));
        async move {
            let Some((listener, routes, guard)) = parts else { return Ok(()) };
            let tls = wait_for_authority(&store, &clock, &advertised).await?;
            reached.send_replace(Some(channel_of(tls.client)));
            serve(listener, Some(tls.server), routes, Limits::default(), guard).await;
            Ok(())
        }
    });
    Ok(Instances { address: Some(real), peers: Some(peers), living })
}

/// The authority comes with the defaults of the first start, which the leader makes.
async fn wait_for_authority(store: &Store, clock: &Clock, address: &str) -> anyhow::Result<InstanceTls> {
    let mut configuration = store.configuration();
    loop {
        let snapshot = configuration.borrow_and_update().clone();
        match InstanceTls::issue(&snapshot, address, clock.now()) {
            Ok(Some(tls)) => return Ok(tls),
            Ok(None) => {}
            Err(error) => tracing::error!(error, "inter-cp-ca is unusable: instances cannot call each other"),
        }
        configuration.changed().await?;
    }
}

fn channel_of(tls: rustls::ClientConfig) -> Channel {
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http2().build();
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_only(true)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .http2_keep_alive_timeout(Duration::from_secs(5))
        .build(connector)
}

fn router(through: ThroughZones, heard: heartbeat::Heard, max_message: usize) -> Router {
    let forwarded = forward::InterCpEnvoyAdminForwardServiceServer::new(forwarding::Forwarded(through))
        .max_decoding_message_size(max_message)
        .max_encoding_message_size(max_message);
    let pinged = ping::InterCpPingServiceServer::new(heard);
    Router::new()
        .route_service(&format!("/{}/{{method}}", forward::SERVICE_NAME), forwarded)
        .route_service(&format!("/{}/{{method}}", ping::SERVICE_NAME), pinged)
}
