//! Zones that only speak the protocol: each has a connection, both streams and what it would send up.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kds_proto::Any;
use kds_proto::envoy::config::core::v3::{ControlPlane, Node};
use kds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use kds_proto::google::rpc::Status as Detail;
use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::Inbound;
use kds_proto::kuma::mesh::v1alpha1::kds_sync_service_client::KdsSyncServiceClient;
use kds_proto::kuma::mesh::v1alpha1::kuma_resource::Meta;
use kds_proto::kuma::mesh::v1alpha1::zone_ingress::AvailableService;
use kds_proto::kuma::mesh::v1alpha1::{Dataplane, KumaResource, ZoneIngress, dataplane, zone_ingress};
use model::Kind;
use prost::Message;
use prost_types::value::Kind as Value;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};

/// Largest message that is taken: a first response has everything of a type.
const MAX_MESSAGE: usize = 64 << 20;

/// All zones. Dropping it disconnects them.
pub struct Fleet {
    board: Arc<Board>,
    ingresses: Vec<watch::Sender<usize>>,
    _zones: JoinSet<()>,
}

impl Fleet {
    /// Starts the zones; each reconnects for as long as the fleet lives.
    pub fn join(hub: SocketAddr, zones: usize, dataplanes: usize) -> Self {
        let board = Arc::new(Board::new(zones));
        let (mut tasks, mut ingresses) = (JoinSet::new(), Vec::new());
        for at in 0..zones {
            let (ingress, changed) = watch::channel(0);
            ingresses.push(ingress);
            let zone =
                Arc::new(Zone { name: format!("zone-{at}"), at, dataplanes, board: Arc::clone(&board), changed });
            tasks.spawn(async move { zone.live(hub).await });
        }
        Self { board, ingresses, _zones: tasks }
    }

    /// What the zones have seen.
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Gives the ingress of a zone another number of instances.
    pub fn change_ingress(&self, zone: usize, instances: usize) -> Result<()> {
        self.ingresses[zone].send(instances).context("the zone has ended")
    }

    /// Disconnects all.
    pub fn leave(self) {}
}

/// What all zones together have seen.
pub struct Board {
    zones: usize,
    synced: Mutex<HashSet<usize>>,
    awaited: Mutex<Option<Awaited>>,
    bytes: AtomicU64,
    turned: Notify,
}

struct Awaited {
    type_url: &'static str,
    missing: usize,
    last: Option<Instant>,
}

impl Board {
    fn new(zones: usize) -> Self {
        let (synced, awaited) = (Mutex::default(), Mutex::default());
        Self { zones, synced, awaited, bytes: AtomicU64::new(0), turned: Notify::new() }
    }

    pub fn zones(&self) -> usize {
        self.zones
    }

    /// Bytes of the responses that came down so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Waits until every zone has all types of the hub, all ingresses of the others, and its own are acknowledged.
    pub async fn in_sync(&self, patience: Duration) -> Result<()> {
        let all = async {
            loop {
                let turned = self.turned.notified();
                if lock(&self.synced).len() == self.zones {
                    return;
                }
                turned.await;
            }
        };
        if tokio::time::timeout(patience, all).await.is_err() {
            bail!("{} of {} zones are in sync after {patience:?}", lock(&self.synced).len(), self.zones);
        }
        Ok(())
    }

    /// Nobody is in sync any more.
    pub fn forget(&self) {
        lock(&self.synced).clear();
    }

    /// From now on, responses of a type are counted until this many zones have one.
    pub fn expect(self: &Arc<Self>, type_url: &'static str, zones: usize) -> Arrival<'_> {
        *lock(&self.awaited) = Some(Awaited { type_url, missing: zones, last: None });
        Arrival(self)
    }

    fn received(&self, response: &DeltaDiscoveryResponse) {
        let now = Instant::now();
        self.bytes.fetch_add(response.encoded_len() as u64, Ordering::Relaxed);
        let mut awaited = lock(&self.awaited);
        let Some(awaited) = awaited.as_mut().filter(|awaited| awaited.type_url == response.type_url) else { return };
        awaited.missing = awaited.missing.saturating_sub(1);
        if awaited.missing == 0 {
            awaited.last.get_or_insert(now);
            self.turned.notify_waiters();
        }
    }

    fn synced(&self, zone: usize) {
        if lock(&self.synced).insert(zone) {
            self.turned.notify_waiters();
        }
    }
}

/// A change on its way.
pub struct Arrival<'b>(&'b Board);

impl Arrival<'_> {
    /// When the last zone had it.
    pub async fn last(self, patience: Duration) -> Result<Instant> {
        let arrived = async {
            loop {
                let turned = self.0.turned.notified();
                if let Some(last) = lock(&self.0.awaited).as_ref().and_then(|awaited| awaited.last) {
                    return last;
                }
                turned.await;
            }
        };
        let arrived = tokio::time::timeout(patience, arrived).await;
        arrived.with_context(|| {
            let missing = lock(&self.0.awaited).as_ref().map_or(0, |awaited| awaited.missing);
            format!("{missing} zones have not got the change after {patience:?}")
        })
    }
}

struct Zone {
    name: String,
    at: usize,
    dataplanes: usize,
    board: Arc<Board>,
    changed: watch::Receiver<usize>,
}

/// What one connection has seen.
#[derive(Default)]
struct Progress {
    /// Types that came down, ingresses of others, own types that were acknowledged.
    types: AtomicUsize,
    ingresses: AtomicUsize,
    acknowledged: AtomicUsize,
}

impl Zone {
    async fn live(&self, hub: SocketAddr) {
        loop {
            // It ends when the hub does; a real zone would say so in its log.
            let _ = self.connection(hub).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn connection(&self, hub: SocketAddr) -> Result<()> {
        let channel = Endpoint::from_shared(format!("http://{hub}"))?.tcp_nodelay(true).connect().await?;
        let progress = Progress::default();
        tokio::try_join!(self.down(channel.clone(), &progress), self.up(channel, &progress))?;
        Ok(())
    }

    fn client(channel: Channel) -> KdsSyncServiceClient<Channel> {
        KdsSyncServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
    }

    fn request<S>(&self, stream: S) -> Result<Request<S>> {
        let mut request = Request::new(stream);
        let metadata = request.metadata_mut();
        metadata.insert("client-id", self.name.parse()?);
        metadata.insert("kds-version", MetadataValue::from_static("v3"));
        metadata.append("features", MetadataValue::from_static("zone-ping-health"));
        metadata.append("features", MetadataValue::from_static("hash-suffix"));
        Ok(request)
    }

    /// Everything that the hub sends, acknowledged at once.
    async fn down(&self, channel: Channel, progress: &Progress) -> Result<()> {
        let types: Vec<Kind> = Kind::ALL.iter().copied().filter(|kind| kind.info().sync.global_to_zone()).collect();
        let (requests, sent) = mpsc::channel(64);
        for kind in &types {
            requests
                .send(DeltaDiscoveryRequest {
                    node: Some(self.node(true)),
                    type_url: kind.name().to_owned(),
                    resource_names_subscribe: vec!["*".to_owned()],
                    ..DeltaDiscoveryRequest::default()
                })
                .await?;
        }
        let opened = Self::client(channel).global_to_zone_sync(self.request(ReceiverStream::new(sent))?).await?;
        let (mut responses, mut seen) = (opened.into_inner(), HashSet::new());
        while let Some(response) = responses.message().await? {
            self.board.received(&response);
            if response.type_url == Kind::ZoneIngress.name() {
                progress.ingresses.fetch_add(response.resources.len(), Ordering::Relaxed);
            }
            if seen.insert(response.type_url.clone()) {
                progress.types.fetch_add(1, Ordering::Relaxed);
            }
            self.tell(progress, types.len());
            requests.send(self.acknowledgement(response.type_url, response.nonce)).await?;
        }
        bail!("the hub has ended the stream")
    }

    /// What the zone has, when it is asked; and its ingress each time that changes.
    async fn up(&self, channel: Channel, progress: &Progress) -> Result<()> {
        let (responses, sent) = mpsc::channel::<DeltaDiscoveryResponse>(64);
        let opened = Self::client(channel).zone_to_global_sync(self.request(ReceiverStream::new(sent))?).await?;
        let mut requests = opened.into_inner();
        let (mut nonce, mut changed) = (0_usize, self.changed.clone());
        loop {
            let (type_url, resources) = tokio::select! {
                request = requests.next() => match request.context("the hub has ended the stream")?? {
                    DeltaDiscoveryRequest { error_detail: Some(Detail { message, .. }), .. } => bail!("refused: {message}"),
                    request if request.response_nonce.is_empty() => {
                        let resources = self.resources(&request.type_url, *changed.borrow());
                        (request.type_url, resources)
                    }
                    _ => {
                        progress.acknowledged.fetch_add(1, Ordering::Relaxed);
                        self.tell(progress, Kind::ALL.iter().filter(|kind| kind.info().sync.global_to_zone()).count());
                        continue;
                    }
                },
                change = changed.changed() => {
                    change?;
                    let ingress = self.ingress(*changed.borrow_and_update());
                    (Kind::ZoneIngress.name().to_owned(), vec![ingress])
                }
            };
            nonce += 1;
            let control_plane = Some(ControlPlane { identifier: self.name.clone() });
            let nonce = nonce.to_string();
            responses
                .send(DeltaDiscoveryResponse {
                    type_url,
                    resources,
                    nonce,
                    control_plane,
                    ..DeltaDiscoveryResponse::default()
                })
                .await?;
        }
    }

    /// Says that the zone is in sync once it is.
    fn tell(&self, progress: &Progress, types: usize) {
        let up = Kind::ALL.iter().filter(|kind| kind.info().sync.zone_to_global()).count();
        if progress.types.load(Ordering::Relaxed) == types
            && progress.ingresses.load(Ordering::Relaxed) + 1 >= self.board.zones
            && progress.acknowledged.load(Ordering::Relaxed) >= up
        {
            self.board.synced(self.at);
        }
    }

    fn acknowledgement(&self, type_url: String, response_nonce: String) -> DeltaDiscoveryRequest {
        let node = Some(self.node(false));
        DeltaDiscoveryRequest { node, type_url, response_nonce, ..DeltaDiscoveryRequest::default() }
    }

    fn node(&self, whole: bool) -> Node {
        let text = |text: &str| prost_types::Value { kind: Some(Value::StringValue(text.to_owned())) };
        let features =
            ["zone-token", "hash-suffix", "hg-mz-selector", "producer-policy-flow", "optional-top-level-target-ref"];
        let features = prost_types::ListValue { values: features.map(text).to_vec() };
        let fields = [
            ("config", text(r#"{"store":{"type":"memory"}}"#)),
            ("control-plane-id", text(&format!("{}-1234", self.name))),
            ("features", prost_types::Value { kind: Some(Value::ListValue(features)) }),
        ];
        let metadata = whole.then(|| prost_types::Struct {
            fields: fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<BTreeMap<_, _>>(),
        });
        Node { id: self.name.clone(), metadata, ..Node::default() }
    }

    fn resources(&self, type_url: &str, instances: usize) -> Vec<Resource> {
        match type_url {
            "Dataplane" => (0..self.dataplanes).map(|at| self.dataplane(at)).collect(),
            "ZoneIngress" => vec![self.ingress(instances)],
            _ => Vec::new(),
        }
    }

    fn dataplane(&self, at: usize) -> Resource {
        let service = format!("backend-{}", at % 10);
        let tags = [("kuma.io/protocol", "http"), ("kuma.io/service", &service), ("kuma.io/zone", &self.name)];
        let inbound = Inbound { port: 8080, tags: owned(&tags), ..Inbound::default() };
        let address = format!("10.0.{}.{}", at / 250, at % 250 + 1);
        let networking = dataplane::Networking { address, inbound: vec![inbound], ..dataplane::Networking::default() };
        let spec = Dataplane { networking: Some(networking), ..Dataplane::default() };
        self.resource("default", &format!("dp-{at}"), Any::pack(&spec))
    }

    /// Offers ten services of this many instances each.
    fn ingress(&self, instances: usize) -> Resource {
        let service = |at: usize| AvailableService {
            tags: owned(&[("kuma.io/service", &format!("backend-{at}")), ("kuma.io/zone", &self.name)]),
            instances: u32::try_from(instances + 1).unwrap_or(u32::MAX),
            mesh: "default".to_owned(),
            ..AvailableService::default()
        };
        let (address, port) = ("10.0.0.1".to_owned(), 10_001);
        let networking = zone_ingress::Networking {
            advertised_address: format!("192.168.{}.{}", self.at / 250, self.at % 250 + 1),
            advertised_port: port,
            address,
            port,
            ..zone_ingress::Networking::default()
        };
        let available_services = (0..10).map(service).collect();
        let spec = ZoneIngress { zone: self.name.clone(), networking: Some(networking), available_services };
        self.resource("", "ingress", Any::pack(&spec))
    }

    fn resource(&self, mesh: &str, shown: &str, spec: Any) -> Resource {
        let labels = [("kuma.io/display-name", shown), ("kuma.io/origin", "zone"), ("kuma.io/zone", &self.name)];
        let own = model::Resource::new(
            model::Key::new(Kind::Dataplane, mesh, shown),
            labels.into_iter().collect(),
            model::Payload::default(),
        );
        let name = model::name::hashed(&own.meta);
        let meta = Meta { name: name.clone(), mesh: mesh.to_owned(), labels: owned(&labels), ..Meta::default() };
        let packed = KumaResource { meta: Some(meta), spec: Some(spec), status: None };
        let resource = Some(Any::pack(&packed));
        Resource { name: format!("{name}.{mesh}"), version: "1".to_owned(), resource, ..Resource::default() }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn owned(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
