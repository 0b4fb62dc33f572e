//! Global and zone cannot talk: a cut in both directions or one, a line that loses and delays.

use std::time::{Duration, Instant};

use e2e::{Cut, World, eventually, scenario, throughout};

use crate::resources::{
    DATAPLANES, INGRESSES, SOON, TIMEOUTS, dataplane, has, ingress, instances, reaches, scale, seconds_of, timeout,
    written,
};

/// From the last packet until both ends know.
const NOTICED: Duration = Duration::from_secs(6);

/// Waits until a zone and the global each know that they do not hear each other.
async fn noticed_by_both(world: &World, zone: &str, since: Instant) {
    let left = NOTICED.saturating_sub(since.elapsed());
    eventually(left, "both ends notice the silence", async || {
        !world.is_connected(zone).await && !world.is_online(zone, "global").await
    })
    .await;
    println!("e2e: silence noticed by both after {:?}", since.elapsed());
}

/// A cut link: policies stop, inventory goes stale on both sides, nothing vanishes, and all converges after. Packets
/// vanish without a word, and both ends know within six seconds.
#[test]
fn a_silent_cut_is_noticed_and_nothing_vanishes() {
    scenario(async || {
        let world = World::with_zones(&["a", "b"]).await;
        let (global, a, b) = (world.global(), world.zone("a"), world.zone("b"));
        reaches(&world, SOON, &["a", "b"], "patient", 7).await;
        written(a.put(&format!("{DATAPLANES}/web-1"), &dataplane("web-1", "web")).await);
        written(a.put(&format!("{INGRESSES}/in-a"), &ingress("in-a")).await);
        scale(b, "shop", 1..=1).await;
        written(b.put(&format!("{INGRESSES}/in-b"), &ingress("in-b")).await);
        eventually(SOON, "each zone knows what the other offers", async || {
            instances(b, "in-a").await == Some(1)
                && instances(a, "in-b").await == Some(1)
                && has(global, DATAPLANES, "web-1").await
        })
        .await;

        let since = Instant::now();
        world.cut("a", Cut::Both);
        // The silence is noticed whether somebody wants to say something or nobody does; here both do.
        written(global.put(&format!("{TIMEOUTS}/patient"), &timeout("patient", 8)).await);
        scale(a, "web", 2..=3).await;
        scale(b, "shop", 2..=3).await;
        assert_eq!(a.delete(&format!("{DATAPLANES}/web-1")).await.status, 200);
        eventually(SOON, "the other zone goes on", async || seconds_of(b, "patient").await.as_deref() == Some("8s"))
            .await;
        noticed_by_both(&world, "a", since).await;
        let zones = global.kumactl(&["inspect", "zones"]).await.ok();
        assert!(zones.lines().any(|line| line.starts_with('a') && line.contains("Offline")), "{zones}");
        throughout(Duration::from_secs(1), "each side keeps what it knew of the other", async || {
            seconds_of(a, "patient").await.as_deref() == Some("7s")
                && instances(a, "in-b").await == Some(1)
                && instances(b, "in-a").await == Some(1)
                && has(global, DATAPLANES, "web-1").await
                && !has(global, DATAPLANES, "web-2").await
        })
        .await;

        world.heal("a");
        eventually(SOON, "all converges", async || {
            seconds_of(a, "patient").await.as_deref() == Some("8s")
                && instances(a, "in-b").await == Some(3)
                && instances(b, "in-a").await == Some(2)
                && has(global, DATAPLANES, "web-2").await
                && !has(global, DATAPLANES, "web-1").await
        })
        .await;
        world.wait_for_zone("a", "global").await;
    });
}

/// A cut in one direction: who hears nothing any more gives up within six seconds, and only then falls silent for the
/// other, who has heard its repetitions until then. A healed line is in use at once.
#[test]
fn a_cut_in_one_direction_is_noticed_by_both() {
    scenario(async || {
        let world = World::with_zones(&["a"]).await;
        reaches(&world, SOON, &["a"], "before", 5).await;
        for cut in [Cut::Outgoing, Cut::Incoming] {
            world.cut("a", cut);
            if cut == Cut::Incoming {
                eventually(NOTICED, "the zone hears nothing", async || !world.is_connected("a").await).await;
                eventually(NOTICED, "the global knows", async || !world.is_online("a", "global").await).await;
            } else {
                eventually(NOTICED, "the global hears nothing", async || !world.is_online("a", "global").await).await;
                eventually(NOTICED, "the zone knows", async || !world.is_connected("a").await).await;
            }
            world.heal("a");
            world.wait_for_zone("a", "global").await;
        }
        reaches(&world, SOON, &["a"], "after", 5).await;
    });
}

/// A zone that dies where nobody hears it comes back while the global still holds its old streams: they are replaced, and
/// the old ones' end does not make the new ones' zone offline.
#[test]
fn half_open_streams_are_replaced() {
    scenario(async || {
        let mut world = World::with_zones(&["a"]).await;
        world.power_fails("a");
        world.node_mut("a").start().await;
        world.wait_for_zone("a", "global").await;
        reaches(&world, SOON, &["a"], "after", 5).await;
        throughout(NOTICED, "the zone stays online", async || world.is_online("a", "global").await).await;
        let open = world.global().metric("kds_streams_open", &["global-to-zone"]).await;
        assert!((open - 1.0).abs() < f64::EPSILON, "{open} streams are open");
    });
}

/// A fifth of all packets lost in each direction, 80 ms on top: every change arrives within ten seconds, both ways.
#[test]
fn a_bad_line_delays_and_loses_nothing() {
    scenario(async || {
        let mut world = World::with_zones(&[]).await;
        let relay = world.relay(&["global"]).await;
        relay.delay(Duration::from_millis(80));
        world.add_zone("a", "global", &[]);
        world.follow("a", relay.address());
        world.give_token("a", "global").await;
        world.loss("a", 20);
        world.node_mut("a").start().await;
        world.wait_for_zone("a", "global").await;
        let a = world.zone("a");
        for round in 1..=8 {
            reaches(&world, Duration::from_secs(10), &["a"], "patient", round).await;
            let name = format!("web-{round}");
            written(a.put(&format!("{DATAPLANES}/{name}"), &dataplane(&name, "web")).await);
            eventually(Duration::from_secs(10), &format!("{name} is at the global"), async || {
                has(world.global(), DATAPLANES, &name).await
            })
            .await;
        }
    });
}
