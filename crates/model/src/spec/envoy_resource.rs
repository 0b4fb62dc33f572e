//! Envoy's own resources inside of documents, YAML or JSON.

use serde_json::Value;

use crate::document::{Limits, read};
use crate::spec::proto_json::{self, dynamic};

/// Whether a text is a resource of a type of Envoy (`envoy.config.cluster.v3.Cluster`).
///
/// # Errors
/// What keeps it from being one.
pub(super) fn check(message: &str, text: &str) -> Result<(), String> {
    dynamic(message, &parse(text)?).map(|_| ()).map_err(|fault| fault.to_string())
}

/// Whether a text is a resource of any type of Envoy, told by its `@type`.
///
/// # Errors
/// What keeps it from being one.
pub(super) fn check_any(text: &str) -> Result<(), String> {
    dynamic("google.protobuf.Any", &parse(text)?).map(|_| ()).map_err(|fault: proto_json::Error| fault.to_string())
}

/// The first document of the text; nothing is `null`, as YAML has it.
fn parse(text: &str) -> Result<Value, String> {
    let documents = read("", text.as_bytes(), Limits::default()).map_err(|fault| fault.to_string())?;
    Ok(documents.into_iter().next().map_or(Value::Null, |document| document.value))
}
