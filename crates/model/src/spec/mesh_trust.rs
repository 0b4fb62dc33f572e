//! `MeshTrust`: the CAs of a trust domain (api-and-kumactl 3.28).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resource::Meta;
use crate::spec::JsonSpec;
use crate::spec::check::{MUST_BE_DEFINED, MUST_NOT_BE_EMPTY};
use crate::spec::formats::{MAX_NAME, check_length};
use crate::spec::words::words;
use crate::violation::{Path, Violations};

/// The CAs of a trust domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshTrust {
    /// The MeshIdentity that it was made for. Deprecated: it stands in the status now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Name of the trust domain.
    #[schemars(length(max = 253))]
    pub trust_domain: String,
    /// Certificates of the CAs.
    #[schemars(length(min = 1))]
    pub ca_bundles: Vec<CaBundle>,
}

/// What a MeshTrust was made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Origin {
    /// KRI of a MeshIdentity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kri: Option<String>,
}

/// Certificates of CAs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CaBundle {
    /// How they are written.
    pub r#type: CaBundleType,
    /// As PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pem: Option<Pem>,
}

words!(
    /// How certificates of CAs are written.
    open CaBundleType { Pem = "Pem" }
);

/// Certificates as PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pem {
    /// One or more certificates.
    pub value: String,
}

/// Where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The MeshIdentity that it was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

impl JsonSpec for MeshTrust {
    fn validate(&self, _: &Meta, found: &mut Violations) {
        let path = Path::of("spec");
        let bundles = path.field("caBundles");
        if self.ca_bundles.is_empty() {
            found.add(&bundles, MUST_NOT_BE_EMPTY);
        }
        for (index, bundle) in self.ca_bundles.iter().enumerate() {
            bundle.check(&bundles, index, found);
        }
        let trust_domain = path.field("trustDomain");
        if self.trust_domain.is_empty() {
            found.add(&trust_domain, "trustDomain needs to be defined");
        }
        check_length(&trust_domain, &self.trust_domain, MAX_NAME, found);
    }

    fn warnings(&self, _: &Meta) -> Vec<String> {
        self.origin.iter().map(|_| "setting spec.origin field is deprecated".to_owned()).collect()
    }
}

impl CaBundle {
    fn check(&self, list: &Path, index: usize, found: &mut Violations) {
        let pem = list.index(index).field("pem");
        match (&self.r#type, &self.pem) {
            (CaBundleType::Pem, None) => found.add(&pem, MUST_BE_DEFINED),
            (CaBundleType::Pem, Some(Pem { value })) if !is_certificate(value) => {
                found.add(&pem.field("value"), "provided certificate has incorrect format");
            }
            (CaBundleType::Pem, Some(_)) => {}
            // The real control plane gives the path of the list, not of the item.
            (CaBundleType::Other(word), _) => found.add(&list.field("type"), format!("{word} must be one of: Pem")),
        }
    }
}

/// Whether the first PEM block is there and is no private key.
fn is_certificate(text: &str) -> bool {
    const KEYS: [&str; 5] =
        ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "DSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY"];
    pem::parse(text).is_ok_and(|block| !KEYS.contains(&block.tag()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::spec::tabled::{assert_faults, assert_printed, warnings};

    fn with_pem(value: &str) -> String {
        format!(r#"{{"trustDomain":"t","caBundles":[{{"type":"Pem","pem":{{"value":{value:?}}}}}]}}"#)
    }

    #[test]
    fn members_are_printed_in_order() {
        assert_printed::<MeshTrust>(
            r#"{"caBundles":[{"pem":{"value":"x"},"type":"Pem"}],"trustDomain":"t","origin":{"kri":"kri_mid_a_b_c_d_"}}"#,
            r#"{"origin":{"kri":"kri_mid_a_b_c_d_"},"trustDomain":"t","caBundles":[{"type":"Pem","pem":{"value":"x"}}]}"#,
        );
        assert_eq!(serde_json::to_string(&Status::default()).unwrap(), "{}");
    }

    #[test]
    fn every_fault_is_found() {
        let long = format!(r#"{{"trustDomain":"{}","caBundles":[]}}"#, "t".repeat(254));
        let key = with_pem("-----BEGIN EC PRIVATE KEY-----\nQUJD\n-----END EC PRIVATE KEY-----\n");
        assert_faults::<MeshTrust>(
            Kind::MeshTrust,
            &[
                (&with_pem("text\n-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n"), ""),
                (&with_pem("junk"), "spec.caBundles[0].pem.value: provided certificate has incorrect format"),
                (&key, "spec.caBundles[0].pem.value: provided certificate has incorrect format"),
                (
                    r#"{"trustDomain":"","caBundles":[{"type":"Pem"},{"type":"Der"}]}"#,
                    "spec.caBundles[0].pem: must be defined
                     spec.caBundles.type: Der must be one of: Pem
                     spec.trustDomain: trustDomain needs to be defined",
                ),
                (
                    &long,
                    "spec.caBundles: must not be empty
                     spec.trustDomain: must not be longer than 253 characters",
                ),
            ],
        );
    }

    #[test]
    fn an_origin_in_the_spec_gives_a_warning() {
        let with = r#"{"trustDomain":"t","caBundles":[],"origin":{}}"#;
        assert_eq!(warnings::<MeshTrust>(Kind::MeshTrust, with), ["setting spec.origin field is deprecated"]);
        let without = r#"{"trustDomain":"t","caBundles":[]}"#;
        assert_eq!(warnings::<MeshTrust>(Kind::MeshTrust, without), [""; 0]);
    }
}
