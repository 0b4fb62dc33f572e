//! What the policies of every kind say to a proxy (`_rules`).

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kds_proto::kuma::mesh::v1alpha1::dataplane::Networking;
use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::gateway::GatewayType;
use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::{Gateway, Inbound};
use kds_proto::kuma::mesh::v1alpha1::{Dataplane, MeshGateway};
use model::policy::{Origin, ResourceRule, SubsetRule, Summary};
use model::{Kind, Resource};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Seen, meta, metas};
use crate::problem::Problem;
use crate::serve::Call;
use crate::{Api, resource};

/// `…/_rules` of a dataplane or of a MeshGateway.
pub(super) fn of(api: &Api, call: &Call, kind: Kind) -> Result<Value, Problem> {
    let seen = if kind == Kind::MeshGateway { of_gateway(api, call)? } else { Seen::find(api, call)? };
    let summaries = Summary::of_proxy(&seen.snapshot, seen.proxy());
    let routes = summaries.iter().find(|summary| summary.kind == Kind::MeshHTTPRoute);
    let rules: Vec<Value> = summaries.iter().filter_map(|summary| shown(summary, &seen)).collect();
    Ok(json!({
        "httpMatches": routes.map(http_matches).unwrap_or_default(),
        "resource": meta(&seen.resource.meta),
        "rules": rules,
    }))
}

/// A proxy that the gateway would select. It is told most of what real ones are.
fn of_gateway(api: &Api, call: &Call) -> Result<Seen, Problem> {
    let key = resource::key_of(api, call, Kind::MeshGateway)?;
    let snapshot = api.configuration();
    let resource = snapshot.get(&key).cloned();
    let resource = resource.ok_or_else(|| Problem::not_found("Could not retrieve MeshGateway"))?;
    let gateway = resource.spec.message::<MeshGateway>();
    let selector = gateway.ok().and_then(|gateway| gateway.selectors.first().cloned());
    let tags = selector.ok_or_else(|| Problem::internal("Invalid MeshGateway"))?.r#match;
    let gateway = Gateway { r#type: GatewayType::Builtin.into(), tags };
    let networking = Networking { gateway: Some(gateway), ..Networking::default() };
    let dataplane = Arc::new(Dataplane { networking: Some(networking), ..Dataplane::default() });
    Ok(Seen { snapshot, resource, dataplane })
}

/// Nothing when the policies of the kind say nothing to the proxy.
fn shown(summary: &Summary, seen: &Seen) -> Option<Value> {
    let has_tags =
        !summary.to.is_empty() || !summary.from.iter().all(Vec::is_empty) || !summary.inbound.iter().all(Vec::is_empty);
    if !has_tags && summary.whole.is_none() {
        return None;
    }
    // Rules by tags do not reach services that are resources.
    let to = if seen.is_exclusive() { &[][..] } else { &summary.to };
    let networking = seen.dataplane.networking.as_ref();
    let inbounds: &[Inbound] = networking.map_or(&[], |networking| &networking.inbound);
    let gateway = networking.and_then(|networking| networking.gateway.as_ref());
    let from = by_inbound(inbounds, gateway, &summary.from, by_subset);
    let inbound = by_inbound(
        inbounds,
        gateway,
        &summary.inbound,
        |rule| json!({"conf": [rule.conf], "origin": [item(&rule.origin)]}),
    );
    let mut resources: Vec<&ResourceRule<Value>> = summary.resources.iter().map(|(_, rule)| rule).collect();
    resources.sort_by_key(|rule| Arc::clone(&rule.resource.meta.key.name));
    if summary.whole.is_none() && from.is_empty() && to.is_empty() && resources.is_empty() && inbound.is_empty() {
        return None;
    }
    let mut rule = json!({"fromRules": from, "inboundRules": inbound});
    if let Some((conf, origins)) = &summary.whole {
        rule["proxyRule"] = json!({"conf": conf, "origin": metas(origins)});
    }
    rule["toResourceRules"] = resources.into_iter().map(by_resource).collect();
    rule["toRules"] = to.iter().map(by_subset).collect();
    rule["type"] = summary.kind.name().into();
    rule["warnings"] = summary.warnings.clone().into();
    Some(rule)
}

/// What holds for each inbound for which something does, by port.
fn by_inbound<R>(
    inbounds: &[Inbound],
    gateway: Option<&Gateway>,
    rules: &[Vec<R>],
    show: impl Fn(&R) -> Value,
) -> Vec<Value> {
    let mut shown: Vec<(&Inbound, &Vec<R>)> =
        inbounds.iter().zip(rules).filter(|(_, rules)| !rules.is_empty()).collect();
    shown.sort_by_key(|(inbound, _)| inbound.port);
    let show = |(inbound, rules): (&Inbound, &Vec<R>)| {
        let mut at = json!({});
        if !inbound.name.is_empty() {
            at["name"] = inbound.name.clone().into();
        }
        at["port"] = inbound.port.into();
        at["tags"] = json!(gateway.map_or(&inbound.tags, |gateway| &gateway.tags));
        json!({"inbound": at, "rules": rules.iter().map(&show).collect::<Vec<_>>()})
    };
    shown.into_iter().map(show).collect()
}

fn by_subset(rule: &SubsetRule<Value>) -> Value {
    let matchers = rule.subset.0.iter().map(|tag| json!({"key": tag.key, "not": tag.not, "value": tag.value}));
    json!({"conf": rule.conf, "matchers": matchers.collect::<Vec<_>>(), "origin": metas(&rule.origins)})
}

fn by_resource(rule: &ResourceRule<Value>) -> Value {
    let origins: Vec<Value> = rule.origins.iter().map(item).collect();
    let Resource { meta: of, .. } = &*rule.resource;
    json!({"conf": rule.conf, "origin": origins, "resourceMeta": meta(of), "resourceSectionName": rule.section})
}

fn item(origin: &Origin) -> Value {
    json!({"resourceMeta": meta(&origin.policy.meta), "ruleIndex": origin.index})
}

/// The matches of routes by the hash under which the older rules name them.
fn http_matches(routes: &Summary) -> Vec<Value> {
    let rules = routes.to.iter().filter_map(|rule| rule.conf["rules"].as_array()).flatten();
    let hashed: BTreeMap<String, &Value> = rules
        .map(|rule| {
            let matches = &rule["matches"];
            (STANDARD.encode(Sha256::digest(matches.to_string())), matches)
        })
        .collect();
    hashed.into_iter().map(|(hash, matches)| json!({"hash": hash, "match": matches})).collect()
}
