//! How configurations of one kind add up.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::spec::{
    mesh_access_log, mesh_circuit_breaker, mesh_fault_injection, mesh_health_check, mesh_http_route,
    mesh_load_balancing_strategy, mesh_metric, mesh_passthrough, mesh_proxy_patch, mesh_rate_limit, mesh_retry,
    mesh_tcp_route, mesh_timeout, mesh_tls, mesh_trace, mesh_traffic_permission,
};

/// A configuration that adds up with others of its kind.
pub trait Merge: Clone {
    /// The sum, weakest first; empty when there is nothing to add. More than one when the configurations speak of
    /// different things (the host names of a gateway's routes).
    fn merge(confs: &[&Self]) -> Vec<Self>;
}

/// The members that lists are appended to instead of replaced are those whose name begins so.
const APPENDED: &str = "append";

/// Adds up by RFC 7396 (JSON merge patch) over the configurations' JSON form, `append…` lists apart: those are joined.
fn merge_json<C: Clone + Serialize + DeserializeOwned>(confs: &[&C]) -> Vec<C> {
    let Some((first, rest)) = confs.split_first() else { return Vec::new() };
    if rest.is_empty() {
        return vec![(*first).clone()];
    }
    // A typed value always has a JSON form and reads back from it; the strongest stands in if one ever does not.
    let mut values = confs.iter().filter_map(|conf| serde_json::to_value(conf).ok());
    let mut sum = values.next().unwrap_or_default();
    values.for_each(|value| patch(&mut sum, value));
    vec![serde_json::from_value(sum).unwrap_or_else(|_| (*confs[confs.len() - 1]).clone())]
}

fn patch(target: &mut Value, patch_with: Value) {
    let Value::Object(members) = patch_with else {
        *target = patch_with;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(object) = target else { return };
    for (name, value) in members {
        match (object.get_mut(&name), value) {
            (_, Value::Null) => drop(object.shift_remove(&name)),
            (Some(Value::Array(list)), Value::Array(more)) if name.starts_with(APPENDED) => list.extend(more),
            (Some(old), value) => patch(old, value),
            (None, value) => {
                object.insert(name, value);
            }
        }
    }
}

macro_rules! merged_as_json {
    ($($conf:ty),+ $(,)?) => {
        $(impl Merge for $conf {
            fn merge(confs: &[&Self]) -> Vec<Self> {
                merge_json(confs)
            }
        })+
    };
}

merged_as_json!(
    mesh_access_log::Conf,
    mesh_circuit_breaker::Conf,
    mesh_fault_injection::Conf,
    mesh_health_check::Conf,
    mesh_load_balancing_strategy::Conf,
    mesh_metric::Conf,
    mesh_passthrough::Conf,
    mesh_proxy_patch::Conf,
    mesh_rate_limit::Conf,
    mesh_retry::Conf,
    mesh_tcp_route::Rule,
    mesh_timeout::Conf,
    mesh_tls::Conf,
    mesh_trace::Conf,
    mesh_traffic_permission::Conf,
    mesh_traffic_permission::RuleConf,
);

/// Routes of a destination add up by their matches: for each set of matches the strongest policy's rule merges over the
/// weaker ones', and the rules of stronger policies come first. Host names of a gateway are apart from one another.
impl Merge for mesh_http_route::Rules {
    fn merge(confs: &[&Self]) -> Vec<Self> {
        let mut groups: Vec<(Option<&String>, Vec<&Self>)> = Vec::new();
        for conf in confs {
            let names: Vec<Option<&String>> =
                if conf.hostnames.is_empty() { vec![None] } else { conf.hostnames.iter().map(Some).collect() };
            for name in names {
                match groups.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, group)) => group.push(conf),
                    None => groups.push((name, vec![conf])),
                }
            }
        }
        let merged = |(name, group): (Option<&String>, Vec<&Self>)| Self {
            rules: merge_rules(&group),
            hostnames: name.cloned().into_iter().collect(),
        };
        groups.into_iter().map(merged).collect()
    }
}

fn merge_rules(confs: &[&mesh_http_route::Rules]) -> Vec<mesh_http_route::Rule> {
    // From the strongest rule (first of the last policy) to the weakest.
    let strongest_first = confs.iter().rev().flat_map(|conf| &conf.rules);
    let mut merged: Vec<(&[mesh_http_route::Match], Vec<&mesh_http_route::RuleConf>)> = Vec::new();
    for rule in strongest_first {
        match merged.iter_mut().find(|(matches, _)| *matches == rule.matches) {
            Some((_, confs)) => confs.push(&rule.default),
            None => merged.push((&rule.matches, vec![&rule.default])),
        }
    }
    let rule = |(matches, mut confs): (&[mesh_http_route::Match], Vec<&mesh_http_route::RuleConf>)| {
        confs.reverse();
        let default = merge_json(&confs).into_iter().next().unwrap_or_default();
        mesh_http_route::Rule { matches: matches.to_vec(), default }
    };
    merged.into_iter().map(rule).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sum(confs: &[Value]) -> Value {
        let confs: Vec<&Value> = confs.iter().collect();
        merge_json(&confs).pop().unwrap()
    }

    #[test]
    fn members_are_replaced_and_objects_merged() {
        let confs = [
            json!({"connectionTimeout": "5s", "http": {"requestTimeout": "1s", "streamIdleTimeout": "2s"}, "l": [1]}),
            json!({"http": {"requestTimeout": "9s"}, "l": [2]}),
        ];
        assert_eq!(
            sum(&confs),
            json!({"connectionTimeout": "5s", "http": {"requestTimeout": "9s", "streamIdleTimeout": "2s"}, "l": [2]})
        );
    }

    #[test]
    fn lists_to_append_are_joined_weakest_first() {
        let confs = [json!({"appendMatch": [1, 2]}), json!({"appendMatch": [3]})];
        assert_eq!(sum(&confs), json!({"appendMatch": [1, 2, 3]}));
    }

    #[test]
    fn routes_add_up_by_their_matches_the_strongest_policy_first() {
        let rules = |text: Value| mesh_http_route::Rules {
            rules: serde_json::from_value(text).unwrap(),
            hostnames: Vec::new(),
        };
        let at = |path: &str| json!([{"path": {"value": path, "type": "PathPrefix"}}]);
        let weak = rules(json!([
            {"matches": at("/a"), "default": {"backendRefs": [{"kind": "MeshService", "name": "weak"}]}},
            {"matches": at("/b"), "default": {}},
        ]));
        let strong = rules(json!([
            {"matches": at("/c"), "default": {}},
            {"matches": at("/a"), "default": {"filters": []}},
        ]));
        let merged = mesh_http_route::Rules::merge(&[&weak, &strong]).pop().unwrap();
        let order: Vec<_> = merged.rules.iter().map(|rule| rule.matches[0].path.clone().unwrap().value).collect();
        assert_eq!(order, ["/c", "/a", "/b"]);
        assert!(merged.rules[1].default.backend_refs.is_some() && merged.rules[1].default.filters.is_some());
    }
}
