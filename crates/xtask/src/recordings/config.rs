//! The configuration documents of running control planes: `/config` of a global, and what a zone tells its global.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Import, json_file, json_lines};

const ORIGIN: &str = "\
# Recorded configuration documents

`documents.jsonl`: what unmodified Kuma 2.13.10 control planes in universal mode tell about their configuration, one
document a line: `role` is `global` (the answer of its `/config`) or `zone` (what it sends to its global), `document` the
exact text. Written by `cargo xtask recordings --from DIR`; never edited by hand.
";

/// Everything that is replayed of configurations.
pub fn imports(from: &Path) -> Result<Vec<Import>> {
    let answer = json_file(&from.join("rest/global/cp-config.json"))?;
    let global = answer["response"]["body"].as_str().context("the recorded /config has no body")?;
    let session = json_lines(&from.join("kds/01-first-connect.jsonl"))?;
    let zone = session.iter().find_map(configuration).context("the recorded zone tells no configuration")?;
    let documents = [json!({"role": "global", "document": global}), json!({"role": "zone", "document": zone})];
    Ok(vec![
        Import::lines("crates/config/tests/recorded/documents.jsonl", &documents),
        Import::new("crates/config/tests/recorded/README.md", ORIGIN),
    ])
}

/// The first text in a message that looks like a zone's configuration.
fn configuration(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => (text.starts_with("{\"general\"") && text.contains("\"globalAddress\"")).then_some(text),
        Value::Array(items) => items.iter().find_map(configuration),
        Value::Object(members) => members.values().find_map(configuration),
        _ => None,
    }
}
