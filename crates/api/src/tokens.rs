//! Issuing tokens (api-and-kumactl 2.5).

use std::collections::BTreeMap;

use axum::response::Response;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use identity::signing_key::{KeyError, Purpose};
use identity::token::{self, Claims};
use identity::{Permission, SigningKey};
use model::duration::GoDuration;
use model::{Path, Violations};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::audit::Deed;
use crate::problem::Problem;
use crate::route::TokenOf;
use crate::serve::Call;
use crate::{Api, reply};

const TITLE: &str = "Invalid request";

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DataplaneRequest {
    name: String,
    mesh: String,
    tags: BTreeMap<String, Vec<String>>,
    r#type: String,
    workload: String,
    valid_for: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ZoneRequest {
    zone: String,
    scope: Option<Vec<String>>,
    valid_for: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct UserRequest {
    name: String,
    groups: Option<Vec<String>>,
    valid_for: String,
}

/// `POST` of a token request; the answer is the bare token. What is checked first differs, as recorded.
pub(crate) async fn issue(api: &Api, call: &Call, of: TokenOf, body: Bytes) -> Result<Response, Problem> {
    let access = &api.settings.access;
    match of {
        TokenOf::Dataplane => {
            let Some(request) = parse::<DataplaneRequest>(&body) else { return Ok(unreadable()) };
            let lifetime = request.check()?;
            allow(call, &access.generate_dataplane_token, "generate dataplane token")?;
            let DataplaneRequest { name, mesh, tags, r#type, workload, .. } = request;
            let subject = (mesh.clone(), name.clone());
            sign(api, token::Dataplane { name, mesh, tags, r#type, workload }, lifetime, subject).await
        }
        TokenOf::Zone => {
            let Some(request) = parse::<ZoneRequest>(&body) else { return Ok(unreadable()) };
            let what = format!("generate zone token for zone '{}'", request.zone);
            allow(call, &access.generate_zone_token, &what)?;
            let lifetime = request.check()?;
            let ZoneRequest { zone, scope, .. } = request;
            let subject = (String::new(), zone.clone());
            sign(api, token::Zone { zone, scope: scope.unwrap_or_default() }, lifetime, subject).await
        }
        TokenOf::User => {
            if !access.generate_user_token.allows(&call.user) {
                return Err(Problem::access_denied("action not allowed"));
            }
            let Some(request) = parse::<UserRequest>(&body) else { return Ok(unreadable()) };
            let lifetime = request.check()?;
            let subject = (String::new(), request.name.clone());
            sign(api, token::User { name: request.name, groups: request.groups }, lifetime, subject).await
        }
    }
}

impl DataplaneRequest {
    fn check(&self) -> Result<TimeDelta, Problem> {
        let mut faults = Violations::default();
        if self.mesh.is_empty() {
            faults.add(&Path::of("mesh"), "cannot be empty");
        }
        if !matches!(self.r#type.as_str(), "" | "dataplane" | "ingress" | "egress") {
            faults.add(&Path::of("type"), format!("{} is not a valid proxy type", self.r#type));
        }
        let lifetime = lifetime(&self.valid_for, &mut faults);
        finish(faults, lifetime.unwrap_or(token::TEN_YEARS))
    }
}

impl ZoneRequest {
    fn check(&self) -> Result<TimeDelta, Problem> {
        let mut faults = Violations::default();
        if self.scope.as_ref().is_none_or(Vec::is_empty) {
            faults.add(&Path::of("scope"), "cannot be empty");
        }
        let lifetime = lifetime(&self.valid_for, &mut faults);
        finish(faults, lifetime.unwrap_or(token::TEN_YEARS))
    }
}

impl UserRequest {
    fn check(&self) -> Result<TimeDelta, Problem> {
        let mut faults = Violations::default();
        if self.name.is_empty() {
            faults.add(&Path::of("name"), "cannot be empty");
        }
        if self.valid_for.is_empty() {
            faults.add(&Path::of("validFor"), "cannot be empty");
            return finish(faults, TimeDelta::zero());
        }
        let lifetime = lifetime(&self.valid_for, &mut faults).unwrap_or_default();
        if lifetime.is_zero() {
            faults.add(&Path::of("validFor"), "cannot be empty or nil");
        }
        finish(faults, lifetime)
    }
}

fn finish(faults: Violations, lifetime: TimeDelta) -> Result<TimeDelta, Problem> {
    if faults.is_empty() { Ok(lifetime) } else { Err(Problem::invalid(TITLE, faults)) }
}

/// The lifetime asked for; `None` when nothing is, or nothing that can be read.
fn lifetime(text: &str, faults: &mut Violations) -> Option<TimeDelta> {
    if text.is_empty() {
        return None;
    }
    match text.parse::<GoDuration>() {
        Ok(duration) => Some(TimeDelta::nanoseconds(duration.nanos())),
        Err(error) => {
            faults.add(&Path::of("validFor"), format!("is invalid: {error}"));
            None
        }
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::from_slice(body).ok()
}

/// 400 without a body.
fn unreadable() -> Response {
    let mut response = Response::new(axum::body::Body::empty());
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

fn allow(call: &Call, permission: &Permission, what: &str) -> Result<(), Problem> {
    if permission.allows(&call.user) {
        return Ok(());
    }
    Err(Problem::access_denied(format!("user \"{}\" cannot access {what}", call.user)))
}

/// `subject` is the mesh and the name that the token is for.
async fn sign<C: Claims + Send + 'static>(
    api: &Api,
    claims: C,
    lifetime: TimeDelta,
    subject: (String, String),
) -> Result<Response, Problem> {
    let purpose = claims.purpose();
    if !is_issued(api, &purpose) {
        let detail = "issuing tokens using the control plane is disabled.";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "Could not issue a token", detail));
    }
    let key = SigningKey::newest(&api.configuration(), &purpose).map_err(|error| match error {
        KeyError::Missing { .. } => Problem::new(StatusCode::NOT_FOUND, "Signing Key not found", error.to_string()),
        other => {
            tracing::error!(error = %other, "a signing key cannot be used");
            Problem::internal("Could not issue a token")
        }
    })?;
    let (now, id) = (api.clock.now(), uuid::Uuid::new_v4());
    let expires = now.checked_add_signed(lifetime).unwrap_or(DateTime::<Utc>::MAX_UTC);
    let signed = tokio::task::spawn_blocking(move || token::issue(claims, &key, id, now, lifetime)).await;
    match signed {
        Ok(Ok(token)) => {
            let mut response = reply::with_type(StatusCode::OK, "text/plain", token);
            let (mesh, name) = subject;
            response.extensions_mut().insert(Deed::Issued { mesh, name, id: id.to_string(), expires });
            Ok(response)
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "a token could not be signed");
            Err(Problem::internal("Could not issue a token"))
        }
        Err(error) => {
            tracing::error!(%error, "the task that signs died");
            Err(Problem::internal("Could not issue a token"))
        }
    }
}

fn is_issued(api: &Api, purpose: &Purpose) -> bool {
    let issuers = &api.settings.issuers;
    match purpose {
        Purpose::Dataplane { .. } => issuers.dataplane,
        Purpose::Zone => issuers.zone,
        Purpose::User => issuers.user,
    }
}
