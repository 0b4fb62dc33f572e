//! Messages of a global, made by hand.

use discovery::kds::node::Introduction;
use kds_proto::Any;
use kds_proto::envoy::config::core::v3::{ControlPlane, Node};
use kds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use kds_proto::kuma::mesh::v1alpha1::{KumaResource, Mesh, kuma_resource::Meta};
use kds_proto::kuma::system::v1alpha1::{Config, Secret};

/// A resource on its way down, labelled as the global's.
pub fn resource(mesh: &str, name: &str, spec: Any) -> Resource {
    let labels = [("kuma.io/origin".to_owned(), "global".to_owned())].into_iter().collect();
    let meta = Meta { name: name.to_owned(), mesh: mesh.to_owned(), labels, ..Meta::default() };
    let packed = KumaResource { meta: Some(meta), spec: Some(spec), status: None };
    Resource {
        name: format!("{name}.{mesh}"),
        version: "v".to_owned(),
        resource: Some(Any::pack(&packed)),
        ..Resource::default()
    }
}

pub fn mesh(name: &str) -> Resource {
    resource("", name, Any::pack(&Mesh::default()))
}

pub fn cluster_id(id: &str) -> Resource {
    resource("", "kuma-cluster-id", Any::pack(&Config { config: id.to_owned() }))
}

pub fn secret(mesh: &str, name: &str, data: &str) -> Resource {
    resource(mesh, name, Any::pack(&Secret { data: Some(data.as_bytes().to_vec()) }))
}

/// A MeshTimeout under the name that it has outside its origin.
pub fn timeout(name: &str, spec: &str) -> Resource {
    resource("default", name, Any { type_url: String::new(), value: spec.as_bytes().to_vec().into() })
}

pub const GOOD: &str =
    r#"{"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionTimeout":"2s","idleTimeout":"20s"}}]}"#;

/// A response; `nonce` is what the answer has to repeat.
pub fn response(kind: &str, nonce: u32, resources: Vec<Resource>) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: kind.to_owned(),
        nonce: nonce.to_string(),
        resources,
        control_plane: Some(ControlPlane { identifier: "global".to_owned() }),
        ..DeltaDiscoveryResponse::default()
    }
}

/// The first question of a global about a kind.
pub fn subscription(kind: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node { id: "east".to_owned(), ..Node::default() }),
        type_url: kind.to_owned(),
        resource_names_subscribe: vec!["*".to_owned()],
        ..DeltaDiscoveryRequest::default()
    }
}

/// The same from a global that says who it is.
pub fn introduced(kind: &str, instance: &str) -> DeltaDiscoveryRequest {
    let introduction = Introduction { id: "east".to_owned(), instance: instance.to_owned(), ..Introduction::default() };
    DeltaDiscoveryRequest { node: Some(introduction.to_node()), ..subscription(kind) }
}
