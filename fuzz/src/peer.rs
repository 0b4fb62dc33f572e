//! What a peer sends over KDS, to each of the two ends of each stream.
//!
//! The first byte says to whom the rest goes. Discovery messages follow each other, each with its length before it, as one
//! stream; the rest of an input that is none is left aside.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use discovery::View;
use discovery::kds::down::{Down, Shared};
use discovery::kds::node::{Features, Introduction};
use discovery::kds::receive::{Received, Taker, receive};
use discovery::kds::rules::{self, Peer};
use discovery::kds::up::Up;
use discovery::kds::{Moment, wire};
use discovery::publisher::{Heard, Publisher};
use discovery::subscriber::{Subscriber, Update};
use kds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use kds_proto::kuma::mesh::v1alpha1 as mesh;
use model::kind::Access;
use model::snapshot::{Change, Snapshot};
use model::{Key, Kind, Labels, Payload, Resource, labels, name, rest_form};
use prost::Message;
use serde_json::{Value, json};

/// In every secret that no zone may see.
const HIDDEN: &str = "not-for-zones";
/// Messages of one stream.
const MESSAGES: usize = 16;

/// Takes the input of the target `kds_peer`.
pub fn kds_peer(data: &[u8]) {
    let Some((role, data)) = data.split_first() else { return };
    match role % 6 {
        0 => told(data, Taker::Zone, &ZONE),
        1 => told(data, Taker::Global { zone: "east", hashes_names: true }, &GLOBAL),
        2 => told(data, Taker::Global { zone: "old", hashes_names: false }, &GLOBAL),
        3 => asked(data, "global", &GLOBAL, |features| {
            Down::new(Peer { zone: "east".into(), features }, Shared::new(vec!["skipped.".to_owned()], BTreeSet::new()))
        }),
        4 => asked(data, "east", &ZONE, |_| Up::new("east", vec!["skipped.".to_owned()], BTreeSet::new())),
        _ => admin(data),
    }
}

/// Messages that follow each other.
fn messages<M: Message + Default>(mut data: &[u8]) -> impl Iterator<Item = M> {
    std::iter::from_fn(move || if data.is_empty() { None } else { M::decode_length_delimited(&mut data).ok() })
        .take(MESSAGES)
}

/// A peer tells: what is written is what it may write, and every resource is taken or refused by name.
fn told(data: &[u8], taker: Taker<'_>, stored: &Moment) {
    let kinds: Vec<Kind> = match taker {
        Taker::Zone => rules::down_kinds(&BTreeSet::new()).collect(),
        Taker::Global { .. } => rules::up_kinds(&BTreeSet::new()).collect(),
    };
    let (mut subscriber, _) = Subscriber::subscribe(kinds.iter().map(|kind| kind.name()), &Default::default());
    for response in messages::<DeltaDiscoveryResponse>(data) {
        let Ok(update) = subscriber.received(response) else { return };
        let kind: Kind = update.type_url.parse().expect("a kind that was asked for");
        let stored = stored.of(kind);
        let received = receive(taker, kind, &update, stored);
        nothing_foreign_is_written(taker, &received, stored);
        nothing_is_left_out(taker, kind, &update, &received, stored);
        for resource in received.creates.iter().chain(&received.updates) {
            let _ = rest_form::print(resource);
        }
        match received.message() {
            Some(text) => assert!(!text.is_empty() && subscriber.refused(&update, &text).error_detail.is_some()),
            None => assert!(received.refusals.is_empty() && subscriber.accepted(&update).error_detail.is_none()),
        }
    }
}

fn nothing_foreign_is_written(taker: Taker<'_>, received: &Received, stored: &Snapshot) {
    for resource in &received.creates {
        assert!(stored.get(&resource.meta.key).is_none(), "created though it is there: {}", resource.meta.key);
    }
    let changed = received.updates.iter().map(|resource| &resource.meta.key);
    for key in changed.chain(received.removes.iter().map(|(key, _)| key)) {
        let known = stored.get(key).expect("what is changed is there");
        let of = |label| known.meta.labels.get(label);
        match taker {
            Taker::Zone if key.kind.info().sync.provided_by_zone() => {
                assert_eq!(of(labels::ORIGIN), Some("global"), "the zone's own: {key}");
            }
            Taker::Zone => {}
            Taker::Global { zone, .. } => assert_eq!(of(labels::ZONE), Some(zone), "somebody else's: {key}"),
        }
    }
    let Taker::Global { zone, hashes_names } = taker else { return };
    for Resource { meta, .. } in received.creates.iter().chain(&received.updates) {
        let of = |label| meta.labels.get(label);
        assert_eq!((of(labels::ZONE), of(labels::ORIGIN)), (Some(zone), Some("zone")), "{}", meta.key);
        let prefix = format!("{zone}.");
        let named = if hashes_names { *name::hashed(meta) == *meta.key.name } else { meta.key.name.starts_with(&prefix) };
        assert!(named, "a name of somebody else: {}", meta.key);
    }
}

/// What can be read is written, there already or refused; what cannot is refused; each by its name.
fn nothing_is_left_out(taker: Taker<'_>, kind: Kind, update: &Update, received: &Received, stored: &Snapshot) {
    let written = received.creates.iter().chain(&received.updates).map(|resource| &resource.meta.key);
    let refused = received.refusals.iter().map(|refusal| &refusal.key);
    let (written, refused): (BTreeSet<_>, BTreeSet<_>) = (written.collect(), refused.collect());
    let here = |key: &Key| match taker {
        Taker::Global { zone, hashes_names: false } => Key::new(kind, &key.mesh, &format!("{zone}.{}", key.name)),
        _ => key.clone(),
    };
    for resource in &update.resources {
        match wire::decode(kind, resource) {
            Ok(decoded) => {
                let key = here(&decoded.meta.key);
                let known = written.contains(&key) || refused.contains(&key) || stored.get(&key).is_some();
                assert!(known, "left out: {key}");
                let gone = received.removes.iter().any(|(removed, _)| *removed == key);
                assert!(!gone, "told and removed: {key}");
            }
            Err(fault) => {
                assert!(refused.contains(&here(&fault.key)) || written.contains(&here(&fault.key)), "{}", fault.text());
            }
        }
    }
}

/// A peer asks: one response of a type at a time, of what it may see, in a form that it can read.
fn asked<V: View<Moment = Moment>>(data: &[u8], identifier: &str, now: &Moment, view: impl Fn(Features) -> V) {
    let mut publisher = Publisher::new(identifier);
    let mut unanswered: BTreeSet<Arc<str>> = BTreeSet::new();
    let mut shown = None;
    for request in messages::<DeltaDiscoveryRequest>(data) {
        if let Some(node) = &request.node {
            let introduction = Introduction::of(node);
            assert!(introduction.config.len() <= 1 << 20 && introduction.instance.len() <= 1 << 10);
            shown.get_or_insert_with(|| view(introduction.features));
        }
        // The first request has a node, or the stream ends.
        let Some(view) = &shown else { return };
        let Ok((type_url, heard)) = publisher.heard(&request) else { return };
        if heard != Heard::Ignored {
            unanswered.remove(&type_url);
        }
        for response in publisher.offer(view, now) {
            assert!(unanswered.insert(response.type_url.as_str().into()), "two responses of {}", response.type_url);
            assert!(!response.nonce.is_empty());
            assert!(!String::from_utf8_lossy(&response.encode_to_vec()).contains(HIDDEN), "a secret gets out");
            let Ok(kind) = response.type_url.parse::<Kind>() else {
                assert!(response.resources.is_empty(), "a type that nobody knows has resources");
                continue;
            };
            for resource in &response.resources {
                let sent = wire::decode(kind, resource).unwrap_or_else(|fault| panic!("{}", fault.text()));
                let origin = sent.meta.labels.get(labels::ORIGIN);
                assert_eq!(origin, Some(if identifier == "global" { "global" } else { "zone" }));
                let echo = identifier == "global" && sent.meta.labels.get(labels::ZONE) == Some("east");
                assert!(!echo, "a zone is told of its own: {}", sent.meta.key);
            }
        }
    }
}

/// Questions for proxies, and their answers: what is read means the same when it is passed on.
fn admin(data: &[u8]) {
    fn of<M: Message + Default + PartialEq + std::fmt::Debug>(data: &[u8]) {
        if let Ok(message) = M::decode(data) {
            assert_eq!(M::decode(&*message.encode_to_vec()).as_ref(), Ok(&message));
        }
    }
    of::<mesh::XdsConfigRequest>(data);
    of::<mesh::StatsRequest>(data);
    of::<mesh::ClustersRequest>(data);
    of::<mesh::XdsConfigResponse>(data);
    of::<mesh::StatsResponse>(data);
    of::<mesh::ClustersResponse>(data);
    of::<mesh::ZoneHealthCheckRequest>(data);
    of::<mesh::ZoneHealthCheckResponse>(data);
}

/// What the global holds of itself and of two zones.
static GLOBAL: LazyLock<Moment> = LazyLock::new(|| {
    let hidden = json!({"data": HIDDEN});
    let mut all = vec![
        resource(Kind::Mesh, "", "default", &[], json!({})),
        resource(Kind::Zone, "", "east", &[], json!({})),
        resource(Kind::Zone, "", "west", &[], json!({})),
        resource(Kind::GlobalSecret, "", "user-token-signing-key-1", &[], hidden.clone()),
        resource(Kind::GlobalSecret, "", "inter-cp-ca", &[], hidden.clone()),
        resource(Kind::Config, "", "cp-catalog", &[], json!({"config": HIDDEN})),
        resource(Kind::Config, "", "kuma-cluster-id", &[], json!({"config": "id"})),
        resource(Kind::Secret, "default", "mine", &[("kuma.io/kds-sync", "disabled")], hidden),
        resource(Kind::MeshTimeout, "default", "slow", &[], timeout()),
        resource(Kind::HostnameGenerator, "", "names", &[], json!({"selector": {}, "template": "x"})),
    ];
    for zone in ["east", "west", "old"] {
        all.extend(of_zone(zone));
    }
    moment(all)
});

/// What zone `east` holds: its own, and what came from the global.
static ZONE: LazyLock<Moment> = LazyLock::new(|| {
    let global = &[(labels::ORIGIN, "global")][..];
    let mut all = vec![
        resource(Kind::Mesh, "", "default", global, json!({})),
        resource(Kind::Mesh, "", "mine", &[], json!({})),
        resource(Kind::Secret, "default", "mine", &[], json!({"data": "eA=="})),
        resource(Kind::Secret, "default", "theirs", global, json!({"data": "eA=="})),
        resource(Kind::Config, "", "kuma-cluster-id", &[], json!({"config": "own"})),
        resource(Kind::MeshTimeout, "default", "mine", &[(labels::ORIGIN, "zone")], timeout()),
        resource(Kind::MeshTimeout, "default", "theirs", global, timeout()),
    ];
    all.extend(of_zone("east"));
    moment(all)
});

fn of_zone(zone: &str) -> Vec<Resource> {
    let own = &[(labels::ORIGIN, "zone"), (labels::ZONE, zone)][..];
    let networking = json!({"address": "10.0.0.1", "port": 10001, "advertisedAddress": "192.0.2.1", "advertisedPort": 1});
    let inbound = json!([{"port": 80, "tags": {"kuma.io/service": "web", "kuma.io/zone": zone}}]);
    let service = json!({"selector": {"dataplaneTags": {"kuma.io/service": "web"}}, "ports": [{"port": 80}]});
    let made = [
        resource(Kind::ZoneIngress, "", "ingress", own, json!({"zone": zone, "networking": networking})),
        resource(Kind::MeshService, "default", "web", own, service),
        resource(
            Kind::Dataplane,
            "default",
            "dp",
            own,
            json!({"networking": {"address": "10.0.0.2", "inbound": inbound}}),
        ),
        resource(Kind::DataplaneInsight, "default", "dp", own, json!({"subscriptions": [{"id": "1", "generation": 7}]})),
    ];
    made.map(|mut resource| {
        match zone {
            "old" => resource.meta.key.name = format!("old.{}", resource.meta.key.name).into(),
            _ => wire::hashed(&mut resource),
        }
        resource
    })
    .into()
}

fn timeout() -> Value {
    json!({"to": [{"targetRef": {"kind": "Mesh"}, "default": {"connectionTimeout": "2s"}}]})
}

fn resource(kind: Kind, mesh: &str, name: &str, own: &[(&str, &str)], spec: Value) -> Resource {
    let spec = match (kind, spec["data"].as_str()) {
        (Kind::Secret | Kind::GlobalSecret, Some(text)) => {
            let data = Some(text.as_bytes().to_vec());
            Payload::from_message(&kds_proto::kuma::system::v1alpha1::Secret { data })
        }
        _ => Payload::from_bytes((kind.info().codec.from_json)(spec).expect("a spec of the kind")),
    };
    let labels: Labels = own.iter().copied().collect();
    let mut resource = Resource::new(Key::new(kind, mesh, name), labels, spec);
    resource.meta.version = 1;
    resource
}

fn moment(all: Vec<Resource>) -> Moment {
    let (insights, configuration): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|resource| resource.kind().info().access == Access::ControlPlanes);
    let snapshot = |resources: Vec<Resource>| {
        let changes = resources.into_iter().map(|resource| Change::Put(Arc::new(resource)));
        Arc::new(Snapshot::empty().apply(1, changes))
    };
    Moment { configuration: snapshot(configuration), insights: snapshot(insights), made: Duration::ZERO }
}
