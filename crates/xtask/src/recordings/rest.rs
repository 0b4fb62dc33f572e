//! Cases of the REST API.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Import, json_files};

/// Folders with writes that were refused (or, for some, accepted on purpose).
const INVALID: &[&str] = &["global-invalid", "zone-invalid"];

const ORIGIN: &str = "\
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

/// Everything that is replayed of the folder `rest`.
pub fn imports(rest: &Path) -> Result<Vec<Import>> {
    Ok(vec![
        Import::lines("crates/model/tests/recorded/rest-invalid.jsonl", &invalid(rest)?),
        Import::new("crates/model/tests/recorded/README.md", ORIGIN),
    ])
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
