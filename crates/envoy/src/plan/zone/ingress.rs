//! Traffic into the zone (zone-dataplane 5.4).

use std::collections::{BTreeMap, BTreeSet};

use kds_proto::kuma::mesh::v1alpha1::{Mesh, ZoneIngress};
use model::labels::SERVICE_TAG;
use model::policy::ResourceSection;
use model::spec::tags::Tags;
use model::{Kind, Resource};

use super::destinations::{self, Destinations};
use super::{Gate, GateChain, Passage, Zone, skeleton, unreadable};
use crate::destination::{Port, is_local, ports};
use crate::input::{Error, Input};
use crate::names::{self, Naming};
use crate::plan::{Assignment, Plan};
use crate::view::View;

/// The plan of an ingress.
///
/// # Errors
/// Its resource cannot be read.
pub fn plan(input: Input<'_>) -> Result<Plan, Error> {
    let ingress = input.resource.spec.message::<ZoneIngress>().map_err(|error| unreadable(input, error))?;
    let networking = ingress.networking.clone().unwrap_or_default();
    let naming = if input.node.features.unified_naming { Naming::Unified } else { Naming::Legacy };
    let mut passages = BTreeMap::new();
    let mut chains = Vec::new();
    for mesh in input.snapshot.list(Kind::Mesh) {
        if mesh.spec.message::<Mesh>().is_err() {
            continue;
        }
        let view = View::of_ingress(input.snapshot, input.settings, &mesh.meta.key.name)?;
        let offered: Vec<&Tags> = ingress
            .available_services
            .iter()
            .filter(|service| service.mesh == view.name)
            .map(|service| &service.tags)
            .collect();
        let mut known = BTreeSet::new();
        chains.extend(of_tags(&view, &offered, &mut known, &mut passages));
        chains.extend(of_resources(&view, naming, &mut known, &mut passages));
    }
    let unified = format!("self_inbound_zi_{}", networking.port);
    let legacy = names::inbound_listener(&networking.address, networking.port);
    let greeting = chains.is_empty().then(|| {
        let proxy = format!(".{}", input.resource.meta.key.name);
        serde_json::json!({ "proxy": proxy, "zone": input.settings.zone }).to_string()
    });
    let gate = Gate {
        name: naming.pick(&legacy, &unified).to_owned(),
        stat_prefix: (naming == Naming::Unified).then_some(unified),
        address: networking.address.clone(),
        port: networking.port,
        chains,
        greeting,
    };
    let zone = Zone { gate: Some(gate), passages };
    Ok(skeleton(input, &networking.address, zone, BTreeMap::new()))
}

/// Services by their tag, as this ingress offers them.
fn of_tags(
    view: &View<'_>,
    offered: &[&Tags],
    known: &mut BTreeSet<String>,
    passages: &mut BTreeMap<String, Passage>,
) -> Vec<GateChain> {
    let destinations = Destinations::new(view, offered.iter().copied());
    let mut all = Vec::new();
    let mut seen = BTreeSet::new();
    for service in offered.iter().filter_map(|tags| tags.get(SERVICE_TAG)) {
        if !seen.insert(service) {
            continue;
        }
        let endpoints = view.service_endpoints(service, &Tags::new());
        let chains = destinations::chains(view, &destinations, service, &endpoints, known);
        let assignment = Assignment { endpoints, overprovisioning: None };
        add(passages, names::mesh_cluster(&view.name, service), assignment, &chains);
        all.extend(chains);
    }
    all
}

/// Every port of the zone's own services, and of those of several zones.
fn of_resources(
    view: &View<'_>,
    naming: Naming,
    known: &mut BTreeSet<String>,
    passages: &mut BTreeMap<String, Passage>,
) -> Vec<GateChain> {
    let own =
        view.snapshot.list_in(Kind::MeshService, &view.name).filter(|service| is_local(&service.meta, view.zone()));
    let of_several = view.snapshot.list_in(Kind::MeshMultiZoneService, &view.name);
    let mut chains = Vec::new();
    for port in own.chain(of_several).flat_map(all_ports) {
        let sni = port.sni(view.settings.system_namespace.as_deref());
        if !known.insert(sni.clone()) {
            continue;
        }
        let name = naming.pick(&port.service(), &port.named().to_string()).to_owned();
        let assignment = Assignment { endpoints: port.endpoints(view), overprovisioning: None };
        add(passages, name.clone(), assignment, &[]);
        chains.push(GateChain { sni, cluster: name, subset: Tags::new(), terminated: None });
    }
    chains
}

/// Every port of a service.
pub(super) fn all_ports(resource: &std::sync::Arc<Resource>) -> Vec<Port> {
    let section = |(section, _, _)| Port::find(&ResourceSection { resource: std::sync::Arc::clone(resource), section });
    ports(resource).into_iter().filter_map(section).collect()
}

/// Adds the cluster of a service.
pub(super) fn add(
    passages: &mut BTreeMap<String, Passage>,
    name: String,
    assignment: Assignment,
    chains: &[GateChain],
) {
    let passage = Passage { name: name.clone(), assignment, keys: destinations::keys(chains) };
    passages.insert(name, passage);
}
