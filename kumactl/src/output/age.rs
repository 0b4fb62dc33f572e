//! How long ago something was, in one unit (api-and-kumactl 4.4).

use chrono::{DateTime, Utc};
use serde_json::Value;

/// `5m`; more than a second ahead is `never`.
///
/// The span saturates where Go's does, at 292 years: a time that was never set is that long ago.
pub fn since(moment: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let nanos = (now - moment).num_nanoseconds().unwrap_or(if now > moment { i64::MAX } else { i64::MIN });
    let seconds = nanos / 1_000_000_000;
    match seconds {
        ..-1 => "never".to_owned(),
        -1 => "0s".to_owned(),
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        86_400..31_536_000 => format!("{}d", seconds / 86_400),
        _ => format!("{}y", seconds / 31_536_000),
    }
}

/// The same of a time in an answer; none is `never`.
pub fn of(time: &Value, now: DateTime<Utc>) -> String {
    read(time).map_or_else(|| "never".to_owned(), |moment| since(moment, now))
}

/// A time in an answer.
pub fn read(time: &Value) -> Option<DateTime<Utc>> {
    time.as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok()).map(|time| time.to_utc())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_unit_has_its_range() {
        let now = read(&json!("2026-11-24T19:00:00Z")).unwrap();
        for (time, age) in [
            ("2026-11-24T18:59:01Z", "59s"),
            ("2026-11-24T18:01:00Z", "59m"),
            ("2026-11-23T19:00:01Z", "23h"),
            ("2025-11-25T19:00:00Z", "364d"),
            ("2024-11-24T19:00:00Z", "2y"),
            ("2026-11-24T19:00:01.5Z", "0s"),
            ("2026-11-24T19:00:02Z", "never"),
            ("0001-01-01T00:00:00Z", "292y"),
        ] {
            assert_eq!(of(&json!(time), now), age, "{time}");
        }
        assert_eq!(of(&Value::Null, now), "never");
    }
}
