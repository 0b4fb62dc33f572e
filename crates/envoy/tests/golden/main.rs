//! Every recorded scenario of a real system: the same resources must become the same Envoy resources.
//!
//! Differences that are meant are listed in `known-differences.yaml`, with a reason; one that is listed and gone fails
//! too. Weights are compared in the setting that keeps Kuma's own numbers. Compared is the meaning: defaults that Envoy
//! prints or not, the order of filter chains that Kuma itself does not keep, and content of secrets do not count.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod normal;
mod scenario;

use std::collections::{BTreeMap, BTreeSet};

use scenario::Scenario;
use serde::Deserialize;

/// Where the recordings are.
const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded");

/// What is known to differ: scenarios, proxies and resources by name; `*` at either end of a name stands for anything.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Known {
    /// Scenarios, or proxies of all scenarios, that are not compared yet.
    later: Vec<Later>,
    /// Resources that differ on purpose.
    differences: Vec<Difference>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Later {
    #[serde(default)]
    scenario: Option<String>,
    #[serde(default)]
    proxy: Option<String>,
    #[expect(dead_code, reason = "for people")]
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Difference {
    scenario: String,
    proxy: String,
    /// `listeners/inbound:…`
    resource: String,
    #[expect(dead_code, reason = "for people")]
    reason: String,
}

impl Known {
    fn read() -> Self {
        let text =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/known-differences.yaml")).unwrap();
        serde_yaml::from_str(&text).unwrap()
    }

    fn is_later(&self, scenario: &str, proxy: &str) -> bool {
        let fits = |pattern: &Option<String>, name: &str| pattern.as_ref().is_none_or(|pattern| matches(pattern, name));
        self.later.iter().any(|later| fits(&later.scenario, scenario) && fits(&later.proxy, proxy))
    }
}

/// Whether a name fits; `*` at either end stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(rest), Some(_)) => name.contains(rest.trim_end_matches('*')),
        (Some(end), None) => name.ends_with(end),
        (None, Some(start)) => name.starts_with(start),
        (None, None) => pattern == name,
    }
}

#[test]
fn recorded_scenarios_become_the_recorded_resources() {
    let known = Known::read();
    let only = std::env::var("SCENARIO").ok();
    let mut used = BTreeSet::new();
    let mut failed = Vec::new();
    let (mut whole, mut compared) = (BTreeSet::new(), 0);
    for scenario in
        Scenario::all().iter().filter(|scenario| only.as_ref().is_none_or(|only| matches(only, &scenario.name)))
    {
        let mut good = true;
        let mut looked = false;
        for proxy in scenario.proxies() {
            if known.is_later(&scenario.name, &proxy) {
                continue;
            }
            looked = true;
            compared += 1;
            for (resource, difference) in scenario.differences(&proxy) {
                let is_listed = |(_, listed): &(usize, &Difference)| {
                    matches(&listed.scenario, &scenario.name)
                        && matches(&listed.proxy, &proxy)
                        && matches(&listed.resource, &resource)
                };
                if let Some((position, _)) = known.differences.iter().enumerate().find(is_listed) {
                    used.insert(position);
                    continue;
                }
                good = false;
                failed.push(format!("{} {proxy} {resource}\n{difference}", scenario.name));
            }
        }
        if good && looked {
            whole.insert(scenario.name.clone());
        }
    }
    println!("{} of {} scenarios as recorded, {compared} proxies compared", whole.len(), Scenario::all().len());
    if std::env::var_os("SUMMARY").is_some() {
        let mut by_scenario: BTreeMap<&str, usize> = BTreeMap::new();
        for line in &failed {
            *by_scenario.entry(line.split(' ').next().unwrap_or_default()).or_default() += 1;
        }
        panic!("{by_scenario:#?}");
    }
    assert!(failed.is_empty(), "{} differences:\n{}", failed.len(), failed.join("\n"));
    if only.is_none() {
        let gone: Vec<_> = known.differences.iter().enumerate().filter(|(i, _)| !used.contains(i)).collect();
        assert!(gone.is_empty(), "listed, and not there any more: {gone:#?}");
    }
}
