//! Durations as Kuma's documents spell them.
//!
//! The JSON kinds use Go's spelling, `1h0m0s` ([`GoDuration`]; api-and-kumactl section 3). A few settings of a `Mesh` use
//! Kuma's own, `30d` ([`parse_kuma`]). Protobuf's, `0.500s`, is what [`prost_types::Duration`] reads and prints itself.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const NANOSECOND: u64 = 1;
const MICROSECOND: u64 = 1_000 * NANOSECOND;
const MILLISECOND: u64 = 1_000 * MICROSECOND;
const SECOND: u64 = 1_000 * MILLISECOND;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// The largest magnitude, that of the most negative duration.
const LIMIT: u64 = 1 << 63;

/// A signed span of time in nanoseconds, spelt as Go does: `1h30m0s`, `1.5s`, `-250ms`, `0s`; ±292 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(i64);

impl GoDuration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// Whole nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Whole milliseconds; spans beyond the range stop at its end.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(MILLISECOND.cast_signed()))
    }

    /// Whole seconds; spans beyond the range stop at its end.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(SECOND.cast_signed()))
    }

    /// Nanoseconds.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Whether it is no time at all.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Whether it is below zero.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// As a span that cannot be negative; `None` when it is.
    pub fn to_std(self) -> Option<Duration> {
        u64::try_from(self.0).ok().map(Duration::from_nanos)
    }
}

impl From<GoDuration> for prost_types::Duration {
    fn from(GoDuration(nanos): GoDuration) -> Self {
        let second = SECOND.cast_signed();
        Self { seconds: nanos / second, nanos: i32::try_from(nanos % second).unwrap_or_default() }
    }
}

/// Spans beyond the range stop at its end.
impl From<&prost_types::Duration> for GoDuration {
    fn from(duration: &prost_types::Duration) -> Self {
        let seconds = duration.seconds.saturating_mul(SECOND.cast_signed());
        Self(seconds.saturating_add(i64::from(duration.nanos)))
    }
}

/// Spans beyond the range stop at its end.
impl From<Duration> for GoDuration {
    fn from(duration: Duration) -> Self {
        Self(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// Text that is no duration; the words are those of Go's `time.ParseDuration`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// `abc`, nothing at all, or a span out of range.
    #[error("time: invalid duration {}", quoted(.0))]
    Invalid(String),
    /// `5`.
    #[error("time: missing unit in duration {}", quoted(.0))]
    MissingUnit(String),
    /// `5parsecs`: the unit, then the whole text.
    #[error("time: unknown unit {} in duration {}", quoted(.0), quoted(.1))]
    UnknownUnit(String, String),
    /// No duration in Kuma's spelling.
    #[error("not a valid duration string: {0:?}")]
    NotKuma(String),
}

/// Go quotes what it complains about byte by byte.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            b' '..=b'~' => quoted.push(char::from(byte)),
            // Go leaves DEL alone.
            0x7f => quoted.push('\x7f'),
            _ => quoted.push_str(&format!("\\x{byte:02x}")),
        }
    }
    quoted.push('"');
    quoted
}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(Self::ZERO);
        }
        let mut total = 0_u64;
        while let Some(component) = Component::split(&mut rest) {
            let nanos = component.nanos(text)?;
            total = total
                .checked_add(nanos)
                .filter(|total| *total <= LIMIT)
                .ok_or_else(|| DurationError::Invalid(text.to_owned()))?;
        }
        let empty = text.trim_start_matches(['-', '+']).is_empty();
        let signed = if negative { 0_i64.checked_sub_unsigned(total) } else { 0_i64.checked_add_unsigned(total) };
        signed.filter(|_| rest.is_empty() && !empty).map(Self).ok_or_else(|| DurationError::Invalid(text.to_owned()))
    }
}

/// One number with its unit, `1.5h` of `1.5h20m`.
struct Component<'a> {
    whole: &'a str,
    fraction: &'a str,
    unit: &'a str,
}

impl<'a> Component<'a> {
    /// Takes a component off the front; `None` where none begins.
    fn split(rest: &mut &'a str) -> Option<Self> {
        let (whole, after) = split_digits(rest);
        let (fraction, after) = after.strip_prefix('.').map_or(("", after), split_digits);
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        *rest = after;
        Some(Self { whole, fraction, unit })
    }

    fn nanos(&self, text: &str) -> Result<u64, DurationError> {
        let unit = match self.unit {
            "" => return Err(DurationError::MissingUnit(text.to_owned())),
            "ns" => NANOSECOND,
            "us" | "\u{b5}s" | "\u{3bc}s" => MICROSECOND,
            "ms" => MILLISECOND,
            "s" => SECOND,
            "m" => MINUTE,
            "h" => HOUR,
            unknown => return Err(DurationError::UnknownUnit(unknown.to_owned(), text.to_owned())),
        };
        let whole = if self.whole.is_empty() { Some(0) } else { self.whole.parse::<u64>().ok() };
        whole
            .and_then(|whole| whole.checked_mul(unit))
            .and_then(|nanos| nanos.checked_add(self.fraction_of(unit)))
            .filter(|nanos| *nanos <= LIMIT)
            .ok_or_else(|| DurationError::Invalid(text.to_owned()))
    }

    /// Digits beyond a nanosecond are cut off.
    fn fraction_of(&self, unit: u64) -> u64 {
        let (mut nanos, mut scale) = (0_u128, 1_u128);
        for digit in self.fraction.bytes().take(18) {
            nanos = nanos * 10 + u128::from(digit - b'0');
            scale *= 10;
        }
        u64::try_from(nanos * u128::from(unit) / scale).unwrap_or(u64::MAX)
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = self.0.unsigned_abs();
        let sign = if self.0 < 0 { "-" } else { "" };
        f.write_str(sign)?;
        match span {
            0 => f.write_str("0s"),
            1..MICROSECOND => write!(f, "{span}ns"),
            MICROSECOND..MILLISECOND => write!(f, "{}\u{b5}s", Decimal { span, unit: MICROSECOND }),
            MILLISECOND..SECOND => write!(f, "{}ms", Decimal { span, unit: MILLISECOND }),
            SECOND..MINUTE => write!(f, "{}s", Decimal { span, unit: SECOND }),
            MINUTE..HOUR => write!(f, "{}m{}s", span / MINUTE, Decimal { span: span % MINUTE, unit: SECOND }),
            HOUR.. => {
                let seconds = Decimal { span: span % MINUTE, unit: SECOND };
                write!(f, "{}h{}m{seconds}s", span / HOUR, span % HOUR / MINUTE)
            }
        }
    }
}

/// `span` in units of `unit` (a power of ten), without trailing zeros.
struct Decimal {
    span: u64,
    unit: u64,
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.unit.ilog10() as usize;
        write!(f, "{}", self.span / self.unit)?;
        let fraction = format!("{:0digits$}", self.span % self.unit);
        match fraction.trim_end_matches('0') {
            "" => Ok(()),
            fraction => write!(f, ".{fraction}"),
        }
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const NUMBER: &str = "json: cannot unmarshal number into Go value of type string";
        struct Text;

        impl Visitor<'_> for Text {
            type Value = GoDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration like \"10s\" or \"1h30m\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<GoDuration, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<GoDuration, E> {
                Err(E::custom("json: cannot unmarshal bool into Go value of type string"))
            }

            fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<GoDuration, E> {
                Err(E::custom(NUMBER))
            }

            fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<GoDuration, E> {
                Err(E::custom(NUMBER))
            }

            fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<GoDuration, E> {
                Err(E::custom(NUMBER))
            }
        }

        deserializer.deserialize_any(Text)
    }
}

impl JsonSchema for GoDuration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// A duration in Kuma's own spelling, one whole number with one unit of `y w d h m s ms`, or `0`: `30d`, `15s`.
///
/// A day has 24 hours, a year 365 days. Used by `dpCert.rotation.expiration` and `caCert.expiration` of a mesh's CA
/// backend (api-and-kumactl 3.1).
///
/// # Errors
/// Any other text, and a span beyond 292 years.
pub fn parse_kuma(text: &str) -> Result<Duration, DurationError> {
    let (digits, unit) = split_digits(text);
    let unit = match unit {
        "" if text == "0" => return Ok(Duration::ZERO),
        "ms" => Some(MILLISECOND),
        "s" => Some(SECOND),
        "m" => Some(MINUTE),
        "h" => Some(HOUR),
        "d" => Some(24 * HOUR),
        "w" => Some(7 * 24 * HOUR),
        "y" => Some(365 * 24 * HOUR),
        _ => None,
    };
    let span = unit.and_then(|unit| digits.parse::<u64>().ok()?.checked_mul(unit)).filter(|span| *span < LIMIT);
    span.map(Duration::from_nanos).ok_or_else(|| DurationError::NotKuma(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<GoDuration, String> {
        text.parse().map_err(|error: DurationError| error.to_string())
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let cases: &[(&str, i64)] = &[
            ("0", 0),
            ("-0", 0),
            ("5s", 5_000_000_000),
            ("+5s", 5_000_000_000),
            ("-1.5h", -5_400_000_000_000),
            ("5.s", 5_000_000_000),
            (".5s", 500_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1m1h", 3_660_000_000_000),
            ("10ns11us12\u{b5}s13\u{3bc}s", 36_010),
            ("39h9m14.425s", 140_954_425_000_000),
            ("0.3333333333333333333h", 1_200_000_000_000),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
        ];
        for (text, nanos) in cases {
            let read = parse(text).map(GoDuration::nanos);
            // Go computes the fraction in floating point; ours is exact and cut off, at most one nanosecond apart.
            assert!(read.as_ref().is_ok_and(|read| nanos.abs_diff(*read) <= 1), "{text}: {read:?}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_in_gos_words() {
        let cases = [
            ("", r#"time: invalid duration """#),
            ("abc", r#"time: invalid duration "abc""#),
            ("-", r#"time: invalid duration "-""#),
            ("--1s", r#"time: invalid duration "--1s""#),
            (".s", r#"time: invalid duration ".s""#),
            (".", r#"time: invalid duration ".""#),
            ("s", r#"time: invalid duration "s""#),
            ("9223372036854775808ns", r#"time: invalid duration "9223372036854775808ns""#),
            ("99999999999999999999s", r#"time: invalid duration "99999999999999999999s""#),
            ("3000000h", r#"time: invalid duration "3000000h""#),
            ("5", r#"time: missing unit in duration "5""#),
            ("1h5", r#"time: missing unit in duration "1h5""#),
            ("1s.", r#"time: invalid duration "1s.""#),
            ("1d", r#"time: unknown unit "d" in duration "1d""#),
            ("1s ", r#"time: unknown unit "s " in duration "1s ""#),
            ("1\"\u{e9}", r#"time: unknown unit "\"\xc3\xa9" in duration "1\"\xc3\xa9""#),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text), Err(error.to_owned()));
        }
    }

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        let cases: &[(i64, &str)] = &[
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1\u{b5}s"),
            (2_200_000, "2.2ms"),
            (-500_000_000, "-500ms"),
            (1_500_000_000, "1.5s"),
            (300_000_000_000, "5m0s"),
            (305_001_000_000, "5m5.001s"),
            (3_600_000_000_000, "1h0m0s"),
            (90_061_000_000_001, "25h1m1.000000001s"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ];
        for (nanos, text) in cases {
            assert_eq!(GoDuration::from_nanos(*nanos).to_string(), *text);
        }
    }

    #[test]
    fn json_takes_text_alone() {
        let read = |json: &str| serde_json::from_str::<GoDuration>(json).map_err(|error| error.to_string());
        assert_eq!(read(r#""1h""#), Ok(GoDuration::from_secs(3600)));
        assert_eq!(serde_json::to_string(&GoDuration::from_secs(3600)).unwrap(), r#""1h0m0s""#);
        assert!(read("5").unwrap_err().starts_with("json: cannot unmarshal number into Go value of type string"));
        assert!(read("{}").is_err());
        assert!(serde_json::from_value::<Option<GoDuration>>(serde_json::Value::Null).unwrap().is_none());
    }

    #[test]
    fn kumas_spelling_knows_days_and_takes_one_number() {
        assert_eq!(parse_kuma("1d"), Ok(Duration::from_hours(24)));
        assert_eq!(parse_kuma("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_kuma("10y"), Ok(Duration::from_hours(24 * 3650)));
        assert_eq!(parse_kuma("0"), Ok(Duration::ZERO));
        for text in ["", "d", "1", "1h30m", "-1d", "1.5d", "1 d", "1000y", "99999999999999999999ms"] {
            assert_eq!(parse_kuma(text).unwrap_err().to_string(), format!("not a valid duration string: {text:?}"));
        }
    }

    #[test]
    fn protobuf_durations_keep_sign_and_nanoseconds() {
        let proto = prost_types::Duration::from(GoDuration::from_millis(-1_500));
        assert_eq!((proto.seconds, proto.nanos), (-1, -500_000_000));
        assert_eq!(GoDuration::from(&proto), GoDuration::from_millis(-1_500));
        assert_eq!(prost_types::Duration::from(GoDuration::from_millis(500)).to_string(), "0.500s");
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(nanos in any::<i64>()) {
            let duration = GoDuration::from_nanos(nanos);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn any_text_is_a_duration_or_an_error(text in "[-+0-9.a-z\u{b5} ]{0,24}") {
            let _ = text.parse::<GoDuration>();
            let _ = parse_kuma(&text);
        }
    }
}
