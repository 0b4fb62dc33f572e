//! `MeshMetric`: which metrics proxies offer, and to whom (api-and-kumactl 3.29, 3.30).

use regex::RegexBuilder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::kind::Kind;
use crate::resource::Meta;
use crate::spec::JsonSpec;
use crate::spec::check::{MUST_BE_DEFINED, each};
use crate::spec::formats::{check_port, is_url};
use crate::spec::target_ref::{Allowed, Policy, TargetKind, TargetRef, check_top, top_warnings};
use crate::spec::words::words;
use crate::violation::{Path, Violations};

/// Which metrics the selected proxies offer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshMetric {
    /// The proxies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// The metrics.
    #[serde(default)]
    pub default: Conf,
}

/// Metrics and where they go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Conf {
    /// Metrics of the proxy itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sidecar: Option<Sidecar>,
    /// Applications beside the proxy whose metrics it passes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applications: Option<Vec<Application>>,
    /// Where metrics go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backends: Option<Vec<Backend>>,
}

/// Metrics of the proxy itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sidecar {
    /// Which of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profiles: Option<Profiles>,
    /// Whether those that never changed are among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_unused: Option<bool>,
}

/// A choice of metrics: `include` wins over `exclude`, and both over the profiles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Profiles {
    /// Named choices, taken together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub append_profiles: Option<Vec<Profile>>,
    /// Metrics to leave out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude: Option<Vec<Selector>>,
    /// Metrics to take in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include: Option<Vec<Selector>>,
}

/// A named choice of metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Profile {
    /// Its name.
    pub name: ProfileName,
}

words!(
    /// Name of a choice of metrics.
    open ProfileName { All = "All", Basic = "Basic", None = "None" }
);

/// Metrics, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Selector {
    /// How names are compared.
    pub r#type: SelectorType,
    /// What they are compared with.
    pub r#match: String,
}

words!(
    /// How names of metrics are compared.
    open SelectorType { Prefix = "Prefix", Regex = "Regex", Exact = "Exact", Contains = "Contains" }
);

/// An application beside the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Application {
    /// What it is called in metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Path of its metrics.
    #[serde(default = "metrics_path")]
    pub path: String,
    /// Address it listens on; that of the inbound when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Port of its metrics.
    pub port: u32,
}

fn metrics_path() -> String {
    "/metrics".to_owned()
}

/// Where metrics go; the member named by the type is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// Who takes them.
    pub r#type: BackendType,
    /// Prometheus fetches them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<Prometheus>,
    /// A collector gets them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_telemetry: Option<OpenTelemetry>,
}

words!(
    /// Who takes metrics.
    open BackendType { Prometheus = "Prometheus", OpenTelemetry = "OpenTelemetry" }
);

/// Where Prometheus fetches metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Prometheus {
    /// Which Prometheus, when it finds proxies by MADS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Port of the proxy.
    #[serde(default = "prometheus_port")]
    pub port: u32,
    /// Path there.
    #[serde(default = "metrics_path")]
    pub path: String,
    /// TLS there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<PrometheusTls>,
}

fn prometheus_port() -> u32 {
    5670
}

/// TLS where Prometheus fetches metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PrometheusTls {
    /// Whose certificate is used.
    #[serde(default = "disabled")]
    pub mode: TlsMode,
}

words!(
    /// Whose certificate is used: none, one beside the proxy, that of the mesh.
    open TlsMode { Disabled = "Disabled", ProvidedTls = "ProvidedTLS", ActiveMtlsBackend = "ActiveMTLSBackend" }
);

fn disabled() -> TlsMode {
    TlsMode::Disabled
}

/// A collector that gets metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OpenTelemetry {
    /// Host and port.
    pub endpoint: String,
    /// From one delivery to the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_interval: Option<GoDuration>,
}

const SYSTEM: Allowed<'_> = Allowed::kinds(&[
    TargetKind::Mesh,
    TargetKind::MeshSubset,
    TargetKind::MeshService,
    TargetKind::MeshServiceSubset,
    TargetKind::MeshGateway,
    TargetKind::Dataplane,
])
.with_listener_tags();
const OTHERS: Allowed<'_> = Allowed::kinds(&[
    TargetKind::Mesh,
    TargetKind::MeshSubset,
    TargetKind::MeshService,
    TargetKind::Dataplane,
    TargetKind::MeshServiceSubset,
]);

impl Policy for MeshMetric {
    const KIND: Kind = Kind::MeshMetric;

    type To = ();
    type From = ();
    type Rule = ();

    fn target_ref(&self) -> Option<&TargetRef> {
        self.target_ref.as_ref()
    }
}

impl JsonSpec for MeshMetric {
    fn validate(&self, meta: &Meta, found: &mut Violations) {
        let path = Path::of("spec.default");
        check_top(self, meta, SYSTEM, OTHERS, found);
        if let Some(profiles) = self.default.sidecar.as_ref().and_then(|sidecar| sidecar.profiles.as_ref()) {
            profiles.check(&path.field("sidecar.profiles"), found);
        }
        // Both paths name the item in the singular once more, as the real control plane does.
        let applications = self.default.applications.as_deref().unwrap_or_default();
        for (at, application) in each(&path.field("applications.application"), applications) {
            check_port(&at, application.port, found);
        }
        for (at, backend) in each(&path.field("backends.backend"), self.default.backends.as_deref().unwrap_or_default())
        {
            backend.check(&at, found);
        }
    }

    fn warnings(&self, _: &Meta) -> Vec<String> {
        top_warnings(self.target_ref())
    }
}

impl Profiles {
    fn check(&self, at: &Path, found: &mut Violations) {
        for (name, selectors) in [("exclude", &self.exclude), ("include", &self.include)] {
            for (at, selector) in each(&at.field(name), selectors.as_deref().unwrap_or_default()) {
                selector.check(&at, found);
            }
        }
        for (at, profile) in each(&at.field("appendProfiles"), self.append_profiles.as_deref().unwrap_or_default()) {
            if let ProfileName::Other(name) = &profile.name {
                let reason = format!("unrecognized profile name '{name}' - 'All', 'None', 'Basic' are supported");
                found.add(&at.field("name"), reason);
            }
        }
    }
}

impl Selector {
    fn check(&self, at: &Path, found: &mut Violations) {
        match &self.r#type {
            SelectorType::Regex if !is_regex(&self.r#match) => found.add(&at.field("match"), "invalid regex"),
            SelectorType::Other(word) => {
                let reason = format!("unrecognized type '{word}' - 'Regex', 'Prefix', 'Exact' are supported");
                found.add(&at.field("type"), reason);
            }
            _ => {}
        }
    }
}

/// Whether a pattern compiles, within a megabyte.
fn is_regex(pattern: &str) -> bool {
    RegexBuilder::new(pattern).size_limit(1 << 20).nest_limit(100).build().is_ok()
}

impl Backend {
    fn check(&self, at: &Path, found: &mut Violations) {
        match &self.r#type {
            BackendType::Prometheus => match &self.prometheus {
                None => found.add(&at.field("prometheus"), MUST_BE_DEFINED),
                Some(prometheus) => check_port(&at.field("port"), prometheus.port, found),
            },
            BackendType::OpenTelemetry => match &self.open_telemetry {
                None => found.add(&at.field("openTelemetry"), MUST_BE_DEFINED),
                Some(collector) => collector.check(&at.field("openTelemetry"), found),
            },
            BackendType::Other(_) => found.add(at, "unrecognized type"),
        }
    }
}

impl OpenTelemetry {
    fn check(&self, at: &Path, found: &mut Violations) {
        let at = at.field("endpoint");
        if !is_url(&self.endpoint) {
            found.add(&at, "must be a valid url");
        }
        if self.endpoint.starts_with("http://") || self.endpoint.starts_with("https://") {
            found.add(&at, "must not use schema");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::spec::tabled::{assert_faults, assert_printed, warnings};

    #[test]
    fn defaults_are_printed() {
        assert_printed::<MeshMetric>("{}", r#"{"default":{}}"#);
        assert_printed::<MeshMetric>(
            r#"{"default":{"backends":[{"prometheus":{"tls":{}},"type":"Prometheus"},
                    {"type":"OpenTelemetry","openTelemetry":{"refreshInterval":"90s","endpoint":"a.b:1"}}],
                "applications":[{"port":1},{"port":2,"address":"::1","path":"","name":"n"}],
                "sidecar":{"includeUnused":false,"profiles":{"include":[],"exclude":[{"match":"m","type":"Exact"}],"appendProfiles":[{"name":"None"}]}}}}"#,
            r#"{"default":{"sidecar":{"profiles":{"appendProfiles":[{"name":"None"}],"exclude":[{"type":"Exact","match":"m"}],"include":[]},"includeUnused":false},"applications":[{"path":"/metrics","port":1},{"name":"n","path":"","address":"::1","port":2}],"backends":[{"type":"Prometheus","prometheus":{"port":5670,"path":"/metrics","tls":{"mode":"Disabled"}}},{"type":"OpenTelemetry","openTelemetry":{"endpoint":"a.b:1","refreshInterval":"1m30s"}}]}}"#,
        );
    }

    #[test]
    fn every_fault_is_found_in_order() {
        assert_faults::<MeshMetric>(
            Kind::MeshMetric,
            &[
                ("{}", ""),
                (r#"{"default":{"sidecar":{"profiles":{"include":[{"type":"Regex","match":"^a|(?P<n>b)+$"}]}}}}"#, ""),
                (
                    r#"{"targetRef":{"kind":"MeshHTTPRoute","name":"x"},"default":{
                        "sidecar":{"profiles":{"appendProfiles":[{"name":"Basic"},{"name":"Some"}],
                            "exclude":[{"type":"Regex","match":"["},{"type":"Glob","match":"["}],
                            "include":[{"type":"Prefix","match":"["},{"type":"Regex","match":"(?=a)"}]}},
                        "applications":[{"port":1},{"port":0},{"port":65536}],
                        "backends":[{"type":"Prometheus"},{"type":"Prometheus","prometheus":{"port":0}},{"type":"OpenTelemetry"},
                            {"type":"OpenTelemetry","openTelemetry":{"endpoint":""}},
                            {"type":"OpenTelemetry","openTelemetry":{"endpoint":"https://a.b"}},{"type":"StatsD"}]}}"#,
                    "spec.targetRef.kind: value 'MeshHTTPRoute' is not supported
                     spec.default.sidecar.profiles.exclude[0].match: invalid regex
                     spec.default.sidecar.profiles.exclude[1].type: unrecognized type 'Glob' - 'Regex', 'Prefix', 'Exact' are supported
                     spec.default.sidecar.profiles.include[1].match: invalid regex
                     spec.default.sidecar.profiles.appendProfiles[1].name: unrecognized profile name 'Some' - 'All', 'None', 'Basic' are supported
                     spec.default.applications.application[1]: port must be a valid (1-65535)
                     spec.default.applications.application[2]: port must be a valid (1-65535)
                     spec.default.backends.backend[0].prometheus: must be defined
                     spec.default.backends.backend[1].port: port must be a valid (1-65535)
                     spec.default.backends.backend[2].openTelemetry: must be defined
                     spec.default.backends.backend[3].openTelemetry.endpoint: must be a valid url
                     spec.default.backends.backend[4].openTelemetry.endpoint: must not use schema
                     spec.default.backends.backend[5]: unrecognized type",
                ),
            ],
        );
    }

    #[test]
    fn a_pattern_of_any_size_is_answered() {
        assert!(!is_regex(&"(".repeat(100_000)));
        assert!(!is_regex("(((a{100}){100}){100}){100}"));
    }

    #[test]
    fn old_kinds_give_warnings() {
        let old = r#"{"targetRef":{"kind":"MeshSubset","tags":{"a":"b"}}}"#;
        assert_eq!(warnings::<MeshMetric>(Kind::MeshMetric, old).len(), 1);
        assert_eq!(warnings::<MeshMetric>(Kind::MeshMetric, "{}"), [""; 0]);
    }
}
