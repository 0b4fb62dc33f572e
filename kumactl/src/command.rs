//! The tree of commands: from arguments to the module that does the work, and back to an exit code.

mod parse;
mod session;

use std::ffi::OsString;
use std::io::Write;

use clap::{Arg, ArgMatches, Command};

pub use session::Session;

use crate::failure::Failure;
use crate::io::Io;
use crate::{apply, completion, delete, diff, export, flags, generate, get, inspect, settings, version};

/// Runs the program: 0 for success, 1 for failure, 2 where a command says what else failed.
pub async fn run(args: impl IntoIterator<Item = impl Into<OsString>>, io: &mut Io) -> u8 {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let outcome = match parse::parse(tree(), &args) {
        Ok(parse::Parsed::Show(text)) => io.stdout.write_all(text.as_bytes()).map_err(Failure::from),
        Ok(parse::Parsed::Run(matches)) => dispatch(&matches, io).await,
        Err(failure) => Err(failure),
    };
    let outcome = outcome.and_then(|()| io.stdout.flush().map_err(Failure::from));
    match outcome {
        Ok(()) => 0,
        Err(failure) => {
            report(&failure, &args, io);
            failure.exit_code()
        }
    }
}

/// Says what went wrong. If even that cannot be written, the exit code has to do.
fn report(failure: &Failure, args: &[OsString], io: &mut Io) {
    if let Some(text) = failure.text() {
        let _ = writeln!(io.stderr, "Error: {text}");
    }
    if matches!(failure, Failure::Usage(_)) {
        let _ = writeln!(io.stdout, "{}", parse::usage(tree(), args));
    }
    if let Some(advice) = failure.advice().filter(|_| io.terminal.errors) {
        let _ = writeln!(io.stderr, "{advice}");
    }
    let _ = io.stdout.flush();
}

/// Every command with its flags.
pub fn tree() -> Command {
    Command::new("kumactl")
        .about("Management tool for Kuma")
        .long_about(
            "Management tool for Kuma: it shows, applies and deletes the resources of a control plane, tells how proxies \
             and zones fare, and makes tokens and certificates.",
        )
        .disable_help_subcommand(true)
        .args(root_flags())
        .subcommands([
            apply::command(),
            completion::command(),
            settings::command(),
            delete::command(),
            diff::command(),
            export::command(),
            generate::command(),
            get::command(),
            inspect::command(),
            completion::man_command(),
            version::command(),
        ])
}

fn root_flags() -> [Arg; 5] {
    [
        flags::option("config-file", "PATH", "configuration file to use [default: ~/.kumactl/config]"),
        flags::option("context", "NAME", "control plane to talk to, other than the active one"),
        flags::option("log-level", "LEVEL", "what to tell about the work: off, info or debug").default_value("off"),
        flags::switch("no-config", "use built-in settings; read and make no file"),
        flags::option("api-timeout", "DURATION", "longest time that a call may take; 0 for any time")
            .default_value("1m0s")
            .value_parser(flags::duration),
    ]
    .map(|flag| flag.global(true).help_heading("Global flags"))
}

async fn dispatch(matches: &ArgMatches, io: &mut Io) -> Result<(), Failure> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(()) };
    match name {
        "completion" => return completion::run(matches, io),
        "man" => return completion::run_man(matches, io),
        _ => {}
    }
    let mut session = Session::open(matches, io)?;
    match name {
        "apply" => apply::run(matches, &mut session).await,
        "config" => settings::run(matches, &mut session).await,
        "delete" => delete::run(matches, &mut session).await,
        "diff" => diff::run(matches, &mut session).await,
        "export" => export::run(matches, &mut session).await,
        "generate" => generate::run(matches, &mut session).await,
        "get" => get::run(matches, &mut session).await,
        "inspect" => inspect::run(matches, &mut session).await,
        _ => version::run(matches, &mut session).await,
    }
}

#[cfg(test)]
mod tests;
