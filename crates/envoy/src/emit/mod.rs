//! Envoy resources from a plan. Nothing here looks at a snapshot or a policy's rules, and nothing is emitted twice.

mod admin;
mod cluster;
mod endpoint;
mod filter;
mod gate;
mod listener;
mod rbac;
mod redirect;
mod route;
mod secret;
mod tls;

use kds_proto::Any;
use kds_proto::envoy::config::core::v3::{Address, Metadata, Pipe, SocketAddress, address, socket_address};
use model::spec::tags::Tags;
use prost::{Message, Name};
use prost_types::value::Kind;
use prost_types::{Struct, Value};

use crate::plan::{Discovery, Plan};
use crate::resource::{Configuration, Emitted, Type};

/// Everything that a plan asks for.
pub fn configuration(plan: &Plan) -> Configuration {
    let mut resources = Vec::new();
    for inbound in &plan.inbounds {
        let listener = listener::inbound(plan, inbound);
        resources.push(Emitted::new(Type::Listener, &listener.name, &listener));
        let cluster = cluster::workload(inbound);
        resources.push(Emitted::new(Type::Cluster, &cluster.name, &cluster));
    }
    for outbound in &plan.outbounds {
        let listener = listener::outbound(plan, outbound);
        resources.push(Emitted::new(Type::Listener, &listener.name, &listener));
    }
    for planned in plan.clusters.values() {
        let cluster = cluster::destination(plan, planned);
        resources.push(Emitted::new(Type::Cluster, &cluster.name, &cluster));
        if let Discovery::Eds(assignment) = &planned.discovery {
            let assignment = endpoint::assignment(&planned.name, assignment);
            resources.push(Emitted::new(Type::Endpoint, &planned.name, &assignment));
        }
    }
    if let Some(redirect) = &plan.redirect {
        resources.extend(redirect::resources(plan, redirect));
    }
    resources.extend(plan.names.as_ref().map(|names| redirect::names(plan, names)));
    if let Some(gate) = &plan.zone.gate {
        let listener = gate::listener(plan, gate);
        resources.push(Emitted::new(Type::Listener, &listener.name, &listener));
    }
    for passage in plan.zone.passages.values() {
        resources.push(Emitted::new(Type::Cluster, &passage.name, &cluster::passage(passage)));
        let assignment = endpoint::assignment(&passage.name, &passage.assignment);
        resources.push(Emitted::new(Type::Endpoint, &passage.name, &assignment));
    }
    if let Some(admin) = &plan.admin {
        resources.extend(admin::resources(plan, admin));
    }
    resources.extend(secret::resources(plan));
    Configuration::new(resources)
}

/// A message under its type, as extensions carry theirs.
fn any<M: Message + Name>(message: &M) -> Any {
    Any::pack(message)
}

/// An address and a port.
fn socket(address: &str, port: u32) -> Address {
    Address { address: Some(address::Address::SocketAddress(socket_address(address, port))) }
}

fn socket_address(address: &str, port: u32) -> SocketAddress {
    SocketAddress {
        address: address.to_owned(),
        port_specifier: Some(socket_address::PortSpecifier::PortValue(port)),
        ..SocketAddress::default()
    }
}

/// The path of a socket.
fn pipe(path: &str) -> Address {
    Address { address: Some(address::Address::Pipe(Pipe { path: path.to_owned(), mode: 0 })) }
}

/// Tags as metadata.
fn texts(tags: &Tags) -> Struct {
    let text = |value: &String| Value { kind: Some(Kind::StringValue(value.clone())) };
    Struct { fields: tags.iter().map(|(key, value)| (key.clone(), text(value))).collect() }
}

/// Metadata of one or more names, all of them the same tags; none when there are no tags.
fn metadata(names: &[&str], tags: &Tags) -> Option<Metadata> {
    let filter_metadata = names.iter().map(|name| ((*name).to_owned(), texts(tags))).collect();
    (!tags.is_empty()).then(|| Metadata { filter_metadata, ..Metadata::default() })
}
