//! What comes back from a control plane.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

/// An answer that has been read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

/// The body of a refusal (api-and-kumactl 1.8). Old servers fill the second halves only.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Refusal {
    /// HTTP status.
    #[serde(skip)]
    pub status: u16,
    /// The body as it came.
    #[serde(skip)]
    pub raw: String,
    /// Headline.
    pub title: String,
    detail: String,
    details: String,
    invalid_parameters: Option<Vec<Parameter>>,
    causes: Option<Vec<Parameter>>,
}

/// One broken rule.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Parameter {
    /// Path of the field.
    pub field: String,
    /// What is wrong with it.
    #[serde(alias = "message")]
    pub reason: String,
}

impl Refusal {
    /// One sentence.
    pub fn detail(&self) -> &str {
        if self.detail.is_empty() { &self.details } else { &self.detail }
    }

    /// The broken rules.
    pub fn parameters(&self) -> &[Parameter] {
        self.invalid_parameters.as_deref().or(self.causes.as_deref()).unwrap_or_default()
    }

    /// On one line, as `apply` tells it (4.6); the blank after each entry is Kuma's.
    pub fn on_one_line(&self) -> String {
        let entries = self.parameters().iter().map(|entry| format!(";{}={} ", entry.field, entry.reason));
        format!("{} ({}){}", self.title, self.detail(), entries.collect::<String>())
    }
}

/// `Title (Detail)`, then a line for each broken rule (4.1).
impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.title, self.detail())?;
        self.parameters().iter().try_for_each(|entry| write!(f, "\n* {}: {}", entry.field, entry.reason))
    }
}

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer: `Get "http://..": dial tcp ..`.
    #[error("{0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("{0}")]
    TimedOut(String),
    /// The control plane refused, and says why.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// A status that means no success, without an explanation that we understand.
    #[error("({0}): {1}")]
    Status(u16, String),
    /// The answer is not what a control plane says.
    #[error("{0}")]
    Unreadable(String),
    /// The configuration names no control plane that could be asked.
    #[error("{0}")]
    NoControlPlane(String),
}

impl CallError {
    /// Whether what was asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.status == 404,
            Self::Status(status, _) => *status == 404,
            _ => false,
        }
    }
}

impl Answer {
    /// The answer, unless it is a refusal with an explanation.
    pub(super) fn unless_refused(self) -> Result<Self, CallError> {
        if self.status < 400 {
            return Ok(self);
        }
        match serde_json::from_slice::<Refusal>(&self.body) {
            Ok(refusal) if !refusal.title.is_empty() => {
                Err(CallError::Refused(Box::new(Refusal { status: self.status, raw: self.text(), ..refusal })))
            }
            _ => Ok(self),
        }
    }

    /// The answer, if its status is 200.
    ///
    /// # Errors
    /// It is another.
    pub fn expect_ok(self) -> Result<Self, CallError> {
        if self.status == 200 { Ok(self) } else { Err(CallError::Status(self.status, self.shortened())) }
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// It is none: a proxy or another program answered.
    pub fn json(&self) -> Result<Value, CallError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let text = self.shortened();
            CallError::Unreadable(format!(
                "the answer is no JSON ({error}): is this the address of a control plane? {text:?}"
            ))
        })
    }

    /// The body as text, cut where it gets too long for a message.
    fn shortened(&self) -> String {
        const LONGEST: usize = 2000;
        let text = self.text();
        match text.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}...", &text[..end]),
            None => text,
        }
    }
}
