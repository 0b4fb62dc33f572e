//! Calls of the command line.
//!
//! Tables and machine formats are compared, texts that explain are not: help is read for the names of commands and
//! flags only.

use std::path::Path;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::{Import, json_files};

/// Folders that are replayed, in an order in which they can be. `install` is not: its output is another product's.
const GROUPS: &[&str] = &[
    "get-global",
    "get-zone",
    "get-misc",
    "inspect-global",
    "inspect-zone",
    "apply",
    "delete",
    "config",
    "generate",
    "export",
    "version-global",
    "version-zone",
    "version-down",
];

const FOLDER: &str = "kumactl/tests/recorded";

const ORIGIN: &str = "\
# Recorded calls of the command line

Calls of unmodified kumactl 2.13.10 against unmodified Kuma 2.13.10, one a line, one file per group. Keys and tokens
belong to installations that no longer exist. Written by `cargo xtask recordings --from DIR`; never edited by hand.

| key | meaning |
|---|---|
| `name`, `target` | name of the call; `global`, `zone`, `fresh` (no configuration); `down`, `none`: no control plane |
| `args`, `stdin`, `files` | what it was called with; `files`: content by name |
| `exit_code`, `stdout`, `stderr` | what came of it; ages and times depend on the run |
| `usage` | standard output was the help of the command, which is not compared |
| `config_file_after` | the configuration file after the call; the calls of `config` share one file, in the order of `notes` |
| `jwt_header`, `jwt_claims` | content of the token in `stdout` |

`commands.jsonl`: the commands and their flags, one command a line: `command`, `commands` below it, `flags` with `name`,
`short`, `type` (absent: a switch) and `default`.
";

/// Everything that is replayed of the folder `kumactl`.
pub fn imports(kumactl: &Path) -> Result<Vec<Import>> {
    let mut imports = vec![Import::new(format!("{FOLDER}/README.md"), ORIGIN)];
    for group in GROUPS {
        let calls: Vec<Value> = json_files(&kumactl.join(group))?.iter().map(call).collect();
        imports.push(Import::lines(format!("{FOLDER}/{group}.jsonl"), &calls));
    }
    let commands: Vec<Value> = json_files(&kumactl.join("help"))?.iter().filter_map(command).collect();
    imports.push(Import::lines(format!("{FOLDER}/commands.jsonl"), &commands));
    Ok(imports)
}

fn call(case: &Value) -> Value {
    let kept = [
        "name",
        "target",
        "args",
        "stdin",
        "files",
        "exit_code",
        "stdout",
        "stderr",
        "jwt_header",
        "jwt_claims",
        "config_file_after",
        "notes",
    ];
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    let mut line: Map<String, Value> = kept
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), case.get(*key).filter(|value| !is_empty(value))?.clone())))
        .collect();
    if line.get("stdout").and_then(Value::as_str).is_some_and(is_usage) {
        line.shift_remove("stdout");
        line.insert("usage".to_owned(), true.into());
    }
    Value::Object(line)
}

fn is_usage(stdout: &str) -> bool {
    stdout.lines().any(|line| line == "Usage:") && stdout.lines().any(|line| line == "Flags:")
}

/// Names out of the help of one command; none if the case is another kind of call.
fn command(case: &Value) -> Option<Value> {
    let args: Vec<&str> = case["args"].as_array()?.iter().filter_map(Value::as_str).collect();
    let help = case["stdout"].as_str().filter(|text| is_usage(text))?;
    let (_, path) = args.split_last().filter(|(last, _)| **last == "--help")?;
    let command = ["kumactl"].iter().chain(path).copied().collect::<Vec<_>>().join(" ");
    let commands: Vec<&str> =
        section(help, "Available Commands:").filter_map(|line| line.split_whitespace().next()).collect();
    let flags: Vec<Value> = section(help, "Flags:").filter_map(flag).collect();
    Some(json!({"command": command, "commands": commands, "flags": flags}))
}

/// Lines below a heading, up to the empty one.
fn section<'a>(help: &'a str, heading: &'a str) -> impl Iterator<Item = &'a str> {
    help.lines().skip_while(move |line| *line != heading).skip(1).take_while(|line| !line.is_empty())
}

/// `-m, --mesh string   mesh to use (default "default")`.
fn flag(line: &str) -> Option<Value> {
    let line = line.trim_start();
    let (short, rest) = match line.split_once(", --") {
        Some((short, rest)) if short.starts_with('-') && short.len() == 2 => (Some(&short[1..]), rest),
        _ => (None, line.strip_prefix("--")?),
    };
    let (signature, text) = rest.split_once("   ").unwrap_or((rest, ""));
    let (name, kind) = match signature.split_once(' ') {
        // The name of a value comes from a quoted word in the text: "pass `-` to read from standard input".
        Some((name, "-")) => (name, Some("string")),
        Some((name, kind)) => (name, Some(kind)),
        None => (signature, None),
    };
    let default = text.rsplit_once("(default ").and_then(|(_, default)| default.strip_suffix(')'));
    let mut flag = Map::from_iter([("name".to_owned(), Value::from(name))]);
    for (key, value) in [("short", short), ("type", kind), ("default", default)] {
        if let Some(value) = value {
            flag.insert(key.to_owned(), value.trim_matches('"').into());
        }
    }
    Some(flag.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_read_without_its_text() {
        assert_eq!(
            flag("  -m, --mesh string       mesh to use (default \"default\")"),
            Some(json!({"name": "mesh", "short": "m", "type": "string", "default": "default"}))
        );
        assert_eq!(flag("      --dry-run   Resolve and print"), Some(json!({"name": "dry-run"})));
        assert_eq!(flag("no flag"), None);
    }

    #[test]
    fn usage_is_not_kept() {
        let call =
            call(&json!({"name": "a", "stdout": "Usage:\n  kumactl\n\nFlags:\n  -h\n", "files": {}, "stdin": null}));
        assert_eq!(call, json!({"name": "a", "usage": true}));
    }
}
