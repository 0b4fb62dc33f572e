//! How answers are written: JSON with one blank per level and a line break at the end (api-and-kumactl 1.2).

use axum::body::Body;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

/// A JSON answer.
pub fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Response {
    try_json(status, value).unwrap_or_else(|error| {
        tracing::error!(%error, "an answer has no JSON form");
        plain(StatusCode::INTERNAL_SERVER_ERROR, "500: Internal Server Error")
    })
}

/// A JSON answer with something that may have no JSON form.
///
/// # Errors
/// It has none.
pub fn try_json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> serde_json::Result<Response> {
    let mut text = Vec::with_capacity(1024);
    value.serialize(&mut Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b" ")))?;
    text.push(b'\n');
    Ok(with_type(status, "application/json", text))
}

/// A plain text answer of the router itself: unknown path, wrong method, wrong content type.
pub fn plain(status: StatusCode, text: &'static str) -> Response {
    with_type(status, "text/plain; charset=utf-8", text)
}

/// An answer of any content type.
pub fn with_type(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
