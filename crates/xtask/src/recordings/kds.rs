//! Messages between a global and its zones.
//!
//! Every distinct message is stored once, with `kds-proto`; the scenarios refer to them by line.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::{Import, json_lines};

const SCENARIOS: &str = "crates/discovery/tests/recorded";

const ORIGIN: &str = "\
# Recorded messages

What unmodified Kuma 2.13.10 control planes, one global and two zones in universal mode, said to each other, as a proxy
between them saw it. Keys and certificates belong to installations that no longer exist. Written by
`cargo xtask recordings --from DIR`; never edited by hand.

`messages.jsonl`: every distinct message whose bytes were kept, one a line.

| key | meaning |
|---|---|
| `type` | full name of the message |
| `from` | where it was first seen: scenario and number in the recording |
| `raw` | its bytes, base64 |
| `injected` | what the proxy changed before the receiver saw it |

Left out: subscriptions that differ from the one before them in the kind alone, and admin output of more than 32 KiB.

`resources.jsonl`: every distinct version of a resource.

| key | meaning |
|---|---|
| `type`, `name`, `version` | the kind; name and version in the response |
| `meta`, `spec`, `status` | what the bytes say, as JSON |
| `raw` | the encoded `KumaResource`, base64; `version` is its SHA-256 in hexadecimal |
";

const SCENARIO_ORIGIN: &str = "\
# Recorded sessions

One file per scenario of unmodified Kuma 2.13.10 control planes, one line per event, in the order in which a proxy
between them saw it. `message` is a line of `kds-proto/tests/recorded/messages.jsonl`, counted from 0; beside it,
`type_url` means: that message with this `type_url` in place of its own. `message: null`: bytes were not kept.
Written by `cargo xtask recordings --from DIR`; never edited by hand.
";

/// Everything that is replayed of the folder `kds`.
pub fn imports(kds: &Path) -> Result<Vec<Import>> {
    let index = super::json_file(&kds.join("index.json"))?;
    let files = index.as_array().context("kds/index.json is no list")?;
    let mut messages = Messages::default();
    let mut imports = Vec::new();
    for file in files.iter().filter_map(|file| file["file"].as_str()) {
        let Some(scenario) = file.strip_suffix(".jsonl").filter(|name| !["probes", "resource-vectors"].contains(name))
        else {
            continue;
        };
        let events = json_lines(&kds.join(file))?;
        let lines: Vec<Value> = events.iter().map(|event| messages.event(scenario, event)).collect();
        imports.push(Import::lines(format!("{SCENARIOS}/{scenario}.jsonl"), &lines));
    }
    imports.push(Import::new(format!("{SCENARIOS}/README.md"), SCENARIO_ORIGIN));
    imports.push(Import::lines("global/tests/recorded/kds-probes.jsonl", &json_lines(&kds.join("probes.jsonl"))?));
    imports.push(Import::lines("kds-proto/tests/recorded/messages.jsonl", &messages.lines));
    imports.push(Import::lines("kds-proto/tests/recorded/resources.jsonl", &resources(kds)?));
    imports.push(Import::new("kds-proto/tests/recorded/README.md", ORIGIN));
    Ok(imports)
}

/// The distinct messages so far.
#[derive(Default)]
struct Messages {
    lines: Vec<Value>,
    /// Line by type and bytes.
    known: BTreeMap<(String, String), usize>,
    /// Line by number in the recording.
    numbered: BTreeMap<u64, usize>,
}

impl Messages {
    /// An event of a scenario, its message replaced by the line that holds it.
    fn event(&mut self, scenario: &str, event: &Value) -> Value {
        let kept =
            ["t_ms", "conn", "stream_id", "zone", "method", "dir", "kind", "metadata", "status", "mark", "injected"];
        let mut line: Map<String, Value> =
            kept.iter().filter_map(|key| Some(((*key).to_owned(), event.get(*key)?.clone()))).collect();
        if event["kind"] == "msg" {
            if let Some(raw) = event["raw_b64"].as_str() {
                line.insert("message".to_owned(), self.line_of(scenario, event, raw).into());
            } else {
                let base = self.base_of(event);
                line.insert("message".to_owned(), base.into());
                if base.is_some() {
                    line.insert("type_url".to_owned(), event["message"]["typeUrl"].clone());
                }
            }
        }
        Value::Object(line)
    }

    fn line_of(&mut self, scenario: &str, event: &Value, raw: &str) -> usize {
        let kind = event["message"]["@msg"].as_str().unwrap_or_default();
        let next = self.lines.len();
        let line = *self.known.entry((kind.to_owned(), raw.to_owned())).or_insert(next);
        if line == next {
            let mut message = json!({"type": kind, "from": format!("{scenario}#{}", event["seq"]), "raw": raw});
            if let Some(injected) = event.get("injected") {
                message["injected"] = injected.clone();
            }
            self.lines.push(message);
        }
        if let Some(number) = event["seq"].as_u64() {
            self.numbered.insert(number, line);
        }
        line
    }

    /// Line of the subscription that an omitted one was made from: the one that holds its configuration text.
    fn base_of(&self, event: &Value) -> Option<usize> {
        let text = event["message"]["node"]["metadata"]["config"].as_str()?;
        let number = text.strip_prefix("<same text as in seq ")?.strip_suffix('>')?;
        self.numbered.get(&number.parse().ok()?).copied()
    }
}

fn resources(kds: &Path) -> Result<Vec<Value>> {
    let vectors = json_lines(&kds.join("resource-vectors.jsonl"))?;
    Ok(vectors
        .iter()
        .map(|vector| {
            let mut line = Map::new();
            for key in ["type", "name", "version", "meta", "spec", "status"] {
                if let Some(value) = vector.get(key) {
                    line.insert(key.to_owned(), value.clone());
                }
            }
            line.insert("raw".to_owned(), vector["kuma_resource_b64"].clone());
            Value::Object(line)
        })
        .collect())
}
