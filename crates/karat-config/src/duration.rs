//! Durations as templates write them: Go's `time.ParseDuration`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration as StdDuration;

use serde::{Deserialize, Serialize};

/// A length of time, written as `90s`, `1h10m`, `1.5h`, `300ms`.
///
/// The format is that of Go's `time.ParseDuration`; a negative one is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub StdDuration);

/// A text that is no duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurationError {
    /// The text that was given.
    pub given: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is not a duration: {}", self.given, self.reason)
    }
}

impl std::error::Error for DurationError {}

/// Nanoseconds of each unit. Longer names first where one is the beginning of another.
const UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(given: &str) -> Result<Self, DurationError> {
        let fail = |reason| DurationError { given: given.to_owned(), reason };
        if given.starts_with('-') && given != "-0" {
            return Err(fail("it is negative"));
        }
        let mut rest = given.trim_start_matches(['+', '-']);
        if rest == "0" {
            return Ok(Self::default());
        }
        if rest.is_empty() {
            return Err(fail("write it like \"90s\" or \"1h10m\""));
        }
        let mut total = 0f64;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let number: f64 =
                rest[..digits].parse().map_err(|_| fail("write it like \"90s\" or \"1h10m\""))?;
            rest = &rest[digits..];
            let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
            let Some((_, nanos)) = UNITS.iter().find(|(name, _)| *name == &rest[..unit]) else {
                return Err(fail(if unit == 0 {
                    "a unit is missing (ns, us, ms, s, m, h)"
                } else {
                    "the unit is not one of ns, us, ms, s, m, h"
                }));
            };
            rest = &rest[unit..];
            #[expect(clippy::cast_precision_loss, reason = "units are far below 2^53")]
            let scale = *nanos as f64;
            total += number * scale;
        }
        if total > 9.2e18 {
            return Err(fail("it is longer than 292 years"));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to lie within 0 and 9.2e18"
        )]
        Ok(Self(StdDuration::from_nanos(total.round() as u64)))
    }
}

impl fmt::Display for Duration {
    /// As Go prints a duration: `1h10m0s`, `5m0s`, `1.5s`, `300ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let fraction = |value: u128, unit: u128| {
            let text = format!("{}.{:09}", value / unit, (value % unit) * 1_000_000_000 / unit);
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => write!(f, "{}µs", fraction(nanos, 1_000)),
            1_000_000..1_000_000_000 => write!(f, "{}ms", fraction(nanos, 1_000_000)),
            _ => {
                let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
                if minutes >= 60 {
                    write!(f, "{}h", minutes / 60)?;
                }
                if minutes > 0 {
                    write!(f, "{}m", minutes % 60)?;
                }
                write!(f, "{}s", fraction(rest, 1_000_000_000))
            }
        }
    }
}

impl Serialize for Duration {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_as_go_does() {
        for (given, printed) in [
            ("90s", "1m30s"),
            ("1h10m", "1h10m0s"),
            ("1.5h", "1h30m0s"),
            ("300ms", "300ms"),
            ("1500us", "1.5ms"),
            ("5m", "5m0s"),
            ("0", "0s"),
            ("2h0.5s", "2h0m0.5s"),
        ] {
            assert_eq!(given.parse::<Duration>().unwrap().to_string(), printed, "{given}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for given in ["", "5", "5 m", "m", "1d", "-5s", "1..5s", "5mx"] {
            assert!(given.parse::<Duration>().is_err(), "{given}");
        }
    }
}
