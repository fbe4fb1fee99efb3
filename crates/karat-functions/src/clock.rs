//! Times as the language sees them: an instant with an offset from UTC, over the whole
//! range of 64-bit seconds; the layouts of Go; RFC 3339; durations.

use std::fmt::Write as _;

/// Names of the months.
pub(crate) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Names of the days of the week, from Sunday.
pub(crate) const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

const DAY: i128 = 86_400;

/// An instant and the offset in which it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Seconds since 1970 in UTC.
    pub unix: i128,
    /// Nanoseconds after that second.
    pub nanos: u32,
    /// Seconds east of UTC.
    pub offset: i32,
}

/// A moment taken apart in its offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Civil {
    pub year: i128,
    /// From 1.
    pub month: u32,
    /// From 1.
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
    /// From 0, Sunday.
    pub weekday: u32,
    /// From 1.
    pub year_day: u32,
}

impl Moment {
    /// A moment in UTC.
    pub(crate) fn utc(unix: i64, nanos: u32) -> Self {
        // Instants before this one do not fit the count from year -292277022399 that Go
        // works with; there its arithmetic wraps around to the far future.
        const FIRST: i128 = -9_223_372_028_715_321_600;
        let unix = i128::from(unix);
        let unix = if unix < FIRST { unix + (1_i128 << 64) } else { unix };
        Self { unix, nanos, offset: 0 }
    }

    /// Builds a moment from its parts in an offset.
    pub(crate) fn from_civil(
        (year, month, day): (i128, u32, u32),
        (hour, minute, second): (u32, u32, u32),
        nanos: u32,
        offset: i32,
    ) -> Self {
        let seconds = days_from_civil(year, month, day) * DAY
            + i128::from(hour * 3600 + minute * 60 + second);
        Self { unix: seconds - i128::from(offset), nanos, offset }
    }

    /// The parts in the moment's offset.
    pub(crate) fn civil(&self) -> Civil {
        let local = self.unix + i128::from(self.offset);
        let days = local.div_euclid(DAY);
        let seconds = local.rem_euclid(DAY) as u32;
        let (year, month, day) = civil_from_days(days);
        Civil {
            year,
            month,
            day,
            hour: seconds / 3600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            weekday: (days + 4).rem_euclid(7) as u32,
            year_day: (days - days_from_civil(year, 1, 1)) as u32 + 1,
        }
    }

    /// Year and number of the week by ISO 8601.
    pub(crate) fn iso_week(&self) -> (i128, u32) {
        let days = (self.unix + i128::from(self.offset)).div_euclid(DAY);
        // The Thursday of a week decides its year.
        let monday_based = (days + 3).rem_euclid(7);
        let thursday = days - monday_based + 3;
        let (year, _, _) = civil_from_days(thursday);
        let week = (thursday - days_from_civil(year, 1, 1)) / 7 + 1;
        (year, week as u32)
    }

    /// The moment some nanoseconds later or earlier.
    pub(crate) fn plus(&self, nanos: i64) -> Self {
        let total = self.unix * 1_000_000_000 + i128::from(self.nanos) + i128::from(nanos);
        Self {
            unix: total.div_euclid(1_000_000_000),
            nanos: total.rem_euclid(1_000_000_000) as u32,
            offset: self.offset,
        }
    }

    /// RFC 3339 with whole seconds.
    pub(crate) fn rfc3339(&self) -> String {
        self.format("2006-01-02T15:04:05Z07:00")
    }
}

/// Days since 1970-01-01 of a date of the Gregorian calendar.
fn days_from_civil(year: i128, month: u32, day: u32) -> i128 {
    // Years are counted from March, so that the leap day is the last of its year.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let month = i128::from((month + 9) % 12);
    let day_of_year = (153 * month + 2) / 5 + i128::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i128) -> (i128, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + i128::from(month <= 2);
    (year, month as u32, day as u32)
}

/// The last day of a month.
fn days_in(year: i128, month: u32) -> u32 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// One element of a layout, as the text that stands for it there.
const ELEMENTS: &[&str] = &[
    // Longer texts stand before those that begin alike.
    "January",
    "Jan",
    "Monday",
    "Mon",
    "MST",
    "002",
    "01",
    "02",
    "03",
    "04",
    "05",
    "06",
    "2006",
    "__2",
    "_2",
    "15",
    "1",
    "2",
    "3",
    "4",
    "5",
    "PM",
    "pm",
    "-07:00:00",
    "-070000",
    "-07:00",
    "-0700",
    "-07",
    "Z07:00:00",
    "Z070000",
    "Z07:00",
    "Z0700",
    "Z07",
];

/// Finds the element that a layout begins with.
fn element(layout: &str) -> Option<&'static str> {
    let found = ELEMENTS.iter().copied().find(|element| layout.starts_with(element))?;
    let after = &layout[found.len()..];
    let lower_follows = after.starts_with(|c: char| c.is_ascii_lowercase());
    match found {
        // A longer word that begins with a short name is no element.
        "Jan" | "Mon" if lower_follows => None,
        // The year after an underscore is a year, not a day.
        "_2" if layout.starts_with("_2006") => None,
        found => Some(found),
    }
}

/// A fraction of a second in a layout: its length, and whether it is all nines.
fn fraction(layout: &str) -> Option<(usize, bool)> {
    let bytes = layout.as_bytes();
    if !matches!(bytes.first(), Some(b'.' | b',')) {
        return None;
    }
    let digit = *bytes.get(1).filter(|digit| matches!(digit, b'0' | b'9'))?;
    let count = bytes[1..].iter().take_while(|byte| **byte == digit).count();
    let digit_follows = bytes.get(1 + count).is_some_and(u8::is_ascii_digit);
    (!digit_follows).then_some((1 + count, digit == b'9'))
}

impl Moment {
    /// Shows the moment by a layout of Go, in which the parts of
    /// `Mon Jan 2 15:04:05 MST 2006` stand for those of the moment.
    pub(crate) fn format(&self, layout: &str) -> String {
        let civil = self.civil();
        let mut out = String::with_capacity(layout.len() + 8);
        let mut rest = layout;
        while let Some(next) = rest.chars().next() {
            if let Some((length, nines)) = fraction(rest) {
                self.put_fraction(&mut out, &rest[..length], nines);
                rest = &rest[length..];
            } else if let Some(found) = element(rest) {
                self.put_element(&mut out, found, &civil);
                rest = &rest[found.len()..];
            } else {
                out.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
        out
    }

    fn put_fraction(&self, out: &mut String, element: &str, nines: bool) {
        let digits = element.len() - 1;
        let shown = format!("{:09}", self.nanos);
        let mut text: String = shown.chars().chain(std::iter::repeat('0')).take(digits).collect();
        if digits > 9 {
            // Go knows nine digits; a longer fraction is filled up with nothing.
            text.truncate(9);
        }
        if nines {
            let kept = text.trim_end_matches('0').len();
            text.truncate(kept);
            if text.is_empty() {
                return;
            }
        }
        out.push_str(&element[..1]);
        out.push_str(&text);
    }

    fn put_element(&self, out: &mut String, element: &str, civil: &Civil) {
        let half = if civil.hour.is_multiple_of(12) { 12 } else { civil.hour % 12 };
        let month = MONTHS[civil.month as usize - 1];
        let weekday = WEEKDAYS[civil.weekday as usize];
        let _ = match element {
            "January" => write!(out, "{month}"),
            "Jan" => write!(out, "{}", &month[..3]),
            "1" => write!(out, "{}", civil.month),
            "01" => write!(out, "{:02}", civil.month),
            "Monday" => write!(out, "{weekday}"),
            "Mon" => write!(out, "{}", &weekday[..3]),
            "2" => write!(out, "{}", civil.day),
            "_2" => write!(out, "{:2}", civil.day),
            "02" => write!(out, "{:02}", civil.day),
            "__2" => write!(out, "{:3}", civil.year_day),
            "002" => write!(out, "{:03}", civil.year_day),
            "15" => write!(out, "{:02}", civil.hour),
            "3" => write!(out, "{half}"),
            "03" => write!(out, "{half:02}"),
            "4" => write!(out, "{}", civil.minute),
            "04" => write!(out, "{:02}", civil.minute),
            "5" => write!(out, "{}", civil.second),
            "05" => write!(out, "{:02}", civil.second),
            "2006" if civil.year < 0 => write!(out, "-{:04}", -civil.year),
            "2006" => write!(out, "{:04}", civil.year),
            "06" => write!(out, "{:02}", civil.year.max(0) % 100),
            "PM" => write!(out, "{}", if civil.hour >= 12 { "PM" } else { "AM" }),
            "pm" => write!(out, "{}", if civil.hour >= 12 { "pm" } else { "am" }),
            "MST" if self.offset == 0 => write!(out, "UTC"),
            "MST" => {
                // A zone without a name shows its offset.
                let sign = if self.offset < 0 { '-' } else { '+' };
                let minutes = self.offset.abs() / 60;
                write!(out, "{sign}{:02}{:02}", minutes / 60, minutes % 60)
            }
            zone if zone.starts_with('Z') && self.offset == 0 => write!(out, "Z"),
            zone => {
                let sign = if self.offset < 0 { '-' } else { '+' };
                let offset = self.offset.unsigned_abs();
                let _ = write!(out, "{sign}{:02}", offset / 3600);
                let colon = if zone.contains(':') { ":" } else { "" };
                let parts = zone[1..].replace(':', "").len() / 2;
                if parts > 1 {
                    let _ = write!(out, "{colon}{:02}", offset / 60 % 60);
                }
                if parts > 2 {
                    let _ = write!(out, "{colon}{:02}", offset % 60);
                }
                Ok(())
            }
        };
    }
}

/// How forgiving a reader of timestamps is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// RFC 3339 to the letter.
    Strict,
    /// As Go reads the layout `2006-01-02T15:04:05.999999999Z07:00`: the hour may have
    /// one digit, the fraction a comma.
    Lax,
    /// The same with spaces for the `T`.
    LaxWithSpace,
}

/// Reads a timestamp.
///
/// # Errors
/// What was expected where.
pub(crate) fn parse_rfc3339(text: &str, reading: Reading) -> Result<Moment, String> {
    let mut reader = Reader { rest: text };
    let year = i128::from(reader.number("year", 4, 4)?);
    reader.literal("-")?;
    let month = reader.number("month", 2, 2)?;
    if !(1..=12).contains(&month) {
        return Err("month out of range".to_owned());
    }
    reader.literal("-")?;
    let day = reader.number("day of month", 2, 2)?;
    match reading {
        Reading::LaxWithSpace => reader.spaces()?,
        Reading::Strict | Reading::Lax => {
            if !reader.eat("T") {
                return Err("missing required time introducer 'T'".to_owned());
            }
        }
    }
    let hour_digits = if reading == Reading::Strict { 2 } else { 1 };
    let hour = reader.number("hour", hour_digits, 2)?;
    if hour > 23 {
        return Err("hour must be between 0 and 23 inclusive".to_owned());
    }
    reader.literal(":")?;
    let minute = reader.number("minute", 2, 2)?;
    if minute > 59 {
        return Err("minute must be between 0 and 59 inclusive".to_owned());
    }
    reader.literal(":")?;
    let second = reader.number("second", 2, 2)?;
    if second > 59 {
        return Err("second must be between 0 and 59 inclusive".to_owned());
    }
    let nanos = reader.fraction(reading != Reading::Strict);
    let offset = reader.zone(reading == Reading::Strict)?;
    if !reader.rest.is_empty() {
        return Err(format!("unexpected extra text {:?}", reader.rest));
    }
    if day < 1 || day > days_in(year, month) {
        return Err("day out of range".to_owned());
    }
    Ok(Moment::from_civil((year, month, day), (hour, minute, second), nanos, offset))
}

/// Reads what YAML 1.1 calls a timestamp, as far as Go's YAML readers know it.
pub(crate) fn parse_yaml_timestamp(text: &str) -> Option<Moment> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits != 4 || text.as_bytes().get(4) != Some(&b'-') {
        return None;
    }
    yaml_timestamp(text).ok()
}

fn yaml_timestamp(text: &str) -> Result<Moment, String> {
    let mut reader = Reader { rest: text };
    let year = i128::from(reader.number("year", 4, 4)?);
    reader.literal("-")?;
    let month = reader.number("month", 1, 2)?;
    reader.literal("-")?;
    let day = reader.number("day of month", 1, 2)?;
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return Err("date out of range".to_owned());
    }
    if reader.rest.is_empty() {
        return Ok(Moment::from_civil((year, month, day), (0, 0, 0), 0, 0));
    }
    let zoned = reader.eat("T") || reader.eat("t");
    if !zoned {
        reader.spaces()?;
    }
    let hour = reader.number("hour", 1, 2)?;
    reader.literal(":")?;
    let minute = reader.number("minute", 1, 2)?;
    reader.literal(":")?;
    let second = reader.number("second", 1, 2)?;
    if hour > 23 || minute > 59 || second > 59 {
        return Err("time out of range".to_owned());
    }
    let nanos = reader.fraction(true);
    let offset = if zoned { reader.zone(false)? } else { 0 };
    if !reader.rest.is_empty() {
        return Err("unexpected extra text".to_owned());
    }
    Ok(Moment::from_civil((year, month, day), (hour, minute, second), nanos, offset))
}

struct Reader<'t> {
    rest: &'t str,
}

impl Reader<'_> {
    fn eat(&mut self, literal: &str) -> bool {
        match self.rest.strip_prefix(literal) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn literal(&mut self, literal: &str) -> Result<(), String> {
        if self.eat(literal) {
            Ok(())
        } else if self.rest.is_empty() {
            Err(format!("end of text where {literal:?} is expected"))
        } else {
            Err(format!("found {:?} where {literal:?} is expected", self.rest))
        }
    }

    fn spaces(&mut self) -> Result<(), String> {
        let trimmed = self.rest.trim_start_matches(' ');
        if trimmed.len() == self.rest.len() {
            return Err("missing space before the time".to_owned());
        }
        self.rest = trimmed;
        Ok(())
    }

    fn number(&mut self, what: &str, least: usize, most: usize) -> Result<u32, String> {
        let digits = self.rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
        if digits < least {
            return Err(if self.rest.is_empty() {
                format!("end of text before {what}")
            } else {
                format!("cannot use {:?} as {what}", self.rest)
            });
        }
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        number.parse().map_err(|_| format!("cannot use {number:?} as {what}"))
    }

    fn fraction(&mut self, comma: bool) -> u32 {
        let starts = self.rest.starts_with('.') || (comma && self.rest.starts_with(','));
        let digits = self.rest.bytes().skip(1).take_while(u8::is_ascii_digit).count();
        if !starts || digits == 0 {
            return 0;
        }
        let shown = &self.rest[1..=digits];
        let nanos = shown
            .bytes()
            .chain(std::iter::repeat(b'0'))
            .take(9)
            .fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0'));
        self.rest = &self.rest[1 + digits..];
        nanos
    }

    fn zone(&mut self, strict: bool) -> Result<i32, String> {
        if self.eat("Z") {
            return Ok(0);
        }
        let sign = if self.eat("+") {
            1
        } else if self.eat("-") {
            -1
        } else if self.rest.is_empty() {
            return Err("end of text before UTC offset".to_owned());
        } else {
            return Err(format!("cannot use {:?} as UTC offset", self.rest));
        };
        let hours = self.number("UTC offset", 2, 2)?;
        self.literal(":")?;
        let minutes = self.number("UTC offset", 2, 2)?;
        // Outside of the strict reading, offsets of 24 hours and 60 minutes are met.
        let slack = u32::from(!strict);
        if hours > 23 + slack || minutes > 59 + slack {
            return Err("UTC offset out of range".to_owned());
        }
        Ok(sign * (hours * 3600 + minutes * 60) as i32)
    }
}

/// Reads a duration such as `1h30m` or `-1.5h`, in nanoseconds.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let limit: u128 = 1 << 63;
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let whole = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, mut after) = rest.split_at(whole);
        let mut fraction = "";
        let mut dotted = false;
        if let Some(tail) = after.strip_prefix('.') {
            let count = tail.bytes().take_while(u8::is_ascii_digit).count();
            (fraction, after) = tail.split_at(count);
            dotted = true;
        }
        if digits.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit_end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let scale: u64 = match unit {
            "" => return Err(format!("missing unit in duration {text:?}")),
            "ns" => 1,
            "us" | "µs" | "μs" => 1000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            unit => {
                return Err(format!(
                    "unknown unit {unit:?} in duration {text:?}; use ns, us, ms, s, m or h"
                ));
            }
        };
        let value = digits
            .bytes()
            .try_fold(0u128, |value, digit| {
                let value = value * 10 + u128::from(digit - b'0');
                (value <= limit).then_some(value)
            })
            .ok_or_else(invalid)?;
        total += value * u128::from(scale);
        if dotted {
            // Digits past the precision of 63 bits are dropped, as is the rest of a
            // nanosecond.
            let (mut part, mut divisor) = (0u64, 1f64);
            for digit in fraction.bytes() {
                let Some(longer) = part
                    .checked_mul(10)
                    .and_then(|part| part.checked_add(u64::from(digit - b'0')))
                    .filter(|part| *part <= 1 << 63)
                else {
                    break;
                };
                part = longer;
                divisor *= 10.0;
            }
            total += (part as f64 * (scale as f64 / divisor)) as u128;
        }
        if total > limit {
            return Err(invalid());
        }
        rest = next;
    }
    match (negative, total) {
        (true, total) => i64::try_from(-(total as i128)).map_err(|_| invalid()),
        (false, total) => i64::try_from(total).map_err(|_| invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strict(text: &str) -> Moment {
        parse_rfc3339(text, Reading::Strict).unwrap()
    }

    #[test]
    fn layouts_of_go() {
        let moment = strict("2018-01-02T23:12:01.5-07:00");
        assert_eq!(
            moment.format("Mon, 02 Jan 2006 15:04:05 MST"),
            "Tue, 02 Jan 2018 23:12:01 -0700"
        );
        assert_eq!(
            moment.format("2006-01-02T15:04:05.000000000Z07:00"),
            "2018-01-02T23:12:01.500000000-07:00"
        );
        assert_eq!(
            moment.format("3:04PM .999 January Januaryx Janx"),
            "11:12PM .5 January Januaryx Janx"
        );
        assert_eq!(moment.format("_2006 __2 002 _2"), "_2018   2 002  2");
    }

    #[test]
    fn weeks_and_years_at_the_edges() {
        assert_eq!(strict("2021-01-01T00:00:00Z").iso_week(), (2020, 53));
        assert_eq!(strict("2024-12-30T00:00:00Z").iso_week(), (2025, 1));
        assert_eq!(strict("2024-12-31T00:00:00Z").civil().year_day, 366);
        assert_eq!(strict("0001-01-01T00:00:00Z").unix, -62_135_596_800);
        let far = Moment::utc(1_000_000_000_000_000_000, 0);
        assert_eq!(far.rfc3339(), "31688740476-10-23T01:46:40Z");
    }

    #[test]
    fn strictness() {
        for bad in [
            "2018-12-02t03:04:05z",
            "2018-12-02T3:04:05Z",
            "2018-12-02T03:04:05,5Z",
            "2018-12-02",
            "2018-02-30T03:04:05Z",
            "2018-12-02T24:00:00Z",
            "2018-12-02T03:04:05+24:00",
            " 2018-12-02T03:04:05Z",
            "2018-12-02T03:04:60Z",
            "2018-12-02T03:04:05Zx",
        ] {
            assert!(parse_rfc3339(bad, Reading::Strict).is_err(), "{bad}");
        }
        for good in ["2018-12-02T3:04:05Z", "2018-12-02T03:04:05,5Z", "2018-12-02T03:04:05+24:00"] {
            assert!(parse_rfc3339(good, Reading::Lax).is_ok(), "{good}");
        }
        assert!(parse_rfc3339("2018-12-02   03:04:05Z", Reading::LaxWithSpace).is_ok());
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("1.5h"), Ok(5_400_000_000_000));
        assert_eq!(parse_duration("-1ns"), Ok(-1));
        assert_eq!(parse_duration("1µs"), Ok(1000));
        assert_eq!(parse_duration("2562047h47m16.854775807s"), Ok(i64::MAX));
        assert_eq!(parse_duration("-2562047h47m16.854775808s"), Ok(i64::MIN));
        for bad in ["", "1", " 1h", "1H", "1h 30m", "1d", ".", "-", "2562047h47m16.854775808s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
