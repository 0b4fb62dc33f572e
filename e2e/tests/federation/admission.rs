//! Who is let in, and what is said to those who are not.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64_URL};
use e2e::{World, eventually, scenario};
use serde_json::json;

use crate::resources::{SOON, reaches, written};

/// From a revocation to the cut (the limit), with room for what looks at it.
const CUT: Duration = Duration::from_secs(1);

/// A world with a global and one zone that is not started.
async fn one_zone(global: &[&str], zone: &[&str]) -> World {
    let mut world = World::empty();
    world.add_global("global", global);
    world.node_mut("global").start().await;
    world.add_zone("a", "global", zone);
    world
}

/// Waits until the zone's log repeats why it is refused; nothing of the mesh reached it.
async fn is_told(world: &World, zone: &str, mark: usize, reason: &str) {
    let what = format!("{zone} is told: {reason}");
    eventually(SOON, &what, async || world.zone(zone).log_since(mark).contains(reason)).await;
    assert!(!world.is_connected(zone).await);
    assert_eq!(world.zone(zone).get("/meshes").await.body["total"], 0, "nothing of the mesh has reached it");
}

/// No token, one of another zone, one of another scope: each is refused with the reason, and a good one lets in without a
/// restart.
#[test]
fn a_zone_without_a_good_token_is_told_why() {
    scenario(async || {
        let mut world = one_zone(&[], &[]).await;
        world.node_mut("a").start().await;
        is_told(&world, "a", 0, "shows no zone token").await;
        assert!(world.global().log_since(0).contains("a caller is turned away"), "the global tells it too");
        assert_eq!(world.global().get("/zones/a").await.status, 404, "who is refused leaves no trace");
        world.node_mut("a").stop().await;

        let make = async |world: &World, zone: &str, scope: &str| {
            let arguments = ["generate", "zone-token", "--zone", zone, "--scope", scope, "--valid-for", "1h"];
            let mut told = None;
            eventually(SOON, "a token is made", async || {
                told = Some(world.global().kumactl(&arguments).await);
                told.as_ref().unwrap().code == 0
            })
            .await;
            told.unwrap().ok()
        };
        let of_another = make(&world, "b", "cp").await;
        let of_an_ingress = make(&world, "a", "ingress").await;
        let good = make(&world, "a", "cp").await;
        world.put_token("a", &of_another);
        world.node_mut("a").start().await;
        is_told(&world, "a", 0, "zone from requestor: a is different than in token: b").await;
        world.put_token("a", &of_an_ingress);
        is_told(&world, "a", 0, "cp is out of token's scope: [ingress]").await;
        world.put_token("a", &format!("{}x", good.trim()));
        is_told(&world, "a", 0, "it is not signed with a key that is known here").await;
        world.put_token("a", &good);
        world.wait_for_zone("a", "global").await;
        assert!(world.global().metric("kds_calls_refused_total", &[]).await > 0.0);
    });
}

/// Revoking a token cuts the zone's streams within a second; what it holds stays, and a new token brings it back.
#[test]
fn a_revoked_token_cuts_its_zone_at_once() {
    scenario(async || {
        let mut world = World::with_zones(&["a", "b"]).await;
        reaches(&world, SOON, &["a", "b"], "patient", 7).await;
        let token = std::fs::read_to_string(world.zone("a").folder().join("token")).unwrap();
        let mark = world.zone("a").mark();
        let started = Instant::now();
        let secret = json!({"type": "GlobalSecret", "name": "zone-token-revocations", "data": base64(&id_of(&token))});
        written(world.global().put("/global-secrets/zone-token-revocations", &secret).await);
        eventually(CUT, "both ends of the revoked zone's connection ended", async || {
            !world.is_connected("a").await && !world.is_online("a", "global").await
        })
        .await;
        assert!(started.elapsed() < CUT * 2, "{:?}", started.elapsed());
        eventually(SOON, "a is told", async || world.zone("a").log_since(mark).contains("is revoked")).await;
        let meshes = world.zone("a").get("/meshes").await;
        assert_eq!(meshes.names(), ["default"], "it keeps what it has");
        assert!(world.is_connected("b").await, "nobody else is cut off");

        world.give_token("a", "global").await;
        world.wait_for_zone("a", "global").await;
    });
}

/// A token is not sent without encryption, and does not count, unless both ends say so.
#[test]
fn a_token_travels_in_the_open_only_if_both_ends_say_so() {
    scenario(async || {
        let mut world = one_zone(&["multizone.global.kds.tlsEnabled=false"], &[]).await;
        world.give_token("a", "global").await;
        let plain = format!("multizone.zone.globalAddress=grpc://{}", world.kds_of("global"));
        world.node_mut("a").set([&*plain, "multizone.zone.kds.rootCaFile="]);
        let refusal = world.node_mut("a").refuses_to_start().await;
        assert!(refusal.contains("the zone's token is not sent to \"grpc://10.0.0.2:5685\""), "{refusal}");
        assert!(refusal.contains("multizone.zone.kds.auth.allowPlaintext"), "{refusal}");

        world.node_mut("a").set(["multizone.zone.kds.auth.allowPlaintext=true"]);
        world.node_mut("a").start().await;
        is_told(&world, "a", 0, "came without encryption, where anybody may have read it").await;
        world.node_mut("global").stop().await;
        world.node_mut("global").set(["multizone.global.kds.auth.allowPlaintext=true"]);
        world.node_mut("global").start().await;
        world.wait_for_zone("a", "global").await;
    });
}

/// `auth.exceptZones` lets the named zones in without a token, `auth.type: none` all; both are loud.
#[test]
fn zones_come_in_without_a_token_where_the_global_says_so() {
    scenario(async || {
        let mut world = one_zone(&["multizone.global.kds.auth.exceptZones=a"], &[]).await;
        world.add_zone("b", "global", &[]);
        world.node_mut("a").start().await;
        world.node_mut("b").start().await;
        world.wait_for_zone("a", "global").await;
        is_told(&world, "b", 0, "shows no zone token").await;
        assert!(world.global().log_since(0).contains("anybody may speak for these zones"));

        world.node_mut("global").stop().await;
        world.node_mut("global").set(["multizone.global.kds.auth.type=none"]);
        world.node_mut("global").start().await;
        for zone in ["a", "b"] {
            world.wait_for_zone(zone, "global").await;
        }
        assert!(world.global().log_since(0).contains("multizone.global.kds.auth.type is none"));
    });
}

/// The `jti` of a token.
fn id_of(token: &str) -> String {
    let claims = token.trim().split('.').nth(1).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&BASE64_URL.decode(claims).unwrap()).unwrap();
    claims["jti"].as_str().unwrap().to_owned()
}

fn base64(text: &str) -> String {
    BASE64.encode(text)
}
