//! What holds for a proxy, its inbounds, outbounds and routes, by identifiers (`_policies`, `_routes`).

use model::kri::Kri;
use model::policy::{Origin, ResourceRule, Summary};
use model::spec::{MeshHttpRoute, dataplane};
use model::{Kind, Meta};
use serde_json::{Value, json};

use super::Seen;
use crate::Api;
use crate::problem::Problem;
use crate::serve::Call;

/// `…/_policies`.
pub(super) fn of_proxy(api: &Api, call: &Call) -> Result<Value, Problem> {
    let (_, summaries) = summed(api, call)?;
    let whole = |summary: &Summary| {
        let (conf, origins) = summary.whole.as_ref()?;
        Some(json!({"conf": conf, "kind": summary.kind.name(), "origins": identifiers(origins)}))
    };
    Ok(json!({"policies": summaries.iter().filter_map(whole).collect::<Vec<_>>()}))
}

/// `…/_inbounds/{inbound}/_policies`.
pub(super) fn of_inbound(api: &Api, call: &Call) -> Result<Value, Problem> {
    let (seen, summaries) = summed(api, call)?;
    let asked = identifier(call, "inbound")?;
    let networking = seen.dataplane.networking.as_ref();
    let mut inbounds = networking.iter().flat_map(|networking| &networking.inbound);
    let position =
        inbounds.position(|inbound| asked.section.is_empty() || dataplane::section_name(inbound) == asked.section);
    // Kuma answers so, too; the identifier is of an inbound that the proxy has not.
    let position = position.ok_or_else(|| Problem::internal("Failed building response"))?;
    let shown = |summary: &Summary| {
        let rules = summary.inbound.get(position).filter(|rules| !rules.is_empty())?;
        let each = rules.iter().map(|rule| json!({"conf": rule.conf, "kri": of_meta(&rule.origin.policy.meta)}));
        let origins = identifiers(rules.iter().map(|rule| &rule.origin));
        Some(json!({"kind": summary.kind.name(), "origins": origins, "rules": each.collect::<Vec<_>>()}))
    };
    Ok(json!({"policies": summaries.iter().filter_map(shown).collect::<Vec<_>>()}))
}

/// `…/_outbounds/{outbound}/_policies`.
pub(super) fn of_outbound(api: &Api, call: &Call) -> Result<Value, Problem> {
    let (_, summaries) = summed(api, call)?;
    let outbound = identifier(call, "outbound")?;
    Ok(by_resource(&summaries, |summary| nearest(summary, &[&outbound, &outbound.with_section("")])))
}

/// `…/_outbounds/{outbound}/_routes/{route}/_policies`.
pub(super) fn of_route(api: &Api, call: &Call) -> Result<Value, Problem> {
    let (_, summaries) = summed(api, call)?;
    let (outbound, route) = (identifier(call, "outbound")?, identifier(call, "route")?);
    Ok(by_resource(&summaries, |summary| match summary.kind {
        Kind::MeshHTTPRoute | Kind::MeshTCPRoute => None,
        _ => nearest(summary, &[&route, &outbound, &outbound.with_section("")]),
    }))
}

/// `…/_outbounds/{outbound}/_routes`.
pub(super) fn routes(api: &Api, call: &Call) -> Result<Value, Problem> {
    let (_, summaries) = summed(api, call)?;
    let outbound = identifier(call, "outbound")?;
    let routes = |summary: &Summary| {
        let rule = summary.resources.compute(&outbound)?;
        let rules: Vec<Value> = match summary.kind {
            Kind::MeshHTTPRoute => {
                let all = rule.conf.iter().filter_map(|conf| conf["rules"].as_array()).flatten();
                all.map(|of| {
                    let origin = route_of(&rule.origins, &of["matches"]);
                    json!({"conf": of["default"], "kri": origin.unwrap_or_default(), "matches": of["matches"]})
                })
                .collect()
            }
            Kind::MeshTCPRoute => {
                rule.conf.iter().map(|of| json!({"conf": of["default"], "kri": "", "matches": null})).collect()
            }
            _ => return None,
        };
        let rules = if rules.is_empty() { Value::Null } else { rules.into() };
        Some(json!({"kind": summary.kind.name(), "origins": identifiers(&rule.origins), "rules": rules}))
    };
    Ok(json!({"routes": summaries.iter().filter_map(routes).collect::<Vec<_>>()}))
}

/// The strongest of these routes that speaks of the same requests.
fn route_of(origins: &[Origin], matches: &Value) -> Option<String> {
    let speaks = |origin: &&Origin| {
        let Ok(route) = origin.policy.spec.json::<MeshHttpRoute>() else { return false };
        let to = route.to.iter().flatten().nth(origin.index);
        to.is_some_and(|to| {
            to.rules.iter().any(|rule| serde_json::to_value(&rule.matches).is_ok_and(|own| own == *matches))
        })
    };
    origins.iter().rev().find(speaks).map(|origin| of_meta(&origin.policy.meta))
}

fn summed(api: &Api, call: &Call) -> Result<(Seen, Vec<Summary>), Problem> {
    let seen = Seen::find(api, call)?;
    seen.check_exclusive("_policies")?;
    let summaries = Summary::of_proxy(&seen.snapshot, seen.proxy());
    Ok((seen, summaries))
}

fn identifier(call: &Call, name: &str) -> Result<Kri, Problem> {
    call.name(name).parse().map_err(|error| Problem::bad_request(format!("bad request: {error}")))
}

/// The rule that is about exactly one of these, the first that there is, else that of the mesh.
fn nearest<'a>(summary: &'a Summary, asked: &[&Kri]) -> Option<&'a ResourceRule<Value>> {
    let exact = asked.iter().find_map(|kri| summary.resources.exactly(kri));
    exact.or_else(|| summary.resources.of_mesh(&asked.first()?.mesh))
}

fn by_resource<'a>(summaries: &'a [Summary], rule: impl Fn(&'a Summary) -> Option<&'a ResourceRule<Value>>) -> Value {
    let shown = |summary: &'a Summary| {
        let rule = rule(summary)?;
        Some(json!({"conf": rule.conf, "kind": summary.kind.name(), "origins": identifiers(&rule.origins)}))
    };
    json!({"policies": summaries.iter().filter_map(shown).collect::<Vec<_>>()})
}

fn identifiers<'a>(origins: impl IntoIterator<Item = &'a Origin>) -> Value {
    origins.into_iter().map(|origin| json!({"kri": of_meta(&origin.policy.meta)})).collect()
}

fn of_meta(meta: &Meta) -> String {
    Kri::of(meta).map(|kri| kri.to_string()).unwrap_or_default()
}
