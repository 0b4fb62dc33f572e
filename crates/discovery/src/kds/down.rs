//! What a zone shall hold of its global: a view of the global's moments (kds-wire 4.4).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use kds_proto::kuma::system::v1alpha1::{Secret, Zone};
use model::{Key, Kind, Meta, Payload, Resource, Snapshot, labels};

use super::Moment;
use super::rules::{Peer, goes_down};
use super::wire;
use crate::view::{Changes, Encoded, Interest, View};

/// Differences between two moments that are remembered: those that streams are about to ask for.
const REMEMBERED: usize = 32;

/// What all streams of a global share: a resource is encoded once for all zones, a step is compared once.
#[derive(Debug, Default)]
pub struct Shared {
    skipped: Vec<String>,
    off: BTreeSet<Kind>,
    encoded: Mutex<HashMap<(Key, bool), Sent>>,
    steps: Mutex<Vec<Step>>,
    encodings: AtomicU64,
}

/// What a resource was made to; none when it cannot be sent.
type Sent = (Arc<Resource>, Option<Encoded>);

/// What changed from one moment to another.
#[derive(Clone, Debug)]
struct Step {
    revisions: [u64; 4],
    keys: Arc<Differences>,
}

/// What may differ between two moments, by kind.
type Differences = BTreeMap<Kind, Vec<Difference>>;

/// A resource that may have come, changed or gone.
#[derive(Debug)]
struct Difference {
    key: Key,
    /// What was sent of it before, with its own name and with the hashed one: looked up once for all zones.
    before: [OnceLock<Before>; 2],
}

/// What was sent of a resource.
#[derive(Debug)]
struct Before {
    name: String,
    /// None when it could not be sent.
    version: Option<Arc<str>>,
}

impl Difference {
    fn of(key: Key) -> Self {
        Self { key, before: [OnceLock::new(), OnceLock::new()] }
    }
}

/// What one zone shall hold.
#[derive(Debug)]
pub struct Down {
    peer: Peer,
    shared: Arc<Shared>,
}

impl Shared {
    /// Nothing encoded yet. Labels whose keys begin with one of the prefixes are not sent (`labels.skipPrefixes`); kinds
    /// that are switched off are as if nobody knew them (kds-wire 4.1).
    pub fn new(skipped: Vec<String>, off: BTreeSet<Kind>) -> Arc<Self> {
        Arc::new(Self { skipped, off, ..Self::default() })
    }

    /// The resource as it is sent, from the first time on the same bytes. One that is no longer current is forgotten with
    /// the next of its key.
    fn encoded(&self, resource: &Arc<Resource>, hash: bool) -> Option<Encoded> {
        let place = (resource.meta.key.clone(), hash);
        if let Some((of, encoded)) = lock(&self.encoded).get(&place)
            && Arc::ptr_eq(of, resource)
        {
            return encoded.clone();
        }
        let encoded = self.encode(resource, hash);
        lock(&self.encoded).insert(place, (Arc::clone(resource), encoded.clone()));
        encoded
    }

    fn encode(&self, resource: &Resource, hash: bool) -> Option<Encoded> {
        self.encodings.fetch_add(1, Ordering::Relaxed);
        encode(resource, hash, &self.skipped)
    }

    /// How many resources were encoded so far: a change costs two, the new and the old, however many zones there are.
    pub fn encodings(&self) -> u64 {
        self.encodings.load(Ordering::Relaxed)
    }

    /// What was sent of a resource that is no longer current.
    fn before<'a>(&self, difference: &'a Difference, was: &Resource, hash: bool) -> &'a Before {
        difference.before[usize::from(hash)].get_or_init(|| Before {
            name: name(was, hash, &self.skipped),
            version: self.encode(was, hash).map(|encoded| encoded.version),
        })
    }

    fn forget(&self, key: &Key) {
        let mut encoded = lock(&self.encoded);
        for hash in [true, false] {
            encoded.remove(&(key.clone(), hash));
        }
    }

    /// Forgets what is not current, when that is the larger part: what went while nobody listened is in no step.
    fn prune(&self, now: &Moment) {
        let mut encoded = lock(&self.encoded);
        if encoded.len() > 2 * (now.configuration.len() + now.insights.len()) {
            encoded.retain(|(key, _), (of, _)| now.of(key.kind).get(key).is_some_and(|is| Arc::ptr_eq(is, of)));
        }
    }

    /// Keys that changed, by kind; for what crosses zones also those of a zone that was enabled or disabled.
    fn step(&self, from: &Moment, to: &Moment) -> Arc<Differences> {
        let revisions = [from, to].map(|moment| [moment.configuration.revision(), moment.insights.revision()]);
        let revisions = [revisions[0][0], revisions[0][1], revisions[1][0], revisions[1][1]];
        if let Some(step) = lock(&self.steps).iter().find(|step| step.revisions == revisions) {
            return Arc::clone(&step.keys);
        }
        let mut keys: BTreeMap<Kind, BTreeSet<Key>> = BTreeMap::new();
        let differing = to.configuration.diff(&from.configuration).into_iter().chain(to.insights.diff(&from.insights));
        for key in differing {
            if key.kind == Kind::Zone && enabled(&from.configuration, &key) != enabled(&to.configuration, &key) {
                for crossing in crossing(&from.configuration, &key.name).chain(crossing(&to.configuration, &key.name)) {
                    keys.entry(crossing.kind).or_default().insert(crossing);
                }
            }
            if to.of(key.kind).get(&key).is_none() {
                self.forget(&key);
            }
            keys.entry(key.kind).or_default().insert(key);
        }
        let differences = |keys: BTreeSet<Key>| keys.into_iter().map(Difference::of).collect();
        let keys: Arc<Differences> = Arc::new(keys.into_iter().map(|(kind, keys)| (kind, differences(keys))).collect());
        let mut steps = lock(&self.steps);
        if steps.len() >= REMEMBERED {
            steps.remove(0);
        }
        steps.push(Step { revisions, keys: Arc::clone(&keys) });
        keys
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether what zones hold of a kind may differ: an answer at no cost for most kinds and most changes.
fn may_differ(kind: Kind, from: &Moment, to: &Moment) -> bool {
    let changed = |kind| to.of(kind).changed_at(kind) > from.of(kind).revision();
    changed(kind) || (kind.info().sync.across_zones() && changed(Kind::Zone))
}

fn enabled(snapshot: &Snapshot, zone: &Key) -> Option<bool> {
    snapshot.get(zone)?.spec.message::<Zone>().ok()?.enabled
}

/// What may cross from a zone to the others.
fn crossing<'a>(snapshot: &'a Snapshot, zone: &'a str) -> impl Iterator<Item = Key> + 'a {
    let kinds = Kind::ALL.iter().copied().filter(|kind| kind.info().sync.across_zones());
    kinds.flat_map(move |kind| snapshot.labelled(kind, labels::ZONE, zone)).map(|resource| resource.meta.key.clone())
}

const PRIVATE_ZONE_KEY: &str = "zone-token-signing-key";
const PUBLIC_ZONE_KEY: &str = "zone-token-signing-public-key";

/// A resource as it goes to a zone that hashes names, or to an older one; `None` when it cannot be sent, which is logged.
fn encode(resource: &Resource, hash: bool, skipped: &[String]) -> Option<Encoded> {
    let labels = resource.meta.labels.with(labels::ORIGIN, labels::ORIGIN_GLOBAL);
    let labels = wire::without_prefixes(labels, skipped);
    let mut sent = Resource { meta: Meta { labels, ..resource.meta.clone() }, ..resource.clone() };
    // A zone has its own status, whatever the global knows (KDS-52).
    sent.status = resource.kind().info().status.map(|zero| Payload::from_bytes(zero.as_bytes()));
    if is_zone_key(resource) {
        sent = public_half(sent)?;
    }
    if hash && !resource.kind().info().plain_name {
        wire::hashed(&mut sent);
    }
    Some(wire::encode(&sent))
}

/// The name on the wire of what [`encode`] makes.
fn name(resource: &Resource, hash: bool, skipped: &[String]) -> String {
    let Key { kind, mesh, name } = &resource.meta.key;
    let wire_name = match name.strip_prefix(PRIVATE_ZONE_KEY).filter(|_| is_zone_key(resource)) {
        Some(serial) => format!("{PUBLIC_ZONE_KEY}{serial}"),
        None if hash && !kind.info().plain_name => {
            let labels = wire::without_prefixes(resource.meta.labels.clone(), skipped);
            model::name::hashed(&Meta { labels, ..resource.meta.clone() })
        }
        None => name.to_string(),
    };
    wire::name_of(&Key::new(*kind, mesh, &wire_name))
}

fn is_zone_key(resource: &Resource) -> bool {
    resource.kind() == Kind::GlobalSecret && resource.meta.key.name.starts_with(PRIVATE_ZONE_KEY)
}

/// The key of zone tokens without what it signs with (KDS-51); one that cannot be read is not sent.
fn public_half(secret: Resource) -> Option<Resource> {
    let public = || -> Result<Vec<u8>, String> {
        let data = secret.spec.message::<Secret>().map_err(|error| error.to_string())?.data.clone().unwrap_or_default();
        let block = pem::parse(&data).map_err(|error| error.to_string())?;
        let pair = match block.tag() {
            "PRIVATE KEY" => KeyPair::from_pkcs8(block.contents()),
            _ => KeyPair::from_der(block.contents()),
        };
        Ok(pair.map_err(|error| error.to_string())?.public_key().as_ref().to_vec())
    };
    let unreadable =
        |error: &String| tracing::error!(secret = %secret.meta.key, error, "a signing key is unreadable and not sent");
    let block = pem::Pem::new("RSA PUBLIC KEY", public().inspect_err(unreadable).ok()?);
    let text = pem::encode_config(&block, pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF));
    let renamed = secret.meta.key.name.replacen(PRIVATE_ZONE_KEY, PUBLIC_ZONE_KEY, 1);
    let spec = Payload::from_message(&Secret { data: Some(text.into_bytes()) });
    Some(Resource { meta: model::name::renamed(&secret.meta, &renamed), spec, status: None })
}

impl Down {
    /// The view of a zone.
    pub fn new(peer: Peer, shared: Arc<Shared>) -> Self {
        Self { peer, shared }
    }

    fn hash(&self) -> bool {
        self.peer.features.hash_suffix
    }

    /// The resource as the zone shall hold it at a moment, if it shall.
    fn held(&self, resource: Option<&Arc<Resource>>, at: &Moment) -> Option<Encoded> {
        let resource = resource.filter(|resource| goes_down(resource, &self.peer, &at.configuration))?;
        self.shared.encoded(resource, self.hash())
    }

    fn whole(&self, kind: Kind, to: &Moment) -> Changes {
        self.shared.prune(to);
        let put = to.of(kind).list(kind).filter_map(|resource| self.held(Some(resource), to)).collect();
        Changes { put, removed: Vec::new() }
    }

    fn since(&self, kind: Kind, from: &Moment, to: &Moment) -> Changes {
        let mut changes = Changes::default();
        if !may_differ(kind, from, to) {
            return changes;
        }
        let step = self.shared.step(from, to);
        for difference in step.get(&kind).into_iter().flatten() {
            let key = &difference.key;
            let before = from.of(kind).get(key);
            let was_held = before.filter(|resource| goes_down(resource, &self.peer, &from.configuration));
            let is = self.held(to.of(kind).get(key), to);
            match (was_held, is) {
                (None, None) => {}
                (None, Some(is)) => changes.put.push(is),
                (Some(was), None) => changes.removed.push(self.name(was)),
                (Some(was), Some(is)) => {
                    // What did not change by the way, the status say, is no change to the zone.
                    let sent = self.shared.before(difference, was, self.hash());
                    if sent.version.as_ref() != Some(&is.version) {
                        if *sent.name != *is.name {
                            changes.removed.push(sent.name.clone());
                        }
                        changes.put.push(is);
                    }
                }
            }
        }
        changes
    }

    fn name(&self, resource: &Resource) -> String {
        name(resource, self.hash(), &self.shared.skipped)
    }
}

/// Whether a change of this kind may be news to a zone: what is sent, and whether zones are enabled.
pub fn matters(kind: Kind) -> bool {
    kind == Kind::Zone || kind.info().sync.global_to_zone()
}

impl View for Down {
    type Moment = Moment;

    fn changes(&self, type_url: &str, interest: &Interest, from: Option<&Moment>, to: &Moment) -> Changes {
        let goes = |kind: &Kind| kind.info().sync.global_to_zone() && !self.shared.off.contains(kind);
        let Some(kind) = type_url.parse::<Kind>().ok().filter(goes) else { return Changes::default() };
        let mut changes = match from {
            None => self.whole(kind, to),
            Some(from) => self.since(kind, from, to),
        };
        if let Interest::Names(names) = interest {
            changes.put.retain(|encoded| names.contains(&*encoded.name));
            changes.removed.retain(|name| names.contains(name));
        }
        changes
    }

    fn made(&self, moment: &Moment) -> Option<Duration> {
        Some(moment.made)
    }
}

#[cfg(test)]
mod tests {
    use kds_proto::envoy::service::discovery::v3::Resource as Wire;
    use model::{Change, Labels};
    use serde_json::{Value, json};

    use super::super::node::Features;
    use super::*;

    fn resource(kind: Kind, name: &str, spec: Value, pairs: &[(&str, &str)]) -> Resource {
        let spec = (kind.info().codec.from_json)(spec).unwrap();
        Resource::new(Key::new(kind, "default", name), pairs.iter().copied().collect(), Payload::from_bytes(spec))
    }

    fn put(kind: Kind, name: &str, spec: Value, pairs: &[(&str, &str)]) -> Change {
        Change::Put(Arc::new(resource(kind, name, spec, pairs)))
    }

    fn moment(configuration: Snapshot) -> Moment {
        Moment { configuration: Arc::new(configuration), insights: Arc::new(Snapshot::empty()), made: Duration::ZERO }
    }

    fn next(before: &Moment, revision: u64, changes: Vec<Change>) -> Moment {
        Moment { configuration: Arc::new(before.configuration.apply(revision, changes)), ..before.clone() }
    }

    fn view(zone: &str, shared: &Arc<Shared>) -> Down {
        Down::new(Peer { zone: zone.into(), features: Features::ALL }, Arc::clone(shared))
    }

    fn told(view: &Down, kind: Kind, from: Option<&Moment>, to: &Moment) -> (Vec<String>, Vec<String>) {
        let changes = view.changes(kind.name(), &Interest::All, from, to);
        (changes.put.into_iter().map(|encoded| encoded.name.to_string()).collect(), changes.removed)
    }

    const OF_EAST: &[(&str, &str)] = &[("kuma.io/origin", "zone"), ("kuma.io/zone", "east")];

    /// kds-wire 4.1.
    #[test]
    fn a_kind_that_is_switched_off_is_empty() {
        let first = moment(Snapshot::empty().apply(1, [put(Kind::Mesh, "a", json!({}), &[])]));
        let second = next(&first, 2, vec![put(Kind::MeshTimeout, "t", json!({}), &[])]);
        let off = view("east", &Shared::new(Vec::new(), [Kind::MeshTimeout].into()));
        assert_eq!(told(&off, Kind::MeshTimeout, Some(&first), &second), (vec![], vec![]));
        assert_eq!(told(&off, Kind::MeshTimeout, None, &second), (vec![], vec![]));
        assert_eq!(told(&off, Kind::Mesh, None, &second).0, ["a."]);
        let asked: Vec<Kind> = super::super::rules::down_kinds(&[Kind::MeshTimeout].into()).collect();
        assert!(asked.len() == 42 && !asked.contains(&Kind::MeshTimeout));
    }

    #[test]
    fn differences_are_what_a_zone_needs() {
        let shared = Shared::new(Vec::new(), BTreeSet::new());
        let east = view("east", &shared);
        let first = moment(Snapshot::empty().apply(1, [put(Kind::Mesh, "a", json!({}), &[])]));
        assert_eq!(told(&east, Kind::Mesh, None, &first), (vec!["a.".into()], vec![]));
        assert_eq!(told(&east, Kind::Dataplane, None, &first), (vec![], vec![]));
        assert_eq!(east.changes("Bogus", &Interest::All, None, &first).put, []);

        let mesh = put(Kind::Mesh, "b", json!({}), &[]);
        let kept = put(Kind::Mesh, "a", json!({}), &[("kuma.io/kds-sync", "disabled")]);
        let second = next(&first, 2, vec![mesh, kept]);
        assert_eq!(told(&east, Kind::Mesh, Some(&first), &second), (vec!["b.".into()], vec!["a.".into()]));
        let third = next(&second, 3, vec![Change::Remove(Key::global(Kind::Mesh, "b"))]);
        assert_eq!(told(&east, Kind::Mesh, Some(&second), &third), (vec![], vec!["b.".into()]));
        assert_eq!(told(&east, Kind::Mesh, Some(&first), &third), (vec![], vec!["a.".into()]));
    }

    /// KDS-52: a status is no change for those who keep their own.
    #[test]
    fn a_status_is_not_told() {
        let shared = Shared::new(Vec::new(), BTreeSet::new());
        let west = view("west", &shared);
        let service = resource(Kind::MeshService, "web", json!({}), OF_EAST);
        let put = |service: Resource| vec![Change::Put(Arc::new(service))];
        let first = moment(Snapshot::empty().apply(1, put(service.clone())));
        let status = Some(Payload::from_bytes(r#"{"vips":[{"ip":"241.0.0.1"}]}"#));
        let second = next(&first, 2, put(Resource { status, ..service.clone() }));
        assert_eq!(told(&west, Kind::MeshService, Some(&first), &second), (vec![], vec![]));
        let spec = Payload::from_bytes(r#"{"ports":[]}"#);
        let third = next(&second, 3, put(Resource { spec, ..service }));
        assert_eq!(told(&west, Kind::MeshService, Some(&first), &third).0.len(), 1);
    }

    /// KDS-21: what is of a disabled zone is removed from the others, and comes back.
    #[test]
    fn a_zone_that_is_disabled_takes_its_services_along() {
        let shared = Shared::new(Vec::new(), BTreeSet::new());
        let (west, east) = (view("west", &shared), view("east", &shared));
        let zone = |enabled: bool| put(Kind::Zone, "east", json!({"enabled": enabled}), &[]);
        let service = put(Kind::MeshService, "web", json!({}), OF_EAST);
        let ingress = put(Kind::ZoneIngress, "in", json!({"zone": "east"}), OF_EAST);
        let on = moment(Snapshot::empty().apply(1, [zone(true), service, ingress]));
        let off = next(&on, 2, vec![zone(false)]);
        for kind in [Kind::MeshService, Kind::ZoneIngress] {
            let (put, removed) = told(&west, kind, Some(&on), &off);
            assert_eq!((put.len(), removed.len()), (0, 1), "{kind}");
            let again = next(&off, 3, vec![zone(true)]);
            assert_eq!(told(&west, kind, Some(&off), &again), (removed, vec![]));
            assert_eq!(told(&east, kind, Some(&on), &off), (vec![], vec![]));
        }
    }

    fn sent(resource: &Resource) -> Encoded {
        encode(resource, true, &[]).unwrap()
    }

    /// KDS-44: the vectors of appendix A.
    #[test]
    fn bytes_and_versions_are_those_of_the_reference() {
        let mesh = Resource::new(Key::global(Kind::Mesh, "default"), Labels::default(), Payload::default());
        assert_eq!(&*sent(&mesh).name, "default.");
        assert_eq!(&*sent(&mesh).version, "ee3ed1993ca3721e6609c0fb78bb711a00f96c808af6675986293d420dc0d6d1");
        let spec = r#"{"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionTimeout":"2s","idleTimeout":"20s","http":{"requestTimeout":"2s"}}}]}"#;
        let key = Key::new(Kind::MeshTimeout, "default", "default-timeout-global");
        let timeout = Resource::new(key, Labels::default(), Payload::from_bytes(spec));
        assert_eq!(&*sent(&timeout).name, "default-timeout-global-54dbd4c66zwbcf9c.default");
        assert_eq!(*sent(&timeout).name, *name(&timeout, true, &[]));
        assert_eq!(&*sent(&timeout).version, "c00d4c125139cddada7963f76c968da6e70941f7b616cb48ea0f6a385c34f8b8");
    }

    fn received(kind: Kind, sent: &Encoded) -> Resource {
        let wire = Wire { name: sent.name.to_string(), resource: Some(sent.resource.clone()), ..Wire::default() };
        wire::decode(kind, &wire).unwrap()
    }

    /// KDS-48: what comes from a zone keeps the name that the global stores it under.
    #[test]
    fn a_service_has_one_name_outside_its_zone() {
        let pairs = [("kuma.io/display-name", "redis-zone-1"), ("kuma.io/origin", "zone"), ("kuma.io/zone", "zone-1")];
        let service = resource(Kind::MeshService, "redis-zone-1-2v6wfvvcvbc9f55d", json!({}), &pairs);
        let received = received(Kind::MeshService, &sent(&service));
        assert_eq!(received.meta.key, service.meta.key);
        assert_eq!(received.meta.labels, service.meta.labels.with(labels::ORIGIN, "global"));
    }

    /// KDS-51.
    #[test]
    fn of_the_key_of_zone_tokens_zones_get_the_public_half() {
        let pair = KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let pkcs8 = aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
        let private = pem::encode(&pem::Pem::new("PRIVATE KEY", pkcs8.as_ref()));
        let secret = |data: &str| {
            let key = Key::global(Kind::GlobalSecret, "zone-token-signing-key-1");
            let data = Secret { data: Some(data.as_bytes().to_vec()) };
            Resource::new(key, Labels::default(), Payload::from_message(&data))
        };
        let sent = sent(&secret(&private));
        assert_eq!(&*sent.name, "zone-token-signing-public-key-1.");
        assert_eq!(*sent.name, *name(&secret(&private), true, &[]));
        let received = received(Kind::GlobalSecret, &sent);
        let data = received.spec.message::<Secret>().unwrap().data.clone().unwrap();
        let block = pem::parse(&data).unwrap();
        assert_eq!((block.tag(), block.contents()), ("RSA PUBLIC KEY", pair.public_key().as_ref()));
        assert_eq!(received.meta.display_name(), "zone-token-signing-key-1");
        assert_eq!(encode(&secret("no key"), true, &[]), None);
    }

    #[test]
    fn labels_can_be_left_out_by_prefix() {
        let mesh = resource(Kind::Mesh, "default", json!({}), &[("secret.io/a", "1"), ("team", "a")]);
        let received = received(Kind::Mesh, &encode(&mesh, true, &["secret.io/".into()]).unwrap());
        assert_eq!(received.meta.labels.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["kuma.io/origin", "team"]);
    }

    #[test]
    fn zones_share_the_bytes() {
        let shared = Shared::new(Vec::new(), BTreeSet::new());
        let at = moment(Snapshot::empty().apply(1, [put(Kind::Mesh, "a", json!({}), &[])]));
        let bytes = |zone: &str| {
            let changes = view(zone, &shared).changes("Mesh", &Interest::All, None, &at);
            changes.put[0].resource.value.as_ptr()
        };
        assert_eq!(bytes("east"), bytes("west"));
        let gone = next(&at, 2, vec![Change::Remove(Key::global(Kind::Mesh, "a"))]);
        view("east", &shared).changes("Mesh", &Interest::All, Some(&at), &gone);
        assert!(lock(&shared.encoded).is_empty());
    }

    #[test]
    fn what_went_while_nobody_listened_is_forgotten() {
        let shared = Shared::new(Vec::new(), BTreeSet::new());
        let mesh = |name: &str| put(Kind::Mesh, name, json!({}), &[]);
        let before = moment(Snapshot::empty().apply(1, ["a", "b", "c"].map(mesh)));
        told(&view("east", &shared), Kind::Mesh, None, &before);
        let gone = ["a", "b"].map(|name| Change::Remove(Key::global(Kind::Mesh, name)));
        let now = next(&before, 2, gone.into());
        assert_eq!(told(&view("east", &shared), Kind::Mesh, None, &now).0, ["c."]);
        assert_eq!(lock(&shared.encoded).len(), 1);
    }

    /// A change of one ingress costs the same whether one zone hears of it or many.
    #[test]
    fn a_change_is_encoded_once_for_all_zones() {
        let ingress = |zone: usize, port: u32| {
            let zone = format!("zone-{zone}");
            let pairs = [("kuma.io/origin", "zone"), ("kuma.io/zone", &*zone)];
            let spec = json!({"zone": zone, "networking": {"address": "10.0.0.1", "port": port}});
            put(Kind::ZoneIngress, &format!("ingress-{zone}"), spec, &pairs)
        };
        let shared = Shared::new(Vec::new(), BTreeSet::new());
        let zones: Vec<Down> = (0..50).map(|zone| view(&format!("zone-{zone}"), &shared)).collect();
        let first = moment(Snapshot::empty().apply(1, (0..50).map(|zone| ingress(zone, 10001))));
        for zone in &zones {
            assert_eq!(told(zone, Kind::ZoneIngress, None, &first).0.len(), 49);
        }
        assert_eq!(shared.encodings(), 50);
        let second = next(&first, 2, vec![ingress(7, 10002)]);
        let heard = zones.iter().map(|zone| told(zone, Kind::ZoneIngress, Some(&first), &second).0.len());
        assert_eq!(heard.sum::<usize>(), 49);
        assert_eq!(shared.encodings(), 52);
        // Of what did not change nothing is looked at.
        assert_eq!(told(&zones[0], Kind::MeshTimeout, Some(&first), &second), (vec![], vec![]));
        assert_eq!(shared.encodings(), 52);
    }
}
