//! Who is let in, and who is not any more.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use kds_proto::kuma::mesh::v1alpha1::{StatsRequest, StatsResponse, XdsConfigRequest, XdsConfigResponse};
use serde_json::{Value, json};
use tonic::Code;

use crate::client::eventually;
use crate::world::{ADMIN, Call, Dialled, OPEN, World};

const PLAIN: &[&str] = &["multizone.global.kds.tlsEnabled=false", "multizone.global.kds.auth.allowPlaintext=true"];

async fn token(world: &World, zone: &str, scope: &str) -> String {
    let body = json!({"zone": zone, "scope": [scope], "validFor": "1h"});
    let (status, token) = world.api().post("/tokens/zone", &body).await;
    assert_eq!(status, StatusCode::OK, "{token}");
    token.as_str().unwrap().to_owned()
}

async fn stats(zone: &Dialled) -> Result<Call<StatsResponse, StatsRequest>, tonic::Status> {
    zone.call(&format!("{ADMIN}/StreamStats")).await
}

/// KDS-2: by default a zone shows a token of scope `cp`, made for it, and is told why when it does not; its calls, with one
/// message or with many, come compressed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_needs_a_token_of_its_own() {
    let world = World::start(PLAIN).await;
    let good = token(&world, "east", "cp").await;
    let east = world.zone("east");
    for (zone, why) in [
        (east.again(), "shows no zone token"),
        (world.zone("west").with("authorization", &format!("Bearer {good}")), "west is different than in token: east"),
        (
            east.again().with("authorization", &token(&world, "east", "ingress").await),
            "cp is out of token's scope: [ingress]",
        ),
        (east.again().with("authorization", "Bearer abc"), "it is not signed with a key that is known here"),
    ] {
        let refused = zone.health_check().await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert!(refused.message().contains(why), "{}", refused.message());
        assert_eq!(zone.down().await.err().expect("refused").code(), Code::Unauthenticated);
    }
    assert_eq!(world.api().get("/zones/east").await.0, StatusCode::NOT_FOUND);

    let east = east.with("authorization", &format!("Bearer {good}"));
    assert_eq!(east.health_check().await.unwrap(), Some(0));
    let _stream = stats(&east).await.unwrap();
    eventually("the zone is there", || async { world.api().get("/zones/east").await.0 == StatusCode::OK }).await;
    world.end().await;
}

/// Revoking a token cuts off its zone within a second, and no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_cuts_its_zone_off() {
    let world = World::start(PLAIN).await;
    let (of_east, of_west) = (token(&world, "east", "cp").await, token(&world, "west", "cp").await);
    let east = world.zone("east").with("authorization", &of_east);
    let west = world.zone("west").with("authorization", &of_west);
    let (mut cut, mut other) = (stats(&east).await.unwrap(), stats(&west).await.unwrap());
    let mut dumps: Call<XdsConfigResponse, XdsConfigRequest> =
        east.call(&format!("{ADMIN}/StreamXDSConfigs")).await.unwrap();

    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(of_east.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let revocations = json!({
        "type": "GlobalSecret", "name": "zone-token-revocations", "data": STANDARD.encode(claims["jti"].as_str().unwrap()),
    });
    let started = std::time::Instant::now();
    assert_eq!(world.api().put("/global-secrets/zone-token-revocations", &revocations).await.0, StatusCode::CREATED);
    for status in [cut.status().await, dumps.status().await] {
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(status.message().ends_with("is revoked"), "{status}");
    }
    assert!(started.elapsed().as_millis() < 1000, "{:?}", started.elapsed());
    assert!(stats(&east).await.err().expect("refused").message().ends_with("is revoked"));
    let quiet = tokio::time::timeout(std::time::Duration::from_millis(100), other.next());
    assert!(quiet.await.is_err());
    world.end().await;
}

/// A zone that is taken off the list, or that has to show a token all of a sudden, is cut off within a second; who shows
/// one stays, although nobody asked for it before. A file that cannot be read changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_needs_a_token_from_now_on_is_cut_off() {
    let file = |auth: &str| format!("multizone: {{global: {{kds: {{auth: {auth}}}}}}}");
    let world = World::with_file(&file("{type: none}"), PLAIN).await;
    let shows = world.zone("shows").with("authorization", &token(&world, "shows", "cp").await);
    let mut stays = stats(&shows).await.unwrap();
    let (mut listed, mut open) = (stats(&world.zone("old")).await.unwrap(), stats(&world.zone("any")).await.unwrap());
    let is_cut = async |call: &mut Call<StatsResponse, StatsRequest>, since: std::time::Instant| {
        let status = call.status().await;
        assert!(status.code() == Code::Unauthenticated && status.message().contains("shows no zone token"), "{status}");
        assert!(since.elapsed().as_millis() < 1000, "{:?}", since.elapsed());
    };
    world.change_file(&file("{type: cpToken, exceptZones: [old]}"));
    is_cut(&mut open, std::time::Instant::now()).await;
    assert!(stats(&world.zone("any")).await.is_err());
    world.change_file(&file("{type: nonsense"));
    assert_eq!(world.zone("old").health_check().await.unwrap(), Some(0));
    world.change_file(&file("{type: cpToken}"));
    is_cut(&mut listed, std::time::Instant::now()).await;
    let quiet = tokio::time::timeout(std::time::Duration::from_millis(100), stays.next());
    assert!(quiet.await.is_err());
    world.end().await;
}

/// KDS-8, KDS-12: without TLS a token does not count unless it is allowed; zones of the list need none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_in_the_open_does_not_count() {
    let sets = ["multizone.global.kds.tlsEnabled=false", "multizone.global.kds.auth.exceptZones=old"];
    let world = World::start(&sets).await;
    let east = world.zone("east").with("authorization", &token(&world, "east", "cp").await);
    let refused = east.health_check().await.unwrap_err();
    assert!(refused.message().contains("multizone.global.kds.auth.allowPlaintext"), "{}", refused.message());
    assert_eq!(world.zone("old").health_check().await.unwrap(), Some(0));
    world.end().await;

    let open = World::start(OPEN).await;
    assert_eq!(open.zone("any").health_check().await.unwrap(), Some(0));
    let bad = open.zone("not a name").health_check().await.unwrap_err();
    assert_eq!((bad.code(), bad.message()), (Code::InvalidArgument, "Zone name not a name has to be a valid DNS name"));
    open.end().await;
}
