//! Calls that are known to be answered otherwise, each with its reason.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// Set to see how the listed calls differ.
const SHOW: &str = "SHOW_KNOWN_DIFFERENCES";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// Recorded file.
    group: String,
    /// Names of the calls.
    calls: BTreeSet<String>,
    /// Why a user accepts it, or what it waits for.
    reason: String,
}

/// The list, and what came of it.
pub struct Differences {
    listed: BTreeSet<(String, String)>,
    differing: BTreeSet<(String, String)>,
}

impl Differences {
    pub fn load() -> Self {
        let path = format!("{}/tests/known-differences.yaml", env!("CARGO_MANIFEST_DIR"));
        let entries: Vec<Entry> = serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let mut listed = BTreeSet::new();
        for Entry { group, calls, reason } in entries {
            assert!(!reason.is_empty(), "{group}: a difference needs a reason");
            listed.extend(calls.into_iter().map(|call| (group.clone(), call)));
        }
        Self { listed, differing: BTreeSet::new() }
    }

    /// What is wrong with a call's result, given the list.
    pub fn judge(&mut self, group: &str, name: &str, difference: Option<String>) -> Option<String> {
        let difference = difference?;
        let call = (group.to_owned(), name.to_owned());
        if self.listed.contains(&call) && std::env::var_os(SHOW).is_some() {
            eprintln!("known: {group}/{name}: {difference}");
        }
        let surprise = (!self.listed.contains(&call)).then(|| format!("{group}/{name}: {difference}"));
        self.differing.insert(call);
        surprise
    }

    /// Calls that are listed and agree: the list has to shrink.
    pub fn unused(&self) -> Vec<String> {
        let unused = self.listed.difference(&self.differing);
        unused.map(|(group, name)| format!("{group}/{name}: is listed and agrees")).collect()
    }

    /// Listed calls by group.
    pub fn count(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for (group, _) in &self.listed {
            *counts.entry(group.as_str()).or_default() += 1;
        }
        counts
    }
}
