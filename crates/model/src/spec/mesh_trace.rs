//! `MeshTrace`: where proxies send spans (api-and-kumactl 3.30).

use std::sync::LazyLock;

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::Kind;
use crate::number::IntOrString;
use crate::resource::Meta;
use crate::spec::JsonSpec;
use crate::spec::check::{MUST_BE_DEFINED, MUST_NOT_BE_EMPTY, each};
use crate::spec::formats::{check_port, is_url};
use crate::spec::target_ref::{Allowed, Policy, TargetKind, TargetRef, check_top, top_warnings};
use crate::spec::words::words;
use crate::violation::{Path, Violations};

/// Where the selected proxies send spans.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshTrace {
    /// The proxies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Spans and where they go.
    #[serde(default)]
    pub default: Conf,
}

/// Spans and where they go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Conf {
    /// At most one; an empty list switches tracing off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1))]
    pub backends: Option<Vec<Backend>>,
    /// Which requests are traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// Tags of each span.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<Tag>>,
}

/// Who takes spans; the member named by the type is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// What it is.
    pub r#type: BackendType,
    /// Zipkin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zipkin: Option<Zipkin>,
    /// Datadog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datadog: Option<Datadog>,
    /// An OpenTelemetry collector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_telemetry: Option<OpenTelemetry>,
}

words!(
    /// Who takes spans.
    BackendType { Zipkin = "Zipkin", Datadog = "Datadog", OpenTelemetry = "OpenTelemetry" }
);

/// An OpenTelemetry collector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpenTelemetry {
    /// Host and port.
    #[schemars(length(min = 1))]
    pub endpoint: String,
}

/// Zipkin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Zipkin {
    /// Where it listens, `http://zipkin:9411/api/v2/spans`.
    pub url: String,
    /// Whether trace identifiers have 128 bits.
    #[serde(default, rename = "traceId128bit")]
    pub trace_id_128bit: bool,
    /// Version of its API.
    #[serde(default = "http_json")]
    pub api_version: ApiVersion,
    /// Whether client and server share a span.
    #[serde(default = "yes")]
    pub shared_span_context: bool,
}

words!(
    /// Version of Zipkin's API.
    open ApiVersion { HttpJson = "httpJson", HttpProto = "httpProto" }
);

fn http_json() -> ApiVersion {
    ApiVersion::HttpJson
}

fn yes() -> bool {
    true
}

/// Datadog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Datadog {
    /// Where its agent listens, `http://agent:8126`.
    pub url: String,
    /// Whether a service is split by direction and destination.
    #[serde(default)]
    pub split_service: bool,
}

/// Which requests are traced, in percent; all when absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sampling {
    /// Most of all requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overall: Option<IntOrString>,
    /// Of those whose client asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IntOrString>,
    /// Of the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random: Option<IntOrString>,
}

/// A tag of each span: a literal or the value of a header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tag {
    /// Its name.
    pub name: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub literal: Option<String>,
    /// The header that has its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderTag>,
}

/// A header that has the value of a tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeaderTag {
    /// Name of the header.
    pub name: String,
    /// Value when the header is missing; the tag is left out when this is absent too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
}

const SYSTEM: Allowed<'_> = Allowed::kinds(&[
    TargetKind::Mesh,
    TargetKind::MeshSubset,
    TargetKind::MeshGateway,
    TargetKind::MeshService,
    TargetKind::MeshServiceSubset,
    TargetKind::Dataplane,
]);
const OTHERS: Allowed<'_> = Allowed::kinds(&[
    TargetKind::Mesh,
    TargetKind::MeshSubset,
    TargetKind::MeshService,
    TargetKind::MeshServiceSubset,
    TargetKind::Dataplane,
]);

impl Policy for MeshTrace {
    const KIND: Kind = Kind::MeshTrace;

    type To = ();
    type From = ();
    type Rule = ();

    fn target_ref(&self) -> Option<&TargetRef> {
        self.target_ref.as_ref()
    }
}

impl JsonSpec for MeshTrace {
    fn validate(&self, meta: &Meta, found: &mut Violations) {
        check_top(self, meta, SYSTEM, OTHERS, found);
        self.default.check(&Path::of("spec.default"), found);
    }

    fn warnings(&self, _: &Meta) -> Vec<String> {
        top_warnings(self.target_ref())
    }
}

impl Conf {
    fn check(&self, at: &Path, found: &mut Violations) {
        let backends = at.field("backends");
        match self.backends.as_deref() {
            None => found.add(&backends, MUST_BE_DEFINED),
            Some([]) => {}
            Some([backend]) => backend.check(&backends.index(0), found),
            Some(_) => found.add(&backends, "must have zero or one backend defined"),
        }
        for (at, tag) in each(&at.field("tags"), self.tags.as_deref().unwrap_or_default()) {
            if tag.name.is_empty() {
                found.add(&at.field("name"), MUST_NOT_BE_EMPTY);
            }
            if tag.header.is_some() == tag.literal.is_some() {
                found.add(&at, "tag must have only one type defined: header, literal");
            }
        }
        if let Some(Sampling { overall, client, random }) = &self.sampling {
            for (name, percentage) in [("client", client), ("random", random), ("overall", overall)] {
                check_sampling(&at.field("sampling").field(name), percentage.as_ref(), found);
            }
        }
    }
}

fn check_sampling(at: &Path, percentage: Option<&IntOrString>, found: &mut Violations) {
    match percentage.map(IntOrString::number) {
        Some(None) => found.add(at, "string is not a number"),
        Some(Some(number)) if !(0.0..=100.0).contains(&number) => found.add(at, "must be between 0 and 100"),
        _ => {}
    }
}

impl Backend {
    fn check(&self, at: &Path, found: &mut Violations) {
        match self.r#type {
            BackendType::Datadog => match &self.datadog {
                None => found.add(&at.field("datadog"), MUST_BE_DEFINED),
                Some(datadog) => check_agent_url(&at.field("datadog.url"), &datadog.url, found),
            },
            BackendType::Zipkin => match self.zipkin.as_ref().map(|zipkin| zipkin.url.as_str()) {
                None => found.add(&at.field("zipkin"), MUST_BE_DEFINED),
                Some("") => found.add(&at.field("zipkin.url"), MUST_NOT_BE_EMPTY),
                Some(url) if !is_url(url) => found.add(&at.field("zipkin.url"), "must be a valid url"),
                Some(_) => {}
            },
            BackendType::OpenTelemetry => {
                if self.open_telemetry.is_none() {
                    found.add(&at.field("openTelemetry"), MUST_BE_DEFINED);
                }
            }
        }
    }
}

/// The parts of a URI that a request line may have: after RFC 3986, appendix B, with the authority taken apart.
static URI: LazyLock<Regex> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "a constant, compiled by the tests")]
    Regex::new(
        r"(?x)^(?:(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*):)?
          (?: //(?:(?P<user>[^/?\#]*)@)? (?:\[[0-9a-fA-F:.%]+\] | [^/?\#:\[\]@<>\x22\ ]*) (?::(?P<port>[0-9]*))? (?P<path>/[^?]*)?
            | (?P<rooted>/(?:[^/?][^?]*)?)
            | (?P<opaque>[^/?][^?]*))
          (?P<query>\?.*)?$",
    )
    .expect("pattern compiles")
});

/// Adds what is wrong with the address of a Datadog agent: scheme, host and port are all that it may have.
fn check_agent_url(at: &Path, url: &str, found: &mut Violations) {
    let parts = URI.captures(url).filter(|parts| {
        let part = |name: &str| parts.name(name).is_some();
        !url.contains(|c: char| c.is_ascii_control()) && (part("scheme") || part("rooted"))
    });
    let Some(parts) = parts else { return found.add(at, "must be a valid url") };
    let part = |name: &str| parts.name(name).map_or("", |part| part.as_str());
    if !part("scheme").eq_ignore_ascii_case("http") {
        found.add(at, "scheme must be http");
    }
    match part("port") {
        "" => found.add(at, "port must be defined"),
        port => check_port(at, port.parse().unwrap_or(0_i64), found),
    }
    let has_path = !part("path").is_empty() || !part("rooted").is_empty();
    let others = [
        ("opaque", !part("opaque").is_empty()),
        ("user", parts.name("user").is_some()),
        ("path", has_path),
        ("query", part("query").len() > 1),
    ];
    for (name, _) in others.iter().filter(|(_, is_there)| *is_there) {
        found.add(at, format!("{name} must not be defined"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::spec::tabled::{assert_faults, assert_printed, warnings};

    fn of(backend: &str) -> String {
        format!(r#"{{"default":{{"backends":[{backend}]}}}}"#)
    }

    #[test]
    fn defaults_are_printed() {
        assert_printed::<MeshTrace>("{}", r#"{"default":{}}"#);
        assert_printed::<MeshTrace>(
            r#"{"default":{"tags":[{"header":{"default":"d","name":"h"},"name":"n"}],"sampling":{"random":"60.5","client":40,"overall":80},
                "backends":[{"zipkin":{"url":"u"},"type":"Zipkin","datadog":{"url":"v"}}]}}"#,
            r#"{"default":{"backends":[{"type":"Zipkin","zipkin":{"url":"u","traceId128bit":false,"apiVersion":"httpJson","sharedSpanContext":true},"datadog":{"url":"v","splitService":false}}],"sampling":{"overall":80,"client":40,"random":"60.5"},"tags":[{"name":"n","header":{"name":"h","default":"d"}}]}}"#,
        );
    }

    #[test]
    fn every_fault_is_found_in_order() {
        assert_faults::<MeshTrace>(
            Kind::MeshTrace,
            &[
                ("{}", "spec.default.backends: must be defined"),
                (&of(""), ""),
                (&of(r#"{"type":"OpenTelemetry","openTelemetry":{"endpoint":"x"}}"#), ""),
                (&of(r#"{"type":"OpenTelemetry"}"#), "spec.default.backends[0].openTelemetry: must be defined"),
                (&of(r#"{"type":"Zipkin"}"#), "spec.default.backends[0].zipkin: must be defined"),
                (
                    &of(r#"{"type":"Zipkin","zipkin":{"url":""}}"#),
                    "spec.default.backends[0].zipkin.url: must not be empty",
                ),
                (
                    &of(r#"{"type":"Zipkin","zipkin":{"url":"bad"}}"#),
                    "spec.default.backends[0].zipkin.url: must be a valid url",
                ),
                (&of(r#"{"type":"Datadog"}"#), "spec.default.backends[0].datadog: must be defined"),
                (
                    &of(r#"{"type":"Datadog"},{"type":"Datadog"}"#),
                    "spec.default.backends: must have zero or one backend defined",
                ),
                (
                    r#"{"targetRef":{"kind":"MeshGateway","name":"g","tags":{"a":"b"}},"default":{"backends":[],
                        "tags":[{"name":""},{"name":"b","literal":"x","header":{"name":"y"}}],
                        "sampling":{"overall":101,"client":"x","random":"-0.1"}}}"#,
                    "spec.targetRef.tags: must not be set with kind MeshGateway
                     spec.default.tags[0].name: must not be empty
                     spec.default.tags[0]: tag must have only one type defined: header, literal
                     spec.default.tags[1]: tag must have only one type defined: header, literal
                     spec.default.sampling.client: string is not a number
                     spec.default.sampling.random: must be between 0 and 100
                     spec.default.sampling.overall: must be between 0 and 100",
                ),
            ],
        );
    }

    #[test]
    fn an_agent_has_a_scheme_a_host_and_a_port() {
        for (url, expected) in [
            ("http://agent:8126", ""),
            ("HTTP://[::1]:8126", ""),
            ("", "must be a valid url"),
            ("agent", "must be a valid url"),
            ("http://agent:x", "must be a valid url"),
            ("http://ag ent:80", "must be a valid url"),
            ("https://agent:8126", "scheme must be http"),
            ("http://agent", "port must be defined"),
            ("http://agent:", "port must be defined"),
            ("http://agent:0", "port must be a valid (1-65535)"),
            ("http://agent:65536", "port must be a valid (1-65535)"),
            ("http://agent:99999999999999999999", "port must be a valid (1-65535)"),
            ("http://u:p@agent:80/", "user must not be defined\npath must not be defined"),
            ("http://agent:80?a", "query must not be defined"),
            ("agent:8126", "scheme must be http\nport must be defined\nopaque must not be defined"),
            ("/agent", "scheme must be http\nport must be defined\npath must not be defined"),
        ] {
            let mut found = Violations::default();
            check_agent_url(&Path::of("url"), url, &mut found);
            let reasons: Vec<String> = found.into_iter().map(|fault| fault.reason).collect();
            assert_eq!(reasons.join("\n"), expected, "{url:?}");
        }
    }

    #[test]
    fn old_kinds_give_warnings() {
        let old = r#"{"targetRef":{"kind":"MeshServiceSubset","name":"a"}}"#;
        assert_eq!(warnings::<MeshTrace>(Kind::MeshTrace, old).len(), 1);
    }
}
