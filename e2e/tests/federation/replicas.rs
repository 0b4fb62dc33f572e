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
        written(a.put(&format!("{INGRESSES}/in-a"), &ingress("in-a")).await);
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

/// One instance of a zone follows the global, the other serves beside it and takes over when it dies.
#[test]
fn one_instance_of_a_zone_follows_the_global() {
    scenario(async || {
        let mut world = World::with_zones(&["b"]).await;
        let (_database, settings) = match world.database().await {
            Ok(database) => database,
            Err(why) => return not_run("a zone on PostgreSQL", &why),
        };
        let settings: Vec<&str> = settings.iter().map(String::as_str).chain(["multizone.zone.name=a"]).collect();
        let names = ["a-1", "a-2"];
        let made = ["generate", "zone-token", "--zone", "a", "--scope", "cp", "--valid-for", "1h"];
        let token = world.global().kumactl(&made).await.ok();
        for name in names {
            world.add_zone(name, "global", &settings);
            world.put_token(name, &token);
        }
        world.node("a-1").migrate().await;
        for name in names {
            world.node_mut(name).start().await;
            world.wait_for_mesh(name).await;
        }
        let connected = async |world: &World| {
            let (first, second) = (world.is_connected("a-1").await, world.is_connected("a-2").await);
            (first != second).then_some(if first { "a-1" } else { "a-2" })
        };
        let holder = connected(&world).await.expect("one follows the global");
        let other = if holder == "a-1" { "a-2" } else { "a-1" };
        written(world.node(other).put(&format!("{DATAPLANES}/web-1"), &dataplane("web-1", "web")).await);
        eventually(SOON, "what one takes, the other tells", async || has(world.global(), DATAPLANES, "web-1").await)
            .await;
        throughout(Duration::from_secs(1), "one follows", async || connected(&world).await == Some(holder)).await;

        world.node_mut(holder).kill();
        eventually(TAKEN_OVER, "the other takes over", async || {
            world.is_connected(other).await && world.is_online("a", "global").await
        })
        .await;
        written(world.global().put(&format!("{TIMEOUTS}/patient"), &timeout("patient", 7)).await);
        eventually(SOON, "and hears of changes", async || seconds_of(world.node(other), "patient").await.is_some())
            .await;
        assert!(has(world.global(), DATAPLANES, "web-1").await, "nothing is gone");
        world.node_mut(holder).start().await;
        throughout(Duration::from_secs(1), "who comes back stands by", async || connected(&world).await == Some(other))
            .await;
    });
}
