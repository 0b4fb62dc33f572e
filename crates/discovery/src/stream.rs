//! Drives the two ends over a gRPC stream. The only file that reads or writes one.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kds_proto::envoy::config::core::v3::Node;
use kds_proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tonic::Status;

use crate::delay::Delays;
use crate::fault::Fault;
use crate::publisher::{Heard, Publisher};
use crate::sotw;
use crate::subscriber::{Subscriber, Update};
use crate::view::View;

/// For the reason of an end to arrive.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Why a stream ends.
#[derive(Clone, Debug)]
pub enum End {
    /// The peer hung up, or the connection is gone.
    Left,
    /// The peer ended it with a status, or sent what is no message.
    Status(Status),
    /// The peer broke the protocol.
    Fault(Fault),
    /// What it sent could not be taken at all; the text is for our log.
    NotTaken(String),
}

/// Is told what happens on a stream, for statistics and logs.
pub trait Observer: Send + Sync {
    /// A request came with a node that says more than its id.
    fn introduced(&self, node: &Node);
    /// A response was handed to the transport.
    fn sent(&self, type_url: &str);
    /// The same response: its bytes, and when the first change in it was [made](View::made), if it is one and that is known.
    fn measured(&self, _type_url: &str, _bytes: usize, _changed: Option<Duration>) {}
    /// The peer took a response.
    fn acknowledged(&self, type_url: &str);
    /// The peer refused some of a response.
    fn refused(&self, type_url: &str, message: &str);
}

/// What became of an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of it is stored.
    Accepted,
    /// Some of it is refused, the rest is stored; the text goes to the peer.
    Refused(String),
}

/// Takes what a peer tells.
pub trait Sink: Send {
    /// Takes an update; returns once the store has committed.
    ///
    /// # Errors
    /// The stream has to end; the text is for our log.
    fn take(&mut self, update: &Update) -> impl Future<Output = Result<Verdict, String>> + Send;
}

/// Tells a peer what its view is, from the first request on until the stream ends. `view` is made from the node of the
/// first request.
///
/// A peer that reads slowly costs one response per type at most: newer moments wait, and only the last of them counts.
pub async fn publish<V, R>(
    requests: R,
    responses: mpsc::Sender<DeltaDiscoveryResponse>,
    identifier: &str,
    view: impl FnOnce(&Node) -> V,
    moments: watch::Receiver<V::Moment>,
    observer: &impl Observer,
) -> End
where
    V: View,
    R: Stream<Item = Result<DeltaDiscoveryRequest, Status>> + Unpin,
{
    tell(Publisher::new(identifier), requests, responses, view, moments, observer).await
}

/// Like [`publish`], in the form that Envoy speaks by default: [state of the world](sotw).
pub async fn publish_sotw<V, R>(
    requests: R,
    responses: mpsc::Sender<DiscoveryResponse>,
    identifier: &str,
    view: impl FnOnce(&Node) -> V,
    moments: watch::Receiver<V::Moment>,
    observer: &impl Observer,
) -> End
where
    V: View,
    R: Stream<Item = Result<DiscoveryRequest, Status>> + Unpin,
{
    tell(sotw::Publisher::new(identifier), requests, responses, view, moments, observer).await
}

/// A publisher, whatever form it speaks.
trait Teller<M> {
    type Request;
    type Response;

    fn heard(&mut self, request: &Self::Request) -> Result<(Arc<str>, Heard), Fault>;
    fn offer<V: View<Moment = M>>(&mut self, view: &V, now: &M) -> Vec<Self::Response>;
    fn node(request: &Self::Request) -> Option<&Node>;
    fn type_url(response: &Self::Response) -> &str;
    fn size(response: &Self::Response) -> usize;
}

macro_rules! teller {
    ($publisher:ty, $request:ty, $response:ty) => {
        impl<M: Clone> Teller<M> for $publisher {
            type Request = $request;
            type Response = $response;

            fn heard(&mut self, request: &Self::Request) -> Result<(Arc<str>, Heard), Fault> {
                self.heard(request)
            }

            fn offer<V: View<Moment = M>>(&mut self, view: &V, now: &M) -> Vec<Self::Response> {
                self.offer(view, now)
            }

            fn node(request: &Self::Request) -> Option<&Node> {
                request.node.as_ref()
            }

            fn type_url(response: &Self::Response) -> &str {
                &response.type_url
            }

            fn size(response: &Self::Response) -> usize {
                response.encoded_len()
            }
        }
    };
}

teller!(Publisher<M>, DeltaDiscoveryRequest, DeltaDiscoveryResponse);
teller!(sotw::Publisher<M>, DiscoveryRequest, DiscoveryResponse);

async fn tell<V, P, R>(
    mut publisher: P,
    mut requests: R,
    responses: mpsc::Sender<P::Response>,
    view: impl FnOnce(&Node) -> V,
    mut moments: watch::Receiver<V::Moment>,
    observer: &impl Observer,
) -> End
where
    V: View,
    P: Teller<V::Moment>,
    R: Stream<Item = Result<P::Request, Status>> + Unpin,
{
    let first = tokio::select! {
        first = requests.next() => first,
        () = responses.closed() => return last_words(&mut requests).await,
    };
    let first = match first {
        Some(Ok(first)) => first,
        ended => return ended_with(ended),
    };
    let Some(node) = P::node(&first) else { return End::Fault(Fault::NoNode) };
    let view = view(node);
    let mut next = Some(first);
    let mut waiting: VecDeque<(P::Response, Option<Duration>)> = VecDeque::new();
    let mut delays = Delays::default();
    loop {
        if let Some(request) = next.take() {
            if let Some(node) = P::node(&request).filter(|node| node.metadata.is_some()) {
                observer.introduced(node);
            }
            match publisher.heard(&request) {
                Ok((type_url, Heard::Acknowledged)) => {
                    delays.answered(&type_url);
                    observer.acknowledged(&type_url);
                }
                Ok((type_url, Heard::Refused { message })) => {
                    delays.answered(&type_url);
                    observer.refused(&type_url, &message);
                }
                Ok((_, Heard::Subscribed | Heard::Ignored)) => {}
                Err(fault) => return End::Fault(fault),
            }
        }
        if waiting.is_empty() {
            // What the first responses took is not needed for the later ones.
            waiting.shrink_to(1);
            let now = moments.borrow_and_update().clone();
            delays.moment(view.made(&now));
            let offered = publisher.offer(&view, &now);
            let changed = delays.offered(offered.iter().map(P::type_url));
            waiting.extend(offered.into_iter().zip(changed));
        }
        tokio::select! {
            request = requests.next() => match request {
                Some(Ok(request)) => next = Some(request),
                ended => return ended_with(ended),
            },
            permit = responses.reserve(), if !waiting.is_empty() => {
                let Ok(permit) = permit else { return last_words(&mut requests).await };
                if let Some((response, changed)) = waiting.pop_front() {
                    observer.sent(P::type_url(&response));
                    observer.measured(P::type_url(&response), P::size(&response), changed);
                    permit.send(response);
                }
            }
            changed = moments.changed() => match changed {
                Ok(()) => delays.moment(view.made(&moments.borrow_and_update())),
                Err(_) => return End::NotTaken("the store is closed".to_owned()),
            },
            () = responses.closed() => return last_words(&mut requests).await,
        }
    }
}

/// Asks a peer for types and hands what it tells to a sink, until the stream ends.
pub async fn subscribe<R>(
    mut responses: R,
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    types: impl IntoIterator<Item = &'static str>,
    node: &Node,
    sink: &mut impl Sink,
) -> End
where
    R: Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Unpin,
{
    let (mut subscriber, subscriptions) = Subscriber::subscribe(types, node);
    for subscription in subscriptions {
        if requests.send(subscription).await.is_err() {
            return last_words(&mut responses).await;
        }
    }
    loop {
        let response = tokio::select! {
            response = responses.next() => response,
            () = requests.closed() => return last_words(&mut responses).await,
        };
        let response = match response {
            Some(Ok(response)) => response,
            ended => return ended_with(ended),
        };
        let update = match subscriber.received(response) {
            Ok(update) => update,
            Err(fault) => return End::Fault(fault),
        };
        let answer = match sink.take(&update).await {
            Ok(Verdict::Accepted) => subscriber.accepted(&update),
            Ok(Verdict::Refused(message)) => subscriber.refused(&update, &message),
            Err(reason) => return End::NotTaken(reason),
        };
        if requests.send(answer).await.is_err() {
            return last_words(&mut responses).await;
        }
    }
}

/// Why nobody listens to us any more: a peer that refuses a call says so in the other direction, a moment later.
async fn last_words<M>(messages: &mut (impl Stream<Item = Result<M, Status>> + Unpin)) -> End {
    let ended = async {
        loop {
            match messages.next().await {
                Some(Ok(_)) => {}
                ended => return ended_with(ended),
            }
        }
    };
    tokio::time::timeout(LAST_WORDS, ended).await.unwrap_or(End::Left)
}

fn ended_with<M>(ended: Option<Result<M, Status>>) -> End {
    match ended {
        Some(Err(status)) => End::Status(status),
        _ => End::Left,
    }
}
