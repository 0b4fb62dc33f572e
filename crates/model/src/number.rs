//! Numbers that may be written as text: ports by number or name, percentages with decimals.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::violation::{Path, Violations};

/// An integer or a text, as Kubernetes writes ports and Kuma decimals: `8080`, `"http"`, `"12.5"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IntOrString {
    /// A JSON number without fraction.
    Int(i32),
    /// A JSON string.
    String(Box<str>),
}

impl IntOrString {
    /// The number that is meant; `None` when the text is no decimal number (`http`, `50%`).
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(f64::from(*number)),
            Self::String(text) => decimal(text),
        }
    }
}

/// A decimal number; unlike Rust's own reading it knows no infinity and no NaN.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    text.parse().ok().filter(|_| plain)
}

impl Default for IntOrString {
    fn default() -> Self {
        Self::Int(0)
    }
}

impl From<i32> for IntOrString {
    fn from(number: i32) -> Self {
        Self::Int(number)
    }
}

impl From<&str> for IntOrString {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl fmt::Display for IntOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => number.fmt(f),
            Self::String(text) => text.fmt(f),
        }
    }
}

impl Serialize for IntOrString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Int(number) => serializer.serialize_i32(*number),
            Self::String(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for IntOrString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = IntOrString;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer or a string")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<IntOrString, E> {
                Ok(IntOrString::String(text.into()))
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<IntOrString, E> {
                i32::try_from(number).map(IntOrString::Int).map_err(|_| not_an_int32(&number))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<IntOrString, E> {
                i32::try_from(number).map(IntOrString::Int).map_err(|_| not_an_int32(&number))
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<IntOrString, E> {
                Err(not_an_int32(&number))
            }

            fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<IntOrString, E> {
                Err(E::custom("json: cannot unmarshal bool into Go value of type int32"))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// The words of Kuma's JSON reader.
fn not_an_int32<E: serde::de::Error>(number: &dyn fmt::Display) -> E {
    E::custom(format_args!("json: cannot unmarshal number {number} into Go value of type int32"))
}

impl JsonSchema for IntOrString {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "IntOrString".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "integer" }, { "type": "string" }], "x-kubernetes-int-or-string": true })
    }
}

/// Text that should be a number and is not (api-and-kumactl section 3).
pub const NOT_A_NUMBER: &str = "string must be a valid number";
/// A percentage with decimals outside 0 to 100.
pub const NOT_A_PERCENTAGE: &str = "must be in inclusive range [0.0, 100.0]";
/// A whole percentage outside 0 to 100.
pub const NOT_A_WHOLE_PERCENTAGE: &str = "must be in inclusive range [0, 100]";
/// A zero where a share is needed.
pub const NOT_POSITIVE: &str = "must be greater than 0";

/// Adds what is wrong with a percentage that is a decimal.
pub fn check_percentage(at: &Path, percentage: &IntOrString, found: &mut Violations) {
    match percentage.number() {
        None => found.add(at, NOT_A_NUMBER),
        Some(number) if !(0.0..=100.0).contains(&number) => found.add(at, NOT_A_PERCENTAGE),
        Some(_) => {}
    }
}

/// Adds what is wrong with a percentage that is a decimal above zero.
pub fn check_positive_percentage(at: &Path, percentage: &IntOrString, found: &mut Violations) {
    check_percentage(at, percentage, found);
    if percentage.number() == Some(0.0) {
        found.add(at, NOT_POSITIVE);
    }
}

/// Adds what is wrong with a percentage that is a whole number.
pub fn check_whole_percentage(at: &Path, percentage: impl Into<i64>, found: &mut Violations) {
    if !(0..=100).contains(&percentage.into()) {
        found.add(at, NOT_A_WHOLE_PERCENTAGE);
    }
}

/// Adds what is wrong with a decimal that has a smallest value.
pub fn check_at_least(at: &Path, number: &IntOrString, least: i32, found: &mut Violations) {
    match number.number() {
        None => found.add(at, NOT_A_NUMBER),
        Some(number) if number < f64::from(least) => found.add(at, format!("must be greater or equal then: {least}")),
        Some(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(check: impl FnOnce(&Path, &mut Violations)) -> Vec<String> {
        let mut found = Violations::default();
        check(&Path::of("percentage"), &mut found);
        found.into_iter().map(|violation| violation.reason).collect()
    }

    #[test]
    fn json_takes_whole_numbers_and_text() {
        let read = |json: &str| serde_json::from_str::<IntOrString>(json).map_err(|error| error.to_string());
        assert_eq!(read("-5"), Ok(IntOrString::Int(-5)));
        assert_eq!(read(r#""http""#), Ok("http".into()));
        let error = read("1.5").unwrap_err();
        assert!(error.starts_with("json: cannot unmarshal number 1.5 into Go value of type int32"), "{error}");
        let error = read("3000000000").unwrap_err();
        assert!(error.starts_with("json: cannot unmarshal number 3000000000 into"), "{error}");
        assert!(read("[]").is_err() && read("null").is_err());
        assert_eq!(serde_json::to_string(&[IntOrString::Int(1), "a".into()]).unwrap(), r#"[1,"a"]"#);
    }

    #[test]
    fn text_is_a_number_when_it_is_a_finite_decimal() {
        let number = |text: &str| IntOrString::from(text).number();
        for (text, value) in [("12.5", 12.5), (".5", 0.5), ("5.", 5.0), ("+5", 5.0), ("1e2", 100.0), ("-0", 0.0)] {
            assert_eq!(number(text), Some(value));
        }
        for text in ["", ".", "50%", "inf", "NaN", "1 ", "1_000", "0x10", "e5"] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn percentages_are_refused_in_the_words_of_the_reference() {
        let percentage = |value: IntOrString| reasons(|at, found| check_percentage(at, &value, found));
        assert_eq!(percentage(100.into()), [""; 0]);
        assert_eq!(percentage("99.9".into()), [""; 0]);
        assert_eq!(percentage("all".into()), [NOT_A_NUMBER]);
        assert_eq!(percentage("100.1".into()), [NOT_A_PERCENTAGE]);
        assert_eq!(percentage((-1).into()), [NOT_A_PERCENTAGE]);
        let positive = |value: IntOrString| reasons(|at, found| check_positive_percentage(at, &value, found));
        assert_eq!(positive("0.0".into()), [NOT_POSITIVE]);
        assert_eq!(positive(101.into()), [NOT_A_PERCENTAGE]);
        assert_eq!(reasons(|at, found| check_whole_percentage(at, 101, found)), [NOT_A_WHOLE_PERCENTAGE]);
        let least = |value: IntOrString| reasons(|at, found| check_at_least(at, &value, 0, found));
        assert_eq!(least("-0.1".into()), ["must be greater or equal then: 0"]);
        assert_eq!(least("x".into()), [NOT_A_NUMBER]);
    }
}
