//! A mesh comes with what it needs, and goes with it.

#![expect(clippy::unwrap_used, reason = "a test: what is missing ends it")]

use std::net::SocketAddr;

use api::{Addressing, Instance, Issuers, NewMesh, Settings};
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::Request;
use model::mode::Mode;
use runtime::Clock;
use serde_json::{Value, json};
use store::{Backend, Store};
use tower::ServiceExt;

async fn global() -> Router {
    let store = Store::open(store::Settings::new(Backend::SqliteInMemory)).await.unwrap();
    let instance = Instance { id: "g-1".into(), hostname: "g".into(), gui: String::new(), own_version: "0".into() };
    let settings = Settings {
        mode: Mode::Global,
        read_only: false,
        unsafe_delete: false,
        skip_origin_check: false,
        instance,
        config: "{}".into(),
        addressing: Addressing { domain: "mesh".into(), port: 80 },
        new_mesh: NewMesh::default(),
        issuers: Issuers::default(),
        access: identity::Access::default(),
        authentication: identity::Authentication::default(),
        limits: api::Limits::default(),
        proxy_admin: None,
        audit: None,
        place: api::Place::default(),
        metrics: api::Metrics::default(),
    };
    api::router(settings, store, Clock::system())
}

/// Sends a request as a local caller: status and JSON of the answer.
async fn send(router: &Router, method: &str, path: &str, body: Value) -> (u16, Value) {
    let peer: SocketAddr = "127.0.0.1:4000".parse().unwrap();
    let request = Request::builder().method(method).uri(path).header("host", "127.0.0.1:5681");
    let request = request.header("content-type", "application/json").extension(ConnectInfo(peer));
    let response = router.clone().oneshot(request.body(Body::from(body.to_string())).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

async fn names(router: &Router, path: &str) -> Vec<String> {
    let (_, list) = send(router, "GET", path, Value::Null).await;
    list["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

fn with_backend(conf: Value) -> Value {
    json!({"type": "Mesh", "name": "demo", "mtls": {"enabledBackend": "ca-1",
        "backends": [{"name": "ca-1", "type": "builtin", "conf": conf}]}})
}

#[tokio::test]
async fn a_mesh_comes_with_policies_keys_and_authorities() {
    let global = global().await;
    assert_eq!(send(&global, "PUT", "/meshes/demo", json!({"type": "Mesh", "name": "demo"})).await.0, 201);
    assert_eq!(names(&global, "/meshes/demo/secrets").await, ["dataplane-token-signing-key-demo-1"]);
    assert_eq!(names(&global, "/meshes/demo/meshtimeouts").await.len(), 2);

    assert_eq!(send(&global, "PUT", "/meshes/demo", with_backend(json!({}))).await.0, 200);
    let secrets = names(&global, "/meshes/demo/secrets").await;
    assert_eq!(
        secrets,
        ["dataplane-token-signing-key-demo-1", "demo.ca-builtin-cert-ca-1", "demo.ca-builtin-key-ca-1"]
    );

    let (status, refusal) = send(&global, "DELETE", "/meshes/demo/secrets/demo.ca-builtin-key-ca-1", Value::Null).await;
    assert_eq!(status, 400);
    assert!(refusal["invalid_parameters"][0]["reason"].as_str().unwrap().contains("currently in use in Mesh"));

    assert_eq!(send(&global, "DELETE", "/meshes/demo", Value::Null).await.0, 200);
    assert!(names(&global, "/secrets").await.is_empty());
    assert!(names(&global, "/meshtimeouts").await.is_empty());
}

#[tokio::test]
async fn an_authority_that_cannot_be_made_leaves_nothing_behind() {
    let global = global().await;
    let (status, refusal) =
        send(&global, "PUT", "/meshes/demo", with_backend(json!({"caCert": {"RSAbits": 100}}))).await;
    assert_eq!(status, 400, "{refusal}");
    assert!(names(&global, "/meshes").await.is_empty());
    assert!(names(&global, "/secrets").await.is_empty());
}
