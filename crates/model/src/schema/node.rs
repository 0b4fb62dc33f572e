//! A schema as a small tree, made from what `schemars` derives.

use regex::Regex;
use serde_json::{Map, Value};

/// A JSON type, by the name that messages use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Array,
    Boolean,
    Integer,
    Number,
    Object,
    String,
}

impl Type {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Array => "array",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Object => "object",
            Self::String => "string",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Array, Self::Boolean, Self::Integer, Self::Number, Self::Object, Self::String]
            .into_iter()
            .find(|known| known.name() == name)
    }
}

/// A format that is checked; others say nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Int32,
    Int64,
    DateTime,
}

impl Format {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::DateTime => "date-time",
        }
    }

    fn named(name: &str) -> Option<Self> {
        match name {
            "int8" | "int16" | "int32" | "uint8" | "uint16" | "uint32" => Some(Self::Int32),
            "int" | "int64" | "uint" | "uint64" => Some(Self::Int64),
            "date-time" => Some(Self::DateTime),
            _ => None,
        }
    }
}

/// What a text has to look like.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) text: String,
    /// `None` when the expression is not one of ours; a test keeps that from happening.
    pub(super) regex: Option<Regex>,
}

/// One level of a schema; whatever is empty does not restrict.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) of_type: Option<Type>,
    pub(super) format: Option<Format>,
    pub(super) choices: Vec<Value>,
    pub(super) default: Option<Value>,
    pub(super) minimum: Option<f64>,
    pub(super) maximum: Option<f64>,
    pub(super) length: Bounds,
    pub(super) items: Bounds,
    pub(super) entries: Bounds,
    pub(super) pattern: Option<Pattern>,
    pub(super) properties: Vec<(String, Node)>,
    pub(super) required: Vec<String>,
    pub(super) additional: Option<Box<Node>>,
    pub(super) item: Option<Box<Node>>,
    pub(super) any_of: Vec<Node>,
}

/// How many there may be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds {
    pub(super) least: Option<u64>,
    pub(super) most: Option<u64>,
}

impl Node {
    /// A tree from a JSON schema without references.
    pub(super) fn compile(schema: &Value) -> Self {
        let Some(schema) = schema.as_object() else { return Self::default() };
        let schema = &without_null(schema);
        let bounds = |least: &str, most: &str| Bounds {
            least: schema.get(least).and_then(Value::as_u64),
            most: schema.get(most).and_then(Value::as_u64),
        };
        let (minimum, maximum) = number_bounds(schema);
        let mut node = Self {
            of_type: schema.get("type").and_then(Value::as_str).and_then(Type::named),
            format: schema.get("format").and_then(Value::as_str).and_then(Format::named),
            choices: choices(schema),
            default: schema.get("default").filter(|default| !default.is_null()).cloned(),
            minimum,
            maximum,
            length: bounds("minLength", "maxLength"),
            items: bounds("minItems", "maxItems"),
            entries: bounds("minProperties", "maxProperties"),
            pattern: schema.get("pattern").and_then(Value::as_str).map(Pattern::compile),
            properties: members(schema, "properties").map(|(name, of)| (name.clone(), Self::compile(of))).collect(),
            required: list(schema, "required").filter_map(Value::as_str).map(str::to_owned).collect(),
            additional: schema.get("additionalProperties").filter(|of| of.is_object()).map(Self::boxed),
            item: schema.get("items").map(Self::boxed),
            any_of: Vec::new(),
        };
        node.required.sort_unstable();
        if node.choices.is_empty() {
            node.any_of = list(schema, "anyOf").chain(list(schema, "oneOf")).map(Self::compile).collect();
        } else if node.of_type.is_none() && node.choices.iter().all(Value::is_string) {
            node.of_type = Some(Type::String);
        }
        node
    }

    /// The same with members that have to be there, reported in this order.
    pub(super) fn requiring<const N: usize>(self, members: [&str; N]) -> Self {
        Self { required: members.map(str::to_owned).into(), ..self }
    }

    /// Completes a value at every depth. A `null` where a default exists is as good as nothing.
    pub(super) fn fill_defaults(&self, value: &mut Value) {
        match value {
            Value::Object(members) => {
                for (name, node) in &self.properties {
                    let Some(default) = &node.default else { continue };
                    if members.get(name).is_none_or(Value::is_null) {
                        members.insert(name.clone(), default.clone());
                    }
                }
                for (name, member) in members {
                    if let Some(node) = self.property(name).or(self.additional.as_deref()) {
                        node.fill_defaults(member);
                    }
                }
            }
            Value::Array(items) => {
                let Some(node) = &self.item else { return };
                items.iter_mut().for_each(|item| node.fill_defaults(item));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    pub(super) fn property(&self, name: &str) -> Option<&Self> {
        self.properties.iter().find(|(known, _)| known == name).map(|(_, node)| node)
    }

    fn boxed(schema: &Value) -> Box<Self> {
        Box::new(Self::compile(schema))
    }

    #[cfg(test)]
    pub(super) fn patterns_not_understood(&self) -> Vec<String> {
        let own = self.pattern.iter().filter(|pattern| pattern.regex.is_none()).map(|pattern| pattern.text.clone());
        let below = self.properties.iter().map(|(_, node)| node).chain(self.additional.as_deref());
        let below = below.chain(self.item.as_deref()).chain(&self.any_of).flat_map(Self::patterns_not_understood);
        own.chain(below).collect()
    }
}

impl Pattern {
    fn compile(text: &str) -> Self {
        Self { text: text.to_owned(), regex: Regex::new(text).ok() }
    }
}

fn list<'a>(schema: &'a Map<String, Value>, key: &str) -> impl Iterator<Item = &'a Value> {
    schema.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn members<'a>(schema: &'a Map<String, Value>, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    schema.get(key).and_then(Value::as_object).into_iter().flatten()
}

/// The schema of `T` from that of `Option<T>`, which `schemars` writes in one of three ways.
fn without_null(schema: &Map<String, Value>) -> Map<String, Value> {
    let mut plain = schema.clone();
    if let Some(Value::Array(types)) = schema.get("type") {
        let mut types = types.iter().filter(|name| *name != "null");
        match (types.next(), types.next()) {
            (Some(only), None) => plain.insert("type".into(), only.clone()),
            _ => plain.remove("type"),
        };
    }
    if let Some(Value::Array(choices)) = schema.get("enum") {
        plain.insert("enum".into(), choices.iter().filter(|choice| !choice.is_null()).cloned().collect());
    }
    for key in ["anyOf", "oneOf"] {
        let Some(Value::Array(variants)) = schema.get(key) else { continue };
        let real: Vec<&Value> = variants.iter().filter(|variant| variant["type"] != "null").collect();
        if let ([Value::Object(only)], true) = (real.as_slice(), real.len() < variants.len()) {
            plain.remove(key);
            let mut inner = without_null(only);
            inner.extend(plain);
            plain = inner;
        }
    }
    plain
}

/// The set of an enumeration: `enum`, `const`, or a list of such.
fn choices(schema: &Map<String, Value>) -> Vec<Value> {
    if let Some(only) = schema.get("const") {
        return vec![only.clone()];
    }
    if schema.contains_key("enum") {
        return list(schema, "enum").cloned().collect();
    }
    let variants: Vec<Vec<Value>> =
        list(schema, "oneOf").map(|variant| variant.as_object().map(choices).unwrap_or_default()).collect();
    if variants.iter().any(Vec::is_empty) { Vec::new() } else { variants.concat() }
}

/// Bounds that somebody asked for: an unsigned type brings 0 and, when small, its greatest value along.
fn number_bounds(schema: &Map<String, Value>) -> (Option<f64>, Option<f64>) {
    let minimum = schema.get("minimum").and_then(Value::as_f64);
    let maximum = schema.get("maximum").and_then(Value::as_f64);
    let greatest = match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => Some(f64::from(u8::MAX)),
        Some("uint16") => Some(f64::from(u16::MAX)),
        Some("uint" | "uint32" | "uint64") => None,
        _ => return (minimum, maximum),
    };
    if minimum != Some(0.0) {
        return (minimum, maximum);
    }
    (None, maximum.filter(|_| maximum != greatest))
}
