//! `POST /bootstrap`: a proxy asks how its Envoy has to start (zone-dataplane 1.2).
//!
//! Nothing is stored here and no token is verified: what starts with the answer shows its token on its first stream.

mod document;
mod metrics_of;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Request as HttpRequest, State};
use axum::response::{IntoResponse, Response};
use config::Effective;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use identity::tls::{ServerTls, Shown};
use kds_proto::bootstrap::{Request, Response as Answer, SidecarConfiguration};
use kds_proto::kuma::mesh::v1alpha1::{Dataplane, Mesh, ZoneEgress, ZoneIngress};
use model::spec::dataplane::{self, Role};
use model::spec::mesh::is_exclusive;
use model::{Key, Kind, Resource, Snapshot};
use serde_json::Value;
use store::Store;
use tokio::sync::Semaphore;

use crate::proxies::{self, ProxyType};
use crate::xds::Metrics;
use document::{Addresses, Facts};

/// Largest request, in bytes: a Dataplane, a certificate and little more.
const MAX_REQUEST: usize = 1 << 20;
/// For a request to arrive.
const ARRIVAL: Duration = Duration::from_secs(10);
/// Requests that are worked on at a time.
const CONCURRENT: usize = 64;
/// For one of them to be done when all places are taken. A proxy tries again after three seconds.
const PATIENCE: Duration = Duration::from_secs(1);
/// For the name of this control plane to be looked up.
const LOOKUP: Duration = Duration::from_secs(1);

/// What the answers depend on beside the request (`bootstrapServer`, `dpServer`).
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Address and default port of Envoy's own interface, and where it logs.
    pub admin_address: String,
    pub admin_port: u32,
    pub admin_access_log: String,
    /// What proxies are to dial, if not what they dialled for this request.
    pub xds_host: String,
    /// Port that they dial; 0: that of the server.
    pub xds_port: u16,
    pub connect_timeout: Duration,
    /// Template for the DNS server beside a workload; empty: its own.
    pub corefile_template: String,
    /// Whether tokens are read anew from a file on the proxy's host.
    pub reloadable_tokens: bool,
    /// Whether proxies report the health of their workloads.
    pub hds: bool,
    /// Most connections to a gateway.
    pub gateway_connections: u64,
    /// Whether proxies have to show a token: dataplanes, then those of the zone.
    pub tokens: (bool, bool),
}

impl Settings {
    pub fn configured(effective: &Effective) -> Self {
        let text = |word: &str| effective.text(&format!("bootstrapServer.params.{word}")).to_owned();
        let number = |word: &str| effective.number(&format!("bootstrapServer.params.{word}"));
        let authenticates = |whose: &str| effective.text(&format!("dpServer.authn.{whose}.type")) != "none";
        Self {
            admin_address: text("adminAddress"),
            admin_port: u32::try_from(number("adminPort")).unwrap_or_default(),
            admin_access_log: text("adminAccessLogPath"),
            xds_host: text("xdsHost"),
            xds_port: u16::try_from(number("xdsPort")).unwrap_or_default(),
            connect_timeout: effective
                .duration("bootstrapServer.params.xdsConnectTimeout")
                .to_std()
                .unwrap_or_default(),
            corefile_template: text("corefileTemplatePath"),
            reloadable_tokens: effective.flag("dpServer.authn.enableReloadableTokens"),
            hds: effective.flag("dpServer.hds.enabled"),
            gateway_connections: u64::try_from(effective.number("proxy.gateway.globalDownstreamMaxConnections"))
                .unwrap_or_default(),
            tokens: (authenticates("dpProxy"), authenticates("zoneProxy")),
        }
    }
}

/// Answers proxies that start.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    settings: Settings,
    store: Store,
    tls: ServerTls,
    metrics: Metrics,
    places: Semaphore,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the request cannot be read: {0}")]
    Unreadable(String),
    #[error(
        "this proxy has to show a token: make one with `kumactl generate dataplane-token` (`zone-token` for an ingress or \
         egress) and give it to kuma-dp with --dataplane-token-file"
    )]
    NoToken,
    #[error("{0}")]
    Invalid(String),
    #[error(
        "the certificate of this control plane is good for {known}, and the proxy dials it as {host:?}: give kuma-dp one of \
         those as --cp-address, or give the control plane a certificate for {host:?} (general.tlsCertFile)"
    )]
    OtherHost { host: String, known: String },
    #[error(
        "the proxy trusts a certificate that is no authority, so it cannot verify this control plane: give kuma-dp the \
         certificate of the authority that signed the control plane's with --ca-cert-file"
    )]
    NoAuthority,
    #[error("")]
    NotFound,
    #[error("too many proxies start at once: try again in a moment")]
    Busy,
    #[error("{0}")]
    Failed(String),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Unreadable(_) | Self::OtherHost { .. } | Self::NoAuthority => StatusCode::BAD_REQUEST,
            Self::NoToken | Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status(), self.to_string()).into_response();
        if matches!(self, Self::Busy) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("3"));
        }
        response
    }
}

/// The answer in the form that is asked for: all of it, or Envoy's part alone.
fn respond(answer: Answer, accept: Option<&HeaderValue>) -> Response {
    if accept.is_some_and(|accept| accept == "application/json") {
        return Json(answer).into_response();
    }
    ([(CONTENT_TYPE, "text/x-yaml")], answer.bootstrap).into_response()
}

/// The handler.
pub(crate) async fn answer(State(bootstrap): State<Arc<Bootstrap>>, request: HttpRequest) -> Response {
    let (head, body) = request.into_parts();
    let host = host(&head.headers, &head.uri);
    let result = bootstrap.answer(body, host).await;
    bootstrap.metrics.bootstrapped(result.as_ref().map_or_else(|refusal| refusal.status(), |_| StatusCode::OK));
    match result {
        Ok(answer) => respond(answer, head.headers.get(ACCEPT)),
        Err(refusal) => refusal.into_response(),
    }
}

impl Bootstrap {
    pub fn new(settings: Settings, store: Store, tls: ServerTls, metrics: Metrics) -> Self {
        Self { settings, store, tls, metrics, places: Semaphore::new(CONCURRENT) }
    }

    async fn answer(&self, body: Body, host: &str) -> Result<Answer, Refusal> {
        let slow = |_| Refusal::Unreadable("it takes too long to arrive".to_owned());
        let body = tokio::time::timeout(ARRIVAL, to_bytes(body, MAX_REQUEST)).await.map_err(slow)?;
        let body = body.map_err(|error| Refusal::Unreadable(error.to_string()))?;
        let place = tokio::time::timeout(PATIENCE, self.places.acquire()).await;
        let _place = place.map_err(|_| Refusal::Busy)?.map_err(|_| Refusal::Busy)?;
        let request = read(&body).map_err(|error| Refusal::Unreadable(error.to_string()))?;
        let answer = self.made(&request, host).await;
        match &answer {
            Ok(_) => tracing::debug!(mesh = request.mesh, proxy = request.name, "a proxy starts"),
            Err(refusal) => {
                let (status, reason) = (refusal.status().as_u16(), refusal.to_string());
                tracing::info!(mesh = request.mesh, proxy = request.name, status, reason, "a proxy may not start");
            }
        }
        answer
    }

    async fn made(&self, request: &Request, host: &str) -> Result<Answer, Refusal> {
        let proxy_type = ProxyType::parse(&request.proxy_type)
            .ok_or_else(|| Refusal::Failed(format!("unknown proxy type {}", request.proxy_type)))?;
        let (of_dataplanes, of_zone) = self.settings.tokens;
        let wants_token = if proxy_type == ProxyType::Dataplane { of_dataplanes } else { of_zone };
        if wants_token && request.dataplane_token.is_empty() && request.dataplane_token_path.is_empty() {
            return Err(Refusal::NoToken);
        }
        let shown = self.tls.shown().map_err(Refusal::Failed)?;
        let host = self.xds_host(&shown, host)?;
        let stored = self.store.configuration().borrow().clone();
        let resource = resource(&stored, proxy_type, request)?;
        let (mut facts, address) = of_proxy(&resource, proxy_type)?;
        let mut sidecar = SidecarConfiguration::default();
        sidecar.networking.address = address;
        if let Some(dataplane) = facts.dataplane.take() {
            sidecar.networking.corefile_template = self.corefile()?;
            let mesh = stored.get(&Key::global(Kind::Mesh, &resource.meta.key.mesh));
            let mesh = mesh.and_then(|mesh| mesh.spec.message::<Mesh>().ok()).ok_or(Refusal::NotFound)?;
            facts.exclusive = is_exclusive(&mesh);
            sidecar.metrics.aggregate = metrics_of::aggregated(&dataplane, &mesh);
        }
        let addresses = Addresses { host, port: self.settings.xds_port, v4_only: only_v4(host).await };
        let authority = self.authority(&shown, &request.ca_cert)?;
        let document = document::document(request, &facts, &self.settings, addresses, &authority);
        let envoy = serde_yaml::to_string(&document).map_err(|error| Refusal::Failed(error.to_string()))?;
        Ok(Answer { bootstrap: envoy.into_bytes(), kuma_sidecar_configuration: sidecar })
    }

    /// What Envoy dials: a name that the certificate is good for.
    fn xds_host<'a>(&'a self, shown: &Shown, host: &'a str) -> Result<&'a str, Refusal> {
        if !self.settings.xds_host.is_empty() {
            return Ok(&self.settings.xds_host);
        }
        if shown.hosts.contains(host) {
            return Ok(host);
        }
        let known: Vec<&str> = shown.hosts.iter().map(String::as_str).collect();
        Err(Refusal::OtherHost { host: host.to_owned(), known: known.join(", ") })
    }

    /// What Envoy trusts: what the proxy was given, or else the control plane's own certificate.
    fn authority(&self, shown: &Shown, given: &str) -> Result<String, Refusal> {
        let own = self.tls.shown_pem();
        let pem = if given.is_empty() { &own } else { given };
        let trusted = Shown::parse_pem(pem.as_bytes())
            .map_err(|error| Refusal::Failed(format!("the authority of the control plane cannot be read: {error}")))?;
        // One that signed itself is its own authority, whatever it says.
        if trusted.may_be_trusted || (trusted.self_signed && trusted.is(shown)) {
            return Ok(pem.to_owned());
        }
        Err(Refusal::NoAuthority)
    }

    fn corefile(&self) -> Result<Vec<u8>, Refusal> {
        let path = &self.settings.corefile_template;
        if path.is_empty() {
            return Ok(Vec::new());
        }
        std::fs::read(path).map_err(|error| Refusal::Failed(format!("the template of the Corefile {path:?}: {error}")))
    }
}

fn read(body: &[u8]) -> serde_json::Result<Request> {
    let mut value: Value = serde_json::from_slice(body)?;
    drop_nulls(&mut value);
    let mut request: Request = serde_json::from_value(value)?;
    if request.proxy_type.is_empty() {
        request.proxy_type = ProxyType::Dataplane.as_str().to_owned();
    }
    Ok(request)
}

/// Go writes `null` for what was never set, at any depth.
fn drop_nulls(value: &mut Value) {
    let Value::Object(members) = value else { return };
    members.retain(|_, member| !member.is_null());
    members.values_mut().for_each(drop_nulls);
}

/// The resource that the proxy brings, or the one that is stored under its name.
fn resource(stored: &Snapshot, proxy_type: ProxyType, request: &Request) -> Result<Arc<Resource>, Refusal> {
    let kind = proxy_type.kind();
    if request.dataplane_resource.is_empty() {
        let key = Key::new(kind, &request.mesh, &request.name);
        return stored.get(&key).cloned().ok_or(Refusal::NotFound);
    }
    let resource = proxies::read_resource(kind, &request.dataplane_resource).map_err(Refusal::Invalid)?;
    if kind == Kind::Dataplane {
        let mesh = &resource.meta.key.mesh;
        let dataplane = message::<Dataplane>(&resource)?;
        let explicit = dataplane.networking.is_some_and(|networking| !networking.outbound.is_empty());
        if explicit && request.is_redirected() {
            let text = "outbound: should be empty since dataplane is in Transparent Proxying mode";
            return Err(Refusal::Invalid(text.to_owned()));
        }
        if stored.get(&Key::global(Kind::Mesh, mesh)).is_none() {
            return Err(Refusal::Invalid(format!("mesh: mesh {mesh:?} does not exist")));
        }
    }
    Ok(Arc::new(resource))
}

fn message<M: model::spec::ProtoSpec + Clone>(resource: &Resource) -> Result<M, Refusal> {
    let read = resource.spec.message::<M>();
    read.map(|message| M::clone(&message)).map_err(|error| Refusal::Failed(error.to_string()))
}

/// What its configuration depends on, and its address if it is a dataplane.
fn of_proxy(resource: &Resource, proxy_type: ProxyType) -> Result<(Facts, String), Refusal> {
    let mut address = String::new();
    let facts = match proxy_type {
        ProxyType::Dataplane => {
            let dataplane = message::<Dataplane>(resource)?;
            let networking = dataplane.networking.clone().unwrap_or_default();
            address = networking.address;
            Facts {
                cluster: dataplane::identifying_service(&dataplane).to_owned(),
                admin_port: networking.admin.map_or(0, |admin| admin.port),
                builtin_gateway: dataplane::role(&dataplane) == Role::BuiltinGateway,
                dataplane: Some(dataplane),
                exclusive: false,
            }
        }
        ProxyType::Ingress => {
            let admin = message::<ZoneIngress>(resource)?.networking.and_then(|networking| networking.admin);
            Facts::of_zone("ingress", admin.map_or(0, |admin| admin.port))
        }
        ProxyType::Egress => {
            let admin = message::<ZoneEgress>(resource)?.networking.and_then(|networking| networking.admin);
            Facts::of_zone("egress", admin.map_or(0, |admin| admin.port))
        }
    };
    Ok((facts, address))
}

/// Whether a name has addresses and none of IPv6. Envoy then need not wait for the answer that there is none.
async fn only_v4(host: &str) -> bool {
    if host == "localhost" || host.parse::<IpAddr>().is_ok() {
        return false;
    }
    match tokio::time::timeout(LOOKUP, tokio::net::lookup_host((host, 0))).await {
        Ok(Ok(addresses)) => {
            let mut addresses = addresses.peekable();
            addresses.peek().is_some() && addresses.all(|address| address.is_ipv4())
        }
        _ => false,
    }
}

/// The name in a request, without its port.
fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> &'a str {
    let header = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = uri.authority().map(http::uri::Authority::as_str).or(header).unwrap_or_default();
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

#[cfg(test)]
mod tests;
