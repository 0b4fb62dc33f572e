//! Writing: one resource is put or deleted, with what depends on it, in one transaction.

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use kds_proto::kuma::mesh::v1alpha1::Mesh;
use kds_proto::kuma::system::v1alpha1::ZoneInsight;
use model::intake::{self, Put, Rejection};
use model::label_rules::OriginLabel;
use model::spec::mesh;
use model::{Key, Kind, Resource, Snapshot, insight, labels};
use serde::Serialize;
use store::{Applied, ApplyError, Batch};

use crate::audit::Deed;
use crate::companions::{self, CompanionError};
use crate::problem::Problem;
use crate::resource::{check_access, key_of};
use crate::serve::Call;
use crate::{Api, edits, precondition, reply};

const DELETE: &str = "Could not delete a resource";

#[derive(Serialize)]
struct Written {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// `PUT` of one resource: 201 when it is new, 200 when it replaces one.
pub(crate) async fn put(api: &Api, call: &Call, kind: Kind, body: Bytes) -> Result<Response, Problem> {
    // Asked anew after the body came, which may have taken its time.
    let key = admit(api, call, kind)?;
    let origin_label = if api.settings.skip_origin_check { OriginLabel::Free } else { OriginLabel::Required };
    let put = Put { mode: &api.settings.mode, origin_label, kind, mesh: &key.mesh, name: &key.name, body: &body };
    let draft = intake::read(put).map_err(refused)?;
    let configuration = api.configuration();
    let stored = configuration.get(&key);
    call.precondition.check(&key, stored.map(AsRef::as_ref))?;
    let accepted = match stored {
        Some(stored) => draft.replace(stored),
        None => draft.create(),
    };
    let accepted = accepted.map_err(refused)?;
    let resource = edits::apply(&api.settings.mode, &configuration, accepted.resource, stored.is_none())?;
    let batch = with_companions(api, &configuration, resource, stored).await?;
    let applied = api.store.apply(batch).await.map_err(|error| {
        let title = if stored.is_some() { "Failed to update a resource" } else { "Failed to create a resource" };
        not_applied(title, &key, error)
    })?;
    let (status, operation) =
        if stored.is_some() { (StatusCode::OK, "update") } else { (StatusCode::CREATED, "create") };
    let response = reply::json(status, &Written { warnings: accepted.warnings });
    // The resource itself comes first, what comes with it after.
    let written = applied.resources.first();
    let response = told(response, operation, &applied, written.map(|resource| resource.meta.version));
    Ok(match written {
        Some(resource) => precondition::tagged(response, resource),
        None => response,
    })
}

/// `DELETE` of one resource and of what it owns.
pub(crate) async fn delete(api: &Api, call: &Call, kind: Kind) -> Result<Response, Problem> {
    let key = admit(api, call, kind)?;
    let configuration = api.configuration();
    let stored = configuration.get(&key).ok_or_else(|| Problem::not_found(DELETE))?;
    call.precondition.check(&key, Some(stored))?;
    check_own(api, stored)?;
    if !api.settings.unsafe_delete {
        check_deletable(&key, &configuration, &api.insights())?;
    }
    let version = call.precondition.is_of_version().then_some(stored.meta.version);
    let batch = Batch::new().with(store::Write::Delete { key: key.clone(), version });
    let applied = api.store.apply(batch).await.map_err(|error| not_applied(DELETE, &key, error))?;
    let response = reply::json(StatusCode::OK, &Written { warnings: Vec::new() });
    Ok(told(response, "delete", &applied, None))
}

/// Notes on the answer what the audit log wants to know.
fn told(mut response: Response, operation: &'static str, applied: &Applied, version: Option<u64>) -> Response {
    response.extensions_mut().insert(Deed::Written { operation, revision: applied.revision, version });
    response
}

/// The write itself, and what comes with a mesh.
async fn with_companions(
    api: &Api,
    configuration: &Arc<Snapshot>,
    mut resource: Resource,
    stored: Option<&Arc<Resource>>,
) -> Result<Batch, Problem> {
    let (new_mesh, now) = (api.settings.new_mesh, api.clock.now());
    let companions = companions::of(new_mesh, configuration, &resource, stored.is_none(), now).await;
    let companions = companions.map_err(|error| match error {
        CompanionError::Authority { position, cause } => {
            let field = format!("mtls.backends[{position}].conf");
            Problem::invalid_field("Failed to create a resource", &field, cause.to_string())
        }
        error => {
            tracing::error!(resource = %resource.meta.key, %error, "what comes with a new mesh could not be made");
            Problem::internal("Failed to create a resource")
        }
    })?;
    let batch = match stored {
        Some(stored) => {
            resource.meta.version = stored.meta.version;
            Batch::new().update(resource)
        }
        None => Batch::new().create(resource),
    };
    Ok(companions.into_iter().fold(batch, Batch::put))
}

/// Key of the resource in the path, for a caller who may write it.
///
/// # Errors
/// 405, 404 (the mesh), 403, in this order.
pub(crate) fn admit(api: &Api, call: &Call, kind: Kind) -> Result<Key, Problem> {
    check_writable(api, kind)?;
    let key = key_of(api, call, kind)?;
    check_may_write(api, call, kind)?;
    Ok(key)
}

/// Whether this control plane takes writes of the kind at all.
fn check_writable(api: &Api, kind: Kind) -> Result<(), Problem> {
    let mode = &api.settings.mode;
    if api.settings.read_only || !mode.may_write(kind) {
        return Err(Problem::method_not_allowed(mode.write_refusal()));
    }
    Ok(())
}

/// Whether the caller may write.
fn check_may_write(api: &Api, call: &Call, kind: Kind) -> Result<(), Problem> {
    check_access(api, call, kind)?;
    if !api.settings.access.write.allows(&call.user) {
        let detail = format!(
            "user \"{}\" cannot write resources: show a user token, or add a group to access.static.write.groups",
            call.user
        );
        return Err(Problem::access_denied(detail));
    }
    Ok(())
}

/// A federated zone does not delete what the global told it: it would be missing here until the global changes it.
fn check_own(api: &Api, stored: &Resource) -> Result<(), Problem> {
    let synced = stored.meta.labels.get(labels::ORIGIN) == Some(labels::ORIGIN_GLOBAL);
    if api.settings.mode.is_federated_zone() && synced && !api.settings.skip_origin_check {
        let field = format!("labels[{:?}]", labels::ORIGIN);
        return Err(Problem::invalid_field(DELETE, &field, "the origin label must be set to 'zone'"));
    }
    Ok(())
}

/// What must not go while something needs it (api-and-kumactl 1.10).
fn check_deletable(key: &Key, configuration: &Snapshot, insights: &Snapshot) -> Result<(), Problem> {
    let refuse = |field: &str, reason: String| Err(Problem::invalid_field(DELETE, field, reason));
    match key.kind {
        Kind::Zone => {
            let insight = insights.get(&Key::global(Kind::ZoneInsight, &key.name));
            let insight = insight.and_then(|insight| insight.spec.message::<ZoneInsight>().ok());
            if insight.is_some_and(|insight| insight::zone_is_online(&insight)) {
                let reason = "unable to delete Zone, Zone CP is still connected, please shut it down first";
                return refuse("zone", reason.to_owned());
            }
        }
        Kind::Mesh if configuration.list_in(Kind::Dataplane, &key.name).next().is_some() => {
            return refuse("mesh", "unable to delete mesh, there are still some dataplanes attached".to_owned());
        }
        Kind::Secret => {
            let mesh = configuration.get(&Key::global(Kind::Mesh, &key.mesh));
            let mesh = mesh.and_then(|mesh| mesh.spec.message::<Mesh>().ok());
            if let Some(backend) =
                mesh.and_then(|mesh| mesh::backend_using(&key.mesh, &mesh, &key.name).map(str::to_owned))
            {
                let (secret, mesh) = (&key.name, &key.mesh);
                return refuse(
                    "name",
                    format!(
                        "The secret {secret:?} that you are trying to remove is currently in use in Mesh {mesh:?} in mTLS \
                     backend {backend:?}. Please remove the reference from the {backend:?} backend before removing the \
                     secret."
                    ),
                );
            }
        }
        _ => {}
    }
    Ok(())
}

fn refused(rejection: Rejection) -> Problem {
    let title = rejection.title();
    match rejection {
        Rejection::BadRequest(detail) => Problem::bad_request(detail),
        Rejection::Invalid { faults, .. } => Problem::invalid(title, faults),
    }
}

fn not_applied(title: &str, key: &Key, error: ApplyError) -> Problem {
    match error {
        ApplyError::AlreadyExists(key) => precondition::already_exists(&key),
        ApplyError::Conflict { key, .. } => precondition::conflict(&key),
        ApplyError::NotFound(_) => Problem::not_found(title),
        ApplyError::RequirementMissing(missing) if missing.kind == Kind::Mesh => {
            let mesh = &missing.name;
            let problem = Problem::invalid_field(title, "mesh", format!("mesh of name {mesh} is not found"));
            Problem { detail: "Mesh is not found".to_owned(), ..problem }
        }
        ApplyError::Invalid { reason, .. } => Problem::bad_request(format!("bad request: {reason}")),
        error => {
            tracing::error!(resource = %key, %error, "a write failed");
            match error {
                ApplyError::Storage(error) if error.fault() != store::Fault::Other => {
                    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable", error.to_string())
                }
                _ => Problem::internal(title),
            }
        }
    }
}
