//! `/policies` and `/_resources`: the table of kinds as clients see it (api-and-kumactl 2.3, 2.6).

use model::Kind;
use model::kind::{Access, Scope};
use model::mode::Mode;
use serde_json::{Map, Value, json};

/// Body of `/policies`; `readOnly` follows the mode.
pub fn policies(mode: &Mode, read_only: bool) -> Value {
    let policies = sorted().filter_map(|kind| kind.info().policy.map(|policy| (kind, policy)));
    let rows = policies.map(|(kind, policy)| {
        let info = kind.info();
        json!({
            "name": info.name,
            "readOnly": read_only || !mode.may_write(kind),
            "path": info.path,
            "singularDisplayName": info.display_name(),
            "pluralDisplayName": info.plural_display_name(),
            "isExperimental": false,
            "isTargetRefBased": policy.target_ref,
            "isInbound": policy.from,
            "isOutbound": policy.to,
        })
    });
    json!({ "policies": rows.collect::<Vec<_>>() })
}

/// Body of `/_resources`. Its `readOnly` disagrees with the mode rules: on the global a Dataplane is not read-only
/// although a PUT answers 405, and on a federated zone everything is.
pub fn resources(mode: &Mode, read_only: bool) -> Value {
    let shown = sorted().filter(|kind| kind.info().access != Access::Hidden);
    let rows = shown.map(|kind| {
        let info = kind.info();
        let mut row = Map::new();
        row.insert("includeInFederation".into(), info.in_federation.into());
        row.insert("name".into(), info.name.into());
        row.insert("path".into(), info.path.into());
        row.insert("pluralDisplayName".into(), info.plural_display_name().into());
        if let Some(policy) = info.policy {
            let flags = json!({
                "hasFromTargetRef": policy.from,
                "hasToTargetRef": policy.to,
                "isFromAsRules": policy.from_as_rules,
                "isTargetRef": policy.target_ref,
            });
            row.insert("policy".into(), flags);
        }
        let closed = read_only || info.access == Access::ControlPlanes || mode.is_federated_zone();
        row.insert("readOnly".into(), closed.into());
        row.insert("scope".into(), if info.scope == Scope::Mesh { "Mesh" } else { "Global" }.into());
        row.insert("shortName".into(), info.short_name.unwrap_or_default().into());
        row.insert("singularDisplayName".into(), info.display_name().into());
        Value::Object(row)
    });
    json!({ "resources": rows.collect::<Vec<_>>() })
}

fn sorted() -> impl Iterator<Item = Kind> {
    let mut kinds = Kind::ALL.to_vec();
    kinds.sort_by_key(|kind| kind.name());
    kinds.into_iter()
}
