//! What every member's manifest says.

use std::fs;

use anyhow::{Context, Result};

use super::House;

/// Members inherit the workspace's lints and its licence, and the licence's text is there.
pub fn inherit(house: &House) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for member in house.metadata.workspace_packages() {
        let path = &member.manifest_path;
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
        for line in ["license.workspace = true", "edition.workspace = true", "publish.workspace = true"] {
            if !text.lines().any(|written| written.trim() == line) {
                broken.push(format!("{path}: add `{line}`"));
            }
        }
        if !text.contains("[lints]\nworkspace = true") {
            broken.push(format!("{path}: add `[lints]` with `workspace = true`"));
        }
        if member.license.as_deref() != Some("Apache-2.0") {
            broken.push(format!("{path}: licence {:?}", member.license));
        }
    }
    if !house.root.join("LICENSE").exists() {
        broken.push("LICENSE is missing".to_owned());
    }
    Ok(broken)
}
