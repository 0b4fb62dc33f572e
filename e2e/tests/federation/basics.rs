//! What every user of two zones sees on the first day.

use e2e::{World, eventually, scenario};
use serde_json::json;

use crate::resources::{
    DATAPLANES, INGRESSES, SERVICES, SOON, TIMEOUTS, dataplane, has, ingress, local_timeout, reaches, service, timeout,
    written,
};

/// Policies go down, inventory comes up and across, each under the name that it has for others.
#[test]
fn what_is_made_shows_where_it_belongs() {
    scenario(async || {
        let world = World::with_zones(&["a", "b"]).await;
        let (global, a, b) = (world.global(), world.zone("a"), world.zone("b"));

        reaches(&world, SOON, &["a", "b"], "patient", 7).await;
        for zone in [a, b] {
            let timeouts = zone.get(TIMEOUTS).await;
            let policy = timeouts.shown("patient")[0];
            assert!(policy["name"].as_str().unwrap().starts_with("patient-"), "{policy}");
            assert_eq!(policy["labels"]["kuma.io/origin"], "global");
        }
        assert_eq!(a.get(TIMEOUTS).await.names(), b.get(TIMEOUTS).await.names());
        assert_eq!(global.delete(&format!("{TIMEOUTS}/patient")).await.status, 200);
        eventually(SOON, "a deleted policy is gone from both zones", async || {
            !has(a, TIMEOUTS, "patient").await && !has(b, TIMEOUTS, "patient").await
        })
        .await;

        written(a.put(&format!("{DATAPLANES}/web-1"), &dataplane("web-1", "web")).await);
        written(a.put(&format!("{INGRESSES}/in"), &ingress("in")).await);
        written(a.put(&format!("{SERVICES}/web"), &service("web")).await);
        written(a.put(&format!("{TIMEOUTS}/mine"), &local_timeout("mine", 3)).await);
        eventually(SOON, "the global has what a made", async || {
            has(global, DATAPLANES, "web-1").await
                && has(global, INGRESSES, "in").await
                && has(global, SERVICES, "web").await
                && has(global, TIMEOUTS, "mine").await
        })
        .await;
        let proxies = global.get(DATAPLANES).await;
        let proxy = proxies.shown("web-1")[0];
        assert!(proxy["name"].as_str().unwrap().starts_with("web-1-"), "{proxy}");
        assert_eq!(proxy["labels"]["kuma.io/zone"], "a");
        eventually(SOON, "b has the ingress and the service of a", async || {
            has(b, INGRESSES, "in").await && has(b, SERVICES, "web").await
        })
        .await;
        let ingresses = b.get(INGRESSES).await;
        let seen = ingresses.shown("in")[0];
        assert_eq!((&seen["labels"]["kuma.io/origin"], &seen["zone"]), (&json!("global"), &json!("a")));
        assert_eq!(seen["name"], global.get(INGRESSES).await.shown("in")[0]["name"]);
        assert!(!has(b, DATAPLANES, "web-1").await && !has(b, TIMEOUTS, "mine").await, "they are a's own");
        assert_eq!(a.get(INGRESSES).await.shown("in").len(), 1, "nothing comes back to where it is from");

        let zones = global.kumactl(&["get", "zones"]).await.ok();
        let names: Vec<&str> = zones.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(names, ["a", "b"], "{zones}");
        let wide = global.kumactl(&["get", "zones", "-o", "wide"]).await.ok();
        assert!(wide.lines().skip(1).all(|line| line.contains("Online")), "{wide}");
        let inspected = global.kumactl(&["inspect", "zones"]).await.ok();
        assert!(inspected.lines().filter(|line| line.contains("Online")).count() == 2, "{inspected}");
    });
}

/// Who may write what, at both ends (kds-wire 8).
#[test]
fn each_end_refuses_what_is_the_others() {
    scenario(async || {
        let world = World::with_zones(&["a"]).await;
        let (global, a) = (world.global(), world.zone("a"));
        let refused = global.put(&format!("{DATAPLANES}/web-1"), &dataplane("web-1", "web")).await;
        assert_eq!((refused.status, &refused.body["title"]), (405, &json!("Method not allowed")), "{refused:?}");
        let text = refused.body["detail"].as_str().unwrap();
        assert!(text.starts_with("On global control plane you can not modify dataplane resources"), "{text}");

        let mesh = json!({"type": "Mesh", "name": "second"});
        let refused = a.put("/meshes/second", &mesh).await;
        assert_eq!((refused.status, &refused.body["title"]), (405, &json!("Method not allowed")), "{refused:?}");
        let text = refused.body["detail"].as_str().unwrap();
        assert!(text.starts_with("On zone control plane you can only modify zone resources"), "{text}");
        assert_eq!(a.delete("/meshes/default").await.status, 405);

        let reason = |answer: &e2e::Answer| answer.body["invalid_parameters"][0]["reason"].clone();
        let refused = a.put(&format!("{TIMEOUTS}/x"), &timeout("x", 1)).await;
        assert_eq!((refused.status, reason(&refused)), (400, json!("the origin label must be set to 'zone'")));
        let refused = global.put(&format!("{TIMEOUTS}/x"), &local_timeout("x", 1)).await;
        assert_eq!((refused.status, reason(&refused)), (400, json!("the origin label must be set to 'global'")));
        let mut foreign = local_timeout("x", 1);
        foreign["labels"]["kuma.io/zone"] = json!("b");
        let refused = a.put(&format!("{TIMEOUTS}/x"), &foreign).await;
        assert_eq!((refused.status, reason(&refused)), (400, json!("kuma.io/zone label should have a value")));

        // What came from the global is nobody's to delete but the global's.
        reaches(&world, SOON, &["a"], "kept", 2).await;
        let name = a.get(TIMEOUTS).await.shown("kept")[0]["name"].as_str().unwrap().to_owned();
        let refused = a.delete(&format!("{TIMEOUTS}/{name}")).await;
        assert!((400..500).contains(&refused.status), "{refused:?}");
        assert!(has(a, TIMEOUTS, "kept").await);
    });
}

/// A zone is disabled and enabled, refused its end while it is there, and takes along what came from it.
#[test]
fn a_zone_is_disabled_enabled_and_deleted() {
    scenario(async || {
        let mut world = World::with_zones(&["a", "b"]).await;
        let (global, a, b) = (world.global(), world.zone("a"), world.zone("b"));
        written(a.put(&format!("{INGRESSES}/in"), &ingress("in")).await);
        written(a.put(&format!("{DATAPLANES}/web-1"), &dataplane("web-1", "web")).await);
        eventually(SOON, "b has the ingress of a", async || has(b, INGRESSES, "in").await).await;

        let zone = |enabled: bool| json!({"type": "Zone", "name": "a", "enabled": enabled});
        written(global.put("/zones/a", &zone(false)).await);
        eventually(SOON, "the ingress of a disabled zone is gone from b", async || !has(b, INGRESSES, "in").await)
            .await;
        reaches(&world, SOON, &["a"], "still", 4).await;
        written(global.put("/zones/a", &zone(true)).await);
        eventually(SOON, "the ingress of an enabled zone is back in b", async || has(b, INGRESSES, "in").await).await;

        let refused = global.delete("/zones/a").await;
        assert_eq!(refused.status, 400, "{refused:?}");
        assert_eq!(
            refused.body["invalid_parameters"],
            json!([{
                "field": "zone",
                "reason": "unable to delete Zone, Zone CP is still connected, please shut it down first"
            }])
        );
        let told = global.kumactl(&["delete", "zone", "a"]).await;
        assert!(
            told.code != 0 && told.stderr.contains("unable to delete Zone, Zone CP is still connected"),
            "{told:?}"
        );

        world.node_mut("a").stop().await;
        let (global, b) = (world.global(), world.zone("b"));
        eventually(SOON, "a is offline", async || !world.is_online("a", "global").await).await;
        assert!(has(b, INGRESSES, "in").await, "a zone that is away is still listed");
        assert_eq!(global.kumactl(&["delete", "zone", "a"]).await.code, 0);
        eventually(SOON, "all of a is gone", async || {
            !has(b, INGRESSES, "in").await && !has(global, DATAPLANES, "web-1").await
        })
        .await;
        assert_eq!(global.get("/zone-insights/a").await.status, 404);

        world.node_mut("a").start().await;
        world.wait_for_zone("a", "global").await;
        let (global, b) = (world.global(), world.zone("b"));
        eventually(SOON, "a is back with all it has", async || {
            has(b, INGRESSES, "in").await && has(global, DATAPLANES, "web-1").await
        })
        .await;
    });
}
