//! A resource together with the insight that tells how it fares (api-and-kumactl 2.1, 3.3, 3.5 to 3.7).

use model::rest_form;
use model::{Key, Kind, Resource, Snapshot};
use serde_json::{Map, Value};

use crate::filter::Filter;

/// The overview of a resource: its meta without `kri`, its content, and its insight's content.
///
/// A single one shows an insight that does not exist as empty, a list leaves it out. On a list with a filter on labels
/// the insight has to carry the labels too, or it goes missing from the result.
pub fn of(resource: &Resource, insights: &Snapshot, filter: Option<&Filter>) -> Value {
    let Some((kind, _)) = resource.kind().info().insight else { return Value::Null };
    let key = Key::new(kind, &resource.meta.key.mesh, &resource.meta.key.name);
    let insight =
        insights.get(&key).filter(|insight| filter.is_none_or(|filter| filter.passes_labels(&insight.meta.labels)));
    let mut object = rest_form::print_meta(&resource.meta);
    object.insert("type".into(), format!("{}Overview", resource.kind()).into());
    object.shift_remove("kri");
    object.insert(member(resource.kind()), content(resource));
    match insight {
        Some(insight) => drop(object.insert(member(kind), content(insight))),
        None if filter.is_none() => drop(object.insert(member(kind), Value::Object(Map::new()))),
        None => {}
    }
    Value::Object(object)
}

fn content(resource: &Resource) -> Value {
    (resource.kind().info().codec.to_json)(resource.spec.bytes()).unwrap_or_else(|error| {
        tracing::error!(resource = %resource.meta.key, %error, "stored content does not decode");
        Value::Object(Map::new())
    })
}

/// `zoneIngress` of `ZoneIngress`.
fn member(kind: Kind) -> String {
    let mut letters = kind.name().chars();
    letters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(letters).collect()
}
