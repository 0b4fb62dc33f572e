//! Tokens that a real global made.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Import, json_file};

const ORIGIN: &str = "\
# Recorded tokens

`tokens.jsonl`: what an unmodified Kuma 2.13.10 global answered to requests for tokens: `path` and `request`, `token` the
answer. The keys that signed those of dataplanes and zones are among the resources of `kds-proto/tests/recorded`. All
belong to an installation that no longer exists. Written by `cargo xtask recordings --from DIR`; never edited by hand.
";

/// Requests that were answered with a token.
const CASES: &[&str] = &["dp-ok", "dp-tags", "dp-type-ingress", "zone-badscope", "zone-nozone", "zone-ok", "user-ok"];

/// Everything that is replayed of tokens.
pub fn imports(rest: &Path) -> Result<Vec<Import>> {
    let tokens: Vec<Value> = CASES.iter().map(|case| token(rest, case)).collect::<Result<_>>()?;
    Ok(vec![
        Import::lines("crates/identity/tests/recorded/tokens.jsonl", &tokens),
        Import::new("crates/identity/tests/recorded/README.md", ORIGIN),
    ])
}

fn token(rest: &Path, case: &str) -> Result<Value> {
    let case = json_file(&rest.join(format!("global/token-{case}.json")))?;
    Ok(json!({"path": case["request"]["path"], "request": case["request"]["body"], "token": case["response"]["body"]}))
}
