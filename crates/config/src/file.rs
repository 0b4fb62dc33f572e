//! The configuration file: YAML whose every value knows its line. The only file that names this YAML reader.
//!
//! It reads YAML 1.1's booleans (`yes`, `on`) as Kuma's does, knows where each value stands, and has bounds of its own
//! for depth, size and aliases.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Spanned};

/// A value of the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A member of an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub key: String,
    /// Line of the value, from 1.
    pub line: u64,
    pub value: Node,
}

/// Reads a whole file; of an empty one there is nothing.
///
/// # Errors
/// It is no YAML, holds more than one document, repeats a key, or is not an object; the text names line and column.
pub(crate) fn read(text: &str) -> Result<Vec<Entry>, String> {
    let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::Error, with_snippet: false };
    let node = serde_saphyr::from_str_with_options::<Node>(text, options).map_err(|error| error.to_string())?;
    match node {
        Node::Null => Ok(Vec::new()),
        Node::Map(entries) => Ok(entries),
        other => Err(format!("the file has to hold an object, found {}", other.describe())),
    }
}

impl Node {
    /// Text of a scalar.
    pub fn scalar(&self) -> Option<String> {
        match self {
            Self::Bool(value) => Some(value.to_string()),
            Self::Int(value) => Some(value.to_string()),
            Self::Float(value) => Some(value.to_string()),
            Self::Text(value) => Some(value.clone()),
            Self::Null | Self::List(_) | Self::Map(_) => None,
        }
    }

    /// What it is, for messages.
    pub fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => format!("the number {value}"),
            Self::Float(value) => format!("the number {value}"),
            Self::Text(value) => format!("the text {value:?}"),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "an object".to_owned(),
        }
    }

    /// The same as JSON.
    pub fn json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Int(value) => i64::try_from(*value).map_or_else(|_| value.to_string().into(), Into::into),
            Self::Float(value) => (*value).into(),
            Self::Text(value) => value.clone().into(),
            Self::List(list) => list.iter().map(Self::json).collect(),
            Self::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), entry.value.json())).collect(),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a YAML value")
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }

            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Int(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Int(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Float(value))
            }

            fn visit_str<E>(self, value: &str) -> Result<Node, E> {
                Ok(Node::Text(value.to_owned()))
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
                Node::deserialize(deserializer)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = seq.next_element()? {
                    list.push(item);
                }
                Ok(Node::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    let value: Spanned<Node> = map.next_value()?;
                    entries.push(Entry { key, line: value.referenced.line(), value: value.value });
                }
                Ok(Node::Map(entries))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_of(entries: &[Entry], path: &[&str]) -> u64 {
        let entry = entries.iter().find(|entry| entry.key == path[0]).unwrap();
        match (&entry.value, &path[1..]) {
            (_, []) => entry.line,
            (Node::Map(inner), rest) => line_of(inner, rest),
            (other, _) => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_value_knows_its_line() {
        let entries =
            read("mode: zone\nmultizone:\n  zone:\n    # whose\n    name: east\n    kds: {maxMsgSize: 5}\n").unwrap();
        assert_eq!(line_of(&entries, &["mode"]), 1);
        assert_eq!(line_of(&entries, &["multizone", "zone", "name"]), 5);
        assert_eq!(line_of(&entries, &["multizone", "zone", "kds", "maxMsgSize"]), 6);
        assert_eq!(read("").unwrap(), []);
        assert_eq!(read("# nothing\n").unwrap(), []);
    }

    #[test]
    fn a_bad_file_is_refused_with_its_place() {
        // Each level holds the one before it nine times.
        let bomb = (1..12).fold("l0: &l0 [x]\n".to_owned(), |text, level| {
            let aliases = vec![format!("*l{}", level - 1); 9].join(",");
            format!("{text}l{level}: &l{level} [{aliases}]\n")
        });
        for (text, place) in [
            ("mode: zone\n\tstore: x\n", "found a tab"),
            ("mode: zone\nmode: global\n", "line 2"),
            ("mode: [1\n", "line"),
            ("- a\n", "has to hold an object, found a list"),
            (&bomb, ""),
            (&"[".repeat(100_000), ""),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(place) && error.lines().count() == 1, "{error}");
        }
    }
}
