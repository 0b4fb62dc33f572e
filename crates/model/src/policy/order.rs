//! Which of two policies is stronger.

use std::cmp::Ordering;

use crate::labels::{self, Labels};
use crate::resource::Meta;
use crate::spec::target_ref::{TargetKind, TargetRef};

/// Where a kind of reference stands, the widest first.
fn rank(kind: &TargetKind) -> u8 {
    match kind {
        TargetKind::Other(_) => 0,
        TargetKind::Mesh => 1,
        TargetKind::Dataplane => 2,
        TargetKind::MeshSubset => 3,
        TargetKind::MeshGateway => 4,
        TargetKind::MeshService => 5,
        TargetKind::MeshExternalService => 6,
        TargetKind::MeshMultiZoneService => 7,
        TargetKind::MeshServiceSubset => 8,
        TargetKind::MeshHttpRoute => 9,
    }
}

/// A zone's own word weighs more than the global's.
fn origin_rank(labels: &Labels) -> u8 {
    match labels.get(labels::ORIGIN) {
        Some(labels::ORIGIN_GLOBAL) => 1,
        Some(labels::ORIGIN_ZONE) => 3,
        _ => 2,
    }
}

/// The nearer the author to the workload, the more weight.
fn role_rank(labels: &Labels) -> u8 {
    match role(labels) {
        Role::System => 1,
        Role::Producer => 2,
        Role::Consumer => 3,
        Role::WorkloadOwner => 4,
        Role::Other => 0,
    }
}

/// Who wrote a policy, relative to the proxies that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    System,
    Producer,
    Consumer,
    WorkloadOwner,
    Other,
}

pub(super) fn role(labels: &Labels) -> Role {
    match labels.get(labels::POLICY_ROLE).unwrap_or_default() {
        "" | "system" => Role::System,
        "producer" => Role::Producer,
        "consumer" => Role::Consumer,
        "workload-owner" => Role::WorkloadOwner,
        _ => Role::Other,
    }
}

/// Among references to dataplanes: labels before a name, the whole before a section.
fn dataplane_rank(target: &TargetRef) -> (u8, bool) {
    let by_name = target.name.as_ref().is_some_and(|name| !name.is_empty());
    let named = match (by_name, &target.labels) {
        (true, _) => 2,
        (false, Some(_)) => 1,
        (false, None) => 0,
    };
    (named, target.section_name.as_ref().is_some_and(|section| !section.is_empty()))
}

/// A policy as it is compared: its top level and itself.
pub(super) type Ranked<'a> = (Option<&'a TargetRef>, &'a Meta);

/// Compares by kind of top level, origin and role, the weaker first; names do not count.
pub(super) fn by_attributes((a, a_meta): Ranked<'_>, (b, b_meta): Ranked<'_>) -> Ordering {
    let kind = |target: Option<&TargetRef>| rank(target.map_or(&TargetKind::Mesh, |target| &target.kind));
    let by_kind = kind(a).cmp(&kind(b));
    let among_dataplanes = || match (a, b) {
        (Some(a), Some(b)) if a.kind == TargetKind::Dataplane && b.kind == TargetKind::Dataplane => {
            compare_dataplanes(a, b)
        }
        _ => Ordering::Equal,
    };
    by_kind
        .then_with(among_dataplanes)
        .then_with(|| origin_rank(&a_meta.labels).cmp(&origin_rank(&b_meta.labels)))
        .then_with(|| among_gateways(a, b))
        .then_with(|| role_rank(&a_meta.labels).cmp(&role_rank(&b_meta.labels)))
}

fn compare_dataplanes(a: &TargetRef, b: &TargetRef) -> Ordering {
    let ((a_named, a_section), (b_named, b_section)) = (dataplane_rank(a), dataplane_rank(b));
    // One that says neither is not weaker than one that says either; only a name is stronger than labels.
    let named = if a_named != 0 && b_named != 0 { a_named.cmp(&b_named) } else { Ordering::Equal };
    named.then(a_section.cmp(&b_section))
}

fn among_gateways(a: Option<&TargetRef>, b: Option<&TargetRef>) -> Ordering {
    let tags = |target: Option<&TargetRef>| match target {
        Some(target) if target.kind == TargetKind::MeshGateway => target.tags.as_ref().map_or(0, |tags| tags.len()),
        _ => 0,
    };
    tags(a).cmp(&tags(b))
}

/// Compares by name; the one that comes first in the alphabet is the stronger and so comes last.
pub(super) fn by_name(a: &Meta, b: &Meta) -> Ordering {
    b.display_name().cmp(a.display_name())
}

/// Compares by what an item of `to` is about, the wider first.
pub(super) fn by_destination(a: &TargetRef, b: &TargetRef) -> Ordering {
    let section = |target: &TargetRef| {
        target.kind == TargetKind::MeshService && target.section_name.as_ref().is_some_and(|name| !name.is_empty())
    };
    rank(&a.kind).cmp(&rank(&b.kind)).then_with(|| section(a).cmp(&section(b)))
}
