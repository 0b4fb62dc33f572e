//! Checks that several kinds share, with the texts of api-and-kumactl 3.

use std::collections::BTreeMap;

use crate::duration::GoDuration;
use crate::violation::{Path, Violations};

/// Something is missing.
pub const MUST_BE_DEFINED: &str = "must be defined";
/// Something is there that should not be.
pub const MUST_NOT_BE_DEFINED: &str = "must not be defined";
/// Something is there without content.
pub const MUST_NOT_BE_EMPTY: &str = "must not be empty";
/// A counter of zero.
pub const GREATER_THAN_ZERO: &str = "must be greater than 0";
/// A missing or non-positive number.
pub const DEFINED_AND_GREATER_THAN_ZERO: &str = "must be defined and greater than zero";

/// What policies about the clients of sidecars say of `from` when gateways are selected too.
pub const FROM_WITH_GATEWAYS: &str = "must not be defined when the scope includes a Gateway, select only proxyType \
     Sidecar or select only gateways and use spec.to";

/// The items of a list with their paths.
pub fn each<'a, T>(at: &Path, items: &'a [T]) -> impl Iterator<Item = (Path, &'a T)> {
    items.iter().enumerate().map(|(index, item)| (at.index(index), item))
}

/// Says which words a member may have.
pub fn must_be_one_of(member: &str, words: &[&str]) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
    format!("{member:?} must be one of [{}]", words.join(", "))
}

/// Adds a duration that is not above zero.
pub fn positive(at: &Path, duration: Option<GoDuration>, found: &mut Violations) {
    if duration.is_some_and(|duration| duration <= GoDuration::ZERO) {
        found.add(at, "must be greater than zero when defined");
    }
}

/// Adds a duration below zero.
pub fn not_negative(at: &Path, duration: Option<GoDuration>, found: &mut Violations) {
    if duration.is_some_and(GoDuration::is_negative) {
        found.add(at, "must not be negative when defined");
    }
}

/// Adds a counter that is zero.
pub fn counter(at: &Path, count: Option<u32>, found: &mut Violations) {
    if count == Some(0) {
        found.add(at, GREATER_THAN_ZERO);
    }
}

/// Adds a number that is no HTTP status.
pub fn status_code(at: &Path, status: i32, found: &mut Violations) {
    if !(100..600).contains(&status) {
        found.add(at, "must be in inclusive range [100, 599]");
    }
}

/// What a map of tags is for, which decides the characters of its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tags {
    /// Tags that a proxy has.
    OfDataplane,
    /// Tags that proxies are selected with: `*` is any value.
    Selector,
}

/// Adds what is wrong with names and values of tags, by name.
pub fn tags(at: &Path, tags: &BTreeMap<String, String>, sort: Tags, found: &mut Violations) {
    for (name, value) in tags {
        let entry = at.key(name);
        if name.is_empty() {
            found.add(at, "tag name must be non-empty");
        }
        if !name.chars().all(|c| in_value(c) || c == '/') {
            let reason = "tag name must consist of alphanumeric characters, dots, dashes, slashes and underscores";
            found.add(&entry, reason);
        }
        if value.is_empty() {
            found.add(&entry, "tag value must be non-empty");
        }
        match sort {
            Tags::OfDataplane if !value.chars().all(in_value) => {
                found.add(&entry, "tag value must consist of alphanumeric characters, dots, dashes and underscores");
            }
            Tags::Selector if value != "*" && !value.chars().all(|c| in_value(c) || c == '/') => {
                let reason = r#"tag value must consist of alphanumeric characters, dots, dashes, slashes and underscores or be "*""#;
                found.add(&entry, reason);
            }
            Tags::OfDataplane | Tags::Selector => {}
        }
    }
}

fn in_value(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':')
}
