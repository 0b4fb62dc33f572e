//! What flows, what is refused, and what ends a stream.

use std::time::Duration;

use discovery::kds::wire;
use http::StatusCode;
use kds_proto::envoy::config::core::v3::Node;
use kds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, Resource as Wire};
use model::Kind;
use prost_types::value::Kind as Member;
use serde_json::json;
use tonic::Code;

use crate::client::eventually;
use crate::world::{OPEN, World, subscription};
use crate::zone::{FakeZone, dataplane, packed, resource};

fn timeout(seconds: u32) -> serde_json::Value {
    let to = json!([{"targetRef": {"kind": "Mesh"}, "default": {"connectionTimeout": format!("{seconds}s")}}]);
    json!({"type": "MeshTimeout", "mesh": "default", "name": "slow", "spec": {"to": to}})
}

/// A write reaches a zone within milliseconds, a burst of writes as its last state, and a removal as such.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_reaches_a_zone_at_once() {
    let world = World::start(OPEN).await;
    let api = world.api();
    let mut east = FakeZone::connect(&world, "east").await;
    east.settle().await;
    let path = "/meshes/default/meshtimeouts/slow";
    let mut worst = Duration::ZERO;
    for seconds in 1..=20 {
        let started = std::time::Instant::now();
        assert!(api.put(path, &timeout(seconds)).await.0.is_success());
        let wanted = format!("{seconds}s");
        east.until("the change is there", |held| {
            held.0.values().any(|held| {
                held.meta.display_name() == "slow"
                    && std::str::from_utf8(held.spec.bytes()).unwrap().contains(&format!("\"{wanted}\""))
            })
        })
        .await;
        worst = worst.max(started.elapsed());
    }
    println!("write to zone, worst of 20: {worst:?}");
    let metrics = world.running.metrics().text().unwrap();
    let value = |name: &str| -> f64 {
        let line =
            metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {metrics}"));
        line.trim().parse().unwrap()
    };
    assert!(value("kds_change_delay_seconds_count ") >= 20.0);
    assert!(value("kds_change_delay_seconds_sum ") < 20.0);
    assert!(value("kds_sent_bytes_total{type=\"MeshTimeout\"} ") > 20.0 * 100.0);
    assert!(worst < Duration::from_secs(1), "{worst:?}");
    assert_eq!(api.delete(path).await.0, StatusCode::OK);
    east.until("it is gone", |held| !held.shows("MeshTimeout", "slow")).await;
    world.end().await;
}

/// KDS-40: what is bad is refused by name, the rest is stored, and the stream lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_resource_is_refused_and_the_others_live() {
    let world = World::start(OPEN).await;
    let mut east = FakeZone::connect(&world, "east").await;
    east.settle().await;
    let bad =
        resource(Kind::Dataplane, "bad", json!({"networking": {"address": "10.0.0.9", "inbound": [{"port": 80}]}}));
    let good = dataplane("good", "10.0.0.8");
    east.send("Dataplane", vec![packed(&bad, "east"), packed(&good, "east")], Vec::new()).await;
    let answer = east.answer().await;
    let told = answer.error_detail.expect("refused").message;
    assert!(told.contains("tag"), "{told}");
    let (_, list) = world.api().get("/meshes/default/dataplanes").await;
    assert_eq!(list["total"], 1, "{list}");
    assert_eq!(list["items"][0]["labels"]["kuma.io/display-name"], "good");
    // KDS-53: the tag says which zone it is, whatever the zone says.
    assert_eq!(list["items"][0]["networking"]["inbound"][0]["tags"]["kuma.io/zone"], "east");
    let metrics = world.running.metrics().text().unwrap();
    assert!(metrics.contains("kds_rejections_total{by=\"global\",type=\"Dataplane\"} 1"), "{metrics}");
    world.end().await;
}

/// kds-wire 4.3: a zone that asks for another zone's name first does not get it: it is told which name is its own, and
/// the global counts it. The other zone finds its name free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_takes_no_name_of_another() {
    let world = World::start(OPEN).await;
    let (mut east, mut west) = (FakeZone::connect(&world, "east").await, FakeZone::connect(&world, "west").await);
    east.settle().await;
    west.settle().await;
    let (stolen, own) = (packed(&dataplane("a", "10.0.0.1"), "west"), packed(&dataplane("b", "10.0.0.2"), "east"));
    east.send("Dataplane", vec![stolen.clone(), own], Vec::new()).await;
    let told = east.answer().await.error_detail.expect("refused").message;
    let name = stolen.name.trim_end_matches(".default");
    assert!(told.contains(name) && told.contains("is not named as zone \"east\" names it"), "{told}");
    let metrics = world.running.metrics().text().unwrap();
    assert!(metrics.contains("kds_rejections_total{by=\"global\",type=\"Dataplane\"} 1"), "{metrics}");
    west.tell(&[dataplane("a", "10.1.0.1")]).await;
    let (_, stored) = world.api().get(&format!("/meshes/default/dataplanes/{name}")).await;
    assert_eq!(stored["labels"]["kuma.io/zone"], "west", "{stored}");
    world.end().await;
}

/// A zone that can do more than this global, and one that can do nothing of the sort: what is unknown means nothing, and
/// what is missing is not done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zones_of_other_ages_are_served() {
    let world = World::start(OPEN).await;
    let text = |text: &str| prost_types::Value { kind: Some(Member::StringValue(text.to_owned())) };
    let mut node = FakeZone::node("newer", "newer-1a2b");
    let fields = &mut node.metadata.as_mut().unwrap().fields;
    fields.insert("receipts".to_owned(), text("yes"));
    let Some(Member::ListValue(features)) = &mut fields.get_mut("features").unwrap().kind else { panic!("a list") };
    features.values.extend([text("receipts"), prost_types::Value { kind: Some(Member::NumberValue(7.0)) }]);
    let caller = world.zone("newer").with("features", "receipts,resume").with("x-later", "1");
    let mut newer = FakeZone::introduced(caller, "newer", node).await;
    newer.settle().await;
    newer.tell(&[dataplane("a", "10.0.0.1")]).await;

    let node = Node { id: "older".to_owned(), ..Node::default() };
    let caller = world.dial().with("client-id", "older");
    let mut older = FakeZone::introduced(caller, "older", node).await;
    older.settle().await;
    let plain = resource(
        Kind::Dataplane,
        "b",
        json!({"networking": {"address": "10.0.0.2", "inbound": [
            {"port": 80, "tags": {"kuma.io/service": "web"}},
        ]}}),
    );
    let encoded = wire::encode(&plain);
    let sent = Wire { name: encoded.name.to_string(), resource: Some(encoded.resource), ..Wire::default() };
    older.send("Dataplane", vec![sent], Vec::new()).await;
    assert_eq!(older.answer().await.error_detail, None);
    assert_eq!(world.api().get("/meshes/default/dataplanes/older.b").await.0, StatusCode::OK);
    // A name is hashed for who knows that, and a policy without a target of its own goes to who takes it.
    let named = |held: &FakeZone, name: &str| held.held.has("MeshTimeout", name);
    assert!(world.api().put("/meshes/default/meshtimeouts/slow", &timeout(3)).await.0.is_success());
    let mut aimed = timeout(4);
    (aimed["name"], aimed["spec"]["targetRef"]) = (json!("aimed"), json!({"kind": "Mesh"}));
    assert!(world.api().put("/meshes/default/meshtimeouts/aimed", &aimed).await.0.is_success());
    newer
        .until("both, under hashed names", |held| {
            held.shows("MeshTimeout", "slow") && held.shows("MeshTimeout", "aimed")
        })
        .await;
    older.until("the one that it can take", |held| held.has("MeshTimeout", "aimed")).await;
    assert!(!named(&newer, "aimed") && !named(&older, "slow"));
    world.end().await;
}

/// KDS-39, KDS-54: the first response of a stream is everything that the zone has, and nobody else's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_first_response_lacks_is_gone() {
    let world = World::start(OPEN).await;
    let api = world.api();
    let (mut east, mut west) = (FakeZone::connect(&world, "east").await, FakeZone::connect(&world, "west").await);
    east.settle().await;
    west.settle().await;
    east.tell(&[dataplane("a", "10.0.0.1"), dataplane("b", "10.0.0.2")]).await;
    west.tell(&[dataplane("c", "10.1.0.1")]).await;
    assert_eq!(api.get("/meshes/default/dataplanes").await.1["total"], 3);
    drop(east);
    let mut again = FakeZone::connect(&world, "east").await;
    loop {
        let asked = again.up.next().await.unwrap();
        if asked.type_url == "Dataplane" && asked.response_nonce.is_empty() {
            break;
        }
    }
    again.send("Dataplane", vec![packed(&dataplane("b", "10.0.0.2"), "east")], Vec::new()).await;
    assert_eq!(again.answer().await.error_detail, None);
    let shown = |list: &serde_json::Value| {
        let names = list["items"].as_array().unwrap().iter();
        let mut names: Vec<_> =
            names.map(|item| item["labels"]["kuma.io/display-name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(shown(&api.get("/meshes/default/dataplanes").await.1), ["b", "c"]);
    world.end().await;
}

/// KDS-41, kds-wire 5.10: garbage ends the stream with INTERNAL `stream failed`, and touches no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_breaks_the_protocol_fails_alone() {
    let world = World::start(OPEN).await;
    let mut good = FakeZone::connect(&world, "good").await;
    good.settle().await;
    let nothing = || Vec::<Wire>::new();
    for (what, kind) in [("a type that nobody asked for", "Zone"), ("no type", ""), ("an unknown type", "Bogus")] {
        let mut bad = FakeZone::connect(&world, "bad").await;
        bad.send(kind, nothing(), Vec::new()).await;
        let status = bad.up.status().await;
        assert_eq!((status.code(), status.message()), (Code::Internal, "stream failed"), "{what}");
    }
    for request in [subscription("bad", ""), DeltaDiscoveryRequest { node: None, ..subscription("bad", "Mesh") }] {
        let mut down = world.zone("bad").down().await.unwrap();
        down.requests.send(request).await.unwrap();
        let status = down.status().await;
        assert_eq!((status.code(), status.message()), (Code::Internal, "stream failed"));
    }
    world.api().put("/meshes/fresh", &json!({"type": "Mesh", "name": "fresh"})).await;
    good.until("the good one lives", |held| held.has("Mesh", "fresh")).await;
    world.end().await;
}

/// KDS-3: 10 MiB go in one message, more fails the stream with RESOURCE_EXHAUSTED.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_may_be_as_large_as_the_limit() {
    let world = World::start(OPEN).await;
    let with = |size: usize| {
        let mut large = dataplane("large", "10.0.0.1");
        large.meta.labels = large.meta.labels.with("padding", &"x".repeat(size));
        vec![packed(&large, "east")]
    };
    let mut east = FakeZone::connect(&world, "east").await;
    east.settle().await;
    east.send("Dataplane", with(10_485_760 - 2_000), Vec::new()).await;
    assert_eq!(east.answer().await.error_detail, None);
    east.send("Dataplane", with(10_485_760), Vec::new()).await;
    assert_eq!(east.up.status().await.code(), Code::ResourceExhausted);
    world.end().await;
}

/// A second global that dials this one is told that it cannot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_global_cannot_follow_a_global() {
    let world = World::start(OPEN).await;
    let mut down = world.zone("upper").down().await.unwrap();
    let node = discovery::kds::node::Introduction {
        id: "upper".into(),
        config: r#"{"mode":"global"}"#.into(),
        ..Default::default()
    };
    let request = DeltaDiscoveryRequest { node: Some(node.to_node()), ..subscription("upper", "Mesh") };
    down.requests.send(request).await.unwrap();
    let status = down.status().await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().starts_with("a global control plane cannot follow another one"), "{status}");
    eventually("nothing is left open", || async {
        let metrics = world.running.metrics().text().unwrap();
        metrics.contains("kds_streams_open{stream=\"global-to-zone\"} 0")
    })
    .await;
    world.end().await;
}

/// A zone that never reads costs a few messages; the others are not held up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_that_does_not_read_holds_up_nobody() {
    let world = World::start(OPEN).await;
    let stuck = FakeZone::connect(&world, "stuck").await;
    let mut east = FakeZone::connect(&world, "east").await;
    east.settle().await;
    let path = "/meshes/default/meshtimeouts/slow";
    for seconds in (10..=50).cycle().take(200).chain([7]) {
        assert!(world.api().put(path, &timeout(seconds)).await.0.is_success());
    }
    east.until("the last change is there", |held| {
        held.0.values().any(|held| std::str::from_utf8(held.spec.bytes()).is_ok_and(|spec| spec.contains("\"7s\"")))
    })
    .await;
    drop(stuck);
    world.end().await;
}
