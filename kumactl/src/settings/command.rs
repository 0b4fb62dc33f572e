//! `config`: control planes that this client knows (api-and-kumactl 4.8).

use std::io::Write;

use clap::{Arg, ArgMatches, Command};

use super::{ApiServer, ControlPlane, Coordinates, Header, TOKENS, save};
use crate::client::{CallError, Client};
use crate::command::Session;
use crate::compatibility::text;
use crate::failure::Failure;
use crate::flags;
use crate::output::{Table, yaml};
use crate::version::PRODUCT;

/// The command.
pub fn command() -> Command {
    let name = || flags::option("name", "NAME", "name of the control plane").required(true);
    Command::new("config").about("Say which control planes there are, and which one to talk to").subcommands([
        Command::new("view").about("Show the configuration"),
        Command::new("control-planes").about("Manage the known control planes").subcommands([
            Command::new("list").about("List the known control planes"),
            Command::new("add").about("Add a control plane and make it the active one").arg(name()).args(add_flags()),
            Command::new("remove").about("Forget a control plane").arg(name()),
            Command::new("switch").about("Make another control plane the active one").arg(name()),
        ]),
    ])
}

fn add_flags() -> Vec<Arg> {
    vec![
        flags::option("address", "URL", "address of its API, such as http://localhost:5681 or https://cp.example:5682")
            .required(true),
        flags::switch("overwrite", "replace the control plane of that name"),
        flags::option("ca-cert-file", "PATH", "authorities that its certificate is checked against, PEM"),
        flags::option("client-cert-file", "PATH", "certificate of this client, PEM"),
        flags::option("client-key-file", "PATH", "key of this client's certificate, PEM"),
        flags::switch("skip-verify", "do not check its certificate"),
        flags::pairs_flag("headers", "header of every request; may be given several times"),
        flags::option("auth-type", "TYPE", "how to authenticate: tokens"),
        flags::pairs_flag("auth-conf", "for tokens: token=TOKEN"),
        flags::switch("skip-check", "do not try to connect"),
    ]
}

/// Runs it.
///
/// # Errors
/// There is no such control plane, it does not answer, or the file cannot be written.
pub async fn run(matches: &ArgMatches, session: &mut Session<'_>) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("view", _)) => view(session),
        Some((_, matches)) => match matches.subcommand() {
            Some(("add", matches)) => add(matches, session).await,
            Some(("remove", matches)) => remove(flags::known(matches, "name"), session),
            Some(("switch", matches)) => switch(flags::known(matches, "name"), session),
            _ => list(session),
        },
        None => Ok(()),
    }
}

fn view(session: &mut Session<'_>) -> Result<(), Failure> {
    let value = serde_json::to_value(&session.settings).map_err(Failure::other)?;
    writeln!(session.io.stdout, "{}", yaml::to_string(&value))?;
    Ok(())
}

fn list(session: &mut Session<'_>) -> Result<(), Failure> {
    let mut table = Table::new(["ACTIVE", "NAME", "ADDRESS"]);
    let active = session.settings.active();
    table.rows = session
        .settings
        .control_planes
        .iter()
        .map(|plane| {
            let mark = if active == Some(&plane.name) { "*" } else { "" };
            vec![mark.to_owned(), plane.name.clone(), plane.coordinates.api_server.url.clone()]
        })
        .collect();
    write!(session.io.stdout, "{table}")?;
    Ok(())
}

async fn add(matches: &ArgMatches, session: &mut Session<'_>) -> Result<(), Failure> {
    let plane = plane(matches)?;
    if !matches.get_flag("skip-check") {
        check(&plane.coordinates.api_server, session).await?;
    }
    let name = plane.name.clone();
    if session.settings.find(&name).is_some() && !matches.get_flag("overwrite") {
        return Err(Failure::other(format!(
            "Control Plane with name {name:?} already exists. Use --overwrite to replace an existing one."
        )));
    }
    session.settings.put(plane);
    save(&session.location, &session.settings)?;
    writeln!(session.io.stdout, "added Control Plane {name:?}")?;
    writeln!(session.io.stdout, "switched active Control Plane to {name:?}")?;
    Ok(())
}

/// The control plane that the flags describe.
fn plane(matches: &ArgMatches) -> Result<ControlPlane, Failure> {
    let text = |flag| flags::known(matches, flag).to_owned();
    let url = text("address");
    check_address(&url)
        .map_err(|reason| Failure::other(format!("API Server URL is invalid: parse {url:?}: {reason}")))?;
    let (client_cert_file, client_key_file) = (text("client-cert-file"), text("client-key-file"));
    if client_cert_file.is_empty() != client_key_file.is_empty() {
        return Err(Failure::other("Both --client-cert-file and --client-key-file needs to be specified"));
    }
    let (auth_type, auth_conf) = (text("auth-type"), flags::pairs_of(matches, "auth-conf"));
    if !auth_type.is_empty() && auth_type != TOKENS {
        return Err(Failure::other(format!("authentication plugin of type {auth_type:?} is not found")));
    }
    if auth_type == TOKENS && auth_conf.get("token").is_none_or(String::is_empty) {
        return Err(Failure::other("--auth-conf is not valid: provide token=YOUR_TOKEN"));
    }
    let headers = flags::pairs_of(matches, "headers").into_iter().map(|(key, value)| Header { key, value }).collect();
    let api_server = ApiServer {
        url,
        ca_cert_file: text("ca-cert-file"),
        client_cert_file,
        client_key_file,
        skip_verify: matches.get_flag("skip-verify"),
        headers,
        auth_type,
        auth_conf,
    };
    Ok(ControlPlane { name: text("name"), coordinates: Coordinates { api_server } })
}

/// In Go's words what is wrong with an address.
fn check_address(url: &str) -> Result<(), String> {
    match url::Url::parse(url) {
        Ok(_) => Ok(()),
        Err(_) if url.starts_with(':') => Err("missing protocol scheme".to_owned()),
        Err(url::ParseError::RelativeUrlWithoutBase) => Err("invalid URI for request".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether a control plane of our product answers.
async fn check(server: &ApiServer, session: &Session<'_>) -> Result<(), Failure> {
    let unreachable = "could not connect to the Control Plane API Server";
    let client = Client::new(server, session.timeout)?;
    let index = client.get_json(&[], &[]).await.map_err(Failure::doing(unreachable))?;
    let (product, version) = (text(&index, "product"), text(&index, "version"));
    if product.is_empty() {
        let reason = "its answer names no product: is this the address of a control plane?".to_owned();
        return Err(Failure::doing(unreachable)(CallError::Unreadable(reason)));
    }
    if product != PRODUCT && !version.contains("preview") {
        return Err(Failure::other(format!(
            "this CLI is for {PRODUCT} but the control plane you're connected to is {product}. Please use the CLI for your \
             control plane"
        )));
    }
    Ok(())
}

fn remove(name: &str, session: &mut Session<'_>) -> Result<(), Failure> {
    if !session.settings.remove(name) {
        return Err(no_such(name));
    }
    save(&session.location, &session.settings)?;
    writeln!(session.io.stdout, "removed Control Plane {name:?}")?;
    match session.settings.active() {
        Some(active) => writeln!(session.io.stdout, "switched active Control Plane to {active:?}")?,
        None => writeln!(
            session.io.stdout,
            "there is no active Control Plane left. Use `kumactl config control-planes add` to add a Control Plane and make \
             it active"
        )?,
    }
    Ok(())
}

fn switch(name: &str, session: &mut Session<'_>) -> Result<(), Failure> {
    let context = session.settings.contexts.iter().find(|context| context.control_plane == name);
    session.settings.current_context = context.ok_or_else(|| no_such(name))?.name.clone();
    save(&session.location, &session.settings)?;
    writeln!(session.io.stdout, "switched active Control Plane to {name:?}")?;
    Ok(())
}

fn no_such(name: &str) -> Failure {
    Failure::other(format!("there is no Control Plane with name {name:?}"))
}
