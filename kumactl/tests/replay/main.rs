//! Every recorded call of unmodified kumactl, run against a server that answers as the recorded control planes did.
//!
//! Compared are exit code, standard output and standard error, letter by letter; of help only that it is shown. Ages
//! depend on the moment of the recording, which was not kept: a call passes if there is a moment at which all of its
//! output is as recorded. `known-differences.txt` lists calls that differ, each with a reason; a call that is listed
//! and passes is a failure too.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where something is not as it should be")]

mod beyond;
mod call;
mod config;
mod moment;
mod server;
mod tokens;

use std::collections::BTreeMap;
use std::sync::Arc;

use call::{Call, Shown};
use server::{Server, World};

/// Prints past the test harness, which keeps what passing tests print to itself: the counts are for whoever reads the run.
macro_rules! tell {
    ($($text:tt)*) => {{
        use std::io::Write;
        writeln!(std::io::stderr(), $($text)*).unwrap();
    }};
}

/// Calls that do not depend on each other, by file.
const GROUPS: &[&str] = &[
    "get-global",
    "get-zone",
    "get-misc",
    "inspect-global",
    "inspect-zone",
    "apply",
    "delete",
    "generate",
    "export",
    "version-global",
    "version-zone",
    "version-down",
];

/// What became of the calls of one group.
#[derive(Default)]
struct Score {
    passed: usize,
    /// Of those that passed: how many were served what another recorded output shows, for want of a recorded answer.
    from_output: usize,
    differ: BTreeMap<String, String>,
}

#[tokio::test]
async fn recorded_calls_give_what_they_gave() {
    let mut scores = BTreeMap::new();
    let world = World::recorded();
    let shown = Arc::new(outputs(&world).await);
    let exported = Arc::new(exports(&shown));
    for group in GROUPS.iter().copied() {
        let shown = if group == "export" { &exported } else { &shown };
        scores.insert(group, replay(group, &world, shown).await);
    }
    scores.insert("config", config::replay().await);
    let known = known_differences();
    let mut wrong = Vec::new();
    for (group, score) in &scores {
        let total = score.passed + score.differ.len();
        tell!("kumactl {group:<15} {:>3} of {total:>3} ({} served from outputs)", score.passed, score.from_output);
        for (name, difference) in &score.differ {
            if !known.contains_key(&format!("{group}/{name}")) {
                wrong.push(format!("{group}/{name}: {difference}"));
            }
        }
    }
    for listed in known.keys() {
        let differs = listed.split_once('/').is_some_and(|(group, name)| scores[group].differ.contains_key(name));
        if !differs {
            wrong.push(format!("{listed}: listed as a difference, but it passes"));
        }
    }
    assert!(wrong.is_empty(), "{} calls:\n\n{}", wrong.len(), wrong.join("\n\n"));
}

/// Reasons by `group/name`.
fn known_differences() -> BTreeMap<String, String> {
    let text = include_str!("../known-differences.txt");
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, reason) = line.split_once(": ").expect("`group/name: reason`");
            (name.to_owned(), reason.to_owned())
        })
        .collect()
}

/// What the server answered, by target and path, for want of a recorded answer: what calls that print all of it print.
async fn outputs(world: &World) -> Shown {
    let server = Server::start(world.clone()).await;
    let mut shown = Shown::new();
    for call in GROUPS.iter().flat_map(|group| Call::of_group(group)) {
        let answer = if call.shows_all() {
            call.stdout.clone()
        } else if call.shows_all_as_yaml() {
            serde_yaml::from_str::<serde_json::Value>(&call.stdout).unwrap().to_string()
        } else {
            continue;
        };
        server.reset(&call, &Arc::default(), false);
        call.run(&server, None).await;
        if let Some(path) = server.asked().pop() {
            let key = (call.target.clone(), path);
            if call.shows_all() {
                shown.insert(key, answer);
            } else {
                shown.entry(key).or_insert(answer);
            }
        }
    }
    shown
}

/// The same for exports: resources of the other exports are as young as they are.
fn exports(shown: &Shown) -> Shown {
    let mut exported = Shown::new();
    for call in Call::of_group("export") {
        for resource in call.exported() {
            let word = |key: &str| resource[key].as_str().unwrap_or_default();
            let path = server::path_of(word("type").parse().unwrap(), word("mesh"), word("name"));
            exported.entry((call.target.clone(), path)).or_insert_with(|| resource.to_string());
        }
    }
    for (key, answer) in shown {
        exported.entry(key.clone()).or_insert_with(|| answer.clone());
    }
    exported
}

async fn replay(group: &str, world: &World, shown: &Arc<Shown>) -> Score {
    let server = Server::start(world.clone()).await;
    let mut score = Score::default();
    for call in &Call::of_group(group) {
        let Err(difference) = call.check(&server, shown, false).await else {
            score.passed += 1;
            score.from_output += usize::from(server.used_output());
            continue;
        };
        // What was recorded at the API may be older or younger than the call.
        match call.check(&server, shown, true).await {
            Ok(()) => {
                score.passed += 1;
                score.from_output += 1;
            }
            Err(_) => {
                score.differ.insert(call.name.clone(), difference);
            }
        }
    }
    score
}
