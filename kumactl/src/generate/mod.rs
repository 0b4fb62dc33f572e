//! `generate`: tokens, keys and certificates (api-and-kumactl 4.9).

mod certificate;
mod key;
mod token;

use clap::{ArgMatches, Command};

use crate::command::Session;
use crate::failure::Failure;

/// The command.
pub fn command() -> Command {
    Command::new("generate")
        .about("Make tokens, keys and certificates")
        .subcommands(token::commands())
        .subcommands(key::commands())
        .subcommand(certificate::command())
}

/// Runs it.
///
/// # Errors
/// What was asked for cannot be made.
pub async fn run(matches: &ArgMatches, session: &mut Session<'_>) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("signing-key", matches)) => key::signing_key(matches, session),
        Some(("public-key", matches)) => key::public_key(matches, session),
        Some(("tls-certificate", matches)) => certificate::run(matches, session),
        Some((name, matches)) => token::run(name, matches, session).await,
        None => Ok(()),
    }
}
