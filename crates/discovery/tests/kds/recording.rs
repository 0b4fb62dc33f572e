//! What was recorded, event by event.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use kds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use prost::Message;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
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

/// One thing that a proxy between the control planes saw.
#[derive(Debug)]
pub enum Event {
    /// A step of the scenario begins.
    Mark(String),
    /// A zone asks the global, or answers it, on GlobalToZoneSync.
    AsksDown(Stream, DeltaDiscoveryRequest),
    /// The global tells a zone; whether the recording changed the message on its way.
    TellsDown(Stream, DeltaDiscoveryResponse, bool),
    /// The global asks a zone, or answers it, on ZoneToGlobalSync.
    AsksUp(Stream, DeltaDiscoveryRequest),
    /// A zone tells the global, as the global saw it.
    TellsUp(Stream, DeltaDiscoveryResponse),
    /// A connection is gone.
    Closed(u64),
}

/// Both streams of a zone on one connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stream {
    pub connection: u64,
    pub zone: String,
}

/// The events of a scenario, in order.
pub fn events(scenario: &str) -> Vec<Event> {
    let file = root().join("crates/discovery/tests/recorded").join(scenario).with_extension("jsonl");
    lines(&file).iter().filter_map(event).collect()
}

fn event(line: &Value) -> Option<Event> {
    let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
    match &*text("kind") {
        "mark" => return Some(Event::Mark(text("mark"))),
        "conn_close" => return Some(Event::Closed(line["conn"].as_u64()?)),
        "msg" => {}
        _ => return None,
    }
    let stream = Stream { connection: line["conn"].as_u64()?, zone: text("zone") };
    let bytes = MESSAGES[usize::try_from(line["message"].as_u64()?).unwrap()].clone();
    let response = || DeltaDiscoveryResponse::decode(bytes.clone()).unwrap();
    let request = || {
        let mut request = DeltaDiscoveryRequest::decode(bytes.clone()).unwrap();
        if let Some(type_url) = line["type_url"].as_str() {
            type_url.clone_into(&mut request.type_url);
        }
        request
    };
    match (text("method").rsplit('/').next()?, &*text("dir")) {
        ("GlobalToZoneSync", "z2g") => Some(Event::AsksDown(stream, request())),
        ("GlobalToZoneSync", _) => Some(Event::TellsDown(stream, response(), !line["injected"].is_null())),
        ("ZoneToGlobalSync", "z2g") => Some(Event::TellsUp(stream, response())),
        ("ZoneToGlobalSync", _) => Some(Event::AsksUp(stream, request())),
        _ => None,
    }
}
