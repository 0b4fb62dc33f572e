//! A question for a proxy whose zone is connected to another instance: it goes there with the name that the global knows
//! the proxy by, and is answered as if it had been asked there.

use std::sync::Arc;
use std::time::Duration;

use api::proxy_admin::{Failure, Format, Question};
use bytes::Bytes;
use kds_proto::kuma::mesh::v1alpha1::inter_cp_envoy_admin_forward_service_client::InterCpEnvoyAdminForwardServiceClient;
use kds_proto::kuma::mesh::v1alpha1::inter_cp_envoy_admin_forward_service_server::InterCpEnvoyAdminForwardService;
use kds_proto::kuma::mesh::v1alpha1::{
    AdminOutputFormat, ClustersRequest, ClustersResponse, StatsRequest, StatsResponse, XdsConfigRequest,
    XdsConfigResponse, clusters_response, stats_response, xds_config_response,
};
use model::{Key, Kind, Resource};
use tonic::{Request, Response, Status};

use super::{Catalog, Peers};
use crate::proxy_admin::{Clusters, ConfigDump, Exchange, Stats, ThroughZones};

/// How long another instance may take. It waits for the zone itself.
const LIMIT: Duration = Duration::from_secs(20);

impl Peers {
    /// Asks where the zone is connected.
    ///
    /// # Errors
    /// That instance is unknown or does not answer, or its answer is an error.
    pub async fn ask(&self, instance: &str, proxy: &Resource, question: Question) -> Result<Bytes, Failure> {
        let catalog = Catalog::of(&self.store.configuration().borrow());
        let gone = || {
            Failure::NotConnected(format!(
                "instance {instance:?} of the global holds the stream of this zone and is not in the catalog of instances: the zone will reconnect, try again"
            ))
        };
        let instance = catalog.get(instance).ok_or_else(gone)?;
        let unreachable =
            |why: String| Failure::Failed(format!("instance {:?} of the global does not answer: {why}", instance.id));
        let channel =
            self.channel.borrow().clone().ok_or_else(|| unreachable("there is no authority of instances".into()))?;
        let url = instance.url().parse().map_err(|error| unreachable(format!("{}: {error}", instance.url())))?;
        let mut client = InterCpEnvoyAdminForwardServiceClient::with_origin(channel, url)
            .max_decoding_message_size(self.max_message)
            .max_encoding_message_size(self.max_message);
        let (key, id) = (&proxy.meta.key, String::new());
        let name = &key.name;
        let answer = async {
            Ok::<_, Status>(match question {
                Question::ConfigDump { .. } => {
                    let request = ConfigDump::request(id, key, name, question);
                    ConfigDump::read(client.xds_config(request).await?.into_inner()).1
                }
                Question::Stats { .. } => {
                    let request = Stats::request(id, key, name, question);
                    Stats::read(client.stats(request).await?.into_inner()).1
                }
                Question::Clusters { .. } => {
                    let request = Clusters::request(id, key, name, question);
                    Clusters::read(client.clusters(request).await?.into_inner()).1
                }
            })
        };
        match self.clock.timeout(LIMIT, answer).await {
            Some(Ok(answer)) => answer.map_err(Failure::Failed),
            Some(Err(status)) if status.code() == tonic::Code::NotFound => Err(Failure::NotFound),
            Some(Err(status)) => Err(unreachable(status.message().to_owned())),
            None => Err(unreachable(format!("nothing within {} s", LIMIT.as_secs()))),
        }
    }
}

/// Questions that another instance passed on.
#[derive(Clone, Debug)]
pub(super) struct Forwarded(pub ThroughZones);

impl Forwarded {
    async fn ask(
        &self,
        kind: &str,
        mesh: &str,
        name: &str,
        question: Question,
    ) -> Result<Result<Bytes, String>, Status> {
        let kind: Kind = kind.parse().map_err(|_| Status::invalid_argument(format!("{kind:?} is no kind")))?;
        let proxy: Option<Arc<Resource>> =
            self.0.store.configuration().borrow().get(&Key::new(kind, mesh, name)).cloned();
        let proxy = proxy.ok_or_else(|| Status::not_found("there is no such proxy"))?;
        match self.0.ask_connected_here(&proxy, question).await {
            Ok(answer) => Ok(Ok(answer)),
            Err(Failure::Failed(text) | Failure::NotConnected(text)) => Ok(Err(text)),
            Err(Failure::NotFound) => Err(Status::not_found("there is no such zone")),
            Err(Failure::Internal(error)) => {
                tracing::error!(error, "a question that another instance passed on failed");
                Err(Status::internal("failed"))
            }
        }
    }
}

fn format_of(format: i32) -> Format {
    if format == i32::from(AdminOutputFormat::Json) { Format::Json } else { Format::Text }
}

#[tonic::async_trait]
impl InterCpEnvoyAdminForwardService for Forwarded {
    async fn xds_config(&self, request: Request<XdsConfigRequest>) -> Result<Response<XdsConfigResponse>, Status> {
        let asked = request.into_inner();
        let question = Question::ConfigDump { endpoints: asked.include_eds };
        let answer = self.ask(&asked.resource_type, &asked.resource_mesh, &asked.resource_name, question).await?;
        let result = Some(match answer {
            Ok(config) => xds_config_response::Result::Config(config),
            Err(error) => xds_config_response::Result::Error(error),
        });
        Ok(Response::new(XdsConfigResponse { request_id: asked.request_id, result }))
    }

    async fn stats(&self, request: Request<StatsRequest>) -> Result<Response<StatsResponse>, Status> {
        let asked = request.into_inner();
        let question = Question::Stats { format: format_of(asked.format), used_only: asked.used_only };
        let answer = self.ask(&asked.resource_type, &asked.resource_mesh, &asked.resource_name, question).await?;
        let result = Some(match answer {
            Ok(stats) => stats_response::Result::Stats(stats),
            Err(error) => stats_response::Result::Error(error),
        });
        Ok(Response::new(StatsResponse { request_id: asked.request_id, result }))
    }

    async fn clusters(&self, request: Request<ClustersRequest>) -> Result<Response<ClustersResponse>, Status> {
        let asked = request.into_inner();
        let question = Question::Clusters { format: format_of(asked.format) };
        let answer = self.ask(&asked.resource_type, &asked.resource_mesh, &asked.resource_name, question).await?;
        let result = Some(match answer {
            Ok(clusters) => clusters_response::Result::Clusters(clusters),
            Err(error) => clusters_response::Result::Error(error),
        });
        Ok(Response::new(ClustersResponse { request_id: asked.request_id, result }))
    }
}
