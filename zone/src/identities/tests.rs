use std::time::Duration;

use identity::ca;
use identity::mesh_ca::certificates;
use kds_proto::kuma::mesh::v1alpha1::Dataplane;
use kds_proto::kuma::system::v1alpha1::Secret as Content;
use model::{Change, Labels, Payload};
use runtime::clock::ManualClock;
use serde_json::{Value, json};

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn resource(kind: Kind, mesh: &str, name: &str, content: Value) -> Arc<Resource> {
    let bytes = (kind.info().codec.from_json)(content).unwrap();
    Arc::new(Resource::new(Key::new(kind, mesh, name), Labels::default(), Payload::from_bytes(bytes)))
}

fn mesh(name: &str, enabled: &str, backends: &[&str], expiration: &str) -> Arc<Resource> {
    let backend = |backend: &&str| json!({"name": backend, "type": "builtin", "dpCert": {"rotation": {"expiration": expiration}}});
    let backends: Vec<Value> = backends.iter().map(backend).collect();
    resource(Kind::Mesh, "", name, json!({"mtls": {"enabledBackend": enabled, "backends": backends}}))
}

/// The secrets of the authorities of a mesh's backends.
fn authorities(snapshot: &Snapshot, mesh: &Arc<Resource>) -> Vec<Change> {
    let spec = mesh.spec.message::<Mesh>().unwrap();
    let backends = spec.mtls.iter().flat_map(|mtls| &mtls.backends);
    let missing = backends.flat_map(|b| ca::missing_secrets(&mesh.meta.key.name, b, snapshot, start()).unwrap());
    missing.map(|secret| Change::Put(Arc::new(secret))).collect()
}

fn web(tags: Value) -> Arc<Resource> {
    let networking = json!({"address": "10.0.0.1", "inbound": [{"port": 80, "tags": tags}]});
    resource(Kind::Dataplane, "default", "web-1", json!({ "networking": networking }))
}

fn plain() -> Arc<Resource> {
    web(json!({"kuma.io/service": "web", "kuma.io/zone": "east"}))
}

struct Fixture {
    time: ManualClock,
    identities: Identities,
    snapshot: Snapshot,
}

impl Fixture {
    /// A mesh with these backends, the first of them enabled.
    fn new(backends: &[&str], expiration: &str) -> Self {
        let time = ManualClock::at(start());
        let mut fixture = Self { identities: identities(&time), time, snapshot: Snapshot::empty() };
        fixture.put(mesh("default", backends[0], backends, expiration));
        fixture
    }

    fn put(&mut self, resource: Arc<Resource>) {
        let mut changes =
            if resource.kind() == Kind::Mesh { authorities(&self.snapshot, &resource) } else { Vec::new() };
        changes.push(Change::Put(resource));
        self.apply(changes);
    }

    fn apply(&mut self, changes: Vec<Change>) {
        self.snapshot = self.snapshot.apply(self.snapshot.revision() + 1, changes);
    }

    fn secrets(&self) -> Secrets {
        self.identities.secrets(&self.snapshot, &plain())
    }
}

fn identities(time: &ManualClock) -> Identities {
    Identities::new(Settings::default(), time.clock(), Metrics::default())
}

fn only(secrets: &Secrets) -> &[u8] {
    let [(mesh, identity)] = secrets.identities.as_slice() else { panic!("{secrets:?}") };
    assert_eq!(mesh, "default");
    &identity.certificate
}

fn uris(pem: &[u8]) -> Vec<String> {
    let chain = certificates(pem).unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    let uri = |name: &x509_parser::extensions::GeneralName<'_>| match name {
        x509_parser::extensions::GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    };
    names.value.general_names.iter().filter_map(uri).collect()
}

/// DP-18.
#[test]
fn a_proxy_keeps_its_certificate_until_its_tags_change() {
    let fixture = Fixture::new(&["ca-1"], "");
    let first = fixture.secrets();
    assert_eq!(uris(only(&first)), ["spiffe://default/web", "kuma://kuma.io/service/web", "kuma://kuma.io/zone/east"]);
    assert_eq!(certificates(&first.mesh_cas[0].1).unwrap().len(), 1);
    assert_eq!(only(&fixture.secrets()), only(&first));
    let changed = web(json!({"kuma.io/service": "web", "version": "2"}));
    let second = fixture.identities.secrets(&fixture.snapshot, &changed);
    assert_eq!(uris(only(&second)), ["spiffe://default/web", "kuma://kuma.io/service/web", "kuma://version/2"]);
    let told = fixture.identities.certificate(&plain().meta.key).unwrap();
    assert_eq!((&*told.backend, told.regenerations, told.expires), ("ca-1", 2, start() + DAY));
    assert_eq!(told.supported_backends, ["ca-1"]);
}

#[test]
fn switching_mtls_on_gives_certificates_and_off_takes_them() {
    let mut fixture = Fixture::new(&["ca-1"], "");
    fixture.put(resource(Kind::Mesh, "", "default", json!({})));
    let without = fixture.secrets();
    assert!(without.identities.is_empty() && without.mesh_cas.is_empty());
    fixture.put(mesh("default", "ca-1", &["ca-1"], ""));
    only(&fixture.secrets());
    fixture.put(resource(Kind::Mesh, "", "default", json!({})));
    assert!(fixture.secrets().identities.is_empty());
    assert_eq!(fixture.identities.certificate(&plain().meta.key), None);
}

/// DP-20: of its time, by the backend's setting.
#[test]
fn a_certificate_is_renewed_after_four_fifths_of_its_life() {
    let fixture = Fixture::new(&["ca-1"], "1m");
    let first = fixture.secrets();
    let key = plain().meta.key.clone();
    assert_eq!(fixture.identities.certificate(&key).unwrap().expires, start() + Duration::from_secs(60));
    fixture.time.advance(Duration::from_secs(47));
    assert_eq!(only(&fixture.secrets()), only(&first));
    fixture.time.advance(Duration::from_secs(1));
    assert_ne!(only(&fixture.secrets()), only(&first));
    assert_eq!(fixture.identities.certificate(&key).unwrap().expires, start() + Duration::from_secs(108));
}

#[tokio::test]
async fn proxies_are_told_when_it_is_time_and_again_when_it_was_in_vain() {
    let mut fixture = Fixture::new(&["ca-1"], "1m");
    let mut changed = fixture.identities.changed();
    let first = fixture.secrets();
    let told = |at: u64| fixture.identities.tell(start() + Duration::from_secs(at));
    assert_eq!(told(0), Some(start() + Duration::from_secs(48)));
    assert!(!changed.has_changed().unwrap());
    assert_eq!(told(48), Some(start() + Duration::from_secs(58)));
    assert!(changed.has_changed().unwrap());
    changed.mark_unchanged();
    told(57);
    assert!(!changed.has_changed().unwrap());
    told(58);
    assert!(changed.has_changed().unwrap());

    // The key is gone: the proxy keeps what it has, and it is told why.
    let secret = ca::key_secret("default", "ca-1");
    let kept = fixture.snapshot.get(&secret).unwrap().clone();
    fixture.apply(vec![Change::Remove(secret)]);
    fixture.time.advance(Duration::from_secs(58));
    assert_eq!(only(&fixture.secrets()), only(&first));
    let problem = fixture.identities.certificate(&plain().meta.key).unwrap().problem.unwrap();
    assert_eq!(
        problem,
        "mesh \"default\", backend \"ca-1\": cannot read the key from Secret \"default.ca-builtin-key-ca-1\" of mesh \
         \"default\": it is not there"
    );
    fixture.apply(vec![Change::Put(kept)]);
    assert_ne!(only(&fixture.secrets()), only(&first));
    assert_eq!(fixture.identities.certificate(&plain().meta.key).unwrap().problem, None);
}

#[tokio::test]
async fn the_watch_goes_by_the_clock() {
    let fixture = Fixture::new(&["ca-1"], "1m");
    let mut changed = fixture.identities.changed();
    let watch = tokio::spawn(fixture.identities.clone().renew());
    while fixture.time.sleepers() == 0 {
        tokio::task::yield_now().await;
    }
    only(&fixture.secrets());
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    fixture.time.advance(Duration::from_secs(48));
    tokio::time::timeout(Duration::from_secs(10), changed.changed()).await.unwrap().unwrap();
    watch.abort();
}

/// The way from one authority to another: both are trusted all the time, whichever issues.
#[test]
fn with_two_backends_both_are_trusted_and_one_issues() {
    let mut fixture = Fixture::new(&["ca-1"], "");
    let old = fixture.secrets();
    fixture.put(mesh("default", "ca-1", &["ca-1", "ca-2"], ""));
    let both = fixture.secrets();
    assert_eq!(certificates(&both.mesh_cas[0].1).unwrap().len(), 2);
    assert_eq!(only(&both), only(&old), "the issuer is the same");
    fixture.put(mesh("default", "ca-2", &["ca-1", "ca-2"], ""));
    let moved = fixture.secrets();
    assert_ne!(only(&moved), only(&old));
    assert_eq!(certificates(&moved.mesh_cas[0].1).unwrap().len(), 2);
    let told = fixture.identities.certificate(&plain().meta.key).unwrap();
    assert_eq!((&*told.backend, told.supported_backends.len()), ("ca-2", 2));
    fixture.put(mesh("default", "ca-2", &["ca-2"], ""));
    let done = fixture.secrets();
    assert_eq!(only(&done), only(&moved));
    assert_eq!(certificates(&done.mesh_cas[0].1).unwrap().len(), 1);
}

/// A key that does not fit its certificate: told, and nobody loses anything.
#[test]
fn a_key_of_another_pair_stops_nothing() {
    let mut fixture = Fixture::new(&["ca-1"], "");
    let first = fixture.secrets();
    fixture.put(mesh("other", "ca-1", &["ca-1"], ""));
    let foreign = fixture.snapshot.get(&ca::key_secret("other", "ca-1")).unwrap();
    let data = foreign.spec.message::<Content>().unwrap();
    let wrong = Resource::new(ca::key_secret("default", "ca-1"), Labels::default(), Payload::from_message(&*data));
    fixture.apply(vec![Change::Put(Arc::new(wrong))]);
    assert_eq!(only(&fixture.secrets()), only(&first));
    let problem = fixture.identities.certificate(&plain().meta.key).unwrap().problem.unwrap();
    assert!(
        problem.contains(
            "the key in Secret \"default.ca-builtin-key-ca-1\" of mesh \"default\" does not belong to the certificate"
        ),
        "{problem}"
    );
}

#[test]
fn a_name_that_spiffe_does_not_take_is_told() {
    let fixture = Fixture::new(&["ca-1"], "");
    let odd = web(json!({"kuma.io/service": "a:b"}));
    let secrets = fixture.identities.secrets(&fixture.snapshot, &odd);
    assert!(secrets.identities.is_empty());
    let mut registry = prometheus_client::registry::Registry::default();
    fixture.identities.metrics().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("certificates_failed_total{mesh=\"default\"} 1"), "{text}");
}

/// DP-56: in each mesh with mTLS, and in no other.
#[test]
fn an_egress_has_an_identity_in_each_mesh() {
    let mut fixture = Fixture::new(&["ca-1"], "");
    fixture.put(mesh("other", "ca-1", &["ca-1"], ""));
    fixture.put(resource(Kind::Mesh, "", "without", json!({})));
    let egress = resource(Kind::ZoneEgress, "", "ze", json!({"networking": {"address": "10.0.0.9", "port": 10002}}));
    let secrets = fixture.identities.secrets(&fixture.snapshot, &egress);
    let names: Vec<Vec<String>> = secrets.identities.iter().map(|(_, pair)| uris(&pair.certificate)).collect();
    assert_eq!(
        names,
        ["default", "other"]
            .map(|mesh| vec![format!("spiffe://{mesh}/zone-egress"), "kuma://kuma.io/service/zone-egress".to_owned()])
    );
    fixture.apply(vec![Change::Remove(Key::global(Kind::Mesh, "default"))]);
    let secrets = fixture.identities.secrets(&fixture.snapshot, &egress);
    assert_eq!(secrets.identities.len(), 1);
    assert_eq!(fixture.identities.held().len(), 1, "what it had in the other is forgotten");
    let ingress = resource(Kind::ZoneIngress, "", "zi", json!({"networking": {"address": "10.0.0.8", "port": 10001}}));
    assert!(fixture.identities.secrets(&fixture.snapshot, &ingress).identities.is_empty());
    fixture.identities.forget(&egress.meta.key);
    assert!(fixture.identities.held().is_empty());
}

#[test]
fn admin_interfaces_have_certificates_for_their_addresses() {
    let mut fixture = Fixture::new(&["ca-1"], "");
    assert!(fixture.secrets().admin.certificate.is_empty());
    let authority = Internal::ProxyAdmin.missing(&Snapshot::empty(), start()).unwrap().unwrap();
    fixture.put(Arc::new(authority));
    let secrets = fixture.secrets();
    let chain = certificates(&secrets.admin.certificate).unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    let roots = certificates(&secrets.admin_ca).unwrap();
    let (_, root) = x509_parser::parse_x509_certificate(&roots[0]).unwrap();
    leaf.verify_signature(Some(root.public_key())).unwrap();
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(*names, [x509_parser::extensions::GeneralName::IPAddress(&[10, 0, 0, 1])]);
    assert_eq!(fixture.secrets().admin.certificate, secrets.admin.certificate);
    let (client, ca) = fixture.identities.admin_client(&fixture.snapshot).unwrap();
    assert_eq!(ca, secrets.admin_ca);
    let chain = certificates(&client.certificate).unwrap();
    let (_, client) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    let names = &client.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(*names, [x509_parser::extensions::GeneralName::DNSName("kuma-cp")]);
    // An unreadable dataplane has no address.
    let empty = Payload::from_message(&Dataplane::default());
    let empty = Resource::new(Key::new(Kind::Dataplane, "default", "x"), Labels::default(), empty);
    assert!(fixture.identities.secrets(&fixture.snapshot, &empty).admin.certificate.is_empty());
}
