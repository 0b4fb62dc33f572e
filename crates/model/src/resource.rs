//! A resource: who it is ([`Key`]), what everybody knows about it ([`Meta`]) and its content ([`Payload`]).

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::kind::{Kind, Scope};
use crate::labels::{self, Labels};
use crate::spec::{JsonSpec, ProtoSpec, SpecError};

/// Kind, mesh and name: unique in one control plane. Sorted by kind, then mesh, then name, as lists are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The kind.
    pub kind: Kind,
    /// Mesh of the resource; empty for kinds of [`Scope::Global`].
    pub mesh: Arc<str>,
    /// Name as stored, which for a resource of another control plane is the hashed one (kds-wire 4.3).
    pub name: Arc<str>,
}

impl Key {
    /// A key; the mesh of a global-scoped kind is dropped.
    pub fn new(kind: Kind, mesh: &str, name: &str) -> Self {
        let mesh = if kind.info().scope == Scope::Global { "" } else { mesh };
        Self { kind, mesh: mesh.into(), name: name.into() }
    }

    /// Key of a global-scoped kind.
    pub fn global(kind: Kind, name: &str) -> Self {
        Self::new(kind, "", name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, mesh, name } = self;
        if mesh.is_empty() { write!(f, "{kind} {name:?}") } else { write!(f, "{kind} {name:?} in mesh {mesh:?}") }
    }
}

/// What every resource has beside its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Who it is.
    pub key: Key,
    /// All labels, the user's and the computed.
    pub labels: Labels,
    /// When it was created here; set by the store.
    pub created: DateTime<Utc>,
    /// When it last changed here; set by the store.
    pub modified: DateTime<Utc>,
    /// Grows by one with each change of this resource; the store compares it before it writes. 0: not stored yet.
    pub version: u64,
}

impl Meta {
    /// Meta of a resource that is not stored yet.
    pub fn new(key: Key, labels: Labels) -> Self {
        Self { key, labels, created: DateTime::UNIX_EPOCH, modified: DateTime::UNIX_EPOCH, version: 0 }
    }

    /// The name that users gave it, whatever it is stored as.
    pub fn display_name(&self) -> &str {
        self.labels.get(labels::DISPLAY_NAME).filter(|name| !name.is_empty()).unwrap_or(&self.key.name)
    }

    /// The zone that owns it, if a zone does.
    pub fn zone(&self) -> Option<&str> {
        self.labels.get(labels::ZONE)
    }
}

/// Encoded content, shared, with its typed form decoded at most once.
///
/// The bytes are the truth: fields that our schema lacks survive in them, and a stream sends them as they are.
#[derive(Clone, Default)]
pub struct Payload {
    bytes: Bytes,
    decoded: Arc<OnceLock<Arc<dyn Any + Send + Sync>>>,
}

impl Payload {
    /// Content that is already encoded in the kind's encoding: protobuf or JSON (kds-wire 3.6).
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), decoded: Arc::default() }
    }

    /// Content of a JSON kind from its typed form.
    ///
    /// # Errors
    /// A value has no JSON form (a number that is not finite).
    pub fn from_json<S: JsonSpec>(spec: &S) -> Result<Self, SpecError> {
        Ok(Self::from_bytes(serde_json::to_vec(spec)?))
    }

    /// Content of a proto kind from its typed form.
    pub fn from_message<S: ProtoSpec>(spec: &S) -> Self {
        Self::from_bytes(spec.encode_to_vec())
    }

    /// The encoded content.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The typed content of a JSON kind, decoded on first use and kept.
    ///
    /// # Errors
    /// The bytes are not the JSON of an `S`.
    pub fn json<S: JsonSpec>(&self) -> Result<Arc<S>, SpecError> {
        self.decoded_once(|bytes| Ok(serde_json::from_slice(bytes)?))
    }

    /// The typed content of a proto kind, decoded on first use and kept.
    ///
    /// # Errors
    /// The bytes are not an encoded `S`.
    pub fn message<S: ProtoSpec>(&self) -> Result<Arc<S>, SpecError> {
        self.decoded_once(|bytes| Ok(S::decode(bytes)?))
    }

    fn decoded_once<S: Any + Send + Sync>(
        &self,
        decode: impl FnOnce(&[u8]) -> Result<S, SpecError>,
    ) -> Result<Arc<S>, SpecError> {
        if let Some(Ok(spec)) = self.decoded.get().map(|kept| Arc::clone(kept).downcast::<S>()) {
            return Ok(spec);
        }
        let spec = Arc::new(decode(&self.bytes)?);
        let kept: Arc<dyn Any + Send + Sync> = Arc::<S>::clone(&spec);
        self.decoded.get_or_init(|| kept);
        Ok(spec)
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Payload {}

/// Only the length: content may be a secret.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.bytes.len())
    }
}

/// One resource of the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Who it is, its labels and times.
    pub meta: Meta,
    /// What its author asks for.
    pub spec: Payload,
    /// What control planes found, JSON; only kinds with [`crate::kind::Info::status`] have one.
    pub status: Option<Payload>,
}

impl Resource {
    /// A resource that is not stored yet, with the kind's zero status.
    pub fn new(key: Key, labels: Labels, spec: Payload) -> Self {
        let status = key.kind.info().status.map(|zero| Payload::from_bytes(zero.as_bytes()));
        Self { meta: Meta::new(key, labels), spec, status }
    }

    /// Kind of the resource.
    pub fn kind(&self) -> Kind {
        self.meta.key.kind
    }

    /// Whether spec, labels and status are equal; times and version apart.
    pub fn same_content(&self, other: &Self) -> bool {
        self.meta.labels == other.meta.labels && self.spec == other.spec && self.status == other.status
    }
}

#[cfg(test)]
mod tests {
    use kds_proto::kuma::mesh::v1alpha1::Mesh;

    use super::*;

    #[test]
    fn a_global_kind_has_no_mesh() {
        assert_eq!(Key::new(Kind::Zone, "default", "east"), Key::global(Kind::Zone, "east"));
        assert_eq!(Key::new(Kind::Dataplane, "default", "dp").to_string(), r#"Dataplane "dp" in mesh "default""#);
    }

    #[test]
    fn content_is_decoded_once_and_survives_clones() {
        let payload =
            Payload::from_message(&Mesh { skip_creating_initial_policies: vec!["*".into()], ..Mesh::default() });
        let first = payload.message::<Mesh>().unwrap();
        assert!(Arc::ptr_eq(&first, &payload.clone().message::<Mesh>().unwrap()));
        assert_eq!(format!("{payload:?}"), "Payload(3 bytes)");
    }

    #[test]
    fn the_zero_status_comes_with_the_kind() {
        let resource = |kind| Resource::new(Key::new(kind, "default", "a"), Labels::default(), Payload::default());
        assert_eq!(resource(Kind::MeshExternalService).status.unwrap().bytes().as_ref(), br#"{"vip":{}}"#);
        assert_eq!(resource(Kind::MeshTimeout).status, None);
    }
}
