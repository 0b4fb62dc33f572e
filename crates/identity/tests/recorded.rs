//! Tokens of a real global: believed with the keys that it sent to its zones, and made again from their requests.

#![expect(clippy::unwrap_used, reason = "what helpers of a test cannot read fails the test")]

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use identity::SigningKey;
use identity::signing_key::Purpose;
use identity::token::{self, Claims, Dataplane, Keys, TEN_YEARS, User, Zone};
use kds_proto::kuma::mesh::v1alpha1::KumaResource;
use kds_proto::kuma::system::v1alpha1::Secret;
use model::snapshot::Change;
use model::{Key, Kind, Labels, Payload, Resource, Snapshot};
use prost::Message;
use serde_json::Value;
use uuid::Uuid;

const TOKENS: &str = include_str!("recorded/tokens.jsonl");
const RESOURCES: &str = include_str!("../../../kds-proto/tests/recorded/resources.jsonl");

fn lines(text: &str) -> impl Iterator<Item = Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap())
}

/// Every version of a secret that was sent, as the only secret of a snapshot.
fn snapshots(name: &str, key: &Key) -> Vec<Snapshot> {
    let versions = lines(RESOURCES).filter(|resource| resource["name"].as_str().unwrap().trim_end_matches('.') == name);
    let snapshot = |resource: Value| {
        let raw = BASE64_STANDARD.decode(resource["raw"].as_str().unwrap()).unwrap();
        let spec = KumaResource::decode(&*raw).unwrap().spec.unwrap();
        let secret = Payload::from_message(&Secret::decode(&*spec.value).unwrap());
        Snapshot::empty().apply(1, [Change::Put(Resource::new(key.clone(), Labels::default(), secret).into())])
    };
    versions.map(snapshot).collect()
}

fn part(token: &str, at: usize) -> Value {
    let part = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(at).unwrap()).unwrap();
    serde_json::from_slice(&part).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

/// A token is believed with exactly one of the keys.
fn check<C: Claims + PartialEq + std::fmt::Debug>(token: &str, wanted: &C, purpose: Purpose, keys: &[Snapshot]) {
    let issued = DateTime::from_timestamp(part(token, 1)["iat"].as_i64().unwrap(), 0).unwrap();
    let believed = keys.iter().filter_map(|snapshot| {
        let keys = Keys { snapshot, static_keys: &[], use_secrets: true };
        Some(keys.verify::<C>(&purpose, token, issued).ok()?.claims)
    });
    let believed: Vec<C> = believed.collect();
    assert_eq!(believed, std::slice::from_ref(wanted));
}

/// Header and claims of our token for the same request, with the members that differ from run to run taken over.
fn made_again<C: Claims>(claims: C, recorded: &str, valid_for: Option<&str>) {
    let now: DateTime<Utc> = DateTime::from_timestamp(part(recorded, 1)["iat"].as_i64().unwrap() + 5, 0).unwrap();
    let lifetime = valid_for
        .map_or(TEN_YEARS, |text| TimeDelta::nanoseconds(text.parse::<model::duration::GoDuration>().unwrap().nanos()));
    let ours = token::issue(claims, &SigningKey::generate(1).unwrap(), Uuid::new_v4(), now, lifetime).unwrap();
    assert_eq!(ours.split('.').next(), recorded.split('.').next());
    let (mut ours, recorded) = (part(&ours, 1), part(recorded, 1));
    ours["jti"] = recorded["jti"].clone();
    assert_eq!(ours.to_string(), recorded.to_string());
}

#[test]
fn tokens_are_believed_and_made_as_kuma_does() {
    let dataplane_key = Key::new(Kind::Secret, "default", "dataplane-token-signing-key-default-1");
    let dataplane_keys = snapshots("dataplane-token-signing-key-default-1.default", &dataplane_key);
    let zone_key = Purpose::Zone.public_key(1).unwrap();
    let zone_keys = snapshots("zone-token-signing-public-key-1", &zone_key);
    let mut seen = 0;
    for case in lines(TOKENS) {
        let (request, token) = (&case["request"], case["token"].as_str().unwrap());
        let valid_for = request["validFor"].as_str();
        match case["path"].as_str().unwrap() {
            "/tokens/dataplane" => {
                let tags = request["tags"].as_object().into_iter().flatten();
                let claims = Dataplane {
                    name: text(&request["name"]),
                    mesh: text(&request["mesh"]),
                    tags: tags.map(|(tag, values)| (tag.clone(), list(values))).collect(),
                    r#type: text(&request["type"]),
                    workload: text(&request["workload"]),
                };
                check(token, &claims, Purpose::Dataplane { mesh: "default".into() }, &dataplane_keys);
                made_again(claims, token, valid_for);
            }
            "/tokens/zone" => {
                let claims = Zone { zone: text(&request["zone"]), scope: list(&request["scope"]) };
                check(token, &claims, Purpose::Zone, &zone_keys);
                made_again(claims, token, valid_for);
            }
            _ => {
                let groups = request.get("groups").map(list);
                made_again(User { name: text(&request["name"]), groups }, token, valid_for);
            }
        }
        seen += 1;
    }
    assert_eq!(seen, 7);
}
