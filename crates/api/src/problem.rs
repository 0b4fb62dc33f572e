//! What went wrong, as the API says it: the one file that makes HTTP statuses of failures (api-and-kumactl 1.8).

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use model::{Violation, Violations};
use serde::Serialize;

use crate::reply;

/// An error body. `detail` and `details` hold the same text and `causes` mirrors `invalid_parameters`, because old
/// and new clients read different halves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Status of the answer.
    pub status: StatusCode,
    /// What was attempted or refused.
    pub title: String,
    /// Why.
    pub detail: String,
    /// Faults of single fields.
    pub parameters: Vec<Violation>,
}

/// Detail of every problem that lists the faults of fields.
const NOT_VALID: &str = "Resource is not valid";

impl Problem {
    /// A problem without faults of single fields.
    pub fn new(status: StatusCode, title: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { status, title: title.into(), detail: detail.into(), parameters: Vec::new() }
    }

    /// 400 with the faults of single fields.
    pub fn invalid(title: impl Into<String>, faults: Violations) -> Self {
        let parameters = faults.into_iter().collect();
        Self { parameters, ..Self::new(StatusCode::BAD_REQUEST, title, NOT_VALID) }
    }

    /// 400 with one fault.
    pub fn invalid_field(title: impl Into<String>, field: &str, reason: impl Into<String>) -> Self {
        let parameters = vec![Violation { field: field.to_owned(), reason: reason.into() }];
        Self { parameters, ..Self::new(StatusCode::BAD_REQUEST, title, NOT_VALID) }
    }

    /// 400 for a request that cannot be understood.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Bad Request", detail)
    }

    /// 401: a credential was shown and is not good. The reason stays in our log.
    pub fn unauthenticated() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Invalid authentication data", "Unauthenticated")
    }

    /// 403 with the whole reason.
    pub fn access_denied(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Access Denied", detail)
    }

    /// 404 under the caller's title.
    pub fn not_found(title: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, title, "Not found")
    }

    /// 405 for a write that this control plane never takes, be it by mode or by setting.
    pub fn method_not_allowed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", detail)
    }

    /// 409: somebody else was faster.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "Conflict", detail)
    }

    /// 500. What happened is logged, not told.
    pub fn internal(title: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, title, "Internal Server Error")
    }
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    status: u16,
    title: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    invalid_parameters: Vec<Parameter<'a>>,
    details: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<Cause<'a>>,
}

#[derive(Serialize)]
struct Parameter<'a> {
    field: &'a str,
    reason: &'a str,
}

#[derive(Serialize)]
struct Cause<'a> {
    field: &'a str,
    message: &'a str,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let each = || self.parameters.iter().map(|fault| (fault.field.as_str(), fault.reason.as_str()));
        let body = Body {
            r#type: "/std-errors",
            status: self.status.as_u16(),
            title: &self.title,
            detail: &self.detail,
            invalid_parameters: each().map(|(field, reason)| Parameter { field, reason }).collect(),
            details: &self.detail,
            causes: each().map(|(field, message)| Cause { field, message }).collect(),
        };
        reply::json(self.status, &body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn text(problem: Problem) -> String {
        let body = axum::body::to_bytes(problem.into_response().into_body(), 1 << 16).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    /// API-1: both halves of an error body hold the same.
    #[tokio::test]
    async fn every_fault_is_told_twice() {
        let problem = Problem::invalid_field("Could not process a resource", "name", "cannot be empty");
        let expected = r#"{
 "type": "/std-errors",
 "status": 400,
 "title": "Could not process a resource",
 "detail": "Resource is not valid",
 "invalid_parameters": [
  {
   "field": "name",
   "reason": "cannot be empty"
  }
 ],
 "details": "Resource is not valid",
 "causes": [
  {
   "field": "name",
   "message": "cannot be empty"
  }
 ]
}
"#;
        assert_eq!(text(problem).await, expected);
    }

    #[tokio::test]
    async fn without_faults_the_lists_are_absent() {
        assert!(!text(Problem::not_found("Could not retrieve a resource")).await.contains("invalid_parameters"));
    }
}
