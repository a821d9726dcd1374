//! Places in the log, by number or by time.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use pyro_core::{Seq, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Words for units of time, and their lengths in microseconds.
const UNITS_US: [(&str, u64); 5] =
    [("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000), ("d", 86_400_000_000)];

/// A place in the log: the number of an event, or a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogPoint {
    /// The event with this number.
    Seq(Seq),
    /// Between the events before this time and those after it.
    Time(Timestamp),
}

/// A text that is no place in the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "neither the number of an event, nor a time such as 2026-01-31T12:00:00Z, nor a time ago such as 10m"
)]
pub struct LogPointError;

impl LogPoint {
    /// Returns the place of the event behind the one with this number.
    #[must_use]
    pub const fn after(seq: u64) -> Self {
        Self::Seq(Seq(seq).next())
    }
}

impl FromStr for LogPoint {
    type Err = LogPointError;

    /// Reads digits as the number of an event, `2026-01-31T12:00:00Z` as a time, and `90s`, `10m`, `2h` or `7d` as the time
    /// so long before now.
    fn from_str(text: &str) -> Result<Self, LogPointError> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(|seq| Self::Seq(Seq(seq))).map_err(|_| LogPointError);
        }
        let time =
            text.parse::<jiff::Timestamp>().ok().and_then(|time| u64::try_from(time.as_microsecond()).ok());
        match time {
            Some(time) => Ok(Self::Time(Timestamp(time))),
            None => ago(text).map(Self::Time).ok_or(LogPointError),
        }
    }
}

/// Returns the time so long ago; `None` for a text that is no length of time.
fn ago(text: &str) -> Option<Timestamp> {
    let (digits, unit) = text.split_at(text.find(|character: char| !character.is_ascii_digit())?);
    let (_, unit_us) = UNITS_US.iter().find(|(word, _)| *word == unit)?;
    let len_us = digits.parse::<u64>().ok()?.checked_mul(*unit_us)?;
    // A clock before 1970 counts as 1970.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(Timestamp(u64::try_from(now.as_micros()).ok()?.saturating_sub(len_us)))
}

impl fmt::Display for LogPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seq(seq) => seq.fmt(f),
            Self::Time(time) => {
                let micros = i64::try_from(time.0).ok();
                match micros.and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok()) {
                    Some(time) => write!(f, "{time:.6}"),
                    None => f.write_str("-"),
                }
            }
        }
    }
}

impl Serialize for LogPoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Seq(seq) => serializer.serialize_u64(seq.0),
            Self::Time(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for LogPoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = LogPoint;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the number of an event or a time")
            }

            fn visit_u64<E: de::Error>(self, seq: u64) -> Result<LogPoint, E> {
                Ok(LogPoint::Seq(Seq(seq)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<LogPoint, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for LogPoint {
    fn schema_name() -> Cow<'static, str> {
        "LogPoint".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["integer", "string"], "minimum": 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> u64 {
        match text.parse() {
            Ok(LogPoint::Time(time)) => time.0,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn numbers_times_and_lengths_of_time_are_places() {
        assert_eq!("120".parse(), Ok(LogPoint::Seq(Seq(120))));
        assert_eq!(time("1970-01-01T00:00:01.5Z"), 1_500_000);
        assert_eq!(time("1970-01-01T01:00:00+01:00"), 0);
        let (before, ten, after) = (time("0s"), time("10m"), time("0s"));
        assert!((before - 600_000_000..=after - 600_000_000).contains(&ten));
        assert!(time("1d") < time("23h"), "a day is longer than 23 hours");
        for text in [
            "",
            "-1",
            "1.5h",
            "x",
            "10",
            "2026-01-31",
            "10 m",
            "m",
            "99999999999999999999",
            "999999999999999d",
        ] {
            assert!(text == "10" || text.parse::<LogPoint>().is_err(), "{text:?}");
        }
    }

    /// Catches a place that is another one for the daemon than for the client that read it.
    #[test]
    fn places_are_the_same_on_both_sides_of_the_socket() {
        for point in [LogPoint::Seq(Seq(u64::MAX)), LogPoint::Time(Timestamp(1_767_323_045_678_901))] {
            let json = serde_json::to_string(&point).unwrap();
            assert_eq!(serde_json::from_str::<LogPoint>(&json).unwrap(), point, "{json}");
        }
        let written = serde_json::to_string(&LogPoint::Time(Timestamp(1_767_323_045_678_901))).unwrap();
        assert_eq!(written, "\"2026-01-02T03:04:05.678901Z\"");
    }
}
