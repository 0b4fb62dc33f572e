//! The whole global control plane in this process, on free ports, in a temporary folder.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests, their helpers included")]

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use config::{Host, Loader, Role};
use http::StatusCode;
use kuma_global::{Config, Running};
use runtime::Exit;
use serde_json::{Value, json};
use store::test_support::TestPostgres;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use client::{Caller, eventually, names};

mod client;

const TIMEOUT: &str = "/meshes/default/meshtimeouts/slow";

const PORTS: &[&str] = &[
    "apiServer.http.port=0",
    "apiServer.https.port=0",
    "diagnostics.serverPort=0",
    "dpServer.port=0",
    "multizone.global.kds.grpcPort=0",
    "interCp.server.port=0",
];

async fn start(folder: &Path, sets: &[&str]) -> Running {
    let running = begin(folder, sets).await;
    ready(&running).await;
    running
}

async fn ready(running: &Running) {
    let ready = running.readiness().ready();
    tokio::time::timeout(std::time::Duration::from_secs(30), ready).await.expect("ready in time");
}

async fn begin(folder: &Path, sets: &[&str]) -> Running {
    let loader = PORTS.iter().chain(sets).fold(Loader::new(Role::Global), |loader, set| loader.set(set));
    let mut effective = loader.load().unwrap().effective;
    effective.fill_in(&Host { home: Some(folder.to_owned()), address: None });
    kuma_global::run(Config::read(&effective).unwrap()).await.unwrap()
}

async fn end(running: Running) {
    running.stop().ask();
    assert_eq!(running.end().await, Exit::Clean);
}

async fn secret(caller: &Caller, name: &str) -> String {
    let (status, secret) = caller.get(&format!("/global-secrets/{name}")).await;
    assert_eq!(status, StatusCode::OK, "{secret}");
    String::from_utf8(STANDARD.decode(secret["data"].as_str().unwrap()).unwrap()).unwrap()
}

fn timeout() -> Value {
    json!({
        "type": "MeshTimeout", "mesh": "default", "name": "slow",
        "spec": {"targetRef": {"kind": "Mesh"}, "to": [{"targetRef": {"kind": "Mesh"}, "default": {"connectionTimeout": "7s"}}]},
    })
}

/// API-1, API-2: what every client asks first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_who_it_is_and_has_its_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), &[]).await;
    let caller = Caller::http(running.api.http);
    let (status, index) = caller.get("/").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((&index["product"], &index["version"], &index["gui"]), (&json!("Kuma"), &json!("2.13.10"), &json!("")));
    let (hostname, id) = (index["hostname"].as_str().unwrap(), index["instanceId"].as_str().unwrap());
    let suffix = id.strip_prefix(hostname).and_then(|rest| rest.strip_prefix('-')).unwrap();
    assert!(suffix.len() == 4 && suffix.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    assert_eq!(index["clusterId"].as_str().unwrap().len(), 36);

    // API-17
    for (path, expected) in [
        ("/meshes", &["default"][..]),
        ("/meshes/default/meshtimeouts", &["mesh-gateways-timeout-all-default", "mesh-timeout-all-default"]),
        ("/meshes/default/meshcircuitbreakers", &["mesh-circuit-breaker-all-default"]),
        ("/meshes/default/meshretries", &["mesh-retry-all-default"]),
        ("/meshes/default/secrets", &["dataplane-token-signing-key-default-1"]),
        (
            "/global-secrets",
            &["admin-user-token", "inter-cp-ca", "user-token-signing-key-1", "zone-token-signing-key-1"],
        ),
        (
            "/hostnamegenerators",
            &[
                "synced-headless-kube-mesh-service",
                "synced-kube-mesh-service",
                "synced-mesh-external-service",
                "synced-mesh-multi-zone-service",
                "synced-universal-mesh-service",
            ],
        ),
        ("/zones", &[]),
    ] {
        let (_, list) = caller.get(path).await;
        assert_eq!(names(&list), expected, "{path}");
    }
    end(running).await;
}

/// API-14, API-15: the administrator's token opens what a stranger finds closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_lets_a_caller_from_elsewhere_write() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), &[]).await;
    let local = Caller::http(running.api.http);
    let stranger = local.as_from_elsewhere();
    assert_eq!(stranger.get("/meshes").await.0, StatusCode::OK);
    assert_eq!(stranger.put(TIMEOUT, &timeout()).await.0, StatusCode::FORBIDDEN);
    assert_eq!(stranger.get("/global-secrets").await.0, StatusCode::FORBIDDEN);
    assert_eq!(stranger.with_token("a.b.c").get("/meshes").await.0, StatusCode::UNAUTHORIZED);

    let admin = stranger.with_token(&secret(&local, "admin-user-token").await);
    let (_, me) = admin.get("/who-am-i").await;
    assert_eq!(me, json!({"name": "mesh-system:admin", "groups": ["mesh-system:admin", "mesh-system:authenticated"]}));
    assert_eq!(admin.put(TIMEOUT, &timeout()).await.0, StatusCode::CREATED);
    assert_eq!(admin.put(TIMEOUT, &timeout()).await.0, StatusCode::OK);
    let (_, stored) = admin.get(TIMEOUT).await;
    assert_eq!(stored["spec"]["to"][0]["default"]["connectionTimeout"], "7s");
    assert_eq!(admin.delete(TIMEOUT).await.0, StatusCode::OK);
    assert_eq!(admin.get(TIMEOUT).await.0, StatusCode::NOT_FOUND);
    end(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn insights_follow_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), &["metrics.mesh.minResyncInterval=10ms"]).await;
    let caller = Caller::http(running.api.http);
    let counted = |wanted: u64| {
        let caller = caller.clone();
        move || {
            let caller = caller.clone();
            async move { caller.get("/mesh-insights/default").await.1["policies"]["MeshTimeout"]["total"] == wanted }
        }
    };
    eventually("two timeouts are counted", counted(2)).await;
    caller.put(TIMEOUT, &timeout()).await;
    eventually("three timeouts are counted", counted(3)).await;
    caller.delete(TIMEOUT).await;
    eventually("two timeouts are counted again", counted(2)).await;
    end(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_everything_and_makes_nothing_anew() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), &[]).await;
    let caller = Caller::http(running.api.http);
    caller.put(TIMEOUT, &timeout()).await;
    assert_eq!(caller.delete("/meshes/default/meshretries/mesh-retry-all-default").await.0, StatusCode::OK);
    assert_eq!(caller.delete("/hostnamegenerators/synced-kube-mesh-service").await.0, StatusCode::OK);
    let (_, index) = caller.get("/").await;
    let token = secret(&caller, "admin-user-token").await;
    end(running).await;

    let running = start(folder.path(), &[]).await;
    let caller = Caller::http(running.api.http);
    let (_, again) = caller.get("/").await;
    assert_eq!(again["clusterId"], index["clusterId"]);
    assert_ne!(again["instanceId"], index["instanceId"]);
    assert_eq!(secret(&caller, "admin-user-token").await, token);
    assert_eq!(caller.get(TIMEOUT).await.0, StatusCode::OK);
    // What comes with a mesh comes once; what the control plane needs comes back.
    let (_, retries) = caller.get("/meshes/default/meshretries").await;
    assert_eq!(names(&retries), [""; 0]);
    eventually("the generator is back", || async {
        caller.get("/hostnamegenerators/synced-kube-mesh-service").await.0 == StatusCode::OK
    })
    .await;
    end(running).await;
}

/// Each switch leaves out what it names and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switches_leave_defaults_out() {
    let all = [("/meshes", 1), ("/hostnamegenerators", 5), ("/global-secrets", 4)];
    for (switch, differs) in [
        ("defaults.skipMeshCreation=true", &[("/meshes", 0)][..]),
        ("defaults.SkipHostnameGenerators=true", &[("/hostnamegenerators", 0)]),
        ("apiServer.authn.tokens.bootstrapAdminToken=false", &[("/global-secrets", 3)]),
        ("defaults.skipTenantResources=true", &[("/meshes", 0), ("/hostnamegenerators", 0), ("/global-secrets", 3)]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let running = start(folder.path(), &[switch, "store.type=memory"]).await;
        let caller = Caller::http(running.api.http);
        for (path, usual) in all {
            let expected = differs.iter().find(|(other, _)| *other == path).map_or(usual, |(_, count)| *count);
            let (_, list) = caller.get(path).await;
            assert_eq!(list["total"], expected, "{switch} {path}");
        }
        end(running).await;
    }
}

/// API-4: a page that came over TLS leads to the next over TLS. The certificate that was made is good for this machine,
/// and another one shows after a reload.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_has_its_certificate_and_its_links() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), &[]).await;
    let (certificate, key) = (folder.path().join(".kuma/kuma-cp.crt"), folder.path().join(".kuma/kuma-cp.key"));
    let (_, page) = Caller::https(running.api.https, &certificate).get("/hostnamegenerators?size=2").await;
    let next = page["next"].as_str().unwrap();
    assert!(next.starts_with("https://localhost:"), "{next}");

    let first = folder.path().join("first.crt");
    std::fs::rename(&certificate, &first).unwrap();
    identity::tls::ensure_certificate(&certificate, &key, &["localhost".to_owned()], chrono::Utc::now()).unwrap();
    running.reload().notify();
    let (running_https, trusted) = (running.api.https, certificate.clone());
    eventually("the new certificate shows", || async {
        let seen = Caller::https(running_https, &trusted);
        tokio::spawn(async move { seen.get("/").await.0 }).await.is_ok_and(|status| status == StatusCode::OK)
    })
    .await;
    end(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn diagnostics_tell_readiness_and_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), &["store.type=memory"]).await;
    let diagnostics = Caller::http(Some(running.diagnostics));
    assert_eq!(diagnostics.get("/ready").await.0, StatusCode::OK);
    let (_, metrics) = diagnostics.get("/metrics").await;
    assert!(metrics.as_str().unwrap().contains("store_resources{stream=\"configuration\"}"), "{metrics}");
    let (api, diagnostics) = (running.api.http.unwrap(), running.diagnostics);
    end(running).await;
    for address in [api, diagnostics] {
        // A port that is free may be another test's for a while.
        let closed = || async move { TcpStream::connect(("127.0.0.1", address.port())).await.is_err() };
        eventually("the port is closed", closed).await;
    }
}

/// docs/metrics.md tells of every metric. `UPDATE_DOCS=1 cargo test -p kuma-global metrics` writes it anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_metrics_are_documented() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), &["store.type=memory"]).await;
    // Without a call there is nothing to tell about calls.
    Caller::http(running.api.http).get("/").await;
    let table = running.metrics().markdown().unwrap();
    end(running).await;
    let text = format!(
        "# Metrics\n\nWhat a control plane tells on `/metrics` of its diagnostics port (5680), in OpenMetrics text. Generated \
         from the code; a test of `kuma-global` checks that it is current.\n\n{table}"
    );
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let mut documented = std::fs::read_to_string(&file).unwrap_or_default();
    // What only a zone tells follows, and a test of the zone looks after it.
    let zones = documented.split_off(documented.find("\n## ").unwrap_or(documented.len()));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, format!("{text}{zones}")).unwrap();
    }
    assert_eq!(documented, text, "docs/metrics.md is not current: UPDATE_DOCS=1 cargo test -p kuma-global metrics");
}

/// Two instances on one database: one makes the defaults, both serve, and what one writes the other shows. When the
/// leader ends, the other keeps the insights.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_share_a_database() {
    let server = TestPostgres::shared().unwrap_or_else(|error| panic!("{error}"));
    let database = server.database().await.unwrap();
    let settings = store::Settings::new(store::Backend::Postgres(database.clone()));
    store::migrate(&settings).await.unwrap();
    let (port, name) =
        (format!("store.postgres.port={}", database.port), format!("store.postgres.dbName={}", database.db_name));
    let sets = ["store.type=postgres", &port, &name, "metrics.mesh.minResyncInterval=10ms"];
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (begin(folder.path(), &sets).await, begin(folder.path(), &sets).await);
    ready(&first).await;
    ready(&second).await;

    let (one, other) = (Caller::http(first.api.http), Caller::http(second.api.http));
    let (_, index) = one.get("/").await;
    assert_eq!(other.get("/").await.1["clusterId"], index["clusterId"]);
    assert_eq!(one.put(TIMEOUT, &timeout()).await.0, StatusCode::CREATED);
    eventually("the other instance shows it", || async { other.get(TIMEOUT).await.0 == StatusCode::OK }).await;

    end(first).await;
    assert_eq!(other.put("/meshes/late", &json!({"type": "Mesh", "name": "late"})).await.0, StatusCode::CREATED);
    eventually("the instance that is left keeps insights", || async {
        other.get("/mesh-insights/late").await.0 == StatusCode::OK
    })
    .await;
    end(second).await;
}

/// The API below a path: routes, links of pages, the way to the page of the GUI. Pages of a named origin may call it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_stands_below_its_base_path_and_lets_a_named_origin_call() {
    let folder = tempfile::tempdir().unwrap();
    let sets = ["apiServer.basePath=/kuma", "apiServer.corsAllowedDomains=https://gui\\.example\\.com"];
    let running = start(folder.path(), &sets).await;
    let caller = Caller::http(running.api.http);
    assert_eq!(caller.get("/kuma").await.1["product"], "Kuma");
    assert_eq!(caller.get("/kuma/meshes/default").await.0, StatusCode::OK);
    assert_eq!(caller.get("/meshes/default").await.0, StatusCode::NOT_FOUND);
    let (_, page) = caller.get("/kuma/hostnamegenerators?size=1").await;
    assert!(page["next"].as_str().unwrap().contains("/kuma/hostnamegenerators?offset=1"), "{page}");

    let address = running.api.http.unwrap();
    let head = async |origin: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", address.port())).await.unwrap();
        let request = format!("GET /kuma HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\norigin: {origin}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.to_lowercase()
    };
    let allowed = "\r\naccess-control-allow-origin: https://gui.example.com\r\n";
    assert!(head("https://gui.example.com").await.contains(allowed));
    assert!(!head("https://evil.example.com").await.contains("\r\naccess-control-allow-origin"));
    end(running).await;
}
