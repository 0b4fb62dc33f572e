//! The global of a test: it takes the calls of a zone and hands them to the test.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use axum::Router;
use futures::Stream;
use kds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use kds_proto::kuma::mesh::v1alpha1 as mesh;
use kds_proto::kuma::mesh::v1alpha1::global_kds_service_server::{GlobalKdsService, GlobalKdsServiceServer};
use kds_proto::kuma::mesh::v1alpha1::kds_sync_service_server::{KdsSyncService, KdsSyncServiceServer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

/// What a test waits for at most.
pub const LIMIT: Duration = Duration::from_secs(20);

/// One streaming call of the zone.
pub struct Call<I, O> {
    pub metadata: MetadataMap,
    heard: Streaming<I>,
    say: mpsc::Sender<Result<O, Status>>,
}

/// GlobalToZoneSync.
pub type Down = Call<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;
/// ZoneToGlobalSync.
pub type Up = Call<DeltaDiscoveryResponse, DeltaDiscoveryRequest>;

impl<I, O> Call<I, O> {
    /// The next message of the zone.
    pub async fn hear(&mut self) -> I {
        let heard = tokio::time::timeout(LIMIT, self.heard.message()).await.expect("a message in time");
        heard.expect("no error").expect("an open stream")
    }

    /// Whatever the zone says within a while.
    pub async fn hear_within(&mut self, limit: Duration) -> Option<I> {
        tokio::time::timeout(limit, self.heard.message()).await.ok()?.ok()?
    }

    /// Waits until the zone has hung up.
    pub async fn hung_up(&mut self) {
        let ended = async { while let Ok(Some(_)) = self.heard.message().await {} };
        tokio::time::timeout(LIMIT, ended).await.expect("an end in time");
    }

    pub async fn say(&self, message: O) {
        self.say.send(Ok(message)).await.expect("a zone that listens");
    }

    /// Ends the call with a status, and waits until the zone has heard it.
    pub async fn fail(mut self, status: Status) {
        // A zone that is gone needs no status.
        let _ = self.say.send(Err(status)).await;
        self.hung_up().await;
    }
}

/// Calls as they come.
pub struct Global {
    pub address: SocketAddr,
    pub down: mpsc::Receiver<Down>,
    pub up: mpsc::Receiver<Up>,
    pub health: mpsc::Receiver<MetadataMap>,
    pub configs: mpsc::Receiver<Call<mesh::XdsConfigResponse, mesh::XdsConfigRequest>>,
    server: JoinHandle<()>,
}

/// How it behaves where no test speaks for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// Leaves admin streams without an answer, head included.
    pub silent_admin: bool,
    /// Knows no health checks.
    pub no_health: bool,
}

struct Service {
    manner: Manner,
    down: mpsc::Sender<Down>,
    up: mpsc::Sender<Up>,
    health: mpsc::Sender<MetadataMap>,
    configs: mpsc::Sender<Call<mesh::XdsConfigResponse, mesh::XdsConfigRequest>>,
}

impl Global {
    pub async fn start(manner: Manner) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), manner).await
    }

    pub async fn start_at(address: SocketAddr, manner: Manner) -> Self {
        let (down_calls, down) = mpsc::channel(8);
        let (up_calls, up) = mpsc::channel(8);
        let (checks, health) = mpsc::channel(64);
        let (config_calls, configs) = mpsc::channel(8);
        let service = std::sync::Arc::new(Service {
            manner,
            down: down_calls,
            up: up_calls,
            health: checks,
            configs: config_calls,
        });
        let limit = 10 << 20;
        let sync = KdsSyncServiceServer::from_arc(service.clone()).max_decoding_message_size(limit);
        let router = Router::new()
            .route_service("/kuma.mesh.v1alpha1.KDSSyncService/{method}", sync)
            .route_service("/kuma.mesh.v1alpha1.GlobalKDSService/{method}", GlobalKdsServiceServer::from_arc(service));
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, down, up, health, configs, server }
    }

    /// The two sync calls of the next connection.
    pub async fn connected(&mut self) -> (Down, Up) {
        (next(&mut self.down).await, next(&mut self.up).await)
    }
}

impl Drop for Global {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub async fn next<T>(calls: &mut mpsc::Receiver<T>) -> T {
    tokio::time::timeout(LIMIT, calls.recv()).await.expect("a call in time").expect("a server")
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

async fn hand_over<I, O: Send + 'static>(
    request: Request<Streaming<I>>,
    calls: &mpsc::Sender<Call<I, O>>,
) -> Result<Response<Answers<O>>, Status> {
    let (say, answers) = mpsc::channel(64);
    let metadata = request.metadata().clone();
    let call = Call { metadata, heard: request.into_inner(), say };
    calls.send(call).await.map_err(|_| Status::unavailable("the test is over"))?;
    Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
}

#[tonic::async_trait]
impl KdsSyncService for Service {
    type GlobalToZoneSyncStream = Answers<DeltaDiscoveryResponse>;
    type ZoneToGlobalSyncStream = Answers<DeltaDiscoveryRequest>;

    async fn global_to_zone_sync(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::GlobalToZoneSyncStream>, Status> {
        hand_over(request, &self.down).await
    }

    async fn zone_to_global_sync(
        &self,
        request: Request<Streaming<DeltaDiscoveryResponse>>,
    ) -> Result<Response<Self::ZoneToGlobalSyncStream>, Status> {
        hand_over(request, &self.up).await
    }
}

#[tonic::async_trait]
impl GlobalKdsService for Service {
    type StreamXDSConfigsStream = Answers<mesh::XdsConfigRequest>;
    type StreamStatsStream = Answers<mesh::StatsRequest>;
    type StreamClustersStream = Answers<mesh::ClustersRequest>;

    async fn stream_xds_configs(
        &self,
        request: Request<Streaming<mesh::XdsConfigResponse>>,
    ) -> Result<Response<Self::StreamXDSConfigsStream>, Status> {
        if self.manner.silent_admin {
            std::future::pending::<()>().await;
        }
        hand_over(request, &self.configs).await
    }

    async fn stream_stats(
        &self,
        _: Request<Streaming<mesh::StatsResponse>>,
    ) -> Result<Response<Self::StreamStatsStream>, Status> {
        if self.manner.silent_admin {
            std::future::pending::<()>().await;
        }
        Err(Status::unimplemented("no statistics"))
    }

    async fn stream_clusters(
        &self,
        _: Request<Streaming<mesh::ClustersResponse>>,
    ) -> Result<Response<Self::StreamClustersStream>, Status> {
        if self.manner.silent_admin {
            std::future::pending::<()>().await;
        }
        Err(Status::unimplemented("no clusters"))
    }

    async fn health_check(
        &self,
        request: Request<mesh::ZoneHealthCheckRequest>,
    ) -> Result<Response<mesh::ZoneHealthCheckResponse>, Status> {
        if self.manner.no_health {
            return Err(Status::unimplemented("no health checks"));
        }
        // A test may not care.
        let _ = self.health.try_send(request.metadata().clone());
        Ok(Response::new(mesh::ZoneHealthCheckResponse { interval: Some(prost_types::Duration::default()) }))
    }
}
