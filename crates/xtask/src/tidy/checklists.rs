//! A test that proves a line of a reference's checklist cites it (`KDS-35`); the line must exist.
//!
//! The references lie beside the project, not in it, so their lengths are written down here; where they can be read,
//! they are compared.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::House;

struct Checklist {
    /// What stands before the number in a citation.
    prefix: &'static str,
    /// Lines are numbered from 1 to this.
    lines: u32,
    /// File of the reference, below `../shared/reference`.
    file: &'static str,
    /// First words of the heading under which the lines stand.
    heading: &'static str,
}

const CHECKLISTS: &[Checklist] = &[
    Checklist { prefix: "KDS-", lines: 60, file: "kds-wire.md", heading: "## 10. Conformance checklist" },
    Checklist { prefix: "DP-", lines: 60, file: "zone-dataplane.md", heading: "## 13. Conformance checklist" },
    Checklist { prefix: "API-", lines: 20, file: "api-and-kumactl.md", heading: "# 8. " },
];

/// Every number cited in a Rust file is a line of its checklist.
pub fn cited_lines_exist(house: &House) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for (file, text) in house.rust()? {
        if file.ends_with("tidy/checklists.rs") {
            continue;
        }
        for checklist in CHECKLISTS {
            for number in cited(&text, checklist.prefix) {
                if number == 0 || number > checklist.lines {
                    let Checklist { prefix, lines, file: reference, .. } = checklist;
                    broken.push(format!("{}: {prefix}{number}, but {reference} ends at {lines}", file.display()));
                }
            }
        }
    }
    Ok(broken)
}

/// The lengths above are those of the references, where these lie beside the project.
pub fn lengths_are_current(house: &House) -> Result<Vec<String>> {
    let references = house.root.join("../shared/reference");
    let mut broken = Vec::new();
    for checklist in CHECKLISTS {
        let path = references.join(checklist.file);
        if !path.exists() {
            continue;
        }
        let lines = length(&path, checklist.heading)?;
        if lines != checklist.lines {
            broken.push(format!("{} has {lines} checklist lines, not {}", checklist.file, checklist.lines));
        }
    }
    Ok(broken)
}

/// Numbers that follow the prefix in the text.
fn cited(text: &str, prefix: &str) -> BTreeSet<u32> {
    text.match_indices(prefix)
        .filter(|(start, _)| !text[..*start].ends_with(|before: char| before.is_ascii_alphanumeric()))
        .filter_map(|(start, _)| {
            let rest = &text[start + prefix.len()..];
            let digits = rest.find(|c: char| !c.is_ascii_digit()).map_or(rest, |end| &rest[..end]);
            digits.parse().ok()
        })
        .collect()
}

/// Number of the last numbered line under a heading, if they run from 1 without a gap.
fn length(path: &Path, heading: &str) -> Result<u32> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut last = 0;
    for line in text.lines().skip_while(|line| !line.starts_with(heading)).skip(1) {
        if line.starts_with("# ") || line.starts_with("## ") {
            break;
        }
        if line.split_once(". ").and_then(|(number, _)| number.parse().ok()) == Some(last + 1) {
            last += 1;
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::house_of;

    #[test]
    fn a_line_that_does_not_exist_is_found() {
        let text = "/// KDS-60, API-21\n";
        let (_folder, house) = house_of(&[("crates/a/tests/a.rs", text)]);
        assert_eq!(
            cited_lines_exist(&house).unwrap(),
            ["crates/a/tests/a.rs: API-21, but api-and-kumactl.md ends at 20"]
        );
    }

    #[test]
    fn a_citation_is_a_prefix_and_a_number() {
        let text = "/// KDS-35, KDS-36: packed. Not XKDS-99, not KDS-x; (DP-7)";
        assert_eq!(cited(text, "KDS-"), BTreeSet::from([35, 36]));
        assert_eq!(cited(text, "DP-"), BTreeSet::from([7]));
    }

    #[test]
    fn the_length_of_a_checklist_is_its_last_line() {
        let text = "## A\n1. x\n## B list\nGroup\n1. one\n2. two\n\nMore\n3. three\n## C\n4. no\n";
        let (folder, _house) = house_of(&[("reference.md", text)]);
        assert_eq!(length(&folder.path().join("reference.md"), "## B").unwrap(), 3);
    }
}
