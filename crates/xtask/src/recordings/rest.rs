//! Cases of the REST API.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value, json};

use super::{Import, json_files};

/// Folders with writes that were refused (or, for some, accepted on purpose).
const INVALID: &[&str] = &["global-invalid", "zone-invalid"];

/// Every folder; the order is that of the recording.
const FOLDERS: &[&str] = &[
    "global-fresh",
    "global",
    "zone",
    "global-invalid",
    "zone-invalid",
    "zone-lifecycle",
    "meshservice-modes",
    "admin",
];

const INVALID_ORIGIN: &str = "\
# Recorded answers

`rest-invalid.jsonl`: PUT requests to a global and to a zone of unmodified Kuma 2.13.10 (universal mode) and what they
answered, one case a line:

| key | meaning |
|---|---|
| `name`, `target` | name of the case; `global` or `zone`; unique together |
| `method`, `path` | the request |
| `body` | the request's JSON; a string is the exact text of a body that is no JSON |
| `status` | 0: the connection was closed without an answer |
| `response` | the answer's JSON; a string is its exact text; null: none |

Headers and the unparsed answers are left out. Written by `cargo xtask recordings --from DIR`; never edited by hand.
";

const ORIGIN: &str = "\
# Recorded calls

Requests to a global and to a zone of unmodified Kuma 2.13.10 (universal mode) and their answers, one call a line, one
file per situation. Keys and tokens belong to installations that no longer exist. Written by
`cargo xtask recordings --from DIR`; never edited by hand.

| key | meaning |
|---|---|
| `name`, `target` | name of the call; `global` or `zone` |
| `method`, `path` | the request |
| `request_headers` | those other than `Accept` and `Content-Type` with `application/json` |
| `body` | the request's JSON; a string is the exact text of a body that is no JSON |
| `status` | 0: the connection was closed without an answer |
| `headers` | of the answer, other than its length and `content-type: application/json` |
| `response` | the answer's JSON; printed with one space of indentation and a line end, it is the exact text |
| `text` | the exact text of an answer that is printed otherwise |
| `cut` | why the text is left out |
| `notes` | what was going on |
";

/// Everything that is replayed of the folder `rest`.
pub fn imports(rest: &Path) -> Result<Vec<Import>> {
    let mut imports = vec![
        Import::lines("crates/model/tests/recorded/rest-invalid.jsonl", &invalid(rest)?),
        Import::new("crates/model/tests/recorded/README.md", INVALID_ORIGIN),
        Import::new("crates/api/tests/recorded/README.md", ORIGIN),
    ];
    for folder in FOLDERS {
        let calls: Vec<Value> = json_files(&rest.join(folder))?.iter().map(call).collect::<Result<_>>()?;
        imports.push(Import::lines(format!("crates/api/tests/recorded/{folder}.jsonl"), &calls));
    }
    Ok(imports)
}

/// The writes whose validation the model decides.
fn invalid(rest: &Path) -> Result<Vec<Value>> {
    let mut cases = Vec::new();
    for folder in INVALID {
        let puts = json_files(&rest.join(folder))?.into_iter().filter(|case| case["request"]["method"] == "PUT");
        cases.extend(puts.map(|case| {
            json!({
                "name": case["name"],
                "target": case["target"],
                "method": case["request"]["method"],
                "path": case["request"]["path"],
                "body": case["request"]["body"],
                "status": case["response"]["status"],
                "response": answer(&case["response"]),
            })
        }));
    }
    Ok(cases)
}

/// The parsed answer, or its text where it is no JSON.
fn answer(response: &Value) -> Value {
    match response["body"].as_str() {
        Some(text) => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)),
        None => Value::Null,
    }
}

fn call(case: &Value) -> Result<Value> {
    let (request, response) = (&case["request"], &case["response"]);
    let mut line = Map::new();
    line.insert("name".into(), case["name"].clone());
    line.insert("target".into(), case["target"].clone());
    line.insert("method".into(), request["method"].clone());
    line.insert("path".into(), request["path"].clone());
    insert_headers(&mut line, "request_headers", &request["headers"]);
    if !request["body"].is_null() {
        line.insert("body".into(), request["body"].clone());
    }
    line.insert("status".into(), response["status"].clone());
    insert_headers(&mut line, "headers", &response["headers"]);
    if let Some(cut) = left_out(response) {
        line.insert("cut".into(), cut);
    } else if let Some(text) = response["body"].as_str().filter(|text| !text.is_empty()) {
        match serde_json::from_str::<Value>(text).ok().filter(|value| printed(value).is_ok_and(|own| own == text)) {
            Some(value) => line.insert("response".into(), value),
            None => line.insert("text".into(), text.into()),
        };
    }
    if !case["notes"].is_null() {
        line.insert("notes".into(), case["notes"].clone());
    }
    Ok(Value::Object(line))
}

/// Why an answer's text is not kept: it was cut when it was recorded, or it is a page for people.
fn left_out(response: &Value) -> Option<Value> {
    if !response["body_cut"].is_null() {
        return Some(response["body_cut"].clone());
    }
    let is_page = response["body"].as_str().is_some_and(|text| text.starts_with("<!DOCTYPE html>"));
    is_page.then(|| "a page for people".into())
}

/// Headers that say more than that JSON travels.
fn insert_headers(line: &mut Map<String, Value>, key: &str, headers: &Value) {
    let Some(headers) = headers.as_object() else { return };
    let says_more = |name: &str, value: &Value| {
        let plain = ["accept", "content-type"].contains(&name) && value == "application/json";
        !plain && name != "content-length"
    };
    let kept: Map<String, Value> = headers
        .iter()
        .filter(|(name, value)| says_more(&name.to_lowercase(), value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if !kept.is_empty() {
        line.insert(key.into(), kept.into());
    }
}

/// JSON as the real system prints it.
fn printed(value: &Value) -> Result<String> {
    let mut text = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b" ")))?;
    text.push(b'\n');
    Ok(String::from_utf8(text)?)
}
