//! `GlobalKDSService`: health checks, and the streams on which the global asks about proxies (kds-wire 1.8, 1.9).

use discovery::outgoing::{Outgoing, outgoing};
use futures::StreamExt;
use kds_proto::kuma::mesh::v1alpha1::global_kds_service_server::GlobalKdsService;
use kds_proto::kuma::mesh::v1alpha1::{
    ClustersRequest, ClustersResponse, StatsRequest, StatsResponse, XdsConfigRequest, XdsConfigResponse,
    ZoneHealthCheckRequest, ZoneHealthCheckResponse,
};
use tonic::{Request, Response, Status, Streaming};

use super::Door;
use super::ending::Ending;
use crate::proxy_admin::{Exchange, Line, Seat};

impl Door {
    /// A stream on which requests go out and responses come in.
    async fn ask_on<E: Exchange>(
        &self,
        line: &Line<E>,
        request: Request<Streaming<E::Response>>,
    ) -> Result<Response<Outgoing<E::Request>>, Status> {
        let (_, session) = self.open(&request, E::KIND).await?;
        let (requests, end, stream) = outgoing();
        let seat = line.join(&session.zone, requests);
        self.run(session, E::KIND, end, listen(seat, request.into_inner()));
        Ok(Response::new(stream))
    }
}

/// Takes answers until the zone hangs up.
async fn listen<E: Exchange>(seat: Seat<E>, mut responses: Streaming<E::Response>) -> Ending {
    loop {
        match responses.next().await {
            Some(Ok(response)) => {
                if seat.answered(response).is_err() {
                    return Ending::UnknownAnswer;
                }
            }
            Some(Err(status)) => return Ending::of(&status),
            None => return Ending::Left,
        }
    }
}

#[tonic::async_trait]
impl GlobalKdsService for Door {
    type StreamXDSConfigsStream = Outgoing<XdsConfigRequest>;
    type StreamStatsStream = Outgoing<StatsRequest>;
    type StreamClustersStream = Outgoing<ClustersRequest>;

    async fn stream_xds_configs(
        &self,
        request: Request<Streaming<XdsConfigResponse>>,
    ) -> Result<Response<Self::StreamXDSConfigsStream>, Status> {
        self.ask_on(&self.lines.config_dump, request).await
    }

    async fn stream_stats(
        &self,
        request: Request<Streaming<StatsResponse>>,
    ) -> Result<Response<Self::StreamStatsStream>, Status> {
        self.ask_on(&self.lines.stats, request).await
    }

    async fn stream_clusters(
        &self,
        request: Request<Streaming<ClustersResponse>>,
    ) -> Result<Response<Self::StreamClustersStream>, Status> {
        self.ask_on(&self.lines.clusters, request).await
    }

    /// The answer names the interval even when it is zero; a zone that does not exist yet is answered too (KDS-12).
    async fn health_check(
        &self,
        request: Request<ZoneHealthCheckRequest>,
    ) -> Result<Response<ZoneHealthCheckResponse>, Status> {
        let (caller, _) = self.admit(&request, None)?;
        self.insights.health_check(&caller.zone);
        let interval = self.settings.health_interval;
        let interval = prost_types::Duration {
            seconds: i64::try_from(interval.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(interval.subsec_nanos()).unwrap_or_default(),
        };
        Ok(Response::new(ZoneHealthCheckResponse { interval: Some(interval) }))
    }
}
