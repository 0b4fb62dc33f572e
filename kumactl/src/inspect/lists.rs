//! Lists of how many of one sort fare.

use std::collections::BTreeMap;

use chrono::{DateTime, FixedOffset, Utc};
use clap::{ArgMatches, Command};
use model::kind::Kind;
use serde_json::{Value, json};

use crate::command::Session;
use crate::failure::Failure;
use crate::flags;
use crate::get::tags;
use crate::io::Io;
use crate::output::{self, Format, Table, age};

/// What is listed.
#[derive(Clone, Copy)]
pub(super) enum List {
    Dataplanes,
    Zones,
    ZoneIngresses,
    ZoneEgresses,
    Meshes,
    Services,
}

/// The commands of the lists.
pub(super) fn commands() -> Vec<Command> {
    let plain = |name: &'static str, about: &'static str| Command::new(name).about(about);
    vec![
        plain("dataplanes", "Show how data plane proxies fare")
            .arg(flags::mesh())
            .arg(flags::pairs_flag("tag", "only proxies with this tag; may be given several times"))
            .arg(flags::switch("gateway", "only gateways"))
            .arg(flags::switch("ingress", "only ingresses")),
        plain("zones", "Show how zones fare"),
        plain("zoneingresses", "Show how zone ingresses fare").visible_alias("zone-ingresses"),
        plain("zoneegresses", "Show how zone egresses fare"),
        plain("meshes", "Show how meshes fare"),
        plain("services", "Show how services fare").arg(flags::mesh()),
    ]
}

impl List {
    /// The list of a command.
    pub(super) fn of(word: &str) -> Option<Self> {
        Some(match word {
            "dataplanes" => Self::Dataplanes,
            "zones" => Self::Zones,
            "zoneingresses" => Self::ZoneIngresses,
            "zoneegresses" => Self::ZoneEgresses,
            "meshes" => Self::Meshes,
            "services" => Self::Services,
            _ => return None,
        })
    }

    /// Asks and prints.
    pub(super) async fn run(self, matches: &ArgMatches, session: &mut Session<'_>) -> Result<(), Failure> {
        let client = super::client(session).await?;
        let mesh = matches.try_get_one::<String>("mesh").ok().flatten().map_or("default", String::as_str).to_owned();
        let path: Vec<&str> = match self {
            Self::Dataplanes => vec!["meshes", &mesh, "dataplanes", "_overview"],
            Self::Zones => vec!["zones", "_overview"],
            Self::ZoneIngresses => vec!["zoneingresses", "_overview"],
            Self::ZoneEgresses => vec!["zoneegresses", "_overview"],
            Self::Meshes => vec![Kind::MeshInsight.info().path],
            Self::Services => vec!["meshes", &mesh, Kind::ServiceInsight.info().path],
        };
        let query = if matches!(self, Self::Dataplanes) { filters(matches) } else { Vec::new() };
        let query: Vec<(&str, &str)> = query.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let mut answer = client.get_all(&path, &query).await?;
        let mut take = |member: &str| answer.get_mut(member).map(Value::take).unwrap_or_default();
        let mut list = json!({"total": take("total"), "items": take("items"), "next": take("next")});
        if matches!(self, Self::Services) {
            for service in list["items"].as_array_mut().into_iter().flatten() {
                service["type"] = "ServiceOverview".into();
            }
        }
        let format = Format::of(matches)?;
        let io = &mut *session.io;
        let table = self.table(list["items"].as_array().map(Vec::as_slice).unwrap_or_default(), io);
        output::print(&list, format, || table, io)
    }

    fn table(self, items: &[Value], io: &Io) -> Result<Table, Failure> {
        let now = io.clock.now();
        let mut table = Table::new(self.header().iter().copied());
        for item in items {
            table.rows.push(match self {
                Self::Dataplanes => dataplane(item, now, |moment| io.wall(moment)),
                Self::Zones => zone(item, now)?,
                Self::ZoneIngresses => zone_proxy(item, &item["zoneIngressInsight"], now),
                Self::ZoneEgresses => zone_proxy(item, &item["zoneEgressInsight"], now),
                Self::Meshes => mesh(item),
                Self::Services => vec![text(&item["name"]), service_status(item), share(&item["dataplanes"])],
            });
        }
        Ok(table)
    }

    fn header(self) -> &'static [&'static str] {
        match self {
            Self::Dataplanes => &[
                "MESH",
                "NAME",
                "TAGS",
                "STATUS",
                "LAST CONNECTED AGO",
                "LAST UPDATED AGO",
                "TOTAL UPDATES",
                "TOTAL ERRORS",
                "CERT REGENERATED AGO",
                "CERT EXPIRATION",
                "CERT REGENERATIONS",
                "CERT BACKEND",
                "SUPPORTED CERT BACKENDS",
                "KUMA-DP VERSION",
                "ENVOY VERSION",
                "DEPENDENCIES VERSIONS",
                "NOTES",
            ],
            Self::Zones => &[
                "NAME",
                "STATUS",
                "LAST CONNECTED AGO",
                "LAST UPDATED AGO",
                "TOTAL UPDATES",
                "TOTAL ERRORS",
                "ZONE-CP VERSION",
                "BACKEND",
            ],
            Self::ZoneIngresses | Self::ZoneEgresses => &[
                "NAME",
                "STATUS",
                "LAST CONNECTED AGO",
                "LAST UPDATED AGO",
                "TOTAL UPDATES",
                "TOTAL ERRORS",
                "KUMA-DP VERSION",
                "ENVOY VERSION",
            ],
            Self::Meshes => &[
                "MESH",
                "DATAPLANES",
                "TRAFFIC PERMISSIONS",
                "TRAFFIC ROUTES",
                "CIRCUIT BREAKERS",
                "HEALTH CHECKS",
                "FAULT INJECTIONS",
                "EXTERNAL SERVICES",
                "TRAFFIC TRACES",
                "TRAFFIC LOGS",
                "PROXY TEMPLATES",
                "RATE LIMITS",
            ],
            Self::Services => &["SERVICE", "STATUS", "DATAPLANES"],
        }
    }
}

fn filters(matches: &ArgMatches) -> Vec<(&'static str, String)> {
    let tags = flags::pairs_of(matches, "tag").into_iter().map(|(key, value)| ("tag", format!("{key}:{value}")));
    let switches = ["gateway", "ingress"].into_iter().filter(|flag| matches.get_flag(flag));
    tags.chain(switches.map(|flag| (flag, "true".to_owned()))).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A counter; those of 64 bits come as texts.
fn count(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_default()
}

/// `1/5`: online of all.
fn share(dataplanes: &Value) -> String {
    format!("{}/{}", count(&dataplanes["online"]), count(&dataplanes["total"]))
}

/// The streams that an insight knows of.
struct Subscriptions<'a>(&'a [Value]);

impl<'a> Subscriptions<'a> {
    fn of(insight: &'a Value) -> Self {
        Self(insight["subscriptions"].as_array().map(Vec::as_slice).unwrap_or_default())
    }

    fn last(&self) -> &'a Value {
        self.0.last().unwrap_or(&Value::Null)
    }

    /// Whether a stream is open.
    fn online(&self) -> bool {
        self.0.iter().any(|stream| !stream["connectTime"].is_null() && stream["disconnectTime"].is_null())
    }

    fn sum(&self, counter: &str) -> String {
        self.0.iter().map(|stream| count(&stream["status"]["total"][counter])).sum::<u64>().to_string()
    }

    /// When it connected, when it was updated, how many updates and errors there were.
    fn cells(&self, now: DateTime<Utc>) -> [String; 4] {
        [
            age::of(&self.last()["connectTime"], now),
            age::of(&self.last()["status"]["lastUpdateTime"], now),
            self.sum("responsesSent"),
            self.sum("responsesRejected"),
        ]
    }
}

fn zone(overview: &Value, now: DateTime<Utc>) -> Result<Vec<String>, Failure> {
    let streams = Subscriptions::of(&overview["zoneInsight"]);
    let online = streams.online() && overview["zone"]["enabled"] != false;
    let mut row = vec![text(&overview["name"]), word(online)];
    row.extend(streams.cells(now));
    row.push(text(&streams.last()["version"]["kumaCp"]["version"]));
    let config = text(&streams.last()["config"]);
    let backend = if config.is_empty() {
        String::new()
    } else {
        let config: Value = serde_json::from_str(&config)
            .map_err(|error| Failure::other(format!("could not unmarshal CP config: {error}")))?;
        text(&config["store"]["type"])
    };
    row.push(backend);
    Ok(row)
}

fn zone_proxy(overview: &Value, insight: &Value, now: DateTime<Utc>) -> Vec<String> {
    let streams = Subscriptions::of(insight);
    let mut row = vec![text(&overview["name"]), word(streams.online())];
    row.extend(streams.cells(now));
    let version = &streams.last()["version"];
    row.extend([text(&version["kumaDp"]["version"]), text(&version["envoy"]["version"])]);
    row
}

fn word(online: bool) -> String {
    if online { "Online" } else { "Offline" }.to_owned()
}

fn dataplane(
    overview: &Value,
    now: DateTime<Utc>,
    wall: impl Fn(DateTime<Utc>) -> DateTime<FixedOffset>,
) -> Vec<String> {
    let networking = &overview["dataplane"]["networking"];
    let insight = &overview["dataplaneInsight"];
    let streams = Subscriptions::of(insight);
    let (status, notes) = dataplane_status(networking, streams.online());
    let mtls = &insight["mTLS"];
    let expiration = age::read(&mtls["certificateExpirationTime"]);
    let mut row = vec![text(&overview["mesh"]), text(&overview["name"]), tags(networking), status.to_owned()];
    row.extend(streams.cells(now));
    row.push(age::of(&mtls["lastCertificateRegeneration"], now));
    row.push(expiration.map_or_else(|| "-".to_owned(), |moment| wall(moment).format("%Y-%m-%d %H:%M:%S").to_string()));
    row.push(count(&mtls["certificateRegenerations"]).to_string());
    row.push(if mtls.is_null() { "-".to_owned() } else { text(&mtls["issuedBackend"]) });
    let supported = mtls["supportedBackends"].as_array().into_iter().flatten().map(text);
    row.push(supported.collect::<Vec<_>>().join(","));
    let version = &streams.last()["version"];
    row.extend([text(&version["kumaDp"]["version"]), text(&version["envoy"]["version"]), dependencies(version)]);
    row.push(notes.join(";"));
    row
}

/// `coredns: 1.8.3`, sorted.
fn dependencies(version: &Value) -> String {
    let known: BTreeMap<&String, &Value> = version["dependencies"].as_object().into_iter().flatten().collect();
    let cells: Vec<String> = known.into_iter().map(|(name, version)| format!("{name}: {}", text(version))).collect();
    if cells.is_empty() { "-".to_owned() } else { cells.join(", ") }
}

/// A proxy is as good as its stream and its inbounds; a gateway has no inbounds that count.
fn dataplane_status(networking: &Value, online: bool) -> (&'static str, Vec<String>) {
    let inbounds = networking["inbound"].as_array().map(Vec::as_slice).unwrap_or_default();
    let unready = |inbound: &&Value| {
        let health = &inbound["health"];
        (!health.is_null() && health["ready"] != true) || inbound["state"] == "NotReady"
    };
    let notes: Vec<String> = inbounds
        .iter()
        .filter(unready)
        .map(|inbound| {
            let (port, service) = (count(&inbound["port"]), text(&inbound["tags"]["kuma.io/service"]));
            format!("inbound[port={port},svc={service}] is not ready")
        })
        .collect();
    let is_gateway = !networking["gateway"].is_null();
    let all_unready = !is_gateway && notes.len() == inbounds.len();
    if !online || all_unready {
        ("Offline", notes)
    } else if !is_gateway && !notes.is_empty() {
        ("Partially degraded", notes)
    } else {
        ("Online", Vec::new())
    }
}

fn mesh(insight: &Value) -> Vec<String> {
    const COUNTED: [Kind; 10] = [
        Kind::TrafficPermission,
        Kind::TrafficRoute,
        Kind::CircuitBreaker,
        Kind::HealthCheck,
        Kind::FaultInjection,
        Kind::ExternalService,
        Kind::TrafficTrace,
        Kind::TrafficLog,
        Kind::ProxyTemplate,
        Kind::RateLimit,
    ];
    let counts = COUNTED.iter().map(|kind| count(&insight["policies"][kind.name()]["total"]).to_string());
    [text(&insight["name"]), share(&insight["dataplanes"])].into_iter().chain(counts).collect()
}

fn service_status(service: &Value) -> String {
    match service["status"].as_str() {
        Some("online") => "Online",
        Some("partially_degraded") => "Partially degraded",
        _ => "Offline",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        age::read(&json!("2026-11-24T19:00:00Z")).unwrap()
    }

    fn open() -> Value {
        json!({"connectTime": "2026-11-24T18:00:00Z", "status": {"lastUpdateTime": "2026-11-24T18:59:00Z",
            "total": {"responsesSent": "30", "responsesRejected": 2}}, "config": "{\"store\":{\"type\":\"memory\"}}",
            "version": {"kumaCp": {"version": "2.13.10"}}})
    }

    fn closed() -> Value {
        json!({"connectTime": "2026-11-24T17:00:00Z", "disconnectTime": "2026-11-24T17:30:00Z",
            "status": {"total": {"responsesSent": "12"}}})
    }

    /// API-12: online needs an open stream and an enabled zone; the last stream tells times, all of them count.
    #[test]
    fn a_zone_is_online_with_an_open_stream_unless_it_is_disabled() {
        let overview =
            |enabled| json!({"name": "east", "zone": enabled, "zoneInsight": {"subscriptions": [closed(), open()]}});
        assert_eq!(
            zone(&overview(json!({"enabled": true})), now()).unwrap(),
            ["east", "Online", "1h", "1m", "42", "2", "2.13.10", "memory"]
        );
        assert_eq!(zone(&overview(json!({})), now()).unwrap()[1], "Online");
        assert_eq!(zone(&overview(json!({"enabled": false})), now()).unwrap()[1], "Offline");
        let never = zone(&json!({"name": "west", "zone": {}}), now()).unwrap();
        assert_eq!(never, ["west", "Offline", "never", "never", "0", "0", "", ""]);
        let broken = json!({"zoneInsight": {"subscriptions": [{"config": "{"}]}});
        assert!(zone(&broken, now()).unwrap_err().text().unwrap().starts_with("could not unmarshal CP config: "));
    }

    #[test]
    fn a_proxy_is_as_good_as_its_inbounds() {
        let inbound = |port: u16, ready: bool| json!({"port": port, "health": {"ready": ready}, "tags": {"kuma.io/service": "a"}});
        let status = |inbounds: Value| dataplane_status(&json!({"inbound": inbounds}), true).0;
        assert_eq!(status(json!([inbound(1, true), inbound(2, true)])), "Online");
        assert_eq!(status(json!([inbound(1, true), inbound(2, false)])), "Partially degraded");
        assert_eq!(status(json!([inbound(1, false)])), "Offline");
        let gateway = json!({"gateway": {}, "inbound": []});
        assert_eq!(dataplane_status(&gateway, true).0, "Online");
        let (_, notes) = dataplane_status(&json!({"inbound": [{"port": 80, "state": "NotReady", "tags": {}}]}), false);
        assert_eq!(notes, ["inbound[port=80,svc=] is not ready"]);
    }
}
