//! The connection: who calls, with what, and what happens when it ends.

use std::time::Duration;

use kds_proto::kuma::mesh::v1alpha1 as mesh;
use kds_proto::kuma::mesh::v1alpha1::xds_config_response;
use prost::Message;
use serde_json::json;
use store::test_support::TestPostgres;
use tonic::Status;

use crate::client::{eventually, names};
use crate::global::{Global, Manner, next};
use crate::message::{self, GOOD, response};
use crate::zone::{self, start};

const WHILE: Duration = Duration::from_millis(300);

/// KDS-6, KDS-13, KDS-25, KDS-26, KDS-27, KDS-28: what a Kuma global reads of a zone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_says_who_it_is_and_asks_for_everything_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut global = Global::start(Manner::default()).await;
    let zone = start(folder.path(), &global, &[]).await;
    let (mut down, mut up) = global.connected().await;
    let health = next(&mut global.health).await;
    for metadata in [&down.metadata, &up.metadata, &health] {
        let values = |name: &str| metadata.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(values("client-id"), ["east"]);
        assert_eq!(values("kds-version"), ["v3"]);
        assert_eq!(values("features")[..2], ["zone-ping-health", "hash-suffix"]);
        assert_eq!(values("version"), ["2.13.10"]);
        assert_eq!(values("authorization"), [""; 0]);
        assert!(values("user-agent")[0].starts_with("kds/2.13.10 ("), "{:?}", values("user-agent"));
    }
    let mut kinds = std::collections::BTreeSet::new();
    for _ in 0..43 {
        let request = down.hear().await;
        assert_eq!((request.resource_names_subscribe, request.response_nonce), (vec!["*".to_owned()], String::new()));
        let node = request.node.unwrap();
        assert_eq!(node.id, "east");
        let metadata =
            kds_proto::json::to_value("envoy.config.core.v3.Node", &node.encode_to_vec()).unwrap()["metadata"].clone();
        assert_eq!(metadata["version"]["kumaCp"]["version"], "2.13.10");
        let features = metadata["features"].as_array().unwrap();
        for feature in
            ["zone-token", "hash-suffix", "hg-mz-selector", "producer-policy-flow", "optional-top-level-target-ref"]
        {
            assert!(features.contains(&json!(feature)), "{feature} is missing in {features:?}");
        }
        let config: serde_json::Value = serde_json::from_str(metadata["config"].as_str().unwrap()).unwrap();
        assert!(config["store"]["type"].is_string());
        let instance = metadata["control-plane-id"].as_str().unwrap();
        assert!(instance.rsplit_once('-').unwrap().1.len() == 4, "{instance}");
        assert!(request.type_url.parse::<model::Kind>().is_ok(), "the bare kind: {}", request.type_url);
        assert!(kinds.insert(request.type_url));
    }
    assert_eq!(kinds.len(), 43);
    assert!(down.hear_within(WHILE).await.is_none(), "nothing is asked twice");
    assert!(up.hear_within(WHILE).await.is_none(), "nothing is told before it is asked");
    zone.end().await;
}

/// KDS-10: a global of Kuma sends no head of an answer on admin streams before it has a question.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admin_streams_without_an_answer_hold_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut global = Global::start(Manner { silent_admin: true, no_health: true }).await;
    let zone = start(folder.path(), &global, &[]).await;
    let (mut down, mut up) = global.connected().await;
    down.hear().await;
    up.say(message::subscription("ZoneIngress")).await;
    assert_eq!(up.hear().await.type_url, "ZoneIngress");
    zone.end().await;
}

/// kds-wire 5.9, KDS-23: one ends, all end, and everything starts anew; S2 too, whatever its status.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_share_one_fate_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut global = Global::start(Manner::default()).await;
    let zone = start(folder.path(), &global, &[]).await;
    let (down, mut up) = global.connected().await;
    down.fail(Status::internal("stream failed")).await;
    up.hung_up().await;
    let (mut down, up) = global.connected().await;
    drop(up);
    down.hung_up().await;
    global.connected().await;
    zone.end().await;
}

/// A zone serves without its global, and finds it when it comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_starts_without_its_global_and_finds_it_later() {
    let folder = tempfile::tempdir().unwrap();
    let global = Global::start(Manner::default()).await;
    let address = global.address;
    let zone = start(folder.path(), &global, &[]).await;
    drop(global);
    assert!(zone.running.readiness().is_ready());
    assert_eq!(names(&zone.api.get("/zones").await.1), ["east"]);
    let mut again = None;
    eventually("the port is free", || async { tokio::net::TcpListener::bind(address).await.is_ok() }).await;
    let global = again.insert(Global::start_at(address, Manner::default()).await);
    let (mut down, _up) = global.connected().await;
    down.hear().await;
    zone.end().await;
}

/// The token goes along, is read anew for each connection, and a refusal is counted as one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_shown_and_can_be_exchanged() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let token = format!("multizone.zone.kds.auth.cpTokenPath={}", file.display());
    let mut global = Global::start(Manner::default()).await;
    let zone = start(folder.path(), &global, &[&token, "multizone.zone.kds.auth.allowPlaintext=true"]).await;
    let (down, _up) = global.connected().await;
    assert_eq!(down.metadata.get("authorization").unwrap(), "Bearer first");
    std::fs::write(&file, "second\n").unwrap();
    down.fail(Status::unauthenticated("the token of zone west is not one of zone east")).await;
    let (down, _up) = global.connected().await;
    assert_eq!(down.metadata.get("authorization").unwrap(), "Bearer second");
    let metrics = zone.running.metrics().text().unwrap();
    assert!(metrics.contains("kds_zone_connection_failures_total{reason=\"unauthenticated\"} 1"), "{metrics}");
    zone.end().await;
}

/// KDS-60: each question is answered once, with its identifier, and the stream goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_about_proxies_are_answered_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut global = Global::start(Manner::default()).await;
    let zone = start(folder.path(), &global, &[]).await;
    let ingress = json!({"type": "ZoneIngress", "name": "in", "networking": {
        "address": "10.0.0.1", "port": 10001, "advertisedAddress": "10.0.0.1", "advertisedPort": 10001}});
    assert_eq!(zone.api.put("/zone-ingresses/in", &ingress).await.0, 201);
    let mut configs = next(&mut global.configs).await;
    let asked = [
        ("a", "ZoneIngress", "", "in", r#"ZoneIngress "in" is not connected to its zone's control plane"#),
        ("b", "Dataplane", "default", "dp", r#"resource not found: type="Dataplane" name="dp" mesh="default""#),
        ("c", "Mesh", "", "default", r#"invalid resource type "Mesh""#),
    ];
    for (id, kind, mesh, name, _) in asked {
        let request = mesh::XdsConfigRequest {
            request_id: id.to_owned(),
            resource_type: kind.to_owned(),
            resource_name: name.to_owned(),
            resource_mesh: mesh.to_owned(),
            include_eds: false,
        };
        configs.say(request).await;
    }
    let mut answers = Vec::new();
    for _ in asked {
        let mesh::XdsConfigResponse { request_id, result } = configs.hear().await;
        let Some(xds_config_response::Result::Error(error)) = result else { panic!("{result:?}") };
        answers.push((request_id, error));
    }
    answers.sort();
    let expected: Vec<_> = asked.iter().map(|(id, _, _, _, error)| ((*id).to_owned(), (*error).to_owned())).collect();
    assert_eq!(answers, expected);
    assert!(configs.hear_within(WHILE).await.is_none());
    zone.end().await;
}

/// A store remembers its zone and its global: neither changes unless the old one is named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_name_or_another_global_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = format!("store.sqlite.path={}", folder.path().join("zone.db").display());
    let mut global = Global::start(Manner::default()).await;
    let zone = start(folder.path(), &global, &[&file]).await;
    let (mut down, _up) = global.connected().await;
    for _ in 0..43 {
        down.hear().await;
    }
    down.say(response("Mesh", 1, vec![message::mesh("default")])).await;
    assert!(down.hear_within(WHILE).await.is_none(), "nothing is taken over from one who has not said who it is");
    down.say(response("Config", 2, vec![message::cluster_id("first")])).await;
    down.hear().await;
    down.hear().await;
    assert_eq!(names(&zone.api.get("/meshes").await.1), ["default"]);
    zone.end().await;

    let address = format!("multizone.zone.globalAddress=grpc://{}", global.address);
    let error = zone::try_start(folder.path(), &[&address, &file, "multizone.zone.name=west"]).await.unwrap_err();
    assert!(error.to_string().starts_with("this is the store of zone \"east\""), "{error}");

    // Another global, which has no meshes: all of this zone's would go.
    let mut other = Global::start(Manner::default()).await;
    let zone = start(folder.path(), &other, &[&file]).await;
    let (mut down, _up) = other.connected().await;
    down.say(response("Mesh", 1, vec![])).await;
    down.say(response("Config", 2, vec![message::cluster_id("second")])).await;
    down.hung_up().await;
    eventually("the end is counted", || async {
        zone.running.metrics().text().unwrap().contains("connection_failures_total{reason=\"other-global\"} 1")
    })
    .await;
    assert_eq!(names(&zone.api.get("/meshes").await.1), ["default"]);
    zone.end().await;

    let mut other = Global::start(Manner::default()).await;
    let zone = start(folder.path(), &other, &[&file, "multizone.zone.migrateFrom.global=first"]).await;
    let (mut down, _up) = other.connected().await;
    for _ in 0..43 {
        down.hear().await;
    }
    down.say(response("Config", 1, vec![message::cluster_id("second")])).await;
    down.say(response("Mesh", 2, vec![message::mesh("new")])).await;
    down.say(response("MeshTimeout", 3, vec![message::timeout("t", GOOD)])).await;
    for _ in 0..3 {
        assert_eq!(down.hear().await.error_detail, None);
    }
    assert_eq!(names(&zone.api.get("/meshes").await.1), ["new"]);
    assert_eq!(zone.api.get("/").await.1["clusterId"], "second");
    zone.end().await;
}

/// KDS-24, kds-wire 5.8: of two instances on one database one is connected; when it ends, the other is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_leader_is_connected() {
    let server = TestPostgres::shared().unwrap_or_else(|error| panic!("{error}"));
    let database = server.database().await.unwrap();
    store::migrate(&store::Settings::new(store::Backend::Postgres(database.clone()))).await.unwrap();
    let (port, name) =
        (format!("store.postgres.port={}", database.port), format!("store.postgres.dbName={}", database.db_name));
    let sets = ["store.type=postgres", &port, &name];
    let (folder, mut global) = (tempfile::tempdir().unwrap(), Global::start(Manner::default()).await);
    let first = start(folder.path(), &global, &sets).await;
    let (mut down, _up) = global.connected().await;
    let second = start(folder.path(), &global, &sets).await;
    let another = tokio::time::timeout(WHILE, global.down.recv()).await;
    assert!(another.is_err(), "the second does not connect while the first leads");
    first.end().await;
    down.hung_up().await;
    global.connected().await;
    second.end().await;
}
