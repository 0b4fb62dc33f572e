//! Reading the command line, with mistakes told in the words of Kuma's client (api-and-kumactl 4.1).

use std::error::Error;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Command};

use crate::failure::Failure;
use crate::kinds;

/// What a command line asks for.
pub enum Parsed {
    /// A text.
    Show(String),
    /// Work.
    Run(Box<ArgMatches>),
}

/// Reads a command line. A command that only has others below it shows its help.
///
/// # Errors
/// The command line makes no sense.
pub fn parse(tree: Command, args: &[OsString]) -> Result<Parsed, Failure> {
    match tree.clone().try_get_matches_from(args) {
        Ok(matches) => match unfinished(&tree, &matches, tree.get_name().to_owned()) {
            Some(help) => Ok(Parsed::Show(help)),
            None => Ok(Parsed::Run(Box::new(matches))),
        },
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            Ok(Parsed::Show(error.to_string()))
        }
        Err(error) => Err(translate(&error, tree, args)),
    }
}

/// Help of the command that was asked for.
pub fn usage(tree: Command, args: &[OsString]) -> String {
    let (path, command) = asked_for(tree, args);
    command.bin_name(path).render_help().to_string()
}

/// Help of a command that does nothing by itself and was given nothing to do.
fn unfinished(command: &Command, matches: &ArgMatches, path: String) -> Option<String> {
    match matches.subcommand() {
        Some((name, below)) => {
            let next = command.find_subcommand(name)?;
            unfinished(next, below, format!("{path} {name}"))
        }
        None if command.has_subcommands() => Some(command.clone().bin_name(path).render_help().to_string()),
        None => None,
    }
}

/// The deepest command that the words lead to, and the words.
fn asked_for(tree: Command, args: &[OsString]) -> (String, Command) {
    let mut command = tree;
    // So that flags of the root are known below it.
    command.build();
    let mut path = command.get_name().to_owned();
    for word in args.iter().skip(1).filter_map(|word| word.to_str()) {
        if let Some(next) = command.find_subcommand(word).cloned() {
            path = format!("{path} {word}");
            command = next;
        }
    }
    (path, command)
}

fn translate(error: &clap::Error, tree: Command, args: &[OsString]) -> Failure {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(" ")),
        _ => None,
    };
    let (path, command) = asked_for(tree, args);
    let argument = context(ContextKind::InvalidArg).unwrap_or_default();
    let flag = argument.split(['=', ' ']).next().unwrap_or_default().to_owned();
    match error.kind() {
        ErrorKind::UnknownArgument if flag.starts_with("--") => {
            let known: Vec<String> =
                command.get_arguments().filter_map(|known| known.get_long()).map(str::to_owned).collect();
            let nearest = kinds::nearest(flag.trim_start_matches('-'), known.iter().map(String::as_str));
            let hint = nearest.map(|flag| format!("; did you mean --{flag}?")).unwrap_or_default();
            Failure::Usage(format!("unknown flag: {flag}{hint}"))
        }
        ErrorKind::UnknownArgument if flag.starts_with('-') => {
            let letter = flag.chars().nth(1).unwrap_or('-');
            Failure::Usage(format!("unknown shorthand flag: '{letter}' in {flag}"))
        }
        ErrorKind::UnknownArgument => Failure::Usage(unknown_command(&argument, &path, &command)),
        // The error names the nearest command; a page of all of them would hide it.
        ErrorKind::InvalidSubcommand => {
            let word = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            Failure::Other(unknown_command(&word, &path, &command))
        }
        ErrorKind::ValueValidation => {
            let value = context(ContextKind::InvalidValue).unwrap_or_default();
            let reason = error.source().map(ToString::to_string).unwrap_or_default();
            Failure::Usage(format!("invalid argument {value:?} for {:?} flag: {reason}", spelt(&flag, &command)))
        }
        ErrorKind::MissingRequiredArgument => {
            let mut missing: Vec<String> = missing_flags(error).collect();
            missing.sort_unstable();
            Failure::Other(format!("required flag(s) {} not set", missing.join(", ")))
        }
        ErrorKind::InvalidValue if context(ContextKind::InvalidValue).is_none_or(|value| value.is_empty()) => {
            Failure::Usage(format!("flag needs an argument: {flag}"))
        }
        _ => {
            let text = error.to_string();
            let first = text.split("\n\n").next().unwrap_or(&text).trim_start_matches("error: ");
            Failure::Usage(first.split_whitespace().collect::<Vec<_>>().join(" "))
        }
    }
}

fn missing_flags(error: &clap::Error) -> impl Iterator<Item = String> {
    let missing = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(flags)) => flags.clone(),
        _ => Vec::new(),
    };
    missing.into_iter().map(|flag| format!("{:?}", flag.split(' ').next().unwrap_or_default().trim_start_matches('-')))
}

/// `-m, --mesh`, or `--size` where there is no letter.
fn spelt(flag: &str, command: &Command) -> String {
    let known = command.get_arguments().find(|known| known.get_long() == Some(flag.trim_start_matches('-')));
    match known.and_then(clap::Arg::get_short) {
        Some(letter) => format!("-{letter}, {flag}"),
        None => flag.to_owned(),
    }
}

fn unknown_command(word: &str, path: &str, command: &Command) -> String {
    let known: Vec<&str> = command.get_subcommands().flat_map(Command::get_name_and_visible_aliases).collect();
    let hint = match kinds::nearest(word, known.iter().copied()) {
        Some(nearest) => format!("; did you mean {nearest:?}?"),
        None if known.is_empty() => String::new(),
        None => format!("; `{path} --help` lists what there is"),
    };
    format!("unknown command {word:?} for {path:?}{hint}")
}
