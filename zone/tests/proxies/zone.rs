//! A whole zone in this process, alone, on free ports, in a temporary folder.

use std::path::Path;
use std::time::Duration;

use config::{Host, Loader, Role};
use http::StatusCode;
use kuma_zone::{Config, Running};
use runtime::Exit;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Dialler;
use crate::http_client::Caller;

pub struct Zone {
    pub folder: TempDir,
    pub running: Running,
    pub api: Caller,
}

impl Zone {
    /// A zone whose proxies are removed 300 ms after they have left.
    pub async fn start(sets: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::start_in(folder, sets).await
    }

    pub async fn start_in(folder: TempDir, sets: &[&str]) -> Self {
        let fixed = [
            "apiServer.http.port=0",
            "apiServer.https.port=0",
            "diagnostics.serverPort=0",
            "dpServer.port=0",
            "multizone.zone.name=east",
            "xdsServer.dataplaneDeregistrationDelay=300ms",
        ];
        let sets = fixed.iter().chain(sets);
        let mut effective = sets.fold(Loader::new(Role::Zone), |loader, set| loader.set(set)).load().unwrap().effective;
        effective.fill_in(&Host { home: Some(folder.path().to_owned()), address: None });
        let running = kuma_zone::run(Config::read(&effective).unwrap()).await.unwrap();
        let ready = running.readiness().ready();
        tokio::time::timeout(Duration::from_secs(30), ready).await.expect("ready in time");
        let api = Caller::http(running.api.http);
        Self { folder, running, api }
    }

    /// The control plane's own certificate.
    fn certificate(&self) -> std::path::PathBuf {
        let folder: &Path = &self.folder.path().join(".kuma");
        folder.join("kuma-cp.crt")
    }

    pub fn dialler(&self) -> Dialler {
        Dialler::new(self.running.proxies, &self.certificate())
    }

    pub fn https(&self) -> Caller {
        Caller::https(Some(self.running.proxies), &self.certificate())
    }

    pub async fn dataplane_token(&self, claims: Value) -> String {
        let (status, token) = self.api.post("/tokens/dataplane", &claims).await;
        assert_eq!(status, StatusCode::OK, "{token}");
        token.as_str().unwrap().to_owned()
    }

    /// A token for any proxy of the mesh `default`.
    pub async fn token(&self) -> String {
        self.dataplane_token(json!({"mesh": "default", "validFor": "1h"})).await
    }

    pub async fn get(&self, path: &str) -> Option<Value> {
        let (status, body) = self.api.get(path).await;
        (status == StatusCode::OK).then_some(body)
    }

    pub async fn put(&self, path: &str, body: Value) {
        let (status, answer) = self.api.put(path, &body).await;
        assert!(status.is_success(), "{path}: {answer}");
    }

    /// What it counts.
    pub fn counted(&self, metric: &str) -> u64 {
        let text = self.running.metrics().text().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(metric));
        line.unwrap_or_else(|| panic!("{metric} is not in {text}")).trim().parse().unwrap()
    }

    /// Ends; what is left is what a next start finds.
    pub async fn end(self) -> TempDir {
        self.running.stop().ask();
        assert_eq!(self.running.end().await, Exit::Clean);
        self.folder
    }
}

/// A Dataplane that offers a service on a port and calls others.
pub fn dataplane(name: &str, address: &str, service: &str, calls: &[&str]) -> Value {
    let outbound = |(at, service): (usize, &&str)| json!({"port": 20000 + at, "tags": {"kuma.io/service": service}});
    let outbounds: Vec<Value> = calls.iter().enumerate().map(outbound).collect();
    json!({
        "type": "Dataplane", "mesh": "default", "name": name,
        "networking": {
            "address": address,
            "inbound": [{"port": 8080, "tags": {"kuma.io/service": service, "kuma.io/protocol": "http"}}],
            "outbound": outbounds,
        },
    })
}
