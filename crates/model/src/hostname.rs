//! The host names that HostnameGenerators give to services (zone-dataplane 9.6, api-and-kumactl 3.12).

use crate::Kind;
use crate::labels::{self, Labels};
use crate::resource::Meta;
use crate::spec::HostnameGenerator;
use crate::spec::go_template::{RenderError, render_resource};
use crate::spec::proto_json::quote;

/// The name that a generator gives to a service; `None` when it is not for it. `labels` are those that it selects by,
/// and `zone` the one in which a service without zone gets its name.
///
/// # Errors
/// Its template makes none: it asks for a label that the service has not.
pub fn generate(
    generator: &HostnameGenerator,
    service: &Meta,
    labels: &Labels,
    zone: &str,
) -> Result<Option<String>, RenderError> {
    let selector = match service.key.kind {
        Kind::MeshService => &generator.selector.mesh_service,
        Kind::MeshExternalService => &generator.selector.mesh_external_service,
        Kind::MeshMultiZoneService => &generator.selector.mesh_multi_zone_service,
        _ => return Ok(None),
    };
    if !selector.as_ref().is_some_and(|selector| selector.matches(labels)) {
        return Ok(None);
    }
    let (label, name) = (|key| labels.get(key), &*service.key.name);
    let fields = [
        ("Name", name),
        ("DisplayName", label(labels::DISPLAY_NAME).unwrap_or(name)),
        ("Namespace", label(labels::NAMESPACE).unwrap_or_default()),
        ("Mesh", &*service.key.mesh),
        ("Zone", label(labels::ZONE).filter(|own| !own.is_empty()).unwrap_or(zone)),
    ];
    render_resource(&generator.template, &fields, labels).map(|name| Some(name).filter(|name| !name.is_empty()))
}

/// What is wrong with a template, as Kuma says it in the status of a service.
pub fn explain(error: &RenderError) -> String {
    match error {
        RenderError::Parse(fault) => format!("failed compiling gotemplate error={}", quote(fault)),
        RenderError::Execute(fault) => {
            format!("pre evaluation of template with parameters failed with error={}", quote(fault))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::resource::Key;

    fn service(kind: Kind, labels: &[(&str, &str)]) -> Meta {
        Meta::new(Key::new(kind, "default", "web-x"), labels.iter().copied().collect())
    }

    fn made(selector: Value, template: &str, of: &Meta) -> Result<Option<String>, String> {
        let generator = serde_json::from_value(json!({"selector": selector, "template": template})).unwrap();
        generate(&generator, of, &of.labels, "east").map_err(|error| explain(&error))
    }

    /// DP-59
    #[test]
    fn names_are_made_of_what_a_service_is_called_and_where_it_is() {
        let labels = [
            ("kuma.io/display-name", "web"),
            ("kuma.io/zone", "west"),
            ("k8s.kuma.io/namespace", "demo"),
            ("pod", "p-0"),
        ];
        let name = |template: &str, of: &Meta| made(json!({"meshService": {}}), template, of);
        let synced = service(Kind::MeshService, &labels);
        let given = |name: &str| Ok(Some(name.to_owned()));
        assert_eq!(name("{{ .DisplayName }}.svc.{{ .Zone }}.mesh.local", &synced), given("web.svc.west.mesh.local"));
        let all = r#"{{ label "pod" }}.{{ .Name }}.{{ .Namespace }}.{{ .Mesh }}"#;
        assert_eq!(name(all, &synced), given("p-0.web-x.demo.default"));
        let own = service(Kind::MeshService, &[]);
        assert_eq!(name("{{ .DisplayName }}.{{ .Zone }}", &own), given("web-x.east"));
        assert_eq!(
            name(r#"{{ label "pod" }}"#, &own).unwrap_err(),
            r#"pre evaluation of template with parameters failed with error="template: :1:3: executing \"\" at <label \"pod\">: error calling label: label pod not found""#
        );
    }

    #[test]
    fn a_generator_is_for_services_of_its_kind_with_its_labels() {
        let chosen = |selector: Value, of: &Meta| made(selector, "x", of).unwrap().is_some();
        let web = service(Kind::MeshService, &[("app", "web")]);
        assert!(chosen(json!({"meshService": {"matchLabels": {"app": "web"}}}), &web));
        assert!(!chosen(json!({"meshService": {"matchLabels": {"app": "api"}}}), &web));
        assert!(!chosen(json!({"meshMultiZoneService": {}}), &web));
        assert!(chosen(json!({"meshMultiZoneService": {}}), &service(Kind::MeshMultiZoneService, &[])));
        assert!(chosen(json!({"meshExternalService": {}}), &service(Kind::MeshExternalService, &[])));
        assert!(!chosen(json!({"meshService": {}}), &service(Kind::Dataplane, &[])));
        assert_eq!(made(json!({"meshService": {}}), "{{ .Namespace }}", &web), Ok(None));
    }
}
