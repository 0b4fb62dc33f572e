//! What the tests make, and where it shows.

use std::time::Duration;

use e2e::{Node, World, eventually};
use serde_json::{Value, json};

/// For a change to arrive where the way is good, unoptimised and on a busy machine.
pub const SOON: Duration = Duration::from_secs(10);
pub const TIMEOUTS: &str = "/meshes/default/meshtimeouts";
pub const DATAPLANES: &str = "/meshes/default/dataplanes";
pub const SERVICES: &str = "/meshes/default/meshservices";
pub const INGRESSES: &str = "/zoneingresses";

/// A policy of the global.
pub fn timeout(name: &str, seconds: u32) -> Value {
    let default = json!({"connectionTimeout": format!("{seconds}s")});
    let to = json!([{"targetRef": {"kind": "Mesh"}, "default": default}]);
    json!({"type": "MeshTimeout", "mesh": "default", "name": name, "spec": {"targetRef": {"kind": "Mesh"}, "to": to}})
}

/// A policy of a zone.
pub fn local_timeout(name: &str, seconds: u32) -> Value {
    let mut timeout = timeout(name, seconds);
    timeout["labels"] = json!({"kuma.io/origin": "zone"});
    timeout
}

/// A sidecar's proxy.
pub fn dataplane(name: &str, service: &str) -> Value {
    let inbound = json!([{"port": 8080, "tags": {"kuma.io/service": service, "kuma.io/protocol": "http"}}]);
    let networking = json!({"address": "10.1.0.1", "inbound": inbound});
    json!({"type": "Dataplane", "mesh": "default", "name": name, "networking": networking})
}

/// An ingress; what it offers follows from the dataplanes of its zone.
pub fn ingress(name: &str) -> Value {
    json!({
        "type": "ZoneIngress", "name": name,
        "networking": {"address": "10.1.0.9", "port": 10001, "advertisedAddress": "10.1.0.9", "advertisedPort": 10001},
    })
}

/// Writes dataplanes of a service, numbered from a first to a last.
pub async fn scale(zone: &Node, service: &str, numbers: std::ops::RangeInclusive<u32>) {
    for number in numbers {
        let name = format!("{service}-{number}");
        written(zone.put(&format!("{DATAPLANES}/{name}"), &dataplane(&name, service)).await);
    }
}

/// A service of a zone.
pub fn service(name: &str) -> Value {
    let ports = json!([{"port": 80, "targetPort": 8080, "appProtocol": "http"}]);
    let spec = json!({"selector": {"dataplaneTags": {"kuma.io/service": name}}, "ports": ports});
    json!({"type": "MeshService", "mesh": "default", "name": name, "spec": spec, "labels": {"kuma.io/origin": "zone"}})
}

/// Writes a resource.
#[track_caller]
pub fn written(answer: e2e::Answer) {
    assert!([200, 201].contains(&answer.status), "{answer:?}");
}

/// Connection timeout of a policy, as a node has it.
pub async fn seconds_of(node: &Node, policy: &str) -> Option<String> {
    let all = node.get(TIMEOUTS).await;
    let shown = all.shown(policy).first().copied().cloned()?;
    Some(shown["spec"]["to"][0]["default"]["connectionTimeout"].as_str()?.to_owned())
}

/// Whether a list has something under a name.
pub async fn has(node: &Node, list: &str, name: &str) -> bool {
    !node.get(list).await.shown(name).is_empty()
}

/// Instances of the first service that the ingress offers, as a node has it.
pub async fn instances(node: &Node, ingress: &str) -> Option<u64> {
    let all = node.get(INGRESSES).await;
    all.shown(ingress).first()?["availableServices"][0]["instances"].as_u64()
}

/// Changes a policy at the global and waits until zones have it.
pub async fn reaches(world: &World, limit: Duration, zones: &[&str], policy: &str, seconds: u32) -> Duration {
    written(world.global().put(&format!("{TIMEOUTS}/{policy}"), &timeout(policy, seconds)).await);
    let what = format!("{policy} of {seconds} s is in {}", zones.join(" and "));
    eventually(limit, &what, async || {
        for zone in zones {
            if seconds_of(world.zone(zone), policy).await != Some(format!("{seconds}s")) {
                return false;
            }
        }
        true
    })
    .await
}
