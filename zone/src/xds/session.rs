//! One stream of a proxy, from its first request to its end (zone-dataplane 1.4).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use discovery::outgoing::{Outgoing, outgoing};
use discovery::stream::{End, Observer, publish, publish_sotw};
use envoy::Configuration;
use futures::{Stream, StreamExt, stream};
use kds_proto::envoy::config::core::v3::Node;
use kds_proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use model::{Key, Resource};
use tokio::sync::{mpsc, watch};
use tonic::{Status, Streaming};

use super::Door;
use super::account::Account;
use super::admission::credential;
use super::configuration::Served;
use super::introduction::Introduction;
use super::refusal::Refusal;
use crate::proxies::{self, Failure, Seat};

/// For the first request to arrive.
const FIRST: Duration = Duration::from_secs(30);
/// For a resource that somebody else creates.
const CREATION: Duration = Duration::from_secs(30);

/// One of the two forms of the protocol.
pub(super) trait Form: Send + Sync + 'static {
    /// What the proxy sends.
    type Request: Send + 'static;
    /// What it is sent.
    type Response: Send + 'static;
    /// Value of the label `protocol` of metrics and the field of logs.
    const NAME: &'static str;

    /// Who sends a request, if it says so.
    fn node(request: &Self::Request) -> Option<&Node>;

    /// Tells a proxy its configuration until the stream ends.
    fn publish<R>(
        requests: R,
        responses: mpsc::Sender<Self::Response>,
        identifier: &str,
        moments: watch::Receiver<Arc<Configuration>>,
        observer: &Account,
    ) -> impl Future<Output = End> + Send
    where
        R: Stream<Item = Result<Self::Request, Status>> + Unpin + Send;
}

/// State of the world.
#[derive(Debug)]
pub(super) struct Sotw;

impl Form for Sotw {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;
    const NAME: &'static str = "sotw";

    fn node(request: &DiscoveryRequest) -> Option<&Node> {
        request.node.as_ref()
    }

    async fn publish<R>(
        requests: R,
        responses: mpsc::Sender<DiscoveryResponse>,
        identifier: &str,
        moments: watch::Receiver<Arc<Configuration>>,
        observer: &Account,
    ) -> End
    where
        R: Stream<Item = Result<DiscoveryRequest, Status>> + Unpin + Send,
    {
        publish_sotw(requests, responses, identifier, |_| Served, moments, observer).await
    }
}

/// Differences alone.
#[derive(Debug)]
pub(super) struct Delta;

impl Form for Delta {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;
    const NAME: &'static str = "delta";

    fn node(request: &DeltaDiscoveryRequest) -> Option<&Node> {
        request.node.as_ref()
    }

    async fn publish<R>(
        requests: R,
        responses: mpsc::Sender<DeltaDiscoveryResponse>,
        identifier: &str,
        moments: watch::Receiver<Arc<Configuration>>,
        observer: &Account,
    ) -> End
    where
        R: Stream<Item = Result<DeltaDiscoveryRequest, Status>> + Unpin + Send,
    {
        publish(requests, responses, identifier, |_| Served, moments, observer).await
    }
}

impl Door {
    /// Takes a stream; what becomes of it shows in what it is answered.
    pub(super) fn open<F: Form>(
        &self,
        request: tonic::Request<Streaming<F::Request>>,
    ) -> Result<tonic::Response<Outgoing<F::Response>>, Status> {
        let token = credential(request.metadata()).map_err(|refusal| self.refused(None, F::NAME, &refusal))?;
        let (responses, end, stream) = outgoing();
        let (door, kept) = (self.clone(), self.drain.stream());
        tokio::spawn(async move {
            let mut who = None;
            let refusal = tokio::select! {
                biased;
                () = door.closing.closing() => Refusal::Stopping,
                refusal = door.session::<F>(&token, request.into_inner(), responses, &mut who) => refusal,
            };
            // When the proxy has hung up there is nobody to tell.
            let _ = end.send(door.refused(who.as_ref(), F::NAME, &refusal));
            drop(kept);
        });
        Ok(tonic::Response::new(stream))
    }

    /// Why a stream ended.
    async fn session<F: Form>(
        &self,
        token: &str,
        mut requests: Streaming<F::Request>,
        responses: mpsc::Sender<F::Response>,
        who: &mut Option<Key>,
    ) -> Refusal {
        let first = match self.clock.timeout(FIRST, requests.next()).await {
            Some(Some(Ok(first))) => first,
            Some(_) => return Refusal::Left,
            None => return Refusal::Fault("no request came in time".to_owned()),
        };
        let Some(node) = F::node(&first).cloned() else {
            return Refusal::Introduction("the first request has no node".to_owned());
        };
        let joined = tokio::select! {
            joined = self.join(&node, token, who) => joined,
            () = responses.closed() => return Refusal::Left,
        };
        let (proxy, seat) = match joined {
            Ok(joined) => joined,
            Err(refusal) => return refusal,
        };
        let proxy = Arc::new(proxy);
        let account = Account::open(self, &proxy, F::NAME);
        let ended = self.serve::<F>(&proxy, first, requests, responses, node.id, &account).await;
        drop(account);
        self.workshop.forget(&proxy.key);
        drop(seat);
        ended
    }

    async fn serve<F: Form>(
        &self,
        proxy: &Arc<Introduction>,
        first: F::Request,
        requests: Streaming<F::Request>,
        responses: mpsc::Sender<F::Response>,
        id: String,
        account: &Account,
    ) -> Refusal {
        let mut order = self.workshop.order(Arc::clone(proxy));
        let configuration = tokio::select! {
            configuration = order.first() => configuration,
            () = responses.closed() => return Refusal::Left,
        };
        let (moments, told) = watch::channel(configuration);
        // Who a stream is of cannot change.
        let requests = requests.map(move |request| {
            let request = request?;
            match F::node(&request) {
                Some(node) if !node.id.is_empty() && node.id != id => Err(Status::invalid_argument(format!(
                    "this stream is of {id:?}, and a request on it of {:?}",
                    node.id
                ))),
                _ => Ok(request),
            }
        });
        let requests = stream::once(std::future::ready(Ok(first))).chain(requests);
        tokio::select! {
            end = F::publish(requests, responses, &self.instance, told, account) => end.into(),
            () = order.follow(&moments) => Refusal::Stopping,
        }
    }

    /// Who a proxy is, proven, and its place. What it brings is stored.
    async fn join(&self, node: &Node, token: &str, who: &mut Option<Key>) -> Result<(Introduction, Seat), Refusal> {
        let proxy = Introduction::of(node)?;
        *who = Some(proxy.key.clone());
        let now = || self.clock.now();
        let created;
        let resource = match &proxy.resource {
            Some(brought) => brought,
            None => {
                created = self.created(&proxy.key).await?;
                &created
            }
        };
        let stored = self.store.configuration().borrow().clone();
        self.admission.check(&stored, resource, token, now())?;
        self.admission.check_workload(&stored, resource)?;
        let mut seat = self.seats.take(&proxy.key).await.ok_or(Refusal::Active)?;
        if let Some(brought) = &proxy.resource {
            let may_replace = |stored: &_, before: &Resource| {
                self.admission.check(stored, before, token, now()).map_err(|refusal| {
                    Refusal::Unauthenticated(format!("the token is not good for the proxy of this name: {refusal}"))
                })
            };
            let registered = proxies::register(&self.store, &self.mode, &self.clock, brought, may_replace).await;
            registered.map_err(|failure| match failure {
                Failure::NotAllowed(refusal) => refusal,
                Failure::Refused(reason) => Refusal::NotRegistered(reason),
                Failure::Store(error) => Refusal::Failed(format!("a proxy cannot be registered: {error}")),
            })?;
            seat.registered();
        }
        Ok((proxy, seat))
    }

    /// The resource of a proxy that brings none, once it is created.
    async fn created(&self, key: &Key) -> Result<Arc<Resource>, Refusal> {
        let mut snapshots = self.store.configuration();
        let created = self.clock.timeout(CREATION, snapshots.wait_for(|snapshot| snapshot.get(key).is_some())).await;
        let snapshot = created.and_then(Result::ok).map(|snapshot| snapshot.clone());
        snapshot.and_then(|snapshot| snapshot.get(key).cloned()).ok_or_else(|| Refusal::NotFound(key.to_string()))
    }

    /// Counts and logs why a stream was not taken or ended; the status for the proxy.
    fn refused(&self, who: Option<&Key>, protocol: &'static str, refusal: &Refusal) -> Status {
        self.metrics.ended(protocol, refusal);
        let proxy = who.map(tracing::field::display);
        match refusal {
            Refusal::Left | Refusal::Stopping => {
                tracing::info!(proxy, protocol, reason = refusal.name(), "stream of a proxy ended");
            }
            refusal => tracing::warn!(proxy, protocol, reason = %refusal, "stream of a proxy refused"),
        }
        refusal.status()
    }
}

/// What happens on a stream.
impl Observer for Account {
    fn introduced(&self, _: &Node) {}

    fn sent(&self, type_url: &str) {
        self.count(type_url, super::account::Count::Sent);
    }

    fn acknowledged(&self, type_url: &str) {
        self.count(type_url, super::account::Count::Acknowledged);
    }

    fn refused(&self, type_url: &str, message: &str) {
        self.count(type_url, super::account::Count::Rejected);
        self.refused_by_proxy(type_url, message);
    }
}
