//! Values as Go's `fmt` prints them.

use std::fmt::Write as _;

use gotmpl::Value;
use karat_value::print::quote;

/// A value as it is printed by itself.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Float(float) => shortest(*float),
        value => value.to_string(),
    }
}

/// Values one after the other, with a blank between two of which neither is a text.
pub(crate) fn sprint(values: &[Value]) -> String {
    let mut out = String::new();
    let mut after_text = true;
    for value in values {
        let is_text = matches!(value, Value::String(_));
        if !is_text && !after_text {
            out.push(' ');
        }
        out.push_str(&argument(value));
        after_text = is_text;
    }
    out
}

/// Values with a blank between each two, and the end of a line.
pub(crate) fn sprintln(values: &[Value]) -> String {
    let all: Vec<String> = values.iter().map(argument).collect();
    all.join(" ") + "\n"
}

/// `%v`
fn argument(value: &Value) -> String {
    match value {
        Value::Nil => "<nil>".into(),
        value => plain(value),
    }
}

/// A float with as many digits as it needs, as `%v` has it.
fn shortest(float: f64) -> String {
    if !float.is_finite() {
        return special(float);
    }
    let written = format!("{float:e}");
    let (_, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) { format!("{float}") } else { with_exponent(&written) }
}

fn special(float: f64) -> String {
    match float {
        f if f.is_nan() => "NaN".into(),
        f if f > 0.0 => "+Inf".into(),
        _ => "-Inf".into(),
    }
}

/// `1.5e6` as `1.5e+06`.
fn with_exponent(written: &str) -> String {
    let (mantissa, exponent) = written.split_once('e').unwrap_or((written, "0"));
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// `printf`: a format and its values.
pub(crate) fn sprintf(format: &str, values: &[Value]) -> String {
    let mut printer = Printer { rest: format, values, next: 0, reordered: false };
    let mut out = String::new();
    while let Some(at) = printer.rest.find('%') {
        out.push_str(&printer.rest[..at]);
        printer.rest = &printer.rest[at + 1..];
        printer.directive(&mut out);
    }
    out.push_str(printer.rest);
    if !printer.reordered && printer.next < values.len() {
        let extra: Vec<String> = values[printer.next..].iter().map(typed).collect();
        // Writing to a String cannot fail.
        let _ = write!(out, "%!(EXTRA {})", extra.join(", "));
    }
    out
}

struct Printer<'a> {
    /// What is left of the format.
    rest: &'a str,
    values: &'a [Value],
    /// The value that comes next.
    next: usize,
    /// Whether a value was chosen by its number.
    reordered: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    sharp: bool,
    zero: bool,
    plus: bool,
    minus: bool,
    space: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Widths and precisions beyond it are none.
const LARGEST: usize = 65_535;

impl<'a> Printer<'a> {
    fn directive(&mut self, out: &mut String) {
        let mut flags = Flags::default();
        loop {
            match self.rest.chars().next() {
                Some('#') => flags.sharp = true,
                Some('0') => flags.zero = true,
                Some('+') => flags.plus = true,
                Some('-') => flags.minus = true,
                Some(' ') => flags.space = true,
                _ => break,
            }
            self.rest = &self.rest[1..];
        }
        let mut good = self.index();
        if self.accept('*') {
            match self.star() {
                Some(width) => {
                    flags.minus |= width < 0;
                    flags.width = usize::try_from(width.unsigned_abs()).ok();
                }
                None => out.push_str("%!(BADWIDTH)"),
            }
        } else {
            flags.width = self.digits();
        }
        if self.accept('.') {
            good &= self.index();
            if self.accept('*') {
                flags.precision = self.star().and_then(|p| usize::try_from(p).ok());
                if flags.precision.is_none() {
                    out.push_str("%!(BADPREC)");
                }
            } else {
                flags.precision = Some(self.digits().unwrap_or(0));
            }
        }
        good &= self.index();
        let Some(verb) = self.rest.chars().next() else {
            out.push_str("%!(NOVERB)");
            return;
        };
        self.rest = &self.rest[verb.len_utf8()..];
        let value = self.values.get(self.next);
        match (verb, value) {
            ('%', _) => out.push('%'),
            _ if !good => {
                let _ = write!(out, "%!{verb}(BADINDEX)");
            }
            (_, None) => {
                let _ = write!(out, "%!{verb}(MISSING)");
            }
            (_, Some(value)) => {
                self.next += 1;
                out.push_str(&flags.print(verb, value));
            }
        }
    }

    fn accept(&mut self, c: char) -> bool {
        let rest = self.rest.strip_prefix(c);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn digits(&mut self) -> Option<usize> {
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        digits.parse().ok().filter(|n| *n <= LARGEST)
    }

    /// `[2]`: whether it is a number of a value, or nothing at all.
    fn index(&mut self) -> bool {
        let Some(inner) = self.rest.strip_prefix('[') else { return true };
        self.reordered = true;
        let Some(end) = inner.find(']') else {
            self.rest = inner;
            return false;
        };
        self.rest = &inner[end + 1..];
        let index = inner[..end].parse::<usize>().ok().and_then(|n| n.checked_sub(1));
        self.next = index.filter(|n| *n < self.values.len()).unwrap_or(self.next);
        index.is_some_and(|n| n < self.values.len())
    }

    /// `*`: a width or precision that is a value.
    fn star(&mut self) -> Option<i64> {
        let value = self.values.get(self.next)?;
        self.next += 1;
        match value {
            Value::Int(n) if n.unsigned_abs() <= LARGEST as u64 => Some(*n),
            _ => None,
        }
    }
}

impl Flags {
    fn print(self, verb: char, value: &Value) -> String {
        let found = match (verb, value) {
            ('T', value) => Some(self.pad(go_type(value).into(), false)),
            (_, Value::Nil) if verb == 'v' => Some(self.pad("<nil>".into(), self.zero)),
            (_, Value::Nil) => return format!("%!{verb}(<nil>)"),
            (_, Value::Bool(flag)) => {
                matches!(verb, 'v' | 't').then(|| self.pad(flag.to_string(), self.zero))
            }
            (_, Value::Int(int)) => self.integer(verb, i128::from(*int)),
            (_, Value::Uint(int)) => self.integer(verb, i128::from(*int)),
            (_, Value::Float(float)) => self.float(verb, *float),
            (_, Value::String(text)) => self.text(verb, text),
            (_, other) => Some(self.pad(other.to_string(), self.zero)),
        };
        found.unwrap_or_else(|| format!("%!{verb}({})", typed(value)))
    }

    /// Fills up to the width, with zeros where they may stand.
    fn pad(self, text: String, zeros: bool) -> String {
        let missing = self.width.unwrap_or(0).saturating_sub(text.chars().count());
        let fill = if zeros && !self.minus { "0" } else { " " }.repeat(missing);
        if self.minus { text + &fill } else { fill + &text }
    }

    fn integer(self, verb: char, int: i128) -> Option<String> {
        let radix = match verb {
            'v' | 'd' => 10,
            'b' => 2,
            'o' | 'O' => 8,
            'x' | 'X' => 16,
            'c' => return Some(self.pad(character(int).to_string(), self.zero)),
            'q' => return Some(self.pad(quoted(character(int)), self.zero)),
            'U' => return Some(self.pad(format!("U+{int:04X}"), false)),
            _ => return None,
        };
        let magnitude = int.unsigned_abs();
        if self.precision == Some(0) && magnitude == 0 {
            return Some(self.pad(String::new(), false));
        }
        let mut digits = match radix {
            2 => format!("{magnitude:b}"),
            8 => format!("{magnitude:o}"),
            16 if verb == 'X' => format!("{magnitude:X}"),
            16 => format!("{magnitude:x}"),
            _ => magnitude.to_string(),
        };
        let sign = match int {
            i128::MIN..0 => "-",
            _ if self.plus => "+",
            _ if self.space => " ",
            _ => "",
        };
        let least = match (self.precision, self.width) {
            (Some(precision), _) => precision,
            (None, Some(width)) if self.zero && !self.minus => width.saturating_sub(sign.len()),
            _ => 0,
        };
        digits = "0".repeat(least.saturating_sub(digits.len())) + &digits;
        let prefix = match verb {
            'O' => "0o",
            'b' if self.sharp => "0b",
            'o' if self.sharp && !digits.starts_with('0') => "0",
            'x' if self.sharp => "0x",
            'X' if self.sharp => "0X",
            _ => "",
        };
        Some(self.pad(format!("{sign}{prefix}{digits}"), false))
    }

    fn float(self, verb: char, float: f64) -> Option<String> {
        let number = float.abs();
        let mut digits = match verb {
            _ if !float.is_finite() => special(number).trim_start_matches('+').to_owned(),
            'e' | 'E' => with_exponent(&format!("{number:.*e}", self.precision.unwrap_or(6))),
            'f' | 'F' => format!("{number:.*}", self.precision.unwrap_or(6)),
            'v' | 'g' | 'G' => match self.precision {
                None => shortest(number),
                Some(precision) => general(number, precision.max(1)),
            },
            'x' | 'X' if self.precision.is_none() => hexadecimal(number),
            _ => return None,
        };
        if verb.is_ascii_uppercase() && verb != 'F' {
            digits = digits.to_uppercase();
        }
        let sign = match float {
            f if f.is_sign_negative() && !f.is_nan() => "-",
            _ if self.plus => "+",
            _ if self.space => " ",
            _ => "",
        };
        if self.zero && !self.minus && float.is_finite() {
            let rest = Self { width: self.width.map(|w| w.saturating_sub(sign.len())), ..self };
            return Some(format!("{sign}{}", rest.pad(digits, true)));
        }
        Some(self.pad(format!("{sign}{digits}"), false))
    }

    fn text(self, verb: char, text: &str) -> Option<String> {
        let cut: String = match self.precision {
            Some(precision) => text.chars().take(precision).collect(),
            None => text.to_owned(),
        };
        let shown = match verb {
            'v' | 's' => cut,
            'q' if self.sharp && !cut.contains(['`', '\n', '\r']) => format!("`{cut}`"),
            'q' => quote(&cut),
            'x' | 'X' => {
                let bytes = text.as_bytes();
                let bytes = &bytes[..self.precision.unwrap_or(bytes.len()).min(bytes.len())];
                let hex =
                    |b: &u8| if verb == 'x' { format!("{b:02x}") } else { format!("{b:02X}") };
                bytes.iter().map(hex).collect::<Vec<_>>().join(if self.space { " " } else { "" })
            }
            _ => return None,
        };
        Some(self.pad(shown, self.zero))
    }
}

/// `%x`: what there is of a float in base 16, and the power of two.
fn hexadecimal(number: f64) -> String {
    const MANTISSA: u32 = 52;
    if number == 0.0 {
        return "0x0p+00".into();
    }
    let bits = number.to_bits();
    let (mut exponent, mut digits) = (bits >> MANTISSA & 0x7ff, bits & ((1 << MANTISSA) - 1));
    let mut below = 1023;
    if exponent == 0 {
        // The first digit that there is comes to stand before the point.
        let shift = digits.leading_zeros() - (63 - MANTISSA);
        digits = digits << shift & ((1 << MANTISSA) - 1);
        (exponent, below) = (1, below + u64::from(shift));
    }
    let digits = format!("{digits:013x}");
    let digits = digits.trim_end_matches('0');
    let point = if digits.is_empty() { "" } else { "." };
    let sign = if exponent < below { '-' } else { '+' };
    format!("0x1{point}{digits}p{sign}{:02}", exponent.abs_diff(below))
}

/// `%.3g`: so many digits, without zeros at the end.
fn general(number: f64, precision: usize) -> String {
    let written = format!("{number:.*e}", precision - 1);
    let (mantissa, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let power: i32 = exponent.parse().unwrap_or(0);
    let trim = |digits: &str| match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => digits.to_owned(),
    };
    let most = i32::try_from(precision).unwrap_or(i32::MAX);
    if power < -4 || power >= most {
        return with_exponent(&format!("{}e{exponent}", trim(mantissa)));
    }
    let behind = usize::try_from(most - 1 - power).unwrap_or(0);
    trim(&format!("{number:.behind$}"))
}

fn character(int: i128) -> char {
    u32::try_from(int).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn quoted(c: char) -> String {
    match c {
        '\'' => "'\\''".into(),
        '"' => "'\"'".into(),
        c => format!("'{}'", quote(c.encode_utf8(&mut [0; 4])).trim_matches('"')),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Nil => "<nil>",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Uint(_) => "uint",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::List(_) => "[]interface {}",
        Value::Map(_) => "map[string]interface {}",
        _ => "func",
    }
}

/// `int=5`
fn typed(value: &Value) -> String {
    match value {
        Value::Nil => "<nil>".into(),
        value => format!("{}={}", go_type(value), plain(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::String(text.into())
    }

    #[track_caller]
    fn check(format: &str, values: &[Value], want: &str) {
        assert_eq!(sprintf(format, values), want, "{format}");
    }

    #[test]
    fn floats_need_an_exponent_beyond_six_digits() {
        for (float, want) in [
            (1e6, "1e+06"),
            (1e5, "100000"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (123_456_789.0, "1.23456789e+08"),
            (123_456.5, "123456.5"),
            (1e100, "1e+100"),
            (0.0, "0"),
            (-0.0, "-0"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(plain(&Value::Float(float)), want);
        }
    }

    #[test]
    fn values_in_a_row() {
        let values = [Value::Int(1), Value::Int(2), text("a"), text("b"), Value::Float(1e6)];
        assert_eq!(sprint(&values), "1 2ab1e+06");
        assert_eq!(sprintln(&values), "1 2 a b 1e+06\n");
        assert_eq!(sprint(&[Value::Nil, Value::Bool(true)]), "<nil> true");
    }

    #[test]
    fn formats() {
        let (one, half, a) = (Value::Int(1), Value::Float(0.5), text("a"));
        check("%v|%T|%d", &[one.clone(), one.clone(), one.clone()], "1|int|1");
        check(
            "%v %g %e %f",
            &[half.clone(), half.clone(), half.clone(), half],
            "0.5 0.5 5.000000e-01 0.500000",
        );
        check("%g", std::slice::from_ref(&one), "%!g(int=1)");
        check("%s", std::slice::from_ref(&one), "%!s(int=1)");
        check("%d", std::slice::from_ref(&a), "%!d(string=a)");
        check("%5d|%-5d|%05d|%+d", &[1, 2, -3, 4].map(Value::Int), "    1|2    |-0003|+4");
        check(
            "%x %X %#x %o %#o %O %b %c %q %U",
            &[255, 255, 255, 8, 8, 8, 5, 97, 1, 8364].map(Value::Int),
            "ff FF 0xff 10 010 0o10 101 a '\\x01' U+20AC",
        );
        check("%.3d|%6.3d", &[7, -7].map(Value::Int), "007|  -007");
        check(
            "%5s|%-5s|%.1s|%q|%x",
            &["é", "é", "éa", "\"", "a1"].map(text),
            "    é|é    |é|\"\\\"\"|6131",
        );
        check(
            "%6.2f|%-8.1e|%08.3f|%.3g|%G",
            &[1.5, 1.5, -1.5, 1234.5, 1e-7].map(Value::Float),
            "  1.50|1.5e+00 |-001.500|1.23e+03|1E-07",
        );
        check(
            "%t %v %t",
            &[Value::Bool(true), Value::Bool(false), one.clone()],
            "true false %!t(int=1)",
        );
        check(
            "%x|%x|%X|%x|%x",
            &[1.5, 0.1, 1e6, 0.0, -5e-324].map(Value::Float),
            "0x1.8p+00|0x1.999999999999ap-04|0X1.E848P+19|0x0p+00|-0x1p-1074",
        );
        check("%[2]v %[1]v %v", &[one.clone(), a.clone()], "a 1 a");
        check("%*d|%-*d", &[3, 1, 3, 1].map(Value::Int), "  1|1  ");
        check("%d %d", std::slice::from_ref(&one), "1 %!d(MISSING)");
        check("%d", &[one.clone(), a.clone()], "1%!(EXTRA string=a)");
        check("100%% %", &[], "100% %!(NOVERB)");
        check("%[3]d", std::slice::from_ref(&one), "%!d(BADINDEX)");
        check("%v %s", &[Value::Nil, Value::Nil], "<nil> %!s(<nil>)");
        check("%y", &[a], "%!y(string=a)");
    }
}
