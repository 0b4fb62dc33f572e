//! A router and a control plane: bootstrap, subscription, refusals, loss.

#![expect(clippy::unwrap_used, reason = "a test: what is missing ends it")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::routing::{Router, post};
use axum::{Json, extract::State};
use discovery::stream::{Observer, publish};
use discovery::{Changes, Encoded, Interest, View};
use futures::{Stream, StreamExt};
use kds_proto::Any;
use kds_proto::bootstrap::{Request as BootstrapRequest, Response as BootstrapResponse};
use kds_proto::envoy::config::cluster::v3::Cluster;
use kds_proto::envoy::config::core::v3::Node;
use kds_proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use kds_proto::envoy::config::listener::v3::Listener;
use kds_proto::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use kds_proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use kds_proto::json::{UnknownFields, from_value};
use prost::{Message, Name};
use router::program::{self, Config, FromControlPlane, Routes, Running};
use router::proxy::{Proxy, ProxyType, Said};
use router::server::Settings;
use runtime::serve::{self, serve};
use runtime::{Clock, Life, drain};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

const PATIENCE: Duration = Duration::from_secs(20);

type Told = Arc<BTreeMap<(String, String), Any>>;

/// Everything that was put, to everybody.
struct Everything;

impl View for Everything {
    type Moment = Told;

    fn changes(&self, type_url: &str, _: &Interest, from: Option<&Told>, to: &Told) -> Changes {
        let of = |told: &Told| -> BTreeMap<String, Any> {
            let of_type = told.iter().filter(|((kind, _), _)| kind == type_url);
            of_type.map(|((_, name), resource)| (name.clone(), resource.clone())).collect()
        };
        let (before, now) = (from.map(of).unwrap_or_default(), of(to));
        let removed = before.keys().filter(|name| !now.contains_key(*name)).cloned().collect();
        let encoded = |(name, resource): (String, Any)| Encoded { name: name.into(), version: "1".into(), resource };
        let put = now.into_iter().filter(|(name, resource)| before.get(name) != Some(resource)).map(encoded).collect();
        Changes { put, removed }
    }
}

/// A zone's control plane as a router sees it.
#[derive(Clone)]
struct ControlPlane {
    told: watch::Sender<Told>,
    asked: Arc<Mutex<Vec<BootstrapRequest>>>,
    heard: Arc<Mutex<Vec<String>>>,
    tokens: Arc<Mutex<Vec<String>>>,
    address: Arc<Mutex<Option<SocketAddr>>>,
}

impl Observer for ControlPlane {
    fn introduced(&self, node: &Node) {
        self.note(format!("node {}", node.id));
    }
    fn sent(&self, _: &str) {}
    fn acknowledged(&self, type_url: &str) {
        self.note(format!("ack {}", type_url.rsplit('.').next().unwrap()));
    }
    fn refused(&self, type_url: &str, message: &str) {
        self.note(format!("nack {}: {message}", type_url.rsplit('.').next().unwrap()));
    }
}

type Responses<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for ControlPlane {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let token = request.metadata().get("authorization").and_then(|token| token.to_str().ok()).unwrap_or_default();
        self.tokens.lock().unwrap().push(token.to_owned());
        let (responses, sent) = mpsc::channel(1);
        let (plane, told) = (self.clone(), self.told.subscribe());
        tokio::spawn(async move {
            publish(request.into_inner(), responses, "zone", |_| Everything, told, &plane).await;
        });
        Ok(Response::new(ReceiverStream::new(sent).map(Ok).boxed()))
    }
}

async fn bootstrap(
    State(plane): State<ControlPlane>,
    Json(request): Json<BootstrapRequest>,
) -> Json<BootstrapResponse> {
    let id = format!(".{}", request.name);
    plane.asked.lock().unwrap().push(request);
    let address = plane.address.lock().unwrap().unwrap();
    let bootstrap = json!({
        "node": {"id": id, "cluster": "ingress", "metadata": {"dataplane.proxyType": "ingress"}},
        "dynamicResources": {"adsConfig": {"apiType": "DELTA_GRPC", "grpcServices": [
            {"envoyGrpc": {"clusterName": "ads_cluster"}, "initialMetadata": [{"key": "authorization", "value": "other"}]},
        ]}},
        "staticResources": {"clusters": [{"name": "ads_cluster", "loadAssignment": {"endpoints": [{"lbEndpoints": [
            {"endpoint": {"address": {"socketAddress": {"address": "127.0.0.1", "portValue": address.port()}}}},
        ]}]}}]},
    });
    Json(BootstrapResponse { bootstrap: bootstrap.to_string().into_bytes(), ..BootstrapResponse::default() })
}

impl ControlPlane {
    fn new() -> Self {
        Self {
            told: watch::Sender::default(),
            asked: Arc::default(),
            heard: Arc::default(),
            tokens: Arc::default(),
            address: Arc::default(),
        }
    }

    /// Answers at an address, until the life is dropped.
    async fn start(&self, address: &str) -> (SocketAddr, Life) {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        *self.address.lock().unwrap() = Some(address);
        let ads = "/envoy.service.discovery.v3.AggregatedDiscoveryService/{*call}";
        let routes = Router::new()
            .route("/bootstrap", post(bootstrap).with_state(self.clone()))
            .route_service(ads, AggregatedDiscoveryServiceServer::new(self.clone()));
        let life = Life::new(Clock::system(), drain::Limits { streams: Duration::ZERO, ..drain::Limits::default() });
        tokio::spawn(serve(listener, None, routes, serve::Limits::default(), life.drain().listener()));
        (address, life)
    }

    fn note(&self, text: String) {
        self.heard.lock().unwrap().push(text);
    }

    fn heard(&self, text: &str) -> bool {
        self.heard.lock().unwrap().iter().any(|heard| heard.starts_with(text))
    }

    fn put<M: Message + Name + Default>(&self, name: &str, value: Value) {
        let packed = Any::pack(&from_value::<M>(value, UnknownFields::Refused).unwrap());
        self.told.send_modify(|told| {
            Arc::make_mut(told).insert((M::type_url(), name.to_owned()), packed);
        });
    }

    fn remove<M: Name>(&self, name: &str) {
        self.told.send_modify(|told| drop(Arc::make_mut(told).remove(&(M::type_url(), name.to_owned()))));
    }

    fn service(&self, name: &str, endpoint: SocketAddr) {
        self.put::<Cluster>(
            name,
            json!({
                "name": name, "type": "EDS", "connectTimeout": "5s",
                "edsClusterConfig": {"edsConfig": {"ads": {}, "resourceApiVersion": "V3"}},
            }),
        );
        self.put::<ClusterLoadAssignment>(
            name,
            json!({"clusterName": name, "endpoints": [{"lbEndpoints": [
                {"endpoint": {"address": {"socketAddress": {"address": "127.0.0.1", "portValue": endpoint.port()}}}},
            ]}]}),
        );
    }

    fn listener(&self, chains: Vec<Value>) {
        self.put::<Listener>(
            "inbound",
            json!({
                "name": "inbound",
                "address": {"socketAddress": {"address": "127.0.0.1", "portValue": 0}},
                "filterChains": chains,
            }),
        );
    }
}

fn chain(sni: &str, cluster: &str) -> Value {
    json!({
        "filterChainMatch": {"transportProtocol": "tls", "serverNames": [sni]},
        "filters": [{"name": "envoy.filters.network.tcp_proxy", "typedConfig": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "statPrefix": "s", "cluster": cluster,
        }}],
    })
}

/// Says a letter to everybody.
async fn says(letter: u8) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(&[letter]).await.unwrap();
        }
    });
    address
}

fn hello(name: &str) -> Vec<u8> {
    fn vector(content: &[u8]) -> Vec<u8> {
        [&u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
    }
    let host = vector(&[&[0], vector(name.as_bytes()).as_slice()].concat());
    let extensions = [&[0, 0][..], &vector(&host)].concat();
    let body = [&[3, 3][..], &[7; 32], &[0], &vector(&[0x13, 1]), &[1, 0], &vector(&extensions)].concat();
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1, len[1], len[2], len[3]], body.as_slice()].concat();
    [&[22, 3, 1], vector(&message).as_slice()].concat()
}

/// What whoever asks for a name is answered: a letter, or nothing.
async fn answer(running: &Running, name: &str) -> String {
    let Some((_, address)) = running.addresses().into_iter().next() else { return "no listener".to_owned() };
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&hello(name)).await.unwrap();
    let mut bytes = Vec::new();
    // A reset says as much as an end.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

async fn answers(running: &Running, name: &str, wanted: &str) {
    let began = Instant::now();
    loop {
        let said = answer(running, name).await;
        if said == wanted {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{name} answers {said:?}, not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn start(address: SocketAddr, folder: &Path) -> Running {
    let said =
        Said { name: "zi".to_owned(), address: Some("127.0.0.1".to_owned()), port: Some(10001), ..Said::default() };
    let mut request = Proxy::new(ProxyType::Ingress, &said).unwrap().request();
    request.dataplane_token.0 = "the token".to_owned();
    let from = FromControlPlane {
        address: format!("http://{address}"),
        ca: None,
        skip_verify: true,
        request,
        token_file: None,
        patience: identity::bootstrap::Patience::default(),
        folder: folder.to_owned(),
    };
    let config = Config {
        routes: Routes::ControlPlane(Box::new(from)),
        diagnostics: "127.0.0.1:0".parse().unwrap(),
        server: Settings { workers: 1, ..Settings::default() },
        drain: Duration::from_secs(1),
    };
    program::run(config).await.unwrap()
}

/// DP-6 and DP-30 in their client half, with changes while it runs; a bad route costs only itself.
#[tokio::test(flavor = "multi_thread")]
async fn routes_follow_the_control_plane() {
    let (plane, folder) = (ControlPlane::new(), tempfile::tempdir().unwrap());
    let (address, _life) = plane.start("127.0.0.1:0").await;
    let running = start(address, folder.path()).await;
    let (a, b) = (says(b'a').await, says(b'b').await);
    plane.service("m:a", a);
    plane.service("m:b", b);
    plane.listener(vec![chain("a{mesh=m}", "m:a"), chain("*.wild", "m:b")]);
    answers(&running, "a{mesh=m}", "a").await;
    eventually("the refusal", || plane.heard("nack Listener: Listener \"inbound\": the filter chain of \"*.wild\""))
        .await;
    eventually("clusters", || plane.heard("ack Cluster") && plane.heard("ack ClusterLoadAssignment")).await;
    assert!(plane.heard("node .zi"));
    assert_eq!(*plane.tokens.lock().unwrap(), ["the token"], "the bare token");
    {
        let asked = plane.asked.lock().unwrap();
        assert_eq!((&*asked[0].proxy_type, &*asked[0].dataplane_token.0), ("ingress", "the token"));
        assert!(asked[0].dataplane_resource.contains("ZoneIngress"));
    }
    plane.listener(vec![chain("a{mesh=m}", "m:a"), chain("b{mesh=m}", "m:b")]);
    answers(&running, "b{mesh=m}", "b").await;
    plane.service("m:a", b);
    answers(&running, "a{mesh=m}", "b").await;
    plane.remove::<Cluster>("m:a");
    answers(&running, "a{mesh=m}", "").await;
    plane.remove::<Listener>("inbound");
    eventually("no listener", || running.addresses().is_empty()).await;
    running.stop().ask();
    running.end().await;
}

/// Losing the control plane stops change, not traffic; and a router starts without it. It follows again when that is back.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_control_plane_the_last_routes_serve() {
    let (plane, folder) = (ControlPlane::new(), tempfile::tempdir().unwrap());
    let (address, life) = plane.start("127.0.0.1:0").await;
    plane.service("m:a", says(b'a').await);
    plane.listener(vec![chain("a", "m:a")]);
    let running = start(address, folder.path()).await;
    answers(&running, "a", "a").await;
    let kept = folder.path().join("zi.last-good");
    let holds = |text: &[u8]| std::fs::read(&kept).is_ok_and(|kept| kept.windows(text.len()).any(|part| part == text));
    eventually("kept on disk", || holds(b"inbound") && holds(b"m:a")).await;
    life.stop().ask();
    life.end().await;
    answers(&running, "a", "a").await;
    running.stop().ask();
    running.end().await;

    let running = start(address, folder.path()).await;
    answers(&running, "a", "a").await;
    plane.service("m:a", says(b'b').await);
    let (_, _life) = plane.start(&address.to_string()).await;
    answers(&running, "a", "b").await;
    running.stop().ask();
    running.end().await;
}

/// An update of a listener of 10,000 routes is in force before it is acknowledged, and its size is no hindrance.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_routes_are_taken_at_once() {
    let (plane, folder) = (ControlPlane::new(), tempfile::tempdir().unwrap());
    let (address, _life) = plane.start("127.0.0.1:0").await;
    let a = says(b'a').await;
    plane.service("m:a", a);
    let chains = |count: usize| (0..count).map(|at| chain(&format!("service-{at}{{mesh=m}}"), "m:a")).collect();
    plane.listener(chains(10_000));
    let running = start(address, folder.path()).await;
    answers(&running, "service-9999{mesh=m}", "a").await;
    let began = Instant::now();
    plane.listener(chains(10_001));
    answers(&running, "service-10000{mesh=m}", "a").await;
    println!("one route more: {:?}", began.elapsed());
    running.stop().ask();
    running.end().await;
}
