//! What a control plane says about itself.

use chrono::SecondsFormat;
use http::StatusCode;
use model::Kind;
use model::insight::{self, ZoneParts};
use model::kind::{Access, Scope};
use serde::Serialize;
use serde_json::{Map, Value, json};

use axum::response::Response;
use kds_proto::kuma::mesh::v1alpha1::{MeshInsight, ServiceInsight, ZoneEgressInsight, ZoneIngressInsight};
use kds_proto::kuma::system::v1alpha1::ZoneInsight;

use crate::problem::Problem;
use crate::serve::Call;
use crate::{Api, reply};

/// The product that peers look for; an unmodified client warns about any other.
pub const PRODUCT: &str = "Kuma";
/// The version that peers look for.
pub const VERSION: &str = model::KUMA_VERSION;

/// One running process.
#[derive(Clone, Debug)]
pub struct Instance {
    /// `<host name>-<4 hex digits>`, new at every start.
    pub id: String,
    /// Host name.
    pub hostname: String,
    /// Path of the GUI; empty when there is none.
    pub gui: String,
    /// Version of our own.
    pub own_version: String,
}

impl Instance {
    /// This process, without a GUI.
    pub fn of_this_process(own_version: &str) -> Self {
        let hostname = runtime::host::name();
        let suffix = uuid::Uuid::new_v4().simple().to_string();
        let id = format!("{hostname}-{}", &suffix[..4]);
        Self { id, hostname, gui: String::new(), own_version: own_version.to_owned() }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    cluster_id: &'a str,
    gui: &'a str,
    hostname: &'a str,
    instance_id: &'a str,
    product: &'a str,
    version: &'a str,
    hub_version: &'a str,
}

/// Body of `/`.
pub(crate) fn index(api: &Api) -> Response {
    let Instance { id, hostname, gui, own_version } = &api.settings.instance;
    let cluster_id = cluster_id(api);
    let index = Index {
        cluster_id: &cluster_id,
        gui,
        hostname,
        instance_id: id,
        product: PRODUCT,
        version: VERSION,
        hub_version: own_version,
    };
    reply::json(StatusCode::OK, &index)
}

/// Identity of the whole system, which a federated zone learns from its global; empty until then.
fn cluster_id(api: &Api) -> String {
    let configuration = api.configuration();
    let key = model::Key::global(Kind::Config, "kuma-cluster-id");
    let config = configuration
        .get(&key)
        .and_then(|resource| resource.spec.message::<kds_proto::kuma::system::v1alpha1::Config>().ok());
    config.map(|config| config.config.clone()).unwrap_or_default()
}

/// Body of `/config`: compact, one line.
pub(crate) fn config(api: &Api, call: &Call) -> Result<Response, Problem> {
    if !api.settings.access.control_plane_metadata.allows(&call.user) {
        let detail = format!("user \"{}\" cannot access control-plane metadata", call.user);
        return Err(Problem::access_denied(detail));
    }
    Ok(reply::with_type(StatusCode::OK, "application/json", api.settings.config.to_string()))
}

/// Body of `/global-insight`, out of the insights of the meshes.
pub(crate) fn global_insight(api: &Api) -> Response {
    let insights = api.insights();
    let meshes: Vec<_> =
        insights.list(Kind::MeshInsight).filter_map(|r| r.spec.message::<MeshInsight>().ok()).collect();
    let services: Vec<_> =
        insights.list(Kind::ServiceInsight).filter_map(|r| r.spec.message::<ServiceInsight>().ok()).collect();
    let zones = ZoneParts {
        control_planes: insights
            .list(Kind::ZoneInsight)
            .map(|r| r.spec.message::<ZoneInsight>().is_ok_and(|zone| insight::zone_is_online(&zone))),
        zone_egresses: insights
            .list(Kind::ZoneEgressInsight)
            .map(|r| r.spec.message::<ZoneEgressInsight>().is_ok_and(|i| insight::is_online(&i.subscriptions))),
        zone_ingresses: insights
            .list(Kind::ZoneIngressInsight)
            .map(|r| r.spec.message::<ZoneIngressInsight>().is_ok_and(|i| insight::is_online(&i.subscriptions))),
    };
    let sum = insight::global_insight(meshes.iter().map(AsRef::as_ref), services.iter().map(AsRef::as_ref), zones);
    let mut body = Map::new();
    body.insert("createdAt".into(), now(api).into());
    if let Value::Object(sum) = json!(sum) {
        body.extend(sum);
    }
    reply::json(StatusCode::OK, &body)
}

/// Body of `/global-insights`: counts of the global-scoped kinds, but for insights.
pub(crate) fn global_insights(api: &Api) -> Response {
    let configuration = api.configuration();
    let counted = |kind: &&Kind| {
        let info = kind.info();
        info.scope == Scope::Global && !matches!(info.access, Access::ControlPlanes | Access::Hidden)
    };
    let count = |kind: &Kind| (kind.name().to_owned(), json!({"total": configuration.count(*kind)}));
    let resources: Map<String, Value> = Kind::ALL.iter().filter(counted).map(count).collect();
    reply::json(StatusCode::OK, &json!({"type": "GlobalInsights", "creationTime": now(api), "resources": resources}))
}

fn now(api: &Api) -> String {
    api.clock.now().to_rfc3339_opts(SecondsFormat::Nanos, true)
}
