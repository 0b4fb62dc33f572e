//! Taking over what a peer tells: what is to be written, and what is refused (kds-wire 3.3, 3.9, 4.5, 4.6).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use model::{Key, Kind, Payload, Resource, Snapshot, labels};

use super::edit;
use super::wire::{self, Undecodable};
use crate::subscriber::Update;

/// The tag that tells where an inbound is.
const ZONE_TAG: &str = labels::ZONE;

/// Who takes an update.
#[derive(Clone, Copy, Debug)]
pub enum Taker<'a> {
    /// A zone, from its global.
    Zone,
    /// The global, from a zone, which is who its stream says it is, whatever its resources say.
    Global {
        /// Name of the zone.
        zone: &'a str,
        /// Whether the zone hashes names; one that does not gets its own name put before them.
        hashes_names: bool,
    },
}

/// What an update comes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Received {
    /// Resources that are not stored yet.
    pub creates: Vec<Resource>,
    /// New content of stored ones, with the version that was looked at.
    pub updates: Vec<Resource>,
    /// What goes, with the version that was looked at.
    pub removes: Vec<(Key, u64)>,
    /// What is not taken over.
    pub refusals: Vec<Refusal>,
}

/// A resource that is not taken over, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which.
    pub key: Key,
    /// Whether its name belongs to another here, which its author can mend.
    pub conflict: bool,
    /// Why.
    pub text: String,
}

impl Received {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.creates.is_empty() && self.updates.is_empty() && self.removes.is_empty()
    }

    /// What a refusal says to the peer, if anything is refused (KDS-57).
    pub fn message(&self) -> Option<String> {
        let conflicts = self.refusals.iter().filter(|refusal| refusal.conflict);
        let others = self.refusals.iter().filter(|refusal| !refusal.conflict);
        let heading = self.refusals.iter().any(|refusal| refusal.conflict).then_some("user error");
        let lines = conflicts.chain(others).map(|refusal| &*refusal.text);
        let lines: Vec<&str> = heading.into_iter().chain(lines).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

/// Compares an update with what is stored. `stored` is the snapshot that holds the kind.
pub fn receive(taker: Taker<'_>, kind: Kind, update: &Update, stored: &Snapshot) -> Received {
    let mut received = Received::default();
    let mut told = BTreeSet::new();
    for resource in &update.resources {
        let decoded = wire::decode(kind, resource).map(|resource| taker.attributed(resource));
        match decoded {
            Ok(resource) if told.contains(&resource.meta.key) => {
                // Of one that comes twice, the first counts; senders do not do that.
                tracing::debug!(resource = %resource.meta.key, "a resource came twice in one response");
            }
            Ok(resource) => {
                told.insert(resource.meta.key.clone());
                take(taker, resource, stored, &mut received);
            }
            Err(refused) => {
                let text = refused.text();
                let Undecodable { key, .. } = *refused;
                let key = taker.named(&key);
                // Left as it is, not deleted.
                told.insert(key.clone());
                received.refusals.push(Refusal { key, conflict: false, text });
            }
        }
    }
    received.removes = gone(taker, kind, update, stored, &told);
    received
}

fn take(taker: Taker<'_>, mut resource: Resource, stored: &Snapshot, received: &mut Received) {
    let Some(known) = stored.get(&resource.meta.key) else {
        if matches!(taker, Taker::Zone) {
            resource.status = resource.kind().info().status.map(|zero| Payload::from_bytes(zero.as_bytes()));
        }
        match taker.other_name(&resource) {
            Some(text) => received.refusals.push(Refusal { key: resource.meta.key, conflict: false, text }),
            None => received.creates.push(resource),
        }
        return;
    };
    if !taker.may_change(known) {
        let Key { kind, mesh, name } = resource.meta.key.clone();
        let text = format!("resource already exists: type={:?} name={name:?} mesh={mesh:?}", kind.name());
        received.refusals.push(Refusal { key: resource.meta.key, conflict: true, text });
        return;
    }
    if matches!(taker, Taker::Zone) {
        // A zone keeps what it found itself (KDS-52).
        resource.status.clone_from(&known.status);
    }
    if !resource.same_content(known) {
        resource.meta.version = known.meta.version;
        received.updates.push(resource);
    }
}

/// Of a first response what is missing, of a later one what it names.
fn gone(taker: Taker<'_>, kind: Kind, update: &Update, stored: &Snapshot, told: &BTreeSet<Key>) -> Vec<(Key, u64)> {
    let goes = |known: &&Arc<Resource>| taker.may_change(known) && !told.contains(&known.meta.key);
    let marked = |known: &Arc<Resource>| (known.meta.key.clone(), known.meta.version);
    if update.complete {
        return match taker {
            // Whatever a zone told has its label since it was taken; the others may be many.
            Taker::Global { zone, .. } => stored.labelled(kind, labels::ZONE, zone).filter(goes).map(marked).collect(),
            Taker::Zone => stored.list(kind).filter(goes).map(marked).collect(),
        };
    }
    let named = update.removed.iter().map(|name| taker.named(&wire::key_of(kind, name))).collect::<BTreeSet<_>>();
    named.iter().filter_map(|key| stored.get(key)).filter(goes).map(marked).collect()
}

impl Taker<'_> {
    /// Whether a stored resource is one that the peer tells of.
    fn may_change(&self, known: &Resource) -> bool {
        let labels = &known.meta.labels;
        match self {
            // Of what only a global makes, everything (KDS-56); of the rest what came from it (KDS-55).
            Self::Zone => {
                !known.kind().info().sync.provided_by_zone()
                    || labels.get(labels::ORIGIN) == Some(labels::ORIGIN_GLOBAL)
            }
            Self::Global { zone, .. } => {
                let prefixed = |name: &str| name.strip_prefix(zone).is_some_and(|rest| rest.starts_with('.'));
                labels.get(labels::ZONE) == Some(zone) || prefixed(&known.meta.key.name)
            }
        }
    }

    /// The key under which something is stored.
    fn named(&self, key: &Key) -> Key {
        match self {
            Self::Global { zone, hashes_names: false } => {
                Key::new(key.kind, &key.mesh, &format!("{zone}.{}", key.name))
            }
            _ => key.clone(),
        }
    }

    /// What is wrong with the name of a new resource: a zone that hashes names has only those that are hashed with its
    /// own, so that none can take the name that another zone is going to need (kds-wire 4.3).
    fn other_name(&self, resource: &Resource) -> Option<String> {
        let Self::Global { zone, hashes_names: true } = self else { return None };
        let (key, due) = (&resource.meta.key, model::name::hashed(&resource.meta));
        (*key.name != *due).then(|| {
            format!("{key} is not named as zone {zone:?} names it: by its mesh, labels and zone it would be {due:?}")
        })
    }

    /// As it is stored: what comes from a zone is the zone's (KDS-53).
    fn attributed(&self, mut resource: Resource) -> Resource {
        if let Self::Global { zone, .. } = self {
            resource.meta.key = self.named(&resource.meta.key);
            resource.meta.labels =
                resource.meta.labels.with(labels::ZONE, zone).with(labels::ORIGIN, labels::ORIGIN_ZONE);
            if let Some(spec) = attributed_spec(&resource, zone) {
                tracing::debug!(resource = %resource.meta.key, zone, "a zone tells of another zone's proxy as its own");
                resource.spec = spec;
            }
        }
        resource
    }
}

/// Numbers of the fields that tell of a zone.
mod field {
    pub const DATAPLANE_NETWORKING: u32 = 1;
    pub const NETWORKING_INBOUND: u32 = 1;
    pub const INBOUND_TAGS: u32 = 2;
    pub const NETWORKING_GATEWAY: u32 = 3;
    pub const GATEWAY_TAGS: u32 = 1;
    pub const INGRESS_ZONE: u32 = 1;
    pub const INGRESS_SERVICES: u32 = 3;
    pub const SERVICE_TAGS: u32 = 1;
    pub const EGRESS_ZONE: u32 = 1;
}

/// The spec with the zone in it, if another one or none stands there. A zone tag that is missing is not added.
fn attributed_spec(resource: &Resource, zone: &str) -> Option<Payload> {
    let spec = &resource.spec.bytes()[..];
    let pinned = match resource.kind() {
        Kind::ZoneIngress => edit::with_text(spec, field::INGRESS_ZONE, zone).and_then(|own| {
            edit::then(own, |spec| {
                edit::within(spec, field::INGRESS_SERVICES, |service| {
                    edit::with_entry(service, field::SERVICE_TAGS, ZONE_TAG, zone)
                })
            })
        }),
        Kind::ZoneEgress => edit::with_text(spec, field::EGRESS_ZONE, zone),
        Kind::Dataplane => edit::within(spec, field::DATAPLANE_NETWORKING, |networking| {
            let inbounds = edit::within(networking, field::NETWORKING_INBOUND, |inbound| {
                edit::with_entry(inbound, field::INBOUND_TAGS, ZONE_TAG, zone)
            })?;
            edit::then(inbounds, |networking| {
                edit::within(networking, field::NETWORKING_GATEWAY, |gateway| {
                    edit::with_entry(gateway, field::GATEWAY_TAGS, ZONE_TAG, zone)
                })
            })
        }),
        _ => return None,
    };
    // It has been read before: no error is left.
    match pinned {
        Ok(Cow::Owned(pinned)) => Some(Payload::from_bytes(pinned)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use kds_proto::envoy::service::discovery::v3;
    use kds_proto::kuma::mesh::v1alpha1::dataplane::Networking;
    use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::Inbound;
    use kds_proto::kuma::mesh::v1alpha1::{Dataplane, Mesh, ZoneIngress, zone_ingress};
    use kds_proto::kuma::system::v1alpha1::Secret;
    use model::snapshot::Change;
    use model::{Labels, Payload};
    use prost::Message as _;

    use super::*;

    const TIMEOUT: &str = r#"{"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionTimeout":"2s"}}]}"#;
    const OTHER: &str = r#"{"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionTimeout":"3s"}}]}"#;
    const FROM_EAST: Taker<'static> = Taker::Global { zone: "east", hashes_names: true };

    fn labelled(kind: Kind, name: &str, origin: Option<&str>, spec: &str) -> Resource {
        let labels: Labels = origin.into_iter().map(|origin| (labels::ORIGIN, origin)).collect();
        Resource::new(Key::new(kind, "default", name), labels, Payload::from_bytes(spec.to_owned()))
    }

    fn timeout(name: &str, origin: Option<&str>, spec: &str) -> Resource {
        labelled(Kind::MeshTimeout, name, origin, spec)
    }

    fn holding(resources: &[Resource]) -> Snapshot {
        let stored = resources.iter().map(|resource| {
            let mut resource = resource.clone();
            resource.meta.version = 7;
            Change::Put(Arc::new(resource))
        });
        Snapshot::empty().apply(1, stored)
    }

    fn update(kind: Kind, complete: bool, resources: &[Resource], removed: &[&str]) -> Update {
        let packed = |resource: &Resource| {
            let encoded = wire::encode(resource);
            v3::Resource { name: encoded.name.to_string(), resource: Some(encoded.resource), ..Default::default() }
        };
        let removed = removed.iter().map(|name| (*name).to_owned()).collect();
        Update::new(kind.name(), complete, resources.iter().map(packed).collect(), removed)
    }

    fn names<'r>(resources: impl IntoIterator<Item = &'r Resource>) -> Vec<&'r str> {
        resources.into_iter().map(|resource| &*resource.meta.key.name).collect()
    }

    fn removed(received: &Received) -> Vec<&str> {
        received
            .removes
            .iter()
            .map(|(key, version)| {
                assert_eq!(*version, 7);
                &*key.name
            })
            .collect()
    }

    /// KDS-39, KDS-55: the first response is everything, of what came from the global.
    #[test]
    fn a_zone_takes_a_first_response_for_everything_that_is_the_globals() {
        let global = Some("global");
        let stored = holding(&[
            timeout("same", global, TIMEOUT),
            timeout("changed", global, TIMEOUT),
            timeout("gone", global, TIMEOUT),
            timeout("own", Some("zone"), TIMEOUT),
            timeout("unlabelled", None, TIMEOUT),
        ]);
        let told =
            [timeout("same", global, TIMEOUT), timeout("changed", global, OTHER), timeout("new", global, TIMEOUT)];
        let received = receive(Taker::Zone, Kind::MeshTimeout, &update(Kind::MeshTimeout, true, &told, &[]), &stored);
        assert_eq!((names(&received.creates), names(&received.updates)), (vec!["new"], vec!["changed"]));
        assert_eq!(received.updates[0].meta.version, 7);
        assert_eq!(removed(&received), ["gone"]);
        assert_eq!(received.message(), None);
        // The same again changes nothing.
        let same = receive(
            Taker::Zone,
            Kind::MeshTimeout,
            &update(Kind::MeshTimeout, true, &told[..1], &[]),
            &holding(&told[..1]),
        );
        assert!(same.is_empty());
    }

    /// KDS-38: later ones say what is gone; what is in both lists is an update.
    #[test]
    fn later_responses_name_what_is_gone() {
        let global = Some("global");
        let stored = holding(&[
            timeout("a", global, TIMEOUT),
            timeout("b.c", global, TIMEOUT),
            timeout("kept", global, TIMEOUT),
            timeout("own", Some("zone"), TIMEOUT),
        ]);
        let told = [timeout("a", global, OTHER)];
        let removed_names = ["a.default", "b.c.default", "own.default", "nobody.default", "kept"];
        let update = update(Kind::MeshTimeout, false, &told, &removed_names);
        let received = receive(Taker::Zone, Kind::MeshTimeout, &update, &stored);
        assert_eq!(names(&received.updates), ["a"]);
        assert_eq!(removed(&received), ["b.c"], "what is the zone's own stays");
    }

    /// KDS-56: of kinds that only the global makes, everything is the global's.
    #[test]
    fn a_mesh_of_the_zone_is_taken_over_and_deleted() {
        let mesh = |name: &str, labels: Labels| {
            Resource::new(Key::global(Kind::Mesh, name), labels, Payload::from_message(&Mesh::default()))
        };
        let stored = holding(&[mesh("default", Labels::default()), mesh("other", Labels::default())]);
        let told = [mesh("default", [(labels::ORIGIN, "global")].into_iter().collect())];
        let received = receive(Taker::Zone, Kind::Mesh, &update(Kind::Mesh, true, &told, &[]), &stored);
        assert_eq!((names(&received.updates), removed(&received)), (vec!["default"], vec!["other"]));
    }

    /// KDS-57, KDS-40: a name that the zone gave away itself is refused, the others are taken.
    #[test]
    fn a_name_that_is_taken_is_refused_and_the_others_live() {
        let secret = |name: &str, origin: Option<&str>| {
            let data = Secret { data: Some(name.into()) };
            Resource { spec: Payload::from_message(&data), ..labelled(Kind::Secret, name, origin, "") }
        };
        let stored = holding(&[secret("conf", None)]);
        let told = [secret("conf", Some("global")), secret("free", Some("global"))];
        let received = receive(Taker::Zone, Kind::Secret, &update(Kind::Secret, true, &told, &[]), &stored);
        assert_eq!(names(&received.creates), ["free"]);
        assert!(received.updates.is_empty() && received.removes.is_empty());
        let text = "user error\nresource already exists: type=\"Secret\" name=\"conf\" mesh=\"default\"";
        assert_eq!(received.message().as_deref(), Some(text));
    }

    /// KDS-40: a bad resource is neither changed nor deleted, and refused in the words of its kind.
    #[test]
    fn a_bad_resource_stays_as_it_is() {
        let global = Some("global");
        let stored = holding(&[timeout("bad", global, TIMEOUT), timeout("torn", global, TIMEOUT)]);
        let bad = r#"{"to":[{"targetRef":{"kind":"Mesh"},"default":{}}]}"#;
        let told = [timeout("bad", global, bad), timeout("torn", global, "{"), timeout("good", global, TIMEOUT)];
        let received = receive(Taker::Zone, Kind::MeshTimeout, &update(Kind::MeshTimeout, true, &told, &[]), &stored);
        assert_eq!(names(&received.creates), ["good"]);
        assert!(received.updates.is_empty() && received.removes.is_empty());
        let message = received.message().unwrap();
        let mut lines = message.lines();
        assert_eq!(lines.next(), Some("spec.to[0].default: at least one timeout should be configured"));
        assert!(lines.next().unwrap().starts_with("MeshTimeout \"torn\" in mesh \"default\": its spec cannot be read"));
    }

    /// KDS-52: the zone's status stays, and is no difference.
    #[test]
    fn a_zone_keeps_the_status_that_it_found() {
        let service = |status: &str| {
            let mut service = labelled(
                Kind::MeshMultiZoneService,
                "s",
                Some("global"),
                r#"{"selector":{"meshService":{"matchLabels":{"a":"b"}}},"ports":[{"port":80}]}"#,
            );
            service.status = Some(Payload::from_bytes(status.to_owned()));
            service
        };
        let own = r#"{"meshServices":[{"name":"x"}]}"#;
        let told = update(Kind::MeshMultiZoneService, true, &[service("{}")], &[]);
        let known = receive(Taker::Zone, Kind::MeshMultiZoneService, &told, &holding(&[service(own)]));
        assert!(known.is_empty() && known.refusals.is_empty(), "{known:?}");
        let told = update(Kind::MeshMultiZoneService, true, &[service(own)], &[]);
        let new = receive(Taker::Zone, Kind::MeshMultiZoneService, &told, &Snapshot::empty());
        assert_eq!(new.creates[0].status.as_ref().unwrap().bytes().as_ref(), b"{}");
    }

    /// KDS-53, KDS-54: what a zone says of whose it is does not count, and other zones are out of its reach.
    #[test]
    fn the_global_takes_everything_of_a_stream_for_the_zones() {
        let of = |name: &str, zone: &str| {
            let mut own = timeout(name, Some("zone"), TIMEOUT);
            own.meta.labels = own.meta.labels.with(labels::ZONE, zone);
            own
        };
        let stored = holding(&[of("a", "east"), of("gone", "east"), of("east.old", "east"), of("b", "west")]);
        let mut made = of("new", "east");
        wire::hashed(&mut made);
        let mut liar = made.clone();
        liar.meta.labels = liar.meta.labels.with(labels::ORIGIN, "global").with(labels::ZONE, "west");
        let told = update(Kind::MeshTimeout, true, &[of("a", "east"), liar, of("b", "east")], &[]);
        let received = receive(FROM_EAST, Kind::MeshTimeout, &told, &stored);
        assert_eq!(received.creates, [made]);
        assert_eq!(removed(&received), ["east.old", "gone"]);
        assert_eq!(received.refusals[0].key.name.as_ref(), "b");
    }

    /// kds-wire 4.3: a free name that another zone is going to need is refused, and so is one that nobody hashed; of what
    /// is stored, an owner changes everything.
    #[test]
    fn a_zone_takes_no_name_of_another_zone() {
        let hashed = |zone: &str| {
            let mut own = timeout("redis", Some("zone"), TIMEOUT);
            own.meta.labels = own.meta.labels.with(labels::ZONE, zone);
            wire::hashed(&mut own);
            own
        };
        let told = [hashed("east"), hashed("west"), timeout("plain", Some("zone"), TIMEOUT)];
        let update = update(Kind::MeshTimeout, true, &told, &[]);
        let received = receive(FROM_EAST, Kind::MeshTimeout, &update, &Snapshot::empty());
        assert_eq!(received.creates, [hashed("east")]);
        let (due, taken) = (&hashed("east").meta.key.name, &hashed("west").meta.key);
        let text =
            format!("{taken} is not named as zone \"east\" names it: by its mesh, labels and zone it would be {due:?}");
        assert_eq!(received.message().unwrap().lines().next().unwrap(), text);
        assert_eq!(received.refusals.len(), 2);

        let mut known = timeout("plain", Some("zone"), OTHER);
        known.meta.labels = known.meta.labels.with(labels::ZONE, "east");
        let received = receive(FROM_EAST, Kind::MeshTimeout, &update, &holding(&[known]));
        assert_eq!(names(&received.updates), ["plain"]);
    }

    #[test]
    fn names_of_an_old_zone_get_its_name_before_them() {
        let taker = Taker::Global { zone: "east", hashes_names: false };
        let told = update(Kind::MeshTimeout, false, &[timeout("a", None, TIMEOUT)], &["b.default"]);
        let received = receive(taker, Kind::MeshTimeout, &told, &holding(&[timeout("east.b", None, TIMEOUT)]));
        assert_eq!((names(&received.creates), removed(&received)), (vec!["east.a"], vec!["east.b"]));
    }

    /// 9.3: what a later version adds stays in the spec of which the zone is changed.
    #[test]
    fn fields_of_a_later_version_are_handed_on() {
        const LATER: &[u8] = b"\xa2\x06\x05later";
        let inbound =
            Inbound { port: 80, tags: [(ZONE_TAG.to_owned(), "west".to_owned())].into(), ..Inbound::default() };
        let written = |message: &dyn Fn() -> Vec<u8>| [&message()[..], LATER].concat();
        let inbound = written(&|| inbound.encode_to_vec());
        let listeners = prost::encoding::bytes::encode;
        let mut networking = Networking { address: "10.0.0.2".into(), ..Default::default() }.encode_to_vec();
        listeners(1, &inbound, &mut networking);
        // Number 9 are the listeners of 2.14.
        listeners(9, &b"\x08\x01".to_vec(), &mut networking);
        let mut spec = Vec::new();
        listeners(1, &networking, &mut spec);
        spec.extend_from_slice(LATER);
        let key = Key::new(Kind::Dataplane, "default", "d");
        let resource = Resource::new(key, Labels::default(), Payload::from_bytes(spec.clone()));
        let stored = FROM_EAST.attributed(resource).spec;
        let expected = String::from_utf8_lossy(&spec).replace("west", "east");
        assert_eq!(String::from_utf8_lossy(stored.bytes()), expected);
    }

    /// KDS-53: the zone in a spec is the stream's.
    #[test]
    fn the_zone_in_a_spec_is_pinned() {
        let tags = |zone: &str| [(ZONE_TAG.to_owned(), zone.to_owned())].into_iter().collect();
        let ingress = ZoneIngress {
            zone: "west".into(),
            available_services: vec![
                zone_ingress::AvailableService { tags: tags("west"), ..Default::default() },
                zone_ingress::AvailableService::default(),
            ],
            networking: Some(zone_ingress::Networking {
                address: "10.0.0.1".into(),
                port: 10001,
                ..Default::default()
            }),
        };
        let resource =
            Resource::new(Key::global(Kind::ZoneIngress, "i"), Labels::default(), Payload::from_message(&ingress));
        let stored = FROM_EAST.attributed(resource).spec.message::<ZoneIngress>().unwrap();
        assert_eq!(stored.zone, "east");
        assert_eq!(stored.available_services[0].tags[ZONE_TAG], "east");
        assert!(stored.available_services[1].tags.is_empty(), "an absent tag is not added");

        let inbound = Inbound { port: 80, tags: tags("west"), ..Inbound::default() };
        let dataplane = Dataplane {
            networking: Some(Networking { address: "10.0.0.2".into(), inbound: vec![inbound], ..Default::default() }),
            ..Default::default()
        };
        let resource = Resource::new(
            Key::new(Kind::Dataplane, "default", "d"),
            Labels::default(),
            Payload::from_message(&dataplane),
        );
        let pinned = FROM_EAST.attributed(resource).spec.message::<Dataplane>().unwrap();
        assert_eq!(pinned.networking.as_ref().unwrap().inbound[0].tags[ZONE_TAG], "east");
    }
}
