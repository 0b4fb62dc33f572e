use std::path::Path;

use axum::Router;
use axum::routing::post;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::Utc;
use config::{Loader, Role};
use http_body_util::BodyExt;
use identity::tls::{Files, ensure_certificate};
use model::{Labels, Payload};
use serde_json::json;
use store::{Backend, Batch};
use tower::ServiceExt;

use super::*;

fn settings(sets: &[&str]) -> Settings {
    let loader = sets.iter().fold(Loader::new(Role::Zone), |loader, set| loader.set(set));
    let mut effective = loader.load().unwrap().effective;
    effective.fill_in(&config::Host::default());
    Settings::configured(&effective)
}

fn mesh(spec: Value) -> Resource {
    let mesh: Mesh = kds_proto::json::from_value(spec, kds_proto::json::UnknownFields::Refused).unwrap();
    Resource::new(Key::global(Kind::Mesh, "default"), Labels::default(), Payload::from_message(&mesh))
}

/// A zone with the mesh `default`, whose certificate is good for `localhost`.
async fn zone(folder: &Path, sets: &[&str], spec: Value) -> Router {
    let files = Files { certificate: folder.join("c"), key: folder.join("k"), ..Files::default() };
    ensure_certificate(&files.certificate, &files.key, &["localhost".to_owned()], Utc::now()).unwrap();
    let store = Store::open(store::Settings::new(Backend::SqliteInMemory)).await.unwrap();
    store.apply(Batch::new().put(mesh(spec))).await.unwrap();
    let tls = ServerTls::load(files, &["h2"]).unwrap();
    let bootstrap = Bootstrap::new(settings(sets), store, tls, Metrics::default());
    Router::new().route("/bootstrap", post(answer)).with_state(Arc::new(bootstrap))
}

async fn call(zone: &Router, host: &str, accept: &str, body: &str) -> (StatusCode, String) {
    let request = HttpRequest::post("/bootstrap").header(HOST, host).header(ACCEPT, accept);
    let response = zone.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn refused(zone: &Router, request: &Value) -> (u16, String) {
    let (status, text) = call(zone, "localhost:5678", "application/json", &request.to_string()).await;
    (status.as_u16(), text)
}

fn started(text: &str) -> (Value, Value) {
    let mut answer: Value = serde_json::from_str(text).unwrap();
    let yaml = BASE64_STANDARD.decode(answer["bootstrap"].as_str().unwrap()).unwrap();
    (serde_yaml::from_slice(&yaml).unwrap(), answer["kumaSidecarConfiguration"].take())
}

fn dataplane(extra: Value) -> Value {
    let mut request = json!({
        "mesh": "default", "name": "web", "proxyType": "dataplane", "dataplaneToken": "secret",
        "dataplaneResource": json!({
            "type": "Dataplane", "mesh": "default", "name": "web",
            "networking": {
                "address": "10.0.0.1",
                "inbound": [{"port": 80, "tags": {"kuma.io/service": "web"}}, {"port": 81, "tags": {"kuma.io/service": "api"}}],
            },
        }).to_string(),
    });
    request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    request
}

/// DP-1, DP-5: what an unmodified proxy was told by Kuma, it is told by us, field for field. Features come in the order in
/// which the proxy names them; Kuma's is random.
#[tokio::test]
async fn proxies_start_as_they_were_recorded() {
    let recorded =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded/bootstrap.jsonl"));
    for line in recorded.unwrap().lines() {
        let run: Value = serde_json::from_str(line).unwrap();
        let port = run["envoy"]["staticResources"]["clusters"][1]["loadAssignment"]["endpoints"][0]["lbEndpoints"][0]
            ["endpoint"]["address"]["socketAddress"]["portValue"]
            .as_u64()
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mode = if run["run"].as_str().unwrap().contains("exclusive") { "Exclusive" } else { "Disabled" };
        let port = format!("bootstrapServer.params.xdsPort={port}");
        let zone = zone(folder.path(), &[&port], json!({"meshServices": {"mode": mode}})).await;
        let mut request = run["request"].clone();
        request["caCert"] = Value::Null;
        let (status, text) = call(&zone, "localhost:24678", "application/json", &request.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{}: {text}", run["run"]);
        let (mut envoy, sidecar) = started(&text);
        let authority = envoy["staticResources"]["secrets"][0]["validationContext"]["trustedCa"]["inlineBytes"].take();
        let pem = BASE64_STANDARD.decode(authority.as_str().unwrap()).unwrap();
        assert_eq!(pem, std::fs::read(folder.path().join("c")).unwrap());
        envoy["staticResources"]["secrets"][0]["validationContext"]["trustedCa"]["inlineBytes"] = json!("<pem-base64>");
        let mut expected = run["envoy"].clone();
        for document in [&mut envoy, &mut expected] {
            let features = document["node"]["metadata"]["features"].as_array_mut().unwrap();
            features.sort_by_key(ToString::to_string);
        }
        assert_eq!(envoy, expected, "{}", run["run"]);
        assert_eq!(sidecar, run["sidecar"], "{}", run["run"]);
    }
}

/// DP-2, DP-3, DP-4: each way of being refused has its status and says what to do.
#[tokio::test]
async fn a_proxy_that_may_not_start_is_told_why() {
    let folder = tempfile::tempdir().unwrap();
    let zone = zone(folder.path(), &[], json!({})).await;
    for (change, status, beginning) in [
        (json!({"dataplaneToken": ""}), 422, "this proxy has to show a token: make one with `kumactl"),
        (json!({"dataplaneResource": "{}"}), 422, "type: a Dataplane is wanted, \"\" is given"),
        (json!({"dataplaneResource": "a: [b"}), 422, "dataplane resource:"),
        (
            json!({"dataplaneResource": r#"{"type": "Dataplane", "mesh": "default", "name": "web", "networking": {"address": "0.0.0.0"}}"#}),
            422,
            "networking: has to contain at least one inbound interface or gateway; networking.address: must",
        ),
        (
            json!({"dataplaneResource": r#"{"type": "Dataplane", "mesh": "nope", "name": "web", "networking": {
                "address": "10.0.0.1", "inbound": [{"port": 80, "tags": {"kuma.io/service": "web"}}]}}"#}),
            422,
            "mesh: mesh \"nope\" does not exist",
        ),
        (json!({"proxyType": "ghost"}), 500, "unknown proxy type ghost"),
        (json!({"dataplaneResource": null}), 404, ""),
        (json!({"caCert": "nothing"}), 500, "the authority of the control plane cannot be read: "),
        (json!({"name": 5}), 400, "the request cannot be read: invalid type"),
    ] {
        let (found, text) = refused(&zone, &dataplane(change.clone())).await;
        assert_eq!(found, status, "{change}: {text}");
        assert!(if beginning.is_empty() { text.is_empty() } else { text.starts_with(beginning) }, "{change}: {text}");
    }
    let (status, text) = call(&zone, "elsewhere:5678", "application/json", &dataplane(json!({})).to_string()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let told = "the certificate of this control plane is good for localhost, and the proxy dials it as \"elsewhere\": ";
    assert!(text.starts_with(told), "{text}");
    let (status, _) = call(&zone, "localhost", "application/json", "{").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, _) = call(&zone, "localhost", "application/json", &" ".repeat(MAX_REQUEST + 1)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

/// A certificate that is no authority helps nobody but its own server.
#[tokio::test]
async fn a_trusted_certificate_has_to_be_an_authority_or_the_servers_own() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let zone = zone(folder.path(), &[], json!({})).await;
    let pem = |folder: &Path| std::fs::read_to_string(folder.join("c")).unwrap();
    let hosts = ["localhost".to_owned()];
    ensure_certificate(&other.path().join("c"), &other.path().join("k"), &hosts, Utc::now()).unwrap();
    let (status, text) = refused(&zone, &dataplane(json!({"caCert": pem(other.path())}))).await;
    assert_eq!(status, 400);
    assert!(text.starts_with("the proxy trusts a certificate that is no authority"), "{text}");
    assert_eq!(refused(&zone, &dataplane(json!({"caCert": pem(folder.path())}))).await.0, 200);
}

#[tokio::test]
async fn explicit_outbounds_and_redirected_connections_exclude_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let zone = zone(folder.path(), &[], json!({})).await;
    let resource = json!({"type": "Dataplane", "mesh": "default", "name": "web", "networking": {
        "address": "10.0.0.1", "inbound": [{"port": 80, "tags": {"kuma.io/service": "web"}}],
        "outbound": [{"port": 81, "tags": {"kuma.io/service": "api"}}]}});
    let redirect = json!({"redirect": {"inbound": {"enabled": true, "port": 15006}}});
    let request = dataplane(json!({"dataplaneResource": resource.to_string(), "dataplaneConfig": redirect}));
    let (status, text) = refused(&zone, &request).await;
    assert_eq!((status, &*text), (422, "outbound: should be empty since dataplane is in Transparent Proxying mode"));
}

#[tokio::test]
async fn settings_and_the_request_shape_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let sets = [
        "dpServer.authn.enableReloadableTokens=true",
        "dpServer.hds.enabled=false",
        "bootstrapServer.params.xdsConnectTimeout=1500ms",
        "dpServer.authn.dpProxy.type=none",
    ];
    let metrics = json!({"metrics": {"enabledBackend": "p", "backends": [{"name": "p", "type": "prometheus", "conf": {
        "aggregate": [{"name": "app", "port": 9, "path": "/m"}, {"name": "off", "port": 9, "enabled": false}]}}]}});
    let zone = zone(folder.path(), &sets, metrics).await;
    let gateway = json!({"type": "Dataplane", "mesh": "default", "name": "web", "networking": {
        "address": "10.0.0.1", "gateway": {"type": "BUILTIN", "tags": {"kuma.io/service": "edge"}}}});
    let request = dataplane(json!({
        "dataplaneToken": "", "dataplaneTokenPath": "/token", "dataplaneResource": gateway.to_string(),
        "resources": {"maxHeapSizeBytes": 1000}, "features": ["feature-delta-grpc"], "appProbeProxyDisabled": true,
        "dynamicMetadata": {"a": "b"}, "workdir": format!("/{}", "w".repeat(200)), "readinessPort": 0,
    }));
    let (status, text) = call(&zone, "localhost", "application/json", &request.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let (envoy, sidecar) = started(&text);
    let source = &envoy["dynamicResources"]["adsConfig"];
    assert_eq!(source["apiType"], "DELTA_GRPC");
    let google = &source["grpcServices"][0]["googleGrpc"];
    assert_eq!(google["callCredentials"][0]["fromPlugin"]["typedConfig"]["secretData"]["filename"], "/token");
    let clusters = envoy["staticResources"]["clusters"].as_array().unwrap();
    assert_eq!(clusters.len(), 1);
    assert_eq!(clusters[0]["connectTimeout"], "1.500s");
    let path = &clusters[0]["loadAssignment"]["endpoints"][0]["lbEndpoints"][0]["endpoint"]["address"]["pipe"]["path"];
    assert_eq!(path.as_str().unwrap().len(), 98 + ".sock".len());
    assert_eq!(envoy.get("hdsConfig"), None);
    assert_eq!(envoy["admin"]["address"]["socketAddress"]["portValue"], 9901);
    assert_eq!(envoy["node"]["cluster"], "edge");
    assert_eq!(envoy["node"]["metadata"]["dataplane.appProbeProxy.enabled"], "true");
    assert_eq!(envoy["node"]["metadata"].get("dataplane.readinessReporter.port"), None);
    assert_eq!(envoy["layeredRuntime"]["layers"][1]["rtdsLayer"]["name"], "gateway.listeners");
    assert_eq!(
        envoy["overloadManager"]["resourceMonitors"][0]["typedConfig"]["maxActiveDownstreamConnections"],
        "50000"
    );
    assert_eq!(envoy["overloadManager"]["actions"][1]["triggers"][0]["threshold"]["value"], 0.98);
    assert_eq!(
        sidecar["metrics"]["aggregate"],
        json!([{"name": "app", "address": "10.0.0.1", "port": 9, "path": "/m"}])
    );

    // Who does not ask for JSON gets Envoy's configuration alone.
    let (_, yaml) = call(&zone, "localhost", "*/*", &request.to_string()).await;
    assert_eq!(serde_yaml::from_str::<Value>(&yaml).unwrap(), envoy);
}

/// More proxies than there are places wait for one, and are told to come again before they time out.
#[tokio::test]
async fn too_many_proxies_at_once_are_told_to_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let files = Files { certificate: folder.path().join("c"), key: folder.path().join("k"), ..Files::default() };
    ensure_certificate(&files.certificate, &files.key, &["localhost".to_owned()], Utc::now()).unwrap();
    let store = Store::open(store::Settings::new(Backend::SqliteInMemory)).await.unwrap();
    let tls = ServerTls::load(files, &["h2"]).unwrap();
    let bootstrap = Bootstrap::new(settings(&[]), store, tls, Metrics::default());
    tokio::time::pause();
    let all = bootstrap.places.acquire_many(u32::try_from(CONCURRENT).unwrap()).await.unwrap();
    let refused = bootstrap.answer(Body::from("{}"), "localhost").await.err().unwrap();
    assert_eq!(refused.into_response().status(), StatusCode::SERVICE_UNAVAILABLE);
    drop(all);
    assert!(matches!(bootstrap.answer(Body::from("{}"), "localhost").await.err(), Some(Refusal::NoToken)));
}

#[test]
fn the_host_is_told_without_its_port() {
    let named = |text: &'static str| {
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(text))]);
        host(&headers, &Uri::from_static("/bootstrap")).to_owned()
    };
    assert_eq!(named("cp:5678"), "cp");
    assert_eq!(named("cp"), "cp");
    assert_eq!(named("[::1]:5678"), "::1");
    assert_eq!(host(&HeaderMap::new(), &Uri::from_static("https://cp:1/bootstrap")), "cp");
}
