//! `diff`: what `apply` would change. Exit code 0: nothing; 1: something; 2: it is not known.

use std::io::Write;

use clap::{ArgMatches, Command};
use model::kind::Kind;
use model::{Resource, labels, rest_form};
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use crate::apply;
use crate::command::Session;
use crate::compatibility;
use crate::failure::Failure;
use crate::output;

/// The command.
pub fn command() -> Command {
    Command::new("diff")
        .about("Show what apply would change; the exit code is 0 for nothing, 1 for something, 2 for a failure")
        .args(apply::source_flags())
}

/// Runs it.
///
/// # Errors
/// Always, but when nothing would change: the failure holds the exit code.
pub async fn run(matches: &ArgMatches, session: &mut Session<'_>) -> Result<(), Failure> {
    match compare(matches, session).await {
        Ok(false) => Ok(()),
        Ok(true) => Err(Failure::Told(1)),
        Err(failure) => {
            if let Some(text) = failure.text() {
                writeln!(session.io.stderr, "Error: {text}")?;
            }
            Err(Failure::Told(2))
        }
    }
}

/// Whether anything would change.
async fn compare(matches: &ArgMatches, session: &mut Session<'_>) -> Result<bool, Failure> {
    let client = compatibility::client(session).await?;
    let documents = apply::read(matches, session).await?;
    let mut changed = false;
    for resource in &documents.resources {
        let key = &resource.meta.key;
        let stored = apply::stored(&client, key.kind, &key.mesh, &key.name).await?;
        let wanted = rest_form::print(resource).map_err(Failure::other)?;
        let before = stored.as_ref().map(|stored| comparable(key.kind, stored, resource)).unwrap_or_default();
        let after = comparable(key.kind, &wanted, resource);
        changed |= before != after;
        show(&key.to_string(), &before, &after, session)?;
    }
    documents.into_outcome()?;
    Ok(changed)
}

/// The part of a resource that its author decides, as YAML.
fn comparable(kind: Kind, shown: &Value, wanted: &Resource) -> String {
    let Value::Object(mut members) = shown.clone() else { return String::new() };
    members.retain(|key, _| !["creationTime", "modificationTime", "kri", "status"].contains(&key.as_str()));
    // Labels that the control plane adds come back whether the author writes them or not.
    const COMPUTED: [&str; 6] =
        [labels::MESH, labels::ORIGIN, labels::ZONE, labels::ENV, labels::PROXY_TYPE, labels::DISPLAY_NAME];
    if let Some(Value::Object(labels)) = members.get_mut("labels") {
        labels.retain(|key, _| !COMPUTED.contains(&key.as_str()) || wanted.meta.labels.get(key).is_some());
        if labels.is_empty() {
            members.shift_remove("labels");
        }
    }
    output::resource_yaml(kind, &Value::Object(members))
}

fn show(title: &str, before: &str, after: &str, session: &mut Session<'_>) -> Result<(), Failure> {
    if before == after {
        return Ok(());
    }
    let coloured = session.io.terminal.output;
    let out = &mut session.io.stdout;
    let old = if before.is_empty() { "nothing" } else { "stored" };
    writeln!(out, "--- {title} ({old})\n+++ {title} (wanted)")?;
    for hunk in TextDiff::from_lines(before, after).unified_diff().context_radius(3).iter_hunks() {
        writeln!(out, "{}", hunk.header())?;
        for change in hunk.iter_changes() {
            let (sign, colour) = match change.tag() {
                ChangeTag::Delete => ('-', "\u{1b}[31m"),
                ChangeTag::Insert => ('+', "\u{1b}[32m"),
                ChangeTag::Equal => (' ', ""),
            };
            let line = change.value().trim_end_matches('\n');
            if coloured && !colour.is_empty() {
                writeln!(out, "{colour}{sign}{line}\u{1b}[0m")?;
            } else {
                writeln!(out, "{sign}{line}")?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_control_plane_adds_is_no_difference() {
        let document = json!({"type": "Zone", "name": "east", "enabled": true, "labels": {"a": "b"}});
        let wanted = rest_form::read(document.clone()).unwrap();
        let stored = json!({"type": "Zone", "name": "east", "creationTime": "2026-11-24T18:00:00Z", "modificationTime":
            "2026-11-24T18:00:00Z", "labels": {"a": "b", "kuma.io/origin": "zone"}, "enabled": true});
        assert_eq!(comparable(Kind::Zone, &stored, &wanted), comparable(Kind::Zone, &document, &wanted));
        let other = json!({"type": "Zone", "name": "east", "labels": {"a": "c"}});
        assert_ne!(comparable(Kind::Zone, &other, &wanted), comparable(Kind::Zone, &document, &wanted));
    }
}
