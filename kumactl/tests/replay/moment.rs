//! The moment of a recording, found again from the ages that it shows.

use chrono::{DateTime, TimeDelta, Utc};

/// Moments at which one of the times is one of the ages old.
///
/// An age is good for a span that begins where the time is exactly so old. The spans of all ages of one output have a
/// moment in common, and the latest beginning is in all of them: so it is enough to try the beginnings.
pub fn candidates(times: &[DateTime<Utc>], output: &str) -> Vec<DateTime<Utc>> {
    let mut ages: Vec<TimeDelta> = output.split_whitespace().filter_map(age).collect();
    ages.sort_unstable();
    ages.dedup();
    let mut candidates: Vec<_> = times.iter().flat_map(|time| ages.iter().map(|age| *time + *age)).collect();
    candidates.sort_unstable();
    candidates.dedup();
    candidates
}

fn age(word: &str) -> Option<TimeDelta> {
    let (number, unit) = word.split_at_checked(word.len().checked_sub(1)?)?;
    let number = number.parse().ok()?;
    match unit {
        "s" => Some(TimeDelta::seconds(number)),
        "m" => Some(TimeDelta::minutes(number)),
        "h" => Some(TimeDelta::hours(number)),
        "d" => Some(TimeDelta::days(number)),
        _ => None,
    }
}
