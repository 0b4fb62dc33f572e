//! Our global against the recorded messages of zones of Kuma: zones hold what they held, and get the answers they got.
//!
//! What the global's users wrote is not in the recordings. It is taken from what the global told of its own resources;
//! everything else, what crosses from zone to zone, what is answered, what goes with a zone, follows from what the zones
//! said. Kuma looks once a second, ours tells at once: so what a zone holds is compared, not how many responses it took.

use std::collections::{BTreeMap, BTreeSet};

use discovery::kds::Moment;
use discovery::kds::down::Down;
use discovery::kds::node::Features;
use discovery::kds::rules::{self, Peer};
use discovery::publisher::{Heard, Publisher};
use discovery::subscriber::Subscriber;
use kds_proto::envoy::config::core::v3::Node;
use kds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use model::Kind;

use crate::recording::{Event, Stream, events};
use crate::world::{PUBLIC_ZONE_KEY, World};

/// What a zone holds: version by name, by type.
type Held = BTreeMap<String, BTreeMap<String, String>>;

/// GlobalToZoneSync: what ours told and what was recorded.
struct Telling {
    view: Down,
    publisher: Publisher<Moment>,
    /// Nonce of our response that is not answered, by type.
    unanswered: BTreeMap<String, String>,
    ours: Held,
    recorded: Held,
    /// Name and version of everything that ours ever told.
    ever: BTreeSet<(String, String)>,
    /// Whether everything that it was told was recorded.
    whole: bool,
}

/// ZoneToGlobalSync: what ours would answer, by nonce.
struct Asking {
    subscriber: Subscriber,
    answers: BTreeMap<String, DeltaDiscoveryRequest>,
}

struct Replay {
    world: World,
    place: String,
    down: BTreeMap<Stream, Telling>,
    up: BTreeMap<Stream, Asking>,
    told: usize,
    answered: usize,
    /// What ours refused, whether the recorded global said so or hung up.
    refused: Vec<String>,
}

impl Replay {
    fn new() -> Self {
        Self {
            world: World::new(),
            place: String::new(),
            down: BTreeMap::new(),
            up: BTreeMap::new(),
            told: 0,
            answered: 0,
            refused: Vec::new(),
        }
    }

    fn play(&mut self, scenario: &str) {
        let events = events(scenario);
        for (at, event) in events.iter().enumerate() {
            match event {
                Event::Mark(mark) => self.mark(mark),
                Event::AsksDown(stream, request) => self.asks_down(stream, request, &events[at..]),
                Event::TellsDown(stream, response, false) => self.tells_down(stream, response),
                // The zone closes, as it cannot read it.
                Event::TellsDown(stream, _, true) => drop(self.down.remove(stream)),
                Event::TellsUp(stream, response) => self.tells_up(stream, response),
                Event::AsksUp(stream, request) => self.asks_up(stream, request),
                Event::Closed(connection) => self.closed(*connection),
            }
        }
        self.compare();
    }

    /// What was said for a while was not recorded.
    fn overhear(&mut self) {
        self.world.overhear();
        self.down.values_mut().for_each(|telling| telling.whole = false);
    }

    fn mark(&mut self, mark: &str) {
        mark.clone_into(&mut self.place);
        match mark {
            "06a-zone-disable" => self.world.enable("east", false),
            "06c-zone-enable" => self.world.enable("east", true),
            "07c-delete-zone-offline" => self.world.delete("east"),
            _ => return,
        }
        self.offer();
    }

    fn closed(&mut self, connection: u64) {
        self.down.retain(|stream, _| stream.connection != connection);
        self.up.retain(|stream, _| stream.connection != connection);
    }

    fn asks_down(&mut self, stream: &Stream, request: &DeltaDiscoveryRequest, ahead: &[Event]) {
        if request.response_nonce.is_empty() {
            self.world.join(&stream.zone);
            self.subscribes(stream, request, ahead);
            return;
        }
        let Some(telling) = self.down.get_mut(stream) else { return };
        // Ours may have told less often; then there is nothing to answer.
        let Some(nonce) = telling.unanswered.remove(&request.type_url) else { return };
        let answer = DeltaDiscoveryRequest { response_nonce: nonce, ..request.clone() };
        let (_, heard) = telling.publisher.heard(&answer).unwrap();
        let expected = match &request.error_detail {
            Some(detail) => Heard::Refused { message: detail.message.clone() },
            None => Heard::Acknowledged,
        };
        assert_eq!(heard, expected, "{}", self.place);
        self.offer();
    }

    /// KDS-29, KDS-31: the first response of each type is everything there is.
    fn subscribes(&mut self, stream: &Stream, request: &DeltaDiscoveryRequest, ahead: &[Event]) {
        let first = ahead.iter().find_map(|event| match event {
            Event::TellsDown(of, response, _) if of == stream && response.type_url == request.type_url => {
                Some(response)
            }
            _ => None,
        });
        let first = first.unwrap_or_else(|| panic!("{}: {} is never told", self.place, request.type_url));
        let kind: Kind = request.type_url.parse().unwrap();
        self.world.author(kind, first, true);
        self.offer();
        let telling = self.down.entry(stream.clone()).or_insert_with(|| {
            let peer = Peer { zone: (&*stream.zone).into(), features: Features::ALL };
            Telling {
                view: Down::new(peer, self.world.shared.clone()),
                publisher: Publisher::new("global"),
                unanswered: BTreeMap::new(),
                ours: Held::new(),
                recorded: Held::new(),
                ever: BTreeSet::new(),
                whole: true,
            }
        });
        assert_eq!(telling.publisher.heard(request).unwrap().1, Heard::Subscribed);
        telling.offer(&self.world.now);
        let ours = telling.ours.get(&request.type_url).expect("a first response");
        let names = |held: &BTreeMap<String, String>| held.keys().cloned().collect::<BTreeSet<_>>();
        let recorded: BTreeSet<String> = first.resources.iter().map(|resource| resource.name.clone()).collect();
        assert_eq!(names(ours), recorded, "{}: first of {} to {}", self.place, request.type_url, stream.zone);
    }

    fn tells_down(&mut self, stream: &Stream, response: &DeltaDiscoveryResponse) {
        let kind: Kind = response.type_url.parse().unwrap();
        self.world.author(kind, response, false);
        self.offer();
        let Some(telling) = self.down.get_mut(stream) else { return };
        telling.catch_up(&response.type_url, &self.world.now);
        let ours = telling.ours.get(&response.type_url).unwrap();
        take(&mut telling.recorded, response);
        for resource in &response.resources {
            let place = format!("{}: {} to {}", self.place, resource.name, stream.zone);
            let version = ours.get(&resource.name).unwrap_or_else(|| panic!("{place} is not told"));
            let told = telling.ever.contains(&(resource.name.clone(), resource.version.clone()));
            // Ours may be further already.
            assert!(told || resource.name == PUBLIC_ZONE_KEY, "{place}: told was {version}, not {}", resource.version);
        }
        for name in &response.removed_resources {
            assert!(!ours.contains_key(name), "{}: {name} is not removed from {}", self.place, stream.zone);
        }
        assert_eq!(response.control_plane.as_ref().unwrap().identifier, "global");
        self.told += 1;
    }

    fn tells_up(&mut self, stream: &Stream, response: &DeltaDiscoveryResponse) {
        let Some(asking) = self.up.get_mut(stream) else { return };
        let Ok(update) = asking.subscriber.received(response.clone()) else {
            assert!(response.type_url.parse::<Kind>().is_err(), "{}: {}", self.place, response.type_url);
            self.up.remove(stream);
            return;
        };
        let received = self.world.take(&stream.zone, &update);
        let answer = match received.message() {
            None => asking.subscriber.accepted(&update),
            Some(message) => {
                let answer = asking.subscriber.refused(&update, &message);
                self.refused.push(message);
                answer
            }
        };
        asking.answers.insert(response.nonce.clone(), answer);
        self.offer();
    }

    fn asks_up(&mut self, stream: &Stream, request: &DeltaDiscoveryRequest) {
        let asking = self.up.entry(stream.clone()).or_insert_with(|| {
            let node = Node { id: stream.zone.clone(), ..Node::default() };
            let (subscriber, requests) =
                Subscriber::subscribe(rules::up_kinds(&BTreeSet::new()).map(|kind| kind.info().name), &node);
            assert_eq!(requests.len(), 29);
            Asking { subscriber, answers: BTreeMap::new() }
        });
        if request.response_nonce.is_empty() {
            self.world.hear(&stream.zone);
            assert!(
                rules::up_kinds(&BTreeSet::new()).any(|kind| kind.info().name == request.type_url),
                "{}",
                request.type_url
            );
            return;
        }
        // KDS-33, KDS-34, KDS-40, KDS-42: the answer, with its words.
        let ours = asking.answers.remove(&request.response_nonce);
        assert_eq!(ours.as_ref(), Some(request), "{}: answer to {}", self.place, stream.zone);
        self.answered += 1;
    }

    fn offer(&mut self) {
        self.down.values_mut().for_each(|telling| telling.offer(&self.world.now));
    }

    /// At the end of a scenario zones hold what they held.
    fn compare(&self) {
        for (stream, telling) in self.down.iter().filter(|(_, telling)| telling.whole) {
            for (type_url, recorded) in &telling.recorded {
                let names = |held: &BTreeMap<String, String>| held.keys().cloned().collect::<BTreeSet<_>>();
                let ours = &telling.ours[type_url];
                assert_eq!(names(ours), names(recorded), "after {}: {type_url} in {}", self.place, stream.zone);
                let differing =
                    recorded.iter().find(|(name, version)| *name != PUBLIC_ZONE_KEY && ours[*name] != **version);
                assert_eq!(differing, None, "after {}: {type_url} in {}", self.place, stream.zone);
            }
        }
    }
}

impl Telling {
    fn offer(&mut self, now: &Moment) {
        for response in self.publisher.offer(&self.view, now) {
            take(&mut self.ours, &response);
            let versions = response.resources.iter().map(|resource| (resource.name.clone(), resource.version.clone()));
            self.ever.extend(versions);
            // KDS-32.
            let unanswered = self.unanswered.insert(response.type_url.clone(), response.nonce);
            assert_eq!(unanswered, None, "two responses for {}", response.type_url);
        }
    }

    /// Takes what is still held back because the recorded zone has not been told as often yet.
    fn catch_up(&mut self, type_url: &str, now: &Moment) {
        while let Some(response_nonce) = self.unanswered.remove(type_url) {
            let type_url = type_url.to_owned();
            let answer = DeltaDiscoveryRequest { type_url, response_nonce, ..DeltaDiscoveryRequest::default() };
            self.publisher.heard(&answer).unwrap();
            self.offer(now);
        }
    }
}

fn take(held: &mut Held, response: &DeltaDiscoveryResponse) {
    let of_type = held.entry(response.type_url.clone()).or_default();
    for name in &response.removed_resources {
        of_type.remove(name);
    }
    for resource in &response.resources {
        of_type.insert(resource.name.clone(), resource.version.clone());
    }
}

/// Plays scenarios of one installation one after the other, those that follow each other without a gap in one list.
fn play(scenarios: &[&[&str]]) -> Replay {
    let mut replay = Replay::new();
    for unbroken in scenarios {
        unbroken.iter().for_each(|scenario| replay.play(scenario));
        replay.overhear();
    }
    replay
}

/// KDS-21, KDS-25, KDS-39, KDS-44, KDS-47, KDS-48, KDS-53, KDS-54: two zones join, users write, proxies come and go, a zone is
/// disabled, deleted and restarted.
#[test]
fn zones_hold_what_they_held_from_the_first_to_the_last_scenario() {
    let first = [
        "01-first-connect",
        "02-second-zone-joins",
        "03-policy-lifecycle",
        "04-dataplane-lifecycle",
        "05-zone-origin-resources",
        "06-zone-disable-enable",
    ];
    let replay = play(&[&first, &["07-zone-delete", "08-zone-restart-memory"]]);
    // Every response and every answer that was recorded.
    assert_eq!((replay.told, replay.answered), (306, 147));
    assert_eq!(replay.refused, [""; 0]);
}

/// KDS-34, KDS-40, KDS-41, KDS-57: what is refused, on either side, and what cannot be read.
#[test]
fn what_is_refused_is_refused_in_the_recorded_words() {
    let refused = [
        "09-global-restart-memory",
        "10a-nack-zone-rejects-policy",
        "10b-nack-global-rejects",
        "10c-nack-name-conflict",
        "10d-zone-undecodable-json",
    ];
    let replay = play(&[&refused, &["10f-zone-unknown-type", "10g-zone-wrong-proto"]]);
    assert_eq!((replay.told, replay.answered), (178, 119));
    assert!(!replay.refused.is_empty());
}

/// KDS-39: a global that comes back without its state, or with it, is told everything again.
#[test]
fn a_global_is_restarted() {
    for scenario in ["09-global-graceful-restart", "09-global-restart-postgres"] {
        let replay = play(&[&[scenario]]);
        assert!(replay.told >= 86 && replay.answered == 58, "{scenario}: {} {}", replay.told, replay.answered);
    }
}

/// KDS-41: Kuma's global ends the stream when it cannot read a spec; ours refuses the resource by name.
#[test]
fn what_cannot_be_read_is_no_end() {
    let replay = play(&[&["10h-global-undecodable-proto"]]);
    assert!(replay.told > 40);
    let [refused] = &replay.refused[..] else { panic!("{:?}", replay.refused) };
    assert!(refused.contains("its spec cannot be read"), "{refused}");
}
