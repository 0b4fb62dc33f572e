//! `MeshTrafficPermission` and the older `TrafficPermission`: who may call (zone-dataplane 8.2).

use std::cmp::Reverse;
use std::sync::Arc;

use kds_proto::kuma::mesh::v1alpha1::TrafficPermission;
use model::policy::{InboundRule, Matched, Subset, SubsetRule, Tag};
use model::spec::MeshTrafficPermission;
use model::spec::inbound_match::Match;
use model::spec::mesh_traffic_permission::{Action, Conf, RuleConf};
use model::spec::tags::{self, ANY_VALUE, Tags};
use model::{Kind, Kri, Resource};

use crate::plan::Context;
use crate::view::View;

/// Who may call.
#[derive(Clone, Debug)]
pub enum Access {
    /// Whoever is in one of these groups; nobody when there is none.
    Groups {
        /// Who may.
        allow: Vec<Subset>,
        /// Who may, but would be refused: for the statistics.
        shadow_deny: Vec<Subset>,
    },
    /// By the client's identity, rule by rule.
    Rules(Vec<Rule>),
    /// What an older policy says, by its name; `None`: nothing, so nobody may.
    Older(Option<(String, Vec<Subset>)>),
}

/// One rule: who is refused, then who may.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The policy.
    pub name: String,
    /// Who is refused.
    pub deny: Vec<Match>,
    /// Who may.
    pub allow: Vec<Match>,
    /// Who may, but would be refused: for the statistics; `None`: not said.
    pub shadow_deny: Option<Vec<Match>>,
}

impl Rule {
    fn new(rule: &InboundRule<RuleConf>) -> Self {
        let RuleConf { deny, allow, allow_with_shadow_deny } = rule.conf.clone();
        let mut may = allow.unwrap_or_default();
        may.extend(allow_with_shadow_deny.iter().flatten().cloned());
        let kri = Kri::of(&rule.origin.policy.meta);
        Self {
            name: kri.map(|kri| kri.to_string()).unwrap_or_default(),
            deny: deny.unwrap_or_default(),
            allow: may,
            shadow_deny: allow_with_shadow_deny,
        }
    }
}

/// Who may call an inbound. The newer kind counts where any of it holds; then the older; else nobody may.
pub fn access(context: &Context<'_>, inbound: usize) -> Access {
    let matched = &context.policies.permission;
    let rules = matched.rules(inbound);
    if !rules.is_empty() {
        return Access::Rules(rules.iter().map(Rule::new).collect());
    }
    let inbounds = context.dataplane.networking.iter().flat_map(|networking| &networking.inbound);
    let older: Vec<Option<Arc<Resource>>> = inbounds.map(|inbound| older(&context.view, &inbound.tags)).collect();
    if matched.of_inbound(inbound).next().is_none() && older.iter().any(Option::is_some) {
        let permission = older.get(inbound).cloned().flatten();
        return Access::Older(permission.and_then(|permission| sources(&permission)));
    }
    groups(matched.from_rules(inbound))
}

fn groups(rules: Vec<SubsetRule<Conf>>) -> Access {
    let (mut allow, mut shadow_deny) = (Vec::new(), Vec::new());
    for rule in rules {
        match rule.conf.action {
            Some(Action::Allow) => allow.push(rule.subset),
            Some(Action::AllowWithShadowDeny) => shadow_deny.push(rule.subset),
            Some(Action::Deny) | None => {}
        }
    }
    allow.extend(shadow_deny.iter().cloned());
    Access::Groups { allow, shadow_deny }
}

/// Who may call a service outside the mesh through the egress: the newer kind counts where any of it says so by client.
pub fn of_external_service(view: &View<'_>, service: &str) -> Access {
    let tags: Tags = [(model::labels::SERVICE_TAG.to_owned(), service.to_owned())].into();
    let rules = Matched::<MeshTrafficPermission>::at_egress(view.snapshot, &view.name, Some(&tags)).from_rules(0);
    match older(view, &tags) {
        Some(permission) if rules.is_empty() => Access::Older(sources(&permission)),
        _ => groups(rules),
    }
}

/// The older policy that is closest to an inbound: the one that names most of its tags, the newest of equals.
fn older(view: &View<'_>, inbound: &Tags) -> Option<Arc<Resource>> {
    let best = |resource: &Arc<Resource>| {
        let policy = resource.spec.message::<TrafficPermission>().ok()?;
        let selectors = policy.destinations.iter().map(|selector| &selector.r#match);
        selectors.filter(|selector| tags::matches(selector, inbound)).map(tags::rank).max()
    };
    let all = view.snapshot.list_in(Kind::TrafficPermission, &view.name);
    let ranked = all.filter_map(|resource| Some((best(resource)?, resource)));
    ranked
        .max_by_key(|(rank, resource)| (*rank, resource.meta.created, Reverse(resource.meta.key.name.clone())))
        .map(|(_, resource)| Arc::clone(resource))
}

/// The stored name of an older policy and whom it lets in.
fn sources(policy: &Resource) -> Option<(String, Vec<Subset>)> {
    let spec = policy.spec.message::<TrafficPermission>().ok()?;
    let group = |selector: &Tags| {
        let told = selector.iter().filter(|(_, value)| *value != ANY_VALUE);
        let mut tags: Vec<Tag> =
            told.map(|(key, value)| Tag { key: key.clone(), value: value.clone(), not: false }).collect();
        // The service stands last.
        tags.sort_by_key(|tag| tag.key == model::labels::SERVICE_TAG);
        Subset(tags)
    };
    let groups = spec.sources.iter().map(|selector| group(&selector.r#match)).collect();
    Some((policy.meta.key.name.to_string(), groups))
}
