//! What a proxy tells when it asks how to start.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// The request of `kuma-dp`; what is missing or `null` is empty (zone-dataplane 1.2).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Request {
    pub mesh: String,
    pub name: String,
    pub proxy_type: String,
    pub dataplane_token: String,
    pub dataplane_token_path: String,
    /// A document of a Dataplane, ZoneIngress or ZoneEgress.
    pub dataplane_resource: String,
    pub version: Version,
    /// PEM.
    pub ca_cert: String,
    pub dynamic_metadata: BTreeMap<String, String>,
    pub dns_port: u32,
    pub readiness_port: u32,
    /// Says disabled and means enabled, since ever.
    #[serde(rename = "appProbeProxyDisabled")]
    pub app_probe_proxy_enabled: bool,
    pub features: Vec<String>,
    pub resources: Resources,
    pub workdir: String,
    pub metrics_resources: MetricsResources,
    pub system_ca_path: String,
    /// How connections are redirected to the proxy, if they are.
    #[serde(rename = "dataplaneConfig")]
    pub transparent_proxy: Option<Value>,
    #[serde(rename = "ipv6Enabled")]
    pub ipv6_enabled: bool,
    pub spire_resources: SpireResources,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Version {
    pub kuma_dp: BTreeMap<String, Value>,
    pub envoy: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Resources {
    pub max_heap_size_bytes: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct MetricsResources {
    pub cert_path: String,
    pub key_path: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SpireResources {
    pub socket_path: String,
}

impl Request {
    /// Out of a body.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let mut value: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        drop_nulls(&mut value);
        let mut request: Self = serde_json::from_value(value).map_err(|error| error.to_string())?;
        if request.proxy_type.is_empty() {
            request.proxy_type = "dataplane".to_owned();
        }
        Ok(request)
    }

    /// Whether connections are redirected to the proxy.
    pub fn is_redirected(&self) -> bool {
        let Some(config) = &self.transparent_proxy else { return false };
        ["inbound", "outbound"].iter().any(|way| config["redirect"][*way]["enabled"] == true)
    }

    pub fn has_feature(&self, feature: &str) -> bool {
        self.features.iter().any(|has| has == feature)
    }
}

/// Go writes `null` for what was never set.
fn drop_nulls(value: &mut Value) {
    let Value::Object(members) = value else { return };
    members.retain(|_, member| !member.is_null());
    members.values_mut().for_each(drop_nulls);
}
