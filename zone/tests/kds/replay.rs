//! Our zone against the recorded messages of a Kuma global: it answers what a zone of Kuma answered.

use std::collections::{BTreeMap, BTreeSet};

use kds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use kds_proto::kuma::mesh::v1alpha1::KumaResource;
use model::{Key, Kind, Labels, Payload, Resource, labels};
use prost::Message;
use store::Batch;

use crate::global::{Down, Global, Manner, Up};
use crate::message;
use crate::recording::{self, Session, sessions};
use crate::zone::{Zone, start_plain};

/// KDS-26, KDS-33, KDS-40, KDS-41, KDS-42, KDS-57: every recorded response, in its order, gets the recorded answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_globals_responses_get_the_recorded_answers() {
    let mut answered = 0;
    for session in sessions().into_iter().filter(|session| !session.down.is_empty()) {
        let folder = tempfile::tempdir().unwrap();
        let mut global = Global::start(Manner::default()).await;
        let zone = start_plain(&session.zone, folder.path(), &global, &["store.type=memory"]).await;
        let (mut down, _up) = global.connected().await;
        let place = format!("{} of {}", session.scenario, session.zone);
        take_names(&zone, &session).await;
        let subscriptions = hear_subscriptions(&mut down).await;
        if session.is_whole() {
            assert_eq!(subscriptions, recorded_subscriptions(&session), "{place}");
        } else {
            // Who the global is was said in another file.
            down.say(message::response("Config", 0, vec![message::cluster_id("recorded")])).await;
            down.hear().await;
        }
        answered += answers(&mut down, &session, &place).await;
        zone.end().await;
    }
    assert!(answered > 600, "only {answered} answers were compared");
}

/// Plays the responses one after the other; how many answers were compared.
async fn answers(down: &mut Down, session: &Session, place: &str) -> usize {
    let mut expected: BTreeMap<&str, &DeltaDiscoveryRequest> = BTreeMap::new();
    for event in &session.down {
        if let recording::Down::Asked(request) = event
            && !request.response_nonce.is_empty()
        {
            expected.insert(&request.response_nonce, request);
        }
    }
    let told = session.down.iter().filter_map(|event| match event {
        recording::Down::Told(response, injected) => Some((response, injected)),
        recording::Down::Asked(_) => None,
    });
    // The identity is looked at before all else, so it is played first.
    let (first, rest): (Vec<_>, Vec<_>) = told.partition(|(response, _)| response.type_url == "Config");
    let mut compared = 0;
    for (response, injected) in first.into_iter().chain(rest) {
        down.say(response.clone()).await;
        let place = format!("{place}: response {} of {}", response.nonce, response.type_url);
        match expected.get(&*response.nonce) {
            Some(recorded) => {
                let answer = down.hear().await;
                assert_eq!(shape(&answer), shape(recorded), "{place}");
                compared += 1;
            }
            // Kuma's zone hung up. One of ours does so when it cannot read the response, and refuses a resource by name.
            None if response.type_url.parse::<Kind>().is_err() => {
                down.hung_up().await;
                return compared;
            }
            None if injected.is_some() => {
                let answer = down.hear().await;
                let text = answer.error_detail.expect("a refusal").message;
                assert!(text.contains(&response.type_url), "{place}: {text}");
                return compared;
            }
            None => panic!("{place}: nothing was recorded"),
        }
    }
    compared
}

/// What an answer says.
#[derive(Debug, PartialEq)]
struct Shape {
    kind: String,
    node: String,
    introduces_itself: bool,
    acknowledges: String,
    asks_for: Vec<String>,
    refuses: Option<(i32, String)>,
}

fn shape(request: &DeltaDiscoveryRequest) -> Shape {
    let node = request.node.as_ref().expect("a node in every request");
    Shape {
        kind: request.type_url.clone(),
        node: node.id.clone(),
        introduces_itself: node.metadata.is_some(),
        acknowledges: request.response_nonce.clone(),
        asks_for: request.resource_names_subscribe.clone(),
        refuses: request.error_detail.as_ref().map(|detail| (detail.code, detail.message.clone())),
    }
}

async fn hear_subscriptions(down: &mut Down) -> BTreeSet<String> {
    let mut kinds = BTreeSet::new();
    for _ in 0..43 {
        let request = down.hear().await;
        assert_eq!(request.response_nonce, "");
        kinds.insert(request.type_url);
    }
    kinds
}

fn recorded_subscriptions(session: &Session) -> BTreeSet<String> {
    let asked = session.down.iter().filter_map(|event| match event {
        recording::Down::Asked(request) if request.response_nonce.is_empty() => Some(request.type_url.clone()),
        _ => None,
    });
    asked.collect()
}

/// Makes what the recorded zone had under names that the global gave away too.
async fn take_names(zone: &Zone, session: &Session) {
    for event in &session.down {
        let recording::Down::Asked(DeltaDiscoveryRequest { error_detail: Some(detail), .. }) = event else { continue };
        for line in detail.message.lines().filter_map(|line| line.strip_prefix("resource already exists: ")) {
            let quoted: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
            let [kind, name, mesh] = quoted[..] else { panic!("{line}") };
            let key = Key::new(kind.parse().unwrap(), mesh, name);
            let own = Resource::new(key, Labels::default(), Payload::default());
            zone.running.store().apply(Batch::new().put(own)).await.unwrap();
        }
    }
}

/// KDS-29, KDS-31, KDS-32, KDS-35, KDS-36, KDS-37, KDS-38, KDS-45, KDS-58: with the resources of the recorded zone, ours tells
/// the same of them, byte for byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_tells_of_its_resources_what_was_recorded() {
    let mut told = 0;
    for session in sessions().into_iter().filter(|session| !session.up.is_empty()) {
        let folder = tempfile::tempdir().unwrap();
        let mut global = Global::start(Manner::default()).await;
        let zone = start_plain(&session.zone, folder.path(), &global, &["store.type=memory"]).await;
        let (_down, mut up) = global.connected().await;
        let place = format!("{} of {}", session.scenario, session.zone);
        told += tells(&zone, &mut up, &session, &place).await;
        zone.end().await;
    }
    assert!(told > 300, "only {told} responses were compared");
}

async fn tells(zone: &Zone, up: &mut Up, session: &Session, place: &str) -> usize {
    let responses: Vec<&DeltaDiscoveryResponse> = session
        .up
        .iter()
        .filter_map(|event| match event {
            recording::Up::Told(response) => Some(response),
            recording::Up::Asked(_) => None,
        })
        .collect();
    let whole = session.up.iter().any(|event| matches!(event, recording::Up::Asked(r) if r.response_nonce.is_empty()));
    let kinds: BTreeSet<&str> = responses.iter().map(|response| &*response.type_url).collect();
    let mut compared = 0;
    let mut first: BTreeMap<&str, &DeltaDiscoveryResponse> = BTreeMap::new();
    if whole {
        for response in &responses {
            first.entry(&response.type_url).or_insert(response);
        }
        for response in first.values().filter(|response| response.type_url != "HostnameGenerator") {
            write(zone, response).await;
        }
    }
    for kind in &kinds {
        up.say(message::subscription(kind)).await;
        let mut response = up.hear().await;
        if let Some(recorded) = first.get(kind) {
            let mut told = content(&response);
            // What was written a moment ago may follow the first response.
            while told != content(recorded) {
                acknowledge(up, &response).await;
                response = up.hear().await;
                told.2.extend(content(&response).2);
            }
            compared += 1;
        }
        acknowledge(up, &response).await;
    }
    for recorded in responses.iter().skip(first.len()) {
        write(zone, recorded).await;
        let response = up.hear().await;
        assert_eq!(content(&response), content(recorded), "{place}: {} {}", recorded.type_url, recorded.nonce);
        acknowledge(up, &response).await;
        compared += 1;
    }
    compared
}

/// Puts into the zone what the response tells, and deletes what it says is gone.
async fn write(zone: &Zone, response: &DeltaDiscoveryResponse) {
    let store = zone.running.store();
    let kind: Kind = response.type_url.parse().unwrap();
    let stored = |wire: &str| {
        let (name, mesh) = wire.rsplit_once('.').unwrap();
        (name.rsplit_once('-').unwrap().0.to_owned(), mesh.to_owned())
    };
    let mut batch = Batch::new();
    for resource in &response.resources {
        let packed = KumaResource::decode(resource.resource.as_ref().unwrap().value.clone()).unwrap();
        let meta = packed.meta.unwrap();
        let key = Key::new(kind, &meta.mesh, &meta.labels[labels::DISPLAY_NAME]);
        let labels: Labels = meta.labels.iter().collect();
        let mut own = Resource::new(key, labels, Payload::from_bytes(packed.spec.unwrap().value));
        own.status = packed.status.map(|status| Payload::from_bytes(status.value));
        batch = batch.put(own);
    }
    for removed in &response.removed_resources {
        let (name, mesh) = stored(removed);
        batch = batch.remove(Key::new(kind, &mesh, &name));
    }
    store.apply(batch).await.unwrap();
}

async fn acknowledge(up: &mut Up, response: &DeltaDiscoveryResponse) {
    let mut acknowledgement = message::subscription(&response.type_url);
    acknowledgement.resource_names_subscribe.clear();
    acknowledgement.response_nonce.clone_from(&response.nonce);
    up.say(acknowledgement).await;
}

type Content = (String, String, BTreeMap<String, (String, Vec<u8>)>, BTreeSet<String>);

/// Kind, who tells, resources by name with version and bytes, and what is gone.
fn content(response: &DeltaDiscoveryResponse) -> Content {
    let resources = response.resources.iter().map(|resource| {
        let bytes = resource.resource.as_ref().unwrap();
        assert_eq!(bytes.type_url, kds_proto::KUMA_RESOURCE_TYPE_URL);
        (resource.name.clone(), (resource.version.clone(), bytes.value.to_vec()))
    });
    let identifier = response.control_plane.as_ref().map(|plane| plane.identifier.clone()).unwrap_or_default();
    let removed = response.removed_resources.iter().cloned().collect();
    (response.type_url.clone(), identifier, resources.collect(), removed)
}
