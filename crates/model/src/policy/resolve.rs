//! What a reference to a destination means: the resources, and which part of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kind::Kind;
use crate::kri::Kri;
use crate::labels;
use crate::resource::{Meta, Resource};
use crate::snapshot::Snapshot;
use crate::spec::target_ref::{BackendRef, TargetKind, TargetRef};
use crate::spec::{MeshMultiZoneService, MeshService};

/// A resource, or one of its ports.
#[derive(Clone, Debug)]
pub struct ResourceSection {
    /// The resource.
    pub resource: Arc<Resource>,
    /// Name of the port; empty for the whole.
    pub section: String,
}

impl ResourceSection {
    /// Its identifier; `None` for kinds that have none.
    pub fn kri(&self) -> Option<Kri> {
        Some(Kri::of(&self.resource.meta)?.with_section(&self.section))
    }
}

/// The kind of resource that a reference means; subsets and unknown kinds mean none.
fn resource_kind(kind: &TargetKind) -> Option<Kind> {
    match kind {
        TargetKind::Mesh => Some(Kind::Mesh),
        TargetKind::MeshService => Some(Kind::MeshService),
        TargetKind::MeshExternalService => Some(Kind::MeshExternalService),
        TargetKind::MeshMultiZoneService => Some(Kind::MeshMultiZoneService),
        TargetKind::MeshHttpRoute => Some(Kind::MeshHTTPRoute),
        TargetKind::Dataplane => Some(Kind::Dataplane),
        TargetKind::MeshGateway => Some(Kind::MeshGateway),
        TargetKind::MeshSubset | TargetKind::MeshServiceSubset | TargetKind::Other(_) => None,
    }
}

/// The identifier of what a policy refers to by name: what it does not say is its own.
pub(super) fn identifier(policy: &Meta, target: &TargetRef) -> Option<Kri> {
    let kind = resource_kind(&target.kind)?;
    let label = |key| policy.labels.get(key).unwrap_or_default().to_owned();
    let mesh = policy.key.mesh.to_string();
    if kind == Kind::Mesh {
        return Some(Kri { kind, name: mesh, ..empty(kind) });
    }
    let own_namespace = || label(labels::NAMESPACE);
    let namespace = target.namespace.clone().filter(|namespace| !namespace.is_empty()).unwrap_or_else(own_namespace);
    let name = target.name.clone().unwrap_or_default();
    Some(Kri { kind, mesh, zone: label(labels::ZONE), namespace, name, section: String::new() })
}

fn empty(kind: Kind) -> Kri {
    let nothing = String::new;
    Kri { kind, mesh: nothing(), zone: nothing(), namespace: nothing(), name: nothing(), section: nothing() }
}

/// What is asked of the resources of a kind.
pub(super) enum Query<'a> {
    Identifier(Kri),
    Labels(BTreeMap<&'a str, &'a str>),
}

/// The resources, or ports of them, that a policy's reference means, by name.
pub fn target(snapshot: &Snapshot, policy: &Meta, target: &TargetRef) -> Vec<ResourceSection> {
    let Some(kind) = resource_kind(&target.kind) else { return Vec::new() };
    let section = target.section_name.as_deref().unwrap_or_default();
    let by_labels = target.labels.as_ref().filter(|labels| !labels.is_empty());
    let mut port = None;
    let mut query = match by_labels {
        Some(labels) => Query::Labels(labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()),
        None => match identifier(policy, target) {
            Some(kri) => Query::Identifier(kri),
            None => return Vec::new(),
        },
    };
    // Policies of old name a service of Kubernetes by its tag, and mean the service it became.
    if kind == Kind::MeshService
        && section.is_empty()
        && let Some(tag) = target.name.as_deref().and_then(kubernetes_tag)
    {
        query = Query::Labels([(labels::NAMESPACE, tag.namespace), (labels::DISPLAY_NAME, tag.name)].into());
        port = tag.port;
    }
    let found = find(snapshot, kind, &policy.key.mesh, &query);
    if section.is_empty() && port.is_none() {
        return found.into_iter().map(|resource| ResourceSection { resource, section: String::new() }).collect();
    }
    found.into_iter().filter_map(|resource| with_port(resource, section, port)).collect()
}

pub(super) fn find(snapshot: &Snapshot, kind: Kind, mesh: &str, query: &Query<'_>) -> Vec<Arc<Resource>> {
    match query {
        Query::Identifier(kri) => {
            let same = |resource: &&Arc<Resource>| Kri::of(&resource.meta).as_ref() == Some(kri);
            snapshot.named(kind, mesh, &kri.name).filter(same).cloned().collect()
        }
        Query::Labels(wanted) => {
            let has_all = |resource: &&Arc<Resource>| {
                wanted.iter().all(|(key, value)| resource.meta.labels.get(key) == Some(*value))
            };
            snapshot.list_in(kind, mesh).filter(has_all).cloned().collect()
        }
    }
}

/// The port that a section's name or a number means; a resource without ports is meant as a whole.
fn with_port(resource: Arc<Resource>, section: &str, number: Option<i32>) -> Option<ResourceSection> {
    let ports = match ports(&resource) {
        Some(ports) => ports,
        None => return Some(ResourceSection { resource, section: String::new() }),
    };
    let wanted = |(port, name): &(i32, String)| number.map_or(name == section, |number| *port == number);
    let (_, name) = ports.into_iter().find(wanted)?;
    Some(ResourceSection { resource, section: name })
}

/// Numbers and names of a service's ports; `None` when the kind has none.
fn ports(resource: &Resource) -> Option<Vec<(i32, String)>> {
    let named = |port: i32, name: Option<&String>| {
        (port, name.filter(|name| !name.is_empty()).cloned().unwrap_or_else(|| port.to_string()))
    };
    match resource.kind() {
        Kind::MeshService => {
            let spec = resource.spec.json::<MeshService>().ok()?;
            Some(spec.ports.iter().map(|port| named(port.port, port.name.as_ref())).collect())
        }
        Kind::MeshMultiZoneService => {
            let spec = resource.spec.json::<MeshMultiZoneService>().ok()?;
            Some(spec.ports.iter().map(|port| named(port.port, port.name.as_ref())).collect())
        }
        Kind::MeshExternalService => {
            let spec = resource.spec.json::<crate::spec::MeshExternalService>().ok()?;
            Some(vec![named(spec.r#match.port, None)])
        }
        _ => None,
    }
}

/// `<name>_<namespace>_svc_<port>`, or without a port.
struct KubernetesTag<'a> {
    name: &'a str,
    namespace: &'a str,
    port: Option<i32>,
}

fn kubernetes_tag(service: &str) -> Option<KubernetesTag<'_>> {
    let parts: Vec<&str> = service.split('_').collect();
    match *parts.as_slice() {
        [name, namespace, _, port] => Some(KubernetesTag { name, namespace, port: Some(port.parse().ok()?) }),
        [name, namespace, _] => Some(KubernetesTag { name, namespace, port: None }),
        _ => None,
    }
}

/// The resource, and the section of it, that a route's back end means; `None` when it means a service by its tag or
/// nothing that is there. Of several that fit by their labels the oldest by name counts.
pub fn backend(snapshot: &Snapshot, policy: &Meta, backend: &BackendRef) -> Option<ResourceSection> {
    let target = &backend.target;
    let section = target.section_name.clone().filter(|section| !section.is_empty());
    let section = section.or_else(|| backend.port.map(|port| port.to_string()));
    if target.kind == TargetKind::MeshService && section.is_none() {
        return None;
    }
    let kind = resource_kind(&target.kind)?;
    let query = match target.labels.as_ref().filter(|labels| !labels.is_empty()) {
        Some(labels) => Query::Labels(labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()),
        None => Query::Identifier(identifier(policy, target)?),
    };
    let resource = find(snapshot, kind, &policy.key.mesh, &query).into_iter().next()?;
    Some(ResourceSection { resource, section: section.unwrap_or_default() })
}
