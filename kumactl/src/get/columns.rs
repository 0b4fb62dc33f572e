//! Columns of the tables of `get`.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use model::kind::{Kind, Scope};
use model::labels;
use serde_json::Value;

use super::zones;
use crate::output::{Table, age};

/// The table of some resources of a kind.
pub fn table(kind: Kind, resources: &[Value], now: DateTime<Utc>, wide: bool) -> Table {
    let mut columns = columns(kind);
    if wide {
        columns.extend(if kind == Kind::Zone { zones::COLUMNS.to_vec() } else { more_columns(kind) });
    }
    let mut table = Table::new(columns.iter().map(|(name, _)| *name));
    table.rows =
        resources.iter().map(|resource| columns.iter().map(|(_, cell)| cell(resource, now)).collect()).collect();
    table
}

/// Name of a column, and the cell that it makes of a resource.
pub(super) type Column = (&'static str, fn(&Value, DateTime<Utc>) -> String);

const MESH: Column = ("MESH", |resource, _| text(&resource["mesh"]));
const NAME: Column = ("NAME", |resource, _| text(&resource["name"]));
const AGE: Column = ("AGE", |resource, now| age::of(&resource["modificationTime"], now));

fn columns(kind: Kind) -> Vec<Column> {
    match (kind, kind.info().scope) {
        (Kind::Mesh, _) => vec![
            NAME,
            ("mTLS", |mesh, _| mtls(mesh)),
            ("LOCALITY", |mesh, _| on_off(&mesh["routing"]["localityAwareLoadBalancing"])),
            ("ZONEEGRESS", |mesh, _| on_off(&mesh["routing"]["zoneEgress"])),
            AGE,
        ],
        (Kind::Dataplane, _) => vec![
            MESH,
            NAME,
            ("TAGS", |dataplane, _| tags(&dataplane["networking"])),
            ("ADDRESS", |dataplane, _| {
                let advertised = text(&dataplane["networking"]["advertisedAddress"]);
                if advertised.is_empty() { text(&dataplane["networking"]["address"]) } else { advertised }
            }),
            AGE,
        ],
        (Kind::ExternalService, _) => vec![
            MESH,
            NAME,
            ("TAGS", |service, _| tag_sets([&service["tags"]])),
            ("ADDRESS", |service, _| text(&service["networking"]["address"])),
            AGE,
        ],
        (_, Scope::Mesh) => vec![MESH, NAME, AGE],
        (_, Scope::Global) => vec![NAME, AGE],
    }
}

/// What `-o wide` adds.
fn more_columns(kind: Kind) -> Vec<Column> {
    let mut columns: Vec<Column> = vec![
        ("ORIGIN", |resource, _| label(resource, labels::ORIGIN)),
        ("ZONE", |resource, _| label(resource, labels::ZONE)),
        ("DISPLAY NAME", |resource, _| label(resource, labels::DISPLAY_NAME)),
    ];
    if kind.info().policy.is_some_and(|policy| policy.target_ref) {
        columns.push(("TARGET", |policy, _| target(&policy["spec"]["targetRef"])));
    }
    columns
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn on_off(value: &Value) -> String {
    if value == true { "on" } else { "off" }.to_owned()
}

fn label(resource: &Value, key: &str) -> String {
    match resource["labels"][key].as_str() {
        Some(value) if !value.is_empty() => value.to_owned(),
        _ => "-".to_owned(),
    }
}

/// `MeshService/backend`, `Dataplane{app=web}`, `Mesh`.
fn target(target: &Value) -> String {
    let mut said = target["kind"].as_str().unwrap_or("Mesh").to_owned();
    if let Some(name) = target["name"].as_str() {
        said = format!("{said}/{name}");
    }
    let selector = target["labels"].as_object().or_else(|| target["tags"].as_object());
    if let Some(selector) = selector.filter(|selector| !selector.is_empty()) {
        let pairs = selector.iter().map(|(key, value)| format!("{key}={}", text(value)));
        said = format!("{said}{{{}}}", pairs.collect::<Vec<_>>().join(","));
    }
    said
}

/// `builtin/ca-1`, the backend in use.
fn mtls(mesh: &Value) -> String {
    let enabled = mesh["mtls"]["enabledBackend"].as_str().filter(|name| !name.is_empty());
    let mut backends = mesh["mtls"]["backends"].as_array().into_iter().flatten();
    let backend = enabled.and_then(|name| backends.find(|backend| backend["name"] == name));
    backend.map_or_else(|| "off".to_owned(), |backend| format!("{}/{}", text(&backend["type"]), text(&backend["name"])))
}

/// Tags of a proxy: those of its gateway, or those of its inbounds.
pub fn tags(networking: &Value) -> String {
    match networking.get("gateway") {
        Some(gateway) => tag_sets([&gateway["tags"]]),
        None => {
            let inbounds = networking["inbound"].as_array().into_iter().flatten();
            // An inbound that is ignored serves nobody.
            let serving = inbounds.filter(|inbound| inbound["state"] != "Ignored");
            tag_sets(serving.map(|inbound| &inbound["tags"]))
        }
    }
}

/// `kuma.io/service=a,b version=v1`: every value of every tag, sorted.
fn tag_sets<'a>(sets: impl IntoIterator<Item = &'a Value>) -> String {
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (key, value) in sets.into_iter().filter_map(Value::as_object).flatten() {
        values.entry(key).or_default().extend(value.as_str());
    }
    let join = |set: BTreeSet<&str>| set.into_iter().collect::<Vec<_>>().join(",");
    values.into_iter().map(|(key, set)| format!("{key}={}", join(set))).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(kind: Kind, resource: Value, wide: bool) -> Vec<String> {
        let now = age::read(&json!("2026-11-24T19:00:00Z")).unwrap();
        table(kind, &[resource], now, wide).rows.remove(0)
    }

    #[test]
    fn the_tags_of_all_inbounds_are_one_set() {
        let networking = json!({"address": "10.0.0.1", "inbound": [
            {"tags": {"version": "v1", "kuma.io/service": "mobile"}}, {"tags": {"kuma.io/service": "metrics"}},
            {"tags": {"kuma.io/service": "unseen"}, "state": "Ignored"}]});
        assert_eq!(tags(&networking), "kuma.io/service=metrics,mobile version=v1");
        let dataplane =
            json!({"mesh": "m", "name": "d", "modificationTime": "2026-11-24T18:59:00Z", "networking": networking});
        assert_eq!(
            row(Kind::Dataplane, dataplane, false),
            ["m", "d", "kuma.io/service=metrics,mobile version=v1", "10.0.0.1", "1m"]
        );
    }

    #[test]
    fn a_mesh_tells_its_backend_in_use() {
        let mesh = json!({"name": "m", "mtls": {"enabledBackend": "b", "backends": [{"name": "a", "type": "x"},
            {"name": "b", "type": "builtin"}]}, "routing": {"zoneEgress": true}});
        assert_eq!(row(Kind::Mesh, mesh, false), ["m", "builtin/b", "off", "on", "never"]);
    }

    #[test]
    fn a_wide_table_tells_where_a_policy_is_from_and_what_it_selects() {
        let policy = json!({"mesh": "m", "name": "p", "labels": {"kuma.io/zone": "east", "kuma.io/origin": "zone"},
            "spec": {"targetRef": {"kind": "Dataplane", "labels": {"app": "web"}}}});
        assert_eq!(
            row(Kind::MeshTimeout, policy, true),
            ["m", "p", "never", "zone", "east", "-", "Dataplane{app=web}"]
        );
    }
}
