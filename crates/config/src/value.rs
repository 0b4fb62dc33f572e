//! Values of settings: what a key may hold, read from text or from the file, written as JSON.

use std::collections::BTreeMap;
use std::fmt;

use model::duration::GoDuration;
use serde_json::json;

use crate::file::Node;

/// What a key holds; named after Kuma's types, which its messages name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int,
    Int32,
    Int64,
    Uint,
    Uint16,
    Uint32,
    Uint64,
    Text,
    Duration,
    Texts,
    Uints,
    Map,
    /// A list of objects, only in the file.
    Documents,
}

/// What a setting is set to.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number that is not negative.
    Uint(u64),
    /// Text.
    Text(String),
    /// A span of time.
    Duration(GoDuration),
    /// A list of texts.
    Texts(Vec<String>),
    /// A list of numbers.
    Uints(Vec<u32>),
    /// Names and values.
    Map(BTreeMap<String, String>),
    /// Objects.
    Documents(Vec<serde_json::Value>),
}

impl Kind {
    /// Name of the Go type.
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Uint => "uint",
            Self::Uint16 => "uint16",
            Self::Uint32 => "uint32",
            Self::Uint64 => "uint64",
            Self::Text => "string",
            Self::Duration => "types.Duration",
            Self::Texts => "[]string",
            Self::Uints => "[]uint32",
            Self::Map => "map[string]string",
            Self::Documents => "[]types.PublicKey",
        }
    }

    /// Reads the spelling of environment variables and flags; an empty text is a value.
    ///
    /// # Errors
    /// What Go's parsers say.
    pub fn parse(self, text: &str) -> Result<Value, String> {
        Ok(match self {
            Self::Bool => Value::Bool(parse_bool(text)?),
            Self::Int | Self::Int32 | Self::Int64 => Value::Int(self.int(parse_int("ParseInt", text)?, text)?),
            Self::Uint | Self::Uint16 | Self::Uint32 | Self::Uint64 => Value::Uint(self.uint(text)?),
            Self::Text => Value::Text(text.to_owned()),
            Self::Duration => Value::Duration(text.parse().map_err(|e: model::duration::DurationError| e.to_string())?),
            Self::Texts => Value::Texts(items(text).map(str::to_owned).collect()),
            Self::Uints => Value::Uints(items(text).map(parse_uint32).collect::<Result<_, _>>()?),
            Self::Map => Value::Map(items(text).map(parse_pair).collect::<Result<_, _>>()?),
            Self::Documents if text.trim().is_empty() => Value::Documents(Vec::new()),
            Self::Documents => return Err("set it in the configuration file".to_owned()),
        })
    }

    fn int(self, number: i128, text: &str) -> Result<i64, String> {
        let fits = self != Self::Int32 || i32::try_from(number).is_ok();
        i64::try_from(number).ok().filter(|_| fits).ok_or_else(|| out_of_range("ParseInt", text))
    }

    fn uint(self, text: &str) -> Result<u64, String> {
        if text.starts_with(['-', '+']) {
            return Err(invalid_syntax("ParseUint", text));
        }
        let number = parse_int("ParseUint", text)?;
        let max = match self {
            Self::Uint16 => u64::from(u16::MAX),
            Self::Uint32 => u64::from(u32::MAX),
            _ => u64::MAX,
        };
        u64::try_from(number).ok().filter(|number| *number <= max).ok_or_else(|| out_of_range("ParseUint", text))
    }

    /// Reads a value of the file. Scalars may be written as text where text is wanted, as Kuma's YAML reader has it.
    ///
    /// # Errors
    /// What it has to be and what was found.
    pub fn read(self, node: &Node) -> Result<Value, String> {
        let wanted = match (self, node) {
            (Self::Bool, Node::Bool(value)) => return Ok(Value::Bool(*value)),
            (Self::Bool, _) => "true or false",
            (Self::Duration, Node::Int(nanos)) => {
                let nanos = i64::try_from(*nanos).map_err(|_| format!("{nanos} is out of range"))?;
                return Ok(Value::Duration(GoDuration::from_nanos(nanos)));
            }
            (Self::Duration, Node::Text(text)) => return self.parse(text),
            (Self::Duration, _) => "a duration such as 10s",
            (Self::Text, _) => match node.scalar() {
                Some(text) => return Ok(Value::Text(text)),
                None => "a text",
            },
            (Self::Texts, Node::List(list)) => match list.iter().map(Node::scalar).collect() {
                Some(texts) => return Ok(Value::Texts(texts)),
                None => "a list of texts",
            },
            (Self::Texts, _) => "a list of texts",
            (Self::Uints, Node::List(list)) => {
                let numbers = list.iter().map(|item| parse_uint32(&item.scalar().unwrap_or_default()));
                return numbers.collect::<Result<_, _>>().map(Value::Uints);
            }
            (Self::Uints, _) => "a list of numbers",
            (Self::Map, Node::Map(entries)) => {
                let pairs = entries.iter().map(|entry| Some((entry.key.clone(), entry.value.scalar()?)));
                match pairs.collect() {
                    Some(map) => return Ok(Value::Map(map)),
                    None => "an object of texts",
                }
            }
            (Self::Map, _) => "an object of texts",
            (Self::Documents, Node::List(list)) => return Ok(Value::Documents(list.iter().map(Node::json).collect())),
            (Self::Documents, _) => "a list of objects",
            (_, Node::Int(number)) => return self.parse(&number.to_string()),
            _ => "a whole number",
        };
        Err(format!("has to be {wanted}, found {}", node.describe()))
    }
}

/// Items of a comma-separated list; of blank text there are none.
fn items(text: &str) -> impl Iterator<Item = &str> {
    let text = if text.trim().is_empty() { None } else { Some(text) };
    text.into_iter().flat_map(|text| text.split(','))
}

fn invalid_syntax(function: &str, text: &str) -> String {
    format!("strconv.{function}: parsing {text:?}: invalid syntax")
}

fn out_of_range(function: &str, text: &str) -> String {
    format!("strconv.{function}: parsing {text:?}: value out of range")
}

fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(invalid_syntax("ParseBool", text)),
    }
}

/// A whole number in Go's spelling: decimal, `0x`, `0o`, `0b`, octal with a leading zero, underscores between digits.
fn parse_int(function: &str, text: &str) -> Result<i128, String> {
    let invalid = || invalid_syntax(function, text);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        Some(_) if lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, &*lower),
    };
    if digits.starts_with('+') || digits.starts_with('-') || digits.ends_with('_') || digits.contains("__") {
        return Err(invalid());
    }
    let number = i128::from_str_radix(&digits.replace('_', ""), radix).map_err(|error| match error.kind() {
        std::num::IntErrorKind::PosOverflow => out_of_range(function, text),
        _ => invalid(),
    })?;
    Ok(if negative { -number } else { number })
}

fn parse_uint32(text: &str) -> Result<u32, String> {
    let number = Kind::Uint32.uint(text)?;
    u32::try_from(number).map_err(|_| out_of_range("ParseUint", text))
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("invalid map item: {text:?}"))?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Value {
    /// As Kuma's `/config` writes it.
    pub fn json(&self) -> serde_json::Value {
        match self {
            Self::Bool(value) => json!(value),
            Self::Int(value) => json!(value),
            Self::Uint(value) => json!(value),
            Self::Text(value) => json!(value),
            Self::Duration(value) => json!(value.to_string()),
            Self::Texts(value) => json!(value),
            Self::Uints(value) => json!(value),
            Self::Map(value) => json!(value),
            Self::Documents(value) => json!(value),
        }
    }

    /// Whether it is its type's zero value.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Bool(value) => !value,
            Self::Int(value) => *value == 0,
            Self::Uint(value) => *value == 0,
            Self::Text(value) => value.is_empty(),
            Self::Duration(value) => value.is_zero(),
            Self::Texts(value) => value.is_empty(),
            Self::Uints(value) => value.is_empty(),
            Self::Map(value) => value.is_empty(),
            Self::Documents(value) => value.is_empty(),
        }
    }
}

/// As a person reads it, in the spelling of the environment.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Uint(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
            Self::Duration(value) => value.fmt(f),
            Self::Texts(value) => f.write_str(&value.join(",")),
            Self::Uints(value) => f.write_str(&value.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
            Self::Map(value) => {
                let pairs: Vec<String> = value.iter().map(|(name, value)| format!("{name}:{value}")).collect();
                f.write_str(&pairs.join(","))
            }
            Self::Documents(value) => write!(f, "{}", serde_json::Value::from(value.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_as_go_reads_it() {
        let parsed = |kind: Kind, text| kind.parse(text).unwrap().to_string();
        assert_eq!(parsed(Kind::Bool, "T"), "true");
        assert_eq!(parsed(Kind::Int, "0x1f"), "31");
        assert_eq!(parsed(Kind::Int, "-017"), "-15");
        assert_eq!(parsed(Kind::Uint32, "1_000"), "1000");
        assert_eq!(parsed(Kind::Duration, "90s"), "1m30s");
        assert_eq!(parsed(Kind::Texts, "a, b"), "a, b");
        assert_eq!(Kind::Texts.parse(" ").unwrap(), Value::Texts(Vec::new()));
        assert_eq!(parsed(Kind::Map, "a:b,c:d:e"), "a:b,c:d:e");
    }

    #[test]
    fn what_go_refuses_is_refused_with_its_words() {
        for (kind, text, error) in [
            (Kind::Bool, "yes", r#"strconv.ParseBool: parsing "yes": invalid syntax"#),
            (Kind::Int, "", r#"strconv.ParseInt: parsing "": invalid syntax"#),
            (Kind::Int, "12a", r#"strconv.ParseInt: parsing "12a": invalid syntax"#),
            (Kind::Int32, "3000000000", r#"strconv.ParseInt: parsing "3000000000": value out of range"#),
            (Kind::Uint16, "65536", r#"strconv.ParseUint: parsing "65536": value out of range"#),
            (Kind::Uint32, "-1", r#"strconv.ParseUint: parsing "-1": invalid syntax"#),
            (
                Kind::Uint,
                &"9".repeat(60),
                &format!("strconv.ParseUint: parsing {:?}: value out of range", "9".repeat(60)),
            ),
            (Kind::Uints, "1,x", r#"strconv.ParseUint: parsing "x": invalid syntax"#),
            (Kind::Duration, "5", r#"time: missing unit in duration "5""#),
            (Kind::Duration, "", r#"time: invalid duration """#),
            (Kind::Map, "a", r#"invalid map item: "a""#),
            (Kind::Documents, "x", "set it in the configuration file"),
        ] {
            assert_eq!(kind.parse(text).unwrap_err(), error);
        }
    }
}
