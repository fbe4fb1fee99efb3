//! Base64, gzip, character sets, URLs, CSV.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use karat_value::{Type, Value};

use super::collections::{fixed, sequence, shaped};
use crate::args::{Outcome, fail, fail_at, string, text};
use crate::charset::Charset;
use crate::csv;
use crate::function::{CallContext, Function, FunctionError, Kind, Param};
use crate::gzip::gzip;

const STR: Param = Param::new("str", Kind::String);

/// All functions of this group.
pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        not_null: false,
        ..fixed(
            "base64decode",
            &[STR],
            Kind::String,
            "Reads Base64, with its padding; the result must be UTF-8. Line ends are skipped.",
            &[("base64decode(\"YWJj\")", "abc")],
            base64decode,
        )
    },
    Function {
        not_null: false,
        ..fixed(
            "base64encode",
            &[STR],
            Kind::String,
            "Writes the bytes of a text as Base64.",
            &[("base64encode(\"abc\")", "YWJj")],
            |args, _, _| string(BASE64_STANDARD.encode(text(&args[0]))),
        )
    },
    Function {
        not_null: false,
        ..fixed(
            "base64gzip",
            &[STR],
            Kind::String,
            "Compresses the bytes of a text with gzip and writes the result as Base64, as cloud-init's user data takes it.",
            &[("base64gzip(\"a\")", "H4sIAAAAAAAA/0oEAAAA//8BAAD//0O+t+gBAAAA")],
            |args, _, _| string(BASE64_STANDARD.encode(gzip(text(&args[0]).as_bytes()))),
        )
    },
    shaped(
        "csvdecode",
        &[STR],
        csv_type,
        "Reads a table with a header line: a list of objects, all values texts.",
        &[("csvdecode(\"a,b\\n1,2\\n\")", "[{a = \"1\", b = \"2\"}]")],
        csvdecode,
    ),
    fixed(
        "textdecodebase64",
        &[Param::new("source", Kind::String), Param::new("encoding", Kind::String)],
        Kind::String,
        "Reads Base64 and takes the bytes for text in a character set, by its IANA name.",
        &[("textdecodebase64(\"k/qWew==\", \"Shift_JIS\")", "日本")],
        textdecodebase64,
    ),
    fixed(
        "textencodebase64",
        &[Param::new("string", Kind::String), Param::new("encoding", Kind::String)],
        Kind::String,
        "Writes a text in a character set, by its IANA name, and the bytes as Base64.",
        &[("textencodebase64(\"hello\", \"UTF-16LE\")", "aABlAGwAbABvAA==")],
        textencodebase64,
    ),
    Function {
        not_null: false,
        ..fixed(
            "urlencode",
            &[STR],
            Kind::String,
            "Escapes a text for the query of a URL: a space becomes +, letters, digits and -_.~ stay.",
            &[("urlencode(\"a b&c\")", "a+b%26c")],
            |args, _, _| string(urlencode(text(&args[0]))),
        )
    },
];

/// Standard Base64 whose last bits may be anything.
const LAX_BITS: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Reads Base64 with padding; line ends anywhere are skipped.
pub(crate) fn decode_base64(text: &str) -> Result<Vec<u8>, String> {
    let plain: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    LAX_BITS.decode(plain).map_err(|error| error.to_string())
}

fn base64decode(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    let bytes = decode_base64(text(&args[0]))
        .map_err(|error| FunctionError::argument(0, format!("no valid Base64: {error}")))?;
    match String::from_utf8(bytes) {
        Ok(decoded) => string(decoded),
        Err(_) => fail_at(
            0,
            "the decoded bytes are not valid UTF-8; textdecodebase64 reads other character sets",
        ),
    }
}

fn charset(arg: &Value) -> Result<Charset, FunctionError> {
    Charset::by_name(text(arg)).ok_or_else(|| {
        let name = text(arg);
        FunctionError::argument(1, format!("{name:?} is no known IANA name of a character set"))
    })
}

fn textencodebase64(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    let charset = charset(&args[1])?;
    match charset.encode(text(&args[0])) {
        Ok(bytes) => string(BASE64_STANDARD.encode(bytes)),
        Err(lacking) => fail_at(0, format!("{} has no {lacking:?}", text(&args[1]))),
    }
}

fn textdecodebase64(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    let charset = charset(&args[1])?;
    let bytes = decode_base64(text(&args[0]))
        .map_err(|error| FunctionError::argument(0, format!("no valid Base64: {error}")))?;
    match charset.decode(&bytes) {
        Some(decoded) => string(decoded),
        None => fail_at(0, format!("the bytes are not valid in {}", text(&args[1]))),
    }
}

fn urlencode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            byte => {
                let digit = |nibble: u8| b"0123456789ABCDEF"[usize::from(nibble)];
                out.push('%');
                out.push(char::from(digit(byte >> 4)));
                out.push(char::from(digit(byte & 15)));
            }
        }
    }
    out
}

fn csv_error(error: csv::CsvError) -> FunctionError {
    FunctionError::argument(0, format!("CSV line {}: {}", error.line, error.message))
}

fn csv_header(source: &str) -> Result<Vec<Arc<str>>, FunctionError> {
    let mut reader = csv::Reader::new(source);
    let Some(fields) = reader.record().map_err(csv_error)? else {
        return fail_at(0, "the header line is missing");
    };
    let names: Vec<Arc<str>> =
        fields.into_iter().map(|field| text(&Value::string(field)).into()).collect();
    let mut seen = HashSet::new();
    match names.iter().find(|name| !seen.insert(Arc::clone(name))) {
        Some(name) => fail_at(0, format!("the column name {name:?} stands twice")),
        None => Ok(names),
    }
}

fn csv_type(args: &[Value], _: &dyn CallContext) -> Result<Type, FunctionError> {
    let Some(source) = args[0].as_str() else { return Ok(Type::Dynamic) };
    let names = csv_header(source)?;
    Ok(Type::list(Type::object(names.into_iter().map(|name| (name, Type::String)))))
}

fn csvdecode(args: &[Value], ty: &Type, _: &dyn CallContext) -> Outcome {
    let source = text(&args[0]);
    let names = csv_header(source)?;
    let mut reader = csv::Reader::new(source);
    reader.record().map_err(csv_error)?;
    let mut rows = Vec::new();
    while let Some(fields) = reader.record().map_err(csv_error)? {
        if fields.len() != names.len() {
            let message = format!(
                "CSV line {}: {} fields where the header has {}",
                reader.record_line(),
                fields.len(),
                names.len()
            );
            return fail(message);
        }
        let row: BTreeMap<Arc<str>, Value> =
            names.iter().cloned().zip(fields.into_iter().map(Value::string)).collect();
        rows.push(Value::object(row));
    }
    Ok(sequence(ty, rows))
}
