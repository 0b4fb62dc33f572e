//! How answers are written: JSON with one blank per level and a line break at the end (api-and-kumactl 1.2).

use axum::body::Body;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

/// A JSON answer.
pub fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Response {
    let mut text = Vec::with_capacity(256);
    let written = value.serialize(&mut Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b" ")));
    if let Err(error) = written {
        tracing::error!(%error, "an answer has no JSON form");
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "500: Internal Server Error");
    }
    text.push(b'\n');
    with_type(status, "application/json", text)
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
