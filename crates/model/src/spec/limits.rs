//! Durations, counts and shares as the older kinds bound them.

use prost_types::Duration;

use crate::violation::{Path, Violations};

/// The span that protobuf allows a duration, 10,000 years.
const LONGEST_SECONDS: u64 = 315_576_000_000;

/// Adds a fault when a duration is missing, zero or no duration. (A negative one is let through.)
pub fn check_duration(at: &Path, duration: Option<&Duration>, found: &mut Violations) {
    match duration {
        Some(duration) if !is_valid(duration) => found.add(at, "must have a valid value"),
        Some(duration) if !is_zero(duration) => {}
        _ => found.add(at, "must have a positive value"),
    }
}

/// Adds a fault when a duration is there and zero or no duration.
pub fn check_optional_duration(at: &Path, duration: Option<&Duration>, found: &mut Violations) {
    if duration.is_some() {
        check_duration(at, duration, found);
    }
}

/// Adds a fault when a count is zero.
pub fn check_threshold(at: &Path, count: u32, found: &mut Violations) {
    if count == 0 {
        found.add(at, "must have a positive value");
    }
}

/// Adds a fault when a duration is there and zero, in the words of retries and timeouts.
pub fn check_time(at: &Path, duration: Option<&Duration>, found: &mut Violations) {
    if duration.is_some_and(is_zero) {
        found.add(at, "has to be greater than 0 when defined");
    }
}

/// Adds a fault when a percentage is missing or out of range.
pub fn check_percentage(at: &Path, percentage: Option<f64>, found: &mut Violations) {
    match percentage {
        None => found.add(at, "cannot be empty"),
        Some(value) if !(0.0..=100.0).contains(&value) => found.add(at, "has to be in [0.0 - 100.0] range"),
        Some(_) => {}
    }
}

/// Whether a duration is no time at all.
pub fn is_zero(duration: &Duration) -> bool {
    duration.seconds == 0 && duration.nanos == 0
}

fn is_valid(duration: &Duration) -> bool {
    let signs_agree =
        duration.seconds == 0 || duration.nanos == 0 || (i64::from(duration.nanos) > 0) == (duration.seconds > 0);
    duration.seconds.unsigned_abs() <= LONGEST_SECONDS && duration.nanos.unsigned_abs() < 1_000_000_000 && signs_agree
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_from_the_wire_may_be_no_duration() {
        let reasons = |seconds, nanos| {
            let mut found = Violations::default();
            check_duration(&Path::of("d"), Some(&Duration { seconds, nanos }), &mut found);
            found.into_iter().map(|fault| fault.reason).collect::<Vec<_>>()
        };
        assert!(reasons(1, 0).is_empty());
        assert!(reasons(-1, -5).is_empty());
        assert_eq!(reasons(0, 0), ["must have a positive value"]);
        for (seconds, nanos) in [(1, -1), (-1, 1), (0, 1_000_000_000), (315_576_000_001, 0), (i64::MIN, 0)] {
            assert_eq!(reasons(seconds, nanos), ["must have a valid value"]);
        }
    }
}
