//! `completion`: what a shell offers while a command is typed, names from the control plane included; and man pages.
//!
//! The script of a shell calls the program back with `COMPLETE` set; [`answer`] answers before anything else runs.

use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, Command};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{Bash, CompleteEnv, EnvCompleter, Fish, Zsh};
use model::kind::Kind;

use crate::client::Client;
use crate::command::tree;
use crate::failure::Failure;
use crate::io::Io;
use crate::settings::{self, Location};
use crate::{flags, kinds};

/// The variable that the scripts set.
const VARIABLE: &str = "COMPLETE";

/// Longest time that somebody who pressed a key waits for names.
const PATIENCE: Duration = Duration::from_secs(2);

/// Answers a shell that asks what could come next; false if the program was called for something else.
pub fn answer() -> bool {
    let folder = std::env::current_dir().ok();
    CompleteEnv::with_factory(tree).var(VARIABLE).try_complete(std::env::args_os(), folder.as_deref()).unwrap_or(false)
}

/// The command.
pub fn command() -> Command {
    let shell = |name: &'static str, setup: &'static str| {
        Command::new(name).about(format!("Print the script for {name}: {setup}"))
    };
    Command::new("completion")
        .about("Print the script that lets a shell complete commands, kinds and names")
        .subcommands([
            shell("bash", "source <(kumactl completion bash)"),
            shell("fish", "kumactl completion fish | source"),
            shell("zsh", "source <(kumactl completion zsh)"),
        ])
}

/// Prints the script of a shell.
///
/// # Errors
/// The output takes no more.
pub fn run(matches: &ArgMatches, io: &mut Io) -> Result<(), Failure> {
    let mut script = Vec::new();
    let shell: &dyn EnvCompleter = match matches.subcommand_name() {
        Some("bash") => &Bash,
        Some("fish") => &Fish,
        _ => &Zsh,
    };
    shell.write_registration(VARIABLE, "kumactl", "kumactl", "kumactl", &mut script)?;
    io.stdout.write_all(&script)?;
    Ok(())
}

/// The command that packagers use.
pub fn man_command() -> Command {
    Command::new("man")
        .about("Write a man page for every command into a folder")
        .hide(true)
        .arg(flags::option("directory", "PATH", "the folder").required(true))
}

/// Writes man pages.
///
/// # Errors
/// The folder cannot be written.
pub fn run_man(matches: &ArgMatches, io: &mut Io) -> Result<(), Failure> {
    let folder = io.path(flags::known(matches, "directory"));
    std::fs::create_dir_all(&folder)?;
    clap_mangen::generate_to(tree(), &folder)?;
    Ok(())
}

/// Completes names of resources of a kind.
pub fn names_of(kind: Kind) -> ArgValueCompleter {
    ArgValueCompleter::new(move |typed: &OsStr| {
        let typed = typed.to_string_lossy().into_owned();
        let names = names(kind, &std::env::args().collect::<Vec<_>>());
        names.into_iter().filter(|name| name.starts_with(&typed)).map(CompletionCandidate::new).collect()
    })
}

/// Names of resources that the control plane knows; none if it does not answer soon. The shell's call is not
/// asynchronous, and happens once in a process of its own.
fn names(kind: Kind, words: &[String]) -> Vec<String> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let names = runtime.block_on(async { tokio::time::timeout(PATIENCE, ask(kind, words)).await });
    runtime.shutdown_background();
    names.ok().flatten().unwrap_or_default()
}

async fn ask(kind: Kind, words: &[String]) -> Option<Vec<String>> {
    let home = std::env::home_dir().map(|home| home.join(".kumactl").join("config"));
    let file = value_of(words, &["--config-file"]).map(PathBuf::from).or(home).filter(|file| file.exists())?;
    let settings = settings::load(&Location::File(file)).ok()?;
    let plane = settings.find(value_of(words, &["--context"]).or(settings.active())?)?;
    let client = Client::new(&plane.coordinates.api_server, None).ok()?;
    let mesh = value_of(words, &["--mesh", "-m"]).unwrap_or("default");
    let list = client.get_json(&kinds::collection(kind, mesh), &[("size", "1000")]).await.ok()?;
    Some(list["items"].as_array()?.iter().filter_map(|item| item["name"].as_str()).map(str::to_owned).collect())
}

/// Value of a flag in an unfinished command line.
fn value_of<'a>(words: &'a [String], flags: &[&str]) -> Option<&'a str> {
    let after = |(at, word): (usize, &'a String)| match word.split_once('=') {
        Some((flag, value)) if flags.contains(&flag) => Some(value),
        None if flags.contains(&word.as_str()) => words.get(at + 1).map(String::as_str),
        _ => None,
    };
    words.iter().enumerate().find_map(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_an_unfinished_line_are_found() {
        let words: Vec<String> = ["kumactl", "get", "--mesh=a", "-m", "b", "--context"].map(str::to_owned).into();
        assert_eq!(value_of(&words, &["--mesh", "-m"]), Some("a"));
        assert_eq!(value_of(&words, &["-m"]), Some("b"));
        assert_eq!(value_of(&words, &["--context"]), None);
    }
}
