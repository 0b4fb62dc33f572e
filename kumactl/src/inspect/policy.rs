//! The proxies that a policy matches.

use std::io::Write;

use clap::{ArgMatches, Command};
use model::kind::Kind;
use serde_json::Value;

use crate::command::Session;
use crate::completion;
use crate::failure::Failure;
use crate::output::{self, Format, Table};
use crate::{flags, kinds};

/// The command of a kind of policy.
pub(super) fn command(kind: Kind, name: &'static str) -> Command {
    Command::new(name)
        .about(format!("Show the proxies that a {kind} matches"))
        .override_usage(format!("kumactl inspect {name} NAME [flags]"))
        .arg(flags::words("NAME").add(completion::names_of(kind)))
        .arg(flags::mesh())
        .arg(flags::option("offset", "N", "first proxy to show").value_parser(flags::integer).default_value("0"))
        .arg(flags::switch("new-api", "use the newer view of the control plane"))
}

/// Asks and prints.
pub(super) async fn run(kind: Kind, matches: &ArgMatches, session: &mut Session<'_>) -> Result<(), Failure> {
    let [name] = flags::words_of(matches)?;
    let client = super::client(session).await?;
    let mut path = kinds::item(kind, flags::mesh_of(matches), &name);
    if !matches.get_flag("new-api") {
        path.push("dataplanes");
        let proxies = client.get_json(&path, &[]).await?;
        session.io.stdout.write_all(affected(&proxies).as_bytes())?;
        return Ok(());
    }
    path.extend(["-resources", "dataplanes"]);
    let proxies = client.get_json(&path, &[]).await?;
    let table = || {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let items = proxies["items"].as_array().into_iter().flatten();
        let rows = items.map(|item| vec![text(&item["type"]), text(&item["mesh"]), text(&item["name"])]).collect();
        let footer = Some(format!("Total: {}", proxies["total"]));
        Ok(Table { rows, footer, ..Table::new(["Type", "Mesh", "Name"]) })
    };
    output::print(&proxies, Format::of(matches)?, table, session.io)
}

/// The proxies of a gateway, one a line.
pub(super) async fn gateway(matches: &ArgMatches, session: &mut Session<'_>) -> Result<(), Failure> {
    let [name] = flags::words_of(matches)?;
    let client = super::client(session).await?;
    let mut path = kinds::item(Kind::MeshGateway, flags::mesh_of(matches), &name);
    path.push("dataplanes");
    let proxies = client.get_json(&path, &[]).await?;
    for proxy in proxies["items"].as_array().into_iter().flatten() {
        writeln!(session.io.stdout, "{}", proxy["dataplane"]["name"].as_str().unwrap_or_default())?;
    }
    Ok(())
}

/// The older view of what a policy matches.
fn affected(proxies: &Value) -> String {
    let mut text = "Affected data plane proxies:\n\n".to_owned();
    for entry in proxies["items"].as_array().into_iter().flatten() {
        if entry["kind"] == "MeshGatewayDataplane" {
            gateway_entry(entry, &mut text);
            continue;
        }
        text += &format!("  {}", entry["dataplane"]["name"].as_str().unwrap_or_default());
        let attachments = entry["attachments"].as_array().map(Vec::as_slice).unwrap_or_default();
        if !matches!(attachments, [only] if only["type"] == "dataplane") {
            text += ":\n";
            for attached in attachments {
                text += &format!("    {}\n", attachment(attached, false));
            }
        }
        text += "\n";
    }
    text
}

fn gateway_entry(entry: &Value, text: &mut String) {
    let name = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    *text += &format!("  {}:\n", name(&entry["gateway"], "name"));
    for listener in list(entry, "listeners") {
        *text += &format!("    listener ({}:{}):\n", name(&listener, "protocol"), listener["port"]);
        for host in list(&listener, "hosts") {
            *text += &format!("      {}:\n", name(&host, "hostName"));
            for route in list(&host, "routes") {
                *text += &format!("        {}:\n", name(&route, "route"));
                for destination in list(&route, "destinations") {
                    *text += &format!("          service {}\n", name(&destination, "kuma.io/service"));
                }
            }
        }
    }
    *text += "\n";
}

/// Where a policy is attached: `inbound 10.0.0.1:80:8080(web)`, `service backend`, `dataplane`.
pub(super) fn attachment(entry: &Value, upper_case: bool) -> String {
    let text = |key: &str| entry[key].as_str().unwrap_or_default();
    let kind = if upper_case { text("type").to_uppercase() } else { text("type").to_owned() };
    match text("type") {
        "dataplane" => kind,
        "service" => format!("{kind} {}", text("name")),
        _ => format!("{kind} {}({})", text("name"), text("service")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// API 4.5: a policy that attaches to the whole proxy shows bare names.
    #[test]
    fn attachments_stand_below_their_proxy() {
        let inbound = json!({"type": "inbound", "name": "127.0.0.1:10010:10011", "service": "backend"});
        let proxies = json!({"items": [
            {"kind": "SidecarDataplane", "dataplane": {"name": "backend-1"}, "attachments": [inbound]},
            {"kind": "SidecarDataplane", "dataplane": {"name": "web-1"}, "attachments": [{"type": "dataplane"}]},
            {"kind": "SidecarDataplane", "dataplane": {"name": "web-2"}, "attachments": [{"type": "service", "name": "a"}]},
        ]});
        assert_eq!(
            affected(&proxies),
            "Affected data plane proxies:\n\n  backend-1:\n    inbound 127.0.0.1:10010:10011(backend)\n\n  web-1\n  \
             web-2:\n    service a\n\n"
        );
    }

    #[test]
    fn a_gateway_shows_its_routes() {
        let entry = json!({"kind": "MeshGatewayDataplane", "gateway": {"name": "edge"}, "listeners": [{"protocol": "HTTP",
            "port": 80, "hosts": [{"hostName": "*", "routes": [{"route": "r",
                "destinations": [{"kuma.io/service": "web"}]}]}]}]});
        assert_eq!(
            affected(&json!({"items": [entry]})),
            "Affected data plane proxies:\n\n  edge:\n    listener (HTTP:80):\n      *:\n        r:\n          \
             service web\n\n"
        );
    }
}
