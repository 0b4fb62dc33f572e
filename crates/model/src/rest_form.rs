//! Resources as the REST API and files show them, in both shapes (api-and-kumactl 1.1 to 1.3).
//!
//! JSON kinds have their content below `spec` and, if they have one, their status below `status`; the content of proto
//! kinds stands beside the name. Keys come in the order in which users see them.

use chrono::{DateTime, SecondsFormat, Utc};
use kds_proto::json::Printed;
use serde::ser::{Error as _, Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use crate::kind::{Kind, Scope, UnknownKind};
use crate::kri::Kri;
use crate::labels::Labels;
use crate::resource::{Key, Meta, Payload, Resource};
use crate::spec::{Encoding, SpecError};

/// How a time that was never set is printed.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// Keys beside the content of a proto kind.
const META_KEYS: [&str; 7] = ["type", "mesh", "name", "creationTime", "modificationTime", "labels", "kri"];

/// A resource as it is shown.
///
/// # Errors
/// The stored content or status is not what its kind says.
pub fn print(resource: &Resource) -> Result<Value, SpecError> {
    Ok(serde_json::to_value(Shown(resource))?)
}

/// Everything of a resource that stands before its content.
pub fn print_meta(meta: &Meta) -> Map<String, Value> {
    match serde_json::to_value(ShownMeta(meta)) {
        Ok(Value::Object(shown)) => shown,
        // Texts in an object always have a JSON form.
        _ => Map::new(),
    }
}

/// A resource that prints as it is shown, without a tree of values in between. Serializing fails when the stored content
/// or status is not what its kind says.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'r>(pub &'r Resource);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Resource { meta, spec, status } = self.0;
        let codec = &meta.key.kind.info().codec;
        let mut shown = serializer.serialize_map(None)?;
        show_meta(meta, &mut shown)?;
        match codec.encoding {
            Encoding::Json => {
                let content = (codec.to_json)(spec.bytes()).map_err(S::Error::custom)?;
                shown.serialize_entry("spec", &content)?;
            }
            Encoding::Proto { package, message } => {
                let content = Printed::decode(&format!("{package}.{message}"), spec.bytes());
                content.map_err(S::Error::custom)?.members(&mut shown)?;
            }
        }
        if let Some(status) = status {
            let status: Value = serde_json::from_slice(status.bytes()).map_err(S::Error::custom)?;
            shown.serialize_entry("status", &status)?;
        }
        shown.end()
    }
}

struct ShownMeta<'r>(&'r Meta);

impl Serialize for ShownMeta<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut shown = serializer.serialize_map(None)?;
        show_meta(self.0, &mut shown)?;
        shown.end()
    }
}

fn show_meta<M: SerializeMap>(meta: &Meta, shown: &mut M) -> Result<(), M::Error> {
    let Key { kind, mesh, name } = &meta.key;
    shown.serialize_entry("type", kind.name())?;
    if kind.info().scope == Scope::Mesh && !mesh.is_empty() {
        shown.serialize_entry("mesh", &**mesh)?;
    }
    shown.serialize_entry("name", &**name)?;
    shown.serialize_entry("creationTime", &print_time(meta.created))?;
    shown.serialize_entry("modificationTime", &print_time(meta.modified))?;
    if !meta.labels.is_empty() {
        shown.serialize_entry("labels", &meta.labels)?;
    }
    if let Some(kri) = Kri::of(meta) {
        shown.serialize_entry("kri", &kri.to_string())?;
    }
    Ok(())
}

/// RFC 3339 in UTC with as many digits of a second as there are; the time of what is not stored yet is that of year 1.
pub fn print_time(time: DateTime<Utc>) -> String {
    if time == DateTime::UNIX_EPOCH {
        return NO_TIME.to_owned();
    }
    let exact = time.to_rfc3339_opts(SecondsFormat::Nanos, true);
    let digits = exact.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
    format!("{digits}Z")
}

/// Why a document is no resource.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is a text, a list, a number.
    #[error("a resource is an object with the members \"type\" and \"name\"")]
    NoObject,
    /// A member beside the content is missing or no text.
    #[error("{0}: has to be a text that is not empty")]
    NoText(&'static str),
    /// The `type` is none.
    #[error("type: {0}")]
    UnknownKind(#[from] UnknownKind),
    /// `labels` is no map of texts.
    #[error("labels: {0}")]
    Labels(serde_json::Error),
    /// The content is not what its kind says.
    #[error("{0}")]
    Content(#[from] SpecError),
}

/// The resource of a document that a control plane printed; nothing is checked or filled in.
///
/// # Errors
/// The document is no resource, or its content has not the shape of its kind.
pub fn read(document: Value) -> Result<Resource, ReadError> {
    let Value::Object(mut members) = document else { return Err(ReadError::NoObject) };
    let text = |key| members.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let kind: Kind = text("type").ok_or(ReadError::NoText("type"))?.parse()?;
    let name = text("name").ok_or(ReadError::NoText("name"))?;
    let key = Key::new(kind, text("mesh").unwrap_or("default"), name);
    let time = |key| text(key).map(read_time).unwrap_or_default();
    let (created, modified) = (time("creationTime"), time("modificationTime"));
    let labels = match members.shift_remove("labels") {
        Some(labels) => serde_json::from_value(labels).map_err(ReadError::Labels)?,
        None => Labels::default(),
    };
    let status = members.shift_remove("status").filter(|_| kind.info().status.is_some());
    let spec = Payload::from_bytes((kind.info().codec.from_json)(content(kind, Value::Object(members)))?);
    let mut resource = Resource::new(key, labels, spec);
    (resource.meta.created, resource.meta.modified) = (created, modified);
    if let Some(status) = status {
        resource.status = Some(Payload::from_bytes(status.to_string()));
    }
    Ok(resource)
}

/// What a document says of the content of its kind, in the form that the kind's codec reads.
pub fn content(kind: Kind, document: Value) -> Value {
    let Value::Object(mut members) = document else { return Value::Null };
    match kind.info().codec.encoding {
        Encoding::Json => members.shift_remove("spec").unwrap_or_default(),
        Encoding::Proto { .. } => {
            members.retain(|key, _| !META_KEYS.contains(&key.as_str()));
            Value::Object(members)
        }
    }
}

/// A printed time; what is no time, or that of year 1, was never set.
fn read_time(text: &str) -> DateTime<Utc> {
    let time = DateTime::parse_from_rfc3339(text).ok().filter(|_| text != NO_TIME);
    time.map_or(DateTime::UNIX_EPOCH, |time| time.to_utc())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn round_trip(document: Value) {
        let resource = read(document.clone()).unwrap();
        assert_eq!(print(&resource).unwrap().to_string(), document.to_string());
    }

    /// api-and-kumactl 1.1: keys in the order in which users see them, in both shapes.
    #[test]
    fn a_resource_is_printed_as_it_was_read() {
        round_trip(json!({
            "type": "MeshExternalService", "mesh": "default", "name": "mes-tcp",
            "creationTime": "2026-02-01T10:00:00Z", "modificationTime": "2026-02-01T10:00:00.12Z",
            "labels": {"kuma.io/mesh": "default", "kuma.io/zone": "default"},
            "kri": "kri_extsvc_default_default__mes-tcp_",
            "spec": {
                "match": {"type": "HostnameGenerator", "port": 4242, "protocol": "tcp"},
                "endpoints": [{"address": "tcp.example.com", "port": 4242}],
            },
            "status": {"vip": {}},
        }));
        round_trip(json!({
            "type": "ZoneIngress", "name": "zone-ingress-1",
            "creationTime": "0001-01-01T00:00:00Z", "modificationTime": "2026-02-01T10:00:00.123456789Z",
            "kri": "kri_zi____zone-ingress-1_",
            "networking": {"address": "10.0.0.1", "advertisedAddress": "203.0.113.7", "port": 10001, "advertisedPort": 10001},
        }));
        round_trip(json!({
            "type": "Mesh", "name": "default",
            "creationTime": "0001-01-01T00:00:00Z", "modificationTime": "0001-01-01T00:00:00Z", "kri": "kri_m____default_",
        }));
    }

    /// Members of a content that were named like those before it would be printed twice.
    #[test]
    fn no_content_has_a_member_of_the_meta() {
        for kind in Kind::ALL {
            let Encoding::Proto { package, message } = kind.info().codec.encoding else { continue };
            let name = format!("{package}.{message}");
            let message = kds_proto::json::pool().get_message_by_name(&name).unwrap();
            let doubled = message.fields().find(|field| META_KEYS.contains(&field.json_name()));
            assert!(doubled.is_none(), "{name} has {doubled:?}");
        }
    }

    #[test]
    fn what_is_no_resource_is_refused_with_the_member() {
        let reason = |document| read(document).unwrap_err().to_string();
        assert_eq!(reason(json!([])), "a resource is an object with the members \"type\" and \"name\"");
        assert_eq!(reason(json!({"name": "a"})), "type: has to be a text that is not empty");
        assert_eq!(reason(json!({"type": "Nope", "name": "a"})), "type: unknown kind \"Nope\"");
        assert_eq!(reason(json!({"type": "Mesh"})), "name: has to be a text that is not empty");
        assert!(reason(json!({"type": "Mesh", "name": "a", "labels": 3})).starts_with("labels: "));
    }

    #[test]
    fn the_status_of_a_kind_without_one_is_dropped() {
        let resource = read(json!({"type": "MeshTimeout", "name": "a", "status": {"x": 1}, "spec": {}})).unwrap();
        assert_eq!(resource.status, None);
        assert_eq!(&*resource.meta.key.mesh, "default");
    }
}
