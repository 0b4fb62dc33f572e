//! The outbounds of a `Dataplane` and the backends that it may reach.

use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::Outbound;
use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::outbound::BackendRef;
use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::transparent_proxying::{
    ReachableBackendRef, ReachableBackends,
};

use crate::name;
use crate::spec::address::check_port;
use crate::spec::formats::is_ip;
use crate::spec::tags::Rules;
use crate::violation::{Path, Violations};

/// Kinds that a backend can be of.
const BACKENDS: [&str; 3] = ["MeshExternalService", "MeshMultiZoneService", "MeshService"];

/// Where an outbound listens; on the loopback address unless it says otherwise.
pub fn address(outbound: &Outbound) -> &str {
    if outbound.address.is_empty() { "127.0.0.1" } else { &outbound.address }
}

/// Adds what is wrong with an outbound, which leads to a backend or to whatever has its tags.
pub(super) fn check(at: &Path, outbound: &Outbound, found: &mut Violations) {
    check_port(&at.field("port"), outbound.port, found);
    if !outbound.address.is_empty() {
        check_ip(&at.field("address"), "address", &outbound.address, found);
    }
    match &outbound.backend_ref {
        Some(backend) => check_backend(&at.field("backendRef"), backend, found),
        None => Rules::OF_SERVICE.check(&at.field("tags"), &outbound.tags, found),
    }
    if outbound.backend_ref.is_some() && !outbound.tags.is_empty() {
        found.add(&at.field("backendRef"), "both backendRef and tags/service cannot be defined");
    }
}

fn check_backend(at: &Path, backend: &BackendRef, found: &mut Violations) {
    check_kind(&at.field("kind"), &backend.kind, found);
    if backend.name.is_empty() && backend.labels.is_empty() {
        found.add(at, "either 'name' or 'labels' should be specified");
    }
    // That of an external service comes from its endpoints.
    if backend.kind != "MeshExternalService" {
        check_port(&at.field("port"), backend.port, found);
    }
}

/// Adds what is wrong with the backends that a transparent proxy is to know.
pub(super) fn check_reachable(at: &Path, reachable: &ReachableBackends, found: &mut Violations) {
    for (position, backend) in reachable.refs.iter().enumerate() {
        check_reachable_backend(&at.index(position), backend, found);
    }
}

fn check_reachable_backend(at: &Path, backend: &ReachableBackendRef, found: &mut Violations) {
    check_kind(&at.field("kind"), &backend.kind, found);
    let (has_name, has_namespace, has_labels) =
        (!backend.name.is_empty(), !backend.namespace.is_empty(), !backend.labels.is_empty());
    let name = at.field("name");
    if let Some(reason) = name::check(&backend.name).filter(|_| has_name) {
        found.add(&name, reason);
    }
    if !has_name && !has_namespace && !has_labels {
        found.add(&name, "name or labels are required");
    }
    if !has_name && has_namespace {
        found.add(&name, "name is required, when namespace is defined");
    }
    if (has_name || has_namespace) && has_labels {
        found.add(&at.field("labels"), "labels cannot be defined when name is specified");
    }
}

fn check_kind(at: &Path, kind: &str, found: &mut Violations) {
    if !BACKENDS.contains(&kind) {
        found.add(at, format!("invalid value. Available values are: {}", BACKENDS.join(",")));
    }
}

/// Adds a fault when an address is no IP address.
pub(super) fn check_ip(at: &Path, name: &str, address: &str, found: &mut Violations) {
    if !is_ip(address) {
        found.add(at, format!("{name} has to be valid IP address"));
    }
}
