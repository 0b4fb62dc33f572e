//! What Go's JSON decoder says of a body that it cannot take; users of the real control plane search for these texts.

use chrono::DateTime;
use serde_json::{Error, Value};

use crate::spec::proto_json::{quote, quote_char};

/// What is wrong with a body that is no JSON.
pub(super) fn syntax_fault(body: &[u8], error: &Error) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    let Some((before, found)) = around(body, error.line(), error.column()) else { return message.to_owned() };
    let context = match message {
        "key must be a string" => "looking for beginning of object key string",
        "trailing comma" if found == '}' => "looking for beginning of object key string",
        "expected value" | "trailing comma" => "looking for beginning of value",
        "expected `:`" => "after object key",
        "expected `,` or `}`" => "after object key:value pair",
        "expected `,` or `]`" => "after array element",
        "trailing characters" => "after top-level value",
        "control character (\\u0000-\\u001F) found while parsing a string" => "in string literal",
        "invalid escape" => "in string escape code",
        "invalid number" => "in numeric literal",
        "expected ident" => return format!("invalid character {} {}", quote_char(found), in_literal(before)),
        "recursion limit exceeded" => return "exceeded max depth".to_owned(),
        other => return other.to_owned(),
    };
    format!("invalid character {} {context}", quote_char(found))
}

/// A value that is not of the type it has to be decoded into.
pub(super) fn type_fault(found: &Value, go_type: &str) -> String {
    format!("json: cannot unmarshal {} into Go value of type {go_type}", type_name(found))
}

/// A member of the document itself that has the wrong type.
pub(super) fn member_fault(found: &Value, member: &str, go_type: &str) -> String {
    let found = type_name(found);
    format!("json: cannot unmarshal {found} into Go struct field ResourceMeta.{member} of type {go_type}")
}

/// `Err` with the complaint when a value is no time.
pub(super) fn check_time(value: &Value) -> Result<(), String> {
    let Value::String(text) = value else { return Err("Time.UnmarshalJSON: input is not a JSON string".to_owned()) };
    if DateTime::parse_from_rfc3339(text).is_ok() {
        return Ok(());
    }
    let text = quote(text);
    Err(format!("parsing time {text} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text} as \"2006\""))
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The byte at a place that the reader of JSON named, as Go would print it, and its line up to there. Go looks at bytes,
/// not characters.
fn around(body: &[u8], line: usize, column: usize) -> Option<(&[u8], char)> {
    let Some(column) = column.checked_sub(1) else { return Some((&[], '\n')) };
    let line = body.split(|byte| *byte == b'\n').nth(line.checked_sub(1)?)?;
    Some((&line[..column.min(line.len())], char::from(*line.get(column)?)))
}

/// Which letter the literal that has begun needs next.
fn in_literal(before: &[u8]) -> String {
    let begun = before.len() - before.iter().rev().take_while(|byte| byte.is_ascii_lowercase()).count();
    let begun = &before[begun..];
    let literal = ["true", "false", "null"].into_iter().find(|literal| literal.as_bytes().starts_with(begun));
    match literal.and_then(|literal| Some((literal, literal.chars().nth(begun.len())?))) {
        Some((literal, next)) => format!("in literal {literal} (expecting {})", quote_char(next)),
        None => "looking for beginning of value".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax_is_complained_about_in_the_words_of_go() {
        let fault = |body: &str| syntax_fault(body.as_bytes(), &serde_json::from_str::<Value>(body).unwrap_err());
        let table = [
            ("", "unexpected end of JSON input"),
            ("{\"a\":", "unexpected end of JSON input"),
            ("{,}", "invalid character ',' looking for beginning of object key string"),
            ("{a: 1}", "invalid character 'a' looking for beginning of object key string"),
            ("{\"a\": 1,}", "invalid character '}' looking for beginning of object key string"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("type: Mesh", "invalid character 'y' in literal true (expecting 'r')"),
            ("nul1", "invalid character '1' in literal null (expecting 'l')"),
            ("<html>", "invalid character '<' looking for beginning of value"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\": 1 \"b\": 2}", "invalid character '\"' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("{} {}", "invalid character '{' after top-level value"),
            ("{\"a\": \"\n\"}", "invalid character '\\n' in string literal"),
            ("{\"a\": \"\\x\"}", "invalid character 'x' in string escape code"),
            ("'a'", "invalid character '\\'' looking for beginning of value"),
        ];
        let found: Vec<String> = table.iter().map(|(body, _)| fault(body)).collect();
        assert_eq!(found, table.map(|(_, wanted)| wanted));
    }

    #[test]
    fn times_are_checked() {
        assert_eq!(check_time(&Value::from("2026-02-01T10:00:00.5Z")), Ok(()));
        assert_eq!(
            check_time(&Value::from("soon")).unwrap_err(),
            "parsing time \"soon\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"soon\" as \"2006\""
        );
    }
}
