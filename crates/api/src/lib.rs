//! The REST face of a control plane, the same for the global and for a zone (api-and-kumactl 1 and 2).
//!
//! [`route`] lists what there is, [`serve`] takes a request through method, content type, identity and access to the
//! handler of its [`Operation`](route::Operation). Handlers read snapshots and write to the store, nothing else.

use std::sync::Arc;

use axum::Router;
use model::mode::Mode;
use runtime::Clock;
use store::Store;

pub mod audit;
pub mod companions;
mod configured;
pub mod control_plane;
mod diagnostics;
mod edits;
pub mod filter;
pub mod first_start;
pub mod insights;
pub mod inspect;
pub mod kinds;
pub mod kubernetes;
pub mod limits;
mod meta;
mod metrics;
pub mod openapi;
mod overview;
mod place;
mod precondition;
pub mod problem;
pub mod program;
pub mod proxy_admin;
pub mod query;
mod reply;
mod resource;
pub mod route;
mod serve;
mod servers;
pub mod service_insight;
mod tokens;
mod write;

pub use audit::Audit;
pub use control_plane::{ControlPlane, Foundation};
pub use diagnostics::Diagnostics;
pub use limits::Limits;
pub use meta::{Instance, PRODUCT, VERSION};
pub use metrics::Metrics;
pub use place::Place;
pub use problem::Problem;
pub use program::Program;
pub use proxy_admin::ProxyAdmin;
pub use serve::Tls;
pub use servers::{Listeners, Servers, start};
pub use service_insight::Addressing;

/// How an API behaves.
#[derive(Debug)]
pub struct Settings {
    /// Which control plane it is the face of.
    pub mode: Mode,
    /// Whether every write of a resource is refused.
    pub read_only: bool,
    /// Whether deletions skip their guards (`store.unsafeDelete`).
    pub unsafe_delete: bool,
    /// Whether labels of origin are not checked (`multizone.zone.disableOriginLabelValidation`).
    pub skip_origin_check: bool,
    /// Who the process is.
    pub instance: Instance,
    /// Where it stands on the web.
    pub place: Place,
    /// Body of `/config`: the effective configuration with its secrets masked, compact JSON.
    pub config: Arc<str>,
    /// How internal services are called.
    pub addressing: Addressing,
    /// What a new mesh gets.
    pub new_mesh: NewMesh,
    /// Which tokens are issued.
    pub issuers: Issuers,
    /// Who may do what.
    pub access: identity::Access,
    /// Who the callers are.
    pub authentication: identity::Authentication,
    /// What requests may take.
    pub limits: Limits,
    /// The way to proxies; without it, questions to them are not answered.
    pub proxy_admin: Option<Arc<dyn ProxyAdmin>>,
    /// Where writes are told of; nowhere by default.
    pub audit: Option<Audit>,
    /// What is counted; the program registers them.
    pub metrics: Metrics,
}

/// What a new mesh gets beside itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewMesh {
    /// The older policies that allow everything (`defaults.createMeshRoutingResources`).
    pub routing_resources: bool,
}

/// Which tokens are issued by the API; all by default.
#[derive(Clone, Copy, Debug)]
pub struct Issuers {
    /// Of data plane proxies.
    pub dataplane: bool,
    /// Of zones.
    pub zone: bool,
    /// Of users.
    pub user: bool,
}

impl Default for Issuers {
    fn default() -> Self {
        Self { dataplane: true, zone: true, user: true }
    }
}

/// What every handler has.
#[derive(Debug)]
pub(crate) struct Api {
    pub settings: Settings,
    pub store: Store,
    pub clock: Clock,
    pub places: limits::Places,
}

/// The API as a service; [`runtime::serve`] gives it listeners and limits.
pub fn router(settings: Settings, store: Store, clock: Clock) -> Router {
    let places = limits::Places::new(settings.limits.concurrent);
    serve::router(Arc::new(Api { settings, store, clock, places }))
}
