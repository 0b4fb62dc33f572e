//! The command line of a control plane: Kuma's commands and flags, and shorthands of ours for keys that are often set.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::key::Role;
use crate::loader::Loader;

/// What a control plane can be asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the control plane until it is asked to stop.
    Run,
    /// Manage the schema of the database.
    #[command(subcommand)]
    Migrate(Migrate),
    /// Print the effective configuration with the source of each value.
    Config {
        /// Print the keys without effect on this control plane too.
        #[arg(long)]
        all: bool,
    },
    /// Print the version.
    Version,
}

/// What can be done with the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum Migrate {
    /// Bring the database to the schema of this version.
    Up,
}

/// Flags that both control planes have.
#[derive(Args, Clone, Debug, Default)]
pub struct Flags {
    /// Configuration file, YAML with Kuma's keys.
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Folder for the database and the certificate (general.workDir; ~/.kuma by default).
    #[arg(long, global = true, value_name = "FOLDER")]
    pub data_dir: Option<String>,
    /// Set any key, over file and environment: --set store.type=postgres. Lists are separated by commas.
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = assignment)]
    pub set: Vec<String>,
    /// What is logged: off, error, warn, info, debug, trace, or per module: info,store=debug.
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

impl Flags {
    /// Layers up to these flags: defaults, file, environment, flags.
    pub fn loader(&self, role: Role) -> Loader {
        let mut loader = Loader::new(role).env(environment());
        if let Some(file) = &self.config_file {
            loader = loader.file(file);
        }
        for assignment in &self.set {
            loader = loader.set(assignment);
        }
        for (name, path, text) in
            [("--data-dir", "general.workDir", &self.data_dir), ("--log-level", "logging.level", &self.log_level)]
        {
            if let Some(text) = text {
                loader = loader.flag(name, path, text);
            }
        }
        loader
    }
}

/// Kuma's variables; names and values that are no Unicode cannot be its.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn assignment(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.trim().is_empty() => Ok(text.to_owned()),
        _ => Err("expected key=value".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(subcommand)]
        command: Command,
        #[command(flatten)]
        flags: Flags,
    }

    fn parse(line: &str) -> Result<Program, clap::Error> {
        Program::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn flags_are_settings_and_may_follow_the_command() {
        let program = parse("cp run --data-dir /d --log-level debug --set dnsServer.domain=m --set store.type=memory");
        let Program { command, flags } = program.unwrap();
        assert_eq!(command, Command::Run);
        let effective = flags.loader(Role::Zone).load().unwrap().effective;
        let told = |path| {
            let setting = effective.setting(path);
            (setting.value.to_string(), setting.source.to_string())
        };
        assert_eq!(told("general.workDir"), ("/d".into(), "--data-dir".into()));
        assert_eq!(told("logging.level"), ("debug".into(), "--log-level".into()));
        assert_eq!(told("dnsServer.domain"), ("m".into(), "--set dnsServer.domain".into()));
        assert_eq!(told("store.type"), ("memory".into(), "--set store.type".into()));
    }

    #[test]
    fn commands_are_kumas() {
        assert_eq!(parse("cp migrate up").unwrap().command, Command::Migrate(Migrate::Up));
        assert_eq!(parse("cp config --all").unwrap().command, Command::Config { all: true });
        assert_eq!(parse("cp version").unwrap().command, Command::Version);
        assert!(parse("cp").is_err() && parse("cp fly").is_err() && parse("cp run --set x").is_err());
    }
}
