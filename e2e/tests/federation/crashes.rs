//! kill -9 and what is on disk.

use std::time::Duration;

use e2e::{World, eventually, scenario, throughout};

use crate::resources::{
    DATAPLANES, INGRESSES, SOON, TIMEOUTS, dataplane, has, ingress, reaches, seconds_of, timeout, written,
};

/// Whatever was acknowledged is there after kill -9 of the global, of a zone, of both; and at no moment is less.
#[test]
fn what_was_acknowledged_survives_kill_9() {
    scenario(async || {
        let mut world = World::with_zones(&["a", "b"]).await;
        reaches(&world, SOON, &["a", "b"], "patient", 7).await;
        written(world.zone("a").put(&format!("{INGRESSES}/in-a"), &ingress("in-a")).await);
        eventually(SOON, "b has the ingress of a", async || has(world.zone("b"), INGRESSES, "in-a").await).await;

        // The global dies right after its answer: the change is there when it comes back.
        written(world.global().put(&format!("{TIMEOUTS}/last"), &timeout("last", 3)).await);
        world.node_mut("global").kill();
        written(world.zone("a").put(&format!("{DATAPLANES}/web-1"), &dataplane("web-1", "web")).await);
        world.node_mut("a").kill();
        world.node_mut("global").start().await;
        assert_eq!(seconds_of(world.global(), "last").await.as_deref(), Some("3s"));
        world.node_mut("a").start().await;
        let a = world.zone("a");
        assert_eq!(seconds_of(a, "patient").await.as_deref(), Some("7s"), "from its own store");
        assert!(has(a, DATAPLANES, "web-1").await);
        let b = world.zone("b");
        throughout(Duration::from_secs(1), "nothing is missing meanwhile", async || {
            has(b, INGRESSES, "in-a").await
                && seconds_of(b, "patient").await.is_some()
                && seconds_of(a, "patient").await.is_some()
        })
        .await;
        for zone in ["a", "b"] {
            world.wait_for_zone(zone, "global").await;
        }
        eventually(SOON, "all is in sync", async || {
            has(world.global(), DATAPLANES, "web-1").await
                && seconds_of(a, "last").await.is_some()
                && seconds_of(b, "last").await.is_some()
        })
        .await;

        // Connections that a killed global could not close are ended on record; those of now are told apart.
        let insight = world.global().get("/zone-insights/b").await.body;
        let subscriptions = insight["subscriptions"].as_array().unwrap();
        let open = subscriptions.iter().filter(|subscription| subscription["disconnectTime"].is_null()).count();
        assert_eq!(open, 1, "{insight}");
    });
}
