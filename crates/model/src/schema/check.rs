//! Faults of a value against a schema, worded as go-openapi words them.
//!
//! The real control plane walks the members of an object in random order; ours walks them in the order of the type.

use chrono::DateTime;
use serde_json::{Number, Value};

use super::node::{Bounds, Format, Node, Type};

/// Messages, up to a limit.
pub(super) struct Faults {
    messages: Vec<String>,
    limit: usize,
}

impl Faults {
    pub(super) fn up_to(limit: usize) -> Self {
        Self { messages: Vec::new(), limit }
    }

    pub(super) fn into_messages(self) -> Vec<String> {
        self.messages
    }

    fn is_full(&self) -> bool {
        self.messages.len() >= self.limit
    }

    fn add(&mut self, message: String) {
        if !self.is_full() {
            self.messages.push(message);
        }
    }

    /// `<path> in body <reason>`.
    fn add_at(&mut self, path: &str, reason: impl std::fmt::Display) {
        self.add(format!("{path} in body {reason}"));
    }
}

impl Node {
    pub(super) fn check(&self, value: &Value, path: &str, faults: &mut Faults) {
        if faults.is_full() {
            return;
        }
        self.check_type(value, path, faults);
        if !value.is_null() {
            self.check_variants(value, path, faults);
        }
        match value {
            Value::String(text) => self.check_text(text, path, faults),
            Value::Number(number) => self.check_number(number, path, faults),
            Value::Array(items) => self.check_items(items, path, faults),
            Value::Null | Value::Bool(_) | Value::Object(_) => {}
        }
        if !self.choices.is_empty() && !self.choices.contains(value) {
            faults.add_at(path, format_args!("should be one of [{}]", joined(&self.choices)));
        }
        if let Value::Object(members) = value {
            self.check_members(members, path, faults);
        }
    }

    fn check_type(&self, value: &Value, path: &str, faults: &mut Faults) {
        let Some(wanted) = self.of_type else { return };
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => Type::Boolean.name(),
            Value::Number(_) => Type::Number.name(),
            Value::String(_) => Type::String.name(),
            Value::Array(_) => Type::Array.name(),
            Value::Object(_) => Type::Object.name(),
        };
        let fits = wanted.name() == found || wanted == Type::Integer && value.as_f64().is_some_and(is_integral);
        if fits {
            return;
        }
        // A format answers for its type, except against texts, lists and nothing.
        let format = self.format.filter(|_| matches!(value, Value::Bool(_) | Value::Number(_) | Value::Object(_)));
        match format {
            Some(format) => {
                let found = if value.is_number() { "float64" } else { "" };
                faults.add_at(path, format_args!("must be of type {}: {found:?}", format.name()));
            }
            None => faults.add_at(path, format_args!("must be of type {}: {found:?}", wanted.name())),
        }
    }

    fn check_variants(&self, value: &Value, path: &str, faults: &mut Faults) {
        let mut best: Option<Faults> = None;
        for variant in &self.any_of {
            let mut found = Faults::up_to(faults.limit);
            variant.check(value, path, &mut found);
            if found.messages.is_empty() {
                return;
            }
            if best.as_ref().is_none_or(|best| found.messages.len() < best.messages.len()) {
                best = Some(found);
            }
        }
        let Some(best) = best else { return };
        faults.add(format!("{path:?} must validate at least one schema (anyOf)"));
        best.messages.into_iter().for_each(|message| faults.add(message));
    }

    /// Only the first fault of a text is told.
    fn check_text(&self, text: &str, path: &str, faults: &mut Faults) {
        if self.of_type.is_some_and(|wanted| wanted != Type::String) {
            return;
        }
        let length = text.chars().count() as u64;
        let mismatch = self.pattern.as_ref().filter(|p| p.regex.as_ref().is_some_and(|regex| !regex.is_match(text)));
        if let Some(most) = self.length.most.filter(|most| length > *most) {
            faults.add_at(path, format_args!("should be at most {most} chars long"));
        } else if let Some(least) = self.length.least.filter(|least| length < *least) {
            faults.add_at(path, format_args!("should be at least {least} chars long"));
        } else if let Some(pattern) = mismatch {
            faults.add_at(path, format_args!("should match '{}'", pattern.text));
        }
        if self.format == Some(Format::DateTime) && DateTime::parse_from_rfc3339(text).is_err() {
            faults.add_at(path, format_args!("must be of type date-time: {text:?}"));
        }
    }

    fn check_number(&self, number: &Number, path: &str, faults: &mut Faults) {
        let is_numeric = matches!(self.of_type, Some(Type::Integer | Type::Number));
        let Some(value) = number.as_f64().filter(|_| is_numeric) else { return };
        if self.of_type == Some(Type::Integer) && !fits(value, self.format) {
            let format = match self.format {
                Some(format) => format!("with format {}", format.name()),
                None => "(default format)".to_owned(),
            };
            faults.add(format!("Checked value must be of type integer {format} in {path}"));
        }
        if let Some(least) = self.minimum.filter(|least| value < *least) {
            faults.add_at(path, format_args!("should be greater than or equal to {}", go_float(least)));
        }
        if let Some(most) = self.maximum.filter(|most| value > *most) {
            faults.add_at(path, format_args!("should be less than or equal to {}", go_float(most)));
        }
    }

    fn check_items(&self, items: &[Value], path: &str, faults: &mut Faults) {
        if let Some(node) = &self.item {
            for (index, item) in items.iter().enumerate() {
                node.check(item, &format!("{path}[{index}]"), faults);
            }
        }
        check_count(items.len(), self.items, "items", path, faults);
    }

    fn check_members(&self, members: &serde_json::Map<String, Value>, path: &str, faults: &mut Faults) {
        check_count(members.len(), self.entries, "properties", path, faults);
        if let Some(node) = &self.additional {
            for (name, member) in members.iter().filter(|(name, _)| self.property(name).is_none()) {
                node.check(member, &format!("{path}.{name}"), faults);
            }
        }
        for (name, node) in &self.properties {
            let Some(member) = members.get(name) else { continue };
            let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            node.check(member, &below, faults);
        }
        for name in self.required.iter().filter(|name| !members.contains_key(*name)) {
            faults.add_at(&format!("{path}.{name}"), "is required");
        }
    }
}

fn check_count(count: usize, bounds: Bounds, of: &str, path: &str, faults: &mut Faults) {
    let count = count as u64;
    if let Some(least) = bounds.least.filter(|least| count < *least) {
        faults.add_at(path, format_args!("should have at least {least} {of}"));
    }
    if let Some(most) = bounds.most.filter(|most| count > *most) {
        faults.add_at(path, format_args!("should have at most {most} {of}"));
    }
}

fn is_integral(value: f64) -> bool {
    value.is_finite() && value.fract() == 0.0
}

fn fits(value: f64, format: Option<Format>) -> bool {
    let (least, most) = match format {
        Some(Format::Int32) => (f64::from(i32::MIN), f64::from(i32::MAX)),
        _ => (-(2f64.powi(63)), 2f64.powi(63)),
    };
    is_integral(value) && value >= least && value <= most
}

/// Texts as Go prints a list of them: separated by blanks.
fn joined(choices: &[Value]) -> String {
    let texts: Vec<String> =
        choices.iter().map(|choice| choice.as_str().map_or_else(|| choice.to_string(), str::to_owned)).collect();
    texts.join(" ")
}

/// A number as Go's `%v` prints it: with an exponent from the seventh digit on.
fn go_float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_in_go() {
        let printed = [0.0, 1.0, 65535.0, 100_000.0, 5_000_011.0, 8_000_000.0, 0.5, 0.00001].map(go_float);
        assert_eq!(printed, ["0", "1", "65535", "100000", "5.000011e+06", "8e+06", "0.5", "1e-05"]);
    }
}
