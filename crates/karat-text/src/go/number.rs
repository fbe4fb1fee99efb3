//! Numbers as Go's templates write them: `0x1F`, `1_000`, `1e6`, `0x1p4`, `'a'`, `1+2i`.

use karat_value::print::quote;

use super::quote::unquote_char;

/// A number: everything that it may be taken for.
#[derive(Clone, Debug, PartialEq)]
pub struct Number {
    /// As written.
    pub text: String,
    /// As a whole number.
    pub int: Option<i64>,
    /// As a whole number from 0.
    pub uint: Option<u64>,
    /// As a number.
    pub float: Option<f64>,
    /// With its imaginary part.
    pub complex: Option<(f64, f64)>,
}

/// What a number is where a value of any type will do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Constant {
    /// `int`
    Int(i64),
    /// `float64`
    Float(f64),
    /// `complex128`
    Complex(f64, f64),
}

/// How many bytes at the start of a text are a number.
///
/// # Errors
/// How many of them there are up to and with what does not belong to one.
pub fn scan_number(text: &str) -> Result<usize, usize> {
    let first = scan(text, 0)?;
    if !text[first..].starts_with(['+', '-']) {
        return Ok(first);
    }
    // A complex one: without blanks, with an `i` at the end.
    let second = scan(text, first)?;
    if text[..second].ends_with('i') { Ok(second) } else { Err(second) }
}

fn scan(text: &str, from: usize) -> Result<usize, usize> {
    let bytes = text.as_bytes();
    let mut at = from;
    let accept = |at: &mut usize, valid: &str| {
        let found = bytes.get(*at).is_some_and(|b| valid.as_bytes().contains(b));
        *at += usize::from(found);
        found
    };
    let (mut digits, mut exponent) = ("0123456789_", "eE");
    accept(&mut at, "+-");
    if accept(&mut at, "0") {
        if accept(&mut at, "xX") {
            (digits, exponent) = ("0123456789abcdefABCDEF_", "pP");
        } else if accept(&mut at, "oO") {
            (digits, exponent) = ("01234567_", "");
        } else if accept(&mut at, "bB") {
            (digits, exponent) = ("01_", "");
        }
    }
    while accept(&mut at, digits) {}
    if accept(&mut at, ".") {
        while accept(&mut at, digits) {}
    }
    if accept(&mut at, exponent) {
        accept(&mut at, "+-");
        while accept(&mut at, "0123456789_") {}
    }
    accept(&mut at, "i");
    match text[at..].chars().next() {
        Some(c) if c == '_' || c.is_alphanumeric() => Err(at + c.len_utf8()),
        _ => Ok(at),
    }
}

impl Number {
    /// Reads a number or a character constant, all of the text.
    ///
    /// # Errors
    /// Why it is none, in Go's words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut number =
            Self { text: text.to_owned(), int: None, uint: None, float: None, complex: None };
        if text.starts_with('\'') {
            let Some((code, tail)) = unquote_char(text) else {
                return Err("invalid syntax".into());
            };
            if tail != "'" {
                return Err(format!("malformed character constant: {text}"));
            }
            number.int = Some(code.into());
            number.uint = Some(code.into());
            number.float = Some(code.into());
            return Ok(number);
        }
        let illegal = || format!("illegal number syntax: {}", quote(text));
        if let Some(imaginary) = text.strip_suffix('i') {
            let (real, imaginary) = match imaginary
                .rfind(['+', '-'])
                .filter(|at| *at > 0 && !imaginary[..*at].ends_with(['e', 'E', 'p', 'P']))
            {
                Some(at) => (float(&imaginary[..at]), float(&imaginary[at..])),
                None => (Some(0.0), float(imaginary)),
            };
            let (Some(real), Some(imaginary)) = (real, imaginary) else { return Err(illegal()) };
            number.complex = Some((real, imaginary));
            if imaginary == 0.0 {
                number.float = Some(real);
                number.int = whole(real);
                number.uint = whole(real).and_then(|n| u64::try_from(n).ok());
            }
            return Ok(number);
        }
        number.uint = unsigned(text);
        number.int = signed(text);
        if number.int == Some(0) {
            number.uint = Some(0);
        }
        if number.int.is_none() && number.uint.is_none() {
            let float = float(text).ok_or_else(illegal)?;
            if !text.contains(['.', 'e', 'E', 'p', 'P']) {
                return Err(format!("integer overflow: {}", quote(text)));
            }
            number.float = Some(float);
            number.int = whole(float);
            number.uint = number.int.and_then(|n| u64::try_from(n).ok());
            return Ok(number);
        }
        #[expect(clippy::cast_precision_loss, reason = "a float is what is asked for")]
        let float = number.int.map(|n| n as f64).or(number.uint.map(|n| n as f64));
        number.float = float;
        Ok(number)
    }

    /// What it is where a value of any type will do.
    ///
    /// # Errors
    /// When it is too large.
    pub fn constant(&self) -> Result<Constant, String> {
        let hex = self.text.len() > 2
            && self.text.to_ascii_lowercase().starts_with("0x")
            && !self.text.contains(['p', 'P']);
        let written =
            !hex && !self.text.starts_with('\'') && self.text.contains(['.', 'e', 'E', 'p', 'P']);
        match self {
            Self { complex: Some((real, imaginary)), .. } => {
                Ok(Constant::Complex(*real, *imaginary))
            }
            Self { float: Some(float), .. } if written => Ok(Constant::Float(*float)),
            Self { int: Some(int), .. } => Ok(Constant::Int(*int)),
            _ => Err(format!("{} overflows int", self.text)),
        }
    }
}

/// A number without a fraction, if it is one of 64 bits.
fn whole(float: f64) -> Option<i64> {
    const END: f64 = 9_223_372_036_854_775_808.0;
    #[expect(clippy::cast_possible_truncation, reason = "one that does not fit is not given")]
    let int = float as i64;
    (float.fract() == 0.0 && (-END..END).contains(&float)).then_some(int)
}

fn unsigned(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2).filter(|_| lower.len() > 2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, &*lower),
    };
    let plain = digits.replace('_', "");
    let fits = plain.bytes().all(|b| b.is_ascii_alphanumeric()) && separated(text);
    u64::from_str_radix(&plain, radix).ok().filter(|_| fits)
}

fn signed(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let magnitude = i128::from(unsigned(digits)?);
    i64::try_from(if text.starts_with('-') { -magnitude } else { magnitude }).ok()
}

fn float(text: &str) -> Option<f64> {
    if !separated(text) {
        return None;
    }
    let plain = text.replace('_', "");
    let digits = plain.strip_prefix(['+', '-']).unwrap_or(&plain);
    let value = match digits.get(..2) {
        Some("0x" | "0X") => hex_float(&digits[2..])?,
        _ => digits.parse::<f64>().ok()?,
    };
    let value = if plain.starts_with('-') { -value } else { value };
    value.is_finite().then_some(value)
}

/// `1.8p-3`: digits of base 16, and the power of two that has to be there.
fn hex_float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let mut power: i32 = exponent.parse().ok()?;
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if before.is_empty() && after.is_empty() {
        return None;
    }
    let mut value: u128 = 0;
    for (digit, behind) in before.chars().map(|c| (c, 0)).chain(after.chars().map(|c| (c, 4))) {
        let digit = digit.to_digit(16)?;
        // What is too far behind to be kept still tells a half from more than it.
        if value >> 120 == 0 {
            value = value << 4 | u128::from(digit);
            power = power.checked_sub(behind)?;
        } else {
            value |= u128::from(digit != 0);
            power = power.checked_add(4 - behind)?;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "it rounds as it should")]
    let value = value as f64;
    // In two steps, so that neither is out of range where the whole is not.
    let half = power / 2;
    Some(value * 2f64.powi(half) * 2f64.powi(power - half))
}

/// Whether underscores stand between digits alone; a prefix such as `0x` is a digit.
fn separated(text: &str) -> bool {
    let rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    let lower = rest.to_ascii_lowercase();
    let prefixed = ["0x", "0o", "0b"].iter().any(|p| lower.starts_with(p));
    let hex = lower.starts_with("0x");
    let mut before = if prefixed { '0' } else { '^' };
    for c in lower.chars().skip(if prefixed { 2 } else { 0 }) {
        before = match c {
            _ if c.is_ascii_digit() || hex && c.is_ascii_hexdigit() => '0',
            '_' if before == '0' => '_',
            '_' => return false,
            _ if before == '_' => return false,
            _ => '!',
        };
    }
    before != '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constant(text: &str) -> Result<Constant, String> {
        assert_eq!(scan_number(text), Ok(text.len()), "{text}");
        Number::parse(text)?.constant()
    }

    #[test]
    fn numbers_are_what_go_takes_them_for() {
        use Constant::{Complex, Float, Int};
        for (text, want) in [
            ("0", Int(0)),
            ("017", Int(15)),
            ("0o17", Int(15)),
            ("0B101", Int(5)),
            ("0x1f_ff", Int(0x1fff)),
            ("0x_1", Int(1)),
            ("0x1e", Int(30)),
            ("1_000", Int(1000)),
            ("-0", Int(0)),
            ("+1", Int(1)),
            ("-9223372036854775808", Int(i64::MIN)),
            ("1e6", Float(1e6)),
            (".5", Float(0.5)),
            ("5.", Float(5.0)),
            ("1_0.5_0", Float(10.5)),
            ("0x1p4", Float(16.0)),
            ("0x1.8p1", Float(3.0)),
            ("0X.8P-1", Float(0.25)),
            ("1i", Complex(0.0, 1.0)),
            ("1+2i", Complex(1.0, 2.0)),
            ("1e-3-2.5i", Complex(1e-3, -2.5)),
        ] {
            assert_eq!(constant(text), Ok(want), "{text}");
        }
        for (text, want) in [("'a'", 97), ("'\\n'", 10), ("'\\x41'", 65), ("'世'", 0x4e16)] {
            assert_eq!(Number::parse(text).unwrap().constant(), Ok(Int(want)), "{text}");
        }
        // A number that is whole will do where one is wanted.
        assert_eq!(Number::parse("1e3").unwrap().int, Some(1000));
        assert_eq!(Number::parse("2+0i").unwrap().int, Some(2));
        assert_eq!(Number::parse("1.5").unwrap().int, None);
    }

    #[test]
    fn what_is_none_is_told_as_go_tells_it() {
        for (text, want) in [
            ("08", "integer overflow: \"08\""),
            ("18446744073709551616", "integer overflow: \"18446744073709551616\""),
            ("18446744073709551615", "18446744073709551615 overflows int"),
            ("1__0", "illegal number syntax: \"1__0\""),
            ("1_", "illegal number syntax: \"1_\""),
            ("1e400", "illegal number syntax: \"1e400\""),
            ("1e", "illegal number syntax: \"1e\""),
            ("0x", "illegal number syntax: \"0x\""),
            ("+", "illegal number syntax: \"+\""),
        ] {
            assert_eq!(constant(text), Err(want.to_owned()), "{text}");
        }
        assert_eq!(Number::parse("'ab'").unwrap_err(), "malformed character constant: 'ab'");
        assert_eq!(Number::parse("''").unwrap_err(), "invalid syntax");
        assert_eq!(scan_number("1a"), Err(2));
        assert_eq!(scan_number("1-2"), Err(3));
        assert_eq!(scan_number("1.2.3"), Ok(3));
    }
}
