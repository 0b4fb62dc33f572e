//! A zone comes, goes, is disabled and deleted.

use std::time::Duration;

use http::StatusCode;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde_json::{Value, json};
use tonic::Code;

use crate::client::eventually;
use crate::world::{OPEN, World};
use crate::zone::{FakeZone, dataplane, ingress, service};

fn subscriptions(insight: &Value) -> Vec<Value> {
    insight["subscriptions"].as_array().cloned().unwrap_or_default()
}

fn is_online(insight: &Value) -> bool {
    subscriptions(insight).iter().any(|subscription| subscription.get("disconnectTime").is_none())
}

/// KDS-9, KDS-11, KDS-12, KDS-14, KDS-15, KDS-16, KDS-17, KDS-18: created at first contact, online at once, asked before it
/// says anything, not deleted while it is there, offline when it left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_is_on_record_from_its_first_request() {
    let world = World::start(&[OPEN, &["multizone.global.kds.zoneInsightFlushInterval=200ms"]].concat()).await;
    let api = world.api();
    let mut east = FakeZone::connect(&world, "east").await;
    east.settle().await;
    assert_eq!(api.get("/zones/east").await.1["enabled"], true);
    eventually("the zone is online", || async { is_online(&api.get("/zone-insights/east").await.1) }).await;
    eventually("responses are counted", || async {
        let insight = api.get("/zone-insights/east").await.1;
        let total = &subscriptions(&insight)[0]["status"]["total"];
        total["responsesSent"] == "43" && total["responsesAcknowledged"] == "43"
    })
    .await;
    let insight = api.get("/zone-insights/east").await.1;
    let [subscription] = &subscriptions(&insight)[..] else { panic!("{insight}") };
    assert_eq!(subscription["zoneInstanceId"], "east-1a2b");
    assert_eq!(subscription["version"]["kumaCp"]["version"], "2.13.10");
    assert_eq!(subscription["version"]["kumaCp"]["kumaCpGlobalCompatible"], true);
    assert_eq!(subscription["status"]["stat"]["Mesh"]["responsesSent"], "1");
    assert_eq!(subscription["config"], r#"{"mode":"zone","store":{"type":"memory"}}"#);
    assert_eq!(subscription.get("authTokenProvided"), None);
    let global = api.get("/").await.1["instanceId"].clone();
    for stream in ["globalToZone", "zoneToGlobal"] {
        assert_eq!(insight["kdsStreams"][stream]["globalInstanceId"], global, "{stream}");
    }

    east.caller.health_check().await.unwrap();
    eventually("its health is noted", || async {
        api.get("/zone-insights/east").await.1["healthCheck"]["time"].is_string()
    })
    .await;

    let (status, refused) = api.delete("/zones/east").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(
        refused["invalid_parameters"],
        json!([{"field": "zone", "reason": "unable to delete Zone, Zone CP is still connected, please shut it down first"}])
    );
    let left = std::time::Instant::now();
    drop(east);
    eventually("the zone is offline", || async { !is_online(&api.get("/zone-insights/east").await.1) }).await;
    assert!(left.elapsed() < Duration::from_millis(500), "{:?}", left.elapsed());

    let _again = FakeZone::connect(&world, "east").await;
    eventually("the zone is back", || async {
        let insight = api.get("/zone-insights/east").await.1;
        subscriptions(&insight).len() == 2 && is_online(&insight)
    })
    .await;
    world.end().await;
}

/// KDS-19, KDS-20, KDS-21, KDS-47, KDS-48, KDS-53: what a zone sends goes on to the others while it is enabled, and goes
/// with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_of_a_zone_follow_its_fate() {
    let world = World::start(OPEN).await;
    let api = world.api();
    let mut east = FakeZone::connect(&world, "east").await;
    let mut west = FakeZone::connect(&world, "west").await;
    east.settle().await;
    west.settle().await;
    east.tell(&[ingress("in", 8080), service("web")]).await;
    east.tell(&[dataplane("web-1", "10.0.0.7")]).await;

    eventually("the global has the proxy", || async { api.get("/meshes/default/dataplanes").await.1["total"] == 1 })
        .await;
    let stored = api.get("/zoneingresses").await.1["items"][0].clone();
    assert_eq!((&stored["zone"], &stored["labels"]["kuma.io/zone"]), (&json!("east"), &json!("east")));
    let (of_ingress, of_service) = (stored["name"].as_str().unwrap().to_owned(), "web");
    west.until("west has them", |held| held.has("ZoneIngress", &of_ingress) && held.shows("MeshService", of_service))
        .await;
    assert!(!west.held.shows("Dataplane", "web-1") && !east.held.shows("MeshService", of_service));

    let zone = |enabled: bool| json!({"type": "Zone", "name": "east", "enabled": enabled});
    assert_eq!(api.put("/zones/east", &zone(false)).await.0, StatusCode::OK);
    west.until("west lost them", |held| {
        !held.has("ZoneIngress", &of_ingress) && !held.shows("MeshService", of_service)
    })
    .await;
    // The disabled zone goes on, both ways.
    east.tell(&[dataplane("web-2", "10.0.0.8")]).await;
    eventually("the global has both proxies", || async { api.get("/meshes/default/dataplanes").await.1["total"] == 2 })
        .await;
    api.put("/meshes/fresh", &json!({"type": "Mesh", "name": "fresh"})).await;
    east.until("a disabled zone is told", |held| held.has("Mesh", "fresh")).await;
    assert_eq!(api.put("/zones/east", &zone(true)).await.0, StatusCode::OK);
    west.until("west has them again", |held| held.has("ZoneIngress", &of_ingress)).await;

    drop(east);
    eventually("the zone can be deleted", || async { api.delete("/zones/east").await.0 == StatusCode::OK }).await;
    west.until("west lost them for good", |held| !held.has("ZoneIngress", &of_ingress)).await;
    assert_eq!(api.get("/meshes/default/dataplanes").await.1["total"], 0);
    assert_eq!(api.get("/zone-insights/east").await.0, StatusCode::NOT_FOUND);
    world.end().await;
}

/// KDS-22: a global that stops says so, and its zones come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_global_that_stops_says_so_and_keeps_its_books() {
    let world = World::start(OPEN).await;
    let mut east = FakeZone::connect(&world, "east").await;
    east.settle().await;
    let watching = tokio::spawn(async move { (east.down.status().await, east.up.status().await) });
    let world = world.restart().await;
    let (down, up) = watching.await.unwrap();
    for status in [down, up] {
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "stream unavailable"));
    }
    let insight = world.api().get("/zone-insights/east").await.1;
    assert!(!is_online(&insight) && subscriptions(&insight).len() == 1, "{insight}");
    world.end().await;
}

/// Two control planes with one name keep a state each; the same one coming back takes the place of its old connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_that_comes_back_replaces_its_old_connection() {
    let world = World::start(OPEN).await;
    let mut first = FakeZone::connect(&world, "east").await;
    first.settle().await;
    let mut twin = FakeZone::connect_as(&world, "east", "other-9f9f").await;
    twin.settle().await;
    let mut again = FakeZone::connect(&world, "east").await;
    again.settle().await;
    assert_eq!(first.down.status().await.code(), Code::Cancelled);
    assert_eq!(first.up.status().await.code(), Code::Cancelled);
    world.api().put("/meshes/fresh", &json!({"type": "Mesh", "name": "fresh"})).await;
    for zone in [&mut twin, &mut again] {
        zone.until("both live", |held| held.has("Mesh", "fresh")).await;
    }
    world.end().await;
}

/// kds-wire 5.3: what a global that was killed left open is ended when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_global_left_open_is_ended() {
    let world = World::start(OPEN).await;
    let mut east = FakeZone::connect(&world, "east").await;
    east.settle().await;
    let api = world.api();
    eventually("the zone is online", || async { is_online(&api.get("/zone-insights/east").await.1) }).await;
    let world = world.kill_and_restart().await;
    let api = world.api();
    eventually("nobody is online", || async { !is_online(&api.get("/zone-insights/east").await.1) }).await;
    drop(east);
    world.end().await;
}

/// kds-wire 5.6: a zone that stops telling that it is well is cut off; a stream gives way to the next of its kind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_watched_when_asked_for() {
    let health = [
        "multizone.global.kds.zoneHealthCheck.pollInterval=1s",
        "multizone.global.kds.zoneHealthCheck.timeout=2s",
        "multizone.global.kds.zoneHealthCheck.closeStaleConn=true",
    ];
    let world = World::start(&[OPEN, &health].concat()).await;
    let mut east = FakeZone::connect(&world, "east").await;
    east.settle().await;
    assert_eq!(east.caller.health_check().await.unwrap(), Some(1));
    let mut newer = FakeZone::connect_as(&world, "east", "other-9f9f").await;
    let replaced = east.down.status().await;
    assert_eq!((replaced.code(), replaced.message()), (Code::Cancelled, "stream canceled - zone hc failed"));
    newer.settle().await;
    let silent = tokio::time::timeout(Duration::from_secs(8), newer.down.status()).await.expect("cut off in time");
    assert_eq!((silent.code(), silent.message()), (Code::Cancelled, "stream canceled - zone hc failed"));
    world.end().await;
}

/// `metrics.zone.compactFinishedSubscriptions`: of connections that are over the counters and the configuration go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_is_told_briefly_when_asked_for() {
    let compact =
        ["metrics.zone.compactFinishedSubscriptions=true", "multizone.global.kds.zoneInsightFlushInterval=200ms"];
    let world = World::start(&[OPEN, &compact].concat()).await;
    let mut first = FakeZone::connect(&world, "east").await;
    first.settle().await;
    drop(first);
    let _second = FakeZone::connect(&world, "east").await;
    eventually("the first is told briefly, the second in full", || async {
        let told = subscriptions(&world.api().get("/zone-insights/east").await.1);
        let [first, second] = &told[..] else { return false };
        let has = |of: &Value| of["config"].is_string() && of["status"]["stat"].is_object();
        first["disconnectTime"].is_string() && !has(first) && has(second)
    })
    .await;
    world.end().await;
}

/// A zone has 16 streams of a kind at most; one more is told so, and is let in when another has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_streams_of_a_zone_are_refused() {
    let world = World::start(OPEN).await;
    let (east, mut open) = (world.zone("east"), Vec::new());
    for _ in 0..16 {
        open.push(east.down().await.unwrap());
    }
    let refused = east.down().await.err().expect("one too many");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(refused.message(), "zone \"east\" has 16 streams global-to-zone open already");
    let metrics = world.running.metrics().text().unwrap();
    assert!(metrics.contains("kds_calls_refused_total{reason=\"too-many\"} 1"), "{metrics}");
    world.zone("west").down().await.unwrap();
    east.up().await.unwrap();
    open.pop();
    eventually("there is room again", || async { east.down().await.is_ok() }).await;
    world.end().await;
}

/// KDS-4: pings far more often than those of a Kuma zone are answered, be there streams or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_end_no_connection() {
    const OFTEN: Duration = Duration::from_millis(20);
    let world = World::start(OPEN).await;
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", world.running.kds.port())).await.unwrap();
    let (_sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(OFTEN)
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
        .handshake::<_, tonic::body::Body>(TokioIo::new(stream))
        .await
        .unwrap();
    let ended = tokio::time::timeout(60 * OFTEN, connection).await;
    assert!(ended.is_err(), "{ended:?}");
    world.end().await;
}

/// KDS-1: TLS with `h2`, and the zone is served over it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zones_are_served_over_tls() {
    let world = World::start(&["multizone.global.kds.auth.exceptZones=east"]).await;
    let east = crate::world::Dialled::over_tls(world.running.kds.port(), &world.certificate(), "east");
    assert_eq!(east.health_check().await.unwrap(), Some(0));
    let mut down = east.down().await.unwrap();
    down.requests.send(crate::world::subscription("east", "Mesh")).await.unwrap();
    let response = down.next().await.unwrap();
    assert_eq!((&*response.type_url, response.resources.len()), ("Mesh", 1));
    world.end().await;
}

/// A thousand connections that ask for nothing, and as many that ask for what is not there, hold up nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_connections_holds_up_nobody() {
    let world = World::start(OPEN).await;
    let mut east = FakeZone::connect(&world, "east").await;
    east.settle().await;
    let port = world.running.kds.port();
    let flood = tokio::spawn(async move {
        let mut idle = Vec::new();
        for _ in 0..1000 {
            idle.push(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        }
        idle
    });
    for name in ["one", "two", "three", "four", "five"] {
        let started = std::time::Instant::now();
        let mesh = json!({"type": "Mesh", "name": name});
        assert!(world.api().put(&format!("/meshes/{name}"), &mesh).await.0.is_success());
        east.until("the mesh is there", |held| held.has("Mesh", name)).await;
        // A few milliseconds on a machine that does nothing else.
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
    let idle = flood.await.unwrap();
    assert_eq!(idle.len(), 1000);
    world.zone("west").health_check().await.unwrap();
    drop((idle, east));
    world.end().await;
}
