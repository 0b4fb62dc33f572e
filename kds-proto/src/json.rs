//! Canonical protobuf JSON, the only file that knows how: prost-reflect over the committed descriptor set.
//!
//! The order of keys is that of the fields in the `.proto` file, and map keys are sorted, as the real system prints
//! them (api-and-kumactl 1.3).

use std::sync::LazyLock;

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, Kind, MessageDescriptor};
use serde_json::{Map, Value};

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
    let descriptor = descriptor(message)?;
    let decoded = DynamicMessage::decode(descriptor.clone(), bytes)
        .map_err(|source| Error::Decode { message: message.to_owned(), source })?;
    let value = serde_json::to_value(&decoded).map_err(|e| Error::Shape(e.to_string()))?;
    Ok(in_declared_order(value, &descriptor))
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

/// Messages whose JSON is not an object of their fields.
fn has_own_json(message: &MessageDescriptor) -> bool {
    message.full_name().starts_with("google.protobuf.") && message.full_name() != "google.protobuf.Any"
}

fn in_declared_order(value: Value, message: &MessageDescriptor) -> Value {
    if has_own_json(message) {
        return with_sorted_keys(value);
    }
    let Value::Object(mut object) = value else { return value };
    let mut ordered = Map::new();
    let packed = object.get("@type").and_then(Value::as_str).and_then(|url| url.rsplit('/').next());
    let message = packed.and_then(|name| POOL.get_message_by_name(name)).unwrap_or_else(|| message.clone());
    if let Some(url) = object.shift_remove("@type") {
        ordered.insert("@type".to_owned(), url);
    }
    for declared in &message.descriptor_proto().field {
        let Some(field) = message.get_field_by_name(declared.name()) else { continue };
        let Some(inner) = object.shift_remove(field.json_name()) else { continue };
        ordered.insert(field.json_name().to_owned(), field_in_declared_order(inner, &field));
    }
    // What is left is the `value` of an Any with a well-known type inside.
    ordered.extend(object.into_iter().map(|(key, inner)| (key, with_sorted_keys(inner))));
    Value::Object(ordered)
}

fn field_in_declared_order(value: Value, field: &prost_reflect::FieldDescriptor) -> Value {
    if field.is_map() {
        let Value::Object(mut entries) = value else { return value };
        entries.sort_keys();
        let Kind::Message(entry) = field.kind() else { return Value::Object(entries) };
        let element = entry.map_entry_value_field();
        return entries.into_iter().map(|(key, inner)| (key, one_in_declared_order(inner, &element))).collect();
    }
    match value {
        Value::Array(items) if field.is_list() => {
            items.into_iter().map(|item| one_in_declared_order(item, field)).collect()
        }
        single => one_in_declared_order(single, field),
    }
}

fn one_in_declared_order(value: Value, field: &prost_reflect::FieldDescriptor) -> Value {
    match field.kind() {
        Kind::Message(message) => in_declared_order(value, &message),
        _ => plain_number(value),
    }
}

/// JSON of a well-known type: a `Struct` at any depth, a wrapper, a text.
fn with_sorted_keys(value: Value) -> Value {
    match value {
        Value::Object(mut object) => {
            object.sort_keys();
            object.into_iter().map(|(key, inner)| (key, with_sorted_keys(inner))).collect()
        }
        Value::Array(items) => items.into_iter().map(with_sorted_keys).collect(),
        leaf => plain_number(leaf),
    }
}

/// `1`, not `1.0`: a whole number prints without a fraction, as long as the text stays exact.
fn plain_number(value: Value) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value.as_f64() {
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
        Some(number) if value.is_f64() && number.fract() == 0.0 && number.abs() < EXACT => Value::from(number as i64),
        _ => value,
    }
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
