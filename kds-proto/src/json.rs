//! Canonical protobuf JSON, the only module that knows how: prost-reflect over the committed descriptor set.

use std::sync::LazyLock;

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor};
use serde_json::Value;

mod printed;

pub use printed::Printed;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "committed with the program and drift-checked: not data")]
    DescriptorPool::decode(include_bytes!("generated/descriptors.bin").as_ref()).expect("committed descriptors decode")
});

/// Why JSON and a message do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The descriptor set has no such message.
    #[error("message {0:?} is not known")]
    UnknownMessage(String),
    /// The bytes are not a message of the type.
    #[error("bytes are no {message}: {source}")]
    Decode {
        /// Full name of the expected message.
        message: String,
        /// What the decoder said.
        source: prost::DecodeError,
    },
    /// The JSON does not have the message's shape; the text names the field.
    #[error("{0}")]
    Shape(String),
}

/// Whether a key that the message does not have is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownFields {
    /// Dropped without a word, as Kuma's REST API does.
    Ignored,
    /// An error that names the key.
    Refused,
}

/// Every message we know, with its fields.
pub fn pool() -> &'static DescriptorPool {
    &POOL
}

/// Canonical JSON of an encoded message, by its full name (`kuma.mesh.v1alpha1.Dataplane`).
///
/// # Errors
/// The name is unknown, the bytes do not decode, or an `Any` inside holds a message that we do not know.
pub fn to_value(message: &str, bytes: &[u8]) -> Result<Value, Error> {
    serde_json::to_value(Printed::decode(message, bytes)?).map_err(|e| Error::Shape(e.to_string()))
}

/// A message from its JSON form.
///
/// # Errors
/// A value has the wrong type, an enum name is unknown, or a key is unknown and `unknown` refuses it.
pub fn from_value<M: Message + Name + Default>(value: Value, unknown: UnknownFields) -> Result<M, Error> {
    let options = DeserializeOptions::new().deny_unknown_fields(unknown == UnknownFields::Refused);
    let descriptor = descriptor(&M::full_name())?;
    let dynamic = DynamicMessage::deserialize_with_options(descriptor, value, &options)
        .map_err(|e| Error::Shape(e.to_string()))?;
    dynamic.transcode_to().map_err(|source| Error::Decode { message: M::full_name(), source })
}

fn descriptor(message: &str) -> Result<MessageDescriptor, Error> {
    POOL.get_message_by_name(message).ok_or_else(|| Error::UnknownMessage(message.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kuma::mesh::v1alpha1::{Dataplane, Mesh};

    #[test]
    fn fields_come_in_declared_order_and_maps_sorted() {
        let value =
            json!({"networking": {"inbound": [{"tags": {"b": "2", "a": "1"}, "port": 80}], "address": "10.0.0.1"}});
        let message: Dataplane = from_value(value, UnknownFields::Refused).unwrap();
        let printed = to_value(&Dataplane::full_name(), &message.encode_to_vec()).unwrap();
        assert_eq!(
            printed.to_string(),
            r#"{"networking":{"address":"10.0.0.1","inbound":[{"port":80,"tags":{"a":"1","b":"2"}}]}}"#
        );
    }

    #[test]
    fn an_unknown_key_is_ignored_or_refused_by_name() {
        let value = json!({"networkin": {}});
        assert!(from_value::<Dataplane>(value.clone(), UnknownFields::Ignored).is_ok());
        let refused = from_value::<Dataplane>(value, UnknownFields::Refused).unwrap_err();
        assert!(refused.to_string().contains("networkin"), "{refused}");
    }

    #[test]
    fn a_struct_is_sorted_at_every_level() {
        let value = json!({"metrics": {"backends": [{"name": "p", "type": "prometheus",
            "conf": {"z": 1, "a": {"y": true, "b": null}}}]}});
        let mesh: Mesh = from_value(value, UnknownFields::Refused).unwrap();
        let printed = to_value(&Mesh::full_name(), &mesh.encode_to_vec()).unwrap();
        assert_eq!(printed["metrics"]["backends"][0]["conf"].to_string(), r#"{"a":{"b":null,"y":true},"z":1}"#);
    }
}
