//! `version`: of this client and of the control plane (api-and-kumactl 4.11).

use std::io::Write;

use clap::{ArgMatches, Command};
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::command::Session;
use crate::compatibility::{index, text};
use crate::failure::Failure;
use crate::flags;

/// The product whose API this client speaks.
pub const PRODUCT: &str = "Kuma";
/// The version of that API.
pub const VERSION: &str = model::KUMA_VERSION;

/// What requests say of the client.
pub fn user_agent() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("kumactl/{VERSION} ({}; {arch}; {PRODUCT}/unknown)", std::env::consts::OS)
}

/// The command.
pub fn command() -> Command {
    Command::new("version")
        .about("Print the versions of kumactl and of the control plane")
        .arg(flags::switch("detailed", "print all that is known").short('a'))
}

/// Runs it. A control plane that does not answer is no failure.
///
/// # Errors
/// The output takes no more.
pub async fn run(matches: &ArgMatches, session: &mut Session<'_>) -> Result<(), Failure> {
    let detailed = matches.get_flag("detailed");
    let io = &mut session.io;
    if detailed {
        let own = env!("CARGO_PKG_VERSION");
        for (name, value) in [("Product", PRODUCT), ("Version", VERSION), ("Git Tag", VERSION), ("kumactl", own)] {
            writeln!(io.stdout, "{:<15}{value}", format!("{name}:"))?;
        }
    } else {
        writeln!(io.stdout, "Client: {PRODUCT} {VERSION}")?;
    }
    let index = match session.client() {
        Ok(client) => index(&client).await,
        Err(error) => Err(error.to_string()),
    };
    match index {
        Ok(index) if detailed => {
            let mut text = Vec::new();
            let mut serializer = Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"   "));
            index.serialize(&mut serializer).map_err(Failure::other)?;
            writeln!(session.io.stdout, "Server: {}", String::from_utf8_lossy(&text))?;
        }
        Ok(index) => writeln!(session.io.stdout, "Server: {} {}", text(&index, "product"), text(&index, "version"))?,
        Err(reason) => writeln!(session.io.stderr, "Unable to connect to control plane: {reason}")?,
    }
    Ok(())
}
