//! Recorded sessions between a global of Kuma and its zones, with this crate in the place of the global.
//!
//! What zones told (`ZoneToGlobalSync`) is taken over here, and answered as it was answered there. What the global itself
//! made is learnt from what it told. From both follows what every zone has to hold, in name, labels, spec and status; at
//! every step of a scenario and at its end that is compared with what the zones were told (`GlobalToZoneSync`).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests, their helpers included")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use discovery::kds::down::{Down, Shared};
use discovery::kds::node::Features;
use discovery::kds::receive::{Taker, receive};
use discovery::kds::rules::{Peer, down_kinds};
use discovery::kds::{Moment, wire};
use discovery::subscriber::Update;
use discovery::{Interest, View};
use kds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource as Wire};
use kds_proto::kuma::system::v1alpha1::Zone;
use model::kind::Access;
use model::{Change, Key, Kind, Labels, Payload, Resource, Snapshot, labels};
use prost::Message;
use serde_json::Value;

/// Scenarios of one installation in the order of the recording: what one leaves behind the next begins with. Left out is
/// `10h-global-undecodable-proto`: there the global ends the stream of a zone that sends what cannot be decoded, and here
/// the resource is refused by name and the stream lives.
const SESSIONS: &[&[&str]] = &[
    &[
        "01-first-connect",
        "02-second-zone-joins",
        "03-policy-lifecycle",
        "04-dataplane-lifecycle",
        "05-zone-origin-resources",
        "06-zone-disable-enable",
        "12-real-proxies-start",
        "12-admin-streams",
        "07-zone-delete",
        "08-zone-restart-memory",
        "09-global-restart-memory",
        "10a-nack-zone-rejects-policy",
        "10b-nack-global-rejects",
        "10c-nack-name-conflict",
        "10d-zone-undecodable-json",
        "10f-zone-unknown-type",
        "10g-zone-wrong-proto",
    ],
    &["09-global-graceful-restart"],
    &["09-global-restart-postgres"],
    &["10i-global-unknown-type"],
    &["13-stale-subscription"],
];

/// What was done to the global by its API, by the step before which it was done.
fn done_before(step: &str, world: &mut World) {
    match step {
        "06a-zone-disable" => world.enable("east", false),
        "06c-zone-enable" => world.enable("east", true),
        "07c-delete-zone-offline" => world.forget_zone("east"),
        // It kept everything in memory.
        "09s-global-start-again" | "09b-global-restart-memory-store" => world.forget_everything(),
        _ => {}
    }
}

/// What was removed while nothing was recorded, by the scenario that follows.
const REMOVED_UNSEEN: &[(&str, Kind, &str)] = &[("07-zone-delete", Kind::ZoneIngress, "zi-real-w8bd85v4bbx4vcdv")];

/// Scenarios before which the global changed while nothing was recorded. What a zone that connects then is told was so
/// before, and the others had been told of the global's own.
const AFTER_A_GAP: &[&str] = &["07-zone-delete", "10d-zone-undecodable-json", "10f-zone-unknown-type"];

fn lines(path: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A stream of the recording: connection and number.
type Stream = (u64, u64);

/// What a zone was told, by kind and name on the wire.
type Held = BTreeMap<Kind, BTreeMap<String, Resource>>;

struct World {
    configuration: Arc<Snapshot>,
    insights: Arc<Snapshot>,
    revision: u64,
    shared: Arc<Shared>,
    /// By `GlobalToZoneSync` stream: its zone and what it was told, by kind.
    told: BTreeMap<Stream, (String, Held)>,
    /// By `ZoneToGlobalSync` stream: kinds of which a response came.
    heard: BTreeSet<(Stream, String)>,
    /// What the global has to answer on a `ZoneToGlobalSync` stream, by nonce.
    owed: BTreeMap<(Stream, String), Option<String>>,
    figures: Figures,
}

#[derive(Debug, Default)]
struct Figures {
    responses: usize,
    answers: usize,
    refusals: usize,
    compared: usize,
}

impl World {
    fn new() -> Self {
        let empty = Arc::new(Snapshot::empty());
        Self {
            configuration: Arc::clone(&empty),
            insights: empty,
            revision: 0,
            shared: Shared::new(Vec::new()),
            told: BTreeMap::new(),
            heard: BTreeSet::new(),
            owed: BTreeMap::new(),
            figures: Figures::default(),
        }
    }

    fn of(&mut self, kind: Kind) -> &mut Arc<Snapshot> {
        if kind.info().access == Access::ControlPlanes { &mut self.insights } else { &mut self.configuration }
    }

    fn apply(&mut self, kind: Kind, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.revision += 1;
            let revision = self.revision;
            let snapshot = self.of(kind);
            *snapshot = Arc::new(snapshot.apply(revision, changes));
        }
    }

    fn moment(&self) -> Moment {
        Moment { configuration: Arc::clone(&self.configuration), insights: Arc::clone(&self.insights) }
    }

    fn enable(&mut self, zone: &str, enabled: bool) {
        let spec = Payload::from_message(&Zone { enabled: Some(enabled) });
        let zone = Resource::new(Key::global(Kind::Zone, zone), Labels::default(), spec);
        self.apply(Kind::Zone, vec![Change::Put(Arc::new(zone))]);
    }

    fn forget_zone(&mut self, zone: &str) {
        for kind in [Kind::Dataplane, Kind::DataplaneInsight] {
            let all: Vec<Arc<Resource>> = self.of(kind).iter().cloned().collect();
            let gone = all.iter().filter(|resource| resource.meta.zone() == Some(zone));
            let gone = gone.map(|resource| Change::Remove(resource.meta.key.clone())).collect();
            self.apply(kind, gone);
        }
    }

    fn forget_everything(&mut self) {
        *self = Self { figures: std::mem::take(&mut self.figures), ..Self::new() };
    }

    /// What a zone tells is taken over.
    fn zone_tells(&mut self, stream: Stream, zone: &str, response: DeltaDiscoveryResponse, spoilt: bool) {
        self.figures.responses += 1;
        let Ok(kind) = response.type_url.parse::<Kind>() else {
            assert!(spoilt, "{}", response.type_url);
            return;
        };
        let complete = self.heard.insert((stream, response.type_url.clone()));
        let update = Update::new(&response.type_url, complete, response.resources, response.removed_resources);
        let stored = Arc::clone(self.of(kind));
        let received = receive(Taker::Global { zone, hashes_names: true }, kind, &update, &stored);
        let puts = received.creates.iter().chain(&received.updates);
        let puts = puts.map(|resource| Change::Put(Arc::new(resource.clone())));
        let removes = received.removes.iter().map(|(key, _)| Change::Remove(key.clone()));
        let changes = removes.chain(puts).collect();
        self.apply(kind, changes);
        self.owed.insert((stream, response.nonce), received.message());
    }

    /// What the global answered there is what follows here.
    fn answered(&mut self, scenario: &str, stream: Stream, answer: &DeltaDiscoveryRequest) {
        let Some(owed) = self.owed.remove(&(stream, answer.response_nonce.clone())) else { return };
        self.figures.answers += 1;
        let told = answer.error_detail.as_ref().map(|status| status.message.clone());
        self.figures.refusals += usize::from(told.is_some());
        assert_eq!(owed, told, "{scenario}: {} {}", answer.type_url, answer.response_nonce);
    }

    /// A zone is told. What the global made itself is learnt from it.
    fn zone_is_told(
        &mut self,
        scenario: &str,
        stream: Stream,
        zone: &str,
        response: &DeltaDiscoveryResponse,
        spoilt: Option<&str>,
    ) {
        let Ok(kind) = response.type_url.parse::<Kind>() else { return };
        if AFTER_A_GAP.contains(&scenario) && !self.told.get(&stream).is_some_and(|(_, held)| held.contains_key(&kind))
        {
            let own = |resource: &Resource| resource.meta.zone().is_none();
            let told = response.resources.iter().map(|wire| (wire.name.clone(), wire::decode(kind, wire).unwrap()));
            let (told, of_zones): (BTreeMap<String, Resource>, BTreeMap<_, _>) =
                told.partition(|(_, resource)| own(resource));
            let changed = of_zones.into_values().map(|mut resource| {
                resource.meta.labels = resource.meta.labels.with(labels::ORIGIN, labels::ORIGIN_ZONE);
                Change::Put(Arc::new(resource))
            });
            let changed = changed.collect();
            self.apply(kind, changed);
            for held in self.told.values_mut().filter_map(|(_, held)| held.get_mut(&kind)) {
                held.retain(|_, resource| !own(resource));
                held.extend(told.clone());
            }
        }
        // A zone has one connection; that an older one closed may not have been recorded.
        self.told.retain(|of, (told, _)| told != zone || *of == stream);
        let (_, held) = self.told.entry(stream).or_insert_with(|| (zone.to_owned(), BTreeMap::new()));
        let is_first = !held.contains_key(&kind);
        let held = held.entry(kind).or_default();
        let mut changes = Vec::new();
        for wire in &response.resources {
            // What the proxy between them spoilt was whole when the global sent it, and is not shown.
            let Ok(resource) = wire::decode(kind, wire) else {
                assert!(spoilt.is_some(), "{}", wire.name);
                continue;
            };
            if resource.meta.zone().is_none() {
                changes.push(Change::Put(Arc::new(as_made(&resource))));
            }
            held.insert(wire.name.clone(), resource);
        }
        let mut gone: Vec<String> = response.removed_resources.clone();
        if is_first {
            // The first response is everything.
            gone.clear();
        }
        for name in &gone {
            if let Some(was) = held.remove(name)
                && was.meta.zone().is_none()
            {
                changes.push(Change::Remove(as_made(&was).meta.key));
            }
        }
        self.apply(kind, changes);
        // A zone of Kuma leaves when it cannot decode what it is told; what is merely invalid it refuses.
        if spoilt.is_some_and(|how| !how.contains("invalid")) {
            self.told.remove(&stream);
        }
    }

    /// What every connected zone was told is what it has to hold.
    fn compare(&mut self, at: &str) {
        let now = self.moment();
        for (zone, held) in self.told.values() {
            let peer = Peer { zone: zone.as_str().into(), features: Features::ALL };
            let view = Down::new(peer, Arc::clone(&self.shared));
            for (kind, told) in held {
                let whole = view.changes(kind.name(), &Interest::All, None, &now);
                let shall: BTreeMap<String, Resource> = whole
                    .put
                    .into_iter()
                    .map(|encoded| {
                        let wire = Wire { resource: Some(encoded.resource), ..Wire::default() };
                        (encoded.name.to_string(), wire::decode(*kind, &wire).unwrap())
                    })
                    .collect();
                let names = |of: &BTreeMap<String, Resource>| of.keys().cloned().collect::<Vec<_>>();
                assert_eq!(names(&shall), names(told), "{at}: {kind} of {zone}");
                for (name, told) in told {
                    let shall = &shall[name];
                    assert_eq!(shall.meta.labels, told.meta.labels, "{at}: {name} of {zone}");
                    assert_eq!(shall.spec.bytes(), told.spec.bytes(), "{at}: {name} of {zone}");
                    assert_eq!(shall.status, told.status, "{at}: {name} of {zone}");
                    self.figures.compared += 1;
                }
            }
        }
    }
}

/// A resource of the global as its author made it: under its own name.
fn as_made(resource: &Resource) -> Resource {
    let name = resource.meta.display_name().to_owned();
    let mut made = resource.clone();
    if !resource.kind().info().plain_name {
        made.meta.key = Key::new(resource.kind(), &resource.meta.key.mesh, &name);
        made.meta.labels = made.meta.labels.without(labels::DISPLAY_NAME);
    }
    made
}

#[test]
fn zones_hold_what_kumas_zones_held() {
    let messages = lines("../../kds-proto/tests/recorded/messages.jsonl");
    let mut figures = Figures::default();
    for session in SESSIONS {
        let mut world = World { figures, ..World::new() };
        for scenario in *session {
            replay(&mut world, scenario, &messages);
        }
        figures = world.figures;
    }
    println!("{figures:?} over {} kinds", down_kinds().count());
    let Figures { responses, answers, refusals, compared } = figures;
    assert!(responses > 300 && answers > 300 && refusals >= 2 && compared > 2000);
}

fn replay(world: &mut World, scenario: &str, messages: &[Value]) {
    for (_, kind, name) in REMOVED_UNSEEN.iter().filter(|(before, ..)| *before == scenario) {
        world.apply(*kind, vec![Change::Remove(Key::global(*kind, name))]);
        for held in world.told.values_mut().filter_map(|(_, held)| held.get_mut(kind)) {
            held.remove(&format!("{name}."));
        }
    }
    for event in lines(&format!("tests/recorded/{scenario}.jsonl")) {
        let kind = event["kind"].as_str().unwrap();
        if kind == "mark" {
            let step = event["mark"].as_str().unwrap();
            world.compare(&format!("{scenario} before {step}"));
            done_before(step, world);
            continue;
        }
        if kind == "conn_close" {
            let conn = event["conn"].as_u64().unwrap();
            world.told.retain(|(of, _), _| *of != conn);
            continue;
        }
        let Some(message) = event["message"].as_u64().filter(|_| kind == "msg") else { continue };
        let method = event["method"].as_str().unwrap();
        let stream = (event["conn"].as_u64().unwrap(), event["stream_id"].as_u64().unwrap());
        let zone = event["zone"].as_str().unwrap();
        let raw = BASE64_STANDARD.decode(messages[usize::try_from(message).unwrap()]["raw"].as_str().unwrap()).unwrap();
        let spoilt = event["injected"].as_str();
        let from_zone = event["dir"] == "z2g";
        if method.ends_with("/ZoneToGlobalSync") && from_zone {
            world.zone_tells(stream, zone, DeltaDiscoveryResponse::decode(&raw[..]).unwrap(), spoilt.is_some());
        } else if method.ends_with("/ZoneToGlobalSync") {
            world.answered(scenario, stream, &DeltaDiscoveryRequest::decode(&raw[..]).unwrap());
        } else if method.ends_with("/GlobalToZoneSync") && !from_zone {
            world.zone_is_told(scenario, stream, zone, &DeltaDiscoveryResponse::decode(&raw[..]).unwrap(), spoilt);
        }
    }
    world.compare(&format!("{scenario} at its end"));
}
