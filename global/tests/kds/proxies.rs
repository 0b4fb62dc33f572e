//! Questions to proxies, and proxies that come to the wrong door.

use bytes::Bytes;
use http::StatusCode;
use kds_proto::kuma::mesh::v1alpha1::{StatsRequest, StatsResponse, stats_response};
use tonic::Code;

use crate::client::Caller;
use crate::world::{ADMIN, Call, OPEN, World};

/// An answer that nobody waits for ends its stream (kds-wire 5.10).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_nothing_ends_the_stream() {
    let world = World::start(OPEN).await;
    let mut stats: Call<StatsResponse, StatsRequest> =
        world.zone("east").call(&format!("{ADMIN}/StreamStats")).await.unwrap();
    let result = Some(stats_response::Result::Stats(Bytes::from("x")));
    stats.requests.send(StatsResponse { request_id: "nobody's".into(), result }).await.unwrap();
    let status = stats.status().await;
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "could not mark the response as received"));
    world.end().await;
}

/// A proxy that dials a global is turned away with the right address, on the port of zones as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_is_sent_to_its_zone() {
    let world = World::start(OPEN).await;
    let certificate = world.certificate();
    let proxies = Caller::https(Some(world.running.refusing), &certificate);
    let (status, text) = proxies.post("/bootstrap", &serde_json::json!({"mesh": "default"})).await;
    assert_eq!(status, StatusCode::MISDIRECTED_REQUEST);
    assert!(text.as_str().unwrap().contains("--cp-address https://<zone control plane>:5678"), "{text}");

    let path = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
    let ads = world.dial().call::<StatsResponse, StatsRequest>(path).await;
    let refused = ads.err().expect("refused");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("global"), "{}", refused.message());
    world.end().await;
}
