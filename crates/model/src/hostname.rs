//! The host names that HostnameGenerators give to services (zone-dataplane 9.6).

use crate::resource::Resource;
use crate::spec::HostnameGenerator;
use crate::spec::go_template::{RenderError, render_resource};
use crate::spec::proto_json::quote;
use crate::{Kind, labels};

/// The name that a generator gives to a service of a zone; `None` when it is not for it.
///
/// # Errors
/// Its template makes none, in Kuma's words.
pub fn generate(generator: &HostnameGenerator, service: &Resource, zone: &str) -> Option<Result<String, String>> {
    let selector = match service.kind() {
        Kind::MeshService => &generator.selector.mesh_service,
        Kind::MeshExternalService => &generator.selector.mesh_external_service,
        Kind::MeshMultiZoneService => &generator.selector.mesh_multi_zone_service,
        _ => return None,
    };
    if !selector.as_ref().is_some_and(|selector| selector.matches(&service.meta.labels)) {
        return None;
    }
    match evaluate(&generator.template, service, zone) {
        Ok(name) if name.is_empty() => None,
        made => Some(made),
    }
}

fn evaluate(template: &str, service: &Resource, zone: &str) -> Result<String, String> {
    let meta = &service.meta;
    let label = |key| meta.labels.get(key);
    let fields = [
        ("Name", &*meta.key.name),
        ("DisplayName", label(labels::DISPLAY_NAME).unwrap_or(&meta.key.name)),
        ("Namespace", label(labels::NAMESPACE).unwrap_or_default()),
        ("Mesh", &*meta.key.mesh),
        ("Zone", meta.zone().filter(|own| !own.is_empty()).unwrap_or(zone)),
    ];
    render_resource(template, &fields, &meta.labels).map_err(|fault| match fault {
        RenderError::Parse(fault) => format!("failed compiling gotemplate error={}", quote(&fault)),
        RenderError::Execute(fault) => {
            format!("pre evaluation of template with parameters failed with error={}", quote(&fault))
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::resource::{Key, Payload};

    fn service(kind: Kind, labels: &[(&str, &str)]) -> Resource {
        Resource::new(Key::new(kind, "default", "web-x"), labels.iter().copied().collect(), Payload::default())
    }

    fn generator(selector: Value, template: &str) -> HostnameGenerator {
        serde_json::from_value(json!({"selector": selector, "template": template})).unwrap()
    }

    /// DP-59
    #[test]
    fn names_are_made_of_what_a_service_is_called_and_where_it_is() {
        let synced = service(
            Kind::MeshService,
            &[
                ("kuma.io/display-name", "web"),
                ("kuma.io/zone", "west"),
                ("k8s.kuma.io/namespace", "demo"),
                ("pod", "p-0"),
            ],
        );
        let any = json!({"meshService": {}});
        let name = |template: &str, of: &Resource| generate(&generator(any.clone(), template), of, "east").unwrap();
        assert_eq!(name("{{ .DisplayName }}.svc.{{ .Zone }}.mesh.local", &synced).unwrap(), "web.svc.west.mesh.local");
        let all = r#"{{ label "pod" }}.{{ .Name }}.{{ .Namespace }}.{{ .Mesh }}"#;
        assert_eq!(name(all, &synced).unwrap(), "p-0.web-x.demo.default");
        let own = service(Kind::MeshService, &[]);
        assert_eq!(name("{{ .DisplayName }}.{{ .Zone }}", &own).unwrap(), "web-x.east");
        assert_eq!(
            name(r#"{{ label "pod" }}"#, &own).unwrap_err(),
            r#"pre evaluation of template with parameters failed with error="template: :1:3: executing \"\" at <label \"pod\">: error calling label: label pod not found""#
        );
    }

    #[test]
    fn a_generator_is_for_services_of_its_kind_with_its_labels() {
        let chosen = |selector: Value, of: &Resource| generate(&generator(selector, "x"), of, "east").is_some();
        let web = service(Kind::MeshService, &[("app", "web")]);
        assert!(chosen(json!({"meshService": {"matchLabels": {"app": "web"}}}), &web));
        assert!(!chosen(json!({"meshService": {"matchLabels": {"app": "api"}}}), &web));
        assert!(!chosen(json!({"meshMultiZoneService": {}}), &web));
        assert!(chosen(json!({"meshMultiZoneService": {}}), &service(Kind::MeshMultiZoneService, &[])));
        assert!(chosen(json!({"meshExternalService": {}}), &service(Kind::MeshExternalService, &[])));
        assert!(!chosen(json!({"meshService": {}}), &service(Kind::Dataplane, &[])));
        assert!(generate(&generator(json!({"meshService": {}}), "{{ .Namespace }}"), &web, "east").is_none());
    }
}
