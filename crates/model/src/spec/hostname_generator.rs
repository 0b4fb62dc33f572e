//! `HostnameGenerator`: host names for services, from a template (api-and-kumactl 3.12).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resource::Meta;
use crate::spec::JsonSpec;
use crate::spec::check::MUST_NOT_BE_EMPTY;
use crate::spec::condition::Condition;
use crate::spec::extension::Extension;
use crate::spec::go_template;
use crate::spec::label_selector::LabelSelector;
use crate::spec::words::words;
use crate::violation::{Path, Violations};

/// Which services get a host name, and what it looks like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostnameGenerator {
    /// The services.
    #[serde(default)]
    pub selector: Selector,
    /// Go template of the host name, `{{ .DisplayName }}.{{ .Zone }}.mesh.local`.
    pub template: String,
    /// A plugin that makes the names instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<Extension>,
}

/// Services of one kind; exactly one of the members is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// MeshServices with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh_service: Option<LabelSelector>,
    /// MeshExternalServices with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh_external_service: Option<LabelSelector>,
    /// MeshMultiZoneServices with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh_multi_zone_service: Option<LabelSelector>,
}

/// A host name of a service, in the status of the service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// The name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The generator that made it.
    #[serde(default)]
    pub hostname_generator_ref: HostnameGeneratorRef,
}

words!(
    /// Who made a host name.
    open Origin { HostnameGenerator = "HostnameGenerator", Kubernetes = "Kubernetes" }
);

/// A generator, from the status of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostnameGeneratorRef {
    /// Name as stored in the zone.
    pub core_name: String,
}

/// What became of one generator for one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostnameGeneratorStatus {
    /// The generator.
    pub hostname_generator_ref: HostnameGeneratorRef,
    /// `Generated`, with the reason `Generated`, `TemplateError` or `Collision`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl JsonSpec for HostnameGenerator {
    fn validate(&self, _: &Meta, found: &mut Violations) {
        let path = Path::of("spec");
        let Selector { mesh_service, mesh_external_service, mesh_multi_zone_service } = &self.selector;
        let selectors = [mesh_service, mesh_external_service, mesh_multi_zone_service];
        if selectors.into_iter().flatten().count() != 1 {
            let reason = "exact one selector (meshService, meshExternalService) must be defined";
            found.add(&path.field("selector"), reason);
        }
        if self.template.is_empty() {
            found.add(&path.field("template"), MUST_NOT_BE_EMPTY);
        }
        go_template::check(&path.field("template"), &self.template, found);
        if let Some(extension) = &self.extension {
            extension.validate(&path.field("extension"), found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::spec::tabled::{assert_faults, assert_printed};

    #[test]
    fn members_are_printed_in_order() {
        assert_printed::<HostnameGenerator>(r#"{"template":"a"}"#, r#"{"selector":{},"template":"a"}"#);
        assert_printed::<HostnameGenerator>(
            r#"{"extension":{"config":{"b":1,"a":2},"type":"x"},"template":"a","selector":{"meshService":{"matchLabels":{}}}}"#,
            r#"{"selector":{"meshService":{"matchLabels":{}}},"template":"a","extension":{"type":"x","config":{"a":2,"b":1}}}"#,
        );
        assert_eq!(serde_json::to_string(&Address::default()).unwrap(), r#"{"hostnameGeneratorRef":{"coreName":""}}"#);
    }

    #[test]
    fn faults() {
        assert_faults::<HostnameGenerator>(
            Kind::HostnameGenerator,
            &[
                (r#"{"selector":{"meshService":{}},"template":"{{ .DisplayName }}.{{ label \"x/y\" }}"}"#, ""),
                (r#"{"selector":{"meshMultiZoneService":{}},"template":"a","extension":{"type":"x"}}"#, ""),
                (
                    r#"{"selector":{},"template":"","extension":{"type":""}}"#,
                    "spec.selector: exact one selector (meshService, meshExternalService) must be defined
                     spec.template: must not be empty
                     spec.extension.type: must not be empty",
                ),
                (
                    r#"{"selector":{"meshService":{},"meshExternalService":{}},"template":"{{ .Name"}"#,
                    "spec.selector: exact one selector (meshService, meshExternalService) must be defined
                     spec.template: couldn't parse template: template: :1: unclosed action",
                ),
            ],
        );
    }
}
