//! Both streams over a real connection, between a peer that says more of itself than anybody knows and one that does not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use discovery::kds::node::{Features, Introduction};
use discovery::stream::{End, Sink, Verdict, publish, subscribe};
use discovery::subscriber::Update;
use futures::StreamExt;
use futures::stream::BoxStream;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use kds_proto::envoy::config::core::v3::Node;
use kds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use kds_proto::kuma::mesh::v1alpha1::kds_sync_service_client::KdsSyncServiceClient;
use kds_proto::kuma::mesh::v1alpha1::kds_sync_service_server::{KdsSyncService, KdsSyncServiceServer};
use prost_types::value::Kind as Member;
use prost_types::{ListValue, Value};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status, Streaming};
use tower::util::BoxCloneSyncService;

use crate::driver::Log;
use crate::things::{Everything, Things, things};

const DEADLINE: Duration = Duration::from_secs(20);
const TYPES: [&str; 2] = ["Mesh", "Secret"];

/// What one end knows, and what it was told.
#[derive(Clone)]
struct Peer {
    node: Node,
    knows: watch::Sender<Arc<Things>>,
    held: watch::Sender<BTreeMap<String, String>>,
    met: watch::Sender<Option<Introduction>>,
}

impl Peer {
    fn new(says_more: bool, knows: Things) -> Self {
        let introduction = Introduction { id: "east".into(), features: Features::ALL, ..Introduction::default() };
        let mut node = introduction.to_node();
        if says_more {
            let text = |text: &str| Value { kind: Some(Member::StringValue(text.to_owned())) };
            let fields = &mut node.metadata.as_mut().unwrap().fields;
            let Some(Member::ListValue(ListValue { values })) = &mut fields.get_mut("features").unwrap().kind else {
                panic!("features are no list")
            };
            values.extend([text("receipts"), text("resume")]);
            fields.insert("resume".into(), text("from the 7th on"));
        }
        Self {
            node,
            knows: watch::channel(Arc::new(knows)).0,
            held: watch::channel(BTreeMap::new()).0,
            met: watch::channel(None).0,
        }
    }

    /// Waits until it was told exactly this.
    async fn holds(&self, what: &[(&str, &str)]) {
        let what = what.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect();
        let mut held = self.held.subscribe();
        let holds = held.wait_for(|held| *held == what);
        tokio::time::timeout(DEADLINE, holds).await.unwrap().unwrap();
    }

    fn view(&self) -> impl FnOnce(&Node) -> Everything + use<> {
        let met = self.met.clone();
        move |node| {
            met.send_replace(Some(Introduction::of(node)));
            Everything
        }
    }
}

struct Taker(watch::Sender<BTreeMap<String, String>>);

impl Sink for Taker {
    async fn take(&mut self, update: &Update) -> Result<Verdict, String> {
        self.0.send_modify(|held| {
            for resource in &update.resources {
                held.insert(format!("{}/{}", update.type_url, resource.name), resource.version.clone());
            }
            for name in &update.removed {
                held.remove(&format!("{}/{name}", update.type_url));
            }
        });
        Ok(Verdict::Accepted)
    }
}

/// Ends a stream as the global does: never with OK (KDS-22).
fn ended(end: End) -> Status {
    Status::internal(format!("{end:?}"))
}

/// What is sent, and last why it ended.
fn outgoing<M: Send + 'static>(
    messages: mpsc::Receiver<M>,
    last: impl Future<Output = Status> + Send + 'static,
) -> BoxStream<'static, Result<M, Status>> {
    let last = tokio::spawn(last);
    ReceiverStream::new(messages).map(Ok).chain(futures::stream::once(async move { Err(last.await.unwrap()) })).boxed()
}

#[tonic::async_trait]
impl KdsSyncService for Peer {
    type GlobalToZoneSyncStream = BoxStream<'static, Result<DeltaDiscoveryResponse, Status>>;
    type ZoneToGlobalSyncStream = BoxStream<'static, Result<DeltaDiscoveryRequest, Status>>;

    async fn global_to_zone_sync(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::GlobalToZoneSyncStream>, Status> {
        let (responses, sent) = mpsc::channel(1);
        let (view, moments) = (self.view(), self.knows.subscribe());
        let last = async move {
            ended(publish(request.into_inner(), responses, "global", view, moments, &Log::default()).await)
        };
        Ok(Response::new(outgoing(sent, last)))
    }

    async fn zone_to_global_sync(
        &self,
        request: Request<Streaming<DeltaDiscoveryResponse>>,
    ) -> Result<Response<Self::ZoneToGlobalSyncStream>, Status> {
        let (requests, sent) = mpsc::channel(1);
        let (node, mut taker) = (self.node.clone(), Taker(self.held.clone()));
        let last = async move { ended(subscribe(request.into_inner(), requests, TYPES, &node, &mut taker).await) };
        Ok(Response::new(outgoing(sent, last)))
    }
}

type Calls = BoxCloneSyncService<http::Request<Body>, http::Response<hyper::body::Incoming>, hyper::Error>;

/// The two streams of a zone; ends with the first of them.
async fn follow(zone: Peer, mut client: KdsSyncServiceClient<Calls>) -> End {
    let (asked, requests) = mpsc::channel(8);
    let (told, responses) = mpsc::channel(1);
    let mut other = client.clone();
    let down = async {
        let mut request = Request::new(ReceiverStream::new(requests));
        for feature in ["zone-ping-health", "hash-suffix", "receipts"] {
            request.metadata_mut().append("features", feature.parse().unwrap());
        }
        let responses = client.global_to_zone_sync(request);
        let mut taker = Taker(zone.held.clone());
        let responses = futures::stream::once(responses).map(|opened| match opened {
            Ok(opened) => opened.into_inner().boxed(),
            Err(status) => futures::stream::once(async { Err(status) }).boxed(),
        });
        subscribe(Box::pin(responses.flatten()), asked, TYPES, &zone.node, &mut taker).await
    };
    let up = async {
        match other.zone_to_global_sync(ReceiverStream::new(responses)).await {
            Ok(requests) => {
                let (view, moments) = (zone.view(), zone.knows.subscribe());
                publish(requests.into_inner(), told, "east", view, moments, &Log::default()).await
            }
            Err(status) => End::Status(status),
        }
    };
    tokio::select! { end = down => end, end = up => end }
}

async fn meet(global_says_more: bool, zone_says_more: bool) {
    let global = Peer::new(global_says_more, things("Mesh", &[("default", 1)]));
    let zone = Peer::new(zone_says_more, things("Secret", &[("token", 1)]));
    let service = KdsSyncServiceServer::new(global.clone())
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        connection.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).await
    });
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let calls = tower::service_fn(move |request| {
        let mut sender = sender.clone();
        async move { sender.send_request(request).await }
    });
    let calls = Calls::new(calls);
    let client = KdsSyncServiceClient::with_origin(calls, format!("http://{address}").parse().unwrap())
        .send_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Gzip);
    let following = tokio::spawn(follow(zone.clone(), client));

    zone.holds(&[("Mesh/default", "1")]).await;
    global.holds(&[("Secret/token", "1")]).await;
    global.knows.send_replace(Arc::new(things("Mesh", &[("default", 2), ("other", 1)])));
    zone.knows.send_replace(Arc::new(Things::new()));
    zone.holds(&[("Mesh/default", "2"), ("Mesh/other", "1")]).await;
    global.holds(&[]).await;
    for peer in [&global, &zone] {
        let met = peer.met.borrow().clone().unwrap();
        assert_eq!((&*met.id, met.features), ("east", Features::ALL));
    }
    following.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_one_side_knows_changes_nothing() {
    for (global, zone) in [(true, false), (false, true), (true, true)] {
        meet(global, zone).await;
    }
}
