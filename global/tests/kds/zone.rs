//! A zone that does what it is told: it asks for everything, acknowledges, and tells what a test wants it to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use discovery::kds::node::{Features, Introduction};
use discovery::kds::{rules, wire};
use kds_proto::envoy::config::core::v3::Node;
use kds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource as Wire};
use kds_proto::kuma::system::v1alpha1::KumaCpVersion;
use model::{Key, Kind, Labels, Payload, Resource};
use serde_json::{Value, json};
use tonic::Status;

use crate::world::{Call, Dialled, SOON, World};

/// What a zone holds of its global, by type and name.
#[derive(Default)]
pub struct Held(pub BTreeMap<(String, String), Resource>);

impl Held {
    /// Whether there is one of this name.
    pub fn has(&self, kind: &str, name: &str) -> bool {
        self.0.contains_key(&(kind.to_owned(), name.to_owned()))
    }

    /// Whether there is one that users know by this name.
    pub fn shows(&self, kind: &str, name: &str) -> bool {
        self.0.iter().any(|((of, _), resource)| of == kind && resource.meta.display_name() == name)
    }
}

/// Both sync streams of one zone, on one connection.
pub struct FakeZone {
    pub name: String,
    pub caller: Dialled,
    pub down: Call<DeltaDiscoveryRequest, DeltaDiscoveryResponse>,
    pub up: Call<DeltaDiscoveryResponse, DeltaDiscoveryRequest>,
    pub held: Held,
    nonce: u64,
    /// Answers of the global that nobody looked at yet.
    pub answers: VecDeque<DeltaDiscoveryRequest>,
}

impl FakeZone {
    pub async fn connect(world: &World, name: &str) -> Self {
        Self::connect_as(world, name, &format!("{name}-1a2b")).await
    }

    pub async fn connect_as(world: &World, name: &str, instance: &str) -> Self {
        Self::over(world.zone(name), name, instance).await
    }

    pub async fn at(port: u16, name: &str) -> Self {
        Self::over(Dialled::of_zone(port, name), name, &format!("{name}-1a2b")).await
    }

    async fn over(caller: Dialled, name: &str, instance: &str) -> Self {
        let node = Self::node(name, instance);
        Self::introduced(caller, name, node).await
    }

    /// As a zone of Kuma introduces itself.
    pub fn node(name: &str, instance: &str) -> Node {
        Introduction {
            id: name.to_owned(),
            instance: instance.to_owned(),
            version: KumaCpVersion { version: "2.13.10".into(), ..KumaCpVersion::default() },
            config: r#"{"mode":"zone","store":{"type":"memory"}}"#.into(),
            features: Features::ALL,
        }
        .to_node()
    }

    /// A zone that introduces itself otherwise.
    pub async fn introduced(caller: Dialled, name: &str, node: Node) -> Self {
        let (down, up) = (caller.down().await.unwrap(), caller.up().await.unwrap());
        for kind in rules::down_kinds(&BTreeSet::new()) {
            let request = DeltaDiscoveryRequest {
                node: Some(node.clone()),
                type_url: kind.name().to_owned(),
                resource_names_subscribe: vec!["*".to_owned()],
                ..DeltaDiscoveryRequest::default()
            };
            down.requests.send(request).await.unwrap();
        }
        let (held, answers) = (Held::default(), VecDeque::new());
        Self { name: name.to_owned(), caller, down, up, held, nonce: 0, answers }
    }

    /// Takes the first response of every type, and answers all 29 subscriptions of the global with nothing.
    pub async fn settle(&mut self) {
        for _ in rules::down_kinds(&BTreeSet::new()) {
            self.take().await.unwrap();
        }
        let mut asked = Vec::new();
        for _ in rules::up_kinds(&BTreeSet::new()) {
            let request = self.up.next().await.unwrap();
            assert_eq!((&*request.response_nonce, request.node.unwrap().id), ("", self.name.clone()));
            asked.push(request.type_url);
        }
        for kind in asked {
            self.send(&kind, Vec::new(), Vec::new()).await;
            self.answer().await;
        }
    }

    /// Takes one response and acknowledges it.
    pub async fn take(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        let response = self.down.next().await?;
        let kind = response.type_url.clone();
        for wire in &response.resources {
            let resource = wire::decode(kind.parse().unwrap(), wire).unwrap();
            self.held.0.insert((kind.clone(), resource.meta.key.name.to_string()), resource);
        }
        for name in &response.removed_resources {
            let key = wire::key_of(kind.parse().unwrap(), name);
            self.held.0.remove(&(kind.clone(), key.name.to_string()));
        }
        let acknowledgement = DeltaDiscoveryRequest {
            node: Some(Node { id: self.name.clone(), ..Node::default() }),
            type_url: kind,
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        };
        // A stream that has ended takes no answer.
        let _ = self.down.requests.send(acknowledgement).await;
        Ok(response)
    }

    /// Takes what comes until it holds what it should.
    pub async fn until(&mut self, what: &str, holds: impl Fn(&Held) -> bool) {
        let taking = async {
            while !holds(&self.held) {
                self.take().await.unwrap();
            }
        };
        tokio::time::timeout(SOON, taking).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    /// Sends one response on `ZoneToGlobalSync`.
    pub async fn send(&mut self, kind: &str, resources: Vec<Wire>, removed_resources: Vec<String>) {
        self.nonce += 1;
        let response = DeltaDiscoveryResponse {
            type_url: kind.to_owned(),
            nonce: self.nonce.to_string(),
            resources,
            removed_resources,
            ..DeltaDiscoveryResponse::default()
        };
        self.up.requests.send(response).await.unwrap();
    }

    /// The global's answer to the response before; subscriptions that come in between wait.
    pub async fn answer(&mut self) -> DeltaDiscoveryRequest {
        if let Some(at) = self.answers.iter().position(|answer| answer.response_nonce == self.nonce.to_string()) {
            return self.answers.remove(at).unwrap();
        }
        loop {
            let answer = self.up.next().await.unwrap();
            if answer.response_nonce == self.nonce.to_string() {
                return answer;
            }
            self.answers.push_back(answer);
        }
    }

    /// Tells of its resources, one response for each, and expects them to be taken.
    pub async fn tell(&mut self, resources: &[Resource]) {
        for resource in resources {
            let kind = resource.kind().name();
            self.send(kind, vec![packed(resource, &self.name.clone())], Vec::new()).await;
            let answer = self.answer().await;
            assert_eq!(answer.error_detail, None, "{kind}");
        }
    }
}

/// As a zone sends it.
pub fn packed(resource: &Resource, zone: &str) -> Wire {
    let mut sent = resource.clone();
    sent.meta.labels = sent.meta.labels.with("kuma.io/origin", "zone").with("kuma.io/zone", zone);
    wire::hashed(&mut sent);
    let encoded = wire::encode(&sent);
    Wire {
        name: encoded.name.to_string(),
        version: encoded.version.to_string(),
        resource: Some(encoded.resource),
        ..Wire::default()
    }
}

pub fn resource(kind: Kind, name: &str, spec: Value) -> Resource {
    let spec = (kind.info().codec.from_json)(spec).unwrap();
    Resource::new(Key::new(kind, "default", name), Labels::default(), Payload::from_bytes(spec))
}

pub fn dataplane(name: &str, address: &str) -> Resource {
    let tags = json!({"kuma.io/service": "web", "kuma.io/zone": "somewhere"});
    resource(
        Kind::Dataplane,
        name,
        json!({"networking": {"address": address, "inbound": [{"port": 80, "tags": tags}]}}),
    )
}

pub fn ingress(name: &str, port: u16) -> Resource {
    let networking = json!({
        "address": "10.0.0.1", "port": port, "advertisedAddress": "192.0.2.1", "advertisedPort": port,
    });
    resource(Kind::ZoneIngress, name, json!({"networking": networking}))
}

pub fn service(name: &str) -> Resource {
    let spec = json!({
        "selector": {"dataplaneTags": {"kuma.io/service": name}},
        "ports": [{"port": 80, "targetPort": 80, "appProtocol": "http"}],
    });
    resource(Kind::MeshService, name, spec)
}
