//! `MeshMultiZoneService`: the same service in several zones, under one name (api-and-kumactl 3.11).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resource::Meta;
use crate::spec::JsonSpec;
use crate::spec::check::MUST_NOT_BE_EMPTY;
use crate::spec::condition::Condition;
use crate::spec::hostname_generator::{Address, HostnameGeneratorStatus};
use crate::spec::label_selector::LabelSelector;
use crate::spec::mesh_service::Vip;
use crate::violation::{Path, Violations};

/// The same service in several zones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeshMultiZoneService {
    /// The services of the zones.
    pub selector: Selector,
    /// Ports of those services that are to be called.
    #[schemars(length(min = 1))]
    pub ports: Vec<Port>,
}

/// The services of the zones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// Labels of the MeshServices.
    pub mesh_service: LabelSelector,
}

/// A port of the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Name that policies and routes may use instead of the number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Number of the port.
    pub port: i32,
    /// Protocol that is spoken.
    #[serde(default = "tcp")]
    pub app_protocol: String,
}

fn tcp() -> String {
    "tcp".to_owned()
}

/// What a control plane found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Host names of the service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// Virtual addresses of the service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vips: Vec<Vip>,
    /// The services that the selector found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mesh_services: Vec<MatchedMeshService>,
    /// What became of each host name generator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostname_generators: Vec<HostnameGeneratorStatus>,
    /// `MeshServicesMatched`, with the reason `MatchesFound` or `NoMatchesFound`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A service that the selector found; members without meaning are empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct MatchedMeshService {
    /// Name in its zone.
    pub name: String,
    /// Namespace on Kubernetes.
    pub namespace: String,
    /// Its zone.
    pub zone: String,
    /// Its mesh.
    pub mesh: String,
}

const PROTOCOLS: [&str; 5] = ["grpc", "http", "http2", "kafka", "tcp"];

/// Read like a spec: the store holds both as JSON.
impl JsonSpec for Status {}

impl JsonSpec for MeshMultiZoneService {
    fn validate(&self, _: &Meta, found: &mut Violations) {
        const EMPTY: &str = "cannot be empty";
        let path = Path::of("spec");
        if self.selector.mesh_service.is_empty() {
            found.add(&path.field("selector.meshService.matchLabels"), EMPTY);
        }
        if self.ports.is_empty() {
            found.add(&path.field("ports"), EMPTY);
        }
        for (index, port) in self.ports.iter().enumerate() {
            let at = path.field("ports").index(index);
            if port.name.as_deref() == Some("") {
                found.add(&at.field("name"), MUST_NOT_BE_EMPTY);
            }
            if !PROTOCOLS.contains(&port.app_protocol.as_str()) {
                let reason = format!("appProtocol must be one of: {}", PROTOCOLS.join(", "));
                found.add(&at.field("appProtocol"), reason);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::spec::tabled::{assert_faults, assert_printed};

    #[test]
    fn defaults_are_printed() {
        assert_printed::<MeshMultiZoneService>(
            r#"{"ports":[{"port":80},{"appProtocol":"http","port":81,"name":"b"}],"selector":{"meshService":{}}}"#,
            r#"{"selector":{"meshService":{}},"ports":[{"port":80,"appProtocol":"tcp"},{"name":"b","port":81,"appProtocol":"http"}]}"#,
        );
        assert_eq!(serde_json::to_string(&Status::default()).unwrap(), "{}");
    }

    #[test]
    fn every_fault_is_found() {
        assert_faults::<MeshMultiZoneService>(
            Kind::MeshMultiZoneService,
            &[
                (
                    r#"{"selector":{"meshService":{"matchLabels":{"a":"b"}}},"ports":[{"port":80,"appProtocol":"kafka"}]}"#,
                    "",
                ),
                (
                    r#"{"selector":{"meshService":{}},"ports":[]}"#,
                    "spec.selector.meshService.matchLabels: cannot be empty
                     spec.ports: cannot be empty",
                ),
                (
                    r#"{"selector":{"meshService":{"matchLabels":{}}},"ports":[{"name":"","port":0,"appProtocol":"foo"}]}"#,
                    "spec.selector.meshService.matchLabels: cannot be empty
                     spec.ports[0].name: must not be empty
                     spec.ports[0].appProtocol: appProtocol must be one of: grpc, http, http2, kafka, tcp",
                ),
            ],
        );
    }
}
