//! A server of one Envoy that pushes whole configurations and sees what becomes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::pin::Pin;

use envoy::Type;
use futures::Stream;
use kds_proto::Any;
use kds_proto::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use kds_proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// By type URL, then name.
pub type Resources = BTreeMap<String, BTreeMap<String, Any>>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Requests of an Envoy, and the way to answer them.
pub struct Server {
    requests: mpsc::Receiver<DiscoveryRequest>,
    answers: mpsc::Sender<Result<DiscoveryResponse, Status>>,
    pushes: u64,
    nonces: u64,
    types: BTreeMap<String, Conversation>,
}

/// What was said about one type.
#[derive(Default)]
struct Conversation {
    /// Whether there was a request at all.
    begun: bool,
    subscribed: BTreeSet<String>,
    nonce: String,
    /// What the last response held, until it is acknowledged.
    sent: BTreeSet<String>,
    /// Whether the last response was acknowledged.
    settled: bool,
    /// What of this push was acknowledged.
    acknowledged: BTreeSet<String>,
}

impl Server {
    pub fn start(socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let ((to_test, requests), (answers, to_envoy)) = (mpsc::channel(64), mpsc::channel(64));
        let ads = Ads { requests: to_test, answers: tokio::sync::Mutex::new(Some(to_envoy)) };
        let service = AggregatedDiscoveryServiceServer::new(ads).max_decoding_message_size(64 << 20);
        let serving = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(serving.serve_with_incoming(UnixListenerStream::new(listener)));
        Self { requests, answers, pushes: 0, nonces: 0, types: BTreeMap::new() }
    }

    /// Gives a configuration and waits until all of it is acknowledged or refused; the refusals.
    pub async fn push(&mut self, resources: &Resources) -> Vec<String> {
        self.pushes += 1;
        self.types.values_mut().for_each(|conversation| conversation.acknowledged.clear());
        let mut refusals = Vec::new();
        // Envoy acknowledges clusters only once those that changed have their endpoints and secrets, of which it may know
        // the names already and so asks for nothing.
        for r#type in [Type::Cluster, Type::Endpoint, Type::Secret, Type::Listener, Type::Route] {
            if self.types.get(&r#type.url()).is_some_and(|conversation| conversation.begun) {
                self.answer(&r#type.url(), resources).await;
            }
        }
        while refusals.is_empty() && !self.missing(resources).is_empty() {
            let request = self.requests.recv().await.expect("the stream of Envoy");
            refusals.extend(self.hear(request, resources).await);
        }
        refusals
    }

    /// Names that Envoy has not acknowledged, or has not asked for.
    pub fn missing(&self, resources: &Resources) -> String {
        let mut missing = String::new();
        for (url, named) in resources {
            let conversation = self.types.get(url);
            let short = url.rsplit('.').next().unwrap_or_default();
            for name in named.keys().filter(|name| **name != crate::TRUST_BUNDLE) {
                if conversation.is_none_or(|conversation| !conversation.acknowledged.contains(name)) {
                    missing.push_str(&format!("{short} {name}, "));
                }
            }
            let asked = conversation.into_iter().flat_map(|conversation| &conversation.subscribed);
            let unknown: Vec<&String> = asked.filter(|name| !named.contains_key(*name)).collect();
            if !unknown.is_empty() {
                missing.push_str(&format!("{short} {unknown:?} which it asks for and is not there, "));
            }
            let whole = [Type::Cluster.url(), Type::Listener.url()].contains(url);
            if whole && conversation.is_none_or(|conversation| !conversation.settled) {
                missing.push_str(&format!("an answer about every {short}, "));
            }
        }
        missing
    }

    async fn hear(&mut self, request: DiscoveryRequest, resources: &Resources) -> Option<String> {
        let url = request.type_url;
        let conversation = self.types.entry(url.clone()).or_default();
        let names: BTreeSet<String> = request.resource_names.into_iter().collect();
        let news = !conversation.begun || names != conversation.subscribed;
        (conversation.begun, conversation.subscribed) = (true, names);
        if request.response_nonce == conversation.nonce && !conversation.nonce.is_empty() {
            if let Some(refused) = request.error_detail {
                conversation.settled = true;
                return Some(format!("{}: {}", url.rsplit('.').next().unwrap_or_default(), refused.message));
            }
            conversation.settled = true;
            conversation.acknowledged.append(&mut conversation.sent);
        }
        if news {
            self.answer(&url, resources).await;
        }
        None
    }

    async fn answer(&mut self, url: &str, resources: &Resources) {
        self.nonces += 1;
        let conversation = self.types.entry(url.to_owned()).or_default();
        let all = [Type::Cluster.url(), Type::Listener.url()].iter().any(|whole| whole == url);
        let wanted = |name: &String| all || conversation.subscribed.contains(name);
        let named: Vec<(&String, &Any)> = resources[url].iter().filter(|(name, _)| wanted(name)).collect();
        conversation.sent = named.iter().map(|(name, _)| (*name).clone()).collect();
        (conversation.nonce, conversation.settled) = (self.nonces.to_string(), false);
        let response = DiscoveryResponse {
            version_info: format!("{}-{}", self.pushes, self.nonces),
            type_url: url.to_owned(),
            nonce: conversation.nonce.clone(),
            resources: named.into_iter().map(|(_, any)| any.clone()).collect(),
            ..DiscoveryResponse::default()
        };
        self.answers.send(Ok(response)).await.expect("the stream of Envoy");
    }
}

/// Hands the one stream of the one Envoy over.
struct Ads {
    requests: mpsc::Sender<DiscoveryRequest>,
    answers: tokio::sync::Mutex<Option<mpsc::Receiver<Result<DiscoveryResponse, Status>>>>,
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = Answers<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let answers = self.answers.lock().await.take().ok_or_else(|| Status::already_exists("a second stream"))?;
        let (mut incoming, requests) = (request.into_inner(), self.requests.clone());
        tokio::spawn(async move {
            while let Ok(Some(request)) = incoming.message().await {
                if requests.send(request).await.is_err() {
                    break;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn delta_aggregated_resources(
        &self,
        _request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("state of the world only"))
    }
}
