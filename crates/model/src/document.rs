//! YAML or JSON text, as users write it, into documents; the only file that reads YAML.
//!
//! A text may hold several documents (`---` between them in YAML, one after the other in JSON); empty ones are left
//! out. Whatever the text is, reading it takes bounded time and memory and ends in documents or in one [`Error`] that
//! says where and what. JSON is tried first where the text begins like JSON, since it says more of a mistake.

mod locate;
mod template;
mod visitor;

use std::fmt;

use serde::de::DeserializeSeed;
use serde_json::Value;
use serde_json::error::Category;

pub use locate::locate;
pub use template::fill_in;
use visitor::{Budget, Fault, Reader};

/// What a text may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest text, in bytes.
    pub size: usize,
    /// Most values in one document, aliases written out.
    pub values: usize,
}

impl Default for Limits {
    /// 10 MiB, a million values.
    fn default() -> Self {
        Self { size: 10 << 20, values: 1_000_000 }
    }
}

/// A place in a text, counted from 1; columns are characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

/// One document of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Which one it is, counted from 0, empty ones included.
    pub index: usize,
    /// What it says.
    pub value: Value,
}

/// Why a text holds no documents: `policy.yaml:3:5: spec.to[0]: key "kind" is given twice`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What the text is called: a file's name, `stdin`.
    pub source: String,
    /// Where, if it is at one place.
    pub position: Option<Position>,
    /// Path of the field, empty for the document itself.
    pub field: String,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl std::error::Error for Error {}

/// The documents of a text that is called `source` in messages.
///
/// # Errors
/// The text is too long, is no UTF-8, is neither YAML nor JSON, or a document of it is nested too deeply, has too many
/// values or gives a key twice.
pub fn read(source: &str, text: &[u8], limits: Limits) -> Result<Vec<Document>, Error> {
    let error = |position, field: String, reason: String| Error { source: source.to_owned(), position, field, reason };
    let text = plain_text(text, limits).map_err(|(position, reason)| error(position, String::new(), reason))?;
    let mut documents = if text.trim_start().starts_with(['{', '[']) {
        match read_json(text, limits) {
            Err(Failure { is_syntax: true, .. }) if read_yaml(text, limits).is_ok() => read_yaml(text, limits),
            outcome => outcome,
        }
    } else {
        read_yaml(text, limits)
    }
    .map_err(|failure| error(failure.position, failure.fault.path, failure.fault.reason))?;
    documents.retain(|document| !document.value.is_null());
    Ok(documents)
}

/// The one JSON value of a request's body.
///
/// # Errors
/// The text is no JSON, or gives a key twice.
pub fn read_json_body(body: &[u8], limits: Limits) -> Result<Value, BodyError> {
    if body.len() > limits.size {
        return Err(BodyError::Refused(format!("the body is longer than {} bytes", limits.size)));
    }
    let budget = Budget::new(limits);
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = Reader::at_root(&budget).deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    value.map_err(|error| match budget.into_fault() {
        Some(Fault { path, reason }) if path.is_empty() => BodyError::Refused(reason),
        Some(Fault { path, reason }) => BodyError::Refused(format!("{path}: {reason}")),
        None => BodyError::Syntax(error),
    })
}

/// Why a body is not taken as JSON.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is none.
    #[error("{0}")]
    Syntax(serde_json::Error),
    /// It is JSON that we refuse to read.
    #[error("{0}")]
    Refused(String),
}

struct Failure {
    position: Option<Position>,
    fault: Fault,
    /// Whether it is not even JSON, and so may yet be YAML.
    is_syntax: bool,
}

fn plain_text(text: &[u8], limits: Limits) -> Result<&str, (Option<Position>, String)> {
    if text.len() > limits.size {
        let megabytes = limits.size >> 20;
        let limit = if megabytes > 0 { format!("{megabytes} MiB") } else { format!("{} bytes", limits.size) };
        return Err((None, format!("is {} bytes long, and {limit} is the most that is read", text.len())));
    }
    let (readable, reason) = match std::str::from_utf8(text) {
        Ok(text) => match text.find('\0') {
            None => return Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
            Some(at) => (&text[..at], "a NUL byte is not allowed here: is this a text file?".to_owned()),
        },
        Err(error) => {
            let (readable, rest) = text.split_at(error.valid_up_to());
            let byte = rest.first().copied().unwrap_or_default();
            let readable = std::str::from_utf8(readable).unwrap_or_default();
            (readable, format!("byte {byte:#04x} is no UTF-8: save the file in that encoding"))
        }
    };
    let line = readable.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = readable.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Err((Some(Position { line, column }), reason))
}

fn read_json(text: &str, limits: Limits) -> Result<Vec<Document>, Failure> {
    let mut documents = Vec::new();
    let mut reader = serde_json::Deserializer::from_str(text);
    // A reader of several values ends where only blanks are left.
    while reader.end().is_err() {
        let budget = Budget::new(limits);
        let value = Reader::at_root(&budget).deserialize(&mut reader).map_err(|error| {
            let is_syntax = error.classify() != Category::Data;
            let position = Some(Position { line: error.line(), column: error.column().max(1) });
            let fault = budget.into_fault().unwrap_or_else(|| Fault::here(&plainly(&error.to_string())));
            Failure { position, fault, is_syntax }
        })?;
        documents.push(Document { index: documents.len(), value });
    }
    Ok(documents)
}

fn read_yaml(text: &str, limits: Limits) -> Result<Vec<Document>, Failure> {
    let mut documents = Vec::new();
    if let Some(position) = too_deep(text) {
        let fault = Fault::here("is nested too deeply");
        return Err(Failure { position: Some(position), fault, is_syntax: false });
    }
    for (index, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let budget = Budget::new(limits);
        let value = Reader::at_root(&budget).deserialize(document).map_err(|error| {
            let position = error.location().map(|at| Position { line: at.line(), column: at.column() });
            let fault = budget.into_fault().unwrap_or_else(|| Fault::here(&plainly(&error.to_string())));
            Failure { position, fault, is_syntax: false }
        })?;
        documents.push(Document { index, value });
    }
    Ok(documents)
}

/// The reader of YAML takes time that grows with the square of the depth, so it never sees a deep text.
///
/// Brackets inside of texts count too: nobody writes a thousand of them unclosed.
fn too_deep(text: &str) -> Option<Position> {
    const DEEPEST: usize = 1000;
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            let line = text[..at].bytes().filter(|byte| *byte == b'\n').count() + 1;
            let column = text[..at].rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            return Some(Position { line, column });
        }
    }
    None
}

/// A message of a reader without the ` at line 1 column 2` that we tell ourselves.
fn plainly(message: &str) -> String {
    match message.split(" at line ").next().unwrap_or(message) {
        "recursion limit exceeded" => "is nested too deeply".to_owned(),
        "repetition limit exceeded" => visitor::TOO_MUCH.to_owned(),
        plain => plain.to_owned(),
    }
}

#[cfg(test)]
mod tests;
