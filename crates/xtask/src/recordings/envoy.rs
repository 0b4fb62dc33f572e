//! What proxies were given: scenarios of resources and the Envoy configuration that they became.
//!
//! Most of a scenario is like the one before it: every distinct resource is stored once, and scenarios refer to lines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use model::document::{self, Limits};
use serde_json::{Map, Value, json};

use super::{Import, json_file, text};

const FOLDER: &str = "crates/envoy/tests/recorded";

const ORIGIN: &str = "\
# Recorded proxy configuration

What unmodified Kuma 2.13.10 gave to Envoys, scenario by scenario. Keys and certificates were removed; local paths are
`<dir>`. Written by `cargo xtask recordings --from DIR`; never edited by hand.

`inputs.jsonl`: every distinct resource of a zone, as its REST API shows it, one a line.

`resources.jsonl`: every distinct Envoy resource of `/config_dump`, field names in snake case; of route configurations
only those that are not part of a listener.

`scenarios.jsonl`: one scenario a line.

| key | meaning |
|---|---|
| `scenario`, `notes` | its name; what was special about it |
| `zone`, `mesh` | where it was taken |
| `inputs` | lines of `inputs.jsonl`, counted from 0 |
| `expected` | by proxy: lines of `resources.jsonl` of its `listeners`, `clusters`, `endpoints`, `routes`, `secrets` |
| `served` | by proxy: load assignments as the control plane served them, before Envoy dropped equal addresses |
";

/// Everything that is replayed of the folder `envoy`.
pub fn imports(envoy: &Path) -> Result<Vec<Import>> {
    let mut inputs = Lines::default();
    let mut resources = Lines::default();
    let mut scenarios = Vec::new();
    for folder in folders(envoy)?.into_iter().filter(|folder| folder.join("scenario.json").exists()) {
        let about = json_file(&folder.join("scenario.json"))?;
        let mut expected = Map::new();
        let mut served = Map::new();
        for proxy in folders(&folder.join("expected"))? {
            let name = name(&proxy);
            expected.insert(name.clone(), resources_of(&proxy, &mut resources)?);
            let as_served = proxy.join("endpoints-as-served.json");
            if as_served.exists() {
                served.insert(name, json_file(&as_served)?);
            }
        }
        let scenario = json!({
            "scenario": name(&folder),
            "notes": about["notes"],
            "zone": about["zone"],
            "mesh": about["mesh"],
            "inputs": inputs_of(&folder.join("inputs"), &mut inputs)?,
            "expected": expected,
            "served": served,
        });
        scenarios.push(scenario);
    }
    Ok(vec![
        Import::new(format!("{FOLDER}/README.md"), ORIGIN),
        Import::lines(format!("{FOLDER}/inputs.jsonl"), &inputs.lines),
        Import::lines(format!("{FOLDER}/resources.jsonl"), &resources.lines),
        Import::lines(format!("{FOLDER}/scenarios.jsonl"), &scenarios),
    ])
}

/// Distinct values and where each is.
#[derive(Default)]
struct Lines {
    lines: Vec<Value>,
    known: BTreeMap<String, usize>,
}

impl Lines {
    fn add(&mut self, value: Value) -> usize {
        let next = self.lines.len();
        *self.known.entry(value.to_string()).or_insert_with(|| {
            self.lines.push(value);
            next
        })
    }
}

fn inputs_of(folder: &Path, lines: &mut Lines) -> Result<Vec<usize>> {
    let mut positions = Vec::new();
    for file in entries(folder)? {
        let content = text(&file)?;
        let documents = document::read(&name(&file), content.as_bytes(), Limits::default());
        let documents = documents.with_context(|| format!("{} is no list of documents", file.display()))?;
        positions.extend(documents.into_iter().map(|document| lines.add(document.value)));
    }
    Ok(positions)
}

fn resources_of(proxy: &Path, lines: &mut Lines) -> Result<Value> {
    let mut expected = Map::new();
    for list in ["listeners", "clusters", "endpoints", "routes", "secrets"] {
        let file = proxy.join(format!("{list}.json"));
        let values = if file.exists() { json_file(&file)? } else { json!([]) };
        let values = values.as_array().cloned().unwrap_or_default();
        // A route configuration in a listener was seen there.
        let apart = values.into_iter().filter_map(|value| match list {
            "routes" => value.get("dynamic").cloned(),
            _ => Some(value),
        });
        let positions: Vec<usize> = apart.map(|value| lines.add(value)).collect();
        if !positions.is_empty() {
            expected.insert(list.to_owned(), positions.into());
        }
    }
    Ok(Value::Object(expected))
}

fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(entries(folder)?.into_iter().filter(|path| path.is_dir()).collect())
}

/// What is in a folder, by name.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
