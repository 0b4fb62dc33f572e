//! A global and two zones, whatever is written where, whatever is told when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use discovery::kds::Moment;
use discovery::kds::down::{Down, Shared};
use discovery::kds::node::Features;
use discovery::kds::receive::{Received, Taker, receive};
use discovery::kds::rules::Peer;
use discovery::kds::up::Up;
use discovery::kds::wire;
use discovery::subscriber::Update;
use discovery::{Changes, Interest, View};
use kds_proto::envoy::service::discovery::v3;
use model::kind::Scope;
use model::{Change, Key, Kind, Labels, Payload, Resource, labels};
use proptest::prelude::*;
use serde_json::json;

use crate::world::{World, changes};

const ZONES: [&str; 2] = ["east", "west"];
const GLOBALS: [Kind; 3] = [Kind::Mesh, Kind::MeshTimeout, Kind::Secret];
const OF_ZONES: [Kind; 4] = [Kind::MeshService, Kind::ZoneIngress, Kind::MeshTimeout, Kind::Dataplane];
const KINDS: [Kind; 6] =
    [Kind::Mesh, Kind::MeshTimeout, Kind::Secret, Kind::MeshService, Kind::ZoneIngress, Kind::Dataplane];

/// What may happen. Numbers choose, modulo how many there are.
#[derive(Clone, Debug)]
enum Step {
    /// Somebody writes on the global, or deletes: kind, name, content.
    Author(usize, u8, Option<u8>),
    /// Somebody writes in a zone.
    Make(usize, usize, u8, Option<u8>),
    Enable(usize, bool),
    Up(usize, usize),
    Down(usize, usize),
    Reconnect(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let content = || proptest::option::weighted(0.7, 0..6u8);
    prop_oneof![
        3 => (0..3usize, 0..3u8, content()).prop_map(|(kind, name, content)| Step::Author(kind, name, content)),
        4 => (0..2usize, 0..4usize, 0..3u8, content())
            .prop_map(|(zone, kind, name, content)| Step::Make(zone, kind, name, content)),
        1 => (0..2usize, any::<bool>()).prop_map(|(zone, enabled)| Step::Enable(zone, enabled)),
        4 => (0..2usize, 0..6usize).prop_map(|(zone, kind)| Step::Up(zone, kind)),
        4 => (0..2usize, 0..6usize).prop_map(|(zone, kind)| Step::Down(zone, kind)),
        1 => (0..2usize).prop_map(Step::Reconnect),
    ]
}

/// A resource; `content` 5 keeps it at home, and odd ones have a status of their own where the kind has one.
fn resource(kind: Kind, name: u8, content: u8, of_zone: bool) -> Resource {
    let spec = match kind {
        Kind::MeshTimeout => {
            let target = json!({"kind": "MeshService", "name": "web"});
            json!({"to": [{"targetRef": target, "default": {"connectionTimeout": format!("{}s", content + 1)}}]})
        }
        Kind::ZoneIngress => json!({"networking": {"address": "10.0.0.1", "port": 10_001 + u16::from(content)}}),
        Kind::Dataplane => {
            let inbound = json!({"port": 80 + u16::from(content), "tags": {"kuma.io/service": "web"}});
            json!({"networking": {"address": "10.0.0.2", "inbound": [inbound]}})
        }
        Kind::Secret => {
            let data = ["YQ==", "Yg==", "Yw==", "ZA==", "ZQ==", "Zg=="];
            json!({"data": data[usize::from(content)]})
        }
        _ => json!({}),
    };
    let mut labels: Labels = [("content", content.to_string())].into_iter().collect();
    if content == 5 {
        labels = labels.with(labels::KDS_SYNC, "disabled");
    }
    if of_zone && kind == Kind::MeshTimeout {
        labels = labels.with(labels::NAMESPACE, "shop").with(labels::POLICY_ROLE, "producer");
    }
    let key = Key::new(kind, "default", &format!("{}-{name}", if of_zone { "made" } else { "authored" }));
    let mut resource = Resource::new(key, labels, Payload::from_bytes((kind.info().codec.from_json)(spec).unwrap()));
    if let Some(status) = resource.status.as_mut().filter(|_| content % 2 == 1) {
        *status = Payload::from_bytes(r#"{"vips":[{"ip":"241.0.0.1"}]}"#);
    }
    resource
}

fn change(kind: Kind, name: u8, content: Option<u8>, of_zone: bool) -> Change {
    match content {
        Some(content) => Change::Put(Arc::new(resource(kind, name, content, of_zone))),
        None => Change::Remove(resource(kind, name, 0, of_zone).meta.key),
    }
}

struct Zone {
    name: &'static str,
    world: World,
    up: Up,
    down: Down,
    told_up: BTreeMap<Kind, Moment>,
    told_down: BTreeMap<Kind, Moment>,
}

struct System {
    global: World,
    zones: Vec<Zone>,
}

/// One response, from the view at one end to what is stored at the other.
fn pass<V: View<Moment = Moment>>(view: &V, told: &mut BTreeMap<Kind, Moment>, kind: Kind, now: &Moment) -> Update {
    let before = told.insert(kind, now.clone());
    let Changes { put, removed } = view.changes(kind.name(), &Interest::All, before.as_ref(), now);
    let wire = put.into_iter().map(|encoded| v3::Resource {
        name: encoded.name.to_string(),
        version: encoded.version.to_string(),
        resource: Some(encoded.resource),
        ..v3::Resource::default()
    });
    Update::new(kind.name(), before.is_none(), wire.collect(), removed)
}

impl System {
    fn new() -> Self {
        let shared = Shared::new(Vec::new(), BTreeSet::new());
        let zone = |name| Zone {
            name,
            world: World::new(),
            up: Up::new(name, Vec::new(), BTreeSet::new()),
            down: Down::new(Peer { zone: name.into(), features: Features::ALL }, Arc::clone(&shared)),
            told_up: BTreeMap::new(),
            told_down: BTreeMap::new(),
        };
        let mut global = World::new();
        ZONES.iter().for_each(|zone| global.join(zone));
        Self { global, zones: ZONES.map(zone).into() }
    }

    fn go(&mut self, step: &Step) {
        match *step {
            Step::Author(kind, name, content) => {
                self.global.apply(vec![change(GLOBALS[kind], name, content, false)]);
            }
            Step::Make(zone, kind, name, content) => {
                self.zones[zone].world.apply(vec![change(OF_ZONES[kind], name, content, true)]);
            }
            Step::Enable(zone, enabled) => self.global.enable(ZONES[zone], enabled),
            Step::Up(zone, kind) => drop(self.up(zone, KINDS[kind])),
            Step::Down(zone, kind) => drop(self.down(zone, KINDS[kind])),
            Step::Reconnect(zone) => {
                self.zones[zone].told_up.clear();
                self.zones[zone].told_down.clear();
            }
        }
    }

    fn up(&mut self, zone: usize, kind: Kind) -> Received {
        let Zone { name, world, up, told_up, .. } = &mut self.zones[zone];
        let update = pass(up, told_up, kind, &world.now);
        self.global.take(name, &update)
    }

    fn down(&mut self, zone: usize, kind: Kind) -> Received {
        let Zone { world, down, told_down, .. } = &mut self.zones[zone];
        let update = pass(down, told_down, kind, &self.global.now);
        let received = receive(Taker::Zone, kind, &update, world.now.of(kind));
        world.apply(changes(&received));
        received
    }

    /// Everything is told; what had to be written for that.
    fn settle(&mut self) -> Vec<Received> {
        let mut all = Vec::new();
        for kind in KINDS {
            all.extend((0..ZONES.len()).map(|zone| self.up(zone, kind)));
        }
        for kind in KINDS {
            all.extend((0..ZONES.len()).map(|zone| self.down(zone, kind)));
        }
        all
    }

    fn reconnect(&mut self) {
        (0..ZONES.len()).for_each(|zone| self.go(&Step::Reconnect(zone)));
    }
}

/// Names of what a zone holds of a kind, its own or the global's.
fn held(world: &World, kind: Kind, own: bool) -> BTreeSet<String> {
    let all = world.now.of(kind).list(kind);
    let of = all.filter(|resource| (resource.meta.labels.get(labels::ORIGIN) != Some("global")) == own);
    of.map(|resource| resource.meta.key.name.to_string()).collect()
}

/// What crosses from a zone, under the name that it has elsewhere.
fn crossing(zone: &Zone, kind: Kind) -> BTreeSet<String> {
    let changes = zone.up.changes(kind.name(), &Interest::All, None, &zone.world.now);
    let key = |name: &str| wire::key_of(kind, name).name.to_string();
    changes.put.iter().map(|encoded| key(&encoded.name)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// KDS-21, KDS-31, KDS-39, KDS-46, KDS-47, KDS-48, KDS-54, KDS-55.
    #[test]
    fn zones_hold_what_they_shall_and_keep_what_is_theirs(steps in proptest::collection::vec(step(), 0..60)) {
        let mut system = System::new();
        let mut alone = ZONES.map(|_| World::new());
        for step in &steps {
            system.go(step);
            if let Step::Make(zone, kind, name, content) = *step {
                alone[zone].apply(vec![change(OF_ZONES[kind], name, content, true)]);
            }
        }
        for received in system.settle() {
            prop_assert_eq!(received.message(), None);
        }
        for (zone, alone) in system.zones.iter().zip(&alone) {
            for kind in KINDS {
                // What is the zone's own is as if there were no global.
                prop_assert_eq!(held(&zone.world, kind, true), held(alone, kind, true));
                for own in alone.now.of(kind).list(kind) {
                    let kept = zone.world.now.of(kind).get(&own.meta.key);
                    prop_assert!(kept.is_some_and(|kept| kept.same_content(own)), "{}", own.meta.key);
                }
                // Nothing of it comes back.
                let own_again = zone.world.now.of(kind).labelled(kind, labels::ZONE, zone.name);
                prop_assert_eq!(own_again.count(), 0);
            }
            // What an author wrote is there, unless it is kept home.
            for kind in GLOBALS {
                let authored = system.global.now.of(kind).list(kind);
                let authored = authored.filter(|resource| resource.meta.zone().is_none());
                let sent = authored.filter(|resource| resource.meta.labels.get(labels::KDS_SYNC).is_none()).count();
                let all = zone.world.now.of(kind).list(kind);
                let global = |resource: &&Arc<Resource>| {
                    resource.meta.labels.get(labels::ORIGIN) == Some("global") && resource.meta.zone().is_none()
                };
                prop_assert_eq!(all.filter(global).count(), sent);
            }
            for other in system.zones.iter().filter(|other| other.name != zone.name) {
                let disabled = discovery::kds::rules::is_disabled(other.name, &system.global.now.configuration);
                for kind in OF_ZONES {
                    let of_other = zone.world.now.of(kind).labelled(kind, labels::ZONE, other.name);
                    let there: BTreeSet<String> = of_other.map(|held| held.meta.key.name.to_string()).collect();
                    let expected = crossing(other, kind);
                    let crosses = kind != Kind::Dataplane && !disabled;
                    prop_assert_eq!(there, if crosses { expected } else { BTreeSet::new() }, "{}", kind);
                }
            }
        }
        // Who comes again is told the same, and nothing is written.
        system.reconnect();
        for received in system.settle() {
            prop_assert!(received.is_empty() && received.refusals.is_empty(), "{:?}", received);
        }
    }

    /// KDS-35, KDS-36, KDS-37, KDS-38: what is packed is unpacked, whatever it is called and labelled.
    #[test]
    fn a_resource_crosses_unchanged(
        name in "[a-z0-9]([-a-z0-9.]{0,40}[a-z0-9])?",
        entries in proptest::collection::btree_map("[a-z./]{1,20}", "[ -~é]{0,20}", 0..5),
        kind in 0..KINDS.len(),
        content in 0..6u8,
    ) {
        let mut resource = resource(KINDS[kind], 0, content, true);
        let mesh = if resource.kind().info().scope == Scope::Mesh { "m" } else { "" };
        resource.meta.key = Key::new(resource.kind(), mesh, &name);
        resource.meta.labels = entries.iter().collect();
        let sent = wire::encode(&resource);
        prop_assert_eq!(wire::key_of(resource.kind(), &sent.name), resource.meta.key.clone());
        let packed = v3::Resource { name: sent.name.to_string(), resource: Some(sent.resource.clone()), ..Default::default() };
        let received = wire::decode(resource.kind(), &packed).map_err(|refused| TestCaseError::fail(refused.text()))?;
        prop_assert_eq!(&received, &resource);
        prop_assert_eq!(wire::encode(&received), sent);
    }
}
