//! What a resource means, whoever prints it.

use std::collections::{BTreeMap, BTreeSet};

use envoy::Type;
use kds_proto::envoy::config::cluster::v3::Cluster;
use kds_proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use kds_proto::envoy::config::listener::v3::Listener;
use kds_proto::envoy::config::route::v3::RouteConfiguration;
use kds_proto::envoy::extensions::transport_sockets::tls::v3::Secret;
use kds_proto::json::{self, UnknownFields};
use prost::{Message, Name};
use serde_json::Value;

/// What endpoints are compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Endpoints {
    /// With what the control plane sent.
    AsServed,
    /// With what Envoy kept: the first of equal addresses.
    AsKept,
}

/// Base64 of `pem`: stands for certificates and keys.
const PEM: &str = "cGVt";

/// Name of a recorded resource.
pub fn name(value: &Value) -> String {
    let name = value.get("name").or_else(|| value.get("cluster_name")).and_then(Value::as_str);
    name.unwrap_or_default().to_owned()
}

/// A recorded resource in its canonical form.
pub fn recorded(r#type: Type, value: &Value) -> Value {
    // Envoy was still looking for the health of this cluster's endpoints.
    let mut value = value.get("WARMING").unwrap_or(value).clone();
    if let Value::Object(members) = &mut value {
        members.remove("@type");
    }
    mask(&mut value);
    let message = match r#type {
        Type::Listener => canonical::<Listener>(value),
        Type::Cluster => canonical::<Cluster>(value),
        Type::Endpoint => canonical::<ClusterLoadAssignment>(value),
        Type::Route => canonical::<RouteConfiguration>(value),
        Type::Secret => canonical::<Secret>(value),
    };
    settle(r#type, message)
}

/// An emitted resource in the same form.
pub fn emitted(r#type: Type, value: Value, endpoints: Endpoints) -> Value {
    let mut value = settle(r#type, value);
    if r#type == Type::Secret {
        mask_bundles(&mut value);
    }
    if r#type == Type::Endpoint && endpoints == Endpoints::AsKept {
        keep_first_addresses(&mut value);
    }
    value
}

fn canonical<M: Message + Name + Default>(value: Value) -> Value {
    let shown = value.to_string();
    let message: M = json::from_value(value, UnknownFields::Refused).unwrap_or_else(|error| panic!("{error}: {shown}"));
    json::to_value(&M::full_name(), &message.encode_to_vec()).unwrap()
}

/// Replaces what was removed from the recording.
fn mask(value: &mut Value) {
    match value {
        Value::Object(members) => members.values_mut().for_each(mask),
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::String(text) if ["<pem>", "<pem-base64>", "W3JlZGFjdGVkXQ=="].contains(&text.as_str()) => {
            *text = PEM.to_owned()
        }
        _ => {}
    }
}

/// Certificates of trust domains: their content was removed from the recording.
fn mask_bundles(value: &mut Value) {
    let domains = value.pointer_mut("/validationContext/customValidatorConfig/typedConfig/trustDomains");
    for domain in domains.and_then(Value::as_array_mut).into_iter().flatten() {
        domain["trustBundle"]["inlineBytes"] = Value::from(PEM);
    }
}

/// Removes what Envoy adds when it prints, and puts into order what has none.
fn settle(r#type: Type, mut value: Value) -> Value {
    if r#type == Type::Endpoint {
        if value["policy"]["overprovisioningFactor"] == 140 {
            value.as_object_mut().unwrap().remove("policy");
        }
        for locality in value["endpoints"].as_array_mut().into_iter().flatten() {
            let members = locality.as_object_mut().unwrap();
            members.retain(|key, inner| {
                let nothing = *inner == 0 || inner.as_object().is_some_and(serde_json::Map::is_empty);
                !(nothing && ["loadBalancingWeight", "locality"].contains(&key.as_str()))
            });
            for endpoint in members.get_mut("lbEndpoints").and_then(Value::as_array_mut).into_iter().flatten() {
                let members = endpoint.as_object_mut().unwrap();
                members.remove("healthStatus");
                if let Some(host) = members.get_mut("endpoint").and_then(Value::as_object_mut) {
                    host.remove("healthCheckConfig");
                }
            }
        }
    }
    if r#type == Type::Listener {
        sort_chains(&mut value);
    }
    // Kuma takes principals of one selector from a map.
    sort_principals(&mut value);
    value
}

/// Chains of server names come from a map in Kuma, and only one of them can fit.
fn sort_chains(value: &mut Value) {
    let Some(chains) = value["filterChains"].as_array_mut() else { return };
    if chains.iter().all(|chain| chain["filterChainMatch"]["serverNames"].is_array()) {
        chains.sort_by_key(|chain| chain["filterChainMatch"]["serverNames"].to_string());
    }
}

fn sort_principals(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(ids) = members.get_mut("andIds").and_then(|and| and["ids"].as_array_mut()) {
                ids.sort_by_key(Value::to_string);
            }
            members.values_mut().for_each(sort_principals);
        }
        Value::Array(items) => items.iter_mut().for_each(sort_principals),
        _ => {}
    }
}

fn keep_first_addresses(value: &mut Value) {
    let mut seen = BTreeSet::new();
    let Some(localities) = value["endpoints"].as_array_mut() else { return };
    for locality in localities.iter_mut() {
        let endpoints = locality["lbEndpoints"].as_array_mut().into_iter();
        endpoints.for_each(|endpoints| {
            endpoints.retain(|endpoint| seen.insert(endpoint["endpoint"]["address"].to_string()))
        });
    }
    localities.retain(|locality| locality["lbEndpoints"].as_array().is_some_and(|endpoints| !endpoints.is_empty()));
    if localities.is_empty() {
        value.as_object_mut().unwrap().remove("endpoints");
    }
}

/// Resources that differ, and in what.
pub fn differences(
    list: &str,
    expected: &BTreeMap<String, Value>,
    actual: &BTreeMap<String, Value>,
) -> Vec<(String, String)> {
    let names: BTreeSet<&String> = expected.keys().chain(actual.keys()).collect();
    let mut found = Vec::new();
    for name in names {
        let mut lines = Vec::new();
        match (expected.get(name), actual.get(name)) {
            (Some(expected), Some(actual)) => compare("", expected, actual, &mut lines),
            (Some(_), None) => lines.push("  missing".to_owned()),
            (None, _) => lines.push("  not recorded".to_owned()),
        }
        if !lines.is_empty() {
            found.push((format!("{list}/{name}"), lines.join("\n")));
        }
    }
    found
}

fn compare(at: &str, expected: &Value, actual: &Value, lines: &mut Vec<String>) {
    match (expected, actual) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let at = format!("{at}/{key}");
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => compare(&at, a, b, lines),
                    (Some(a), None) => lines.push(format!("  {at}: expected {}", short(a))),
                    (None, Some(b)) => lines.push(format!("  {at}: unexpected {}", short(b))),
                    (None, None) => {}
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (position, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{at}/{position}"), a, b, lines);
            }
        }
        _ if expected != actual => lines.push(format!("  {at}: expected {}, not {}", short(expected), short(actual))),
        _ => {}
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 400 { format!("{}…", text.chars().take(400).collect::<String>()) } else { text }
}
