//! `MeshAccessLog`: where requests and connections are logged (api-and-kumactl 3.30).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::Kind;
use crate::resource::Meta;
use crate::spec::JsonSpec;
use crate::spec::check::{MUST_BE_DEFINED, MUST_NOT_BE_EMPTY, each};
use crate::spec::formats::{is_file_path, is_url};
use crate::spec::free_form::FreeForm;
use crate::spec::target_ref::{Allowed, Policy, TargetKind, TargetRef, check_lists, check_top, from_and_top_warnings};
use crate::spec::words::words;
use crate::violation::{Path, Violations};

/// Where the selected proxies log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshAccessLog {
    /// The proxies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Logs of calls to destinations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<Item>>,
    /// Logs of calls of clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Vec<Item>>,
    /// Logs of incoming calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<Rule>>,
}

/// A group of clients or destinations and where calls are logged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// The group.
    pub target_ref: TargetRef,
    /// Where calls are logged.
    pub default: Conf,
}

/// Where incoming calls are logged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rule {
    /// Where.
    pub default: Conf,
}

/// Where calls are logged; an empty list switches logging off.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Conf {
    /// Every back end gets every entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backends: Option<Vec<Backend>>,
}

/// A log; the member named by the type is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// What sort of log it is.
    pub r#type: BackendType,
    /// A TCP listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpBackend>,
    /// A file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileBackend>,
    /// An OpenTelemetry collector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_telemetry: Option<OpenTelemetryBackend>,
}

words!(
    /// What sort of log a [`Backend`] is.
    BackendType { Tcp = "Tcp", File = "File", OpenTelemetry = "OpenTelemetry" }
);

/// A TCP listener that takes log lines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TcpBackend {
    /// What a line looks like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Host and port.
    #[schemars(length(min = 1))]
    pub address: String,
}

/// A file beside the proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FileBackend {
    /// What a line looks like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Absolute path.
    #[schemars(length(min = 1))]
    pub path: String,
}

/// An OpenTelemetry collector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OpenTelemetryBackend {
    /// Attributes of an entry, with placeholders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Vec<KeyValue>>,
    /// Body of an entry: a text or an OTLP value, with placeholders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<FreeForm>,
    /// Host and port; 4317 when there is no port.
    #[schemars(length(min = 1))]
    pub endpoint: String,
}

/// What a line looks like; the member named by the type is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Format {
    /// Text or JSON.
    pub r#type: FormatType,
    /// A text with placeholders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain: Option<String>,
    /// Members of a JSON object, with placeholders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Vec<KeyValue>>,
    /// Whether placeholders without a value print as nothing, not as `-`.
    #[serde(default)]
    pub omit_empty_values: bool,
}

words!(
    /// How a line is written.
    FormatType { Plain = "Plain", Json = "Json" }
);

/// A member of a log entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyValue {
    /// Its name.
    pub key: String,
    /// Its value, with placeholders.
    pub value: String,
}

const TOP: Allowed<'_> = Allowed::kinds(&[
    TargetKind::Mesh,
    TargetKind::MeshSubset,
    TargetKind::MeshGateway,
    TargetKind::MeshService,
    TargetKind::MeshServiceSubset,
    TargetKind::Dataplane,
])
.with_listener_tags();
const TO: Allowed<'_> = Allowed::kinds(&[
    TargetKind::Mesh,
    TargetKind::MeshService,
    TargetKind::MeshExternalService,
    TargetKind::MeshMultiZoneService,
    TargetKind::MeshHttpRoute,
]);
const MESH: Allowed<'_> = Allowed::kinds(&[TargetKind::Mesh]);

impl Policy for MeshAccessLog {
    const KIND: Kind = Kind::MeshAccessLog;

    type To = Item;
    type From = Item;
    type Rule = Rule;

    fn target_ref(&self) -> Option<&TargetRef> {
        self.target_ref.as_ref()
    }

    fn to(&self) -> &[Item] {
        self.to.as_deref().unwrap_or_default()
    }

    fn from(&self) -> &[Item] {
        self.from.as_deref().unwrap_or_default()
    }

    fn rules(&self) -> &[Rule] {
        self.rules.as_deref().unwrap_or_default()
    }
}

impl JsonSpec for MeshAccessLog {
    fn validate(&self, meta: &Meta, found: &mut Violations) {
        let spec = Path::of("spec");
        check_top(self, meta, TOP, TOP, found);
        check_lists(self, found);
        let to = if self.top_kind() == TargetKind::MeshGateway { MESH } else { TO };
        for (at, item) in each(&spec.field("to"), self.to()) {
            item.check(&at, to, found);
        }
        for (at, item) in each(&spec.field("from"), self.from()) {
            item.check(&at, MESH, found);
        }
        // The real control plane looks into `rules` only when there is a `from`, be it empty.
        let rules = if self.from.is_some() { self.rules() } else { &[] };
        for (at, rule) in each(&spec.field("rules"), rules) {
            rule.default.check(&at.field("default"), found);
        }
    }

    fn warnings(&self, _: &Meta) -> Vec<String> {
        from_and_top_warnings(self)
    }
}

impl Item {
    fn check(&self, at: &Path, allowed: Allowed<'_>, found: &mut Violations) {
        self.target_ref.check(&at.field("targetRef"), allowed, found);
        self.default.check(&at.field("default"), found);
    }
}

impl Conf {
    fn check(&self, at: &Path, found: &mut Violations) {
        let at = at.field("backends");
        let Some(backends) = &self.backends else { return found.add(&at, MUST_BE_DEFINED) };
        for (at, backend) in each(&at, backends) {
            backend.check(&at, found);
        }
    }
}

impl Backend {
    fn check(&self, at: &Path, found: &mut Violations) {
        match self.r#type {
            BackendType::File => match &self.file {
                None => found.add(&at.field("file"), MUST_BE_DEFINED),
                Some(file) => file.check(&at.field("file"), found),
            },
            BackendType::Tcp => match &self.tcp {
                None => found.add(&at.field("tcp"), MUST_BE_DEFINED),
                Some(tcp) => tcp.check(&at.field("tcp"), found),
            },
            BackendType::OpenTelemetry => {
                if self.open_telemetry.is_none() {
                    found.add(&at.field("openTelemetry"), MUST_BE_DEFINED);
                }
            }
        }
    }
}

impl FileBackend {
    fn check(&self, at: &Path, found: &mut Violations) {
        if let Some(format) = &self.format {
            format.check(&at.field("format"), found);
        }
        if !is_file_path(&self.path) {
            found.add(&at.field("path"), "file backend requires a valid path");
        }
    }
}

impl TcpBackend {
    fn check(&self, at: &Path, found: &mut Violations) {
        if let Some(format) = &self.format {
            format.check(&at.field("format"), found);
        }
        if !is_url(&self.address) {
            found.add(&at.field("address"), "tcp backend requires valid address");
        }
    }
}

impl Format {
    fn check(&self, at: &Path, found: &mut Violations) {
        match self.r#type {
            FormatType::Plain => match self.plain.as_deref() {
                None => found.add(&at.field("plain"), MUST_BE_DEFINED),
                Some("") => found.add(&at.field("plain"), MUST_NOT_BE_EMPTY),
                Some(_) => {}
            },
            FormatType::Json => {
                let at = at.field("json");
                let Some(members) = &self.json else { return found.add(&at, MUST_BE_DEFINED) };
                if members.is_empty() {
                    found.add(&at, MUST_NOT_BE_EMPTY);
                }
                for (at, member) in each(&at, members) {
                    member.check(&at, found);
                }
            }
        }
    }
}

impl KeyValue {
    fn check(&self, at: &Path, found: &mut Violations) {
        let Self { key, value } = self;
        if key.is_empty() {
            found.add(&at.field("key"), "key cannot be empty");
        }
        if value.is_empty() {
            found.add(&at.field("value"), "value cannot be empty");
        }
        // Envoy gets both as they are, so quotes must come escaped.
        let member = format!(r#"{{"{key}": "{value}"}}"#);
        if serde_json::from_str::<serde::de::IgnoredAny>(&member).is_err() {
            found.add(at, "is not a valid JSON object");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::spec::tabled::{assert_faults, assert_printed, warnings};

    #[test]
    fn members_are_printed_in_order_and_the_default_with_them() {
        assert_printed::<MeshAccessLog>("{}", "{}");
        assert_printed::<MeshAccessLog>(
            r#"{"rules":[],"from":[{"default":{},"targetRef":{"kind":"Mesh"}}],"to":[{"targetRef":{"kind":"Mesh"},"default":{"backends":[
                {"openTelemetry":{"endpoint":"a:1","body":{"b":1,"a":2},"attributes":[{"value":"v","key":"k"}]},"type":"OpenTelemetry"},
                {"type":"File","file":{"path":"/x","format":{"type":"Plain","plain":"p"}}}]}}]}"#,
            r#"{"to":[{"targetRef":{"kind":"Mesh"},"default":{"backends":[{"type":"OpenTelemetry","openTelemetry":{"attributes":[{"key":"k","value":"v"}],"body":{"a":2,"b":1},"endpoint":"a:1"}},{"type":"File","file":{"format":{"type":"Plain","plain":"p","omitEmptyValues":false},"path":"/x"}}]}}],"from":[{"targetRef":{"kind":"Mesh"},"default":{}}],"rules":[]}"#,
        );
    }

    fn to(backends: &str) -> String {
        format!(r#"{{"to":[{{"targetRef":{{"kind":"Mesh"}},"default":{{"backends":[{backends}]}}}}]}}"#)
    }

    #[test]
    fn something_is_logged_and_rules_stand_alone() {
        assert_faults::<MeshAccessLog>(
            Kind::MeshAccessLog,
            &[
                ("{}", "spec: at least one of 'from', 'to' or 'rules' has to be defined"),
                (r#"{"rules":[{"default":{"backends":[]}}]}"#, ""),
                (r#"{"rules":[{"default":{}}]}"#, ""),
                (r#"{"rules":[{"default":{}}],"from":[]}"#, "spec.rules[0].default.backends: must be defined"),
                (
                    r#"{"rules":[{"default":{"backends":[]}}],"to":[{"targetRef":{"kind":"MeshSubset"},"default":{}}]}"#,
                    "spec: fields 'to' and 'from' must be empty when 'rules' is defined
                     spec.to[0].targetRef.kind: value 'MeshSubset' is not supported
                     spec.to[0].default.backends: must be defined",
                ),
                (
                    r#"{"targetRef":{"kind":"MeshGateway","name":"g"},"to":[{"targetRef":{"kind":"MeshService","name":"a"},"default":{"backends":[]}}]}"#,
                    "spec.to[0].targetRef.kind: value 'MeshService' is not supported",
                ),
                (
                    r#"{"targetRef":{"kind":"MeshHTTPRoute","name":"g"},"from":[{"targetRef":{"kind":"MeshService","name":"a"},"default":{"backends":[]}}]}"#,
                    "spec.targetRef.kind: value 'MeshHTTPRoute' is not supported
                     spec.from[0].targetRef.kind: value 'MeshService' is not supported",
                ),
            ],
        );
    }

    #[test]
    fn every_back_end_is_checked() {
        assert_faults::<MeshAccessLog>(
            Kind::MeshAccessLog,
            &[
                (
                    &to(r#"{"type":"File"},{"type":"Tcp"},{"type":"OpenTelemetry"}"#),
                    "spec.to[0].default.backends[0].file: must be defined
                     spec.to[0].default.backends[1].tcp: must be defined
                     spec.to[0].default.backends[2].openTelemetry: must be defined",
                ),
                (
                    &to(r##"{"type":"File","file":{"path":"#bad","format":{"type":"Plain"}}},
                        {"type":"Tcp","tcp":{"address":"bad","format":{"type":"Plain","plain":""}}}"##),
                    "spec.to[0].default.backends[0].file.format.plain: must be defined
                     spec.to[0].default.backends[0].file.path: file backend requires a valid path
                     spec.to[0].default.backends[1].tcp.format.plain: must not be empty
                     spec.to[0].default.backends[1].tcp.address: tcp backend requires valid address",
                ),
                (
                    &to(r#"{"type":"File","file":{"path":"/a","format":{"type":"Json"}}},
                        {"type":"File","file":{"path":"/a","format":{"type":"Json","json":[]}}},
                        {"type":"File","file":{"path":"/a","format":{"type":"Json","json":[{"key":"","value":""},{"key":"a","value":"\""}]}}}"#),
                    "spec.to[0].default.backends[0].file.format.json: must be defined
                     spec.to[0].default.backends[1].file.format.json: must not be empty
                     spec.to[0].default.backends[2].file.format.json[0].key: key cannot be empty
                     spec.to[0].default.backends[2].file.format.json[0].value: value cannot be empty
                     spec.to[0].default.backends[2].file.format.json[1]: is not a valid JSON object",
                ),
            ],
        );
    }

    #[test]
    fn from_and_old_kinds_give_warnings() {
        assert_eq!(
            warnings::<MeshAccessLog>(
                Kind::MeshAccessLog,
                r#"{"targetRef":{"kind":"MeshSubset"},"from":[{"targetRef":{"kind":"Mesh"},"default":{}}]}"#
            ),
            [
                "'from' field is deprecated, use 'rules' instead",
                "MeshSubset value for 'targetRef.kind' is deprecated, use Dataplane with labels instead",
            ]
        );
    }
}
