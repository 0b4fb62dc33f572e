//! A router without a control plane: routes from the static part of an ordinary Envoy bootstrap, YAML or JSON.

use std::path::Path;
use std::time::Duration;

use kds_proto::envoy::config::cluster::v3::Cluster;
use kds_proto::envoy::config::listener::v3::Listener;
use kds_proto::json::{UnknownFields, from_value};
use model::document::{self, Limits};
use prost::{Message, Name};
use serde_json::{Map, Value};

use crate::resources::{Refusal, Resources};

/// Largest file: 100,000 routes are about 60 MiB.
const LIMITS: Limits = Limits { size: 64 << 20, values: 10_000_000 };
/// How often a file is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// Parts of a bootstrap that say nothing of routes: who the proxy is, its own port, its counters.
const APART: &[&str] = &["node", "admin", "stats_config", "statsConfig", "stats_sinks", "statsSinks"];

/// Why a file gives no routes at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read {file:?}: {source}")]
    Unreadable {
        /// Its path.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is neither YAML nor JSON.
    #[error(transparent)]
    Text(#[from] document::Error),
    /// It is not the bootstrap of a router.
    #[error("{file}: {reason}")]
    Shape {
        /// Its path.
        file: String,
        /// What is wrong, and where.
        reason: String,
    },
}

/// What a file says, and what in it is not served.
#[derive(Debug)]
pub struct Bootstrap {
    /// What is served.
    pub resources: Resources,
    /// What is not.
    pub refused: Vec<Refusal>,
}

impl Bootstrap {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is no bootstrap with static listeners only.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let file = path.display().to_string();
        let text = std::fs::File::open(path).and_then(|file| {
            use std::io::Read;
            let mut text = Vec::new();
            file.take(LIMITS.size as u64 + 1).read_to_end(&mut text)?;
            Ok(text)
        });
        let text = text.map_err(|source| Error::Unreadable { file: file.clone(), source })?;
        Self::parse(&file, &text)
    }

    /// Reads a text that is called `file` in messages.
    ///
    /// # Errors
    /// As for [`Bootstrap::read`].
    pub fn parse(file: &str, text: &[u8]) -> Result<Self, Error> {
        let shape = |reason: String| Error::Shape { file: file.to_owned(), reason };
        let mut documents = document::read(file, text, LIMITS)?;
        let (Some(document), true) = (documents.pop(), documents.is_empty()) else {
            return Err(shape("it must hold one document".to_owned()));
        };
        let mut top = object(document.value, "the bootstrap").map_err(shape)?;
        top.retain(|key, _| !APART.contains(&key.as_str()));
        let resources = take(&mut top, &["static_resources", "staticResources"]);
        nothing_else(&top, "").map_err(shape)?;
        let mut given = object(resources.unwrap_or_default(), "static_resources").map_err(shape)?;
        let clusters = list(take(&mut given, &["clusters"]), "static_resources.clusters").map_err(shape)?;
        let listeners = list(take(&mut given, &["listeners"]), "static_resources.listeners").map_err(shape)?;
        nothing_else(&given, "static_resources.").map_err(shape)?;

        let mut bootstrap = Self { resources: Resources::default(), refused: Vec::new() };
        for (at, cluster) in clusters.into_iter().enumerate() {
            let cluster: Cluster = read(cluster, "clusters", at).map_err(shape)?;
            bootstrap.refused.extend(bootstrap.resources.put_cluster(cluster).err());
        }
        for (at, listener) in listeners.into_iter().enumerate() {
            let listener: Listener = read(listener, "listeners", at).map_err(shape)?;
            match bootstrap.resources.put_listener(listener) {
                Ok(refused) => bootstrap.refused.extend(refused),
                Err(refused) => bootstrap.refused.push(refused),
            }
        }
        Ok(bootstrap)
    }
}

fn take(from: &mut Map<String, Value>, names: &[&str]) -> Option<Value> {
    names.iter().find_map(|name| from.remove(*name))
}

fn object(value: Value, what: &str) -> Result<Map<String, Value>, String> {
    match value {
        Value::Object(fields) => Ok(fields),
        Value::Null => Ok(Map::new()),
        _ => Err(format!("{what} must be an object")),
    }
}

fn list(value: Option<Value>, what: &str) -> Result<Vec<Value>, String> {
    match value {
        Some(Value::Array(items)) => Ok(items),
        Some(Value::Null) | None => Ok(Vec::new()),
        Some(_) => Err(format!("{what} must be a list")),
    }
}

fn nothing_else(rest: &Map<String, Value>, under: &str) -> Result<(), String> {
    let Some(key) = rest.keys().next() else { return Ok(()) };
    Err(format!("{under}{key} is not supported by this router: only static listeners and clusters are"))
}

fn read<M: Message + Name + Default>(value: Value, list: &str, at: usize) -> Result<M, String> {
    let name = value.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    from_value(value, UnknownFields::Refused)
        .map_err(|error| format!("static_resources.{list}[{at}] ({name}): {error}"))
}

/// Waits until a file is another one than when this was made: replaced, or written.
#[derive(Debug)]
pub struct Watch<'p> {
    path: &'p Path,
    seen: Option<Look>,
}

type Look = (u64, u64, std::time::SystemTime);

impl<'p> Watch<'p> {
    /// Begins to look at a file.
    pub fn new(path: &'p Path) -> Self {
        Self { path, seen: look(path) }
    }

    /// Waits for the next change. A file that is away for a moment, as while it is replaced, has not changed yet.
    pub async fn changed(&mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let now = look(self.path);
            if now.is_some() && now != self.seen {
                self.seen = now;
                return;
            }
        }
    }
}

/// Inode, length and time of the last change.
fn look(path: &Path) -> Option<Look> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.len(), metadata.modified().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = r#"
node: {id: zi, cluster: ingress}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}
static_resources:
  listeners:
  - name: inbound
    address: {socket_address: {address: 127.0.0.1, port_value: 10001}}
    listener_filters:
    - name: envoy.filters.listener.tls_inspector
      typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}
    filter_chains:
    - filter_chain_match: {transport_protocol: tls, server_names: ["backend{mesh=default}"]}
      filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: backend
          cluster: default:backend
  clusters:
  - name: default:backend
    type: STATIC
    load_assignment:
      cluster_name: default:backend
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 80}}}
  - {name: dns, type: LOGICAL_DNS}
"#;

    fn parse(text: &str) -> Result<Bootstrap, String> {
        Bootstrap::parse("envoy.yaml", text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_ordinary_bootstrap_gives_routes() {
        let bootstrap = parse(YAML).unwrap();
        let listener = &bootstrap.resources.listeners()["inbound"];
        assert_eq!(listener.address.to_string(), "127.0.0.1:10001");
        let route = listener.table.find(b"backend{mesh=default}").unwrap();
        assert_eq!(route.cluster.next(None).unwrap().address().to_string(), "10.0.0.1:80");
        let refused: Vec<_> = bootstrap.refused.iter().map(ToString::to_string).collect();
        assert_eq!(refused, [r#"Cluster "dns": type must be EDS, STATIC or STRICT_DNS"#]);
        let json = serde_json::to_string(&document::read("", YAML.as_bytes(), LIMITS).unwrap()[0].value).unwrap();
        assert_eq!(parse(&json).unwrap().resources.listeners().len(), 1);
    }

    #[test]
    fn what_is_no_bootstrap_of_a_router_is_told() {
        let cases = [
            ("", "envoy.yaml: it must hold one document"),
            ("[]", "envoy.yaml: the bootstrap must be an object"),
            ("a: [", "envoy.yaml:"),
            ("dynamic_resources: {}", "envoy.yaml: dynamic_resources is not supported by this router"),
            ("static_resources: {secrets: []}", "envoy.yaml: static_resources.secrets is not supported"),
            ("static_resources: {clusters: 1}", "envoy.yaml: static_resources.clusters must be a list"),
            ("static_resources: {clusters: [{name: c, typ: STATIC}]}", "envoy.yaml: static_resources.clusters[0] (c):"),
        ];
        for (text, begin) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(begin), "{text:?}: {error}");
        }
        let missing = Bootstrap::read(Path::new("/nowhere/envoy.yaml")).unwrap_err().to_string();
        assert!(missing.starts_with("cannot read \"/nowhere/envoy.yaml\": "), "{missing}");
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, next) = (folder.path().join("envoy.yaml"), folder.path().join("next"));
        std::fs::write(&path, "a").unwrap();
        let mut watch = Watch::new(&path);
        std::fs::write(&next, "b").unwrap();
        std::fs::rename(&next, &path).unwrap();
        tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.unwrap();
    }
}
