//! The whole control plane of a zone in this process, on free ports, in a temporary folder.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests, their helpers included")]

use std::path::Path;

use config::{Host, Loader, Role};
use http::StatusCode;
use kuma_zone::{Config, Running};
use runtime::Exit;
use serde_json::{Value, json};

use client::{Caller, eventually, names};

#[path = "../../global/tests/program/client.rs"]
mod client;

const FEDERATED: &str = "multizone.zone.globalAddress=grpcs://global.example:5685";
const INGRESS: &str = "/zone-ingresses/in";

async fn start(folder: &Path, sets: &[&str]) -> Running {
    let ports = ["apiServer.http.port=0", "apiServer.https.port=0", "diagnostics.serverPort=0", "dpServer.port=0"];
    let sets = ports.iter().chain(&["multizone.zone.name=east"]).chain(sets);
    let mut effective = sets.fold(Loader::new(Role::Zone), |loader, set| loader.set(set)).load().unwrap().effective;
    effective.fill_in(&Host { home: Some(folder.to_owned()), address: None });
    let running = kuma_zone::run(Config::read(&effective).unwrap()).await.unwrap();
    let ready = running.readiness().ready();
    tokio::time::timeout(std::time::Duration::from_secs(30), ready).await.expect("ready in time");
    running
}

async fn end(running: Running) {
    running.stop().ask();
    assert_eq!(running.end().await, Exit::Clean);
}

fn mesh() -> Value {
    json!({"type": "Mesh", "name": "other"})
}

fn ingress() -> Value {
    json!({"type": "ZoneIngress", "name": "in", "networking": {
        "address": "10.0.0.1", "port": 10001, "advertisedAddress": "10.0.0.1", "advertisedPort": 10001}})
}

/// API-17, API 2.2: alone it is a control plane of its own, and keeps insights.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_alone_writes_everything() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), &["metrics.mesh.minResyncInterval=10ms"]).await;
    let caller = Caller::http(running.api.http);
    for (path, expected) in [
        ("/meshes", &["default"][..]),
        ("/zones", &["east"]),
        ("/hostnamegenerators", &["local-mesh-external-service", "local-universal-mesh-service"]),
        (
            "/global-secrets",
            &[
                "admin-user-token",
                "envoy-admin-ca",
                "inter-cp-ca",
                "user-token-signing-key-1",
                "zone-token-signing-key-1",
            ],
        ),
    ] {
        let (_, list) = caller.get(path).await;
        assert_eq!(names(&list), expected, "{path}");
    }
    assert_eq!(caller.put("/meshes/other", &mesh()).await.0, StatusCode::CREATED);
    assert_eq!(caller.put(INGRESS, &ingress()).await.0, StatusCode::CREATED);
    eventually("the new mesh has its insight", || async {
        caller.get("/mesh-insights/other").await.0 == StatusCode::OK
    })
    .await;
    end(running).await;
}

/// DP-31, DP-32: what is told of a dataplane is told of its zone, at once and without a tick.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_tells_what_follows_from_its_dataplanes() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), &[]).await;
    let caller = Caller::http(running.api.http);
    let everywhere = json!({"type": "Mesh", "name": "default", "meshServices": {"mode": "Everywhere"}});
    assert_eq!(caller.put("/meshes/default", &everywhere).await.0, StatusCode::OK);
    assert_eq!(caller.put(INGRESS, &ingress()).await.0, StatusCode::CREATED);
    let dataplane = |state: &str| {
        json!({"type": "Dataplane", "mesh": "default", "name": "web-1", "networking": {"address": "10.0.0.2",
            "inbound": [{"port": 80, "state": state, "tags": {"kuma.io/service": "web"}}]}})
    };
    let path = "/meshes/default/dataplanes/web-1";
    assert_eq!(caller.put(path, &dataplane("Ready")).await.0, StatusCode::CREATED);
    let offered = async || caller.get(INGRESS).await.1["availableServices"].clone();
    let tags = json!({"kuma.io/service": "web", "kuma.io/zone": "east"});
    let expected = json!([{"tags": tags, "instances": 1, "mesh": "default"}]);
    eventually("the ingress offers the service", || async { offered().await == expected }).await;
    let service = async || caller.get("/meshes/default/meshservices/web").await.1;
    eventually("there is a MeshService", || async { service().await["spec"]["state"] == "Available" }).await;
    assert_eq!(service().await["labels"]["kuma.io/managed-by"], "meshservice-generator");

    assert_eq!(caller.put(path, &dataplane("NotReady")).await.0, StatusCode::OK);
    eventually("the ingress offers it no more", || async { offered().await.as_array().is_none_or(Vec::is_empty) })
        .await;
    eventually("the MeshService is not available", || async { service().await["spec"]["state"] == "Unavailable" })
        .await;
    assert!(running.metrics().markdown().unwrap().contains("`derived_written_total`"));
    end(running).await;
}

/// API 2.2: with a global above, it writes what is a zone's, and the rest comes from there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_federated_zone_writes_only_what_is_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), &[FEDERATED]).await;
    let caller = Caller::http(running.api.http);
    assert_eq!(caller.get("/").await.1["clusterId"], "");
    assert_eq!(names(&caller.get("/meshes").await.1), [""; 0]);
    let (status, refusal) = caller.put("/meshes/other", &mesh()).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(
        refusal["detail"].as_str().unwrap().starts_with("On zone control plane you can only modify zone resources")
    );
    let (status, written) = caller.put(INGRESS, &ingress()).await;
    assert_eq!(status, StatusCode::CREATED, "{written}");
    end(running).await;
}

/// A zone under another name has one Zone still.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_zone_replaces_its_old_self() {
    let folder = tempfile::tempdir().unwrap();
    let file = format!("store.sqlite.path={}", folder.path().join("zone.db").display());
    end(start(folder.path(), &[FEDERATED, &file]).await).await;
    let running = start(folder.path(), &[FEDERATED, &file, "multizone.zone.name=west"]).await;
    let caller = Caller::http(running.api.http);
    eventually("only the new name is left", || async { names(&caller.get("/zones").await.1) == ["west"] }).await;
    end(running).await;
}
