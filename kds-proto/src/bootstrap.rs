//! What a proxy and its control plane say to each other over HTTP before the proxy subscribes to anything
//! (zone-dataplane 1.2): `POST /bootstrap`.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Where a proxy asks.
pub const PATH: &str = "/bootstrap";

/// Who a proxy is and what it can do. What is left out, or null, is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Request {
    /// Its mesh; empty for the proxies at the edge of a zone.
    #[serde(deserialize_with = "or_default")]
    pub mesh: String,
    /// Its name.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// `dataplane`, which an empty text means too, `ingress` or `egress`.
    #[serde(deserialize_with = "or_default")]
    pub proxy_type: String,
    /// What it will prove who it is with.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Token::is_empty")]
    pub dataplane_token: Token,
    /// File on the proxy's host that holds the token.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub dataplane_token_path: String,
    /// Its resource, a JSON document: Dataplane, ZoneIngress, ZoneEgress. Empty when the control plane has it already.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub dataplane_resource: String,
    /// Of its programs.
    #[serde(deserialize_with = "or_default")]
    pub version: Version,
    /// Authorities by which it verifies the control plane, PEM.
    #[serde(deserialize_with = "or_default")]
    pub ca_cert: String,
    /// Words of its user, which policies can look at.
    #[serde(deserialize_with = "or_default")]
    pub dynamic_metadata: BTreeMap<String, String>,
    /// Where Envoy answers for names of the mesh.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub dns_port: u32,
    /// Where it says whether it is ready.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub readiness_port: u32,
    /// Whether it passes on the probes of the workload. The name on the wire says the opposite of what it means.
    #[serde(rename = "appProbeProxyDisabled", deserialize_with = "or_default", skip_serializing_if = "is_false")]
    pub app_probe_proxy_enabled: bool,
    /// `linux`.
    #[serde(deserialize_with = "or_default")]
    pub operating_system: String,
    /// What it can do: `feature-delta-grpc`.
    #[serde(deserialize_with = "or_default")]
    pub features: Vec<String>,
    /// What it may use.
    #[serde(deserialize_with = "or_default")]
    pub resources: Resources,
    /// Folder of its sockets.
    #[serde(deserialize_with = "or_default")]
    pub workdir: String,
    /// With what it serves metrics.
    #[serde(deserialize_with = "or_default")]
    pub metrics_resources: MetricsResources,
    /// Authorities of its host, a file.
    #[serde(deserialize_with = "or_default")]
    pub system_ca_path: String,
    /// How the workload's traffic is redirected.
    #[serde(rename = "dataplaneConfig", skip_serializing_if = "Option::is_none")]
    pub transparent_proxy: Option<Value>,
    /// Whether its host has IPv6.
    #[serde(deserialize_with = "or_default")]
    pub ipv6_enabled: bool,
    /// Where it gets identities from, other than from the control plane.
    #[serde(deserialize_with = "or_default")]
    pub spire_resources: SpireResources,
}

impl Request {
    /// Whether connections are redirected to the proxy.
    pub fn is_redirected(&self) -> bool {
        let Some(config) = &self.transparent_proxy else { return false };
        ["inbound", "outbound"].iter().any(|way| config["redirect"][*way]["enabled"] == true)
    }

    /// Whether the proxy can do something, in the words of `features`.
    pub fn has_feature(&self, feature: &str) -> bool {
        self.features.iter().any(|has| has == feature)
    }
}

/// Versions of a proxy's programs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Version {
    /// Of the program that looks after it.
    pub kuma_dp: KumaDpVersion,
    /// Of Envoy.
    pub envoy: EnvoyVersion,
}

/// A version of `kuma-dp`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KumaDpVersion {
    /// `2.13.10`.
    pub version: String,
    /// The tag it was built from.
    pub git_tag: String,
    /// The commit it was built from.
    pub git_commit: String,
    /// When it was built.
    pub build_date: String,
}

/// A version of Envoy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvoyVersion {
    /// `1.36.8`.
    pub version: String,
    /// As Envoy prints it.
    pub build: String,
    /// Whether `kuma-dp` takes it to fit.
    pub kuma_dp_compatible: bool,
}

/// What a proxy may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// Memory, in bytes; 0: not known.
    pub max_heap_size_bytes: u64,
}

/// With what a proxy serves metrics, files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricsResources {
    /// Certificate.
    pub cert_path: String,
    /// Its key.
    pub key_path: String,
}

/// Where a proxy gets identities from, other than from the control plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SpireResources {
    /// The agent's socket.
    pub socket_path: String,
}

/// What a proxy is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Response {
    /// A bootstrap for Envoy, YAML.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub bootstrap: Vec<u8>,
    /// What the program that looks after Envoy does itself.
    pub kuma_sidecar_configuration: SidecarConfiguration,
}

/// What the program that looks after Envoy does itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SidecarConfiguration {
    /// Names and addresses.
    pub networking: Networking,
    /// What it gathers.
    pub metrics: Metrics,
}

/// Names and addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Networking {
    /// Configuration of a name server of its own.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub corefile_template: Vec<u8>,
    /// Address of the dataplane; empty for the proxies at the edge of a zone.
    pub address: String,
}

/// What is gathered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// Where from.
    #[serde(deserialize_with = "or_default")]
    pub aggregate: Vec<Aggregate>,
}

/// Metrics of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Aggregate {
    /// Its name.
    pub name: String,
    /// Where.
    pub address: String,
    /// Where.
    pub port: u32,
    /// Where.
    pub path: String,
}

/// A token, which no log shows.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub String);

impl Token {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({} bytes)", self.0.len())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references to it")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references to it")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Go writes a list or a map that was never filled as null.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn to_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    if bytes.is_empty() { serializer.serialize_none() } else { serializer.serialize_str(&STANDARD.encode(bytes)) }
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    STANDARD.decode(text.unwrap_or_default()).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json, to_value};

    use super::*;

    /// DP-1 in its wire half.
    #[test]
    fn a_request_is_written_as_kuma_writes_it() {
        let request = Request {
            name: "zi".to_owned(),
            proxy_type: "ingress".to_owned(),
            dataplane_token: Token("secret".to_owned()),
            app_probe_proxy_enabled: true,
            ..Request::default()
        };
        let value = to_value(&request).unwrap();
        assert_eq!(value["dataplaneToken"], "secret");
        assert_eq!(value["appProbeProxyDisabled"], true);
        assert_eq!(value["version"]["envoy"]["kumaDpCompatible"], false);
        assert_eq!(
            (value.get("dnsPort"), value.get("dataplaneConfig"), value.get("dataplaneResource")),
            (None, None, None)
        );
        assert!(!format!("{request:?}").contains("secret"));
        assert_eq!(from_value::<Request>(value).unwrap(), request);
    }

    #[test]
    fn null_and_unknown_fields_are_nothing() {
        let given = json!({"name": "a", "features": null, "dynamicMetadata": null, "later": 1});
        assert_eq!(from_value::<Request>(given).unwrap(), Request { name: "a".to_owned(), ..Request::default() });
        let given = json!({"bootstrap": "bm9kZTo=", "kumaSidecarConfiguration": {
            "networking": {"corefileTemplate": null}, "metrics": {"aggregate": null}}});
        let response: Response = from_value(given).unwrap();
        assert_eq!(response.bootstrap, b"node:");
        assert_eq!(response.kuma_sidecar_configuration, SidecarConfiguration::default());
    }
}
