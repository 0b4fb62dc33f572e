//! Tokens, from the control plane or from a signing key at hand.

use std::io::Write;

use chrono::TimeDelta;
use clap::{Arg, ArgMatches, Command};
use identity::token::{self, Claims, Dataplane, SCOPE_CONTROL_PLANE, SCOPE_EGRESS, SCOPE_INGRESS, User, Zone};
use model::duration::GoDuration;
use serde_json::{Value, json};
use uuid::Uuid;

use super::key;
use crate::command::Session;
use crate::compatibility;
use crate::failure::Failure;
use crate::flags;

/// The commands.
pub(super) fn commands() -> [Command; 3] {
    [
        Command::new("dataplane-token")
            .about("Make a token with which a data plane proxy proves who it is")
            .arg(flags::option("name", "NAME", "the one proxy that may use it"))
            .arg(flags::mesh())
            .arg(flags::pairs_flag("tag", "values that a tag of the proxy may have, separated by commas"))
            .arg(flags::option("proxy-type", "TYPE", "type of the proxy: dataplane, ingress or egress"))
            .arg(flags::option("type", "TYPE", "deprecated: use --proxy-type").hide(true))
            .arg(flags::option("workload", "NAME", "workload of the proxy"))
            .args(common()),
        Command::new("zone-token")
            .about("Make a token with which proxies and the control plane of a zone prove who they are")
            .arg(flags::option("zone", "NAME", "the zone").required(true))
            .arg(
                flags::option("scope", "SCOPES", "what may use it: ingress, egress, cp")
                    .value_delimiter(',')
                    .action(clap::ArgAction::Append)
                    .default_value("ingress,egress"),
            )
            .args(common()),
        Command::new("user-token")
            .about("Make a token with which a user of the API proves who they are")
            .arg(flags::option("name", "NAME", "the user").required(true))
            .arg(
                flags::option("group", "GROUPS", "groups of the user; may be given several times")
                    .value_delimiter(',')
                    .action(clap::ArgAction::Append),
            )
            .args(common()),
    ]
}

fn common() -> [Arg; 3] {
    [
        flags::option("valid-for", "DURATION", "how long it is good, such as 24h")
            .required(true)
            .value_parser(flags::duration),
        flags::option(
            "signing-key-path",
            "PATH",
            "file with the key that signs it; the control plane is not asked then",
        ),
        flags::option("kid", "ID", "number of the key; needed with --signing-key-path"),
    ]
}

/// Prints a token, without a line break.
pub(super) async fn run(name: &str, matches: &ArgMatches, session: &mut Session<'_>) -> Result<(), Failure> {
    let valid_for = matches.get_one::<GoDuration>("valid-for").copied().unwrap_or_default();
    let token = match name {
        "dataplane-token" => {
            let claims = dataplane(matches, session)?;
            let body = json!({"name": claims.name, "mesh": claims.mesh, "tags": claims.tags, "type": claims.r#type,
                "workload": claims.workload, "validFor": valid_for.to_string()});
            Request { path: "dataplane", body, claims }.issue(valid_for, matches, session).await
        }
        "zone-token" => {
            let claims = Zone { zone: flags::known(matches, "zone").to_owned(), scope: scope(matches)? };
            let body = json!({"zone": claims.zone, "scope": claims.scope, "validFor": valid_for.to_string()});
            Request { path: "zone", body, claims }.issue(valid_for, matches, session).await
        }
        _ => {
            let groups = flags::texts(matches, "group");
            let groups = Some(groups).filter(|groups| !groups.is_empty());
            let claims = User { name: flags::known(matches, "name").to_owned(), groups };
            let body = json!({"name": claims.name, "groups": claims.groups, "validFor": valid_for.to_string()});
            Request { path: "user", body, claims }.issue(valid_for, matches, session).await
        }
    }?;
    session.io.stdout.write_all(token.as_bytes())?;
    Ok(())
}

fn dataplane(matches: &ArgMatches, session: &mut Session<'_>) -> Result<Dataplane, Failure> {
    if flags::text(matches, "type").is_some() {
        writeln!(session.io.stdout, "Flag --type has been deprecated, please use --proxy-type instead")?;
    }
    let proxy_type = flags::text(matches, "proxy-type").or(flags::text(matches, "type")).unwrap_or_default();
    let tags = flags::pairs_of(matches, "tag");
    Ok(Dataplane {
        name: flags::known(matches, "name").to_owned(),
        mesh: flags::mesh_of(matches).to_owned(),
        tags: tags.into_iter().map(|(tag, values)| (tag, values.split(',').map(str::to_owned).collect())).collect(),
        r#type: proxy_type.to_owned(),
        workload: flags::known(matches, "workload").to_owned(),
    })
}

fn scope(matches: &ArgMatches) -> Result<Vec<String>, Failure> {
    const KNOWN: [&str; 3] = [SCOPE_INGRESS, SCOPE_EGRESS, SCOPE_CONTROL_PLANE];
    let scope = flags::texts(matches, "scope");
    let unknown: Vec<&str> = scope.iter().map(String::as_str).filter(|word| !KNOWN.contains(word)).collect();
    if unknown.is_empty() {
        return Ok(scope);
    }
    let (unknown, known) = (unknown.join(" "), KNOWN.join(" "));
    Err(Failure::other(format!("invalid --scope values: [{unknown}] (supported scopes: [{known}])")))
}

/// A token that is asked for: of the control plane, or of a key.
struct Request<C> {
    path: &'static str,
    body: Value,
    claims: C,
}

impl<C: Claims> Request<C> {
    async fn issue(
        self,
        valid_for: GoDuration,
        matches: &ArgMatches,
        session: &mut Session<'_>,
    ) -> Result<String, Failure> {
        match (flags::text(matches, "signing-key-path"), flags::text(matches, "kid")) {
            (Some(path), Some(kid)) => self.issue_offline(path, kid, valid_for, session),
            (Some(_), None) => Err(Failure::other("--kid is required when --signing-key-path is used")),
            // What is missing is the other flag, but these are the words that users know.
            (None, Some(_)) => Err(Failure::other("--kid cannot be used when --signing-key-path is used")),
            (None, None) => {
                let client = compatibility::client(session).await?;
                let article = format!("failed to generate a {} token", self.path);
                let answer = client.post(&["tokens", self.path], &self.body).await;
                let answer = answer.and_then(crate::client::Answer::expect_ok).map_err(Failure::doing(article))?;
                Ok(answer.text())
            }
        }
    }

    fn issue_offline(
        self,
        path: &str,
        kid: &str,
        valid_for: GoDuration,
        session: &Session<'_>,
    ) -> Result<String, Failure> {
        let serial =
            kid.parse().map_err(|_| Failure::other(format!("--kid {kid:?}: the number of a key is a whole number")))?;
        let key = key::read(path, serial, session)?;
        let lifetime = TimeDelta::nanoseconds(valid_for.nanos());
        token::issue(self.claims, &key, Uuid::new_v4(), session.io.clock.now(), lifetime).map_err(Failure::other)
    }
}
