//! A control plane in memory, with the resources that a recording shows.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use api::{Addressing, Instance, Settings};
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::{HeaderMap, Request};
use kds_proto::kuma::mesh::v1alpha1::ServiceInsight;
use kds_proto::kuma::system::v1alpha1::Config;
use model::mode::Mode;
use model::{Key, Kind, Labels, Payload, Resource, labels, rest_form};
use runtime::Clock;
use serde_json::{Value, json};
use store::{Backend, Batch, Store};
use tower::ServiceExt;

use crate::call::Call;

pub struct World {
    router: Router,
    port: u16,
    _store: Store,
}

pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl World {
    /// A control plane with what these calls show.
    pub async fn new(target: &str, seeds: &[Call]) -> Self {
        let store = Store::open(store::Settings::new(Backend::SqliteInMemory)).await.unwrap();
        let shown: Vec<&Call> = seeds.iter().filter(|call| call.target == target).collect();
        let (meshes, others): (Vec<Resource>, Vec<Resource>) =
            resources(target, &shown).into_values().partition(|resource| resource.kind() == Kind::Mesh);
        for batch in [meshes, others] {
            let batch = batch.into_iter().fold(Batch::new(), Batch::put);
            if !batch.is_empty() {
                store.apply(batch).await.unwrap();
            }
        }
        let index = shown.iter().find(|call| call.path == "/").and_then(|call| call.response.clone());
        let text = |key: &str| index.as_ref().and_then(|index| index[key].as_str()).unwrap_or_default().to_owned();
        let config = shown.iter().find(|call| call.path == "/config").and_then(|call| call.text.clone());
        let settings = Settings {
            mode: if target == "global" { Mode::Global } else { Mode::universal_zone("east", true) },
            read_only: false,
            unsafe_delete: false,
            skip_origin_check: false,
            instance: Instance {
                id: text("instanceId"),
                hostname: text("hostname"),
                gui: String::new(),
                own_version: "0.0.0".into(),
            },
            config: config.unwrap_or_default().into(),
            addressing: Addressing { domain: "mesh".into(), port: 80 },
            new_mesh: api::NewMesh::default(),
            issuers: api::Issuers::default(),
            access: identity::Access::default(),
            authentication: identity::Authentication::default(),
            limits: api::Limits::default(),
            proxy_admin: None,
            audit: None,
            place: api::Place::default(),
            metrics: api::Metrics::default(),
        };
        let port = if target == "global" { 15681 } else { 16681 };
        Self { router: api::router(settings, store.clone(), Clock::system()), port, _store: store }
    }

    /// Sends a recorded request, as a local caller unless its headers say otherwise.
    pub async fn answer(&self, call: &Call) -> Answer {
        let mut request = Request::builder().method(call.method.as_str()).uri(&call.path);
        request = request.header("host", format!("127.0.0.1:{}", self.port));
        let has = |name: &str| call.request_headers.keys().any(|key| key.eq_ignore_ascii_case(name));
        if !has("accept") {
            request = request.header("accept", "application/json");
        }
        let no_content_type = call.name.contains("no-content-type");
        if call.body.is_some() && !has("content-type") && !no_content_type {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in &call.request_headers {
            request = request.header(name, value.as_str().unwrap());
        }
        let peer: SocketAddr = "127.0.0.1:40000".parse().unwrap();
        let request = request.extension(ConnectInfo(peer)).body(Body::from(call.body_text())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 64 << 20).await.unwrap();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }
}

/// Resources in the answers of lists and items.
fn resources(target: &str, shown: &[&Call]) -> BTreeMap<Key, Resource> {
    let mut found = BTreeMap::new();
    let mut services: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for call in shown.iter().filter(|call| call.method == "GET" && call.status == 200) {
        let Some(answer) = &call.response else { continue };
        if call.path.contains("format=") || call.path == "/global-insights" {
            continue;
        }
        if call.path == "/"
            && let Some(id) = answer["clusterId"].as_str()
        {
            let config = Config { config: id.to_owned() };
            let key = Key::global(Kind::Config, "kuma-cluster-id");
            found.insert(key.clone(), Resource::new(key, Labels::default(), Payload::from_message(&config)));
        }
        let items = match answer.get("items").and_then(Value::as_array) {
            Some(items) => items.clone(),
            None => vec![answer.clone()],
        };
        for item in items {
            if item["type"] == "ServiceInsight" {
                if !call.path.contains("/service-insights/") {
                    services.entry(item["mesh"].as_str().unwrap().to_owned()).or_default().push(item);
                }
            } else if item["type"].as_str().is_some_and(|name| name.parse::<Kind>().is_ok())
                && let Ok(resource) = rest_form::read(item)
            {
                found.insert(resource.meta.key.clone(), resource);
            }
        }
    }
    for (mesh, items) in services {
        let stored = stored_services(target, &mesh, items);
        found.insert(stored.meta.key.clone(), stored);
    }
    found
}

/// The one object that a mesh's services were printed from.
fn stored_services(target: &str, mesh: &str, items: Vec<Value>) -> Resource {
    let services = items.into_iter().map(|mut item| {
        let name = item["name"].as_str().unwrap().to_owned();
        let fields = item.as_object_mut().unwrap();
        for key in ["type", "mesh", "name", "creationTime", "modificationTime", "labels"] {
            fields.remove(key);
        }
        (name, item)
    });
    let json = json!({"services": services.collect::<serde_json::Map<_, _>>()});
    let insight: ServiceInsight = kds_proto::json::from_value(json, kds_proto::json::UnknownFields::Refused).unwrap();
    let name = api::service_insight::stored_name(mesh);
    let (name, labels): (String, Labels) = if target == "global" {
        (name, Labels::default())
    } else {
        let labels = [(labels::ORIGIN, labels::ORIGIN_GLOBAL), (labels::DISPLAY_NAME, name.as_str())];
        let labels: Labels = labels.into_iter().collect();
        let meta = model::Meta::new(Key::new(Kind::ServiceInsight, mesh, &name), labels.clone());
        (model::name::hashed(&meta), labels)
    };
    Resource::new(Key::new(Kind::ServiceInsight, mesh, &name), labels, Payload::from_message(&insight))
}
