//! Messages as they are printed: the order of keys is that of the fields in the `.proto` file, and map keys are sorted,
//! as the real system does it (api-and-kumactl 1.3). prost-reflect prints in the order of field numbers.

use std::borrow::Cow;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};
use serde::ser::{Error as _, Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::Value as Json;

use super::{Error, POOL, descriptor};

/// A decoded message that prints as its JSON without a tree of values in between.
///
/// Serializing fails when an `Any` inside holds a message that we do not know.
#[derive(Debug)]
pub struct Printed(DynamicMessage);

impl Printed {
    /// Decodes a message by its full name.
    ///
    /// # Errors
    /// The name is unknown, or the bytes do not decode.
    pub fn decode(message: &str, bytes: &[u8]) -> Result<Self, Error> {
        let decoded = DynamicMessage::decode(descriptor(message)?, bytes);
        decoded.map(Self).map_err(|source| Error::Decode { message: message.to_owned(), source })
    }

    /// Adds its members to those of a larger object.
    ///
    /// # Errors
    /// As when it is serialized.
    pub fn members<M: SerializeMap>(&self, object: &mut M) -> Result<(), M::Error> {
        fields(&self.0, object)
    }
}

impl Serialize for Printed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        OneMessage(&self.0).serialize(serializer)
    }
}

struct OneMessage<'m>(&'m DynamicMessage);

impl Serialize for OneMessage<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.descriptor().full_name() {
            "google.protobuf.Any" => any(self.0, serializer),
            name if has_own_json(name) => {
                with_sorted_keys(serde_json::to_value(self.0).map_err(S::Error::custom)?).serialize(serializer)
            }
            _ => {
                let mut object = serializer.serialize_map(None)?;
                fields(self.0, &mut object)?;
                object.end()
            }
        }
    }
}

/// Whether the JSON of a message is not an object of its fields.
fn has_own_json(full_name: &str) -> bool {
    full_name.starts_with("google.protobuf.")
}

fn fields<M: SerializeMap>(message: &DynamicMessage, object: &mut M) -> Result<(), M::Error> {
    let mut set: Vec<(FieldDescriptor, &Value)> = message.fields().collect();
    // The last step of a path is the position in the file.
    set.sort_by_key(|(field, _)| field.path().last().copied());
    for (field, value) in set {
        object.serialize_entry(field.json_name(), &OneValue { value, kind: &field.kind() })?;
    }
    Ok(())
}

/// What is packed, with its type before it.
fn any<S: Serializer>(message: &DynamicMessage, serializer: S) -> Result<S::Ok, S::Error> {
    let packed: crate::Any = message.transcode_to().map_err(S::Error::custom)?;
    let name = packed.message_name();
    let descriptor =
        POOL.get_message_by_name(name).ok_or_else(|| S::Error::custom(format!("message '{name}' not found")))?;
    let inside = DynamicMessage::decode(descriptor, packed.value.as_ref()).map_err(S::Error::custom)?;
    let mut object = serializer.serialize_map(None)?;
    object.serialize_entry("@type", &packed.type_url)?;
    if has_own_json(name) {
        object.serialize_entry("value", &OneMessage(&inside))?;
    } else {
        fields(&inside, &mut object)?;
    }
    object.end()
}

struct OneValue<'m> {
    value: &'m Value,
    kind: &'m Kind,
}

impl Serialize for OneValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { value, kind } = *self;
        match value {
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::I32(value) => serializer.serialize_i32(*value),
            Value::U32(value) => serializer.serialize_u32(*value),
            Value::I64(value) => serializer.collect_str(value),
            Value::U64(value) => serializer.collect_str(value),
            Value::F32(value) => float(f64::from(*value), serializer),
            Value::F64(value) => float(*value, serializer),
            Value::String(value) => serializer.serialize_str(value),
            Value::Bytes(value) => serializer.serialize_str(&BASE64_STANDARD.encode(value)),
            Value::EnumNumber(number) => match kind {
                Kind::Enum(of) if of.full_name() == "google.protobuf.NullValue" => serializer.serialize_none(),
                Kind::Enum(of) => match of.get_value(*number) {
                    Some(value) => serializer.serialize_str(value.name()),
                    None => serializer.serialize_i32(*number),
                },
                _ => serializer.serialize_i32(*number),
            },
            Value::Message(message) => OneMessage(message).serialize(serializer),
            Value::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for value in items {
                    list.serialize_element(&OneValue { value, kind })?;
                }
                list.end()
            }
            Value::Map(entries) => {
                let of = match kind {
                    Kind::Message(entry) => entry.map_entry_value_field().kind(),
                    other => other.clone(),
                };
                let mut entries: Vec<(Cow<'_, str>, &Value)> =
                    entries.iter().map(|(key, value)| (key_text(key), value)).collect();
                entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
                let mut object = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    object.serialize_entry(&key, &OneValue { value, kind: &of })?;
                }
                object.end()
            }
        }
    }
}

fn key_text(key: &MapKey) -> Cow<'_, str> {
    match key {
        MapKey::Bool(key) => key.to_string().into(),
        MapKey::I32(key) => key.to_string().into(),
        MapKey::I64(key) => key.to_string().into(),
        MapKey::U32(key) => key.to_string().into(),
        MapKey::U64(key) => key.to_string().into(),
        MapKey::String(key) => key.as_str().into(),
    }
}

/// JSON of a well-known type: a `Struct` at any depth, a wrapper, a text.
fn with_sorted_keys(value: Json) -> Json {
    match value {
        Json::Object(mut object) => {
            object.sort_keys();
            object.into_iter().map(|(key, inner)| (key, with_sorted_keys(inner))).collect()
        }
        Json::Array(items) => items.into_iter().map(with_sorted_keys).collect(),
        Json::Number(number) if number.is_f64() => number.as_f64().map_or(Json::Null, plain),
        leaf => leaf,
    }
}

fn float<S: Serializer>(number: f64, serializer: S) -> Result<S::Ok, S::Error> {
    if number.is_finite() {
        return plain(number).serialize(serializer);
    }
    let name = match number {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    };
    serializer.serialize_str(name)
}

/// `1`, not `1.0`: a whole number prints without a fraction, as long as the text stays exact.
fn plain(number: f64) -> Json {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() < EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
        return Json::from(number as i64);
    }
    Json::from(number)
}
