//! What the user sees: tables, YAML, JSON.

pub mod age;
pub mod table;
pub mod yaml;

use std::io::Write;

use clap::{Arg, ArgMatches};
use model::kind::Kind;
use model::spec::Encoding;
use serde_json::Value;

pub use table::Table;

use crate::failure::Failure;
use crate::io::Io;

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A table.
    Table,
    /// A table with more columns.
    Wide,
    /// YAML, keys sorted.
    Yaml,
    /// JSON, in the order of the answer.
    Json,
}

impl Format {
    /// The flag.
    pub fn flag(wide: bool) -> Arg {
        let formats = if wide { "table, wide, yaml or json" } else { "table, yaml or json" };
        Arg::new("output")
            .short('o')
            .long("output")
            .global(true)
            .value_name("FORMAT")
            .default_value("table")
            .help(format!("how to print it: {formats}"))
    }

    /// What the flag says.
    ///
    /// # Errors
    /// It says something else.
    pub fn of(matches: &ArgMatches) -> Result<Self, Failure> {
        match matches.get_one::<String>("output").map_or("table", String::as_str) {
            "table" => Ok(Self::Table),
            "wide" => Ok(Self::Wide),
            "yaml" => Ok(Self::Yaml),
            "json" => Ok(Self::Json),
            other => Err(Failure::other(format!("unknown output format {other:?}"))),
        }
    }
}

/// Prints a list, or a value that has no kind.
///
/// # Errors
/// The output takes no more.
pub fn print(
    value: &Value,
    format: Format,
    table: impl FnOnce() -> Result<Table, Failure>,
    io: &mut Io,
) -> Result<(), Failure> {
    match format {
        Format::Table | Format::Wide => write!(io.stdout, "{}", table()?)?,
        Format::Yaml => io.stdout.write_all(yaml::to_string(value).as_bytes())?,
        Format::Json => print_json(value, io)?,
    }
    Ok(())
}

/// Prints JSON with two blanks of indentation.
///
/// # Errors
/// The output takes no more.
pub fn print_json(value: &Value, io: &mut Io) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::other)?;
    writeln!(io.stdout, "{text}")?;
    Ok(())
}

/// Members that stand before the content of a proto kind.
const META: [&str; 7] = ["type", "mesh", "name", "creationTime", "modificationTime", "labels", "kri"];

/// One resource as YAML: of a proto kind first what every resource has, then the content (4.4).
pub fn resource_yaml(kind: Kind, resource: &Value) -> String {
    let members = match (kind.info().codec.encoding, resource) {
        (Encoding::Proto { .. }, Value::Object(members)) => members.clone(),
        _ => return yaml::to_string(resource),
    };
    let (meta, content) = members.into_iter().partition(|(key, _)| META.contains(&key.as_str()));
    yaml::to_string_in_two(&Value::Object(meta), &Value::Object(content))
}
