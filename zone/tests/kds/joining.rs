//! What becomes of what a zone has when a global speaks.

use std::collections::BTreeMap;

use http::StatusCode;
use kds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use model::Kind;
use runtime::Exit;
use serde_json::{Value, json};

use crate::client::{Caller, eventually, names};
use crate::global::{Down, Global, LIMIT, Manner};
use crate::message::{self, GOOD, response};
use crate::zone::{self, Zone, start};

/// Every kind that a zone asks for.
fn kinds() -> Vec<&'static str> {
    Kind::ALL.iter().filter(|kind| kind.info().sync.global_to_zone()).map(|kind| kind.name()).collect()
}

/// Tells everything, most kinds being empty, and gives the answers by kind.
async fn tell(down: &mut Down, mut full: BTreeMap<&str, Vec<Resource>>) -> BTreeMap<String, DeltaDiscoveryRequest> {
    for _ in kinds() {
        down.hear().await;
    }
    for (nonce, kind) in (1..).zip(kinds()) {
        down.say(response(kind, nonce, full.remove(kind).unwrap_or_default())).await;
    }
    let mut answers = BTreeMap::new();
    for _ in kinds() {
        let answer = down.hear().await;
        answers.insert(answer.type_url.clone(), answer);
    }
    answers
}

fn dataplane() -> Value {
    json!({"type": "Dataplane", "mesh": "default", "name": "dp", "networking": {"address": "10.0.0.2", "inbound": [
        {"port": 80, "tags": {"kuma.io/service": "web", "kuma.io/protocol": "http"}}]}})
}

fn policy(name: &str) -> Value {
    json!({"type": "MeshTimeout", "mesh": "default", "name": name, "labels": {"kuma.io/origin": "zone"}, "spec": {
        "to": [{"targetRef": {"kind": "Mesh"}, "default": {"connectionTimeout": "9s"}}]}})
}

fn everything() -> BTreeMap<&'static str, Vec<Resource>> {
    BTreeMap::from([
        ("Config", vec![message::cluster_id("first")]),
        ("Mesh", vec![message::mesh("default")]),
        ("MeshTimeout", vec![message::timeout("t-54dbd4c66zwbcf9c", GOOD)]),
        ("Secret", vec![message::secret("default", "shared", "from above")]),
    ])
}

async fn revisions(zone: &Zone) -> (u64, u64) {
    let store = zone.running.store();
    (store.configuration().borrow().revision(), store.insights().borrow().changed_at(Kind::ServiceInsight))
}

/// kds-wire 4.8, KDS-55, KDS-56, KDS-57: what is the zone's own stays, meshes are the global's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_that_ran_alone_keeps_what_is_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = format!("store.sqlite.path={}", folder.path().join("zone.db").display());
    let alone = zone::try_start(folder.path(), &[&file]).await.unwrap();
    tokio::time::timeout(LIMIT, alone.readiness().ready()).await.expect("ready in time");
    let api = Caller::http(alone.api.http);
    for (path, body) in [
        ("/meshes/other", json!({"type": "Mesh", "name": "other"})),
        ("/meshes/default/dataplanes/dp", dataplane()),
        ("/meshes/default/meshtimeouts/own", policy("own")),
        (
            "/meshes/default/secrets/shared",
            json!({"type": "Secret", "mesh": "default", "name": "shared", "data": "b3du"}),
        ),
    ] {
        let (status, answer) = api.put(path, &body).await;
        assert_eq!(status, StatusCode::CREATED, "{path}: {answer}");
    }
    let own_identity = api.get("/").await.1["clusterId"].clone();
    alone.stop().ask();
    assert_eq!(alone.end().await, Exit::Clean);

    let mut global = Global::start(Manner::default()).await;
    let zone = start(folder.path(), &global, &[&file]).await;
    let (mut down, mut up) = global.connected().await;
    let answers = tell(&mut down, everything()).await;
    for (kind, answer) in &answers {
        let refused = answer.error_detail.as_ref().map(|detail| &*detail.message);
        let expected = match &**kind {
            "Config" => Some("user error\nresource already exists: type=\"Config\" name=\"kuma-cluster-id\" mesh=\"\""),
            "Secret" => Some("user error\nresource already exists: type=\"Secret\" name=\"shared\" mesh=\"default\""),
            _ => None,
        };
        assert_eq!(refused, expected, "{kind}");
    }
    assert_eq!(names(&zone.api.get("/meshes").await.1), ["default"], "the global has no mesh other");
    let (_, mesh) = zone.api.get("/meshes/default").await;
    assert_eq!(mesh["labels"]["kuma.io/origin"], "global");
    assert_eq!(names(&zone.api.get("/meshes/default/dataplanes").await.1), ["dp"]);
    let (_, timeouts) = zone.api.get("/meshes/default/meshtimeouts").await;
    let timeouts = names(&timeouts);
    assert!(timeouts.contains(&"own") && timeouts.contains(&"t-54dbd4c66zwbcf9c"), "{timeouts:?}");
    assert_eq!(zone.api.get("/meshes/default/secrets/shared").await.1["data"], "b3du");
    assert_eq!(zone.api.get("/").await.1["clusterId"], own_identity);

    // And it goes up.
    for (kind, name) in [("Dataplane", "dp"), ("MeshTimeout", "own")] {
        up.say(message::subscription(kind)).await;
        let told: DeltaDiscoveryResponse = up.hear().await;
        let told: Vec<&str> = told.resources.iter().map(|resource| &*resource.name).collect();
        assert!(told.iter().any(|told| told.starts_with(&format!("{name}-"))), "{kind}: {told:?}");
    }
    zone.end().await;
}

/// KDS-39: what a first response lacks is gone; and one that tells what is known changes nothing, so that nobody sees an
/// empty state in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resync_writes_only_differences() {
    let folder = tempfile::tempdir().unwrap();
    let mut global = Global::start(Manner::default()).await;
    let zone = start(folder.path(), &global, &[]).await;
    let (mut down, up) = global.connected().await;
    tell(&mut down, everything()).await;
    let before = revisions(&zone).await;
    drop((down, up));

    let (mut down, up) = global.connected().await;
    let answers = tell(&mut down, everything()).await;
    assert!(answers.values().all(|answer| answer.error_detail.is_none()));
    assert_eq!(revisions(&zone).await, before, "nothing was written");
    drop((down, up));

    let (mut down, _up) = global.connected().await;
    let mut less = everything();
    less.remove("MeshTimeout");
    less.insert("TrafficPermission", vec![]);
    tell(&mut down, less).await;
    assert_eq!(names(&zone.api.get("/meshes/default/meshtimeouts").await.1), [""; 0]);
    assert_eq!(names(&zone.api.get("/meshes").await.1), ["default"]);
    zone.end().await;
}

/// KDS-33, KDS-34, KDS-40: the good of a response is taken over, the bad refused by name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_resource_is_refused_by_name_and_the_others_live() {
    let folder = tempfile::tempdir().unwrap();
    let mut global = Global::start(Manner::default()).await;
    let zone = start(folder.path(), &global, &[]).await;
    let (mut down, _up) = global.connected().await;
    tell(&mut down, everything()).await;
    let invalid = GOOD.replace("\"2s\"", "\"-2s\"");
    let (good, bad, torn) = ("good-54dbd4c66zwbcf9c", "bad-54dbd4c66zwbcf9c", "torn-54dbd4c66zwbcf9c");
    let resources =
        vec![message::timeout(good, GOOD), message::timeout(bad, &invalid), message::timeout(torn, "{\"to\":[")];
    down.say(response("MeshTimeout", 50, resources)).await;
    let refusal = down.hear().await;
    assert_eq!((&*refusal.response_nonce, &refusal.resource_names_subscribe[..]), ("50", &["*".to_owned()][..]));
    let text = refusal.error_detail.expect("a refusal").message;
    assert!(text.contains("spec.to[0].default.connectionTimeout: must be greater than zero when defined"), "{text}");
    assert!(text.contains(torn), "{text}");
    let stored = zone.api.get("/meshes/default/meshtimeouts").await.1;
    assert_eq!(names(&stored), [good, "t-54dbd4c66zwbcf9c"]);
    let metrics = zone.running.metrics().text().unwrap();
    assert!(metrics.contains("kds_zone_refused_resources_total{kind=\"MeshTimeout\"} 2"), "{metrics}");
    assert!(metrics.contains("kds_zone_connected 1"), "{metrics}");
    zone.end().await;
}

/// KDS-3: one message of 10 MiB arrives, and one that is longer ends the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_may_have_ten_mebibytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut global = Global::start(Manner::default()).await;
    let zone = start(folder.path(), &global, &["store.type=memory"]).await;
    let (mut down, _up) = global.connected().await;
    tell(&mut down, everything()).await;
    let of = |size: usize| response("Secret", 99, vec![message::secret("default", "large", &"x".repeat(size))]);
    let around = prost::Message::encoded_len(&of(0)) + 32;
    down.say(of((10 << 20) - around)).await;
    assert_eq!(down.hear().await.error_detail, None);
    down.say(of(10 << 20)).await;
    down.hung_up().await;
    global.connected().await;
    zone.end().await;
}

/// kds-wire 5.2, last paragraph: the zone's own insight mirrors how the global takes what it tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_zones_insight_tells_of_its_global() {
    let folder = tempfile::tempdir().unwrap();
    let mut global = Global::start(Manner::default()).await;
    let zone = start(folder.path(), &global, &[]).await;
    let (down, mut up) = global.connected().await;
    up.say(message::introduced("HostnameGenerator", "global-1a2b")).await;
    up.hear().await;
    let subscriptions = async || {
        let insight = zone.api.get("/zone-insights/east").await.1;
        insight["subscriptions"].as_array().cloned().unwrap_or_default()
    };
    eventually("the connection is written down", || async { subscriptions().await.len() == 1 }).await;
    let first = subscriptions().await.remove(0);
    assert_eq!(first["globalInstanceId"], "global-1a2b");
    assert!(first["zoneInstanceId"].is_string() && first["disconnectTime"].is_null(), "{first}");
    drop((down, up));
    eventually("its end is written down", || async { subscriptions().await[0]["disconnectTime"].is_string() }).await;
    assert_eq!(subscriptions().await[0]["status"]["total"]["responsesSent"], "1");
    zone.end().await;
}
