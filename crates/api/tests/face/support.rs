//! A control plane in memory with the mesh `default` and the keys of all tokens.

use std::net::SocketAddr;
use std::sync::LazyLock;

use api::{Addressing, Instance, Settings};
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::{HeaderMap, Method, Request, StatusCode};
use identity::SigningKey;
use identity::signing_key::Purpose;
use kds_proto::kuma::mesh::v1alpha1::Mesh;
use kds_proto::kuma::system::v1alpha1::Secret;
use model::mode::Mode;
use model::{Key, Kind, Labels, Payload, Resource};
use runtime::Clock;
use serde_json::{Value, json};
use store::{Backend, Batch, Store};
use tower::ServiceExt;

/// Signs the tokens of every purpose; making one takes its time.
pub static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate(1).unwrap());

/// Identifier of the token that is revoked.
pub const REVOKED: uuid::Uuid = uuid::Uuid::from_u128(7);

pub const LOCAL: &str = "127.0.0.1:40000";
pub const REMOTE: &str = "10.0.0.7:40000";

pub struct Face {
    pub router: Router,
    pub store: Store,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }
}

pub fn settings() -> Settings {
    Settings {
        mode: Mode::Global,
        read_only: false,
        unsafe_delete: false,
        skip_origin_check: false,
        instance: Instance {
            id: "test-0001".into(),
            hostname: "test".into(),
            gui: String::new(),
            own_version: "0.0.0".into(),
        },
        config: "{}".into(),
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
    }
}

impl Face {
    pub async fn new(settings: Settings) -> Self {
        Self::at(settings, Clock::system()).await
    }

    pub async fn at(settings: Settings, clock: Clock) -> Self {
        let store = Store::open(store::Settings::new(Backend::SqliteInMemory)).await.unwrap();
        let mesh = Key::global(Kind::Mesh, "default");
        let revoked = Secret { data: Some(REVOKED.to_string().into_bytes()) };
        let batch = Batch::new()
            .create(Resource::new(mesh, Labels::default(), Payload::from_message(&Mesh::default())))
            .create(KEY.to_secret(&Purpose::User))
            .create(KEY.to_secret(&Purpose::Zone))
            .create(KEY.to_secret(&Purpose::Dataplane { mesh: "default".into() }))
            .create(Resource::new(Purpose::User.revocations(), Labels::default(), Payload::from_message(&revoked)));
        store.apply(batch).await.unwrap();
        Self { router: api::router(settings, store.clone(), clock), store }
    }

    pub fn revision(&self) -> u64 {
        self.store.configuration().borrow().revision()
    }

    pub async fn send(
        &self,
        from: &str,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        let peer: SocketAddr = from.parse().unwrap();
        let host = if from == LOCAL { "localhost:5681" } else { "global.example:5681" };
        let mut request = Request::builder().method(method).uri(path).header("host", host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = if matches!(*method, Method::PUT | Method::POST) {
            request.header("content-type", "application/json").body(Body::from(body.to_string()))
        } else {
            request.body(Body::empty())
        };
        let mut request = request.unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let bytes = axum::body::to_bytes(body, 64 << 20).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    /// As a local admin.
    pub async fn local(&self, method: &Method, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        self.send(LOCAL, method, path, headers, body).await
    }
}

pub const TIMEOUT: &str = "/meshes/default/meshtimeouts/t";

/// A MeshTimeout for [`TIMEOUT`].
pub fn timeout(seconds: usize) -> Value {
    json!({
        "type": "MeshTimeout",
        "mesh": "default",
        "name": "t",
        "spec": {
            "targetRef": {"kind": "Mesh"},
            "to": [{"targetRef": {"kind": "Mesh"}, "default": {"connectionTimeout": format!("{seconds}s")}}],
        },
    })
}
