//! Reading: one resource, many, with or without what is known of how they fare.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use model::kind::{Access, Scope};
use model::kri::Kri;
use model::rest_form::{self, Shown};
use model::spec::SpecError;
use model::{Key, Kind, Resource, Snapshot};
use serde::Serialize;
use serde_json::Value;

use crate::filter::{self, Filter};
use crate::problem::Problem;
use crate::query::{self, Page, Paged};
use crate::serve::Call;
use crate::{Api, kubernetes, overview, precondition, reply, service_insight};

const RETRIEVE_ONE: &str = "Could not retrieve a resource";

#[derive(Serialize)]
struct List<T> {
    total: usize,
    items: Vec<T>,
    next: Option<String>,
}

/// `GET` of a collection.
pub(crate) fn list(api: &Api, call: &Call, kind: Kind) -> Result<Response, Problem> {
    let mesh = mesh_of(api, call, kind)?;
    check_access(api, call, kind)?;
    if kind == Kind::ServiceInsight {
        return list_services(api, call, mesh);
    }
    let page = Page::from_query(&call.query, filter::TITLE)?;
    let filter = Filter::from_query(&call.query, kind, &call.route.template)?;
    let snapshot = snapshot_of(api, kind);
    let paged = cut(page, &filter, &snapshot, kind, mesh);
    let printed = reply::try_json(StatusCode::OK, &list_of(call, &paged, |resource| Shown(resource)));
    // One by one, so that what does not print spoils nothing else.
    Ok(printed.unwrap_or_else(|_| paged_reply(call, &paged, |resource| print(resource))))
}

/// `GET` of a collection of overviews.
pub(crate) fn list_overviews(api: &Api, call: &Call, kind: Kind) -> Result<Response, Problem> {
    let mesh = mesh_of(api, call, kind)?;
    let page = Page::from_query(&call.query, filter::TITLE)?;
    let filter = Filter::from_query(&call.query, kind, &call.route.template)?;
    let (configuration, insights) = (api.configuration(), api.insights());
    let paged = cut(page, &filter, &configuration, kind, mesh);
    Ok(paged_reply(call, &paged, |resource| overview::of(resource, &insights, Some(&filter))))
}

/// `GET` of one resource.
pub(crate) fn one(api: &Api, call: &Call, kind: Kind) -> Result<Response, Problem> {
    let key = key_of(api, call, kind)?;
    check_access(api, call, kind)?;
    if kind == Kind::ServiceInsight {
        let stored = Key::new(kind, &key.mesh, &service_insight::stored_name(&key.mesh));
        let insights = api.insights();
        let stored = insights.get(&stored).ok_or_else(|| Problem::not_found(RETRIEVE_ONE))?;
        return Ok(reply::json(StatusCode::OK, &service_insight::one(stored, &key.name, &api.settings.addressing)));
    }
    let snapshot = snapshot_of(api, kind);
    let resource = snapshot.get(&key).ok_or_else(|| Problem::not_found(RETRIEVE_ONE))?;
    Ok(precondition::tagged(formatted(call, resource)?, resource))
}

/// `GET` of one overview.
pub(crate) fn overview(api: &Api, call: &Call, kind: Kind) -> Result<Response, Problem> {
    let key = key_of(api, call, kind)?;
    let configuration = api.configuration();
    let resource = configuration.get(&key).ok_or_else(|| Problem::not_found(RETRIEVE_ONE))?;
    Ok(reply::json(StatusCode::OK, &overview::of(resource, &api.insights(), None)))
}

/// `GET` of one resource by its identifier.
pub(crate) fn by_identifier(api: &Api, call: &Call) -> Result<Response, Problem> {
    let kri: Kri = call.name("kri").parse().map_err(|error| Problem::bad_request(format!("bad request: {error}")))?;
    check_access(api, call, kri.kind)?;
    let snapshot = snapshot_of(api, kri.kind);
    let named = |resource: &&Arc<Resource>| Kri::of(&resource.meta).is_some_and(|of| of == kri);
    let mesh = (kri.kind.info().scope == Scope::Mesh).then_some(&*kri.mesh);
    let resource = of_mesh(&snapshot, kri.kind, mesh).find(named).ok_or_else(|| Problem::not_found(RETRIEVE_ONE))?;
    formatted(call, resource)
}

fn list_services(api: &Api, call: &Call, mesh: Option<&str>) -> Result<Response, Problem> {
    let page = Page::from_query(&call.query, "Could not paginate resources")?;
    let insights = api.insights();
    let mut services = Vec::new();
    for stored in of_mesh(&insights, Kind::ServiceInsight, mesh) {
        services.extend(service_insight::expand(stored, &call.query, &api.settings.addressing)?);
    }
    Ok(paged_reply(call, &page.cut(services.into_iter()), Value::clone))
}

/// A page of what passes a filter; without conditions, the snapshot knows how many there are.
fn cut<'a>(
    page: Page,
    filter: &Filter,
    snapshot: &'a Snapshot,
    kind: Kind,
    mesh: Option<&'a str>,
) -> Paged<&'a Arc<Resource>> {
    let all = of_mesh(snapshot, kind, mesh);
    if !filter.is_empty() {
        return page.cut(all.filter(|resource| filter.passes(resource)));
    }
    page.cut_of(mesh.map_or_else(|| snapshot.count(kind), |mesh| snapshot.count_in(kind, mesh)), all)
}

fn paged_reply<T>(call: &Call, paged: &Paged<T>, print: impl Fn(&T) -> Value) -> Response {
    reply::json(StatusCode::OK, &list_of(call, paged, print))
}

fn list_of<'p, T, P>(call: &Call, paged: &'p Paged<T>, print: impl Fn(&'p T) -> P) -> List<P> {
    List {
        total: paged.total,
        items: paged.items.iter().map(print).collect(),
        next: paged.next.map(|offset| query::next_link(&call.origin, &call.path, &call.query, offset)),
    }
}

fn formatted(call: &Call, resource: &Resource) -> Result<Response, Problem> {
    match call.query.get("format") {
        None | Some("universal") => {
            let printed = reply::try_json(StatusCode::OK, &Shown(resource));
            Ok(printed.unwrap_or_else(|_| reply::json(StatusCode::OK, &print(resource))))
        }
        Some("k8s" | "kubernetes") => {
            let namespace = call.query.get("namespace").unwrap_or("kuma-system");
            Ok(reply::json(StatusCode::OK, &shown(resource, kubernetes::object(resource, namespace))))
        }
        Some(_) => {
            let reason = r#""format" must be one of ["k8s", "kubernetes", "universal"]"#;
            Err(Problem::invalid_field(RETRIEVE_ONE, "", reason))
        }
    }
}

fn print(resource: &Resource) -> Value {
    shown(resource, rest_form::print(resource))
}

fn shown(resource: &Resource, form: Result<Value, SpecError>) -> Value {
    form.unwrap_or_else(|error| {
        tracing::error!(resource = %resource.meta.key, %error, "stored content does not decode");
        Value::Null
    })
}

/// Key of the resource in the path, in a mesh that exists.
pub(crate) fn key_of(api: &Api, call: &Call, kind: Kind) -> Result<Key, Problem> {
    if kind == Kind::Mesh {
        return Ok(Key::global(kind, call.name("mesh")));
    }
    let mesh = mesh_of(api, call, kind)?;
    Ok(Key::new(kind, mesh.unwrap_or_default(), call.name("name")))
}

/// The mesh in the path; `None` when the route has none, which asks for all meshes.
fn mesh_of<'a>(api: &Api, call: &'a Call, kind: Kind) -> Result<Option<&'a str>, Problem> {
    let mesh = call.names.get("mesh").map(String::as_str);
    let Some(mesh) = mesh.filter(|_| kind.info().scope == Scope::Mesh) else { return Ok(None) };
    if api.configuration().get(&Key::global(Kind::Mesh, mesh)).is_none() {
        return Err(Problem::not_found("Failed to retrieve Mesh"));
    }
    Ok(Some(mesh))
}

/// Secrets are for admins, to read as well.
pub(crate) fn check_access(api: &Api, call: &Call, kind: Kind) -> Result<(), Problem> {
    if kind.info().access == Access::Admins && !api.settings.access.admin_resources.allows(&call.user) {
        let user = &call.user;
        return Err(Problem::access_denied(format!("user \"{user}\" cannot access the resource of type \"{kind}\"")));
    }
    Ok(())
}

fn snapshot_of(api: &Api, kind: Kind) -> Arc<Snapshot> {
    api.store.snapshots_of(kind).borrow().clone()
}

fn of_mesh<'a>(
    snapshot: &'a Snapshot,
    kind: Kind,
    mesh: Option<&'a str>,
) -> Box<dyn Iterator<Item = &'a Arc<Resource>> + 'a> {
    match mesh {
        Some(mesh) => Box::new(snapshot.list_in(kind, mesh)),
        None => Box::new(snapshot.list(kind)),
    }
}
