//! Who may depend on whom.

use anyhow::Result;
use cargo_metadata::{DependencyKind, Package};

use super::House;

/// The table of ARCHITECTURE.md, "Who may depend on whom": a crate and what it may use.
///
/// `PROGRAM` stands for what every program may use beside its own list; `ANY` for everything.
const MAY_USE: &[(&str, &[&str])] = &[
    ("kds-proto", &[]),
    ("runtime", &[]),
    ("model", &["kds-proto"]),
    ("config", &["model"]),
    ("identity", &["config", "model", "kds-proto", "runtime"]),
    ("discovery", &["model", "kds-proto", "runtime"]),
    ("store", &["config", "model", "kds-proto", "runtime"]),
    ("envoy", &["model", "kds-proto"]),
    ("api", &["store", "identity", "config", "model", "runtime", "kds-proto"]),
    ("router", &["discovery", "identity", "model", "runtime", "kds-proto"]),
    ("global", &["api", "config", "discovery", "store", "identity", PROGRAM]),
    ("zone", &["api", "config", "discovery", "store", "identity", "envoy", PROGRAM]),
    ("ingress", &["router", "identity", PROGRAM]),
    ("egress", &["router", "identity", PROGRAM]),
    ("sidecar", &["identity", PROGRAM]),
    ("kumactl", &["identity", PROGRAM]),
    ("e2e", &[ANY]),
    ("xtask", &[ANY]),
];
const PROGRAM: &str = "model, runtime and kds-proto";
const ANY: &str = "any";

/// Crates whose core cannot do I/O, and what their manifests must not name (prefixes of package names).
const PURE: &[&str] = &["model", "envoy"];
const IMPURE: &[&str] = &["tokio", "tonic", "sqlx", "axum", "hyper", "reqwest"];

/// Every dependency between members is in the table; dev-dependencies are exempt.
pub fn only_downwards(house: &House) -> Result<Vec<String>> {
    let members = house.metadata.workspace_packages();
    let is_ours = |name: &str| members.iter().any(|member| member.name.as_str() == name);
    let mut broken = Vec::new();
    for member in &members {
        let name = crate_name(member);
        let Some((_, allowed)) = MAY_USE.iter().find(|(row, _)| *row == name) else {
            broken.push(format!("{name} is not in the table: add it to MAY_USE and to ARCHITECTURE.md"));
            continue;
        };
        for dependency in &member.dependencies {
            let used = dependency.name.strip_prefix("kuma-").unwrap_or(&dependency.name);
            if dependency.kind != DependencyKind::Development && is_ours(&dependency.name) && !may_use(allowed, used) {
                broken.push(format!(
                    "{name} uses {used}, which it may not (ARCHITECTURE.md, \"Who may depend on whom\")"
                ));
            }
        }
    }
    Ok(broken)
}

/// Pure crates name no runtime, no wire, no database, not even for tests.
pub fn pure(house: &House) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for member in house.metadata.workspace_packages() {
        if !PURE.contains(&crate_name(member)) {
            continue;
        }
        for dependency in &member.dependencies {
            let matches =
                |prefix: &&str| dependency.name == **prefix || dependency.name.starts_with(&format!("{prefix}-"));
            if IMPURE.iter().any(matches) {
                broken.push(format!("{} names {}: keep I/O out of it", member.manifest_path, dependency.name));
            }
        }
    }
    Ok(broken)
}

/// Name in the table: that of the folder, for programs have names of their own.
fn crate_name(package: &Package) -> &str {
    package.manifest_path.parent().and_then(|folder| folder.file_name()).unwrap_or(&package.name)
}

fn may_use(allowed: &[&str], used: &str) -> bool {
    const OF_PROGRAMS: &[&str] = &["model", "runtime", "kds-proto"];
    allowed.contains(&ANY) || allowed.contains(&used) || (allowed.contains(&PROGRAM) && OF_PROGRAMS.contains(&used))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str) -> &'static [&'static str] {
        MAY_USE.iter().find(|(row, _)| *row == name).unwrap().1
    }

    #[test]
    fn the_table_says_what_may_be_used() {
        assert!(may_use(row("model"), "kds-proto"));
        assert!(!may_use(row("model"), "store"));
        assert!(!may_use(row("store"), "api"), "upwards");
        assert!(may_use(row("global"), "runtime"), "every program");
        assert!(!may_use(row("global"), "envoy"), "global knows no proxies");
        assert!(may_use(row("xtask"), "api"));
    }

    #[test]
    fn the_table_has_no_cycle() {
        // Each row uses only rows above it, so reading downwards is building upwards.
        for (position, (name, allowed)) in MAY_USE.iter().enumerate() {
            for used in allowed.iter().filter(|used| ![PROGRAM, ANY].contains(used)) {
                let below = MAY_USE.iter().position(|(row, _)| row == used).unwrap();
                assert!(below < position, "{name} uses {used}");
            }
        }
    }
}
