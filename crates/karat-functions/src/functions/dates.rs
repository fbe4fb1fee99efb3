//! Functions on times.

use karat_value::{Type, Value};

use super::collections::fixed;
use crate::args::{Outcome, fail, fail_at, string, text, whole};
use crate::clock::{MONTHS, Moment, Reading, WEEKDAYS, parse_duration, parse_rfc3339};
use crate::function::{CallContext, Function, FunctionError, Kind, Param, Returns};

/// The layout of RFC 3339 with whole seconds.
const RFC3339: &str = "2006-01-02T15:04:05Z07:00";

/// All functions of this group.
pub(crate) const FUNCTIONS: &[Function] = &[
    fixed(
        "formatdate",
        &[Param::new("format", Kind::String), Param::new("time", Kind::String)],
        Kind::String,
        "Shows a time of RFC 3339 by a format of letters: YYYY YY, M MM MMM MMMM, D DD, EEE EEEE, h hh (24 hours), H HH (12 hours), AA aa, m mm, s ss, Z ZZZ ZZZZ ZZZZZ. Other letters stand in quotes.",
        &[(
            "formatdate(\"DD MMM YYYY hh:mm ZZZ\", \"2018-01-02T23:12:01Z\")",
            "02 Jan 2018 23:12 UTC",
        )],
        formatdate,
    ),
    Function {
        variadic: Some(Param::new("format", Kind::String)),
        ..fixed(
            "legacy_isotime",
            &[],
            Kind::String,
            "Shows the start of this run in UTC by a layout of Go; without one, as RFC 3339.",
            &[],
            |args, _, cx| started(args, cx, |moment, format| moment.format(format)),
        )
    },
    Function {
        variadic: Some(Param::new("format", Kind::String)),
        ..fixed(
            "legacy_strftime",
            &[],
            Kind::String,
            "Shows the start of this run in UTC by the conversions of strftime; without a format, as RFC 3339.",
            &[],
            |args, _, cx| started(args, cx, strftime),
        )
    },
    Function {
        returns: Returns::From(|_, _| Ok(moment_type("unix", Type::Number))),
        ..fixed(
            "rfc3339_parse",
            &[Param::new("timestamp", Kind::String)],
            Kind::Any,
            "Takes a time of RFC 3339 apart.",
            &[("rfc3339_parse(\"2023-07-25T23:43:16Z\").weekday_name", "Tuesday")],
            rfc3339_parse,
        )
    },
    Function {
        not_null: false,
        ..fixed(
            "timeadd",
            &[Param::new("timestamp", Kind::String), Param::new("duration", Kind::String)],
            Kind::String,
            "Adds a duration such as \"1h30m\" or \"-10s\" to a time of RFC 3339.",
            &[("timeadd(\"2018-01-01T00:00:00Z\", \"1.5h\")", "2018-01-01T01:30:00Z")],
            timeadd,
        )
    },
    fixed(
        "timestamp",
        &[],
        Kind::String,
        "Gives the time of this call in UTC. For one time in a whole run there is legacy_isotime.",
        &[],
        |_, _, cx| string(moment_of(cx.world().now()).rfc3339()),
    ),
    Function {
        returns: Returns::From(|_, _| Ok(moment_type("rfc3339", Type::String))),
        ..fixed(
            "unix_timestamp_parse",
            &[Param::new("unix_timestamp", Kind::Number)],
            Kind::Any,
            "Takes the seconds since 1970 apart, in UTC.",
            &[("unix_timestamp_parse(0).rfc3339", "1970-01-01T00:00:00Z")],
            unix_timestamp_parse,
        )
    },
];

fn moment_of(timestamp: jiff::Timestamp) -> Moment {
    let nanos = timestamp.subsec_nanosecond();
    let seconds = timestamp.as_second() - i64::from(nanos < 0);
    Moment::utc(seconds, nanos.rem_euclid(1_000_000_000) as u32)
}

fn started(args: &[Value], cx: &dyn CallContext, show: fn(&Moment, &str) -> String) -> Outcome {
    let moment = moment_of(cx.world().started());
    match args {
        [] => string(moment.format(RFC3339)),
        [format] => string(show(&moment, text(format))),
        _ => fail("at most one argument may be given"),
    }
}

/// The conversions of the strftime that templates have known from the beginning; all
/// others stay as they are.
fn strftime(moment: &Moment, format: &str) -> String {
    let mut out = String::with_capacity(format.len());
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let Some(conversion) = rest.next() else {
            out.push('%');
            break;
        };
        let layout = match conversion {
            'a' => "Mon",
            'A' => "Monday",
            'b' => "Jan",
            'B' => "January",
            'd' => "02",
            'H' => "15",
            'I' => "03",
            'L' => ".000",
            'm' => "01",
            'M' => "04",
            'p' => "PM",
            'S' => "05",
            'y' => "06",
            'Y' => "2006",
            'z' => "-0700",
            'Z' => "MST",
            '%' => {
                out.push('%');
                continue;
            }
            other => {
                out.push('%');
                out.push(other);
                continue;
            }
        };
        out.push_str(&moment.format(layout));
    }
    out
}

fn timestamp_error(message: &str) -> String {
    format!("not a timestamp of RFC 3339: {message}")
}

fn formatdate(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    let moment = parse_rfc3339(text(&args[1]), Reading::Strict)
        .map_err(|message| FunctionError::argument(1, timestamp_error(&message)))?;
    let mut out = String::new();
    let mut rest = text(&args[0]);
    while let Some(first) = rest.chars().next() {
        if first == '\'' {
            rest = quoted(&mut out, &rest[1..])?;
        } else if first.is_ascii_alphabetic() {
            let length = rest.len() - rest.trim_start_matches(first).len();
            let (verb, after) = rest.split_at(length);
            out.push_str(&show_verb(&moment, verb)?);
            rest = after;
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    string(out)
}

/// Copies a quoted piece of a date format, in which a doubled quote is a quote, and
/// gives what follows it. Empty quotes are one quote.
fn quoted<'f>(out: &mut String, format: &'f str) -> Result<&'f str, FunctionError> {
    if let Some(rest) = format.strip_prefix('\'') {
        out.push('\'');
        return Ok(rest);
    }
    let mut rest = format;
    while let Some(end) = rest.find('\'') {
        out.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('\'') {
            Some(after) => {
                out.push('\'');
                rest = after;
            }
            None => return Ok(rest),
        }
    }
    // A doubled quote at the very end closes the text, too.
    if format.ends_with('\'') { Ok("") } else { fail_at(0, "the quoted text has no closing '") }
}

fn show_verb(moment: &Moment, verb: &str) -> Result<String, FunctionError> {
    let layout = match verb {
        "YYYY" => "2006",
        "YY" => "06",
        "M" => "1",
        "MM" => "01",
        "MMM" => "Jan",
        "MMMM" => "January",
        "D" => "2",
        "DD" => "02",
        "EEE" => "Mon",
        "EEEE" => "Monday",
        "h" => return Ok(moment.civil().hour.to_string()),
        "hh" => "15",
        "H" => "3",
        "HH" => "03",
        "AA" => "PM",
        "aa" => "pm",
        "m" => "4",
        "mm" => "04",
        "s" => "5",
        "ss" => "05",
        "Z" => "Z07:00",
        "ZZZ" if moment.offset == 0 => return Ok("UTC".to_owned()),
        "ZZZ" | "ZZZZ" => "-0700",
        "ZZZZZ" => "-07:00",
        _ => {
            let hint = match &verb[..1] {
                "Y" => "a year is \"YY\" or \"YYYY\"",
                "M" => "a month is \"M\", \"MM\", \"MMM\" or \"MMMM\"",
                "D" => "a day is \"D\" or \"DD\"",
                "E" => "a weekday is \"EEE\" or \"EEEE\"",
                "h" => "an hour of 24 is \"h\" or \"hh\"",
                "H" => "an hour of 12 is \"H\" or \"HH\"",
                "A" | "a" => "half of the day is \"AA\" or \"aa\"",
                "m" => "a minute is \"m\" or \"mm\"",
                "s" => "a second is \"s\" or \"ss\"",
                "Z" => "a zone is \"Z\", \"ZZZ\", \"ZZZZ\" or \"ZZZZZ\"",
                _ => "letters that mean nothing stand in quotes: 'T'",
            };
            return fail_at(0, format!("unknown verb {verb:?}; {hint}"));
        }
    };
    Ok(moment.format(layout))
}

fn timeadd(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    let moment = parse_rfc3339(text(&args[0]), Reading::Strict)
        .map_err(|message| FunctionError::argument(0, timestamp_error(&message)))?;
    let duration =
        parse_duration(text(&args[1])).map_err(|message| FunctionError::argument(1, message))?;
    string(moment.plus(duration).rfc3339())
}

/// The type of a time taken apart, with one attribute of its own.
fn moment_type(own: &'static str, ty: Type) -> Type {
    let numbers = [
        "year", "year_day", "day", "month", "weekday", "hour", "minute", "second", "iso_year",
        "iso_week",
    ];
    let attributes = numbers.map(|name| (name, Type::Number)).into_iter();
    let names = [("month_name", Type::String), ("weekday_name", Type::String), (own, ty)];
    Type::object(attributes.chain(names))
}

fn parts(moment: &Moment, own: &'static str, value: Value) -> Value {
    let civil = moment.civil();
    let (iso_year, iso_week) = moment.iso_week();
    let number = |value: u32| Value::number(i64::from(value));
    // Years of 64-bit seconds fit 64 bits many times over.
    let year = |year: i128| Value::number(i64::try_from(year).unwrap_or(i64::MAX));
    Value::object_of([
        ("year", year(civil.year)),
        ("year_day", number(civil.year_day)),
        ("day", number(civil.day)),
        ("month", number(civil.month)),
        ("month_name", Value::string(MONTHS[civil.month as usize - 1])),
        ("weekday", number(civil.weekday)),
        ("weekday_name", Value::string(WEEKDAYS[civil.weekday as usize])),
        ("hour", number(civil.hour)),
        ("minute", number(civil.minute)),
        ("second", number(civil.second)),
        ("iso_year", year(iso_year)),
        ("iso_week", number(iso_week)),
        (own, value),
    ])
}

fn rfc3339_parse(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    let text = text(&args[0]);
    let moment = parse_rfc3339(text, Reading::Lax)
        .or_else(|first| parse_rfc3339(text, Reading::LaxWithSpace).map_err(|_| first))
        .map_err(|message| FunctionError::argument(0, timestamp_error(&message)))?;
    let unix = i64::try_from(moment.unix).unwrap_or(i64::MAX);
    Ok(parts(&moment, "unix", Value::number(unix)))
}

fn unix_timestamp_parse(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    let seconds = whole(&args[0]).map_err(|error| FunctionError::argument(0, error.message))?;
    let moment = Moment::utc(seconds, 0);
    Ok(parts(&moment, "rfc3339", Value::string(moment.rfc3339())))
}
