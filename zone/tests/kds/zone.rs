//! The zone under test: the whole program in this process.

use std::path::Path;

use config::{Host, Loader, Role};
use kuma_zone::{Config, Running};
use runtime::{Exit, Fatal};

use crate::client::Caller;
use crate::global::Global;

/// A zone with its store in a folder; it serves, whatever its global does.
pub struct Zone {
    pub running: Running,
    pub api: Caller,
}

/// Starts zone `east` that follows a global.
pub async fn start(folder: &Path, global: &Global, sets: &[&str]) -> Zone {
    start_as("east", folder, global, sets).await
}

/// Starts a zone that follows a global.
async fn start_as(name: &str, folder: &Path, global: &Global, sets: &[&str]) -> Zone {
    follow(name, folder, global, sets, |config| config).await
}

/// Starts a zone that follows a global and adds nothing to what it is given.
pub async fn start_plain(name: &str, folder: &Path, global: &Global, sets: &[&str]) -> Zone {
    follow(name, folder, global, sets, Config::without_conclusions).await
}

async fn follow(name: &str, folder: &Path, global: &Global, sets: &[&str], change: fn(Config) -> Config) -> Zone {
    let address = format!("multizone.zone.globalAddress=grpc://{}", global.address);
    let name = format!("multizone.zone.name={name}");
    let sets: Vec<&str> = [&*address, &*name].into_iter().chain(sets.iter().copied()).collect();
    let running = try_start_as(folder, &sets, change).await.expect("a zone that starts");
    let ready = running.readiness().ready();
    tokio::time::timeout(crate::global::LIMIT, ready).await.expect("ready in time");
    let api = Caller::http(running.api.http);
    Zone { running, api }
}

/// Starts zone `east`, if nothing keeps it from that.
pub async fn try_start(folder: &Path, sets: &[&str]) -> Result<Running, Fatal> {
    try_start_as(folder, sets, |config| config).await
}

async fn try_start_as(folder: &Path, sets: &[&str], change: fn(Config) -> Config) -> Result<Running, Fatal> {
    let ports = ["apiServer.http.port=0", "apiServer.https.port=0", "diagnostics.serverPort=0", "dpServer.port=0"];
    let sets = ports.iter().chain(&["multizone.zone.name=east"]).chain(sets);
    let mut effective = sets.fold(Loader::new(Role::Zone), |loader, set| loader.set(set)).load().unwrap().effective;
    effective.fill_in(&Host { home: Some(folder.to_owned()), address: None });
    kuma_zone::run(change(Config::read(&effective)?)).await
}

impl Zone {
    pub async fn end(self) {
        self.running.stop().ask();
        assert_eq!(self.running.end().await, Exit::Clean);
    }
}
