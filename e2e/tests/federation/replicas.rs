//! Several instances of a global on one PostgreSQL.

use std::time::{Duration, Instant};

use e2e::{World, eventually, not_run, scenario, throughout};

use crate::resources::{DATAPLANES, INGRESSES, SOON, TIMEOUTS, dataplane, has, ingress, seconds_of, timeout, written};

/// For the rest to notice a dead holder of the lease and take over: the lease's length, and a little.
const TAKEN_OVER: Duration = Duration::from_secs(10);

/// Two instances, zone a at the first, zone b at the second.
async fn two_instances(world: &mut World, settings: &[String]) {
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    for name in ["one", "two"] {
        world.add_global(name, &settings);
    }
    world.node("one").migrate().await;
    for name in ["one", "two"] {
        world.node_mut(name).start().await;
    }
    for (zone, global) in [("a", "one"), ("b", "two")] {
        world.add_zone(zone, global, &[]);
        world.give_token(zone, global).await;
        world.node_mut(zone).start().await;
    }
    for (zone, global) in [("a", "one"), ("b", "two")] {
        world.wait_for_zone(zone, global).await;
        world.wait_for_mesh(zone).await;
    }
}

/// A change through one instance reaches the zones of the other; any of them can die, the leader too, and nothing that
/// was acknowledged is lost.
#[test]
fn instances_share_their_zones_and_survive_each_other() {
    scenario(async || {
        let mut world = World::empty();
        let (_database, settings) = match world.database().await {
            Ok(database) => database,
            Err(why) => return not_run("globals on PostgreSQL", &why),
        };
        two_instances(&mut world, &settings).await;
        let (one, two, a, b) = (world.node("one"), world.node("two"), world.zone("a"), world.zone("b"));
        written(one.put(&format!("{TIMEOUTS}/patient"), &timeout("patient", 7)).await);
        eventually(SOON, "a change through one is in both zones", async || {
            seconds_of(a, "patient").await.is_some() && seconds_of(b, "patient").await.is_some()
        })
        .await;
        written(a.put(&format!("{INGRESSES}/in-a"), &ingress("in-a", "web", 1)).await);
        eventually(SOON, "the ingress of a is in b and at the other instance", async || {
            has(b, INGRESSES, "in-a").await && has(two, INGRESSES, "in-a").await
        })
        .await;
        for instance in [one, two] {
            let zones = instance.kumactl(&["inspect", "zones"]).await.ok();
            assert_eq!(zones.lines().filter(|line| line.contains("Online")).count(), 2, "{zones}");
        }

        // Both zones find the other instance when theirs is gone, and the leader is one of those that go.
        let relay = world.relay(&["one", "two"]).await;
        for zone in ["a", "b"] {
            world.node_mut(zone).stop().await;
            world.follow(zone, relay.address());
            world.node_mut(zone).start().await;
            world.wait_for_zone(zone, "one").await;
        }
        for (killed, left, seconds) in [("one", "two", 11), ("two", "one", 12)] {
            let since = Instant::now();
            world.node_mut(killed).kill();
            let (left, a, b) = (world.node(left), world.zone("a"), world.zone("b"));
            written(left.put(&format!("{TIMEOUTS}/patient"), &timeout("patient", seconds)).await);
            eventually(
                TAKEN_OVER,
                &format!("both zones follow {} after {killed} was killed", left.name()),
                async || {
                    seconds_of(a, "patient").await == Some(format!("{seconds}s"))
                        && seconds_of(b, "patient").await == Some(format!("{seconds}s"))
                },
            )
            .await;
            let name = format!("web-{seconds}");
            written(a.put(&format!("{DATAPLANES}/{name}"), &dataplane(&name, "web")).await);
            eventually(SOON, "what a makes is at the instance that is left", async || {
                has(left, DATAPLANES, &name).await
            })
            .await;
            println!("e2e: taken over after {:?}", since.elapsed());
            world.node_mut(killed).start().await;
        }
        throughout(Duration::from_secs(1), "nothing is missing", async || {
            has(world.zone("b"), INGRESSES, "in-a").await && has(world.node("one"), DATAPLANES, "web-11").await
        })
        .await;
    });
}
