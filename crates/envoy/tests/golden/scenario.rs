//! One recorded scenario: its resources, and what its proxies were given.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use envoy::{Configuration, Features, Input, KeyPair, Node, Secrets, Settings, Type, Weights};
use kds_proto::json;
use model::labels;
use model::resource::{Key, Payload};
use model::spec::condition::{Condition, ConditionStatus};
use model::spec::mesh_identity::Status;
use model::{Change, Kind, Kri, Resource, Snapshot, rest_form};
use serde_json::{Value, json};

use crate::normal::{self, Endpoints};

/// A recorded scenario.
pub struct Scenario {
    /// Its name.
    pub name: String,
    zone: String,
    snapshot: Snapshot,
    insights: BTreeMap<String, Value>,
    expected: Value,
    served: Value,
}

static ALL: LazyLock<Vec<Scenario>> = LazyLock::new(|| {
    let inputs = lines("inputs");
    let resources = lines("resources");
    lines("scenarios").iter().map(|scenario| Scenario::new(scenario, &inputs, &resources)).collect()
});

fn lines(name: &str) -> Vec<Value> {
    let path = format!("{}/{name}.jsonl", crate::RECORDED);
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn positions(value: &Value) -> impl Iterator<Item = usize> {
    value.as_array().into_iter().flatten().filter_map(|position| usize::try_from(position.as_u64()?).ok())
}

impl Scenario {
    /// All of them.
    pub fn all() -> &'static [Self] {
        &ALL
    }

    fn new(line: &Value, inputs: &[Value], resources: &[Value]) -> Self {
        let documents: Vec<&Value> = positions(&line["inputs"]).map(|position| &inputs[position]).collect();
        let insight = |document: &&Value| {
            ["DataplaneInsight", "ZoneIngressInsight", "ZoneEgressInsight"].iter().any(|kind| document["type"] == *kind)
        };
        let name = |document: &Value| document["name"].as_str().unwrap_or_default().to_owned();
        let insights = documents.iter().copied().filter(insight).map(|document| (name(document), document.clone()));
        let mut puts: Vec<Change> =
            documents.iter().filter_map(|document| resource(document)).map(Change::Put).collect();
        puts.extend(service_insight(&documents).map(Change::Put));
        let mut expected = line["expected"].clone();
        for lists in expected.as_object_mut().unwrap().values_mut() {
            for list in lists.as_object_mut().unwrap().values_mut() {
                *list = positions(list).map(|position| resources[position].clone()).collect();
            }
        }
        Self {
            name: line["scenario"].as_str().unwrap().to_owned(),
            zone: line["zone"].as_str().unwrap_or("east").to_owned(),
            snapshot: Snapshot::empty().apply(1, puts),
            insights: insights.collect(),
            expected,
            served: line["served"].clone(),
        }
    }

    /// Names of the proxies that were looked at, among those whose resource is here.
    pub fn proxies(&self) -> Vec<String> {
        self.expected.as_object().unwrap().keys().filter(|name| self.resource(name).is_some()).cloned().collect()
    }

    fn resource(&self, name: &str) -> Option<&Arc<Resource>> {
        let keys = [
            Key::new(Kind::Dataplane, "default", name),
            Key::global(Kind::ZoneIngress, name),
            Key::global(Kind::ZoneEgress, name),
        ];
        keys.iter().find_map(|key| self.snapshot.get(key))
    }

    /// What the proxy said when it connected, as its insight shows it.
    fn node(&self, name: &str, admin_port: u32) -> Node {
        let metadata = self.insights.get(name).map(|insight| insight["metadata"].clone()).unwrap_or_default();
        let words = metadata["features"].as_array().cloned().unwrap_or_else(|| {
            ["feature-reuse-port", "feature-readiness-unix-socket", "feature-strict-inbound-ports"]
                .map(Value::from)
                .into()
        });
        let text = |key: &str| metadata[key].as_str().unwrap_or_default().to_owned();
        let tproxy = &metadata["transparentProxy"];
        let port = |direction: &str, default| {
            tproxy["redirect"][direction]["port"].as_u64().and_then(|port| u32::try_from(port).ok()).unwrap_or(default)
        };
        Node {
            features: Features::parse(words.iter().filter_map(Value::as_str)),
            work_dir: "<dir>".to_owned(),
            admin_address: "127.0.0.1".to_owned(),
            admin_port,
            readiness_port: 9902,
            ipv6: metadata["ipv6Enabled"].as_bool().unwrap_or(true),
            system_ca_path: text("systemCaPath"),
            transparent_proxy: tproxy.is_object().then(|| envoy::TransparentProxy {
                inbound_port: port("inbound", 15006),
                outbound_port: port("outbound", 15001),
                ipv6: true,
            }),
        }
    }

    /// What a proxy gets, with a certificate and a key that stand for all.
    pub fn configuration(&self, name: &str, weights: Weights, pair: &KeyPair) -> Configuration {
        let resource = self.resource(name).unwrap();
        let secrets = Secrets {
            workload: self.workload(resource).map(|name| (name, pair.clone())),
            identities: vec![("default".to_owned(), pair.clone())],
            mesh_cas: vec![("default".to_owned(), pair.certificate.clone())],
            admin: pair.clone(),
            admin_ca: pair.certificate.clone(),
        };
        let content = (resource.kind().info().codec.to_json)(resource.spec.bytes()).unwrap();
        let admin = content["networking"]["admin"]["port"].as_u64().unwrap_or(0);
        let node = self.node(name, u32::try_from(admin).unwrap());
        let settings = Settings { weights, ..Settings::new(&self.zone) };
        let input = Input { snapshot: &self.snapshot, settings: &settings, resource, node: &node, secrets: &secrets };
        envoy::configuration(input).unwrap()
    }

    /// The name of the secret that a MeshIdentity gives to a dataplane.
    fn workload(&self, proxy: &Resource) -> Option<String> {
        let is_ready = |identity: &&Arc<Resource>| {
            let status =
                identity.status.as_ref().and_then(|status| serde_json::from_slice::<Status>(status.bytes()).ok());
            let is_ready =
                |condition: &Condition| condition.r#type == "Ready" && condition.status == ConditionStatus::True;
            status.is_some_and(|status| status.conditions.iter().any(is_ready))
        };
        let identities = self.snapshot.list_in(Kind::MeshIdentity, &proxy.meta.key.mesh);
        let identity = identities.filter(|_| proxy.kind() == Kind::Dataplane).find(is_ready)?;
        Kri::of(&identity.meta).map(|kri| kri.to_string())
    }

    /// What differs, by resource.
    pub fn differences(&self, proxy: &str) -> Vec<(String, String)> {
        let pem = || Bytes::from_static(b"pem");
        let configuration = self.configuration(proxy, Weights::Kuma, &KeyPair { certificate: pem(), key: pem() });
        let served = self.served.get(proxy).and_then(Value::as_object);
        let lists = [
            ("listeners", Type::Listener),
            ("clusters", Type::Cluster),
            ("endpoints", Type::Endpoint),
            ("routes", Type::Route),
            ("secrets", Type::Secret),
        ];
        let mut found = Vec::new();
        for (list, r#type) in lists {
            let mut expected: BTreeMap<String, Value> = BTreeMap::new();
            let endpoints = match (r#type, served) {
                (Type::Endpoint, Some(served)) => {
                    expected.extend(served.iter().map(|(name, value)| (name.clone(), normal::recorded(r#type, value))));
                    Endpoints::AsServed
                }
                _ => {
                    let recorded = self.expected[proxy][list].as_array().cloned().unwrap_or_default();
                    let kept = recorded.iter().filter(|value| value.get("ERROR").is_none());
                    let named = kept.map(|value| (normal::name(value), normal::recorded(r#type, value)));
                    expected.extend(named);
                    Endpoints::AsKept
                }
            };
            let actual: BTreeMap<String, Value> = configuration
                .of(r#type)
                .map(|resource| {
                    let value = json::to_value(r#type.url().rsplit('/').next().unwrap(), &resource.bytes).unwrap();
                    (resource.name.clone(), normal::emitted(r#type, value, endpoints))
                })
                .collect();
            if r#type == Type::Endpoint {
                // Envoy shows the hosts of fixed clusters among the others.
                let fixed: Vec<String> = configuration
                    .of(Type::Cluster)
                    .map(|cluster| cluster.name.clone())
                    .filter(|name| !actual.contains_key(name))
                    .collect();
                expected.retain(|name, _| !fixed.contains(name));
            }
            found.extend(normal::differences(list, &expected, &actual));
        }
        found
    }
}

/// A resource as the API shows it, in the store's form.
fn resource(document: &Value) -> Option<Arc<Resource>> {
    if document["type"] == Kind::ServiceInsight.info().name {
        return None;
    }
    rest_form::read(document.clone()).ok().map(Arc::new)
}

/// The API shows each service by itself; the store has them in one resource.
fn service_insight(documents: &[&Value]) -> Option<Arc<Resource>> {
    let mut services = serde_json::Map::new();
    for document in documents.iter().filter(|document| document["type"] == "ServiceInsight") {
        let mut service = document.as_object()?.clone();
        let name = service.get("name")?.as_str()?.to_owned();
        ["type", "mesh", "name", "labels"].iter().for_each(|member| drop(service.remove(*member)));
        services.insert(name, Value::Object(service));
    }
    let bytes = (Kind::ServiceInsight.info().codec.from_json)(json!({ "services": services })).ok()?;
    let key = Key::new(Kind::ServiceInsight, "default", "all-services-default");
    let labels = [(labels::ORIGIN, labels::ORIGIN_GLOBAL)].into_iter().collect();
    Some(Arc::new(Resource::new(key, labels, Payload::from_bytes(bytes))))
}
