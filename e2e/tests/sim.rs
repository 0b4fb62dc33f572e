//! The simulation of KDS, with the seeds that everybody runs.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Output};

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim")).args(arguments).output().unwrap()
}

#[test]
fn fifty_seeds_end_in_agreement() {
    let output = sim(&["--seeds", "0..50"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.starts_with("50 seeds, "), "{text}");
}

#[test]
fn a_seed_is_replayed_byte_for_byte() {
    for seed in ["1", "4", "13"] {
        let (first, second) = (sim(&["--seed", seed]), sim(&["--seed", seed]));
        assert_eq!(String::from_utf8_lossy(&first.stdout), String::from_utf8_lossy(&second.stdout));
        assert!(first.stdout.len() > 10_000);
    }
}
