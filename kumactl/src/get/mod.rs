//! `get`: resources of every kind, one or many (api-and-kumactl 4.4). The commands come from the table of kinds.

mod columns;
mod watch;
mod zones;

use std::io::Write;

use clap::{ArgMatches, Command};
use model::kind::{Kind, Scope};
use serde_json::{Value, json};

pub use columns::tags;

use crate::client::{CallError, Client};
use crate::command::Session;
use crate::completion;
use crate::failure::Failure;
use crate::output::{self, Format, Table};
use crate::{compatibility, flags, kinds};

/// The command.
pub fn command() -> Command {
    let mut command = Command::new("get").about("Show resources").arg(Format::flag(true));
    for kind in kinds::named() {
        let info = kind.info();
        if let [name, aliases @ ..] = info.singular {
            command = command.subcommand(
                Command::new(*name)
                    .visible_aliases(aliases.iter().copied())
                    .about(format!("Show one {kind}"))
                    .override_usage(format!("kumactl get {name} NAME [flags]"))
                    .arg(flags::words("NAME").add(completion::names_of(kind)))
                    .arg(flags::mesh()),
            );
        }
        if let [name, aliases @ ..] = info.plural {
            command = command.subcommand(
                Command::new(*name)
                    .visible_aliases(aliases.iter().copied())
                    .about(format!("Show every {kind}"))
                    .arg(flags::mesh())
                    .arg(
                        flags::option("size", "N", "most resources to show at once")
                            .value_parser(flags::integer)
                            .allow_negative_numbers(true),
                    )
                    .arg(flags::option("offset", "N", "first resource to show, as the end of the page before says"))
                    .arg(flags::switch("paginate", "show all pages"))
                    .arg(flags::switch("watch", "go on, and show what changes").short('w')),
            );
        }
    }
    command
}

/// What of a kind is asked for.
#[derive(Clone, Copy)]
enum Number {
    One,
    Many,
}

fn of_command(word: &str) -> Option<(Kind, Number)> {
    let one = kinds::of_one(word).map(|kind| (kind, Number::One));
    one.or_else(|| kinds::named().find(|kind| kind.info().plural.contains(&word)).map(|kind| (kind, Number::Many)))
}

/// Runs it.
///
/// # Errors
/// There is no such resource, or the control plane refused.
pub async fn run(matches: &ArgMatches, session: &mut Session<'_>) -> Result<(), Failure> {
    let Some((word, matches)) = matches.subcommand() else { return Ok(()) };
    let Some((kind, number)) = of_command(word) else { return Ok(()) };
    match number {
        Number::One => one(kind, matches, session).await,
        Number::Many => many(kind, matches, session).await,
    }
}

async fn one(kind: Kind, matches: &ArgMatches, session: &mut Session<'_>) -> Result<(), Failure> {
    let [name] = flags::words_of(matches)?;
    let mesh = flags::mesh_of(matches);
    let client = compatibility::client(session).await?;
    let format = Format::of(matches)?;
    let resource = match (kind, format) {
        (Kind::Zone, Format::Wide) => zones::one(&client, &name).await,
        _ => client.get_json(&kinds::item(kind, mesh, &name), &[]).await,
    };
    let resource = resource.map_err(|error| not_found_or(kind, mesh, &name, error))?;
    match format {
        Format::Yaml => session.io.stdout.write_all(output::resource_yaml(kind, &resource).as_bytes())?,
        _ => {
            let now = session.io.clock.now();
            let table = || Ok(columns::table(kind, std::slice::from_ref(&resource), now, format == Format::Wide));
            output::print(&resource, format, table, session.io)?;
        }
    }
    Ok(())
}

fn not_found_or(kind: Kind, mesh: &str, name: &str, error: CallError) -> Failure {
    match kind.info().scope {
        Scope::Global if error.is_not_found() => Failure::other("No resources found"),
        Scope::Mesh if error.is_not_found() => Failure::other(format!("No resources found in {mesh} mesh")),
        Scope::Global => Failure::doing(format!("failed to get {name}"))(error),
        Scope::Mesh => Failure::doing(format!("failed to get {name} in mesh {mesh}"))(error),
    }
}

async fn many(kind: Kind, matches: &ArgMatches, session: &mut Session<'_>) -> Result<(), Failure> {
    let client = compatibility::client(session).await?;
    let format = Format::of(matches)?;
    let wanted = Wanted::of(kind, matches, format);
    let list = wanted.list(&client).await?;
    if matches.get_flag("watch") {
        return watch::run(&wanted, &client, list, format == Format::Wide, session.io).await;
    }
    let now = session.io.clock.now();
    let table = || {
        let footer = next_offset(&list["next"])
            .map(|offset| format!("Rerun command with --offset={offset} argument to retrieve more resources"));
        Ok(Table { footer, ..columns::table(kind, items(&list), now, format == Format::Wide) })
    };
    output::print(&list, format, table, session.io)
}

/// A list that was asked for.
struct Wanted {
    kind: Kind,
    mesh: String,
    size: Option<String>,
    offset: Option<String>,
    /// Every page.
    all: bool,
    /// With how each fares.
    faring: bool,
}

impl Wanted {
    fn of(kind: Kind, matches: &ArgMatches, format: Format) -> Self {
        Self {
            kind,
            mesh: flags::mesh_of(matches).to_owned(),
            size: matches.get_one::<i64>("size").filter(|size| **size != 0).map(ToString::to_string),
            offset: flags::text(matches, "offset").filter(|offset| !offset.is_empty()).map(str::to_owned),
            all: matches.get_flag("paginate") || matches.get_flag("watch"),
            faring: kind == Kind::Zone && format == Format::Wide,
        }
    }

    /// The list, with its members in the order in which they are printed.
    async fn list(&self, client: &Client) -> Result<Value, Failure> {
        let mut path = kinds::collection(self.kind, &self.mesh);
        path.extend(self.faring.then_some(zones::OVERVIEW));
        let pairs = [("size", &self.size), ("offset", &self.offset)];
        let query: Vec<(&str, &str)> =
            pairs.iter().filter_map(|(key, value)| Some((*key, value.as_deref()?))).collect();
        let list = if self.all { client.get_all(&path, &query).await } else { client.get_json(&path, &query).await };
        let mut list = list.map_err(Failure::doing(format!("failed to list {}", self.kind)))?;
        if self.faring {
            zones::add_ingresses(client, list["items"].as_array_mut().into_iter().flatten())
                .await
                .map_err(Failure::doing(format!("failed to list {}", Kind::ZoneIngress)))?;
        }
        let mut take = |member: &str| list.get_mut(member).map(Value::take).unwrap_or_default();
        Ok(json!({"total": take("total"), "items": take("items"), "next": take("next")}))
    }
}

/// The resources of a list.
fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Where the next page begins.
fn next_offset(next: &Value) -> Option<String> {
    let next = url::Url::parse(next.as_str()?).ok()?;
    next.query_pairs().find(|(key, _)| key == "offset").map(|(_, offset)| offset.into_owned())
}
