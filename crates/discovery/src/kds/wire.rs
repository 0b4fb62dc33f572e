//! Under which name and in which bytes a resource crosses (kds-wire 3.4 to 3.7, 4.3).

use aws_lc_rs::digest;
use bytes::Bytes;
use kds_proto::envoy::service::discovery::v3;
use kds_proto::kuma::mesh::v1alpha1::{KumaResource, kuma_resource};
use kds_proto::{Any, TYPE_URL_PREFIX};
use model::kind::Scope;
use model::spec::{Encoding, SpecError};
use model::{Key, Kind, Labels, Payload, Resource, Violations};
use prost::Message;

use crate::view::Encoded;

/// Longest name and mesh of a resource, in bytes.
const MAX_NAME: usize = 253;

/// Packs a resource that has the name and the labels that it shall have on the other side. The version is the SHA-256 of
/// the bytes, as Kuma's is.
pub fn encode(resource: &Resource) -> Encoded {
    let key = &resource.meta.key;
    let packed = KumaResource {
        meta: Some(kuma_resource::Meta {
            name: key.name.to_string(),
            mesh: key.mesh.to_string(),
            version: String::new(),
            labels: resource.meta.labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        }),
        spec: Some(spec(resource)),
        status: resource.status.as_ref().map(|status| json(status.bytes())),
    };
    let bytes = packed.encode_to_vec();
    Encoded {
        name: name_of(key).into(),
        version: sha256(&bytes).into(),
        resource: Any { type_url: kds_proto::KUMA_RESOURCE_TYPE_URL.to_owned(), value: bytes.into() },
    }
}

/// `<name>.<mesh>`; the dot stays when there is no mesh (KDS-38).
pub fn name_of(key: &Key) -> String {
    format!("{}.{}", key.name, key.mesh)
}

/// The key that a name in a response means: split at the last dot; without one it is a name without mesh.
pub fn key_of(kind: Kind, name: &str) -> Key {
    let (name, mesh) = name.rsplit_once('.').unwrap_or((name, ""));
    Key::new(kind, mesh, name)
}

fn spec(resource: &Resource) -> Any {
    let value = resource.spec.bytes();
    match resource.kind().info().codec.encoding {
        // An empty spec would be no JSON.
        Encoding::Json if value.is_empty() => json(&Bytes::from_static(b"{}")),
        Encoding::Json => json(value),
        Encoding::Proto { package, message } => {
            Any { type_url: format!("{TYPE_URL_PREFIX}{package}.{message}"), value: value.clone() }
        }
    }
}

fn json(value: &Bytes) -> Any {
    Any { type_url: String::new(), value: value.clone() }
}

fn sha256(bytes: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why a resource is not taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecodable {
    /// Which it is, as far as that can be told.
    pub key: Key,
    /// Why.
    pub fault: Fault,
}

/// What is wrong with one resource of a response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The bytes are no packed resource.
    #[error("it is no resource: {0}")]
    Envelope(String),
    /// It has no name, or one that cannot be stored.
    #[error("its name or its mesh is no name")]
    Name,
    /// A spec is missing.
    #[error("it has no spec")]
    NoSpec,
    /// The spec is of another kind.
    #[error("its spec is a {found}, not a {expected}")]
    OtherSpec {
        /// Message of the kind.
        expected: String,
        /// Message that came.
        found: String,
    },
    /// The spec is not what its kind wants.
    #[error("its spec cannot be read: {0}")]
    Spec(String),
    /// It breaks the kind's own rules.
    #[error("{0}")]
    Invalid(Violations),
}

/// Unpacks a resource and checks it by its kind's own rules. The status is the kind's zero status when none came.
///
/// # Errors
/// It cannot be read, or breaks a rule; the others of the response are not concerned.
pub fn decode(kind: Kind, resource: &v3::Resource) -> Result<Resource, Box<Undecodable>> {
    let refused = |key: Key, fault| Box::new(Undecodable { key, fault });
    let outer = |fault| refused(key_of(kind, &resource.name), fault);
    let packed = resource.resource.as_ref().map(|any| any.value.clone()).unwrap_or_default();
    let packed = KumaResource::decode(packed).map_err(|error| outer(Fault::Envelope(error.to_string())))?;
    let meta = packed.meta.ok_or_else(|| outer(Fault::Name))?;
    let key = Key::new(kind, &meta.mesh, &meta.name);
    if !is_name(&meta.name) || (kind.info().scope == Scope::Mesh) != is_name(&meta.mesh) {
        return Err(refused(key, Fault::Name));
    }
    let labels: Labels = meta.labels.iter().collect();
    if labels.iter().any(|(name, value)| name.contains('\0') || value.contains('\0')) {
        return Err(refused(key, Fault::Spec("a label contains a NUL character".to_owned())));
    }
    let spec = packed.spec.ok_or_else(|| refused(key.clone(), Fault::NoSpec))?;
    check_message(kind, &spec).map_err(|fault| refused(key.clone(), fault))?;
    let mut decoded = Resource::new(key.clone(), labels, Payload::from_bytes(spec.value));
    if let (Some(own), Some(status)) = (&mut decoded.status, packed.status) {
        if serde_json::from_slice::<serde::de::IgnoredAny>(&status.value).is_err() {
            return Err(refused(key, Fault::Spec("its status is no JSON".to_owned())));
        }
        *own = Payload::from_bytes(status.value);
    }
    check(&decoded).map_err(|fault| refused(key, fault))?;
    Ok(decoded)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && !name.contains('\0')
}

/// JSON kinds name no message, and what they name is not looked at.
fn check_message(kind: Kind, spec: &Any) -> Result<(), Fault> {
    let Encoding::Proto { package, message } = kind.info().codec.encoding else { return Ok(()) };
    let expected = format!("{package}.{message}");
    if spec.message_name() == expected {
        return Ok(());
    }
    let found = if spec.type_url.is_empty() { "JSON text" } else { spec.message_name() };
    Err(Fault::OtherSpec { expected, found: found.to_owned() })
}

/// The kind's own rules; no schema, which a receiver of Kuma does not look at (kds-wire 3.9).
fn check(resource: &Resource) -> Result<(), Fault> {
    let mut violations = Violations::default();
    let validate = resource.kind().info().codec.validate;
    let read: Result<(), SpecError> = validate(resource.spec.bytes(), &resource.meta, &mut violations);
    read.map_err(|error| Fault::Spec(error.to_string()))?;
    if violations.is_empty() { Ok(()) } else { Err(Fault::Invalid(violations)) }
}

impl Undecodable {
    /// As a refusal says it: what a rule says stands alone, as Kuma's, what cannot be read is named.
    pub fn text(&self) -> String {
        match &self.fault {
            Fault::Invalid(violations) => violations.to_string(),
            fault => format!("{}: {fault}", self.key),
        }
    }
}

/// Gives a resource the name that it has away from its origin (kds-wire 4.3); its labels are already those of the wire.
pub fn hashed(resource: &mut Resource) {
    let name = model::name::hashed(&resource.meta);
    resource.meta = model::name::renamed(&resource.meta, &name);
}

/// Labels without those that have one of the prefixes.
pub fn without_prefixes(labels: Labels, prefixes: &[String]) -> Labels {
    if prefixes.is_empty() {
        return labels;
    }
    labels.iter().filter(|(name, _)| !prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use serde_json::Value;

    use super::*;

    /// Every recorded version of a resource.
    fn recorded() -> Vec<Value> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kds-proto/tests/recorded/resources.jsonl");
        let text = std::fs::read_to_string(file).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn received(line: &Value) -> v3::Resource {
        let raw = BASE64_STANDARD.decode(line["raw"].as_str().unwrap()).unwrap();
        v3::Resource {
            name: line["name"].as_str().unwrap().to_owned(),
            resource: Some(Any { type_url: kds_proto::KUMA_RESOURCE_TYPE_URL.into(), value: raw.into() }),
            ..v3::Resource::default()
        }
    }

    /// KDS-35, KDS-36, KDS-37, KDS-38: what was recorded is read, and packed again it is the same to the byte.
    #[test]
    fn every_recorded_resource_crosses_unchanged() {
        let mut count = 0;
        for line in recorded() {
            let kind: Kind = line["type"].as_str().unwrap().parse().unwrap();
            let resource =
                decode(kind, &received(&line)).unwrap_or_else(|refused| panic!("{line}: {}", refused.text()));
            let encoded = encode(&resource);
            assert_eq!(&*encoded.name, line["name"].as_str().unwrap());
            assert_eq!(&*encoded.version, line["version"].as_str().unwrap(), "{line}");
            assert_eq!(key_of(kind, &encoded.name), resource.meta.key);
            count += 1;
        }
        assert!(count > 200, "{count}");
    }

    /// KDS-43: the recorded name of what a zone or a universal global sent follows from its labels.
    #[test]
    fn every_recorded_name_is_found_again() {
        for line in recorded() {
            let kind: Kind = line["type"].as_str().unwrap().parse().unwrap();
            if kind.info().plain_name {
                continue;
            }
            let resource = decode(kind, &received(&line)).unwrap();
            assert_eq!(model::name::hashed(&resource.meta), &*resource.meta.key.name, "{line}");
        }
    }

    fn packed(name: &str, mesh: &str, spec: Option<Any>) -> v3::Resource {
        let meta = kuma_resource::Meta { name: name.into(), mesh: mesh.into(), ..Default::default() };
        let packed = KumaResource { meta: Some(meta), spec, status: None };
        v3::Resource { name: format!("{name}.{mesh}"), resource: Some(Any::pack(&packed)), ..Default::default() }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let text = |kind, resource: &v3::Resource| decode(kind, resource).unwrap_err().text();
        let json = |text: &'static str| Some(Any { type_url: String::new(), value: text.into() });
        let torn = packed("t", "default", json("{\"to\":["));
        let said = text(Kind::MeshTimeout, &torn);
        assert!(said.starts_with("MeshTimeout \"t\" in mesh \"default\": its spec cannot be read: EOF"), "{said}");
        let other = Any { type_url: "type.googleapis.com/kuma.mesh.v1alpha1.Retry".into(), value: Bytes::new() };
        assert_eq!(
            text(Kind::TrafficPermission, &packed("t", "default", Some(other))),
            "TrafficPermission \"t\" in mesh \"default\": its spec is a kuma.mesh.v1alpha1.Retry, not a \
             kuma.mesh.v1alpha1.TrafficPermission"
        );
        assert!(text(Kind::Mesh, &packed("m", "", None)).ends_with("it has no spec"));
        assert!(text(Kind::MeshTimeout, &packed("t", "", json("{}"))).ends_with("is no name"));
        assert!(text(Kind::Mesh, &packed("m", "default", json("{}"))).ends_with("is no name"));
        let garbage = Any { type_url: String::new(), value: Bytes::from_static(b"\xff\xff\xff") };
        let garbage = v3::Resource { name: "a.b.default".into(), resource: Some(garbage), ..Default::default() };
        assert!(text(Kind::MeshTimeout, &garbage).starts_with("MeshTimeout \"a.b\" in mesh \"default\": it is no"));
        let invalid = packed("t", "default", json(r#"{"to":[{"targetRef":{"kind":"Mesh"},"default":{}}]}"#));
        assert_eq!(text(Kind::MeshTimeout, &invalid), "spec.to[0].default: at least one timeout should be configured");
    }
}
