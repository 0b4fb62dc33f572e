//! `/service-insights`: one item per service, out of the one stored object per mesh (api-and-kumactl 3.24).

use chrono::SecondsFormat;
use kds_proto::kuma::mesh::v1alpha1::ServiceInsight;
use kds_proto::kuma::mesh::v1alpha1::service_insight::Service;
use kds_proto::kuma::mesh::v1alpha1::service_insight::service::{DataplaneStat, Type};
use model::resource::Meta;
use model::{Resource, labels};
use prost::{Message, Name};
use serde_json::{Map, Value, json};

use crate::problem::Problem;
use crate::query::Query;

/// How services are called from an application: `<service>.<domain>:<port>`.
#[derive(Clone, Debug)]
pub struct Addressing {
    /// Domain of the mesh's names, `mesh` by default.
    pub domain: String,
    /// Port of every service's virtual address, 80 by default.
    pub port: u16,
}

/// Name of the stored object of a mesh.
pub fn stored_name(mesh: &str) -> String {
    format!("all-services-{mesh}")
}

/// Services of one stored object, by name; types and a part of the name may be asked for.
///
/// # Errors
/// `type` names a type that does not exist.
pub fn expand(stored: &Resource, query: &Query, addressing: &Addressing) -> Result<Vec<Value>, Problem> {
    let types = asked_types(query)?;
    let Ok(insight) = stored.spec.message::<ServiceInsight>() else { return Ok(Vec::new()) };
    let asked = |(name, service): &(&String, &Service)| {
        query.get("name").is_none_or(|part| name.contains(part))
            && (types.is_empty() || types.contains(&service.service_type()))
    };
    Ok(insight
        .services
        .iter()
        .filter(asked)
        .map(|(name, service)| view(&stored.meta, name, service, addressing))
        .collect())
}

/// One service; a name that no service has gives one without data planes.
pub fn one(stored: &Resource, name: &str, addressing: &Addressing) -> Value {
    let known = stored.spec.message::<ServiceInsight>().ok().and_then(|insight| insight.services.get(name).cloned());
    view(&stored.meta, name, &known.unwrap_or_default(), addressing)
}

fn asked_types(query: &Query) -> Result<Vec<Type>, Problem> {
    let Some(text) = query.get("type") else { return Ok(Vec::new()) };
    let parse = |name: &str| {
        Type::from_str_name(&name.to_lowercase())
            .ok_or_else(|| Problem::bad_request("bad request: unsupported service type"))
    };
    text.split(',').map(parse).collect()
}

fn view(meta: &Meta, name: &str, service: &Service, addressing: &Addressing) -> Value {
    let mut service = service.clone();
    let seen = service.dataplanes.unwrap_or_default();
    service.dataplanes = Some(DataplaneStat { total: seen.online + seen.offline, ..seen });
    if service.service_type() == Type::Internal {
        service.address_port = format!("{name}.{}:{}", addressing.domain, addressing.port);
    }
    let time = |time: &chrono::DateTime<chrono::Utc>| time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    let mut object = Map::new();
    object.insert("type".into(), "ServiceInsight".into());
    object.insert("mesh".into(), (*meta.key.mesh).into());
    object.insert("name".into(), name.into());
    object.insert("creationTime".into(), time(&meta.created).into());
    object.insert("modificationTime".into(), time(&meta.modified).into());
    let labels = meta.labels.without(labels::DISPLAY_NAME);
    if !labels.is_empty() {
        object.insert("labels".into(), json!(labels));
    }
    if let Ok(Value::Object(fields)) = kds_proto::json::to_value(&Service::full_name(), &service.encode_to_vec()) {
        object.extend(fields);
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use model::{Key, Kind, Labels, Payload};

    use super::*;

    fn stored() -> Resource {
        let json = json!({"services": {
            "backend": {"status": "offline", "dataplanes": {"total": 9, "offline": 2}, "zones": ["east", "west"]},
            "httpbin": {"status": "not_available", "serviceType": "external", "addressPort": "httpbin.example:443"}}});
        let spec = (Kind::ServiceInsight.info().codec.from_json)(json).unwrap();
        let labels: Labels =
            [(labels::DISPLAY_NAME, "all-services-default"), (labels::ORIGIN, "global")].into_iter().collect();
        let key = Key::new(Kind::ServiceInsight, "default", &stored_name("default"));
        Resource::new(key, labels, Payload::from_bytes(spec))
    }

    fn addressing() -> Addressing {
        Addressing { domain: "mesh".into(), port: 80 }
    }

    fn names(query: &str) -> Vec<String> {
        let listed = expand(&stored(), &Query::parse(Some(query)), &addressing()).unwrap();
        listed.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_total_is_counted_anew_and_internal_services_get_an_address() {
        let item = one(&stored(), "backend", &addressing());
        let expected = r#"{"type":"ServiceInsight","mesh":"default","name":"backend","creationTime":"1970-01-01T00:00:00Z","modificationTime":"1970-01-01T00:00:00Z","labels":{"kuma.io/origin":"global"},"status":"offline","dataplanes":{"total":2,"offline":2},"addressPort":"backend.mesh:80","zones":["east","west"]}"#;
        assert_eq!(item.to_string(), expected);
    }

    #[test]
    fn a_name_without_service_has_an_address_and_empty_counts() {
        let item = one(&stored(), "nothere", &addressing());
        assert_eq!((&item["dataplanes"], &item["addressPort"]), (&json!({}), &json!("nothere.mesh:80")));
    }

    #[test]
    fn types_and_names_select() {
        assert_eq!(names(""), ["backend", "httpbin"]);
        assert_eq!(names("type=External"), ["httpbin"]);
        assert_eq!(names("type=internal,external&name=back"), ["backend"]);
        assert!(expand(&stored(), &Query::parse(Some("type=nope")), &addressing()).is_err());
    }
}
