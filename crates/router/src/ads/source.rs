//! What an Envoy bootstrap says of the control plane (zone-dataplane 1.3).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kds_proto::envoy::config::core::v3::Node;
use kds_proto::json::{UnknownFields, from_value};
use model::document::{self, Limits};
use serde::Deserialize;
use serde_json::Value;

/// Largest bootstrap.
const LIMITS: Limits = Limits { size: 4 << 20, values: 100_000 };

/// Where resources come from, and who asks for them.
#[derive(Clone)]
pub struct Source {
    /// Who we are there.
    pub node: Node,
    /// Name or address of the control plane.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is encrypted; `None`: not at all.
    pub tls: Option<Tls>,
    /// What proves who we are; the bare token.
    pub token: Option<String>,
}

/// Whom to trust at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The name that its certificate must have.
    pub name: String,
    /// Its authorities, PEM; `None`: those of this machine.
    pub authorities: Option<Vec<u8>>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({} at {}:{})", self.node.id, self.host, self.port)
    }
}

/// Why a bootstrap names no control plane.
#[derive(Debug, thiserror::Error)]
#[error("the bootstrap that the control plane gave cannot be used: {0}")]
pub struct Error(String);

impl Source {
    /// Reads a bootstrap, YAML or JSON.
    ///
    /// # Errors
    /// It is none, or resources do not come over ADS from one of its clusters.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let error = |reason: &dyn fmt::Display| Error(reason.to_string());
        let mut documents = document::read("bootstrap", text, LIMITS).map_err(|fault| error(&fault))?;
        let document = documents.pop().ok_or_else(|| error(&"it is empty"))?;
        let document: Document = serde_json::from_value(document.value).map_err(|fault| error(&fault))?;
        let node = from_value(document.node, UnknownFields::Ignored).map_err(|fault| error(&fault))?;

        let service = document.dynamic_resources.ads_config.grpc_services.into_iter().next();
        let service = service.ok_or_else(|| error(&"it names no ADS service"))?;
        let (host, port, mut tls) = match (service.envoy_grpc, service.google_grpc) {
            (Some(by_cluster), _) => document.static_resources.cluster(&by_cluster.cluster_name)?,
            (None, Some(by_target)) => by_target.target()?,
            (None, None) => return Err(error(&"its ADS service has no target")),
        };
        if let Some(tls) = tls.as_mut().filter(|tls| tls.authorities.is_none()) {
            tls.authorities = document.static_resources.authorities()?;
        }
        let token = service.initial_metadata.into_iter().find(|header| header.key == "authorization");
        Ok(Self { node, host, port, tls, token: token.map(|header| header.value) })
    }
}

// Of a bootstrap only what leads to the control plane is read; proto3's JSON allows both spellings of a field.

#[derive(Deserialize)]
struct Document {
    node: Value,
    #[serde(alias = "dynamicResources")]
    dynamic_resources: DynamicResources,
    #[serde(alias = "staticResources", default)]
    static_resources: StaticResources,
}

#[derive(Deserialize)]
struct DynamicResources {
    #[serde(alias = "adsConfig")]
    ads_config: AdsConfig,
}

#[derive(Deserialize)]
struct AdsConfig {
    #[serde(alias = "grpcServices")]
    grpc_services: Vec<GrpcService>,
}

#[derive(Deserialize)]
struct GrpcService {
    #[serde(alias = "envoyGrpc")]
    envoy_grpc: Option<EnvoyGrpc>,
    #[serde(alias = "googleGrpc")]
    google_grpc: Option<GoogleGrpc>,
    #[serde(alias = "initialMetadata", default)]
    initial_metadata: Vec<Header>,
}

#[derive(Deserialize)]
struct EnvoyGrpc {
    #[serde(alias = "clusterName")]
    cluster_name: String,
}

/// What a control plane names whose tokens are read from a file.
#[derive(Deserialize)]
struct GoogleGrpc {
    #[serde(alias = "targetUri")]
    target_uri: String,
}

#[derive(Deserialize)]
struct Header {
    key: String,
    #[serde(default)]
    value: String,
}

#[derive(Default, Deserialize)]
struct StaticResources {
    #[serde(default)]
    clusters: Vec<Cluster>,
    #[serde(default)]
    secrets: Vec<Secret>,
}

#[derive(Deserialize)]
struct Cluster {
    name: String,
    #[serde(alias = "loadAssignment")]
    load_assignment: Option<Value>,
    #[serde(alias = "transportSocket")]
    transport_socket: Option<Value>,
}

#[derive(Deserialize)]
struct Secret {
    name: String,
    #[serde(alias = "validationContext")]
    validation_context: Option<Value>,
}

/// Name of the secret that says whom to trust.
const VALIDATION: &str = "cp_validation_ctx";

impl StaticResources {
    fn cluster(&self, name: &str) -> Result<(String, u16, Option<Tls>), Error> {
        let cluster = self.clusters.iter().find(|cluster| cluster.name == name);
        let cluster = cluster.ok_or_else(|| Error(format!("there is no cluster {name:?} for ADS")))?;
        let assignment = cluster.load_assignment.as_ref().and_then(|assignment| {
            let endpoint = &any(assignment, "endpoints").get(0)?;
            let endpoint = any(endpoint, "lb_endpoints").get(0)?;
            Some(any(any(any(endpoint, "endpoint"), "address"), "socket_address"))
        });
        let address = assignment.unwrap_or(&Value::Null);
        let host = any(address, "address").as_str();
        let port = any(address, "port_value").as_u64().and_then(|port| u16::try_from(port).ok());
        let (Some(host), Some(port)) = (host, port) else {
            return Err(Error(format!("the cluster {name:?} has no address and port")));
        };
        let tls = cluster.transport_socket.as_ref().map(|socket| {
            let sni = any(any(socket, "typed_config"), "sni").as_str().filter(|sni| !sni.is_empty());
            Tls { name: sni.unwrap_or(host).to_owned(), authorities: None }
        });
        Ok((host.to_owned(), port, tls))
    }

    fn authorities(&self) -> Result<Option<Vec<u8>>, Error> {
        let secret = self.secrets.iter().find(|secret| secret.name == VALIDATION);
        let Some(context) = secret.and_then(|secret| secret.validation_context.as_ref()) else { return Ok(None) };
        let source = any(context, "trusted_ca");
        if let Some(text) = any(source, "inline_string").as_str() {
            return Ok(Some(text.as_bytes().to_vec()));
        }
        let Some(encoded) = any(source, "inline_bytes").as_str() else { return Ok(None) };
        let decoded = STANDARD.decode(encoded);
        decoded.map(Some).map_err(|error| Error(format!("its authorities are no base64: {error}")))
    }
}

impl GoogleGrpc {
    fn target(&self) -> Result<(String, u16, Option<Tls>), Error> {
        let target = self.target_uri.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) = target.ok_or_else(|| Error(format!("{:?} is no host and port", self.target_uri)))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok((host.clone(), port, Some(Tls { name: host, authorities: None })))
    }
}

/// A field in either spelling; null when it is missing.
fn any<'v>(value: &'v Value, field: &str) -> &'v Value {
    let Value::Object(fields) = value else { return &Value::Null };
    fields.get(field).or_else(|| fields.get(&camel(field))).unwrap_or(&Value::Null)
}

fn camel(field: &str) -> String {
    let mut up = false;
    field
        .chars()
        .filter_map(|letter| match letter {
            '_' => {
                up = true;
                None
            }
            _ if std::mem::take(&mut up) => Some(letter.to_ascii_uppercase()),
            _ => Some(letter),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = r#"
node: {id: .zi, cluster: ingress, metadata: {dataplane.proxyType: ingress, features: [feature-delta-grpc]}}
dynamicResources:
  adsConfig:
    apiType: DELTA_GRPC
    grpcServices:
    - envoyGrpc: {clusterName: ads_cluster}
      initialMetadata: [{key: authorization, value: token}]
  cdsConfig: {ads: {}}
staticResources:
  clusters:
  - name: access_log_sink
    loadAssignment: {endpoints: [{lbEndpoints: [{endpoint: {address: {pipe: {path: /a.sock}}}}]}]}
  - name: ads_cluster
    loadAssignment:
      endpoints: [{lbEndpoints: [{endpoint: {address: {socketAddress: {address: cp.east, portValue: 5678}}}}]}]
    transportSocket: {name: tls, typedConfig: {'@type': x, sni: cp.east}}
  secrets:
  - name: cp_validation_ctx
    validationContext: {trustedCa: {inlineBytes: UEVN}}
"#;

    /// DP-5, DP-6 in their client half.
    #[test]
    fn the_control_plane_stands_in_the_bootstrap_in_either_spelling() {
        let source = Source::parse(GIVEN.as_bytes()).unwrap();
        assert_eq!((&*source.host, source.port, source.token.as_deref()), ("cp.east", 5678, Some("token")));
        assert_eq!((&*source.node.id, &*source.node.cluster), (".zi", "ingress"));
        assert!(source.node.metadata.as_ref().unwrap().fields.contains_key("dataplane.proxyType"));
        let tls = Tls { name: "cp.east".to_owned(), authorities: Some(b"PEM".to_vec()) };
        assert_eq!(source.tls, Some(tls));
        assert!(!format!("{source:?}").contains("token"));
        let snake = GIVEN
            .replace("dynamicResources", "dynamic_resources")
            .replace("adsConfig", "ads_config")
            .replace("grpcServices", "grpc_services")
            .replace("clusterName", "cluster_name")
            .replace("socketAddress", "socket_address")
            .replace("trustedCa", "trusted_ca");
        assert_eq!(Source::parse(snake.as_bytes()).unwrap().tls, source.tls);
    }

    #[test]
    fn a_target_alone_does_too() {
        let given = GIVEN.replace("envoyGrpc: {clusterName: ads_cluster}", "googleGrpc: {targetUri: 'cp.west:443'}");
        let source = Source::parse(given.as_bytes()).unwrap();
        assert_eq!((&*source.host, source.port), ("cp.west", 443));
        assert_eq!(source.tls.unwrap().authorities.unwrap(), b"PEM");
    }

    #[test]
    fn what_names_no_control_plane_is_told() {
        for (from, to, why) in [
            ("name: ads_cluster", "name: other", "there is no cluster \"ads_cluster\" for ADS"),
            ("portValue: 5678", "portValue: 99999", "has no address and port"),
            ("UEVN", "'??'", "no base64"),
            ("node:", "nodes:", "missing field `node`"),
        ] {
            let error = Source::parse(GIVEN.replace(from, to).as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
