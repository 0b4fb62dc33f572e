//! `cargo xtask tidy`: the rules of the house that no compiler checks; each is a test too.
//!
//! A rule returns what breaks it, one finding a line, each with the place and what to do.

mod checklists;
mod dependencies;
mod files;
mod manifests;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cargo_metadata::{Metadata, MetadataCommand};

use crate::{codegen, workspace};

type Rule = fn(&House) -> Result<Vec<String>>;

/// Every rule by the name under which it is reported.
const RULES: &[(&str, Rule)] = &[
    ("a crate depends only downwards", dependencies::only_downwards),
    ("pure crates name nothing that does I/O", dependencies::pure),
    ("manifests inherit lints and licence", manifests::inherit),
    ("files are short", files::short),
    ("pure crates read no clock and no file", files::pure),
    ("no path of a machine is in a file", files::no_machine_paths),
    ("cited checklist lines exist", checklists::cited_lines_exist),
    ("checklist lengths are those of the references", checklists::lengths_are_current),
    ("generated code is current", generated_is_current),
];

/// What the rules look at.
struct House {
    root: PathBuf,
    metadata: Metadata,
    /// Every file of the project, as a path from the root; build output and hidden state left out.
    files: Vec<PathBuf>,
}

impl House {
    fn open() -> Result<Self> {
        let root = workspace::root();
        let manifest = root.join("Cargo.toml");
        let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().context("cargo metadata")?;
        let mut files = Vec::new();
        walk(&root, &root, &mut files)?;
        files.sort();
        Ok(Self { root, metadata, files })
    }

    /// Text of a file; none if it is not UTF-8.
    fn text(&self, file: &Path) -> Result<Option<String>> {
        let bytes = std::fs::read(self.root.join(file)).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(String::from_utf8(bytes).ok())
    }

    /// Rust that people write: path and text.
    fn rust(&self) -> Result<Vec<(&Path, String)>> {
        let mut found = Vec::new();
        for file in &self.files {
            let written = !file.components().any(|part| part.as_os_str() == "generated");
            if file.extension().is_some_and(|extension| extension == "rs")
                && written
                && let Some(text) = self.text(file)?
            {
                found.push((file.as_path(), text));
            }
        }
        Ok(found)
    }
}

/// Checks every rule.
///
/// # Errors
/// A rule is broken (all findings are printed first), or a file cannot be read.
pub fn run() -> Result<()> {
    let house = House::open()?;
    let mut findings = 0;
    for (name, rule) in RULES {
        let broken = rule(&house).with_context(|| format!("cannot check: {name}"))?;
        println!("tidy: {:<48} {}", name, if broken.is_empty() { "ok" } else { "BROKEN" });
        for finding in &broken {
            println!("  {finding}");
        }
        findings += broken.len();
    }
    if findings > 0 {
        bail!("tidy: {findings} finding(s)");
    }
    Ok(())
}

fn generated_is_current(house: &House) -> Result<Vec<String>> {
    let drifted = codegen::drift(&house.root)?;
    Ok(drifted.iter().map(|name| format!("kds-proto/src/generated/{name}: run `cargo xtask codegen`")).collect())
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    const NOT_OURS: &[&str] = &["target", ".git", "node_modules"];
    for entry in folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        if NOT_OURS.iter().any(|name| entry.file_name() == *name) || entry.file_name() == "Cargo.lock" {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(root, &entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path().strip_prefix(root)?.to_path_buf());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A house of these files only, to break a rule in; the folder lives as long as the first value.
    pub fn house_of(files: &[(&str, &str)]) -> (tempfile::TempDir, House) {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let mut house = House { root: folder.path().to_owned(), files: Vec::new(), ..House::open().unwrap() };
        walk(folder.path(), folder.path(), &mut house.files).unwrap();
        house.files.sort();
        (folder, house)
    }

    #[test]
    fn the_house_is_tidy() {
        let house = House::open().unwrap();
        assert!(house.files.len() > 50, "the walk found {} files", house.files.len());
        let mut findings = Vec::new();
        for (name, rule) in RULES {
            findings.extend(rule(&house).unwrap().into_iter().map(|finding| format!("{name}: {finding}")));
        }
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }
}
