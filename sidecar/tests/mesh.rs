//! Two services of a zone, each behind a real Envoy that `kuma-dp` has started, talk over mTLS.

#![allow(clippy::unwrap_used, reason = "a test, its helpers included")]

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use config::{Host, Loader, Role};
use e2e::eventually;
use kuma_zone::{Config, Running};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// For a change to reach an Envoy and to act, on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// A zone alone, in this process.
struct Zone {
    folder: TempDir,
    running: Running,
}

impl Zone {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sets = [
            "apiServer.http.port=0",
            "apiServer.https.port=0",
            "diagnostics.serverPort=0",
            "dpServer.port=0",
            "dpServer.hds.enabled=false",
            "multizone.zone.name=east",
        ];
        let loader = sets.iter().fold(Loader::new(Role::Zone), |loader, set| loader.set(set));
        let mut effective = loader.load().unwrap().effective;
        effective.fill_in(&Host { home: Some(folder.path().to_owned()), address: None });
        let running = kuma_zone::run(Config::read(&effective).unwrap()).await.unwrap();
        tokio::time::timeout(SOON, running.readiness().ready()).await.unwrap();
        Self { folder, running }
    }

    async fn call(&self, method: &str, path: &str, body: &Value) -> String {
        let (status, body) = http(self.running.api.http.unwrap(), method, path, &body.to_string()).await.unwrap();
        assert!((200..300).contains(&status), "{method} {path}: {status} {body}");
        body
    }

    async fn put(&self, path: &str, body: Value) {
        self.call("PUT", path, &body).await;
    }
}

/// A `kuma-dp` with its Envoy; both are gone when it is dropped.
struct Sidecar {
    process: Child,
    folder: TempDir,
}

impl Sidecar {
    async fn start(zone: &Zone, dataplane: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let claims = json!({"mesh": "default", "name": dataplane["name"], "validFor": "1h"});
        let token = zone.call("POST", "/tokens/dataplane", &claims).await;
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("token", &token);
        write("dataplane.yaml", &dataplane.to_string());
        let authority = zone.folder.path().join(".kuma/kuma-cp.crt");
        let mut command = Command::new(env!("CARGO_BIN_EXE_kuma-dp"));
        command
            .args(["run", "--dataplane-file", "dataplane.yaml", "--dataplane-token-file", "token"])
            .args(["--work-dir", "work", "--drain-time", "1s", "--concurrency", "1", "--dns-enabled=false"])
            .arg(format!("--cp-address=https://localhost:{}", zone.running.proxies.port()))
            .arg("--ca-cert-file")
            .arg(authority)
            .arg("--binary-path")
            .arg(e2e::envoy("1.36.").unwrap())
            .env("KUMA_READINESS_PORT", free_port().to_string())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(folder.path().join("log")).unwrap())
            .stderr(std::fs::File::create(folder.path().join("errors")).unwrap());
        std::fs::create_dir(folder.path().join("work")).unwrap();
        Self { process: command.spawn().unwrap(), folder }
    }

    fn envoy(&self) -> Option<Pid> {
        let noted = std::fs::read_to_string(self.folder.path().join("work/envoy.pid")).ok()?;
        Pid::from_raw(noted.trim().parse().ok()?)
    }

    /// Asks it to end, and waits for the end.
    async fn end(&mut self) -> std::process::ExitStatus {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
        eventually(SOON, "kuma-dp has ended", async || self.process.try_wait().unwrap().is_some()).await;
        self.process.wait().unwrap()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let envoy = self.envoy();
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Some(envoy) = envoy.filter(|pid| runs(*pid)) {
            let _ = kill_process(envoy, Signal::KILL);
        }
    }
}

fn runs(pid: Pid) -> bool {
    Path::new(&format!("/proc/{}", pid.as_raw_nonzero())).exists()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Status and body of the answer.
async fn http(address: SocketAddr, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
    let address = SocketAddr::new([127, 0, 0, 1].into(), address.port());
    let mut stream = TcpStream::connect(address).await?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    Ok((status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()))
}

fn dataplane(name: &str, service: u16, calls: Option<(u16, &str)>) -> Value {
    let outbound = |(port, service): (u16, &str)| json!([{"port": port, "tags": {"kuma.io/service": service}}]);
    json!({
        "type": "Dataplane", "mesh": "default", "name": name,
        "networking": {
            "address": "127.0.0.1",
            "admin": {"port": free_port()},
            "inbound": [{
                "port": free_port(), "servicePort": service, "serviceAddress": "127.0.0.1",
                "tags": {"kuma.io/service": name, "kuma.io/protocol": "http"},
            }],
            "outbound": calls.map_or(json!([]), outbound),
        },
    })
}

/// A call is allowed by a permission and by nothing else; it goes on while the control plane is away, after its Envoy was
/// killed and came back, and `kuma-dp` ends its Envoy with itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_call_each_other_through_real_envoys() {
    let zone = Zone::start().await;
    let backends = json!([{"name": "ca-1", "type": "builtin"}]);
    let mesh = json!({"type": "Mesh", "name": "default", "mtls": {"enabledBackend": "ca-1", "backends": backends}});
    zone.put("/meshes/default", mesh).await;

    let service = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = service.local_addr().unwrap().port();
    let app = Router::new().route("/", get(async || "hello from api"));
    tokio::spawn(async move { axum::serve(service, app).await });

    let call = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut api = Sidecar::start(&zone, &dataplane("api", port, None)).await;
    let web = Sidecar::start(&zone, &dataplane("web", free_port(), Some((call.port(), "api")))).await;
    let status = async || http(call, "GET", "/", "").await.map_or(0, |(status, _)| status);
    eventually(SOON, "nobody may call without a permission", async || status().await == 403).await;

    let allow = json!([{"targetRef": {"kind": "Mesh"}, "default": {"action": "Allow"}}]);
    let permission =
        json!({"type": "MeshTrafficPermission", "mesh": "default", "name": "all", "spec": {"from": allow}});
    zone.put("/meshes/default/meshtrafficpermissions/all", permission).await;
    eventually(SOON, "the call is allowed", async || status().await == 200).await;
    assert_eq!(http(call, "GET", "/", "").await.unwrap().1, "hello from api");

    let before = api.envoy().unwrap();
    kill_process(before, Signal::KILL).unwrap();
    eventually(SOON, "another Envoy runs", async || api.envoy().is_some_and(|now| now != before)).await;
    eventually(SOON, "the new Envoy serves", async || status().await == 200).await;

    zone.running.stop().ask();
    zone.running.end().await;
    for _ in 0..20 {
        assert_eq!(status().await, 200, "the control plane is away, and what runs goes on");
    }

    let envoy = api.envoy().unwrap();
    assert!(api.end().await.success());
    assert!(!runs(envoy), "Envoy ends with kuma-dp");
    drop(web);
}
