//! `apply`: makes and changes resources from files (api-and-kumactl 4.6).
//!
//! Beyond Kuma: a bad document does not keep the good ones from being applied; every fault is told with its place.

mod documents;
mod source;

use std::io::Write;

use clap::{Arg, ArgMatches, Command};
use model::kind::Kind;
use model::{Resource, rest_form};
use serde_json::Value;

pub use documents::read;

use crate::client::{Answer, CallError, Client};
use crate::command::Session;
use crate::compatibility;
use crate::failure::Failure;
use crate::{flags, kinds, output};

/// The command.
pub fn command() -> Command {
    Command::new("apply")
        .about("Create or change resources from files")
        .args(source_flags())
        .arg(flags::switch("dry-run", "print the resources, and change nothing"))
}

/// Flags of commands that read resources.
pub fn source_flags() -> [Arg; 2] {
    [
        flags::option("file", "PATH", "file, folder, http(s) address, or - for standard input")
            .short('f')
            .required(true),
        flags::pairs_flag("var", "value for {{ KEY }} in the files; may be given several times").short('v'),
    ]
}

/// Runs it.
///
/// # Errors
/// A document is bad, or the control plane refused a resource.
pub async fn run(matches: &ArgMatches, session: &mut Session<'_>) -> Result<(), Failure> {
    let client = compatibility::client(session).await;
    let documents = read(matches, session).await?;
    if matches.get_flag("dry-run") {
        let printed = documents.resources.iter().map(shown).collect::<Result<Vec<_>, _>>()?;
        write!(session.io.stdout, "{}", printed.join("---\n"))?;
        return documents.into_outcome();
    }
    let client = if documents.resources.is_empty() { None } else { Some(client?) };
    let mut refused = Vec::new();
    for resource in &documents.resources {
        let Some(client) = &client else { break };
        match put(client, resource, session).await {
            Ok(()) => {}
            Err(PutError::Refused(text)) => refused.push(text),
            // Whoever does not answer once will not answer a hundred times.
            Err(PutError::Fatal(failure)) => {
                refused.into_iter().try_for_each(|text| writeln!(session.io.stderr, "Error: {text}"))?;
                return Err(failure);
            }
        }
    }
    if let Some(last) = refused.pop() {
        refused.into_iter().try_for_each(|text| writeln!(session.io.stderr, "Error: {text}"))?;
        return Err(Failure::Other(last));
    }
    documents.into_outcome()
}

fn shown(resource: &Resource) -> Result<String, Failure> {
    Ok(output::resource_yaml(resource.kind(), &rest_form::print(resource).map_err(Failure::other)?))
}

enum PutError {
    /// This resource is refused; the next may pass.
    Refused(String),
    /// There is no sense in going on.
    Fatal(Failure),
}

impl From<std::io::Error> for PutError {
    fn from(error: std::io::Error) -> Self {
        Self::Fatal(error.into())
    }
}

async fn put(client: &Client, resource: &Resource, session: &mut Session<'_>) -> Result<(), PutError> {
    let key = &resource.meta.key;
    let said = format!("resource type=\"{}\" mesh={:?} name={:?}", key.kind, key.mesh, key.name);
    let failed = |error: CallError| {
        let reason = match &error {
            CallError::Refused(refusal) => refusal.on_one_line(),
            CallError::Status(405, body) => body.clone(),
            other => other.to_string(),
        };
        let text = format!("{said}: failed server side: {reason}");
        match error {
            CallError::Unreachable(_) => PutError::Fatal(Failure::from(CallError::Unreachable(text))),
            CallError::TimedOut(_) => PutError::Fatal(Failure::from(CallError::TimedOut(text))),
            _ => PutError::Refused(text),
        }
    };
    let exists = stored(client, key.kind, &key.mesh, &key.name).await.map_err(failed)?.is_some();
    let body = rest_form::print(resource).map_err(|error| PutError::Refused(format!("{said}: {error}")))?;
    let answer = client.put(&kinds::item(key.kind, &key.mesh, &key.name), &body).await;
    let answer = answer.and_then(accepted).map_err(failed)?;
    writeln!(session.io.stdout, "{said} {}", if exists { "Updated" } else { "Created" })?;
    let answer: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    for warning in answer["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        writeln!(session.io.stderr, "Warning: {warning}")?;
    }
    Ok(())
}

fn accepted(answer: Answer) -> Result<Answer, CallError> {
    if answer.status == 201 { Ok(answer) } else { answer.expect_ok() }
}

/// What the control plane has under a name.
///
/// # Errors
/// It does not say.
pub async fn stored(client: &Client, kind: Kind, mesh: &str, name: &str) -> Result<Option<Value>, CallError> {
    match client.get_json(&kinds::item(kind, mesh, name), &[]).await {
        Ok(resource) => Ok(Some(resource)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
