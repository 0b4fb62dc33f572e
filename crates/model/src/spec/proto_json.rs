//! Messages from JSON as Kuma reads it, which is looser than canonical protobuf JSON and complains in words of its own
//! (api-and-kumactl 1.3, 1.4).
//!
//! Kuma's API still uses the first Go library for protobuf JSON: members may have the name of the proto file too,
//! unknown ones are dropped, numbers may be quoted, durations are Go durations (`1h30m`), the last member of a `oneof`
//! wins, and what does not fit is reported in the words of Go's JSON decoder, without the path of the field.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use kds_proto::json::{pool, to_value};
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value as Field};
use prost_types::Struct;
use serde_json::{Map, Value};

use crate::duration::GoDuration;

/// Why JSON is no message of the type, in the words that Kuma's users know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

type Result<T> = std::result::Result<T, Error>;

/// A message from its JSON form.
///
/// # Errors
/// A value has another type than its field, a name is not in its enumeration, a number does not fit.
pub fn from_value<M: Message + Name + Default>(value: &Value) -> Result<M> {
    let message = dynamic(&M::full_name(), value)?;
    message.transcode_to().map_err(|fault| Error(fault.to_string()))
}

/// A message of any type that we know, by its full name (`envoy.config.cluster.v3.Cluster`).
///
/// # Errors
/// As [`from_value`]; and when we do not know the type.
pub fn dynamic(name: &str, value: &Value) -> Result<DynamicMessage> {
    let descriptor = pool().get_message_by_name(name).ok_or_else(|| Error(format!("unknown message type {name:?}")))?;
    message(descriptor, value)
}

/// A message from the loose form that settings of backends have; the zero value when there are none.
///
/// # Errors
/// As [`from_value`].
pub fn from_struct<M: Message + Name + Default>(loose: Option<&Struct>) -> Result<M> {
    let Some(loose) = loose else { return Ok(M::default()) };
    from_value(&struct_to_value(loose)?)
}

/// The JSON of the loose form.
///
/// # Errors
/// It holds a number that is not finite.
pub fn struct_to_value(loose: &Struct) -> Result<Value> {
    to_value("google.protobuf.Struct", &loose.encode_to_vec()).map_err(|fault| Error(fault.to_string()))
}

/// The loose form of a message, as settings of backends are stored.
///
/// # Errors
/// The message has no JSON form.
pub fn to_struct<M: Message + Name>(message: &M) -> Result<Struct> {
    let value = to_value(&M::full_name(), &message.encode_to_vec()).map_err(|fault| Error(fault.to_string()))?;
    let loose = dynamic("google.protobuf.Struct", &value)?;
    loose.transcode_to().map_err(|fault| Error(fault.to_string()))
}

fn message(descriptor: MessageDescriptor, value: &Value) -> Result<DynamicMessage> {
    let mut made = DynamicMessage::new(descriptor.clone());
    if value.is_null() && descriptor.full_name() != "google.protobuf.Value" {
        return Ok(made);
    }
    match descriptor.full_name().strip_prefix("google.protobuf.") {
        Some("Any") => any(made, object(value)?),
        Some("Duration") => {
            let text = value.as_str().ok_or_else(|| mismatch(value, "string"))?;
            let read: GoDuration = text.parse().map_err(|fault| Error(format!("bad Duration: {fault}")))?;
            let read = prost_types::Duration::from(read);
            made.set_field_by_name("seconds", Field::I64(read.seconds));
            made.set_field_by_name("nanos", Field::I32(read.nanos));
            Ok(made)
        }
        Some("Timestamp" | "Struct" | "Value" | "ListValue" | "FieldMask" | "Empty") => well_known(descriptor, value),
        Some(name) if name.ends_with("Value") => {
            for field in descriptor.fields() {
                made.set_field(&field, single(&field.kind(), value)?);
            }
            Ok(made)
        }
        _ => {
            let members = object(value)?;
            for declared in &descriptor.descriptor_proto().field {
                let Some(field) = descriptor.get_field_by_name(declared.name()) else { continue };
                let member = members.get(field.json_name()).or_else(|| members.get(field.name()));
                let Some(member) = member.filter(|member| !member.is_null() || is_null_meant(&field)) else { continue };
                made.set_field(&field, any_cardinality(&field, member)?);
            }
            Ok(made)
        }
    }
}

/// `null` in a field of type `Value` is a value; elsewhere it is the absence of one.
fn is_null_meant(field: &FieldDescriptor) -> bool {
    !field.is_list() && matches!(field.kind(), Kind::Message(message) if message.full_name() == "google.protobuf.Value")
}

fn any_cardinality(field: &FieldDescriptor, value: &Value) -> Result<Field> {
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else { return Err(Error(format!("bad map {}", field.name()))) };
        let (key_kind, value_kind) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
        let entries = object(value)?.iter().map(|(key, value)| {
            let key = match key_kind {
                Kind::String => MapKey::String(key.clone()),
                _ => single(&key_kind, &Value::from(key.as_str()))?
                    .into_map_key()
                    .ok_or_else(|| Error(format!("bad map key {key:?}")))?,
            };
            Ok((key, single(&value_kind, value)?))
        });
        return Ok(Field::Map(entries.collect::<Result<_>>()?));
    }
    if field.is_list() {
        let items = value.as_array().ok_or_else(|| mismatch(value, "[]json.RawMessage"))?;
        return Ok(Field::List(items.iter().map(|item| single(&field.kind(), item)).collect::<Result<_>>()?));
    }
    single(&field.kind(), value)
}

fn single(kind: &Kind, value: &Value) -> Result<Field> {
    // Go leaves the zero value where it reads `null`.
    if value.is_null() && !matches!(kind, Kind::Message(_)) {
        return Ok(Field::default_value(kind));
    }
    match kind {
        Kind::Message(descriptor) => Ok(Field::Message(message(descriptor.clone(), value)?)),
        Kind::Bool => value.as_bool().map(Field::Bool).ok_or_else(|| mismatch(value, "bool")),
        Kind::String => match value {
            Value::String(text) => Ok(Field::String(text.clone())),
            other => Err(mismatch(other, "string")),
        },
        Kind::Bytes => bytes(value).map(|bytes| Field::Bytes(bytes.into())),
        Kind::Enum(names) => match value {
            Value::String(name) => {
                let unknown =
                    || Error(format!("unknown value {} for enum {}", quote(&value.to_string()), names.full_name()));
                Ok(Field::EnumNumber(names.get_value_by_name(name).ok_or_else(unknown)?.number()))
            }
            other => number(other, "protoreflect.EnumNumber").map(Field::EnumNumber),
        },
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => number(value, "int32").map(Field::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => number(value, "int64").map(Field::I64),
        Kind::Uint32 | Kind::Fixed32 => number(value, "uint32").map(Field::U32),
        Kind::Uint64 | Kind::Fixed64 => number(value, "uint64").map(Field::U64),
        Kind::Float => number(value, "float32").map(Field::F32),
        Kind::Double => number(value, "float64").map(Field::F64),
    }
}

/// A number, quoted or not.
fn number<N: std::str::FromStr>(value: &Value, go_type: &str) -> Result<N> {
    let literal = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => {
            if go_type.starts_with("float") && matches!(text.as_str(), "NaN" | "Infinity" | "-Infinity") {
                text.clone()
            } else {
                return number_in_quotes(text, go_type);
            }
        }
        other => return Err(mismatch(other, go_type)),
    };
    literal.parse().map_err(|_| cannot(&format!("number {literal}"), go_type))
}

/// Kuma drops the quotes and reads what is left as JSON.
fn number_in_quotes<N: std::str::FromStr>(text: &str, go_type: &str) -> Result<N> {
    match serde_json::from_str(text) {
        Ok(Value::String(_)) | Err(_) => Err(Error(not_json(text))),
        Ok(inner) => number(&inner, go_type),
    }
}

/// What Go's JSON scanner says of a text that is no JSON.
fn not_json(text: &str) -> String {
    let text = text.trim_start_matches([' ', '\t', '\n', '\r']);
    let after_number = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-' || c == '.');
    let starts_value = |c: char| "{[\"tfn".contains(c);
    match (text.chars().next(), after_number.chars().next()) {
        (None, _) => "unexpected end of JSON input".to_owned(),
        (Some(first), Some(next)) if first.is_ascii_digit() || first == '-' => {
            format!("invalid character {} after top-level value", quote_char(next))
        }
        (Some(first), _) if !starts_value(first) && !first.is_ascii_digit() => {
            format!("invalid character {} looking for beginning of value", quote_char(first))
        }
        _ => "unexpected end of JSON input".to_owned(),
    }
}

fn bytes(value: &Value) -> Result<Vec<u8>> {
    const READER: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
    );
    let text = value.as_str().ok_or_else(|| mismatch(value, "[]uint8"))?;
    let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    READER.decode(&text).map_err(|fault| {
        let position = match fault {
            base64::DecodeError::InvalidByte(position, _) | base64::DecodeError::InvalidLastSymbol(position, _) => {
                position
            }
            base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => text.len() / 4 * 4,
        };
        Error(format!("illegal base64 data at input byte {position}"))
    })
}

/// Types whose JSON is the same everywhere.
fn well_known(descriptor: MessageDescriptor, value: &Value) -> Result<DynamicMessage> {
    let name = match descriptor.name() {
        "Struct" if !value.is_object() => {
            return Err(Error(format!("bad StructValue: {}", mismatch(value, "map[string]json.RawMessage"))));
        }
        "ListValue" if !value.is_array() => {
            return Err(Error(format!("bad ListValue: {}", mismatch(value, "[]json.RawMessage"))));
        }
        name => name.to_owned(),
    };
    DynamicMessage::deserialize(descriptor, value).map_err(|fault| Error(format!("bad {name}: {fault}")))
}

fn any(mut made: DynamicMessage, members: &Map<String, Value>) -> Result<DynamicMessage> {
    let url = members.get("@type").ok_or_else(|| Error("Any JSON doesn't have '@type'".to_owned()))?;
    let url =
        url.as_str().ok_or_else(|| Error(format!("can't unmarshal Any's '@type': {}", quote(&url.to_string()))))?;
    let descriptor = pool().get_message_by_name(url.rsplit('/').next().unwrap_or(url));
    let descriptor = descriptor.ok_or_else(|| Error(format!("could not resolve Any message type: {url}")))?;
    let content = if descriptor.full_name().starts_with("google.protobuf.") {
        members.get("value").cloned().ok_or_else(|| Error("Any JSON doesn't have 'value'".to_owned()))?
    } else {
        members.iter().filter(|(key, _)| *key != "@type").map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let nested = |fault| Error(format!("can't unmarshal Any nested proto {url}: {fault}"));
    let content = message(descriptor, &content).map_err(nested)?;
    made.set_field_by_name("type_url", Field::String(url.to_owned()));
    made.set_field_by_name("value", Field::Bytes(content.encode_to_vec().into()));
    Ok(made)
}

fn object(value: &Value) -> Result<&Map<String, Value>> {
    value.as_object().ok_or_else(|| mismatch(value, "map[string]json.RawMessage"))
}

fn mismatch(value: &Value, go_type: &str) -> Error {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    cannot(found, go_type)
}

fn cannot(found: &str, go_type: &str) -> Error {
    Error(format!("json: cannot unmarshal {found} into Go value of type {go_type}"))
}

/// A text in double quotes, escaped as Go's `%q` does.
pub fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            c => push_escaped(&mut quoted, c),
        }
    }
    quoted.push('"');
    quoted
}

/// A character in single quotes, escaped as Go's `%q` does.
pub fn quote_char(c: char) -> String {
    let mut quoted = String::from("'");
    match c {
        '\'' => quoted.push_str("\\'"),
        c => push_escaped(&mut quoted, c),
    }
    quoted.push('\'');
    quoted
}

fn push_escaped(quoted: &mut String, c: char) {
    match c {
        '\\' => quoted.push_str("\\\\"),
        '\x07' => quoted.push_str("\\a"),
        '\x08' => quoted.push_str("\\b"),
        '\x0c' => quoted.push_str("\\f"),
        '\n' => quoted.push_str("\\n"),
        '\r' => quoted.push_str("\\r"),
        '\t' => quoted.push_str("\\t"),
        '\x0b' => quoted.push_str("\\v"),
        c if c.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
        c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
        c => quoted.push(c),
    }
}

#[cfg(test)]
mod tests {
    use kds_proto::kuma::mesh::v1alpha1::{Dataplane, HealthCheck, Mesh, Timeout, TrafficRoute};
    use kds_proto::kuma::system::v1alpha1::{DataSource, Secret, Zone};
    use serde_json::json;

    use super::*;

    fn fault<M: Message + Name + Default + std::fmt::Debug>(value: Value) -> String {
        from_value::<M>(&value).unwrap_err().to_string()
    }

    #[test]
    fn what_does_not_fit_is_said_in_the_words_of_go() {
        let inbound =
            |member: &str, value: Value| fault::<Dataplane>(json!({"networking": {"inbound": [{member: value}]}}));
        let cannot = |found, go_type| format!("json: cannot unmarshal {found} into Go value of type {go_type}");
        let object = "map[string]json.RawMessage";
        assert_eq!(fault::<Mesh>(json!({"mtls": "x"})), cannot("string", object));
        assert_eq!(fault::<Mesh>(json!({"mtls": []})), cannot("array", object));
        assert_eq!(fault::<Mesh>(json!({"mtls": {"backends": {}}})), cannot("object", "[]json.RawMessage"));
        assert_eq!(fault::<Zone>(json!({"enabled": "maybe"})), cannot("string", "bool"));
        assert_eq!(inbound("port", json!(true)), cannot("bool", "uint32"));
        assert_eq!(inbound("port", json!(-1)), cannot("number -1", "uint32"));
        assert_eq!(inbound("port", json!(1.5)), cannot("number 1.5", "uint32"));
        assert_eq!(inbound("port", json!(4_294_967_296_u64)), cannot("number 4294967296", "uint32"));
        assert_eq!(inbound("port", json!("80x")), "invalid character 'x' after top-level value");
        assert_eq!(inbound("port", json!("x80")), "invalid character 'x' looking for beginning of value");
        assert_eq!(inbound("port", json!("")), "unexpected end of JSON input");
        assert_eq!(inbound("address", json!(7)), cannot("number", "string"));
        assert_eq!(inbound("tags", json!({"a": 1})), cannot("number", "string"));
        assert_eq!(inbound("tags", json!(["a"])), cannot("array", object));
        assert_eq!(inbound("state", json!({})), cannot("object", "protoreflect.EnumNumber"));
        let state = "kuma.mesh.v1alpha1.Dataplane.Networking.Inbound.State";
        assert_eq!(inbound("state", json!("Foo")), format!(r#"unknown value "\"Foo\"" for enum {state}"#));
        assert_eq!(
            fault::<Mesh>(json!({"mtls": {"backends": [{"conf": "x"}]}})),
            format!("bad StructValue: {}", cannot("string", object))
        );
    }

    #[test]
    fn durations_are_those_of_go() {
        let timeout = |text: &str| from_value::<Timeout>(&json!({"conf": {"connectTimeout": text}}));
        let made = timeout("1m0.5s").unwrap().conf.unwrap().connect_timeout.unwrap();
        assert_eq!((made.seconds, made.nanos), (60, 500_000_000));
        let made = timeout("-1.5s").unwrap().conf.unwrap().connect_timeout.unwrap();
        assert_eq!((made.seconds, made.nanos), (-1, -500_000_000));
        assert_eq!(timeout("abc").unwrap_err().to_string(), r#"bad Duration: time: invalid duration "abc""#);
        assert_eq!(
            fault::<Timeout>(json!({"conf": {"connectTimeout": 5}})),
            "json: cannot unmarshal number into Go value of type string"
        );
    }

    #[test]
    fn bytes_are_standard_base64() {
        let secret = |text: &str| from_value::<Secret>(&json!({"data": text}));
        assert_eq!(secret("dGVz\r\ndA==").unwrap().data.as_deref(), Some(b"test".as_slice()));
        assert_eq!(secret("***").unwrap_err().to_string(), "illegal base64 data at input byte 0");
        assert_eq!(secret("dGVzd").unwrap_err().to_string(), "illegal base64 data at input byte 4");
        assert_eq!(secret("dG-z").unwrap_err().to_string(), "illegal base64 data at input byte 2");
        assert_eq!(fault::<Secret>(json!({"data": 5})), "json: cannot unmarshal number into Go value of type []uint8");
    }

    #[test]
    fn input_is_read_generously() {
        let made: HealthCheck = from_value(&json!({
            "name": "x", "conf": {"unhealthy_threshold": "3", "healthyThreshold": 2, "http": {"expectedStatuses": [200, null]}, "zzz": 1}
        }))
        .unwrap();
        let conf = made.conf.unwrap();
        assert_eq!((conf.unhealthy_threshold, conf.healthy_threshold), (3, 2));
        assert_eq!(conf.http.unwrap().expected_statuses, [200, 0]);
        let made: TrafficRoute = from_value(&json!({"conf": null, "sources": [null]})).unwrap();
        assert_eq!((made.conf, made.sources.len()), (None, 1));
    }

    #[test]
    fn the_last_of_alternatives_wins() {
        use kds_proto::kuma::system::v1alpha1::data_source::Type;
        let made: DataSource = from_value(&json!({"inlineString": "b", "secret": "a"})).unwrap();
        assert_eq!(made.r#type, Some(Type::InlineString("b".to_owned())));
    }

    #[test]
    fn an_any_is_read_by_its_type() {
        let any = |value: Value| dynamic("google.protobuf.Any", &value).map(|_| ()).map_err(|fault| fault.to_string());
        let cluster = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
        assert_eq!(any(json!({"@type": cluster, "name": "a", "connectTimeout": "5s"})), Ok(()));
        assert_eq!(any(json!({"name": "a"})), Err("Any JSON doesn't have '@type'".to_owned()));
        assert_eq!(any(json!({"@type": "a/b.C"})), Err("could not resolve Any message type: a/b.C".to_owned()));
        assert_eq!(
            any(json!({"@type": cluster, "name": 5})),
            Err(format!(
                "can't unmarshal Any nested proto {cluster}: json: cannot unmarshal number into Go value of type string"
            ))
        );
    }

    #[test]
    fn quoting_is_that_of_go() {
        assert_eq!(quote("a\"b\\\n\u{1}ü'"), r#""a\"b\\\n\x01ü'""#);
        assert_eq!(quote_char('\''), r"'\''");
    }
}
