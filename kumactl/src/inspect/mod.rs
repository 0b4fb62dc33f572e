//! `inspect`: how zones, proxies, services and policies fare (api-and-kumactl 4.5).

mod lists;
mod policy;
mod proxy;

use clap::{ArgMatches, Command};
use model::kind::Kind;

use crate::command::Session;
use crate::compatibility;
use crate::completion;
use crate::failure::Failure;
use crate::flags;
use crate::kinds;
use crate::output::Format;

/// The command.
pub fn command() -> Command {
    let mut command = Command::new("inspect")
        .about("Show how zones, proxies, services and policies fare")
        .arg(Format::flag(false))
        .subcommands(lists::commands())
        .subcommands(proxy::commands())
        .subcommand(
            Command::new("meshgateway")
                .about("Show the proxies of a MeshGateway")
                .override_usage("kumactl inspect meshgateway NAME [flags]")
                .arg(flags::words("NAME").add(completion::names_of(Kind::MeshGateway)))
                .arg(flags::mesh()),
        );
    for kind in kinds::named().filter(|kind| kind.info().policy.is_some()) {
        if let [name, ..] = kind.info().singular {
            command = command.subcommand(policy::command(kind, name));
        }
    }
    command
}

/// Runs it.
///
/// # Errors
/// There is no such thing, or the control plane refused.
pub async fn run(matches: &ArgMatches, session: &mut Session<'_>) -> Result<(), Failure> {
    let Some((word, matches)) = matches.subcommand() else { return Ok(()) };
    if let Some(list) = lists::List::of(word) {
        return list.run(matches, session).await;
    }
    if let Some(proxy) = proxy::Proxy::of(word) {
        return proxy.run(matches, session).await;
    }
    match kinds::of_one(word) {
        Some(Kind::MeshGateway) => policy::gateway(matches, session).await,
        Some(kind) => policy::run(kind, matches, session).await,
        None => Ok(()),
    }
}

/// A client, after the look at the version.
async fn client(session: &mut Session<'_>) -> Result<crate::client::Client, Failure> {
    compatibility::client(session).await
}
