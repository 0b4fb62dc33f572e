//! Proxies that do what they should not. Each is told, and harms nobody else.

use http::StatusCode;
use kds_proto::envoy::config::cluster::v3::Cluster;
use kds_proto::envoy::config::core::v3::Node;
use kds_proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use kds_proto::envoy::service::discovery::v3::DiscoveryRequest;
use prost::Name;
use serde_json::json;
use tonic::{Code, Status};

use crate::client::node;
use crate::zone::{Zone, dataplane};

async fn refused(zone: &Zone, token: &str, node: Option<Node>) -> Status {
    let mut stream = match zone.dialler().sotw(token).await {
        Ok(stream) => stream,
        Err(status) => return status,
    };
    stream.ask(Cluster::type_url(), &[], node).await;
    stream.next().await.unwrap_err()
}

/// DP-6, and each other way of not being who one says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_prove_who_it_is_gets_nothing() {
    let zone = Zone::start(&[]).await;
    zone.put("/meshes/other", json!({"type": "Mesh", "name": "other"})).await;
    let web = || Some(node(&dataplane("web", "10.0.0.1", "web", &[])));
    let good = zone.token().await;
    let other_mesh = zone.dataplane_token(json!({"mesh": "other", "validFor": "1h"})).await;
    let other_name = zone.dataplane_token(json!({"mesh": "default", "name": "api", "validFor": "1h"})).await;
    for (token, reason) in [
        (String::new(), "there is no token"),
        (format!("Bearer {good}"), "it is not signed with a key that is known here"),
        (other_mesh, "it is not signed with a key that is known here"),
        (other_name, "proxy name from requestor: web is different than in token: api"),
    ] {
        let status = refused(&zone, &token, web()).await;
        assert_eq!(status.code(), Code::Unauthenticated, "{status}");
        assert!(status.message().ends_with(reason), "{status}");
    }
    assert!(zone.get("/meshes/default/dataplanes/web").await.is_none());

    // A token that is good for itself is not good for another that is there already.
    zone.put("/meshes/default/dataplanes/web", dataplane("web", "10.0.0.1", "payments", &[])).await;
    let tags = json!({"mesh": "default", "tags": {"kuma.io/service": ["web"]}, "validFor": "1h"});
    let status = refused(&zone, &zone.dataplane_token(tags).await, web()).await;
    assert!(status.message().contains("the token is not good for the proxy of this name"), "{status}");
    zone.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_makes_no_sense_is_told_so() {
    let zone = Zone::start(&[]).await;
    let token = zone.token().await;
    let good = node(&dataplane("web", "10.0.0.1", "web", &[]));
    let with_id = |id: &str| Some(Node { id: id.to_owned(), ..good.clone() });
    let mut nowhere = dataplane("web", "10.0.0.1", "web", &[]);
    nowhere["mesh"] = json!("nowhere");
    for (node, code, reason) in [
        (None, Code::InvalidArgument, "the first request has no node"),
        (with_id("web"), Code::InvalidArgument, "node.id has to be <mesh>.<name>"),
        (with_id("default.other"), Code::InvalidArgument, "and the proxy is Dataplane \"other\" in mesh \"default\""),
        (Some(node(&nowhere)), Code::Unauthenticated, "dataplane-token-signing-key-nowhere-1"),
    ] {
        let status = refused(&zone, &token, node).await;
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(reason), "{status}");
    }
    zone.end().await;
}

/// Types that nobody has are empty; answers to what was not sent are ignored; a stream belongs to one proxy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strange_requests_harm_nobody() {
    let zone = Zone::start(&[]).await;
    let token = zone.token().await;
    let web = dataplane("web", "10.0.0.1", "web", &["api"]);
    let mut stream = zone.dialler().sotw(&token).await.unwrap();
    stream.join(&web).await.unwrap();
    stream.ask("type.googleapis.com/nobody.Knows".to_owned(), &["x"], None).await;
    let out_of_order = DiscoveryRequest {
        type_url: Cluster::type_url(),
        response_nonce: "77".to_owned(),
        version_info: "x".to_owned(),
        ..Default::default()
    };
    stream.requests.send(out_of_order).await.unwrap();
    stream.is_quiet().await;
    stream.ask(ClusterLoadAssignment::type_url(), &["api"], None).await;
    assert_eq!(stream.next().await.unwrap().type_url, ClusterLoadAssignment::type_url());

    let other = Node { id: "default.other".to_owned(), ..Node::default() };
    stream.ask(Cluster::type_url(), &[], Some(other)).await;
    let status = stream.next().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("this stream is of \"default.web\""), "{status}");
    zone.end().await;
}

/// A proxy that refuses is left alone until what it refused changes; others go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_counted_and_not_repeated() {
    let zone = Zone::start(&[]).await;
    let token = zone.token().await;
    let mut web = zone.dialler().sotw(&token).await.unwrap();
    web.ask(Cluster::type_url(), &[], Some(node(&dataplane("web", "10.0.0.1", "web", &["api"])))).await;
    let response = web.next().await.unwrap();
    web.nack(&response, &[], "cluster api: no").await;
    web.is_quiet().await;
    assert_eq!(zone.counted("dp_server_responses_total{type=\"cluster\",result=\"refused\"}"), 1);
    let policy = json!({"type": "MeshCircuitBreaker", "mesh": "default", "name": "limits", "spec": {
        "to": [{"targetRef": {"kind": "Mesh"}, "default": {"connectionLimits": {"maxConnections": 7}}}]}});
    zone.put("/meshes/default/meshcircuitbreakers/limits", policy).await;
    let better = web.next().await.unwrap();
    assert_ne!(better.version_info, response.version_info);
    web.ack(&better, &[]).await;
    zone.end().await;
}

/// A proxy that never reads costs a response for each type, however often its configuration changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_reads_holds_up_nobody() {
    let zone = Zone::start(&[]).await;
    let token = zone.token().await;
    let deaf = zone.dialler().sotw(&token).await.unwrap();
    deaf.ask(Cluster::type_url(), &[], Some(node(&dataplane("deaf", "10.0.0.1", "web", &["api"])))).await;
    deaf.ask(ClusterLoadAssignment::type_url(), &["api"], None).await;
    let mut web = zone.dialler().sotw(&token).await.unwrap();
    web.join(&dataplane("web", "10.0.0.5", "web", &["api"])).await.unwrap();
    web.ask(ClusterLoadAssignment::type_url(), &["api"], None).await;
    let mut last = web.next().await.unwrap();
    for number in 0..20 {
        let name = format!("api-{number}");
        let path = format!("/meshes/default/dataplanes/{name}");
        zone.put(&path, dataplane(&name, &format!("10.1.0.{number}"), "api", &[])).await;
        web.ack(&last, &["api"]).await;
        last = web.next().await.unwrap();
    }
    assert!(zone.counted("dp_server_responses_total{type=\"endpoint\",result=\"sent\"}") <= 23);
    drop(deaf);
    zone.end().await;
}

/// The same port answers plain HTTP.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_port_serves_both() {
    let zone = Zone::start(&[]).await;
    let request = json!({
        "mesh": "default", "name": "web", "dataplaneToken": "x",
        "dataplaneResource": dataplane("web", "10.0.0.1", "web", &[]).to_string(),
    });
    assert_eq!(zone.https().post("/bootstrap", &request).await.0, StatusCode::OK);
    assert_eq!(zone.counted("dp_server_bootstrap_requests_total{status=\"200\"}"), 1);
    assert_eq!(zone.https().get("/nothing").await.0, StatusCode::NOT_FOUND);
    zone.end().await;
}
