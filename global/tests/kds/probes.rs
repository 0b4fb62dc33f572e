//! Single calls, as a hand-made client made them to a global of Kuma: the same status, and as far as they go the same
//! messages (`tests/recorded/kds-probes.jsonl`).

use std::collections::BTreeSet;
use std::time::Duration;

use http::StatusCode;
use kds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use kds_proto::kuma::mesh::v1alpha1::{StatsRequest, StatsResponse};
use serde_json::{Value, json};
use tonic::Status;

use crate::world::{Call, Dialled, OPEN, World, subscription};

/// How long a call that nothing ends is listened to.
const LISTEN: Duration = Duration::from_millis(1500);

/// Differences that are meant, by the name of the probe: see docs/decisions/kuma-differences.md.
const MEANT: &[(&str, &str)] = &[
    ("global-to-zone-without-node", "the global of Kuma dies of it; ours fails the stream"),
    ("global-to-zone-minimal-node", "names of types with status are empty there; ours are the plain names"),
];

fn recorded() -> Vec<Value> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded/kds-probes.jsonl");
    std::fs::read_to_string(file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the recorded global held.
async fn furnish(world: &World) {
    let api = world.api();
    let mtls = json!({"enabledBackend": "ca-1", "backends": [{"name": "ca-1", "type": "builtin"}]});
    let to = json!([{"targetRef": {"kind": "Mesh"}, "default": {"connectionTimeout": "7s"}}]);
    for (path, body) in [
        ("/meshes/default", json!({"type": "Mesh", "name": "default", "mtls": mtls})),
        (
            "/meshes/default/meshtimeouts/g-mt",
            json!({"type": "MeshTimeout", "mesh": "default", "name": "g-mt", "spec": {"to": to}}),
        ),
        (
            "/meshes/default/meshmultizoneservices/mzs",
            json!({"type": "MeshMultiZoneService", "mesh": "default", "name": "mzs",
                "spec": {"selector": {"meshService": {"matchLabels": {"a": "b"}}}, "ports": [{"port": 80}]}}),
        ),
    ] {
        let (status, answer) = api.put(path, &body).await;
        assert!(status.is_success(), "{path}: {status} {answer}");
    }
    assert_eq!(api.get("/meshes/default/secrets").await.0, StatusCode::OK);
}

/// What the hand-made client sent, by the notes of the probe.
fn requests(name: &str, zone: &str) -> Vec<DeltaDiscoveryRequest> {
    let first = |kind: &str| subscription(zone, kind);
    match name {
        "global-to-zone-minimal-node" => {
            let mut requests: Vec<_> =
                ["MeshTimeout", "MeshMultiZoneService", "Bogus", "Secret", "Mesh"].map(first).to_vec();
            requests[3].resource_names_subscribe.clear();
            requests
        }
        "global-to-zone-unacked" => vec![first("Mesh")],
        "global-to-zone-without-type" => vec![first("")],
        "global-to-zone-without-node" => vec![DeltaDiscoveryRequest { node: None, ..first("Mesh") }],
        _ => Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_probe_is_answered_as_kuma_does() {
    let world = World::start(OPEN).await;
    furnish(&world).await;
    let mut differing = BTreeSet::new();
    for probe in recorded() {
        let name = probe["name"].as_str().unwrap();
        let mut caller = world.dial();
        for (key, values) in probe["metadata"].as_object().unwrap() {
            for value in values.as_array().unwrap() {
                caller = caller.with(key, value.as_str().unwrap());
            }
        }
        let zone = probe["metadata"]["client-id"][0].as_str().unwrap_or_default();
        let (received, status) = probed(&caller, probe["method"].as_str().unwrap(), requests(name, zone)).await;
        let said = |value: &Value| value.as_array().map_or(Vec::new(), |told| told.clone());
        let recorded: BTreeSet<String> =
            said(&probe["received"]).iter().map(|line| summary_of(line.as_str().unwrap())).collect();
        if probe["status"] != status || recorded != received {
            println!("{name}: recorded {} {recorded:?}, here {status} {received:?}", probe["status"]);
            differing.insert(name.to_owned());
        }
    }
    let meant: BTreeSet<String> = MEANT.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(differing, meant);
    world.end().await;
}

/// What came, without what is a matter of chance, and the status that ended it.
async fn probed(caller: &Dialled, method: &str, requests: Vec<DeltaDiscoveryRequest>) -> (BTreeSet<String>, Value) {
    if method.ends_with("/HealthCheck") {
        return match caller.health_check().await {
            Ok(_) => (BTreeSet::from(["*v1alpha1.ZoneHealthCheckResponse".to_owned()]), json!({"code": "OK"})),
            Err(status) => (BTreeSet::new(), told(&status)),
        };
    }
    if method.ends_with("/ZoneToGlobalSync") {
        let call = caller.call::<DeltaDiscoveryResponse, DeltaDiscoveryRequest>(method).await;
        return listened(call, |request| {
            let DeltaDiscoveryRequest { type_url, response_nonce, resource_names_subscribe, node, .. } = request;
            let (node, names) = (node.unwrap_or_default().id, resource_names_subscribe.join(" "));
            format!("request {type_url} nonce {response_nonce:?} subscribe [{names}] node {node:?}")
        })
        .await;
    }
    if method.ends_with("/GlobalToZoneSync") {
        let call = caller.call::<DeltaDiscoveryRequest, DeltaDiscoveryResponse>(method).await;
        if let Ok(call) = &call {
            for request in requests {
                call.requests.send(request).await.unwrap();
            }
        }
        return listened(call, |response| {
            let names: Vec<String> = response.resources.iter().map(|resource| format!("[{}]", resource.name)).collect();
            let count = response.resources.len();
            summary_of(&format!("response {} nonce 0 resources {count} {}", response.type_url, names.join(" ")))
        })
        .await;
    }
    listened(caller.call::<StatsResponse, StatsRequest>(method).await, |_| "a request".to_owned()).await
}

async fn listened<Q, A>(call: Result<Call<Q, A>, Status>, summary: impl Fn(A) -> String) -> (BTreeSet<String>, Value) {
    let mut received = BTreeSet::new();
    let mut call = match call {
        Ok(call) => call,
        Err(status) => return (received, told(&status)),
    };
    let deadline = tokio::time::Instant::now() + LISTEN;
    loop {
        match tokio::time::timeout_at(deadline, call.next()).await {
            Ok(Ok(message)) => drop(received.insert(summary(message))),
            Ok(Err(status)) => return (received, told(&status)),
            Err(_) => return (received, json!({"code": "DeadlineExceeded", "message": "context deadline exceeded"})),
        }
    }
}

fn told(status: &Status) -> Value {
    json!({"code": format!("{:?}", status.code()), "message": status.message()})
}

/// Nonces are shared by types whose order is chance.
fn summary_of(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.iter().position(|word| *word == "nonce") {
        Some(at) if words[0] == "response" => words
            .iter()
            .enumerate()
            .filter(|(place, _)| *place != at + 1)
            .map(|(_, word)| *word)
            .collect::<Vec<_>>()
            .join(" "),
        _ => line.to_owned(),
    }
}
