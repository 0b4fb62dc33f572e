use std::sync::{Arc, LazyLock};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::TimeDelta;
use config::{Loader, Role};
use identity::SigningKey;
use identity::token::issue;
use kds_proto::json::{UnknownFields::Refused, from_value};
use model::snapshot::Change;
use model::{Key, Labels, Payload};
use serde_json::{Value, json};
use tonic::metadata::MetadataValue;
use uuid::Uuid;

use super::*;

static KEYS: LazyLock<[SigningKey; 2]> = LazyLock::new(|| [1, 2].map(|serial| SigningKey::generate(serial).unwrap()));

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn admission(sets: &[&str]) -> Admission {
    let loader = sets.iter().fold(Loader::new(Role::Zone), |loader, set| loader.set(set));
    let mut effective = loader.load().unwrap().effective;
    effective.fill_in(&config::Host::default());
    Admission::configured(&effective, "east", Environment::Universal).unwrap()
}

fn secret(kind: Kind, mesh: &str, name: &str, data: &str) -> Resource {
    let data: kds_proto::kuma::system::v1alpha1::Secret =
        from_value(json!({"data": BASE64_STANDARD.encode(data)}), Refused).unwrap();
    Resource::new(Key::new(kind, mesh, name), Labels::default(), Payload::from_message(&data))
}

fn of_mesh(mesh: &str) -> Purpose {
    Purpose::Dataplane { mesh: mesh.to_owned() }
}

/// A zone that follows a global: private keys of dataplane tokens, the public half of that of zone tokens.
fn stored(more: Vec<Resource>) -> Snapshot {
    let [first, second] = &*KEYS;
    let mut resources = vec![
        first.to_secret(&of_mesh("default")),
        second.to_secret(&of_mesh("default")),
        second.to_secret(&of_mesh("other")),
        secret(Kind::GlobalSecret, "", "zone-token-signing-public-key-1", &first.public_pem().unwrap()),
    ];
    resources.extend(more);
    Snapshot::empty().apply(1, resources.into_iter().map(|resource| Change::Put(Arc::new(resource))))
}

fn dataplane(services: &[&str], labels: &[(&str, &str)]) -> Resource {
    let inbound = |(at, service): (usize, &&str)| json!({"port": 80 + at, "tags": {"kuma.io/service": service}});
    let inbounds: Vec<Value> = services.iter().enumerate().map(inbound).collect();
    let spec: Dataplane =
        from_value(json!({"networking": {"address": "10.0.0.1", "inbound": inbounds}}), Refused).unwrap();
    let key = Key::new(Kind::Dataplane, "default", "web");
    Resource::new(key, labels.iter().copied().collect(), Payload::from_message(&spec))
}

fn proxy(kind: Kind) -> Resource {
    Resource::new(Key::global(kind, "in"), Labels::default(), Payload::default())
}

fn token(claims: impl Claims, key: &SigningKey) -> String {
    issue(claims, key, Uuid::nil(), now(), TimeDelta::hours(1)).unwrap()
}

fn of_default() -> token::Dataplane {
    token::Dataplane { mesh: "default".to_owned(), ..token::Dataplane::default() }
}

fn told(snapshot: &Snapshot, resource: &Resource, token: &str) -> Result<(), String> {
    let checked = admission(&[]).check(snapshot, resource, token, now());
    checked.map_err(|refusal| refusal.to_string().trim_start_matches("authentication failed: ").to_owned())
}

/// DP-6, DP-12: the token stands there as it is, and the key that it names is the one that counts.
#[test]
fn the_key_that_a_token_names_verifies_it() {
    let (snapshot, web) = (stored(vec![]), dataplane(&["web"], &[]));
    for key in &*KEYS {
        assert_eq!(told(&snapshot, &web, &token(of_default(), key)), Ok(()));
    }
    let good = token(of_default(), &KEYS[0]);
    let unknown = "it is not signed with a key that is known here";
    assert_eq!(told(&snapshot, &web, &format!("Bearer {good}")), Err(unknown.to_owned()));
    assert_eq!(told(&snapshot, &web, ""), Err("there is no token".to_owned()));
    let missing = told(&Snapshot::empty(), &web, &good).unwrap_err();
    assert!(missing.contains("dataplane-token-signing-key-default-1"), "{missing}");
    let late = admission(&[]).check(&snapshot, &web, &good, now() + TimeDelta::hours(2));
    assert_eq!(late, Err(Refusal::Unauthenticated("it has expired".to_owned())));
    let early = admission(&[]).check(&snapshot, &web, &good, now() - TimeDelta::hours(1));
    assert!(early.unwrap_err().to_string().contains("do the clocks of both ends agree?"));
}

/// DP-13: each value of a tag has to be allowed.
#[test]
fn a_token_for_tags_is_for_proxies_of_those_tags() {
    let tags = [("kuma.io/service".to_owned(), vec!["a".to_owned()])];
    let shown = token(token::Dataplane { tags: tags.into(), ..of_default() }, &KEYS[0]);
    let snapshot = stored(vec![]);
    assert_eq!(told(&snapshot, &dataplane(&["a"], &[]), &shown), Ok(()));
    let refused = told(&snapshot, &dataplane(&["a", "b"], &[]), &shown).unwrap_err();
    assert!(refused.contains("with value \"b\" which is not allowed with this token"), "{refused}");
}

/// DP-14: the list is a GlobalSecret, though the mesh is in its name.
#[test]
fn a_revoked_token_is_refused() {
    let shown = token(of_default(), &KEYS[0]);
    let web = dataplane(&["web"], &[]);
    let list =
        |kind, mesh: &str| secret(kind, mesh, "dataplane-token-revocations-default", &format!("x,{}", Uuid::nil()));
    let revoked = stored(vec![list(Kind::GlobalSecret, "")]);
    assert_eq!(told(&revoked, &web, &shown), Err(format!("the token {} is revoked", Uuid::nil())));
    assert_eq!(told(&stored(vec![list(Kind::Secret, "default")]), &web, &shown), Ok(()));
}

#[test]
fn a_token_of_another_mesh_is_refused() {
    let other = token(token::Dataplane { mesh: "other".to_owned(), ..token::Dataplane::default() }, &KEYS[1]);
    let told = told(&stored(vec![]), &dataplane(&["web"], &[]), &other);
    assert_eq!(told, Err("proxy mesh from requestor: default is different than in token: other".to_owned()));
}

/// DP-15, DP-16, DP-17: scope and zone count, and the public half of the key suffices.
#[test]
fn a_zone_token_is_for_its_scope_and_zone() {
    let zone_token =
        |zone: &str, scope: &str| token(token::Zone { zone: zone.to_owned(), scope: vec![scope.to_owned()] }, &KEYS[0]);
    let snapshot = stored(vec![]);
    let (ingress, egress) = (proxy(Kind::ZoneIngress), proxy(Kind::ZoneEgress));
    assert_eq!(told(&snapshot, &ingress, &zone_token("east", "ingress")), Ok(()));
    assert_eq!(told(&snapshot, &ingress, &zone_token("", "ingress")), Ok(()));
    assert_eq!(told(&snapshot, &egress, &zone_token("east", "egress")), Ok(()));
    let scope = told(&snapshot, &ingress, &zone_token("east", "egress")).unwrap_err();
    assert!(scope.contains("ingress is out of token's scope: [egress]"), "{scope}");
    let zone = told(&snapshot, &ingress, &zone_token("west", "ingress")).unwrap_err();
    assert_eq!(zone, "zone from requestor: east is different than in token: west");
}

#[test]
fn settings_say_who_has_to_prove_anything() {
    let open = admission(&["dpServer.authn.dpProxy.type=none", "dpServer.authn.zoneProxy.type=serviceAccountToken"]);
    assert_eq!(open.check(&Snapshot::empty(), &dataplane(&["web"], &[]), "", now()), Ok(()));
    let closed = open.check(&Snapshot::empty(), &proxy(Kind::ZoneIngress), "x", now()).unwrap_err();
    assert!(closed.to_string().contains("serviceAccountToken is not supported"), "{closed}");
}

/// zone-dataplane 2.4, rule 4: who is named after a workload needs its label, and a token for it.
#[test]
fn who_is_named_after_a_workload_proves_the_workload() {
    let identity = Resource::new(
        Key::new(Kind::MeshIdentity, "default", "all"),
        Labels::default(),
        Payload::from_bytes(r#"{"selector":{"dataplane":{"matchLabels":{}}}}"#),
    );
    let snapshot = stored(vec![identity]);
    let labelled = dataplane(&["web"], &[(labels::WORKLOAD, "web")]);
    let any = token(of_default(), &KEYS[0]);
    let bound = token(token::Dataplane { workload: "web".to_owned(), ..of_default() }, &KEYS[0]);
    assert!(told(&snapshot, &labelled, &any).unwrap_err().ends_with("requires a workload-bound token"));
    assert_eq!(told(&snapshot, &labelled, &bound), Ok(()));
    assert_eq!(told(&stored(vec![]), &labelled, &any), Ok(()));

    let admission = admission(&[]);
    assert_eq!(admission.check_workload(&snapshot, &labelled), Ok(()));
    let refused = admission.check_workload(&snapshot, &dataplane(&["web"], &[])).unwrap_err().to_string();
    assert!(
        refused.ends_with("no label \"kuma.io/workload\", and MeshIdentity \"all\" names proxies after it"),
        "{refused}"
    );
    assert_eq!(admission.check_workload(&stored(vec![]), &dataplane(&["web"], &[])), Ok(()));
}

#[test]
fn a_call_shows_one_token() {
    let mut metadata = MetadataMap::new();
    assert_eq!(credential(&metadata), Ok(String::new()));
    metadata.append("authorization", MetadataValue::from_static("a"));
    assert_eq!(credential(&metadata), Ok("a".to_owned()));
    metadata.append("authorization", MetadataValue::from_static("b"));
    assert!(credential(&metadata).unwrap_err().to_string().ends_with("exactly one \"authorization\", found 2"));
}
