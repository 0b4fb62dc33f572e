//! One proxy: the policies that match it, or what its Envoy says.

use std::io::Write;

use clap::{ArgMatches, Command};
use model::kind::Kind;
use serde_json::Value;

use super::policy::attachment;
use crate::command::Session;
use crate::completion;
use crate::failure::Failure;
use crate::{flags, kinds};

/// A sort of proxy.
#[derive(Clone, Copy)]
pub(super) struct Proxy(Kind);

/// The commands of the proxies.
pub(super) fn commands() -> Vec<Command> {
    [("dataplane", Kind::Dataplane), ("zoneingress", Kind::ZoneIngress), ("zoneegress", Kind::ZoneEgress)]
        .into_iter()
        .map(|(name, kind)| {
            let command = Command::new(name)
                .override_usage(format!("kumactl inspect {name} NAME [flags]"))
                .arg(flags::words("NAME").add(completion::names_of(kind)))
                .arg(flags::switch("config-dump", "deprecated: use --type config-dump").hide(true))
                .arg(flags::switch("include-eds", "with endpoints; for --type config-dump"));
            if kind == Kind::Dataplane {
                command
                    .about("Show the policies of a data plane proxy, or what its Envoy says")
                    .arg(flags::mesh())
                    .arg(
                        flags::option("type", "TYPE", "what to show: policies, config-dump, stats, clusters or config")
                            .default_value("policies"),
                    )
                    .arg(flags::switch("shadow", "as if policies with the label kuma.io/effect: shadow counted"))
                    .arg(
                        flags::option("include", "FIELD", "what to add to --type config: diff")
                            .value_delimiter(',')
                            .action(clap::ArgAction::Append),
                    )
            } else {
                command.about(format!("Show what the Envoy of a {kind} says")).arg(
                    flags::option("type", "TYPE", "what to show: config-dump, stats or clusters")
                        .default_value("config-dump"),
                )
            }
        })
        .collect()
}

impl Proxy {
    /// The proxy of a command.
    pub(super) fn of(word: &str) -> Option<Self> {
        match word {
            "dataplane" => Some(Self(Kind::Dataplane)),
            "zoneingress" => Some(Self(Kind::ZoneIngress)),
            "zoneegress" => Some(Self(Kind::ZoneEgress)),
            _ => None,
        }
    }

    /// Asks and prints.
    pub(super) async fn run(self, matches: &ArgMatches, session: &mut Session<'_>) -> Result<(), Failure> {
        let [name] = flags::words_of(matches)?;
        let is_dataplane = self.0 == Kind::Dataplane;
        let mut view = flags::known(matches, "type");
        if matches.get_flag("config-dump") {
            writeln!(session.io.stdout, "Flag --config-dump has been deprecated, use --type=config-dump")?;
            view = "config-dump";
        }
        let client = super::client(session).await;
        let include = if is_dataplane { flags::texts(matches, "include") } else { Vec::new() };
        let shadow = is_dataplane && matches.get_flag("shadow");
        let only_for = |flag: &str, wanted: &str| {
            Failure::other(format!("flag '--{flag}' can be used only when '--type={wanted}'"))
        };
        if shadow && view != "config" {
            return Err(only_for("shadow", "config"));
        }
        if !include.is_empty() && view != "config" {
            return Err(only_for("include", "config"));
        }
        let with_endpoints = matches.get_flag("include-eds");
        if with_endpoints && view != "config-dump" {
            return Err(only_for("include-eds", "config-dump"));
        }
        let mesh = if is_dataplane { flags::mesh_of(matches) } else { "" };
        let mut path = kinds::item(self.0, mesh, &name);
        let mut query = Vec::new();
        let include = include.join(",");
        match view {
            "policies" if is_dataplane => {
                path.push("policies");
                let policies = client?.get_json(&path, &[]).await?;
                session.io.stdout.write_all(matched(&policies).as_bytes())?;
                return Ok(());
            }
            "policies" => {
                return Err(Failure::other(format!(
                    "Policies are not applied on {kind}, please use '--config-dump' flag to get envoy config dump of the \
                     {kind}",
                    kind = self.0
                )));
            }
            "config-dump" => {
                path.push("xds");
                query.extend(with_endpoints.then_some(("include_eds", "true")));
            }
            "stats" | "clusters" => path.push(view),
            "config" if is_dataplane => {
                path.push("_config");
                query.extend(shadow.then_some(("shadow", "true")));
                query.extend((!include.is_empty()).then_some(("include", include.as_str())));
            }
            _ => return Err(Failure::other("invalid inspection type")),
        }
        let answer = client?.get(&path, &query).await?.expect_ok()?;
        session.io.stdout.write_all(&answer.body)?;
        Ok(())
    }
}

/// The older view of the policies that match a proxy.
///
/// Several policies of one sort stand below each other without indentation: that is how the original prints them.
fn matched(policies: &Value) -> String {
    let mut text = String::new();
    if policies["kind"] == "MeshGatewayDataplane" {
        gateway(policies, &mut text);
    } else {
        for entry in policies["items"].as_array().into_iter().flatten() {
            text += &format!("{}:\n", attachment(entry, true));
            for (kind, policies) in members(&entry["matchedPolicies"]) {
                let names: Vec<&str> =
                    policies.as_array().into_iter().flatten().filter_map(|p| p["name"].as_str()).collect();
                text += &format!("  {kind}\n    {}\n", names.join("\n"));
            }
            text += "\n";
        }
    }
    text
}

/// The routes of a built-in gateway, with what is attached to them.
fn gateway(policies: &Value, text: &mut String) {
    let name = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    *text += "MESHGATEWAY:\n";
    for (kind, policy) in members(&policies["policies"]) {
        *text += &format!("  {kind}\n    {}\n", name(policy, "name"));
    }
    *text += "\n";
    for listener in list(policies, "listeners") {
        *text += &format!("LISTENER ({}:{}):\n", name(&listener, "protocol"), listener["port"]);
        for host in list(&listener, "hosts") {
            *text += &format!("  {}:\n", name(&host, "hostName"));
            for route in list(&host, "routes") {
                *text += &format!("    ROUTE {}:\n", name(&route, "route"));
                for destination in list(&route, "destinations") {
                    *text += &format!("      SERVICE {}:\n", name(&destination["tags"], "kuma.io/service"));
                    for (kind, policy) in members(&destination["policies"]) {
                        *text += &format!("        {kind}\n          {}\n", name(policy, "name"));
                    }
                    *text += "\n";
                }
            }
        }
    }
}

/// Members of an object, by key.
fn members(object: &Value) -> Vec<(&String, &Value)> {
    let mut members: Vec<_> = object.as_object().into_iter().flatten().collect();
    members.sort_by_key(|(key, _)| key.as_str());
    members
}
