//! Recorded calls.

use serde::Deserialize;
use serde_json::{Map, Value};

/// One recorded request and its answer.
#[derive(Clone, Debug, Deserialize)]
pub struct Call {
    pub name: String,
    pub target: String,
    pub method: String,
    pub path: String,
    #[serde(default)]
    pub request_headers: Map<String, Value>,
    pub body: Option<Value>,
    pub status: u16,
    #[serde(default)]
    pub headers: Map<String, Value>,
    pub response: Option<Value>,
    pub text: Option<String>,
    pub cut: Option<String>,
}

impl Call {
    /// Whether the call may change what later ones see.
    pub fn writes(&self) -> bool {
        matches!(self.method.as_str(), "PUT" | "DELETE")
    }

    /// Whether the call takes something away.
    pub fn deletes(&self) -> bool {
        self.method == "DELETE"
    }

    /// Whether this call put what another is about.
    pub fn puts_what(&self, other: &Self) -> bool {
        self.method == "PUT" && self.path == other.path && matches!(self.status, 200 | 201)
    }

    /// The exact text of the body.
    pub fn body_text(&self) -> String {
        match &self.body {
            None => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(json) => json.to_string(),
        }
    }
}

/// The calls of one recorded file.
pub fn load(group: &str) -> Vec<Call> {
    let path = format!("{}/tests/recorded/{group}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
