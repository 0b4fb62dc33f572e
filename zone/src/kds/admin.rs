//! Questions of the global about this zone's proxies (kds-wire 1.9).

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, anyhow};
use api::proxy_admin::{Failure, Format, ProxyAdmin, Question};
use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt, TryStreamExt};
use kds_proto::kuma::mesh::v1alpha1 as mesh;
use kds_proto::kuma::mesh::v1alpha1::global_kds_service_client::GlobalKdsServiceClient;
use kds_proto::kuma::mesh::v1alpha1::{clusters_response, stats_response, xds_config_response};
use model::{Key, Kind};
use runtime::Clock;
use store::Store;
use tokio::sync::mpsc;
use tonic::{Code, Status};

use super::dial::Calls;

/// For one answer; the global gives up a little later.
const LIMIT: Duration = Duration::from_secs(9);
/// Questions that are worked on at a time, per stream; more wait unread.
const AT_A_TIME: usize = 16;

/// Finds the proxy that is meant and asks it, in time.
pub(crate) struct Asker<'a> {
    pub store: &'a Store,
    /// The way to proxies; without one, none is connected.
    pub proxies: Option<&'a dyn ProxyAdmin>,
    pub clock: &'a Clock,
}

impl Asker<'_> {
    async fn answer(&self, [kind, mesh, name]: [&str; 3], question: Question) -> Result<Bytes, String> {
        let known =
            kind.parse().ok().filter(|kind| [Kind::Dataplane, Kind::ZoneIngress, Kind::ZoneEgress].contains(kind));
        let Some(known) = known else { return Err(format!("invalid resource type {kind:?}")) };
        let key = Key::new(known, mesh, name);
        let Some(proxy) = self.store.configuration().borrow().get(&key).cloned() else {
            return Err(format!("resource not found: type={kind:?} name={name:?} mesh={mesh:?}"));
        };
        let Some(proxies) = self.proxies else { return Err(unconnected(&key)) };
        match self.clock.timeout(LIMIT, proxies.ask(&proxy, question)).await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(Failure::NotFound)) => Err(unconnected(&key)),
            Some(Err(Failure::NotConnected(text) | Failure::Failed(text) | Failure::Internal(text))) => Err(text),
            None => Err(format!("{key} did not answer within {} s", LIMIT.as_secs())),
        }
    }

    /// Answers on all three streams until one of them ends.
    ///
    /// # Errors
    /// Why; always, unless the global has none of them.
    pub async fn answer_all(&self, client: &GlobalKdsServiceClient<Calls>) -> Result<()> {
        let configs = serve::<Configs, _, _>(client.clone(), self, |mut client, answers| async move {
            client.stream_xds_configs(answers).await
        });
        let stats = serve::<Stats, _, _>(client.clone(), self, |mut client, answers| async move {
            client.stream_stats(answers).await
        });
        let clusters = serve::<Clusters, _, _>(client.clone(), self, |mut client, answers| async move {
            client.stream_clusters(answers).await
        });
        tokio::try_join!(configs, stats, clusters).map(|_| ())
    }
}

fn unconnected(key: &Key) -> String {
    format!("{key} is not connected to its zone's control plane")
}

/// One of the three streams.
trait Exchange {
    const NAME: &'static str;
    type Request: Send + 'static;
    type Response: Send + 'static;

    fn question(request: &Self::Request) -> ([&str; 3], Question);
    fn response(request: &Self::Request, answer: Result<Bytes, String>) -> Self::Response;
}

type Answers<T> = tokio_stream::wrappers::ReceiverStream<T>;
type Opened<T> = Result<tonic::Response<tonic::Streaming<T>>, Status>;

/// Opens a stream and answers on it. Its opening is not waited for by anybody: a global of Kuma sends the head of its
/// answer with its first question (KDS-10).
async fn serve<E: Exchange, O, F>(client: GlobalKdsServiceClient<Calls>, asker: &Asker<'_>, open: O) -> Result<()>
where
    O: FnOnce(GlobalKdsServiceClient<Calls>, Answers<E::Response>) -> F,
    F: Future<Output = Opened<E::Request>>,
{
    let (sender, answers) = mpsc::channel(1);
    let questions = match open(client, answers.into()).await {
        Ok(opened) => opened.into_inner(),
        Err(status) => return ended::<E>(status),
    };
    match converse::<E>(questions, sender, asker).await {
        Ok(()) => Err(anyhow!("the global ended {}", E::NAME)),
        Err(status) => ended::<E>(status),
    }
}

/// A global that lacks the method does without.
fn ended<E: Exchange>(status: Status) -> Result<()> {
    if status.code() == Code::Unimplemented {
        tracing::debug!(stream = E::NAME, "the global asks nothing");
        return Ok(());
    }
    Err(anyhow::Error::new(status).context(format!("{} failed", E::NAME)))
}

/// Answers each question once, in any order (KDS-60).
async fn converse<E: Exchange>(
    questions: impl Stream<Item = Result<E::Request, Status>> + Unpin,
    answers: mpsc::Sender<E::Response>,
    asker: &Asker<'_>,
) -> Result<(), Status> {
    let (mut questions, mut working) = (questions.fuse(), FuturesUnordered::new());
    loop {
        tokio::select! {
            Some(response) = working.next(), if !working.is_empty() => {
                if answers.send(response).await.is_err() {
                    return Ok(());
                }
            }
            request = questions.try_next(), if working.len() < AT_A_TIME => {
                let Some(request) = request? else { return Ok(()) };
                working.push(async move {
                    let (proxy, question) = E::question(&request);
                    tracing::info!(kind = proxy[0], mesh = proxy[1], name = proxy[2], ?question, "the global asks");
                    E::response(&request, asker.answer(proxy, question).await)
                });
            }
        }
    }
}

/// An empty answer is left out (kds-wire 1.9).
fn filled<T>(answer: Result<Bytes, String>, good: fn(Bytes) -> T, bad: fn(String) -> T) -> Option<T> {
    match answer {
        Ok(answer) => (!answer.is_empty()).then(|| good(answer)),
        Err(error) => Some(bad(error)),
    }
}

struct Configs;
struct Stats;
struct Clusters;

fn format(format: i32) -> Format {
    if format == mesh::AdminOutputFormat::Json as i32 { Format::Json } else { Format::Text }
}

impl Exchange for Configs {
    const NAME: &'static str = "StreamXDSConfigs";
    type Request = mesh::XdsConfigRequest;
    type Response = mesh::XdsConfigResponse;

    fn question(request: &Self::Request) -> ([&str; 3], Question) {
        let proxy = [&*request.resource_type, &*request.resource_mesh, &*request.resource_name];
        (proxy, Question::ConfigDump { endpoints: request.include_eds })
    }

    fn response(request: &Self::Request, answer: Result<Bytes, String>) -> Self::Response {
        use xds_config_response::Result as R;
        mesh::XdsConfigResponse { request_id: request.request_id.clone(), result: filled(answer, R::Config, R::Error) }
    }
}

impl Exchange for Stats {
    const NAME: &'static str = "StreamStats";
    type Request = mesh::StatsRequest;
    type Response = mesh::StatsResponse;

    fn question(request: &Self::Request) -> ([&str; 3], Question) {
        let proxy = [&*request.resource_type, &*request.resource_mesh, &*request.resource_name];
        (proxy, Question::Stats { format: format(request.format), used_only: request.used_only })
    }

    fn response(request: &Self::Request, answer: Result<Bytes, String>) -> Self::Response {
        use stats_response::Result as R;
        mesh::StatsResponse { request_id: request.request_id.clone(), result: filled(answer, R::Stats, R::Error) }
    }
}

impl Exchange for Clusters {
    const NAME: &'static str = "StreamClusters";
    type Request = mesh::ClustersRequest;
    type Response = mesh::ClustersResponse;

    fn question(request: &Self::Request) -> ([&str; 3], Question) {
        let proxy = [&*request.resource_type, &*request.resource_mesh, &*request.resource_name];
        (proxy, Question::Clusters { format: format(request.format) })
    }

    fn response(request: &Self::Request, answer: Result<Bytes, String>) -> Self::Response {
        use clusters_response::Result as R;
        mesh::ClustersResponse { request_id: request.request_id.clone(), result: filled(answer, R::Clusters, R::Error) }
    }
}
