//! Which policies of a kind hold for a proxy.

use std::sync::Arc;

use kds_proto::kuma::mesh::v1alpha1::Dataplane;
use serde::Deserialize;

use crate::kind::Kind;
use crate::kri::Kri;
use crate::labels;
use crate::policy::order::{self, Role};
use crate::policy::{Origin, resolve};
use crate::resource::{Meta, Resource};
use crate::snapshot::Snapshot;
use crate::spec::dataplane::{self, section_name};
use crate::spec::tags::{self, Tags};
use crate::spec::target_ref::{Policy, ProxyType, TargetKind, TargetRef};
use crate::spec::{MeshHttpRoute, mesh_gateway};

/// A proxy as policies see it.
#[derive(Clone, Copy, Debug)]
pub struct Proxy<'a> {
    /// Who it is, and its labels.
    pub meta: &'a Meta,
    /// What it is.
    pub dataplane: &'a Dataplane,
}

/// The policies of one kind that hold for a proxy, the weakest first.
#[derive(Debug)]
pub struct Matched<P> {
    policies: Vec<MatchedPolicy<P>>,
    inbounds: usize,
    warnings: Vec<String>,
}

/// A policy that holds for a proxy.
#[derive(Debug)]
pub struct MatchedPolicy<P> {
    /// The policy.
    pub resource: Arc<Resource>,
    /// Its content.
    pub spec: Arc<P>,
    /// The inbounds that it holds for, as positions in the dataplane's list.
    pub inbounds: Vec<usize>,
}

impl<P> MatchedPolicy<P> {
    /// One of its items as an origin.
    pub fn origin(&self, index: usize) -> Origin {
        Origin { policy: Arc::clone(&self.resource), index }
    }
}

impl<P: Policy> Matched<P> {
    /// Looks through the policies of `P`'s kind in the proxy's mesh. Those that only count in a dry run
    /// (`kuma.io/effect: shadow`) are passed over unless `shadow`; what does not decode is passed over.
    pub fn new(snapshot: &Snapshot, proxy: Proxy<'_>, shadow: bool) -> Self {
        let inbounds = proxy.dataplane.networking.as_ref().map_or(0, |networking| networking.inbound.len());
        let mut matched = Self { policies: Vec::new(), inbounds, warnings: Vec::new() };
        for resource in snapshot.list_in(P::KIND, &proxy.meta.key.mesh) {
            if !shadow && resource.meta.labels.get(labels::EFFECT) == Some("shadow") {
                continue;
            }
            let Ok(spec) = resource.spec.json::<P>() else { continue };
            match select(snapshot, &resource.meta, spec.target_ref(), proxy) {
                Ok(Some(inbounds)) => {
                    matched.policies.push(MatchedPolicy { resource: Arc::clone(resource), spec, inbounds });
                }
                Ok(None) => {}
                Err(Unresolved(name)) => {
                    let Meta { key, .. } = &resource.meta;
                    matched.warnings.push(format!(
                        "unable to resolve TargetRef on policy: mesh:{} name:{} error:\"couldn't resolve MeshHTTPRoute targetRef with name '{name}'\"",
                        key.mesh, key.name
                    ));
                }
            }
        }
        matched.sort();
        matched
    }

    /// The policies that a zone's egress goes by, which has no dataplane: those about a service with these tags, or with
    /// `None` all of the mesh.
    pub fn at_egress(snapshot: &Snapshot, mesh: &str, service: Option<&Tags>) -> Self {
        let mut matched = Self { policies: Vec::new(), inbounds: 1, warnings: Vec::new() };
        for resource in snapshot.list_in(P::KIND, mesh) {
            let Ok(spec) = resource.spec.json::<P>() else { continue };
            let is_about = |tags| spec.target_ref().is_none_or(|target| describes(target, tags));
            if resource.meta.labels.get(labels::EFFECT) != Some("shadow") && service.is_none_or(is_about) {
                matched.policies.push(MatchedPolicy { resource: Arc::clone(resource), spec, inbounds: vec![0] });
            }
        }
        matched.sort();
        matched
    }

    fn sort(&mut self) {
        self.policies.sort_by(|a, b| {
            order::by_attributes((a.spec.target_ref(), &a.resource.meta), (b.spec.target_ref(), &b.resource.meta))
                .then_with(|| order::by_name(&a.resource.meta, &b.resource.meta))
        });
    }
}

/// Whether a policy with a `targetRef` holds for a proxy, be it only in a dry run. `false` for what does not decode.
pub fn holds(snapshot: &Snapshot, policy: &Resource, proxy: Proxy<'_>) -> bool {
    /// What every such policy begins with.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Top {
        target_ref: Option<TargetRef>,
    }
    let Ok(top) = serde_json::from_slice::<Top>(policy.spec.bytes()) else { return false };
    matches!(select(snapshot, &policy.meta, top.target_ref.as_ref(), proxy), Ok(Some(_)))
}

/// Whether a reference describes a service by its tags.
pub fn describes(target: &TargetRef, service: &Tags) -> bool {
    let no_tags = Tags::new();
    let selector = target.tags.as_ref().unwrap_or(&no_tags);
    let named = || target.name.as_ref() == service.get(labels::SERVICE_TAG);
    match target.kind {
        TargetKind::Mesh => true,
        TargetKind::MeshSubset => tags::matches(selector, service),
        TargetKind::MeshService => named(),
        TargetKind::MeshServiceSubset => named() && tags::matches(selector, service),
        _ => false,
    }
}

impl<P> Matched<P> {
    /// The policies, the weakest first.
    pub fn policies(&self) -> &[MatchedPolicy<P>] {
        &self.policies
    }

    /// Those that hold for one inbound, the weakest first.
    pub fn of_inbound(&self, inbound: usize) -> impl Iterator<Item = &MatchedPolicy<P>> {
        self.policies.iter().filter(move |policy| policy.inbounds.contains(&inbound))
    }

    /// How many inbounds the proxy has.
    pub fn inbounds(&self) -> usize {
        self.inbounds
    }

    /// What could not be followed.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// A reference to a route that is not there, by its name.
struct Unresolved(String);

/// The inbounds that a policy holds for; `None` when it does not hold for the proxy at all. A delegated gateway may be
/// selected without any inbound.
fn select(
    snapshot: &Snapshot,
    policy: &Meta,
    target: Option<&TargetRef>,
    proxy: Proxy<'_>,
) -> Result<Option<Vec<usize>>, Unresolved> {
    if !reaches_zone(policy, proxy.meta) || !reaches_namespace(policy, proxy.meta) {
        return Ok(None);
    }
    let mesh = TargetRef::of(TargetKind::Mesh);
    let target = target.unwrap_or(&mesh);
    let no_tags = Tags::new();
    let tags = target.tags.as_ref().unwrap_or(&no_tags);
    Ok(match &target.kind {
        TargetKind::Mesh if includes(target, proxy) => by_tags(snapshot, &no_tags, proxy),
        TargetKind::MeshSubset if includes(target, proxy) => by_tags(snapshot, tags, proxy),
        TargetKind::MeshService | TargetKind::MeshServiceSubset => {
            let mut all = if target.kind == TargetKind::MeshServiceSubset { tags.clone() } else { no_tags };
            all.insert(labels::SERVICE_TAG.to_owned(), target.name.clone().unwrap_or_default());
            by_tags(snapshot, &all, proxy)
        }
        TargetKind::Dataplane => by_identity(policy, target, proxy),
        TargetKind::MeshGateway => {
            let gateway = mesh_gateway::of(snapshot, proxy.meta, proxy.dataplane);
            let name = target.name.as_deref().unwrap_or_default();
            gateway.filter(|gateway| gateway.meta.display_name() == name).and_then(|_| by_tags(snapshot, tags, proxy))
        }
        TargetKind::MeshHttpRoute => {
            let name = target.name.as_deref().unwrap_or_default();
            let route = snapshot.named(Kind::MeshHTTPRoute, &policy.key.mesh, name).next();
            let route = route.and_then(|route| Some((route, route.spec.json::<MeshHttpRoute>().ok()?)));
            let Some((route, spec)) = route else { return Err(Unresolved(name.to_owned())) };
            // A route cannot refer to a route: this goes one step deep.
            let top = spec.target_ref().filter(|top| top.kind != TargetKind::MeshHttpRoute);
            return select(snapshot, &route.meta, top, proxy);
        }
        _ => None,
    })
}

/// A zone's policies are about its own proxies, except those that a producer writes for its clients everywhere.
fn reaches_zone(policy: &Meta, proxy: &Meta) -> bool {
    let of_zone = |meta: &Meta| meta.labels.get(labels::ORIGIN) == Some(labels::ORIGIN_ZONE);
    if order::role(&policy.labels) == Role::Producer || !of_zone(proxy) || !of_zone(policy) {
        return true;
    }
    match (policy.zone(), proxy.zone()) {
        (Some(policy), Some(proxy)) => policy == proxy,
        // Before 2.8 resources of a zone did not name it.
        _ => true,
    }
}

fn reaches_namespace(policy: &Meta, proxy: &Meta) -> bool {
    match order::role(&policy.labels) {
        Role::Consumer | Role::WorkloadOwner => {
            let namespace = policy.labels.get(labels::NAMESPACE);
            namespace.is_some_and(|namespace| namespace == proxy.labels.get(labels::NAMESPACE).unwrap_or_default())
        }
        Role::System | Role::Producer | Role::Other => true,
    }
}

fn includes(target: &TargetRef, proxy: Proxy<'_>) -> bool {
    let types = target.proxy_types.as_deref().unwrap_or_default();
    let own = match dataplane::role(proxy.dataplane) {
        dataplane::Role::Sidecar => ProxyType::Sidecar,
        dataplane::Role::DelegatedGateway | dataplane::Role::BuiltinGateway => ProxyType::Gateway,
    };
    types.is_empty() || types.contains(&own)
}

fn by_tags(snapshot: &Snapshot, selector: &Tags, proxy: Proxy<'_>) -> Option<Vec<usize>> {
    let networking = proxy.dataplane.networking.as_ref()?;
    let chosen = |(position, tags): (usize, &Tags)| tags::matches(selector, tags).then_some(position);
    let inbounds: Vec<usize> =
        networking.inbound.iter().map(|inbound| &inbound.tags).enumerate().filter_map(chosen).collect();
    let gateway = match dataplane::role(proxy.dataplane) {
        dataplane::Role::BuiltinGateway => {
            let gateway = mesh_gateway::of(snapshot, proxy.meta, proxy.dataplane);
            let listeners = gateway.map(|gateway| mesh_gateway::listener_tags(gateway, proxy.dataplane));
            listeners.iter().flatten().any(|tags| tags::matches(selector, tags))
        }
        _ => networking.gateway.as_ref().is_some_and(|gateway| tags::matches(selector, &gateway.tags)),
    };
    (gateway || !inbounds.is_empty()).then_some(inbounds)
}

/// Selection of a proxy itself: by name, by labels, or any.
fn by_identity(policy: &Meta, target: &TargetRef, proxy: Proxy<'_>) -> Option<Vec<usize>> {
    let role = dataplane::role(proxy.dataplane);
    if role == dataplane::Role::BuiltinGateway {
        return None;
    }
    let is_set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let any = !is_set(&target.name) && !is_set(&target.namespace) && target.labels.is_none();
    let named = || is_set(&target.name) && Kri::of(proxy.meta) == resolve::identifier(policy, target);
    let labelled = || {
        let labels = target.labels.as_ref();
        labels.is_some_and(|labels| {
            labels.iter().all(|(key, value)| proxy.meta.labels.get(key).unwrap_or_default() == value)
        })
    };
    if !(any || named() || labelled()) {
        return None;
    }
    let section = target.section_name.as_deref().unwrap_or_default();
    let networking = proxy.dataplane.networking.as_ref()?;
    let inbounds: Vec<usize> = networking
        .inbound
        .iter()
        .enumerate()
        .filter(|(_, inbound)| section.is_empty() || section_name(inbound) == section)
        .map(|(position, _)| position)
        .collect();
    (role == dataplane::Role::DelegatedGateway || !inbounds.is_empty()).then_some(inbounds)
}
