//! The global is down, or the control plane of a zone.

use std::time::Duration;

use e2e::{World, eventually, scenario, throughout};
use serde_json::json;

use crate::resources::{
    DATAPLANES, INGRESSES, SOON, TIMEOUTS, dataplane, has, ingress, instances, local_timeout, reaches, scale,
    seconds_of, written,
};

/// Without the global: nothing can be written there; what each zone knew of the others stays; work inside a zone goes on,
/// a restart of its control plane included; and all of it catches up.
#[test]
fn without_the_global_zones_go_on_and_catch_up() {
    scenario(async || {
        let mut world = World::with_zones(&["a", "b"]).await;
        reaches(&world, SOON, &["a", "b"], "patient", 7).await;
        let (global, a, b) = (world.global(), world.zone("a"), world.zone("b"));
        written(a.put(&format!("{DATAPLANES}/web-1"), &dataplane("web-1", "web")).await);
        scale(b, "shop", 1..=1).await;
        written(b.put(&format!("{INGRESSES}/in-b"), &ingress("in-b")).await);
        written(b.put(&format!("{INGRESSES}/old-b"), &ingress("old-b")).await);
        eventually(SOON, "all is in sync", async || {
            instances(a, "in-b").await == Some(1)
                && has(a, INGRESSES, "old-b").await
                && has(global, DATAPLANES, "web-1").await
        })
        .await;

        world.node_mut("global").stop().await;
        let (global, a, b) = (world.global(), world.zone("a"), world.zone("b"));
        assert_eq!(global.put("/meshes/late", &json!({"type": "Mesh", "name": "late"})).await.status, 0, "no endpoint");
        assert_eq!(global.put("/zones/a", &json!({"type": "Zone", "name": "a", "enabled": false})).await.status, 0);
        assert_eq!(global.delete("/zones/a").await.status, 0);
        eventually(SOON, "the zones know", async || !world.is_connected("a").await && !world.is_connected("b").await)
            .await;
        // A zone's proxies join, scale and leave; its own policies change.
        for name in ["web-2", "web-3"] {
            written(a.put(&format!("{DATAPLANES}/{name}"), &dataplane(name, "web")).await);
        }
        assert_eq!(a.delete(&format!("{DATAPLANES}/web-1")).await.status, 200);
        written(a.put(&format!("{TIMEOUTS}/mine"), &local_timeout("mine", 3)).await);
        // An ingress that b adds is unknown in a, one that it removes stays listed, its instances are those of before.
        written(b.put(&format!("{INGRESSES}/new-b"), &ingress("new-b")).await);
        scale(b, "shop", 2..=4).await;
        assert_eq!(b.delete(&format!("{INGRESSES}/old-b")).await.status, 200);
        throughout(Duration::from_secs(1), "a keeps what it knew of b", async || {
            !has(a, INGRESSES, "new-b").await
                && has(a, INGRESSES, "old-b").await
                && instances(a, "in-b").await == Some(1)
                && seconds_of(a, "patient").await.as_deref() == Some("7s")
        })
        .await;
        world.node_mut("b").stop().await;
        world.node_mut("b").start().await;
        let b = world.zone("b");
        assert_eq!(seconds_of(b, "patient").await.as_deref(), Some("7s"), "from its own store");

        world.node_mut("global").start().await;
        for zone in ["a", "b"] {
            world.wait_for_zone(zone, "global").await;
        }
        let (global, a) = (world.global(), world.zone("a"));
        eventually(SOON, "all catches up", async || {
            has(a, INGRESSES, "new-b").await
                && !has(a, INGRESSES, "old-b").await
                && instances(a, "in-b").await == Some(4)
                && has(global, DATAPLANES, "web-2").await
                && has(global, DATAPLANES, "web-3").await
                && !has(global, DATAPLANES, "web-1").await
                && has(global, TIMEOUTS, "mine").await
        })
        .await;
        reaches(&world, SOON, &["a", "b"], "patient", 9).await;
    });
}

/// Without a zone's control plane: no new proxies there, what others know of it is frozen, and they are untouched.
#[test]
fn without_a_zones_control_plane_the_others_are_untouched() {
    scenario(async || {
        let mut world = World::with_zones(&["a", "b"]).await;
        let a = world.zone("a");
        scale(a, "web", 0..=1).await;
        written(a.put(&format!("{INGRESSES}/in-a"), &ingress("in-a")).await);
        eventually(SOON, "b has the ingress of a", async || instances(world.zone("b"), "in-a").await == Some(2)).await;
        world.node_mut("a").stop().await;

        let (global, a, b) = (world.global(), world.zone("a"), world.zone("b"));
        assert_eq!(a.put(&format!("{DATAPLANES}/web-2"), &dataplane("web-2", "web")).await.status, 0, "no endpoint");
        eventually(SOON, "a is offline", async || !world.is_online("a", "global").await).await;
        reaches(&world, SOON, &["b"], "patient", 6).await;
        written(b.put(&format!("{DATAPLANES}/shop-1"), &dataplane("shop-1", "shop")).await);
        eventually(SOON, "b goes on", async || has(global, DATAPLANES, "shop-1").await).await;
        throughout(Duration::from_secs(1), "what others know of a stays", async || {
            instances(b, "in-a").await == Some(2) && has(global, DATAPLANES, "web-1").await
        })
        .await;

        world.node_mut("a").start().await;
        world.wait_for_zone("a", "global").await;
        let a = world.zone("a");
        eventually(SOON, "a catches up", async || seconds_of(a, "patient").await.as_deref() == Some("6s")).await;
        written(a.put(&format!("{DATAPLANES}/web-2"), &dataplane("web-2", "web")).await);
        eventually(SOON, "a goes on", async || has(world.global(), DATAPLANES, "web-2").await).await;
    });
}
