//! YAML as Go's encoder writes it, which is what users of Kuma compare with.
//!
//! The emitter is libyaml's, as Go's is. What Go adds is the order of keys, and quotes around what a reader of YAML 1.1
//! would take for something else than text.

use std::cmp::Ordering;

use libyaml_safer::{Emitter, Encoding, Event, MappingStyle, ScalarStyle, SequenceStyle};
use serde_json::Value;

/// A document, keys sorted, ending in a line break.
pub fn to_string(value: &Value) -> String {
    let mut text = Vec::new();
    let outcome = write(value, &mut text);
    debug_assert!(outcome.is_ok(), "memory takes everything, and the events are in order: {outcome:?}");
    String::from_utf8_lossy(&text).into_owned()
}

/// Members of an object, sorted, then those of another; how a resource of a proto kind is printed (4.4).
pub fn to_string_in_two(first: &Value, second: &Value) -> String {
    let rest =
        if second.as_object().is_some_and(|members| members.is_empty()) { String::new() } else { to_string(second) };
    to_string(first) + &rest
}

fn write(value: &Value, text: &mut Vec<u8>) -> Result<(), libyaml_safer::Error> {
    let mut emitter = Emitter::new();
    emitter.set_output_string(text);
    emitter.set_unicode(true);
    emitter.emit(Event::stream_start(Encoding::Utf8))?;
    emitter.emit(Event::document_start(None, &[], true))?;
    emit(value, &mut emitter)?;
    emitter.emit(Event::document_end(true))?;
    emitter.emit(Event::stream_end())
}

fn emit(value: &Value, emitter: &mut Emitter<'_>) -> Result<(), libyaml_safer::Error> {
    match value {
        Value::Null => plain("null", emitter),
        Value::Bool(truth) => plain(if *truth { "true" } else { "false" }, emitter),
        Value::Number(number) => plain(&number.to_string(), emitter),
        Value::String(text) => emit_text(text, emitter),
        Value::Array(items) => {
            emitter.emit(Event::sequence_start(None, None, true, style_of_list(items)))?;
            items.iter().try_for_each(|item| emit(item, emitter))?;
            emitter.emit(Event::sequence_end())
        }
        Value::Object(members) => {
            let style = if members.is_empty() { MappingStyle::Flow } else { MappingStyle::Block };
            emitter.emit(Event::mapping_start(None, None, true, style))?;
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|(a, _), (b, _)| order(a, b));
            for (key, value) in members {
                emit_text(key, emitter)?;
                emit(value, emitter)?;
            }
            emitter.emit(Event::mapping_end())
        }
    }
}

fn style_of_list(items: &[Value]) -> SequenceStyle {
    if items.is_empty() { SequenceStyle::Flow } else { SequenceStyle::Block }
}

fn plain(text: &str, emitter: &mut Emitter<'_>) -> Result<(), libyaml_safer::Error> {
    emitter.emit(Event::scalar(None, None, text, true, true, ScalarStyle::Plain))
}

fn emit_text(text: &str, emitter: &mut Emitter<'_>) -> Result<(), libyaml_safer::Error> {
    let style = if text.contains('\n') {
        ScalarStyle::Literal
    } else if is_text(text) {
        ScalarStyle::Plain
    } else {
        ScalarStyle::DoubleQuoted
    };
    emitter.emit(Event::scalar(None, None, text, true, true, style))
}

/// Whether a reader of YAML 1.1 takes a plain word for text, and not for a truth, a number, a time or nothing.
fn is_text(word: &str) -> bool {
    const OTHERS: &[&str] =
        &["", "~", "null", "y", "n", "yes", "no", "on", "off", "true", "false", ".nan", ".inf", "+.inf", "-.inf", "<<"];
    let lower = word.to_ascii_lowercase();
    // Three spellings count: `yes`, `Yes` and `YES`.
    let one_case = word == lower
        || word.chars().skip(1).collect::<String>() == lower.chars().skip(1).collect::<String>()
        || word == word.to_ascii_uppercase();
    let is_other = OTHERS.contains(&lower.as_str()) && one_case;
    !is_other && !is_number(word) && !is_time(word)
}

fn is_number(word: &str) -> bool {
    if !word.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) {
        return false;
    }
    let digits = word.replace('_', "");
    let unsigned = digits.trim_start_matches(['+', '-']);
    let radix = |prefix: &str, radix| {
        unsigned.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_digit(radix)))
    };
    let decimal = unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && unsigned.chars().any(|c| c.is_ascii_digit())
        && unsigned.parse::<f64>().is_ok();
    radix("0x", 16) || radix("0b", 2) || radix("0o", 8) || decimal || is_base_60(word)
}

/// `190:20:30`: hours, minutes and seconds to old readers.
fn is_base_60(word: &str) -> bool {
    let (whole, fraction) = word.split_once('.').unwrap_or((word, ""));
    let mut parts = whole.trim_start_matches(['+', '-']).split(':');
    let is_digits = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit() || c == '_');
    let first = parts.next().is_some_and(is_digits);
    let rest: Vec<&str> = parts.collect();
    let small = |part: &&str| part.len() <= 2 && is_digits(part) && part.parse::<u8>().is_ok_and(|n| n < 60);
    first && !rest.is_empty() && rest.iter().all(small) && fraction.chars().all(|c| c.is_ascii_digit() || c == '_')
}

/// `2026-11-24`, alone or with a time of day.
fn is_time(word: &str) -> bool {
    chrono::DateTime::parse_from_rfc3339(word).is_ok()
        || ["%Y-%m-%d", "%Y-%m-%d %H:%M:%S%.f"].iter().any(|format| {
            chrono::NaiveDate::parse_from_str(word, format).is_ok()
                || chrono::NaiveDateTime::parse_from_str(word, format).is_ok()
        })
}

/// Go's order of keys: letters after everything else, numbers by their value.
fn order(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = a.iter().zip(&b).position(|(a, b)| a != b) else { return a.len().cmp(&b.len()) };
    match (a[at].is_alphabetic(), b[at].is_alphabetic()) {
        (true, true) => a[at].cmp(&b[at]),
        (false, true) => Ordering::Less,
        (true, false) => Ordering::Greater,
        (false, false) => number_at(&a, at).cmp(&number_at(&b, at)).then(a[at].cmp(&b[at])),
    }
}

/// Value and length of the digits that begin at a place; a zero in front counts if digits came before it.
fn number_at(text: &[char], at: usize) -> (u128, usize) {
    let digits: String = text[at..].iter().take_while(|c| c.is_ascii_digit()).collect();
    let inside = text[..at].iter().rev().take_while(|c| c.is_ascii_digit()).any(|c| *c != '0');
    let prefix = if inside { "1" } else { "0" };
    (format!("{prefix}{digits}").parse().unwrap_or(u128::MAX), digits.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_old_readers_misread_is_quoted() {
        for word in [
            "y",
            "Yes",
            "OFF",
            "null",
            "",
            "1",
            "1.9",
            "0x1F",
            "1_000",
            "-.5",
            "2026-11-24",
            "1:20",
            "1e3",
            "2026-11-24T18:56:01.915549269Z",
            "~",
        ] {
            assert!(!is_text(word), "{word}");
        }
        for word in
            ["yEs", "10.0.0.1", "5m0s", "v1", "1.2.3", "-", "nope", "0xZZ", "127.0.0.1:5681", "abc:20", "+", "1d"]
        {
            assert!(is_text(word), "{word}");
        }
    }

    #[test]
    fn every_shape_has_its_style() {
        let value = json!({"b": [], "a": {}, "c": [{"x": 1, "y": null}], "d": "*", "e": "two\nlines\n", "f": "true",
            "g": [["n"]], "h": "a: b"});
        assert_eq!(
            to_string(&value),
            "a: {}\nb: []\nc:\n- x: 1\n  \"y\": null\nd: '*'\ne: |\n  two\n  lines\nf: \"true\"\ng:\n- - \"n\"\nh: 'a: b'\n"
        );
    }

    #[test]
    fn keys_are_in_the_order_of_go() {
        let mut keys = ["b", "a10", "a9", "a", "_", "Z", "a_b", "ab", "a1", "a01"];
        keys.sort_by(|a, b| order(a, b));
        assert_eq!(keys, ["_", "Z", "a", "a_b", "a1", "a01", "a9", "a10", "ab", "b"]);
    }
}
