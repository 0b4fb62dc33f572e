//! `MeshExternalService`: a service outside the mesh (api-and-kumactl 3.10).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resource::Meta;
use crate::spec::JsonSpec;
use crate::spec::check::{MUST_BE_DEFINED, must_be_one_of};
use crate::spec::data_source::DataSource;
use crate::spec::extension::Extension;
use crate::spec::formats::{check_display_name, check_port, is_dns_name, is_ip};
use crate::spec::hostname_generator::{Address, HostnameGeneratorStatus};
use crate::spec::mesh_service::Vip;
use crate::spec::tls;
use crate::spec::words::words;
use crate::violation::{Path, Violations};

/// A service outside the mesh.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeshExternalService {
    /// The traffic that goes there.
    pub r#match: Match,
    /// A plugin that knows the way; it checks endpoints and TLS itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<Extension>,
    /// Where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Vec<Endpoint>>,
    /// How the proxy talks TLS to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// The traffic that goes to an external service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Match {
    /// How traffic is told apart: by host names from a HostnameGenerator.
    #[serde(default = "hostname_generator")]
    pub r#type: MatchType,
    /// Port that clients use.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Protocol that is spoken.
    #[serde(default = "tcp")]
    pub protocol: Protocol,
}

words!(
    /// How traffic is told apart.
    open MatchType { HostnameGenerator = "HostnameGenerator" }
);

fn hostname_generator() -> MatchType {
    MatchType::HostnameGenerator
}

words!(
    /// A protocol that an external service may speak.
    open Protocol { Tcp = "tcp", Grpc = "grpc", Http = "http", Http2 = "http2" }
);

fn tcp() -> Protocol {
    Protocol::Tcp
}

/// Where an external service is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// Address or DNS name.
    #[schemars(length(min = 1))]
    pub address: String,
    /// Port there.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// How the proxy talks TLS to an external service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Whether it does.
    #[serde(default)]
    pub enabled: bool,
    /// Versions of TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<tls::Versions>,
    /// Whether sessions may renegotiate.
    #[serde(default)]
    pub allow_renegotiation: bool,
    /// What is verified, and what the proxy proves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
}

/// What is verified of the server, and what the proxy proves to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// What is verified.
    #[serde(default = "secured")]
    pub mode: VerificationMode,
    /// The server name that is asked for, instead of the endpoint's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Names that the certificate must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_alt_names: Option<Vec<SanMatch>>,
    /// Certificate of the CA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<DataSource>,
    /// Certificate of the proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert: Option<DataSource>,
    /// Key of the proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key: Option<DataSource>,
}

words!(
    /// What is verified of a server's certificate.
    open VerificationMode { SkipSan = "SkipSAN", SkipCa = "SkipCA", Secured = "Secured", SkipAll = "SkipAll" }
);

fn secured() -> VerificationMode {
    VerificationMode::Secured
}

/// A name that a certificate must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SanMatch {
    /// How it is compared.
    #[serde(default = "exact")]
    pub r#type: SanMatchType,
    /// The name.
    pub value: String,
}

words!(
    /// How a name is compared.
    open SanMatchType { Exact = "Exact", Prefix = "Prefix" }
);

fn exact() -> SanMatchType {
    SanMatchType::Exact
}

/// What the control plane found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Virtual address of the service.
    #[serde(default)]
    pub vip: Vip,
    /// Host names of the service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// What became of each host name generator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostname_generators: Vec<HostnameGeneratorStatus>,
}

/// Read like a spec: the store holds both as JSON.
impl JsonSpec for Status {}

impl JsonSpec for MeshExternalService {
    fn validate(&self, meta: &Meta, found: &mut Violations) {
        let path = Path::of("spec");
        check_display_name(meta, found);
        self.r#match.check(&path.field("match"), found);
        if let Some(extension) = &self.extension {
            return extension.validate(&path.field("extension"), found);
        }
        for (index, endpoint) in self.endpoints.iter().flatten().enumerate() {
            endpoint.check(&path.field("endpoints").index(index), found);
        }
        if let Some(tls) = &self.tls {
            tls.check(&path.field("tls"), found);
        }
    }
}

impl Match {
    fn check(&self, at: &Path, found: &mut Violations) {
        if let MatchType::Other(word) = &self.r#type
            && !word.is_empty()
        {
            let reason = format!("unrecognized type '{word}' - only 'HostnameGenerator' is supported");
            found.add(&at.field("type"), reason);
        }
        check_port(&at.field("port"), self.port, found);
        if matches!(self.protocol, Protocol::Other(_)) {
            found.add(&at.field("protocol"), must_be_one_of("protocol", &["tcp", "grpc", "http", "http2"]));
        }
    }
}

impl Endpoint {
    fn check(&self, at: &Path, found: &mut Violations) {
        if is_ip(&self.address) || is_dns_name(&self.address) {
            check_port(&at.field("port"), self.port, found);
        } else {
            found.add(&at.field("address"), "address has to be a valid IP or hostname");
        }
    }
}

impl Tls {
    fn check(&self, at: &Path, found: &mut Violations) {
        if let Some(version) = &self.version {
            version.check(&at.field("version"), found);
        }
        if let Some(verification) = &self.verification {
            verification.check(&at.field("verification"), found);
        }
    }
}

impl Verification {
    fn check(&self, at: &Path, found: &mut Violations) {
        if self.server_name.as_deref().is_some_and(|name| !is_dns_name(name)) {
            found.add(&at.field("serverName"), "must be a valid DNS name");
        }
        if let VerificationMode::Other(word) = &self.mode
            && !word.is_empty()
        {
            let modes = ["SkipSAN", "SkipCA", "SkipAll", "Secured"];
            found.add(&at.field("mode"), must_be_one_of("mode", &modes));
        }
        for (index, name) in self.subject_alt_names.iter().flatten().enumerate() {
            if matches!(name.r#type, SanMatchType::Other(_)) {
                let at = at.field("subjectAltNames").index(index).field("type");
                found.add(&at, must_be_one_of("type", &["Prefix", "Exact"]));
            }
        }
        match (&self.client_cert, &self.client_key) {
            (Some(_), None) => {
                found.add(&at.field("clientKey"), format!("{MUST_BE_DEFINED} when clientCert is defined"))
            }
            (None, Some(_)) => {
                found.add(&at.field("clientCert"), format!("{MUST_BE_DEFINED} when clientKey is defined"))
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::spec::tabled::{assert_faults, assert_printed, faults, meta};

    #[test]
    fn defaults_are_printed() {
        assert_printed::<MeshExternalService>(
            r#"{"tls":{"verification":{"subjectAltNames":[{"value":"a"}]},"version":{"max":"TLS13"}},
                "endpoints":[{"port":1,"address":"a.b"}],"match":{"port":80}}"#,
            r#"{"match":{"type":"HostnameGenerator","port":80,"protocol":"tcp"},"endpoints":[{"address":"a.b","port":1}],"tls":{"enabled":false,"version":{"min":"TLSAuto","max":"TLS13"},"allowRenegotiation":false,"verification":{"mode":"Secured","subjectAltNames":[{"type":"Exact","value":"a"}]}}}"#,
        );
    }

    #[test]
    fn the_zero_status_is_that_of_the_table_of_kinds() {
        let zero = serde_json::to_string(&Status::default()).unwrap();
        assert_eq!(Some(zero.as_str()), Kind::MeshExternalService.info().status);
    }

    #[test]
    fn every_fault_is_found() {
        assert_faults::<MeshExternalService>(
            Kind::MeshExternalService,
            &[
                (
                    r#"{"match":{"port":80},"endpoints":[{"address":"::1","port":65535},{"address":"a_b","port":1}]}"#,
                    "",
                ),
                (
                    r#"{"match":{"type":"SNI","port":0,"protocol":"udp"},
                        "endpoints":[{"address":"-bad-","port":70000},{"address":"1.2.3.4","port":70000}],
                        "tls":{"version":{"min":"TLS13","max":"TLS12"},"verification":{"mode":"Some","serverName":"a b",
                            "subjectAltNames":[{"value":"x"},{"type":"Regex","value":"x"}],"clientCert":{"secret":"x"}}}}"#,
                    r#"spec.match.type: unrecognized type 'SNI' - only 'HostnameGenerator' is supported
                       spec.match.port: port must be a valid (1-65535)
                       spec.match.protocol: "protocol" must be one of ["tcp", "grpc", "http", "http2"]
                       spec.endpoints[0].address: address has to be a valid IP or hostname
                       spec.endpoints[1].port: port must be a valid (1-65535)
                       spec.tls.version.min: min version must be lower than max
                       spec.tls.verification.serverName: must be a valid DNS name
                       spec.tls.verification.mode: "mode" must be one of ["SkipSAN", "SkipCA", "SkipAll", "Secured"]
                       spec.tls.verification.subjectAltNames[1].type: "type" must be one of ["Prefix", "Exact"]
                       spec.tls.verification.clientKey: must be defined when clientCert is defined"#,
                ),
                (
                    r#"{"match":{"port":80},"tls":{"verification":{"clientKey":{"secret":"x"}}}}"#,
                    "spec.tls.verification.clientCert: must be defined when clientKey is defined",
                ),
                (
                    r#"{"match":{"port":80},"extension":{"type":""},"endpoints":[{"address":"-","port":0}],
                        "tls":{"verification":{"mode":"Some"}}}"#,
                    "spec.extension.type: must not be empty",
                ),
            ],
        );
        let long = meta(Kind::MeshExternalService, &"m".repeat(64), &[]);
        assert_eq!(
            faults::<MeshExternalService>(r#"{"match":{"port":80}}"#, &long),
            ["name: must not be longer than 63 characters"]
        );
    }
}
