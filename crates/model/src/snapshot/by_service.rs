//! Which resources have a service of old, the tag `kuma.io/service`.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;
use kds_proto::kuma::mesh::v1alpha1::{Dataplane, ZoneIngress};
use prost::Message;

use crate::kind::Kind;
use crate::labels::SERVICE_TAG;
use crate::resource::Resource;

/// One entry for each service of each Dataplane and ZoneIngress.
///
/// Content is decoded to be indexed and not kept: on the global nobody asks for it again.
#[derive(Clone, Debug, Default)]
pub(super) struct ByService(OrdMap<Place, Arc<Resource>>);

/// Where an entry stands in the order of the index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    kind: Kind,
    service: Service,
    name: Arc<str>,
}

/// A service of a mesh.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Service {
    mesh: Arc<str>,
    name: Arc<str>,
}

impl ByService {
    /// Resources of a kind that have a service of a mesh, by name.
    pub(super) fn get<'a>(
        &'a self,
        kind: Kind,
        mesh: &'a str,
        service: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Resource>> {
        let same =
            move |place: &Place| place.kind == kind && *place.service.mesh == *mesh && *place.service.name == *service;
        self.from(kind, mesh, service).take_while(move |(place, _)| same(place)).map(|(_, resource)| resource)
    }

    fn from<'a>(
        &'a self,
        kind: Kind,
        mesh: &str,
        service: &str,
    ) -> impl Iterator<Item = (&'a Place, &'a Arc<Resource>)> + use<'a> {
        let first = Place { kind, service: Service { mesh: mesh.into(), name: service.into() }, name: "".into() };
        self.0.range((Bound::Included(first), Bound::Unbounded))
    }

    /// Forgets one resource and learns another of the same key.
    pub(super) fn replace(&mut self, before: Option<&Arc<Resource>>, after: Option<&Arc<Resource>>) {
        let old = before.map(services).unwrap_or_default();
        let new = after.map(services).unwrap_or_default();
        for service in old.difference(&new) {
            if let Some(resource) = before {
                self.0.remove(&self.place(service, resource));
            }
        }
        for service in &new {
            if let Some(resource) = after {
                self.0.insert(self.place(service, resource), Arc::clone(resource));
            }
        }
    }

    /// Names that are there already are shared: a service has many instances.
    fn place(&self, (mesh, name): &(Arc<str>, String), resource: &Resource) -> Place {
        let kind = resource.kind();
        let known = self.from(kind, mesh, name).next().map(|(place, _)| &place.service);
        let service = match known {
            Some(known) if known.mesh == *mesh && *known.name == **name => known.clone(),
            _ => Service { mesh: Arc::clone(mesh), name: name.as_str().into() },
        };
        Place { kind, service, name: Arc::clone(&resource.meta.key.name) }
    }
}

/// Meshes and names of the services that a resource has; none when it does not decode.
fn services(resource: &Arc<Resource>) -> BTreeSet<(Arc<str>, String)> {
    let content = resource.spec.bytes().as_ref();
    match resource.kind() {
        Kind::Dataplane => {
            let networking = Dataplane::decode(content).unwrap_or_default().networking.unwrap_or_default();
            let inbounds = networking.inbound.into_iter().map(|inbound| inbound.tags);
            let gateway = networking.gateway.into_iter().map(|gateway| gateway.tags);
            let service = |mut tags: TagMap| Some((Arc::clone(&resource.meta.key.mesh), tags.remove(SERVICE_TAG)?));
            inbounds.chain(gateway).filter_map(service).collect()
        }
        Kind::ZoneIngress => {
            let offered = ZoneIngress::decode(content).unwrap_or_default().available_services;
            offered
                .into_iter()
                .filter_map(|mut offer| Some((offer.mesh.into(), offer.tags.remove(SERVICE_TAG)?)))
                .collect()
        }
        _ => BTreeSet::new(),
    }
}

/// Tags as the messages have them.
type TagMap = std::collections::BTreeMap<String, String>;
