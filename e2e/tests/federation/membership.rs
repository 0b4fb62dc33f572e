//! A zone that was alone, that gets another name, that meets another global, that has a namesake.

use e2e::{World, eventually, scenario};
use serde_json::json;

use crate::resources::{
    DATAPLANES, INGRESSES, SOON, TIMEOUTS, dataplane, has, ingress, reaches, seconds_of, timeout, written,
};

/// kds-wire 4.8: a zone that ran alone and then joins keeps what is its own, and takes over the global's meshes.
#[test]
fn a_zone_that_ran_alone_joins_with_its_data() {
    scenario(async || {
        let mut world = World::with_zones(&["b"]).await;
        world.add_zone_alone("a");
        world.node_mut("a").start().await;
        let a = world.zone("a");
        eventually(SOON, "a zone alone has a mesh", async || a.get("/meshes/default").await.status == 200).await;
        let routing = json!({"type": "Mesh", "name": "default", "routing": {"localityAwareLoadBalancing": true}});
        written(a.put("/meshes/default", &routing).await);
        written(a.put("/meshes/private", &json!({"type": "Mesh", "name": "private"})).await);
        written(a.put(&format!("{DATAPLANES}/web-1"), &dataplane("web-1", "web")).await);
        written(a.put(&format!("{INGRESSES}/in-a"), &ingress("in-a")).await);
        written(a.put(&format!("{TIMEOUTS}/mine"), &timeout("mine", 3)).await);
        world.node_mut("a").stop().await;

        let global = world.kds_of("global");
        world.follow("a", global);
        world.give_token("a", "global").await;
        world.node_mut("a").start().await;
        world.wait_for_zone("a", "global").await;
        let (global, a, b) = (world.global(), world.zone("a"), world.zone("b"));
        eventually(SOON, "what a made alone is at the global", async || {
            has(global, DATAPLANES, "web-1").await
                && has(global, TIMEOUTS, "mine").await
                && has(b, INGRESSES, "in-a").await
        })
        .await;
        eventually(SOON, "the meshes are the global's", async || {
            let mesh = a.get("/meshes/default").await.body;
            mesh["labels"]["kuma.io/origin"] == "global" && mesh["routing"].is_null()
        })
        .await;
        assert_eq!(a.get("/meshes/private").await.status, 404, "the global has none of that name");
        assert!(has(a, DATAPLANES, "web-1").await && has(a, TIMEOUTS, "mine").await, "its own stays");
        reaches(&world, SOON, &["a", "b"], "patient", 5).await;
    });
}

/// Another name is refused, and taken when the operator says what the zone was called.
#[test]
fn a_zone_changes_its_name_only_when_told_to() {
    scenario(async || {
        let mut world = World::with_zones(&["a"]).await;
        written(world.zone("a").put(&format!("{DATAPLANES}/web-1"), &dataplane("web-1", "web")).await);
        eventually(SOON, "the global has it", async || has(world.global(), DATAPLANES, "web-1").await).await;
        world.node_mut("a").stop().await;

        // The file of the store carries the name, so that one machine may hold several.
        let store = format!("store.sqlite.path={}", world.zone("a").folder().join(".kuma/zone-a.db").display());
        world.node_mut("a").set([&*store, "multizone.zone.name=east"]);
        let refusal = world.node_mut("a").refuses_to_start().await;
        assert!(
            refusal.contains("this is the store of zone \"a\", which has joined a global under that name"),
            "{refusal}"
        );
        assert!(refusal.contains("multizone.zone.migrateFrom.zone=a"), "{refusal}");

        world.node_mut("a").set(["multizone.zone.migrateFrom.zone=a"]);
        let made = ["generate", "zone-token", "--zone", "east", "--scope", "cp", "--valid-for", "1h"];
        let token = world.global().kumactl(&made).await.ok();
        world.put_token("a", &token);
        world.node_mut("a").start().await;
        eventually(SOON, "what it has is that of the zone with the new name", async || {
            let proxies = world.global().get(DATAPLANES).await;
            proxies.shown("web-1").iter().any(|proxy| proxy["labels"]["kuma.io/zone"] == "east")
        })
        .await;
        assert_eq!(world.global().delete("/zones/a").await.status, 200, "the old name is free to go");
        eventually(SOON, "one proxy is left", async || world.global().get(DATAPLANES).await.shown("web-1").len() == 1)
            .await;
    });
}

/// Another global is refused, nothing of it taken over, and joined when the operator says so.
#[test]
fn a_zone_joins_another_global_only_when_told_to() {
    scenario(async || {
        let mut world = World::with_zones(&["a"]).await;
        reaches(&world, SOON, &["a"], "patient", 7).await;
        world.add_global("other", &[]);
        world.node_mut("other").start().await;
        world.wait_for_mesh("other").await;
        written(world.node("other").put(&format!("{TIMEOUTS}/foreign"), &timeout("foreign", 1)).await);
        world.give_token("a", "other").await;
        let other = world.kds_of("other");
        world.node_mut("a").stop().await;
        world.follow("a", other);
        world.node_mut("a").start().await;
        let a = world.zone("a");
        eventually(SOON, "a tells that this is another global", async || {
            a.log_since(0).contains("this is another global")
        })
        .await;
        let log = a.log_since(0);
        let (_, old) = log.split_once("multizone.zone.migrateFrom.global=").expect("the remedy");
        let old: String = old.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        assert!(!has(a, TIMEOUTS, "foreign").await && has(a, TIMEOUTS, "patient").await, "nothing was taken over");

        world.node_mut("a").stop().await;
        world.node_mut("a").set([format!("multizone.zone.migrateFrom.global={old}")]);
        world.node_mut("a").start().await;
        world.wait_for_zone("a", "other").await;
        let a = world.zone("a");
        eventually(SOON, "a holds what its new global tells", async || {
            seconds_of(a, "foreign").await.is_some() && seconds_of(a, "patient").await.is_none()
        })
        .await;
    });
}

/// Two control planes with one name are both served, as by Kuma, and the global says so.
#[test]
fn two_control_planes_with_one_name_are_told_of() {
    scenario(async || {
        let mut world = World::with_zones(&["a"]).await;
        world.add_zone("twin", "global", &["multizone.zone.name=a"]);
        let token = std::fs::read_to_string(world.zone("a").folder().join("token")).unwrap();
        world.put_token("twin", &token);
        let mark = world.global().mark();
        world.node_mut("twin").start().await;
        // It could be another instance taking over: that is known after a while.
        eventually(SOON * 2, "the global tells of the two", async || {
            world.global().log_since(mark).contains("two control planes call themselves by the same zone name")
        })
        .await;
        eventually(SOON, "both are connected", async || {
            world.is_connected("a").await && world.is_connected("twin").await
        })
        .await;
        assert!(world.global().metric("kds_zone_name_conflicts_total", &[]).await > 0.0);
        reaches(&world, SOON, &["a", "twin"], "patient", 5).await;
    });
}
