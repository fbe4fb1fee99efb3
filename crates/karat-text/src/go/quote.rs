//! Go's quoted strings.

use karat_value::print::is_printable;
/// `%q`
pub use karat_value::print::quote;

/// `%#U`
pub fn code_point(c: char) -> String {
    let code = u32::from(c);
    if is_printable(c) { format!("U+{code:04X} '{c}'") } else { format!("U+{code:04X}") }
}

/// The meaning of a string in double quotes or backquotes, as `strconv.Unquote` has it.
pub fn unquote(text: &str) -> Option<String> {
    let inner = |q: char| text.strip_prefix(q)?.strip_suffix(q).filter(|_| text.len() > 1);
    if let Some(raw) = inner('`') {
        return (!raw.contains('`')).then(|| raw.replace('\r', ""));
    }
    let inner = inner('"')?;
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(c) = rest.chars().next() {
        match c {
            '"' | '\n' => return None,
            '\\' => {
                let (unit, behind) = escape(rest, '"')?;
                match unit {
                    Unit::Byte(byte) => bytes.push(byte),
                    Unit::Char(c) => bytes.extend(c.to_string().as_bytes()),
                }
                rest = behind;
                continue;
            }
            _ => bytes.extend(c.to_string().as_bytes()),
        }
        rest = &rest[c.len_utf8()..];
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The code point of a character constant such as `'x'`, and what follows it.
pub fn unquote_char(text: &str) -> Option<(u32, &str)> {
    let rest = text.strip_prefix('\'')?;
    match rest.chars().next()? {
        '\'' => None,
        '\\' => match escape(rest, '\'')? {
            (Unit::Byte(byte), behind) => Some((byte.into(), behind)),
            (Unit::Char(c), behind) => Some((c.into(), behind)),
        },
        c => Some((c.into(), &rest[c.len_utf8()..])),
    }
}

enum Unit {
    Byte(u8),
    Char(char),
}

/// What an escape at the start of `text` means, and what follows it.
fn escape(text: &str, quote: char) -> Option<(Unit, &str)> {
    let rest = text.strip_prefix('\\')?;
    let selector = rest.chars().next()?;
    let behind = &rest[selector.len_utf8()..];
    let digits = |n: usize, radix: u32| {
        let digits = if radix == 8 { rest.get(..n)? } else { behind.get(..n)? };
        let all = digits.bytes().all(|b| char::from(b).is_digit(radix));
        let value = u32::from_str_radix(digits, radix).ok().filter(|_| all)?;
        Some((value, if radix == 8 { &rest[n..] } else { &behind[n..] }))
    };
    let byte = |(value, rest)| Some((Unit::Byte(u8::try_from(value).ok()?), rest));
    let char = |(value, rest)| Some((Unit::Char(char::from_u32(value)?), rest));
    let plain = |c| Some((Unit::Char(c), behind));
    match selector {
        'a' => plain('\u{7}'),
        'b' => plain('\u{8}'),
        'f' => plain('\u{c}'),
        'n' => plain('\n'),
        'r' => plain('\r'),
        't' => plain('\t'),
        'v' => plain('\u{b}'),
        '\\' => plain('\\'),
        'x' => byte(digits(2, 16)?),
        'u' => char(digits(4, 16)?),
        'U' => char(digits(8, 16)?),
        '0'..='7' => byte(digits(3, 8)?),
        c if c == quote => plain(c),
        _ => None,
    }
}
