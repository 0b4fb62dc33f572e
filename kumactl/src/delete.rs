//! `delete TYPE NAME` (api-and-kumactl 4.7).

use std::io::Write;

use clap::{ArgMatches, Command};

use crate::command::Session;
use crate::compatibility;
use crate::failure::Failure;
use crate::{flags, kinds};

/// The command.
pub fn command() -> Command {
    Command::new("delete")
        .about("Delete a resource")
        .override_usage("kumactl delete TYPE NAME [flags]")
        .arg(flags::words("TYPE NAME"))
        .arg(flags::mesh())
}

/// Runs it.
///
/// # Errors
/// There is no such kind or resource, or the control plane refused.
pub async fn run(matches: &ArgMatches, session: &mut Session<'_>) -> Result<(), Failure> {
    let [word, name] = flags::words_of(matches)?;
    let client = compatibility::client(session).await;
    let kind = kinds::of_one(&word).ok_or_else(|| unknown(&word))?;
    let outcome = client?.delete(&kinds::item(kind, flags::mesh_of(matches), &name)).await;
    match outcome {
        Err(error) if error.is_not_found() => Err(Failure::other(format!("there is no {kind} with name {name:?}"))),
        Err(error) => Err(Failure::doing(format!("failed to delete {kind} with the name {name:?}"))(error)),
        Ok(answer) => {
            answer.expect_ok()?;
            writeln!(session.io.stdout, "deleted {kind} {name:?}")?;
            Ok(())
        }
    }
}

fn unknown(word: &str) -> Failure {
    let names = kinds::names_of_one();
    let hint = kinds::nearest(word, names.iter().copied()).map(|name| format!("; did you mean {name:?}?"));
    let allowed = names.join(", ");
    Failure::other(format!("unknown TYPE: {word}. Allowed values: {allowed}{}", hint.unwrap_or_default()))
}
