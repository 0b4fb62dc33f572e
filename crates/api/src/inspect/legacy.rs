//! The older views of policies and proxies, which `kumactl inspect` asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use kds_proto::kuma::mesh::v1alpha1::Dataplane;
use model::labels::{self, SERVICE_TAG};
use model::policy::attachment::{Attachment, attachments as attach};
use model::policy::{self, Origin, Proxy, SubsetRule, Summary, tagged};
use model::spec::{dataplane, outbound, tags};
use model::{Key, Kind, Meta, Resource, rest_form};
use serde_json::{Map, Value, json};

use super::{Seen, dataplane_of, gateway};
use crate::Api;
use crate::problem::Problem;
use crate::serve::Call;

/// `…/dataplanes/{name}/policies`.
pub(super) fn attachments(api: &Api, call: &Call) -> Result<Value, Problem> {
    let seen = find(api, call)?;
    if dataplane::role(&seen.dataplane) == dataplane::Role::BuiltinGateway {
        return Ok(gateway::attachments(&seen));
    }
    let summaries = Summary::of_proxy(&seen.snapshot, seen.proxy());
    let items: Vec<Value> = attach(&seen.snapshot, seen.proxy(), &summaries)
        .iter()
        .map(|(place, kinds)| {
            let mut item = place_of(place);
            let matched = kinds.iter().map(|(kind, policies)| {
                let metas = policies.iter().map(|policy| Value::Object(rest_form::print_meta(&policy.meta)));
                (kind.name().to_owned(), metas.collect())
            });
            item.insert("matchedPolicies".to_owned(), Value::Object(matched.collect()));
            Value::Object(item)
        })
        .collect();
    Ok(json!({"kind": "SidecarDataplane", "total": items.len(), "items": items}))
}

/// `…/<policies>/{name}/dataplanes`.
pub(super) fn of_policy(api: &Api, call: &Call, kind: Kind) -> Result<Value, Problem> {
    let (snapshot, mesh) = (api.configuration(), call.name("mesh"));
    if snapshot.get(&Key::global(Kind::Mesh, mesh)).is_none() {
        return Err(Problem::not_found("Could not list Dataplanes"));
    }
    let policy = snapshot.get(&Key::new(kind, mesh, call.name("name")));
    let mut items = Vec::new();
    for (policy, resource) in policy
        .iter()
        .flat_map(|policy| snapshot.list_in(Kind::Dataplane, mesh).map(move |resource| (*policy, resource)))
    {
        let Some(dataplane) = dataplane_of(resource) else { continue };
        let proxy = Proxy { meta: &resource.meta, dataplane: &dataplane };
        let places = places(&snapshot, policy, proxy);
        if !places.is_empty() {
            let dataplane = json!({"mesh": mesh, "name": &*resource.meta.key.name});
            items.push(json!({"kind": "SidecarDataplane", "dataplane": dataplane, "attachments": places}));
        }
    }
    Ok(json!({"total": items.len(), "items": items}))
}

/// Where at a proxy a policy holds.
fn places(snapshot: &model::Snapshot, policy: &Arc<Resource>, proxy: Proxy<'_>) -> Vec<Value> {
    if policy.kind().info().policy.is_some_and(|policy| policy.target_ref) {
        let shadow = policy.meta.labels.get(labels::EFFECT) == Some("shadow");
        let whole = Attachment { of: "dataplane", name: String::new(), service: String::new() };
        let holds = !shadow && policy::holds(snapshot, policy, proxy);
        return if holds { vec![Value::Object(place_of(&whole))] } else { Vec::new() };
    }
    let mut found = Vec::new();
    for (place, kinds) in attach(snapshot, proxy, &[]) {
        let policies = kinds.get(&policy.kind()).into_iter().flatten();
        let times = policies.filter(|one| one.meta.key == policy.meta.key).count();
        found.extend(std::iter::repeat_n(Value::Object(place_of(&place)), times));
    }
    found
}

fn place_of(place: &Attachment) -> Map<String, Value> {
    let mut shown = Map::new();
    shown.insert("type".to_owned(), place.of.into());
    for (key, value) in [("name", &place.name), ("service", &place.service)] {
        if !value.is_empty() {
            shown.insert(key.to_owned(), value.as_str().into());
        }
    }
    shown
}

/// `…/dataplanes/{name}/rules`.
pub(super) fn rules(api: &Api, call: &Call) -> Result<Value, Problem> {
    let seen = find(api, call)?;
    let mut rules: Vec<Rule> = Vec::new();
    for summary in Summary::of_proxy(&seen.snapshot, seen.proxy()) {
        of_inbounds(&seen.dataplane, &summary, &mut rules);
        of_outbounds(&seen.dataplane, &summary, &mut rules);
        if let Some((conf, origins)) = &summary.whole {
            let place = Place::default();
            rules.push(Rule::new("SingleItem", summary.kind, place, json!({}), conf, origins));
        }
    }
    rules.sort_by(|a, b| (&a.place.name, a.of, a.kind.name()).cmp(&(&b.place.name, b.of, b.kind.name())));
    let items: Vec<Value> = rules.iter().map(Rule::shown).collect();
    Ok(json!({"total": items.len(), "items": items}))
}

fn of_inbounds(dataplane: &Dataplane, summary: &Summary, rules: &mut Vec<Rule>) {
    let Some(networking) = &dataplane.networking else { return };
    for (inbound, of_inbound) in networking.inbound.iter().zip(&summary.from) {
        let at = dataplane::interface(networking, inbound);
        for rule in of_inbound {
            let place = Place::tagged(&inbound.tags, vec![format!("{}:{}", at.address, at.port)]);
            rules.push(Rule::new("ClientSubset", summary.kind, place, subset(rule), &rule.conf, &rule.origins));
        }
    }
}

/// Outbounds that lead to the same are one.
fn of_outbounds(dataplane: &Dataplane, summary: &Summary, rules: &mut Vec<Rule>) {
    let mut by_name: BTreeMap<String, Rule> = BTreeMap::new();
    for outbound in tagged::outbounds(dataplane).filter(|outbound| outbound.tags.contains_key(SERVICE_TAG)) {
        let address = format!("{}:{}", outbound::address(outbound), outbound.port);
        let name = tags::cluster_name(&outbound.tags);
        if let Some(known) = by_name.get_mut(&name) {
            if !known.place.addresses.contains(&address) {
                known.place.addresses.push(address);
            }
        } else if let Some(rule) = policy::compute(&summary.to, &outbound.tags) {
            let place = Place::tagged(&outbound.tags, vec![address]);
            let rule = Rule::new("DestinationSubset", summary.kind, place, subset(rule), &rule.conf, &rule.origins);
            by_name.insert(name, rule);
        }
    }
    rules.extend(by_name.into_values());
}

/// What a rule is about.
#[derive(Default)]
struct Place {
    name: String,
    addresses: Vec<String>,
    tags: tags::Tags,
}

impl Place {
    fn tagged(tags: &tags::Tags, addresses: Vec<String>) -> Self {
        Self { name: tags::cluster_name(tags), addresses, tags: tags.clone() }
    }
}

struct Rule {
    of: &'static str,
    kind: Kind,
    place: Place,
    subset: Value,
    conf: Value,
    origins: Value,
}

impl Rule {
    fn new(of: &'static str, kind: Kind, place: Place, subset: Value, conf: &Value, origins: &[Origin]) -> Self {
        let origins = origins.iter().map(|origin| key(&origin.policy.meta)).collect();
        Self { of, kind, place, subset, conf: conf.clone(), origins }
    }

    fn shown(&self) -> Value {
        let mut shown = json!({"type": self.of});
        let Place { name, addresses, tags } = &self.place;
        if !name.is_empty() {
            shown["name"] = name.as_str().into();
            shown["addresses"] = addresses.clone().into();
            if let Some(service) = tags.get(SERVICE_TAG).filter(|service| !service.is_empty()) {
                shown["service"] = service.as_str().into();
            }
            shown["tags"] = json!(tags);
        }
        shown["policyType"] = self.kind.name().into();
        shown["subset"] = self.subset.clone();
        shown["conf"] = self.conf.clone();
        shown["origins"] = self.origins.clone();
        shown
    }
}

fn subset(rule: &SubsetRule<Value>) -> Value {
    let tag = |tag: &policy::Tag| (tag.key.clone(), format!("{}{}", if tag.not { "!" } else { "" }, tag.value).into());
    Value::Object(rule.subset.0.iter().map(tag).collect())
}

fn key(meta: &Meta) -> Value {
    json!({"mesh": &*meta.key.mesh, "name": &*meta.key.name})
}

fn find(api: &Api, call: &Call) -> Result<Seen, Problem> {
    let (snapshot, mesh) = (api.configuration(), call.name("mesh"));
    if snapshot.get(&Key::global(Kind::Mesh, mesh)).is_none() {
        return Err(Problem::not_found("Could not build MeshContext"));
    }
    let key = Key::new(Kind::Dataplane, mesh, call.name("name"));
    Seen::get(snapshot, &key, "Could not get MatchedPolicies")
}
