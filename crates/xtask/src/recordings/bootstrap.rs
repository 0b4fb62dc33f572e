//! How proxies were told to start: requests and answers of `/bootstrap`.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Import, json_lines};

const ORIGIN: &str = "\
# Recorded starts of proxies

`bootstrap.jsonl`: what proxies sent to `/bootstrap` of an unmodified Kuma 2.13.10, and the answer with Envoy's
configuration decoded, one proxy a line. Tokens and certificates were removed; local paths are `<dir>`. Written by
`cargo xtask recordings --from DIR`; never edited by hand.
";

const RUNS: [&str; 6] = [
    "web-legacy",
    "web-exclusive",
    "web-exclusive-delta",
    "web-meshidentity",
    "zone-ingress-exclusive",
    "zone-egress-exclusive",
];

/// Everything that is replayed of starts.
pub fn imports(from: &Path) -> Result<Vec<Import>> {
    let starts = RUNS.iter().map(|run| start(from, run)).collect::<Result<Vec<_>>>()?;
    Ok(vec![
        Import::lines("zone/tests/recorded/bootstrap.jsonl", &starts),
        Import::new("zone/tests/recorded/README.md", ORIGIN),
    ])
}

fn start(from: &Path, run: &str) -> Result<Value> {
    let steps = json_lines(&from.join(format!("wire/ads-{run}.jsonl")))?;
    let step = |way: &str| steps.iter().find(|step| step["dir"] == way).context("a start without bootstrap");
    let (request, answer) = (step("http-request")?, step("http-response")?);
    Ok(json!({
        "run": run,
        "request": request["body"],
        "sidecar": answer["body"]["kumaSidecarConfiguration"],
        "envoy": answer["bootstrap_yaml"],
    }))
}
