//! Configuration as differences.

use kds_proto::envoy::config::cluster::v3::Cluster;
use kds_proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use kds_proto::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use prost::{Message, Name};
use serde_json::json;

use crate::client::{addresses, node};
use crate::zone::{Zone, dataplane};

fn names(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response.resources.iter().map(|resource| &*resource.name).collect()
}

/// DP-11, in the incremental form: what differs alone; and the endpoints of each cluster that changes, for which Envoy
/// waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_is_told_what_differs() {
    let zone = Zone::start(&[]).await;
    zone.put("/meshes/default/dataplanes/api-1", dataplane("api-1", "10.0.0.2", "api", &[])).await;
    let mut web = zone.dialler().delta(&zone.token().await).await.unwrap();
    web.ask(Cluster::type_url(), &["*"], Some(node(&dataplane("web", "10.0.0.1", "web", &["api"])))).await;
    let all = web.next().await.unwrap();
    assert_eq!(names(&all), ["api", "localhost:8080"]);
    web.ack(&all).await;
    web.ask(ClusterLoadAssignment::type_url(), &["api"], None).await;
    let first = web.next().await.unwrap();
    assert_eq!(names(&first), ["api"]);
    web.ack(&first).await;

    zone.put("/meshes/default/dataplanes/api-2", dataplane("api-2", "10.0.0.3", "api", &[])).await;
    let second = web.next().await.unwrap();
    let assignment = second.resources[0].resource.as_ref().unwrap();
    let assignment = ClusterLoadAssignment::decode(&*assignment.value).unwrap();
    assert_eq!(addresses(&assignment), ["10.0.0.2", "10.0.0.3"]);
    web.ack(&second).await;

    let policy = json!({"type": "MeshCircuitBreaker", "mesh": "default", "name": "limits", "spec": {
        "to": [{"targetRef": {"kind": "Mesh"}, "default": {"connectionLimits": {"maxConnections": 7}}}]}});
    zone.put("/meshes/default/meshcircuitbreakers/limits", policy).await;
    let changed = web.next().await.unwrap();
    assert_eq!((changed.type_url.clone(), names(&changed)), (Cluster::type_url(), vec!["api"]));
    let third = web.next().await.unwrap();
    assert_eq!(names(&third), ["api"]);
    assert_ne!(third.resources[0].version, second.resources[0].version);
    web.ack(&changed).await;
    web.ack(&third).await;
    web.is_quiet().await;
    zone.end().await;
}

/// A proxy that comes back with what it holds is told what differs from that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_proxy_holds_is_not_told_again() {
    let mut zone = Zone::start(&[]).await;
    let (web, token) = (dataplane("web", "10.0.0.1", "web", &["api"]), zone.token().await);
    let mut stream = zone.dialler().delta(&token).await.unwrap();
    stream.ask(Cluster::type_url(), &["*"], Some(node(&web))).await;
    let all = stream.next().await.unwrap();
    let held = all.resources.iter().map(|resource| (resource.name.clone(), resource.version.clone())).collect();
    drop(stream);

    zone = Zone::start_in(zone.end().await, &[]).await;
    let mut stream = zone.dialler().delta(&token).await.unwrap();
    let request = kds_proto::envoy::service::discovery::v3::DeltaDiscoveryRequest {
        type_url: Cluster::type_url(),
        resource_names_subscribe: vec!["*".to_owned()],
        node: Some(node(&web)),
        initial_resource_versions: held,
        ..Default::default()
    };
    stream.requests.send(request).await.unwrap();
    let again = stream.next().await.unwrap();
    assert!(again.resources.is_empty() && again.removed_resources.is_empty(), "{again:?}");
    zone.end().await;
}
