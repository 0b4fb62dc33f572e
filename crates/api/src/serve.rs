//! A request on its way to its handler: method, formats, identity, limits, and what is told of it afterwards.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts, Path, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use identity::User;
use model::Snapshot;
use runtime::serve::PeerCertificates;
use tracing::Instrument;

use crate::precondition::Precondition;
use crate::problem::Problem;
use crate::query::Query;
use crate::route::{self, Operation, Route};
use crate::{Api, audit, inspect, kinds, limits, meta, openapi, proxy_admin, reply, resource, tokens, write};

/// What a handler knows of its request.
pub(crate) struct Call {
    /// The matched route.
    pub route: Arc<Route>,
    /// Names in the path, decoded.
    pub names: HashMap<String, String>,
    /// What stands behind the question mark.
    pub query: Query,
    /// `http://host:port` as the client wrote it.
    pub origin: String,
    /// Path as the client wrote it.
    pub path: String,
    /// What must be stored for a write to be made.
    pub precondition: Precondition,
    /// Who calls.
    pub user: User,
}

impl Call {
    /// Name in the path, empty when the route has none of that name.
    pub fn name(&self, of: &str) -> &str {
        self.names.get(of).map_or("", String::as_str)
    }
}

impl Api {
    /// Everything but insights, as of now.
    pub fn configuration(&self) -> Arc<Snapshot> {
        self.store.configuration().borrow().clone()
    }

    /// Insights, as of now.
    pub fn insights(&self) -> Arc<Snapshot> {
        self.store.insights().borrow().clone()
    }
}

pub(crate) fn router(api: Arc<Api>) -> Router {
    let mut router = Router::new();
    for route in route::all() {
        let paths = api.settings.place.paths(&route.template);
        let (route, api) = (Arc::new(route), Arc::clone(&api));
        let handler = any(move |request: Request| answer(Arc::clone(&api), Arc::clone(&route), request));
        router = paths.iter().fold(router, |router, path| router.route(path, handler.clone()));
    }
    let cors = api.settings.place.cors();
    let router = router.fallback(move |request: Request| {
        let measured = api.settings.metrics.begin("none", request.method(), &api.clock);
        measured.answered(StatusCode::NOT_FOUND);
        async { reply::plain(StatusCode::NOT_FOUND, "404: Page Not Found") }
    });
    match cors {
        Some(cors) => router.layer(cors),
        None => router,
    }
}

async fn answer(api: Arc<Api>, route: Arc<Route>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    // Of a level that only those see who collect traces.
    let span = tracing::debug_span!(
        "api-request",
        otel.name = %format_args!("{} {}", parts.method, route.template),
        otel.kind = "server",
        http.request.method = %parts.method,
        http.route = %route.template,
        http.response.status_code = tracing::field::Empty,
    );
    let measured = api.settings.metrics.begin(&route.template, &parts.method, &api.clock);
    let mut response = match refused_by_router(&route, &parts) {
        Some(refusal) => refusal,
        None if parts.method == Method::GET => {
            attend(&api, &route, parts, body).instrument(span.clone()).await.into_response()
        }
        // A write goes on when its caller hangs up: so its end is in the audit log whatever happens.
        None => {
            let (api, route) = (Arc::clone(&api), Arc::clone(&route));
            let attended = async move { attend(&api, &route, parts, body).await };
            let task = tokio::spawn(attended.instrument(span.clone()));
            task.await
                .unwrap_or_else(|error| {
                    tracing::error!(%error, "the task of a request died");
                    Err(Problem::internal("Internal Server Error"))
                })
                .into_response()
        }
    };
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    span.record("http.response.status_code", response.status().as_u16());
    measured.answered(response.status());
    response
}

/// A request that has a handler, from its identity to its line in the audit log.
async fn attend(api: &Arc<Api>, route: &Arc<Route>, mut parts: Parts, body: Body) -> Result<Response, Problem> {
    let names = Path::<HashMap<String, String>>::from_request_parts(&mut parts, &()).await;
    let names = names.map(|Path(names)| names).unwrap_or_default();
    let entry = || audit::Entry::of(route.operation, &parts.method, &names, peer(&parts), api.clock.now());
    let mut entry = api.settings.audit.as_ref().and_then(|audit| Some((audit, entry()?)));
    let answered = match caller(api, route, &parts) {
        Ok(user) => {
            if let Some((_, entry)) = &mut entry {
                entry.by(&user);
            }
            let call = Call {
                names,
                query: Query::parse(parts.uri.query()),
                origin: origin(&parts),
                path: parts.uri.path().to_owned(),
                precondition: Precondition::of(&parts.headers),
                route: Arc::clone(route),
                user,
            };
            work(api, &call, &parts.method, body).await
        }
        Err(problem) => Err(problem),
    };
    if let Some((audit, mut entry)) = entry {
        entry.ended(&answered);
        audit.record(&entry).await;
    }
    answered
}

/// Reads the body and works on the request, each within its limits.
async fn work(api: &Arc<Api>, call: &Call, method: &Method, body: Body) -> Result<Response, Problem> {
    let (limits, metrics) = (&api.settings.limits, &api.settings.metrics);
    let max = match call.route.operation {
        Operation::One(kind) if *method == Method::PUT => {
            // Who may not write does not get to send megabytes either.
            write::admit(api, call, kind)?;
            limits.body_size
        }
        Operation::IssueToken(_) => limits::MAX_TOKEN_REQUEST,
        _ => 0,
    };
    let body = if max == 0 { Ok(Bytes::new()) } else { limits::read(body, max, &api.clock, limits.body).await };
    let body = body.inspect_err(|problem| match problem.status {
        StatusCode::PAYLOAD_TOO_LARGE => metrics.refused("body-size"),
        StatusCode::REQUEST_TIMEOUT => metrics.refused("body-time"),
        _ => {}
    })?;
    let _place = api.places.take().inspect_err(|_| metrics.refused("concurrent"))?;
    api.clock.timeout(limits.work, handle(api, call, method, body)).await.unwrap_or_else(|| {
        metrics.refused("work-time");
        Err(limits::too_slow(limits.work))
    })
}

async fn handle(api: &Arc<Api>, call: &Call, method: &Method, body: Bytes) -> Result<Response, Problem> {
    match call.route.operation {
        Operation::Index => Ok(meta::index(api)),
        Operation::Config => meta::config(api, call),
        Operation::Policies => {
            Ok(reply::json(StatusCode::OK, &kinds::policies(&api.settings.mode, api.settings.read_only)))
        }
        Operation::Resources => {
            Ok(reply::json(StatusCode::OK, &kinds::resources(&api.settings.mode, api.settings.read_only)))
        }
        Operation::WhoAmI => Ok(reply::json(StatusCode::OK, &call.user)),
        Operation::GlobalInsight => Ok(meta::global_insight(api)),
        Operation::GlobalInsights => Ok(meta::global_insights(api)),
        Operation::ByIdentifier => resource::by_identifier(api, call),
        Operation::IssueToken(of) => tokens::issue(api, call, of, body).await,
        Operation::Gui => Ok(gui(api, call)),
        Operation::OpenApi => Ok(reply::json(StatusCode::OK, &openapi::document())),
        Operation::List(kind) => resource::list(api, call, kind),
        Operation::ListOverviews(kind) => resource::list_overviews(api, call, kind),
        Operation::Overview(kind) => resource::overview(api, call, kind),
        Operation::View(view) => inspect::answer(api, call, view),
        Operation::AskProxy(kind) => proxy_admin::answer(api, call, kind).await,
        Operation::One(kind) => match *method {
            Method::PUT => write::put(api, call, kind, body).await,
            Method::DELETE => write::delete(api, call, kind).await,
            _ => resource::one(api, call, kind),
        },
    }
}

/// What the router itself refuses, before anybody asks who calls.
fn refused_by_router(route: &Route, parts: &Parts) -> Option<Response> {
    let methods = route.operation.methods();
    if !methods.contains(&parts.method) {
        let mut refusal = reply::plain(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed");
        let allowed: Vec<&str> = methods.iter().map(Method::as_str).collect();
        if let Ok(allowed) = HeaderValue::from_str(&allowed.join(", ")) {
            refusal.headers_mut().insert(ALLOW, allowed);
        }
        return Some(refusal);
    }
    let has_body = matches!(parts.method, Method::PUT | Method::POST);
    if has_body && !is_json(&parts.headers) {
        return Some(reply::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "415: Unsupported Media Type"));
    }
    if !accepts_json(&parts.headers) && !matches!(route.operation, Operation::Gui | Operation::IssueToken(_)) {
        let text = "406: Not Acceptable\n\nAvailable representations: application/json";
        return Some(reply::plain(StatusCode::NOT_ACCEPTABLE, text));
    }
    None
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    value.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
}

fn accepts_json(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    let media = |range: &str| range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    accepted.peek().is_none()
        || accepted
            .flat_map(|value| value.split(','))
            .map(media)
            .any(|range| matches!(range.as_str(), "" | "*/*" | "application/*" | "application/json"))
}

/// Who calls, as far as the route wants to know.
fn caller(api: &Api, route: &Route, parts: &Parts) -> Result<User, Problem> {
    if route.operation.is_open() {
        return Ok(User::anonymous());
    }
    let facts = identity::RequestFacts {
        peer: peer(parts),
        host: host(parts),
        headers: &parts.headers,
        certified: parts.extensions.get::<PeerCertificates>().is_some(),
    };
    api.settings.authentication.caller(&facts, &api.configuration(), api.clock.now()).map_err(|error| {
        tracing::info!(%error, path = parts.uri.path(), "a credential was refused");
        Problem::unauthenticated()
    })
}

fn peer(parts: &Parts) -> Option<SocketAddr> {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer)
}

fn host(parts: &Parts) -> &str {
    let header = parts.headers.get(HOST).and_then(|value| value.to_str().ok());
    header.or_else(|| parts.uri.authority().map(http::uri::Authority::as_str)).unwrap_or_default()
}

fn origin(parts: &Parts) -> String {
    let scheme = if parts.extensions.get::<Tls>().is_some() { "https" } else { "http" };
    format!("{scheme}://{}", host(parts))
}

/// Marks a request that came over TLS.
#[derive(Clone, Copy, Debug)]
pub struct Tls;

/// `/gui` leads to `/gui/`, where a page says that there is none.
fn gui(api: &Api, call: &Call) -> Response {
    const PAGE: &str = include_str!("gui_disabled.html");
    if call.path != api.settings.place.below("/gui") {
        return reply::with_type(StatusCode::OK, "text/html; charset=utf-8", PAGE);
    }
    let target = api.settings.place.below("/gui/");
    let link = format!("<a href=\"{target}\">Temporary Redirect</a>.\n\n");
    let mut response = reply::with_type(StatusCode::TEMPORARY_REDIRECT, "text/html; charset=utf-8", link);
    if let Ok(target) = HeaderValue::from_str(&target) {
        response.headers_mut().insert(LOCATION, target);
    }
    response
}

#[cfg(test)]
mod tests {
    use http::Uri;

    use super::*;

    fn headers(of: &[(http::HeaderName, &str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn formats_are_recognised_with_their_parameters() {
        assert!(is_json(&headers(&[(CONTENT_TYPE, "application/json; charset=utf-8")])));
        assert!(!is_json(&headers(&[(CONTENT_TYPE, "application/yaml")])));
        assert!(!is_json(&headers(&[])));
        for accepted in ["application/json", "text/html, */*;q=0.1", "application/*"] {
            assert!(accepts_json(&headers(&[(ACCEPT, accepted)])), "{accepted}");
        }
        assert!(accepts_json(&headers(&[])));
        assert!(!accepts_json(&headers(&[(ACCEPT, "application/xml")])));
    }

    #[test]
    fn the_uri_tells_the_host_where_http2_has_no_header() {
        let (parts, ()) =
            http::Request::builder().uri(Uri::from_static("http://cp:5681/meshes")).body(()).unwrap().into_parts();
        assert_eq!(host(&parts), "cp:5681");
    }
}
