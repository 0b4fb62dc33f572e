//! Peers that break the protocol, or lie, under names of their own. What a seed picks: wrong and stale nonces, answers
//! to nothing, refusals without end, resources that are none, messages that are too large, streams that are replayed, and
//! resources of other zones told as one's own.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use discovery::kds::node::Introduction;
use discovery::kds::wire;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kds_proto::envoy::config::core::v3::Node;
use kds_proto::envoy::service::discovery::v3::{self, DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use kds_proto::google::rpc::Status;
use kds_proto::kuma::mesh::v1alpha1::kds_sync_service_client::KdsSyncServiceClient;
use kds_proto::{Any, KUMA_RESOURCE_TYPE_URL};
use model::{Kind, labels};
use tonic::body::Body;
use tonic::codegen::Service;

use super::content::{self, MESH};
use super::machine::PORT;
use super::network::Network;
use super::oracle::{Author, Id};

/// Longest stream of a peer; most are ended by the global before.
const STREAM: Duration = Duration::from_secs(3);
/// Messages of one stream, at most.
const MESSAGES: usize = 200;
/// The largest message that a global takes (`maxMsgSize`).
const LARGEST: usize = 10 << 20;
/// What a peer's messages have around their one large resource.
const AROUND: usize = 1 << 10;
/// Streams that are kept for a replay, in messages.
const KEPT: usize = 16;

/// A machine that speaks KDS, badly.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Its own name, of the machine and of the zone.
    pub name: String,
    /// Names of the honest zones.
    pub others: Arc<[String]>,
    pub globals: Arc<[String]>,
    pub network: Network,
    /// Until when it misbehaves.
    pub until: Duration,
    pub known: Known,
}

/// What a peer has learnt. Clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known(Arc<Mutex<Learnt>>);

#[derive(Debug, Default)]
struct Learnt {
    /// What it did, in order.
    deeds: Vec<String>,
    /// What it told before.
    told: Vec<DeltaDiscoveryResponse>,
    /// Types and names of what it was told of others.
    names: BTreeSet<(Kind, String)>,
}

impl Known {
    /// What was done since the last call.
    pub fn deeds(&self) -> Vec<String> {
        std::mem::take(&mut self.learnt().deeds)
    }

    fn learnt(&self) -> std::sync::MutexGuard<'_, Learnt> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is wrong with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// Down: answers carry nonces that nobody gave, or that are long answered.
    WrongNonce,
    StaleNonce,
    /// Down: each response is answered twice.
    DoubleAnswer,
    /// Down: an acknowledgement comes first.
    AnswerToNothing,
    /// Down: nothing is ever taken.
    RefusesAll,
    /// Up: two responses at once, the second with nothing in it.
    DoubleResponse,
    /// Up: content that is none.
    Garbage,
    /// Up: one message as large as allowed, or larger.
    Large,
    TooLarge,
    /// Up: resources with labels and specs of other zones, and of the global.
    OthersLabels,
    /// Up: takes and deletes what others made, by its name.
    OthersNames,
    /// Up: kinds that only a global writes.
    GlobalKinds,
    /// Up: what was told on an earlier stream, nonces and all.
    Replay,
}

const DEEDS: [Deed; 13] = [
    Deed::WrongNonce,
    Deed::StaleNonce,
    Deed::DoubleAnswer,
    Deed::AnswerToNothing,
    Deed::RefusesAll,
    Deed::DoubleResponse,
    Deed::Garbage,
    Deed::Large,
    Deed::TooLarge,
    Deed::OthersLabels,
    Deed::OthersNames,
    Deed::GlobalKinds,
    Deed::Replay,
];

impl Deed {
    fn is_down(self) -> bool {
        use Deed::{AnswerToNothing, DoubleAnswer, RefusesAll, StaleNonce, WrongNonce};
        matches!(self, WrongNonce | StaleNonce | DoubleAnswer | AnswerToNothing | RefusesAll)
    }

    fn any() -> Self {
        loop {
            let deed = DEEDS[fastrand::usize(..DEEDS.len())];
            // They cost as much as all the rest.
            if !matches!(deed, Self::Large | Self::TooLarge) || fastrand::u8(..6) == 0 {
                return deed;
            }
        }
    }
}

impl Peer {
    /// Misbehaves, stream by stream.
    pub async fn run(self) -> turmoil::Result {
        while turmoil::sim_elapsed().unwrap_or_default() < self.until {
            let deed = Deed::any();
            let end = match tokio::time::timeout(STREAM, self.commit(deed)).await {
                Ok(Ok(())) => "it ended".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it went on".to_owned(),
            };
            self.known.learnt().deeds.push(format!("{deed:?}: {end}"));
            tokio::time::sleep(Duration::from_millis(fastrand::u64(100..1_500))).await;
        }
        // Leaves for good.
        futures::future::pending().await
    }

    async fn commit(&self, deed: Deed) -> turmoil::Result {
        let global = &self.globals[fastrand::usize(..self.globals.len())];
        let stream = turmoil::net::TcpStream::connect((&**global, PORT)).await?;
        let wire = self.network.wire(&self.name, global, stream);
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(wire)).await?;
        let mut metadata = HeaderMap::new();
        metadata.insert("client-id", HeaderValue::from_str(&self.name)?);
        metadata.insert("kds-version", HeaderValue::from_static("v3"));
        metadata.insert("features", HeaderValue::from_static("hash-suffix"));
        let origin = Uri::from_static("http://global:5685/");
        let client = KdsSyncServiceClient::with_origin(Calls { sender, metadata }, origin)
            .max_encoding_message_size(2 * LARGEST)
            .max_decoding_message_size(2 * LARGEST);
        tokio::select! {
            lost = connection => Ok(lost?),
            ended = async { if deed.is_down() { self.down(deed, client).await } else { self.up(deed, client).await } } => ended,
        }
    }

    fn node(&self) -> Node {
        Introduction { id: self.name.clone(), instance: self.name.clone(), ..Introduction::default() }.to_node()
    }

    /// Is told, and answers badly.
    async fn down(&self, deed: Deed, mut client: KdsSyncServiceClient<Calls>) -> turmoil::Result {
        let (requests, sent) = unbounded();
        let answer = |type_url: &str, nonce: &str| DeltaDiscoveryRequest {
            node: Some(self.node()),
            type_url: type_url.to_owned(),
            response_nonce: nonce.to_owned(),
            ..DeltaDiscoveryRequest::default()
        };
        let first = if deed == Deed::AnswerToNothing { "17" } else { "" };
        for kind in [Kind::Mesh, Kind::MeshTimeout, Kind::MeshService, Kind::ZoneIngress] {
            let everything = vec!["*".to_owned()];
            let request = DeltaDiscoveryRequest { resource_names_subscribe: everything, ..answer(kind.name(), first) };
            requests.unbounded_send(request)?;
        }
        let mut responses = client.global_to_zone_sync(sent).await?.into_inner();
        let mut stale = "0".to_owned();
        for _ in 0..MESSAGES {
            let Some(response) = responses.message().await? else { return Ok(()) };
            self.learn(&response);
            let right = answer(&response.type_url, &response.nonce);
            match deed {
                Deed::WrongNonce => requests.unbounded_send(answer(&response.type_url, "no-such-nonce"))?,
                Deed::StaleNonce => requests.unbounded_send(answer(&response.type_url, &stale))?,
                Deed::RefusesAll => {
                    let status = Status { message: "never".to_owned(), ..Status::default() };
                    requests.unbounded_send(DeltaDiscoveryRequest { error_detail: Some(status), ..right })?;
                }
                _ => {
                    requests.unbounded_send(right.clone())?;
                    requests.unbounded_send(right)?;
                }
            }
            stale = response.nonce;
        }
        Ok(())
    }

    fn learn(&self, response: &DeltaDiscoveryResponse) {
        let Ok(kind) = response.type_url.parse::<Kind>() else { return };
        if !matches!(kind, Kind::MeshService | Kind::ZoneIngress) {
            return;
        }
        let names = response.resources.iter().map(|resource| (kind, resource.name.clone()));
        self.known.learnt().names.extend(names);
    }

    /// Tells, badly.
    async fn up(&self, deed: Deed, mut client: KdsSyncServiceClient<Calls>) -> turmoil::Result {
        let (responses, sent) = unbounded();
        let mut requests = client.zone_to_global_sync(sent).await?.into_inner();
        for nonce in 0..MESSAGES {
            let Some(request) = requests.message().await? else { return Ok(()) };
            let Ok(kind) = request.type_url.parse::<Kind>() else { continue };
            // What it asks for first, and what it says to each answer.
            for response in self.tell(deed, kind) {
                let nonce = if deed == Deed::Replay { response.nonce.clone() } else { nonce.to_string() };
                self.say(&responses, DeltaDiscoveryResponse { nonce, ..response })?;
            }
        }
        Ok(())
    }

    fn say(&self, to: &UnboundedSender<DeltaDiscoveryResponse>, response: DeltaDiscoveryResponse) -> turmoil::Result {
        let small = response.resources.iter().all(|resource| resource.resource.as_ref().is_none_or(is_small));
        let mut learnt = self.known.learnt();
        if small && learnt.told.len() < KEPT {
            learnt.told.push(response.clone());
        }
        Ok(to.unbounded_send(response)?)
    }

    /// The next responses to a request for a kind.
    fn tell(&self, deed: Deed, kind: Kind) -> Vec<DeltaDiscoveryResponse> {
        let response = |resources| DeltaDiscoveryResponse {
            type_url: kind.name().to_owned(),
            resources,
            ..DeltaDiscoveryResponse::default()
        };
        match deed {
            Deed::DoubleResponse => vec![response(self.claims(kind)), response(Vec::new())],
            Deed::Garbage => vec![response(garbage(kind))],
            Deed::Large if kind == Kind::MeshTimeout => vec![response(vec![large(LARGEST - AROUND)])],
            Deed::TooLarge if kind == Kind::MeshTimeout => vec![response(vec![large(LARGEST + AROUND)])],
            Deed::OthersLabels => vec![response(self.claims(kind))],
            Deed::OthersNames => vec![self.steal(kind)],
            Deed::GlobalKinds => [Kind::Mesh, Kind::Secret]
                .map(|kind| DeltaDiscoveryResponse {
                    type_url: kind.name().to_owned(),
                    removed_resources: vec![format!("{MESH}."), format!("g0.{MESH}")],
                    ..DeltaDiscoveryResponse::default()
                })
                .into(),
            Deed::Replay => {
                let of_kind = |told: &&DeltaDiscoveryResponse| told.type_url == kind.name();
                self.known.learnt().told.iter().filter(of_kind).cloned().collect()
            }
            _ => vec![response(Vec::new())],
        }
    }

    /// Resources that say they are another zone's, or the global's: under the very names that these would have, and under
    /// its own.
    fn claims(&self, kind: Kind) -> Vec<v3::Resource> {
        if !matches!(kind, Kind::MeshService | Kind::ZoneIngress | Kind::Dataplane | Kind::MeshTimeout) {
            return Vec::new();
        }
        let mesh = if kind == Kind::ZoneIngress { "" } else { MESH };
        let claim = |author: Author, origin: &str, name: &str| {
            let mut resource = content::resource(&Id { author, kind, mesh: mesh.into(), name: name.into() }, 1);
            resource.meta.labels = resource.meta.labels.with(labels::ORIGIN, origin);
            if fastrand::bool() {
                resource.meta.labels = resource.meta.labels.with(labels::ZONE, &self.name);
            }
            wire::hashed(&mut resource);
            packed(&resource)
        };
        let other = &self.others[fastrand::usize(..self.others.len())];
        vec![
            claim(Author::Zone(other.as_str().into()), labels::ORIGIN_ZONE, "z0"),
            claim(Author::Zone(other.as_str().into()), labels::ORIGIN_GLOBAL, "z1"),
            claim(Author::Global, labels::ORIGIN_GLOBAL, "g0"),
        ]
    }

    /// Everything that is others', as deleted. A name that is free is nobody's, so that none is taken.
    fn steal(&self, kind: Kind) -> DeltaDiscoveryResponse {
        let learnt = self.known.learnt();
        let of_kind = learnt.names.iter().filter(|(of, _)| *of == kind).map(|(_, name)| name.clone());
        DeltaDiscoveryResponse {
            type_url: kind.name().to_owned(),
            removed_resources: of_kind.chain([format!("g0.{MESH}"), format!("g1.{MESH}")]).collect(),
            ..DeltaDiscoveryResponse::default()
        }
    }
}

fn packed(resource: &model::Resource) -> v3::Resource {
    let encoded = wire::encode(resource);
    v3::Resource {
        name: encoded.name.to_string(),
        version: encoded.version.to_string(),
        resource: Some(encoded.resource),
        ..v3::Resource::default()
    }
}

fn is_small(any: &Any) -> bool {
    any.value.len() < AROUND
}

fn garbage(kind: Kind) -> Vec<v3::Resource> {
    let noise: Vec<u8> = (0..fastrand::usize(1..200)).map(|_| fastrand::u8(..)).collect();
    let any = |type_url: &str, value: Vec<u8>| Some(Any { type_url: type_url.to_owned(), value: value.into() });
    let named = |name: &str, resource| v3::Resource {
        name: format!("{name}.{MESH}"),
        version: "1".to_owned(),
        resource,
        ..v3::Resource::default()
    };
    match fastrand::u8(..3) {
        0 => vec![named("torn", any(KUMA_RESOURCE_TYPE_URL, noise))],
        1 => vec![named("strange", any(kind.name(), noise)), named("empty", None)],
        _ => vec![v3::Resource::default()],
    }
}

fn large(size: usize) -> v3::Resource {
    let value = vec![b' '; size].into();
    v3::Resource {
        name: format!("large.{MESH}"),
        version: "1".to_owned(),
        resource: Some(Any { type_url: KUMA_RESOURCE_TYPE_URL.to_owned(), value }),
        ..v3::Resource::default()
    }
}

/// Calls with what a zone says of itself.
#[derive(Clone)]
struct Calls {
    sender: SendRequest<Body>,
    metadata: HeaderMap,
}

impl Service<Request<Body>> for Calls {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.headers_mut().extend(self.metadata.clone());
        Box::pin(self.sender.send_request(request))
    }
}
