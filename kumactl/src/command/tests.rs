//! The tree of commands against the recorded one.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

/// Names, flags, letters and defaults that unmodified kumactl has; prose is ours.
#[test]
fn every_command_and_flag_of_the_recorded_client_is_there() {
    // They come with the chart.
    const LATER: [&str; 2] = ["kumactl install", "kumactl uninstall"];
    let recorded = include_str!("../../tests/recorded/commands.jsonl");
    let mut missing = BTreeSet::new();
    let mut root = tree();
    root.build();
    for line in recorded.lines() {
        let recorded: Value = serde_json::from_str(line).unwrap();
        let path = recorded["command"].as_str().unwrap();
        if LATER.iter().any(|later| path.starts_with(later)) {
            continue;
        }
        let found = path.split(' ').skip(1).try_fold(&root, |command, word| command.find_subcommand(word));
        let Some(command) = found else {
            missing.insert(path.to_owned());
            continue;
        };
        for flag in recorded["flags"].as_array().unwrap() {
            let name = flag["name"].as_str().unwrap();
            let known = command.get_arguments().find(|known| known.get_long() == Some(name));
            let letter = flag["short"].as_str().and_then(|letter| letter.chars().next());
            if name != "help" && known.is_none_or(|known| letter.is_some() && known.get_short() != letter) {
                missing.insert(format!("{path} --{name}"));
            }
            let default =
                flag["default"].as_str().map(|text| text.trim_matches(['[', ']'])).filter(|text| !text.is_empty());
            let ours = known.map(|known| known.get_default_values().join(std::ffi::OsStr::new(",")));
            if let (Some(default), Some(ours)) = (default, ours)
                && default != ours.to_string_lossy()
            {
                missing.insert(format!("{path} --{name}={default}, ours is {ours:?}"));
            }
        }
    }
    assert_eq!(missing, BTreeSet::new());
}

#[test]
fn the_tree_is_sound() {
    tree().debug_assert();
}
