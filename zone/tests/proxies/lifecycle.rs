//! How proxies come and go.

use kds_proto::envoy::config::cluster::v3::Cluster;
use prost::Name;
use serde_json::json;
use tonic::Code;

use crate::client::node;
use crate::http_client::eventually;
use crate::zone::{Zone, dataplane};

const WEB: &str = "/meshes/default/dataplanes/web";

/// DP-8, DP-9: what a proxy brings is stored with the zone's own tag and labels, and goes after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_proxy_brings_is_stored_and_goes_after_it() {
    let zone = Zone::start(&[]).await;
    let mut web = dataplane("web", "10.0.0.1", "web", &[]);
    web["networking"]["inbound"][0]["tags"]["kuma.io/zone"] = json!("foo");
    let mut stream = zone.dialler().sotw(&zone.token().await).await.unwrap();
    assert!(zone.get(WEB).await.is_none());
    stream.join(&web).await.unwrap();
    let stored = zone.get(WEB).await.unwrap();
    assert_eq!(stored["networking"]["inbound"][0]["tags"]["kuma.io/zone"], "east");
    let labels = &stored["labels"];
    assert_eq!((&labels["kuma.io/proxy-type"], &labels["kuma.io/origin"]), (&json!("sidecar"), &json!("zone")));
    drop(stream);
    eventually("the Dataplane is gone", || async { zone.get(WEB).await.is_none() }).await;
    zone.end().await;
}

/// DP-7: one stream for each proxy. One that comes back within the delay is taken at once, and keeps what it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_has_one_stream_and_may_come_back_at_once() {
    let zone = Zone::start(&["xdsServer.dataplaneDeregistrationDelay=1s"]).await;
    let (web, token) = (dataplane("web", "10.0.0.1", "web", &[]), zone.token().await);
    let mut first = zone.dialler().sotw(&token).await.unwrap();
    first.join(&web).await.unwrap();
    let mut second = zone.dialler().sotw(&token).await.unwrap();
    let refused = second.join(&web).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().starts_with("there is already an active stream of this proxy"), "{refused}");

    let before = zone.get(WEB).await.unwrap();
    drop(first);
    eventually("the proxy is taken again", || async {
        let Ok(mut again) = zone.dialler().sotw(&token).await else { return false };
        if again.join(&web).await.is_err() {
            return false;
        }
        // Longer than the delay.
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        assert_eq!(zone.get(WEB).await.unwrap(), before);
        true
    })
    .await;
    zone.end().await;
}

/// A Dataplane that was created before its proxy came is neither made nor removed by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_created_by_others_stays() {
    let zone = Zone::start(&[]).await;
    let mut bare = node(&dataplane("web", "10.0.0.1", "web", &[]));
    bare.metadata.as_mut().unwrap().fields.remove("dataplane.resource");
    let mut stream = zone.dialler().sotw(&zone.token().await).await.unwrap();
    stream.ask(Cluster::type_url(), &[], Some(bare)).await;
    // It waits for its resource.
    stream.is_quiet().await;
    zone.put(WEB, dataplane("web", "10.0.0.1", "web", &[])).await;
    assert_eq!(stream.next().await.unwrap().resources.len(), 1);
    drop(stream);
    eventually("the stream has ended", || async { zone.counted("dp_server_streams{protocol=\"sotw\"}") == 0 }).await;
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    assert!(zone.get(WEB).await.is_some());
    zone.end().await;
}

/// An ingress and an egress join with tokens of their zone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_of_the_zone_join_with_its_token() {
    let zone = Zone::start(&[]).await;
    let claims = json!({"zone": "east", "scope": ["ingress", "egress"], "validFor": "1h"});
    let (_, token) = zone.api.post("/tokens/zone", &claims).await;
    let token = token.as_str().unwrap();
    for (kind, path) in [("ZoneIngress", "/zoneingresses/in"), ("ZoneEgress", "/zoneegresses/in")] {
        let networking = json!({"address": "10.0.0.9", "port": 10001});
        let resource = json!({"type": kind, "name": "in", "networking": networking});
        let mut stream = zone.dialler().sotw(token).await.unwrap();
        stream.ask(Cluster::type_url(), &[], Some(node(&resource))).await;
        assert_eq!(stream.next().await.unwrap().type_url, Cluster::type_url(), "{kind}");
        assert!(zone.get(path).await.is_some(), "{kind}");
    }
    zone.end().await;
}
