//! Recorded sessions of Kuma's control planes, one connection at a time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use kds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use prost::Message;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Bytes of every distinct message.
static MESSAGES: LazyLock<Vec<Bytes>> = LazyLock::new(|| {
    let messages = lines(&root().join("kds-proto/tests/recorded/messages.jsonl"));
    messages.iter().map(|message| BASE64_STANDARD.decode(message["raw"].as_str().unwrap()).unwrap().into()).collect()
});

/// What was said on one connection of a zone.
#[derive(Default)]
pub struct Session {
    pub scenario: String,
    pub zone: String,
    /// GlobalToZoneSync, in order.
    pub down: Vec<Down>,
    /// ZoneToGlobalSync, in order.
    pub up: Vec<Up>,
}

/// One message of GlobalToZoneSync.
#[expect(clippy::large_enum_variant, reason = "there are a few thousand of them, once")]
pub enum Down {
    Asked(DeltaDiscoveryRequest),
    /// What the recording changed in it before the zone saw it.
    Told(DeltaDiscoveryResponse, Option<String>),
}

/// One message of ZoneToGlobalSync.
#[expect(clippy::large_enum_variant, reason = "there are a few thousand of them, once")]
pub enum Up {
    Told(DeltaDiscoveryResponse),
    Asked(DeltaDiscoveryRequest),
}

impl Session {
    /// Whether the recording has the stream from its beginning.
    pub fn is_whole(&self) -> bool {
        self.down.iter().any(|event| matches!(event, Down::Asked(request) if request.response_nonce.is_empty()))
    }
}

/// Every session of every scenario, in order.
pub fn sessions() -> Vec<Session> {
    let folder = root().join("crates/discovery/tests/recorded");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    files.iter().flat_map(|file| sessions_of(file)).collect()
}

fn sessions_of(file: &Path) -> Vec<Session> {
    let scenario = file.file_stem().unwrap().to_string_lossy().into_owned();
    let mut sessions: BTreeMap<(String, u64), Session> = BTreeMap::new();
    for event in lines(file).iter().filter(|event| event["kind"] == "msg") {
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let (zone, down) = (text("zone"), text("dir") == "g2z");
        let key = (zone.clone(), event["conn"].as_u64().unwrap());
        let session =
            sessions.entry(key).or_insert_with(|| Session { scenario: scenario.clone(), zone, ..Session::default() });
        let Some(line) = event["message"].as_u64() else { continue };
        let bytes = MESSAGES[usize::try_from(line).unwrap()].clone();
        let request = || {
            let mut request = DeltaDiscoveryRequest::decode(bytes.clone()).unwrap();
            if let Some(type_url) = event["type_url"].as_str() {
                request.type_url = type_url.to_owned();
            }
            request
        };
        let response = || DeltaDiscoveryResponse::decode(bytes.clone()).unwrap();
        match (text("method").rsplit('/').next().unwrap(), down) {
            ("GlobalToZoneSync", true) => {
                session.down.push(Down::Told(response(), event["injected"].as_str().map(str::to_owned)));
            }
            ("GlobalToZoneSync", false) => session.down.push(Down::Asked(request())),
            ("ZoneToGlobalSync", true) => session.up.push(Up::Asked(request())),
            // What the recording changed is not what the zone told.
            ("ZoneToGlobalSync", false) if event["injected"].is_null() => session.up.push(Up::Told(response())),
            _ => {}
        }
    }
    sessions.into_values().filter(|session| !session.down.is_empty() || !session.up.is_empty()).collect()
}
