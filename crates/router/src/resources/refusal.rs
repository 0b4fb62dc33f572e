//! Why a resource is not served.

use std::fmt;

use prost::{Message, Name};
use serde_json::Value;

/// A resource that asks for what a router does not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `Listener`, `Cluster`, `ClusterLoadAssignment`.
    pub kind: &'static str,
    /// Name of the resource.
    pub name: String,
    /// What is wrong, and where in it.
    pub reason: String,
}

impl Refusal {
    pub(super) fn new(kind: &'static str, name: &str, reason: String) -> Self {
        Self { kind, name: name.to_owned(), reason }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, reason } = self;
        write!(f, "{kind} {name:?}: {reason}")
    }
}

/// Whether nothing is left of a message from which all was taken that we know.
///
/// # Errors
/// The names of what is left.
pub(super) fn nothing_else<M: Message + Name + Default + PartialEq>(rest: &M) -> Result<(), String> {
    if *rest == M::default() {
        return Ok(());
    }
    let fields = match kds_proto::json::to_value(&M::full_name(), &rest.encode_to_vec()) {
        Ok(Value::Object(fields)) => fields.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(", "),
        // It holds something that has no JSON form here.
        _ => "something unknown".to_owned(),
    };
    Err(format!("not supported by this router: {fields}"))
}
