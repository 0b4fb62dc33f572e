//! Checks that several kinds share, with the texts of api-and-kumactl 3.

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
