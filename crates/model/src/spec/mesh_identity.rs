//! `MeshIdentity`: which name proxies prove, and who vouches for it (api-and-kumactl 3.27).

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::labels::Labels;
use crate::mode::Environment;
use crate::resource::{Meta, Resource};
use crate::spec::JsonSpec;
use crate::spec::check::{self, MUST_BE_DEFINED, must_be_one_of};
use crate::spec::condition::Condition;
use crate::spec::data_source::SecureDataSource;
use crate::spec::go_template;
use crate::spec::label_selector::LabelSelector;
use crate::spec::words::words;
use crate::violation::{Path, Violations};

/// Which proxies prove which name, and who vouches for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshIdentity {
    /// The proxies; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// The name.
    #[serde(default, rename = "spiffeID", skip_serializing_if = "Option::is_none")]
    pub spiffe_id: Option<SpiffeId>,
    /// Who issues the certificates; nobody when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
}

impl MeshIdentity {
    /// Whether the name that proxies prove follows from their label `kuma.io/workload`.
    pub fn uses_workload(&self, environment: Environment) -> bool {
        let own = self.spiffe_id.as_ref().and_then(|id| id.path.as_deref());
        let path = own.unwrap_or(match environment {
            Environment::Universal => "/workload/{{ .Workload }}",
            Environment::Kubernetes => "/ns/{{ .Namespace }}/sa/{{ .ServiceAccount }}",
        });
        let placeholders = path.split("{{").skip(1).filter_map(|rest| rest.split("}}").next());
        placeholders.into_iter().any(|placeholder| {
            let words: Vec<&str> = placeholder.split_whitespace().collect();
            words == [".Workload"] || words == ["label", "\"kuma.io/workload\""]
        })
    }
}

/// The identity of a proxy with these labels: of those that select it, the one that names most labels; of several, the
/// first by name (zone-dataplane 3.8).
pub fn best_matched<'a>(
    labels: &Labels,
    identities: impl IntoIterator<Item = &'a Arc<Resource>>,
) -> Option<(&'a Arc<Resource>, Arc<MeshIdentity>)> {
    let matched = identities.into_iter().filter_map(|resource| {
        let identity = resource.spec.json::<MeshIdentity>().ok()?;
        let selector = identity.selector.as_ref()?.dataplane.as_ref()?;
        let labels =
            selector.matches(labels).then(|| selector.match_labels.as_ref().map_or(0, |labels| labels.len()))?;
        Some((labels, resource, identity))
    });
    let best =
        matched.min_by(|(one, a, _), (other, b, _)| other.cmp(one).then_with(|| a.meta.key.name.cmp(&b.meta.key.name)));
    best.map(|(_, resource, identity)| (resource, identity))
}

/// The proxies that an identity is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Selector {
    /// Labels of the Dataplanes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataplane: Option<LabelSelector>,
}

/// Go templates of both parts of a SPIFFE ID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SpiffeId {
    /// The trust domain, `{{ .Mesh }}.{{ .Zone }}.mesh.local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<String>,
    /// The path, `/workload/{{ .Workload }}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Who issues certificates; the member named by the type is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Provider {
    /// Which provider it is.
    pub r#type: ProviderType,
    /// The control plane of the zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundled: Option<Bundled>,
    /// SPIRE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spire: Option<Spire>,
}

words!(
    /// Who issues certificates.
    open ProviderType { Bundled = "Bundled", Spire = "Spire" }
);

/// Certificates from the control plane of the zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bundled {
    /// Whether a MeshTrust is made for the CA; it is when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh_trust_creation: Option<MeshTrustCreation>,
    /// Whether a CA may have signed itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insecure_allow_self_signed: Option<bool>,
    /// Whether the control plane makes the CA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autogenerate: Option<Autogenerate>,
    /// The CA, when the control plane does not make it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Ca>,
    /// What certificates look like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_parameters: Option<CertificateParameters>,
}

words!(
    /// Whether a MeshTrust is made for a CA.
    open MeshTrustCreation { Enabled = "Enabled", Disabled = "Disabled" }
);

/// Whether the control plane makes the CA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Autogenerate {
    /// Whether it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// A CA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ca {
    /// Its certificate, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<SecureDataSource>,
    /// Its key, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<SecureDataSource>,
}

/// What certificates look like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CertificateParameters {
    /// How long they are valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<GoDuration>,
}

/// Certificates from SPIRE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Spire {
    /// The agent beside the proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<SpireAgent>,
}

/// The SPIRE agent beside a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SpireAgent {
    /// How long to wait for it to answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,
}

/// What the control plane made of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// `Ready`, `Provider`, `SpiffeIDProvider`, `MeshTrustCreated` and `DependenciesReady`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Read like a spec: the store holds both as JSON.
impl JsonSpec for Status {}

impl JsonSpec for MeshIdentity {
    fn validate(&self, _: &Meta, found: &mut Violations) {
        let path = Path::of("spec");
        if let Some(SpiffeId { trust_domain, path: id_path }) = &self.spiffe_id {
            for (name, template) in [("trustDomain", trust_domain), ("path", id_path)] {
                go_template::check(&path.field("spiffeID").field(name), template.as_deref().unwrap_or_default(), found);
            }
        }
        if let Some(provider) = &self.provider {
            provider.check(&path.field("provider"), found);
        }
    }
}

impl Provider {
    fn check(&self, at: &Path, found: &mut Violations) {
        const MISSING: &str = "configuration needs to be defined";
        match &self.r#type {
            ProviderType::Bundled => match &self.bundled {
                Some(bundled) => bundled.check(&at.field("bundled"), found),
                None => found.add(&at.field("bundled"), MISSING),
            },
            ProviderType::Spire => match &self.spire {
                Some(spire) => spire.check(at, found),
                None => found.add(&at.field("spire"), MISSING),
            },
            ProviderType::Other(word) => found.add(&at.field("type"), must_be_one_of(word, &["Bundled", "Spire"])),
        }
    }
}

impl Bundled {
    fn check(&self, at: &Path, found: &mut Violations) {
        if let Some(MeshTrustCreation::Other(word)) = &self.mesh_trust_creation {
            found.add(&at.field("meshTrustCreation"), must_be_one_of(word, &["Enabled", "Disabled"]));
        }
        let autogenerated = self.autogenerate.as_ref().is_some_and(|autogenerate| autogenerate.enabled == Some(true));
        match &self.ca {
            Some(_) if autogenerated => found.add(&at.field("ca"), "shouldn't be defined once using autogenerated"),
            None if !autogenerated => found.add(&at.field("ca"), MUST_BE_DEFINED),
            Some(ca) => ca.check(&at.field("ca"), found),
            None => {}
        }
        let expiry = self.certificate_parameters.as_ref().and_then(|parameters| parameters.expiry);
        check::not_negative(&at.field("certificateParameters.expiry"), expiry, found);
    }
}

impl Ca {
    fn check(&self, at: &Path, found: &mut Violations) {
        for (name, source) in [("certificate", &self.certificate), ("privateKey", &self.private_key)] {
            match source {
                Some(source) => source.check(&at.field(name), found),
                None => found.add(&at.field(name), MUST_BE_DEFINED),
            }
        }
    }
}

impl Spire {
    fn check(&self, provider: &Path, found: &mut Violations) {
        let timeout = self.agent.as_ref().and_then(|agent| agent.timeout);
        // The real control plane says the way to the agent twice.
        check::not_negative(&provider.field("spire.agent.spire.agent.timeout"), timeout, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::spec::tabled::{assert_faults, assert_printed};

    #[test]
    fn members_are_printed_in_order() {
        assert_printed::<MeshIdentity>("{}", "{}");
        assert_printed::<MeshIdentity>(
            r#"{"provider":{"bundled":{"certificateParameters":{"expiry":"24h"},"ca":{"certificate":{"envVar":{"name":"A"},"type":"EnvVar"}},
                "autogenerate":{},"insecureAllowSelfSigned":false,"meshTrustCreation":"Disabled"},"type":"Bundled"},
                "spiffeID":{"path":"/x","trustDomain":"y"},"selector":{"dataplane":{"matchLabels":{}}}}"#,
            r#"{"selector":{"dataplane":{"matchLabels":{}}},"spiffeID":{"trustDomain":"y","path":"/x"},"provider":{"type":"Bundled","bundled":{"meshTrustCreation":"Disabled","insecureAllowSelfSigned":false,"autogenerate":{},"ca":{"certificate":{"type":"EnvVar","envVar":{"name":"A"}}},"certificateParameters":{"expiry":"24h0m0s"}}}}"#,
        );
        assert_eq!(serde_json::to_string(&Status::default()).unwrap(), "{}");
    }

    #[test]
    fn every_fault_is_found() {
        assert_faults::<MeshIdentity>(
            Kind::MeshIdentity,
            &[
                ("{}", ""),
                (r#"{"provider":{"type":"Bundled","bundled":{"autogenerate":{"enabled":true}}}}"#, ""),
                (r#"{"spiffeID":{"trustDomain":"","path":"/ns/x"},"provider":{"type":"Spire","spire":{}}}"#, ""),
                (
                    r#"{"spiffeID":{"trustDomain":"{{ .","path":"{{ x }}"},"provider":{"type":"Bundled"}}"#,
                    r#"spec.spiffeID.trustDomain: couldn't parse template: template: :1: illegal number syntax: "."
                       spec.spiffeID.path: couldn't parse template: template: :1: function "x" not defined
                       spec.provider.bundled: configuration needs to be defined"#,
                ),
                (
                    r#"{"provider":{"type":"Vault"}}"#,
                    r#"spec.provider.type: "Vault" must be one of ["Bundled", "Spire"]"#,
                ),
                (r#"{"provider":{"type":"Spire"}}"#, "spec.provider.spire: configuration needs to be defined"),
                (
                    r#"{"provider":{"type":"Spire","spire":{"agent":{"timeout":"-1s"}}}}"#,
                    "spec.provider.spire.agent.spire.agent.timeout: must not be negative when defined",
                ),
                (
                    r#"{"provider":{"type":"Bundled","bundled":{"meshTrustCreation":"No","certificateParameters":{"expiry":"-1s"}}}}"#,
                    r#"spec.provider.bundled.meshTrustCreation: "No" must be one of ["Enabled", "Disabled"]
                       spec.provider.bundled.ca: must be defined
                       spec.provider.bundled.certificateParameters.expiry: must not be negative when defined"#,
                ),
                (
                    r#"{"provider":{"type":"Bundled","bundled":{"autogenerate":{"enabled":true},"ca":{}}}}"#,
                    "spec.provider.bundled.ca: shouldn't be defined once using autogenerated",
                ),
                (
                    r#"{"provider":{"type":"Bundled","bundled":{"ca":{"certificate":{"type":"File"}}}}}"#,
                    "spec.provider.bundled.ca.certificate.file: must be defined
                     spec.provider.bundled.ca.privateKey: must be defined",
                ),
            ],
        );
    }
}
