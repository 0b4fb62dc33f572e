//! Resources that users of the simulation write. Each carries the number of the write that made it, as a label, and in
//! its spec.

use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::Inbound;
use kds_proto::kuma::mesh::v1alpha1::zone_ingress::{self, AvailableService};
use kds_proto::kuma::mesh::v1alpha1::{Dataplane, Mesh, ZoneIngress, dataplane};
use kds_proto::kuma::system::v1alpha1::{Config, Secret};
use model::{Key, Kind, Labels, Payload, Resource, labels};

use super::oracle::{Author, Id};

/// Label with the number of the write.
pub(crate) const WRITE: &str = "sim/write";

/// The mesh that is never deleted; all zones work in it.
pub(crate) const MESH: &str = "default";

/// Name of the Secret that some zones have made themselves before the global does: they refuse the global's.
pub(crate) const TAKEN: &str = "taken";

/// Kinds that users of the global write, in some mesh.
pub(crate) const OF_GLOBAL: [Kind; 3] = [Kind::MeshTimeout, Kind::MeshRetry, Kind::Secret];
/// Kinds that come about in a zone.
pub(crate) const OF_ZONE: [Kind; 4] = [Kind::Dataplane, Kind::ZoneIngress, Kind::MeshService, Kind::MeshTimeout];

/// Whether a kind of a zone reaches the other zones; policies of a universal zone do not (kds-wire 4.7).
pub(crate) fn crosses_zones(kind: Kind) -> bool {
    matches!(kind, Kind::ZoneIngress | Kind::MeshService)
}

/// The Secret of that name.
pub(crate) fn taken(author: Author) -> Id {
    Id { author, kind: Kind::Secret, mesh: MESH.into(), name: TAKEN.into() }
}

/// The resource of one write.
pub(crate) fn resource(id: &Id, write: u64) -> Resource {
    let mut all: Vec<(&str, String)> = vec![(WRITE, write.to_string())];
    if !id.mesh.is_empty() {
        all.push((labels::MESH, id.mesh.to_string()));
    }
    if let Author::Zone(zone) = &id.author {
        all.push((labels::ORIGIN, labels::ORIGIN_ZONE.to_owned()));
        all.push((labels::ZONE, zone.to_string()));
    }
    let labels: Labels = all.iter().map(|(key, value)| (*key, value.as_str())).collect();
    Resource::new(Key::new(id.kind, &id.mesh, &id.name), labels, spec(id, write))
}

fn spec(id: &Id, write: u64) -> Payload {
    let json = |text: String| Payload::from_bytes(text.into_bytes());
    let number = u32::try_from(write % 1_000).unwrap_or_default() + 1;
    match id.kind {
        Kind::Mesh => Payload::from_message(&Mesh::default()),
        Kind::Secret => Payload::from_message(&Secret { data: Some(write.to_string().into_bytes()) }),
        Kind::Config => Payload::from_message(&Config { config: "the-global".to_owned() }),
        Kind::Dataplane => Payload::from_message(&proxy(number)),
        Kind::ZoneIngress => Payload::from_message(&ingress(id, number)),
        Kind::MeshService => json(format!(
            r#"{{"selector":{{"dataplaneTags":{{"kuma.io/service":"{}"}}}},"ports":[{{"port":{number},"targetPort":{number},"appProtocol":"http"}}]}}"#,
            id.name
        )),
        Kind::MeshRetry => json(format!(
            r#"{{"targetRef":{{"kind":"Mesh"}},"to":[{{"targetRef":{{"kind":"Mesh"}},"default":{{"tcp":{{"maxConnectAttempt":{number}}}}}}}]}}"#
        )),
        _ => json(format!(
            r#"{{"targetRef":{{"kind":"Mesh"}},"to":[{{"targetRef":{{"kind":"Mesh"}},"default":{{"connectionTimeout":"{number}s"}}}}]}}"#
        )),
    }
}

fn proxy(port: u32) -> Dataplane {
    let tags = [("kuma.io/service".to_owned(), "backend".to_owned())].into_iter().collect();
    let inbound = Inbound { port, tags, ..Inbound::default() };
    let networking =
        dataplane::Networking { address: "10.0.0.1".to_owned(), inbound: vec![inbound], ..Default::default() };
    Dataplane { networking: Some(networking), ..Dataplane::default() }
}

fn ingress(id: &Id, instances: u32) -> ZoneIngress {
    let networking = zone_ingress::Networking {
        address: "10.0.0.2".to_owned(),
        advertised_address: "192.0.2.1".to_owned(),
        port: 10_001,
        advertised_port: 10_001,
        ..zone_ingress::Networking::default()
    };
    let tags = [("kuma.io/service".to_owned(), "backend".to_owned())].into_iter().collect();
    let service = AvailableService { tags, instances, mesh: MESH.to_owned(), ..AvailableService::default() };
    let zone = match &id.author {
        Author::Zone(zone) => zone.to_string(),
        Author::Global => String::new(),
    };
    ZoneIngress { zone, networking: Some(networking), available_services: vec![service] }
}
