//! Whatever happens in whatever order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use discovery::publisher::Publisher;
use discovery::subscriber::Subscriber;
use kds_proto::envoy::config::core::v3::Node;
use kds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use kds_proto::google::rpc::Status;
use proptest::prelude::*;

use crate::things::{Everything, Things};

const TYPES: [&str; 3] = ["Dataplane", "Mesh", "Secret"];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// What may happen next.
#[derive(Clone, Debug)]
enum Step {
    /// A thing becomes a version, or is gone.
    Change(usize, usize, Option<u32>),
    /// The publisher says what it may.
    Offer,
    /// The next request reaches the publisher.
    Ask,
    /// The next response reaches the subscriber, which takes it or refuses it.
    Tell(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..TYPES.len(), 0..NAMES.len(), proptest::option::weighted(0.7, 0..5_u32))
            .prop_map(|(of, name, version)| Step::Change(of, name, version)),
        2 => Just(Step::Offer),
        3 => Just(Step::Ask),
        3 => proptest::bool::weighted(0.8).prop_map(Step::Tell),
    ]
}

/// Two ends, and what is on its way between them.
struct Stream {
    now: Things,
    publisher: Publisher<Arc<Things>>,
    subscriber: Subscriber,
    requests: VecDeque<DeltaDiscoveryRequest>,
    responses: VecDeque<DeltaDiscoveryResponse>,
    /// What the subscriber was told, taken or not.
    told: Things,
    /// Responses without an answer, by type.
    open: BTreeMap<String, usize>,
}

impl Stream {
    fn new() -> Self {
        let node = Node { id: "east".into(), ..Node::default() };
        let (subscriber, requests) = Subscriber::subscribe(TYPES, &node);
        Self {
            now: Things::new(),
            publisher: Publisher::new("global"),
            subscriber,
            requests: requests.into(),
            responses: VecDeque::new(),
            told: Things::new(),
            open: BTreeMap::new(),
        }
    }

    fn change(&mut self, of: usize, name: usize, version: Option<u32>) {
        let things = self.now.entry(TYPES[of].to_owned()).or_default();
        match version {
            Some(version) => things.insert(NAMES[name].to_owned(), version),
            None => things.remove(NAMES[name]),
        };
    }

    fn offer(&mut self) {
        for response in self.publisher.offer(&Everything, &Arc::new(self.now.clone())) {
            let open = self.open.entry(response.type_url.clone()).or_default();
            *open += 1;
            assert_eq!(*open, 1, "two responses of {} are unanswered", response.type_url);
            self.responses.push_back(response);
        }
    }

    fn ask(&mut self) -> bool {
        let Some(request) = self.requests.pop_front() else { return false };
        let type_url = request.type_url.clone();
        if !request.response_nonce.is_empty() {
            *self.open.get_mut(&type_url).unwrap() -= 1;
        }
        self.publisher.heard(&request).unwrap();
        true
    }

    fn tell(&mut self, takes: bool) -> bool {
        let Some(response) = self.responses.pop_front() else { return false };
        let update = self.subscriber.received(response).unwrap();
        let told = self.told.entry(update.type_url.to_string()).or_default();
        if update.complete {
            assert!(told.is_empty() && update.removed.is_empty());
        } else {
            assert!(!update.resources.is_empty() || !update.removed.is_empty(), "nothing is told");
        }
        for resource in &update.resources {
            let version = resource.version.parse().unwrap();
            let before = told.insert(resource.name.clone(), version);
            assert_ne!(before, Some(version), "{} is told as it was told before", resource.name);
        }
        for name in &update.removed {
            assert!(told.remove(name).is_some(), "{name} is removed, which was not told");
        }
        let answer = if takes { self.subscriber.accepted(&update) } else { self.subscriber.refused(&update, "no") };
        self.requests.push_back(answer);
        true
    }

    /// Until nobody has anything to say.
    fn settle(&mut self) {
        loop {
            let asked = self.ask();
            self.offer();
            if !self.tell(true) && !asked {
                break;
            }
        }
    }
}

fn request() -> impl Strategy<Value = DeltaDiscoveryRequest> {
    let names = || proptest::collection::vec(proptest::sample::select(vec!["a", "b", "c", "zzz", "*", ""]), 0..4);
    let nonce = prop_oneof![2 => Just(String::new()), 3 => (0..30_u32).prop_map(|nonce| nonce.to_string())];
    let type_url = proptest::sample::select(vec!["Mesh", "Secret", "Unknown"]);
    (type_url, nonce, names(), names(), names(), any::<bool>()).prop_map(
        |(type_url, nonce, more, less, held, refuses)| {
            let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect::<Vec<_>>();
            DeltaDiscoveryRequest {
                type_url: type_url.to_owned(),
                error_detail: (refuses && !nonce.is_empty()).then(Status::default),
                response_nonce: nonce,
                resource_names_subscribe: owned(more),
                resource_names_unsubscribe: owned(less),
                initial_resource_versions: owned(held).into_iter().map(|name| (name, "1".to_owned())).collect(),
                ..DeltaDiscoveryRequest::default()
            }
        },
    )
}

proptest! {
    /// KDS-31, KDS-32, KDS-34, KDS-39: at the end the subscriber was told what there is; on the way one response of a
    /// type at a time, the first one whole, none without a difference, nothing twice, be it refused.
    #[test]
    fn both_ends_come_to_agree(steps in proptest::collection::vec(step(), 0..120)) {
        let mut stream = Stream::new();
        for step in steps {
            match step {
                Step::Change(of, name, version) => stream.change(of, name, version),
                Step::Offer => stream.offer(),
                Step::Ask => drop(stream.ask()),
                Step::Tell(takes) => drop(stream.tell(takes)),
            }
        }
        stream.settle();
        stream.now.retain(|_, things| !things.is_empty());
        prop_assert_eq!(stream.told.len(), TYPES.len(), "every type is told, be it empty");
        stream.told.retain(|_, things| !things.is_empty());
        prop_assert_eq!(&stream.told, &stream.now);
    }

    /// Whatever a peer asks and answers: nothing is told of a type that is not answered, and who asks for everything
    /// in the end gets everything.
    #[test]
    fn a_peer_that_misbehaves_harms_itself_alone(requests in proptest::collection::vec(request(), 0..60)) {
        let now = Arc::new(crate::things::things("Mesh", &[("a", 1), ("b", 2)]));
        let mut publisher = Publisher::new("global");
        let mut last: BTreeMap<String, String> = BTreeMap::new();
        for request in requests {
            let (_, heard) = publisher.heard(&request).unwrap();
            let settled = request.response_nonce.is_empty() || last.get(&request.type_url) == Some(&request.response_nonce);
            prop_assert!(settled || heard == discovery::publisher::Heard::Ignored);
            for response in publisher.offer(&Everything, &now) {
                prop_assert!(response.resources.len() <= 2);
                last.insert(response.type_url, response.nonce);
            }
            prop_assert!(publisher.offer(&Everything, &now).is_empty());
        }
        let everything = DeltaDiscoveryRequest {
            type_url: "Mesh".to_owned(),
            resource_names_subscribe: vec!["*".to_owned()],
            ..DeltaDiscoveryRequest::default()
        };
        publisher.heard(&everything).unwrap();
        let told = publisher.offer(&Everything, &now);
        prop_assert_eq!(told.len(), 1);
        prop_assert_eq!(told[0].resources.len(), 2);
    }
}
