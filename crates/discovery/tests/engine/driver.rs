//! The drivers, without a connection.

use std::sync::{Arc, Mutex};

use discovery::Fault;
use discovery::stream::{End, Observer, publish};
use futures::StreamExt;
use kds_proto::envoy::config::core::v3::Node;
use kds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tonic::Status;

use crate::things::{Everything, Things, things};

/// Writes down what it is told.
#[derive(Clone, Default)]
pub struct Log(pub Arc<Mutex<Vec<String>>>);

impl Log {
    fn write(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
}

impl Observer for Log {
    fn introduced(&self, node: &Node) {
        self.write(format!("introduced {}", node.id));
    }
    fn sent(&self, type_url: &str) {
        self.write(format!("sent {type_url}"));
    }
    fn acknowledged(&self, type_url: &str) {
        self.write(format!("acknowledged {type_url}"));
    }
    fn refused(&self, type_url: &str, message: &str) {
        self.write(format!("refused {type_url}: {message}"));
    }
}

/// A publisher that runs, and its peer's ends of the channels.
struct Running {
    requests: mpsc::UnboundedSender<Result<DeltaDiscoveryRequest, Status>>,
    responses: mpsc::Receiver<DeltaDiscoveryResponse>,
    moments: watch::Sender<Arc<Things>>,
    ends: JoinHandle<End>,
}

fn run() -> Running {
    let (requests, mut asked) = mpsc::unbounded_channel();
    let (told, responses) = mpsc::channel(1);
    let (moments, seen) = watch::channel(Arc::new(things("Mesh", &[("a", 0)])));
    let asked = futures::stream::poll_fn(move |context| asked.poll_recv(context)).boxed();
    let ends = tokio::spawn(async move { publish(asked, told, "global", |_| Everything, seen, &Log::default()).await });
    Running { requests, responses, moments, ends }
}

fn request(type_url: &str, nonce: &str) -> Result<DeltaDiscoveryRequest, Status> {
    let node = Some(Node { id: "east".into(), ..Node::default() });
    Ok(DeltaDiscoveryRequest { type_url: type_url.into(), response_nonce: nonce.into(), node, ..Default::default() })
}

/// A peer that reads nothing while the world changes: afterwards it gets the old whole and then the newest, no more.
#[tokio::test]
async fn a_slow_reader_gets_the_newest_and_nothing_between() {
    let mut running = run();
    running.requests.send(request("Mesh", "")).unwrap();
    let first = running.responses.recv().await.unwrap();
    for version in 1..=1000 {
        running.moments.send_replace(Arc::new(things("Mesh", &[("a", version)])));
        tokio::task::yield_now().await;
    }
    assert!(running.responses.try_recv().is_err(), "two responses are unanswered");
    running.requests.send(request("Mesh", &first.nonce)).unwrap();
    let second = running.responses.recv().await.unwrap();
    assert_eq!(second.resources[0].version, "1000");
    running.requests.send(request("Mesh", &second.nonce)).unwrap();
    drop(running.requests);
    assert!(matches!(running.ends.await.unwrap(), End::Left));
    assert!(running.responses.recv().await.is_none());
}

/// A peer that asks again and again and reads nothing fills no memory: one response waits in the channel, one per type
/// before it.
#[tokio::test]
async fn who_asks_without_end_gets_what_fits() {
    let mut running = run();
    for _ in 0..10_000 {
        running.requests.send(request("Mesh", "")).unwrap();
    }
    drop(running.requests);
    assert!(matches!(running.ends.await.unwrap(), End::Left));
    let mut count = 0;
    while running.responses.recv().await.is_some() {
        count += 1;
    }
    assert_eq!(count, 1);
}

#[tokio::test]
async fn each_end_has_its_reason() {
    let running = run();
    running.requests.send(Ok(DeltaDiscoveryRequest { type_url: "Mesh".into(), ..Default::default() })).unwrap();
    assert!(matches!(running.ends.await.unwrap(), End::Fault(Fault::NoNode)));

    let running = run();
    running.requests.send(request("", "")).unwrap();
    assert!(matches!(running.ends.await.unwrap(), End::Fault(Fault::NoType)));

    let running = run();
    running.requests.send(Err(Status::data_loss("broken"))).unwrap();
    assert!(matches!(running.ends.await.unwrap(), End::Status(status) if status.message() == "broken"));

    let running = run();
    drop(running.responses);
    assert!(matches!(running.ends.await.unwrap(), End::Left));

    let running = run();
    running.requests.send(request("Unknown", "")).unwrap();
    drop(running.moments);
    assert!(matches!(running.ends.await.unwrap(), End::NotTaken(_)));
}
