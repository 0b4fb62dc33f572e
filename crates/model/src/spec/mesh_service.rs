//! `MeshService`: a service of the mesh in one zone, the proxies behind it and its ports (api-and-kumactl 3.9).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::number::IntOrString;
use crate::resource::Meta;
use crate::spec::formats::check_display_name;
use crate::spec::hostname_generator::{Address, HostnameGeneratorStatus};
use crate::spec::words::words;
use crate::spec::{JsonSpec, is_default};
use crate::violation::Violations;

/// A service of the mesh in one zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshService {
    /// Whether an instance can take traffic. Absent, which REST does not leave it, means no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Unavailable"))]
    pub state: Option<State>,
    /// The proxies behind it.
    #[serde(default)]
    pub selector: Selector,
    /// Ports that it listens on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Names that its proxies prove.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identities: Option<Vec<Identity>>,
}

words!(
    /// Whether at least one endpoint is healthy.
    open State { Available = "Available", Unavailable = "Unavailable" }
);

/// How the proxies of a service are found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// Tags that an inbound must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataplane_tags: Option<BTreeMap<String, String>>,
    /// One proxy, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataplane_ref: Option<DataplaneRef>,
}

/// One proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DataplaneRef {
    /// Name of the Dataplane.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Name that policies and routes may use instead of the number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Number that clients use.
    pub port: i32,
    /// Port of the inbound behind it, by number or name; the same number when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<IntOrString>,
    /// Protocol that is spoken; any text, unknown ones are handled as `tcp`, and so is absence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "tcp"))]
    pub app_protocol: Option<String>,
}

/// A name that the proxies of a service prove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Identity {
    /// What the value is.
    pub r#type: IdentityType,
    /// The name.
    pub value: String,
}

words!(
    /// What proves an identity.
    open IdentityType { ServiceTag = "ServiceTag", SpiffeId = "SpiffeID" }
);

/// What the zone's control plane found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Host names of the service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// Virtual addresses of the service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vips: Vec<Vip>,
    /// Whether every proxy accepts mTLS.
    #[serde(default)]
    pub tls: Tls,
    /// What became of each host name generator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostname_generators: Vec<HostnameGeneratorStatus>,
    /// Number of proxies.
    #[serde(default)]
    pub dataplane_proxies: DataplaneProxies,
}

/// A virtual address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Vip {
    /// The address, empty while there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ip: String,
}

/// Whether a service can be called by mTLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tls {
    /// Absent while nobody has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<TlsStatus>,
}

words!(
    /// Whether every proxy of a service accepts mTLS.
    TlsStatus { Ready = "Ready", NotReady = "NotReady" }
);

/// Proxies behind a service; zeros are not printed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DataplaneProxies {
    /// Connected to the zone's control plane.
    #[serde(default, skip_serializing_if = "is_default")]
    pub connected: i64,
    /// With every selected inbound healthy.
    #[serde(default, skip_serializing_if = "is_default")]
    pub healthy: i64,
    /// All of them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub total: i64,
}

/// Read like a spec: the store holds both as JSON.
impl JsonSpec for Status {}

impl JsonSpec for MeshService {
    fn validate(&self, meta: &Meta, found: &mut Violations) {
        check_display_name(meta, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::schema::Schema;
    use crate::spec::tabled::{assert_printed, faults, meta};

    #[test]
    fn the_schema_fills_in_what_the_wire_may_lack() {
        assert_printed::<MeshService>("{}", r#"{"selector":{}}"#);
        let mut document = serde_json::json!({"spec": {"ports": [{"port": 80}]}});
        Schema::of(Kind::MeshService).unwrap().fill_defaults(&mut document);
        assert_printed::<MeshService>(
            &document["spec"].to_string(),
            r#"{"state":"Unavailable","selector":{},"ports":[{"port":80,"appProtocol":"tcp"}]}"#,
        );
    }

    #[test]
    fn members_are_printed_in_order() {
        assert_printed::<MeshService>(
            r#"{"ports":[{"port":80},{"appProtocol":"http","targetPort":"web","port":81,"name":"b"}],"identities":[],
                "selector":{"dataplaneRef":{"name":"dp"},"dataplaneTags":{"b":"2","a":"1"}},"state":"Available"}"#,
            r#"{"state":"Available","selector":{"dataplaneTags":{"a":"1","b":"2"},"dataplaneRef":{"name":"dp"}},"ports":[{"port":80},{"name":"b","port":81,"targetPort":"web","appProtocol":"http"}],"identities":[]}"#,
        );
    }

    #[test]
    fn the_zero_status_is_that_of_the_table_of_kinds() {
        let zero = serde_json::to_string(&Status::default()).unwrap();
        assert_eq!(Some(zero.as_str()), Kind::MeshService.info().status);
        let some =
            r#"{"vips":[{"ip":"241.0.0.0"}],"tls":{"status":"NotReady"},"dataplaneProxies":{"healthy":1,"total":1}}"#;
        assert_eq!(serde_json::to_string(&serde_json::from_str::<Status>(some).unwrap()).unwrap(), some);
    }

    #[test]
    fn the_name_is_a_dns_label_of_at_most_63_characters() {
        let with = |name: &str| faults::<MeshService>("{}", &meta(Kind::MeshService, name, &[]));
        assert!(with(&"s".repeat(63)).is_empty());
        assert_eq!(with(&"s".repeat(64)), ["name: must not be longer than 63 characters"]);
    }
}
