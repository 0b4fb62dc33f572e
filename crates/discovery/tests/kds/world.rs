//! A global without sockets and without a store: a moment, and what each zone is told of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use discovery::kds::Moment;
use discovery::kds::down::Shared;
use discovery::kds::receive::{Received, Taker, receive};
use discovery::kds::wire;
use discovery::subscriber::Update;
use kds_proto::envoy::service::discovery::v3;
use kds_proto::kuma::system::v1alpha1::{Secret, Zone};
use model::kind::Access;
use model::{Change, Key, Kind, Labels, Payload, Resource, Snapshot, labels};

pub struct World {
    pub now: Moment,
    pub shared: Arc<Shared>,
    revision: u64,
    /// What the global made itself, by kind and name on the wire.
    own: BTreeMap<(Kind, String), Key>,
    /// Zones whose words were recorded: what they have follows from these.
    heard: BTreeSet<String>,
}

/// A key of zone tokens that zones cannot tell from the recorded one, whose private half nobody recorded.
static ZONE_KEY: LazyLock<String> = LazyLock::new(|| {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    pem::encode(&pem::Pem::new("PRIVATE KEY", der.as_ref()))
});
pub const PUBLIC_ZONE_KEY: &str = "zone-token-signing-public-key-1.";
const PRIVATE_ZONE_KEY: &str = "zone-token-signing-key-1";

impl World {
    pub fn new() -> Self {
        let empty = Arc::new(Snapshot::empty());
        let now = Moment { configuration: Arc::clone(&empty), insights: empty, made: Duration::ZERO };
        Self {
            now,
            shared: Shared::new(Vec::new(), BTreeSet::new()),
            revision: 0,
            own: BTreeMap::new(),
            heard: BTreeSet::new(),
        }
    }

    pub fn apply(&mut self, changes: Vec<Change>) {
        self.revision += 1;
        let is_insight = |change: &Change| {
            let kind = match change {
                Change::Put(resource) => resource.kind(),
                Change::Remove(key) => key.kind,
            };
            kind.info().access == Access::ControlPlanes
        };
        let (insights, configuration): (Vec<_>, Vec<_>) = changes.into_iter().partition(is_insight);
        if !insights.is_empty() {
            self.now.insights = Arc::new(self.now.insights.apply(self.revision, insights));
        }
        if !configuration.is_empty() {
            self.now.configuration = Arc::new(self.now.configuration.apply(self.revision, configuration));
        }
    }

    /// Creates the Zone of a peer, as its first stream does.
    pub fn join(&mut self, zone: &str) {
        if self.now.configuration.get(&Key::global(Kind::Zone, zone)).is_none() {
            self.enable(zone, true);
        }
    }

    /// From here on the words of a zone are played.
    pub fn hear(&mut self, zone: &str) {
        self.heard.insert(zone.to_owned());
    }

    /// What was said for a while was not recorded.
    pub fn overhear(&mut self) {
        self.heard.clear();
    }

    pub fn enable(&mut self, zone: &str, enabled: bool) {
        let spec = Payload::from_message(&Zone { enabled: Some(enabled) });
        let zone = Resource::new(Key::global(Kind::Zone, zone), Labels::default(), spec);
        self.apply(vec![Change::Put(Arc::new(zone))]);
    }

    /// Deletes a zone with everything that is its own.
    pub fn delete(&mut self, zone: &str) {
        let all = self.now.configuration.iter().chain(self.now.insights.iter());
        let its_own = all.filter(|resource| resource.meta.zone() == Some(zone));
        let mut gone: Vec<Change> = its_own.map(|resource| Change::Remove(resource.meta.key.clone())).collect();
        gone.push(Change::Remove(Key::global(Kind::Zone, zone)));
        self.apply(gone);
    }

    /// Makes of the global's own resources what a recorded response tells of them. What came from a zone that was heard is
    /// left alone: that has to follow from what the zone told.
    pub fn author(&mut self, kind: Kind, response: &v3::DeltaDiscoveryResponse, complete: bool) {
        let mut changes = Vec::new();
        let mut told = Vec::new();
        for sent in &response.resources {
            let resource = wire::decode(kind, sent).unwrap_or_else(|refused| panic!("{}", refused.text()));
            if resource.meta.zone().is_some_and(|zone| self.heard.contains(zone)) {
                continue;
            }
            let resource = as_stored(resource);
            if resource.meta.zone().is_none() {
                told.push(sent.name.clone());
                self.own.insert((kind, sent.name.clone()), resource.meta.key.clone());
            }
            let known = self.now.of(kind).get(&resource.meta.key);
            if known.is_none_or(|known| !known.same_content(&resource)) {
                changes.push(Change::Put(Arc::new(resource)));
            }
        }
        let own = self.own.keys().filter(|(of, _)| *of == kind).map(|(_, name)| name);
        let missing = own.filter(|name| complete && !told.contains(*name)).cloned();
        let gone: Vec<String> = missing.chain(response.removed_resources.iter().cloned()).collect();
        for name in gone {
            let of_unheard = self.of_unheard(wire::key_of(kind, &name));
            changes.extend(self.own.remove(&(kind, name)).or(of_unheard).map(Change::Remove));
        }
        if !changes.is_empty() {
            self.apply(changes);
        }
    }

    /// The key, if it is of a zone whose words were not recorded.
    fn of_unheard(&self, key: Key) -> Option<Key> {
        let known = self.now.of(key.kind).get(&key)?;
        known.meta.zone().is_some_and(|zone| !self.heard.contains(zone)).then_some(key)
    }

    /// Takes over what a zone tells.
    pub fn take(&mut self, zone: &str, update: &Update) -> Received {
        let kind: Kind = update.type_url.parse().unwrap();
        let taker = Taker::Global { zone, hashes_names: true };
        let received = receive(taker, kind, update, self.now.of(kind));
        if !received.is_empty() {
            self.apply(changes(&received));
        }
        received
    }
}

/// What a store makes of what was received.
pub fn changes(received: &Received) -> Vec<Change> {
    let puts = received.creates.iter().chain(&received.updates).map(|resource| {
        let mut stored = resource.clone();
        stored.meta.version += 1;
        Change::Put(Arc::new(stored))
    });
    puts.chain(received.removes.iter().map(|(key, _)| Change::Remove(key.clone()))).collect()
}

/// A resource as the global has it, by what is sent of it.
fn as_stored(mut resource: Resource) -> Resource {
    if resource.meta.zone().is_some() {
        resource.meta.labels = resource.meta.labels.with(labels::ORIGIN, labels::ORIGIN_ZONE);
        return resource;
    }
    let Key { kind, mesh, name } = resource.meta.key.clone();
    if name.starts_with(PUBLIC_ZONE_KEY.trim_end_matches('.')) {
        resource.spec = Payload::from_message(&Secret { data: Some(ZONE_KEY.as_bytes().to_vec()) });
        resource.meta.key = Key::global(kind, PRIVATE_ZONE_KEY);
    } else if !kind.info().plain_name {
        resource.meta.key = Key::new(kind, &mesh, resource.meta.display_name());
    }
    resource.meta.labels = resource.meta.labels.without(labels::ORIGIN).without(labels::DISPLAY_NAME);
    resource
}
