//! What `get zones -o wide` adds: how each zone fares, out of its overview, and how many ingresses it has.

use std::collections::BTreeMap;

use model::kind::Kind;
use serde_json::Value;

use super::columns::Column;
use crate::client::{CallError, Client};
use crate::kinds;
use crate::output::age;

/// Last segment of the path of overviews.
pub(super) const OVERVIEW: &str = "_overview";

/// Member in which an overview carries the number of its ingresses.
const INGRESSES: &str = "ingresses";

/// The columns.
pub(super) const COLUMNS: [Column; 4] = [
    ("STATUS", |zone, _| if is_online(zone) { "Online" } else { "Offline" }.to_owned()),
    ("ENABLED", |zone, _| if is_enabled(zone) { "yes" } else { "no" }.to_owned()),
    ("INGRESSES", |zone, _| zone[INGRESSES].as_u64().unwrap_or_default().to_string()),
    ("LAST SEEN", |zone, now| if is_online(zone) { "now".to_owned() } else { age::of(last_seen(zone), now) }),
];

/// The overview of one zone.
pub(super) async fn one(client: &Client, name: &str) -> Result<Value, CallError> {
    let mut path = kinds::item(Kind::Zone, "", name);
    path.push(OVERVIEW);
    let mut zone = client.get_json(&path, &[]).await?;
    add_ingresses(client, std::iter::once(&mut zone)).await?;
    Ok(zone)
}

/// Counts the ingresses of zones.
pub(super) async fn add_ingresses(client: &Client, zones: impl Iterator<Item = &mut Value>) -> Result<(), CallError> {
    let ingresses = client.get_all(&kinds::collection(Kind::ZoneIngress, ""), &[]).await?;
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for ingress in ingresses["items"].as_array().into_iter().flatten() {
        *counts.entry(ingress["zone"].as_str().unwrap_or_default()).or_default() += 1;
    }
    for zone in zones {
        let count = zone["name"].as_str().and_then(|name| counts.get(name)).copied().unwrap_or_default();
        zone[INGRESSES] = count.into();
    }
    Ok(())
}

fn is_enabled(zone: &Value) -> bool {
    zone["zone"]["enabled"] != false
}

fn streams(zone: &Value) -> impl DoubleEndedIterator<Item = &Value> {
    zone["zoneInsight"]["subscriptions"].as_array().into_iter().flatten()
}

fn is_online(zone: &Value) -> bool {
    is_enabled(zone)
        && streams(zone).any(|stream| !stream["connectTime"].is_null() && stream["disconnectTime"].is_null())
}

/// When its last stream ended, or began if the end was not seen.
fn last_seen(zone: &Value) -> &Value {
    let last = streams(zone).next_back().unwrap_or(&Value::Null);
    if last["disconnectTime"].is_null() { &last["connectTime"] } else { &last["disconnectTime"] }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::columns::table;
    use super::*;

    #[test]
    fn a_wide_zone_tells_how_it_fares() {
        let now = age::read(&json!("2026-11-24T19:00:00Z")).unwrap();
        let open = json!({"connectTime": "2026-11-24T18:00:00Z"});
        let ended = json!({"connectTime": "2026-11-24T18:00:00Z", "disconnectTime": "2026-11-24T18:58:00Z"});
        let zone = |enabled: bool, streams: Value| {
            json!({"name": "east", "modificationTime": "2026-11-24T18:59:00Z", "ingresses": 2,
                "zone": {"enabled": enabled}, "zoneInsight": {"subscriptions": streams}})
        };
        let row = |zone: Value| table(Kind::Zone, &[zone], now, true).rows.remove(0);
        assert_eq!(row(zone(true, json!([ended, open]))), ["east", "1m", "Online", "yes", "2", "now"]);
        assert_eq!(row(zone(true, json!([ended]))), ["east", "1m", "Offline", "yes", "2", "2m"]);
        assert_eq!(row(zone(false, json!([open]))), ["east", "1m", "Offline", "no", "2", "1h"]);
        assert_eq!(row(json!({"name": "new"})), ["new", "never", "Offline", "yes", "0", "never"]);
    }
}
