//! Configuration as the state of the world.

use kds_proto::envoy::config::cluster::v3::Cluster;
use kds_proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use kds_proto::envoy::config::listener::v3::Listener;
use prost::Name;
use serde_json::json;

use crate::client::{clusters, endpoints, listeners};
use crate::zone::{Zone, dataplane};

/// DP-11: clusters, their endpoints, listeners; then each change, in that order, and the endpoints of a cluster that
/// changes have another version too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_is_told_its_configuration_and_each_change_of_it() {
    let zone = Zone::start(&[]).await;
    zone.put("/meshes/default/dataplanes/api-1", dataplane("api-1", "10.0.0.2", "api", &[])).await;
    let mut web = zone.dialler().sotw(&zone.token().await).await.unwrap();
    let told = web.join(&dataplane("web", "10.0.0.1", "web", &["api"])).await.unwrap();
    assert_eq!(told.keys().collect::<Vec<_>>(), ["api", "localhost:8080"]);

    web.ask(ClusterLoadAssignment::type_url(), &["api"], None).await;
    let first = web.next().await.unwrap();
    assert_eq!(endpoints(&first)["api"], ["10.0.0.2"]);
    web.ack(&first, &["api"]).await;
    web.ask(Listener::type_url(), &[], None).await;
    let response = web.next().await.unwrap();
    let names: Vec<String> = listeners(&response).into_keys().collect();
    assert_eq!(names, ["inbound:10.0.0.1:8080", "outbound:127.0.0.1:20000"]);
    web.ack(&response, &[]).await;
    web.is_quiet().await;

    // A second instance: one number of one assignment.
    zone.put("/meshes/default/dataplanes/api-2", dataplane("api-2", "10.0.0.3", "api", &[])).await;
    let second = web.next().await.unwrap();
    assert_eq!(endpoints(&second)["api"], ["10.0.0.2", "10.0.0.3"]);
    web.ack(&second, &["api"]).await;

    // A policy that changes the cluster alone.
    let policy = json!({"type": "MeshCircuitBreaker", "mesh": "default", "name": "limits", "spec": {
        "to": [{"targetRef": {"kind": "Mesh"}, "default": {"connectionLimits": {"maxConnections": 7}}}]}});
    zone.put("/meshes/default/meshcircuitbreakers/limits", policy).await;
    let changed = web.next().await.unwrap();
    assert_eq!(changed.type_url, Cluster::type_url());
    assert!(clusters(&changed).contains_key("localhost:8080"), "clusters are told all together");
    let third = web.next().await.unwrap();
    assert_eq!(endpoints(&third), endpoints(&second));
    assert_ne!(third.version_info, second.version_info);
    web.ack(&changed, &[]).await;
    web.ack(&third, &["api"]).await;
    web.is_quiet().await;
    zone.end().await;
}

/// What is of another mesh, or changes nothing for a proxy, is not told it; the former is not even looked at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_hears_only_of_what_concerns_it() {
    let zone = Zone::start(&[]).await;
    zone.put("/meshes/other", json!({"type": "Mesh", "name": "other"})).await;
    let mut web = zone.dialler().sotw(&zone.token().await).await.unwrap();
    web.join(&dataplane("web", "10.0.0.1", "web", &["api"])).await.unwrap();
    web.is_quiet().await;
    let made = zone.counted("dp_server_configurations_total{result=\"ok\"}");
    let mut elsewhere = dataplane("api-1", "10.0.0.2", "api", &[]);
    elsewhere["mesh"] = json!("other");
    zone.put("/meshes/other/dataplanes/api-1", elsewhere).await;
    web.is_quiet().await;
    assert_eq!(zone.counted("dp_server_configurations_total{result=\"ok\"}"), made);
    zone.put("/meshes/default/dataplanes/api-1", dataplane("api-1", "10.0.0.2", "x", &[])).await;
    web.is_quiet().await;
    zone.end().await;
}

/// Versions are hashes of content: another start of the zone tells the same ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_start_tells_the_same_versions() {
    let mut zone = Zone::start(&[]).await;
    let web = dataplane("web", "10.0.0.1", "web", &["api"]);
    let token = zone.token().await;
    let mut versions = Vec::new();
    for _ in 0..2 {
        let mut stream = zone.dialler().sotw(&token).await.unwrap();
        stream.ask(Cluster::type_url(), &[], Some(crate::client::node(&web))).await;
        versions.push(stream.next().await.unwrap().version_info);
        drop(stream);
        zone = Zone::start_in(zone.end().await, &[]).await;
        // A control plane that ends removes nobody.
        assert!(zone.get("/meshes/default/dataplanes/web").await.is_some());
    }
    assert_eq!(versions[0], versions[1]);
    zone.end().await;
}
