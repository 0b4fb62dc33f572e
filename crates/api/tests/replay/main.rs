//! Every recorded call of the real API, sent to ours over the same resources.
//!
//! A world is a store in memory, filled with the items that the recording shows. Calls that write get a world of their
//! own. What differs is listed by name in `known-differences.yaml`, with a reason; the test fails on a difference that
//! is not listed and on a listed call that agrees.

#![expect(clippy::unwrap_used, reason = "a test: what is missing ends it")]

mod call;
mod compare;
mod differences;
mod world;

use std::collections::BTreeMap;

use differences::Differences;
use world::World;

/// Prints past the test harness, which keeps what passing tests print to itself: the counts are for whoever reads the run.
macro_rules! tell {
    ($($text:tt)*) => {{
        use std::io::Write;
        writeln!(std::io::stderr(), $($text)*).unwrap();
    }};
}

/// Recorded files, and the file whose answers tell what there was.
const GROUPS: &[(&str, &str)] = &[
    ("global-fresh", "global-fresh"),
    ("global", "global"),
    ("global-invalid", "global"),
    ("zone", "zone"),
    ("zone-invalid", "zone"),
    ("meshservice-modes", "meshservice-modes"),
    ("zone-lifecycle", "zone-lifecycle"),
    ("admin", "global"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_recorded_call_is_answered_as_the_real_system_did() {
    let mut listed = Differences::load();
    let mut failures = Vec::new();
    let mut agreeing: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (group, seed) in GROUPS {
        let seeds = call::load(seed);
        let (mut shared, mut of) = (None, String::new());
        let calls = call::load(group);
        for call in calls.clone() {
            let target = call.target.clone();
            if shared.is_none() || of != target {
                shared = Some(World::new(&target, &seeds).await);
                of = target.clone();
            }
            let answer = if call.writes() {
                let world = World::new(&target, &seeds).await;
                // What is deleted was put there by an earlier call.
                for earlier in calls.iter().filter(|earlier| call.deletes() && earlier.puts_what(&call)) {
                    world.answer(earlier).await;
                }
                world.answer(&call).await
            } else {
                shared.as_ref().unwrap().answer(&call).await
            };
            let difference = compare::difference(&call, &answer);
            let count = agreeing.entry(group).or_default();
            count.1 += 1;
            if difference.is_none() {
                count.0 += 1;
            }
            failures.extend(listed.judge(group, &call.name, difference));
        }
    }
    let known = listed.count();
    for (group, (same, all)) in &agreeing {
        let known = known.get(group).unwrap_or(&0);
        tell!("rest {group}: {same} of {all} recorded calls agree, {known} known differences");
    }
    failures.extend(listed.unused());
    assert!(failures.is_empty(), "{} calls are not as listed:\n{}", failures.len(), failures.join("\n"));
}
