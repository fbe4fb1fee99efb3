//! Text in character sets other than UTF-8, by the names of the IANA register.

mod tables;

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::OnceLock;

use encoding_rs::{EncoderResult, Encoding};

/// How a character set works.
#[derive(Debug, Clone, Copy)]
enum Table {
    Ascii,
    Utf8,
    /// Big-endian with a mark in front; either order when reading one.
    Utf16,
    Utf16Be,
    Utf16Le,
    /// What each of 256 bytes stands for, or, of 128, each byte that is not ASCII.
    Bytes(&'static str),
    EucJp,
    Iso2022Jp,
    ShiftJis,
    EucKr,
    Gb18030,
    Gbk,
    Hz,
    Big5,
}

/// A character set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Charset(Table);

impl Charset {
    /// Finds a character set; case and surrounding blanks do not matter.
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        let name = name.trim().to_lowercase();
        let found = tables::NAMES.iter().find(|(known, _)| *known == name)?;
        Some(Self(found.1))
    }

    /// Writes a text.
    ///
    /// # Errors
    /// The first character that the set does not have.
    pub(crate) fn encode(self, text: &str) -> Result<Vec<u8>, char> {
        match self.0 {
            Table::Ascii => encode_by(text, |c| c.is_ascii().then_some(c as u8)),
            Table::Utf8 => Ok(text.as_bytes().to_vec()),
            Table::Utf16 => {
                let units = std::iter::once(0xfeff).chain(text.encode_utf16());
                Ok(units.flat_map(u16::to_be_bytes).collect())
            }
            Table::Utf16Be => Ok(text.encode_utf16().flat_map(u16::to_be_bytes).collect()),
            Table::Utf16Le => Ok(text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
            Table::Bytes(table) => encode_table(table, text),
            Table::Hz => encode_hz(text),
            Table::Iso2022Jp => encode_iso_2022_jp(text),
            other => {
                if matches!(other, Table::EucJp | Table::ShiftJis)
                    && let Some(lacking) = text.chars().find(|c| LIKENESSES.contains(c))
                {
                    return Err(lacking);
                }
                if matches!(other, Table::Gbk)
                    && let Some(private) =
                        text.chars().find(|c| ('\u{e000}'..='\u{f8ff}').contains(c))
                {
                    return Err(private);
                }
                if let Some(supplement) = supplement(other) {
                    return encode_supplemented(encoding(other), supplement, text);
                }
                encode_multi(encoding(other), text)
            }
        }
    }

    /// Reads bytes; `None` when some mean nothing, or mean the replacement character.
    pub(crate) fn decode(self, bytes: &[u8]) -> Option<String> {
        let text = match self.0 {
            Table::Ascii => bytes.is_ascii().then(|| String::from_utf8_lossy(bytes).into_owned()),
            Table::Utf8 => String::from_utf8(bytes.to_vec()).ok(),
            Table::Utf16 => match bytes {
                [0xff, 0xfe, rest @ ..] => decode_utf16(rest, u16::from_le_bytes),
                [0xfe, 0xff, rest @ ..] => decode_utf16(rest, u16::from_be_bytes),
                bytes => decode_utf16(bytes, u16::from_be_bytes),
            },
            Table::Utf16Be => decode_utf16(bytes, u16::from_be_bytes),
            Table::Utf16Le => decode_utf16(bytes, u16::from_le_bytes),
            Table::Bytes(table) => Some(decode_table(table, bytes)),
            Table::Hz => decode_hz(bytes),
            other => encoding(other)
                .decode_without_bom_handling_and_without_replacement(bytes)
                .map(std::borrow::Cow::into_owned),
        }?;
        // Two-byte codes for private use mean nothing outside of browsers.
        let chinese = matches!(self.0, Table::Gbk | Table::Gb18030);
        let private = |c: char| chinese && ('\u{e000}'..='\u{f8ff}').contains(&c);
        let meaningless = |c: char| c == char::REPLACEMENT_CHARACTER || private(c);
        (!text.contains(meaningless)).then_some(text)
    }
}

/// Characters that browsers write as others that look alike, in Japanese sets.
const LIKENESSES: [char; 3] = ['¥', '‾', '−'];

/// Two or three bytes of characters that browsers read but do not write, or write
/// otherwise.
type Supplement = HashMap<char, Vec<u8>>;

/// The supplement of a set, made by reading all of its characters: JIS X 0212 in EUC-JP,
/// NEC's rows in Shift_JIS, those of Hong Kong in Big5.
fn supplement(table: Table) -> Option<&'static Supplement> {
    static EUC_JP: OnceLock<Supplement> = OnceLock::new();
    static SHIFT_JIS: OnceLock<Supplement> = OnceLock::new();
    static BIG5: OnceLock<Supplement> = OnceLock::new();
    Some(match table {
        Table::EucJp => EUC_JP.get_or_init(|| read_all(encoding_rs::EUC_JP, &[0x8f], 0xa1..=0xfe)),
        Table::ShiftJis => {
            SHIFT_JIS.get_or_init(|| read_all(encoding_rs::SHIFT_JIS, &[], 0xed..=0xee))
        }
        Table::Big5 => BIG5.get_or_init(|| read_all(encoding_rs::BIG5, &[], 0x81..=0xa0)),
        _ => return None,
    })
}

fn read_all(encoding: &'static Encoding, prefix: &[u8], rows: RangeInclusive<u8>) -> Supplement {
    let mut found = HashMap::new();
    for row in rows {
        for cell in 0x40..=0xfe {
            let mut bytes = prefix.to_vec();
            bytes.extend([row, cell]);
            let read = encoding.decode_without_bom_handling_and_without_replacement(&bytes);
            let mut characters = read.iter().flat_map(|text| text.chars());
            if let (Some(c), None) = (characters.next(), characters.next()) {
                found.entry(c).or_insert(bytes);
            }
        }
    }
    found
}

fn encode_supplemented(
    encoding: &'static Encoding,
    supplement: &Supplement,
    text: &str,
) -> Result<Vec<u8>, char> {
    let mut out = Vec::with_capacity(text.len());
    for c in text.chars() {
        let usual = encode_multi(encoding, c.encode_utf8(&mut [0; 4]));
        match (usual, supplement.get(&c)) {
            // IBM's rows in Shift_JIS repeat those of NEC, which go first.
            (Ok(bytes), Some(first)) if bytes[0] >= 0xfa && prefers_nec(encoding) => {
                out.extend(first);
            }
            (Ok(bytes), _) => out.extend(bytes),
            (Err(_), Some(bytes)) => out.extend(bytes),
            (Err(lacking), None) => return Err(lacking),
        }
    }
    Ok(out)
}

fn prefers_nec(encoding: &'static Encoding) -> bool {
    encoding == encoding_rs::SHIFT_JIS
}

fn encoding(table: Table) -> &'static Encoding {
    match table {
        Table::EucJp => encoding_rs::EUC_JP,
        Table::Iso2022Jp => encoding_rs::ISO_2022_JP,
        Table::ShiftJis => encoding_rs::SHIFT_JIS,
        Table::EucKr => encoding_rs::EUC_KR,
        Table::Gb18030 => encoding_rs::GB18030,
        Table::Gbk | Table::Hz => encoding_rs::GBK,
        Table::Big5 => encoding_rs::BIG5,
        _ => encoding_rs::UTF_8,
    }
}

fn encode_by(text: &str, byte: impl Fn(char) -> Option<u8>) -> Result<Vec<u8>, char> {
    text.chars().map(|c| byte(c).ok_or(c)).collect()
}

/// The characters of a table that does not begin with ASCII cover all bytes.
fn covers_ascii(table: &str) -> bool {
    table.chars().count() == 256
}

fn encode_table(table: &str, text: &str) -> Result<Vec<u8>, char> {
    let full = covers_ascii(table);
    let first = if full { 0 } else { 128 };
    encode_by(text, |c| {
        if c.is_ascii() && !full {
            return Some(c as u8);
        }
        if c == char::REPLACEMENT_CHARACTER {
            return None;
        }
        let at = table.chars().position(|known| known == c)?;
        u8::try_from(at + first).ok()
    })
}

fn decode_table(table: &str, bytes: &[u8]) -> String {
    let characters: Vec<char> = table.chars().collect();
    let first = 256 - characters.len();
    bytes
        .iter()
        .map(|byte| match usize::from(*byte).checked_sub(first) {
            Some(at) => characters[at],
            None => char::from(*byte),
        })
        .collect()
}

fn decode_utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Option<String> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    char::decode_utf16(pairs.iter().map(|pair| unit(*pair))).collect::<Result<_, _>>().ok()
}

fn encode_multi(encoding: &'static Encoding, text: &str) -> Result<Vec<u8>, char> {
    let mut encoder = encoding.new_encoder();
    let room = encoder
        .max_buffer_length_from_utf8_without_replacement(text.len())
        .unwrap_or(text.len().saturating_mul(8));
    let mut out = Vec::with_capacity(room);
    let (result, _) = encoder.encode_from_utf8_to_vec_without_replacement(text, &mut out, true);
    match result {
        EncoderResult::InputEmpty => Ok(out),
        EncoderResult::Unmappable(lacking) => Err(lacking),
        EncoderResult::OutputFull => Err(char::REPLACEMENT_CHARACTER),
    }
}

/// The two bytes of a character in GB 2312, without their high bits.
fn gb2312(c: char) -> Option<[u8; 2]> {
    let encoded = encode_multi(encoding_rs::GB18030, c.encode_utf8(&mut [0; 4])).ok()?;
    match encoded[..] {
        [first @ 0xa1..=0xfe, second @ 0xa1..=0xfe] => Some([first & 0x7f, second & 0x7f]),
        _ => None,
    }
}

fn encode_hz(text: &str) -> Result<Vec<u8>, char> {
    let mut out = Vec::with_capacity(text.len() + 8);
    let mut chinese = false;
    for c in text.chars() {
        if c == '~' {
            out.extend(b"~~");
        } else if c.is_ascii() {
            if chinese {
                out.extend(b"~}");
                chinese = false;
            }
            out.push(c as u8);
        } else {
            let pair = gb2312(c).ok_or(c)?;
            if !chinese {
                out.extend(b"~{");
                chinese = true;
            }
            out.extend(pair);
        }
    }
    Ok(out)
}

fn decode_hz(bytes: &[u8]) -> Option<String> {
    let mut out = String::new();
    let mut chinese = false;
    let mut rest = bytes;
    loop {
        rest = match (rest, chinese) {
            ([], _) => return Some(out),
            ([b'~', b'{', rest @ ..], _) => {
                chinese = true;
                rest
            }
            ([b'~', b'}', rest @ ..], _) => {
                chinese = false;
                rest
            }
            ([b'~', b'~', rest @ ..], _) => {
                out.push('~');
                rest
            }
            // A tilde at the end of a line joins it with the next.
            ([b'~', b'\n', rest @ ..], _) => rest,
            ([b'~', ..], _) => return None,
            ([byte, rest @ ..], false) if byte.is_ascii() => {
                out.push(char::from(*byte));
                rest
            }
            ([first @ 0x21..=0x7e, second @ 0x21..=0x7e, rest @ ..], true) => {
                let pair = [first | 0x80, second | 0x80];
                let decoded =
                    encoding_rs::GBK.decode_without_bom_handling_and_without_replacement(&pair)?;
                out.push_str(&decoded);
                rest
            }
            _ => return None,
        };
    }
}

/// ISO-2022-JP with its third set, for narrow katakana, that stay narrow.
fn encode_iso_2022_jp(text: &str) -> Result<Vec<u8>, char> {
    const ASCII: &[u8] = b"\x1b(B";
    const KATAKANA: &[u8] = b"\x1b(I";
    const KANJI: &[u8] = b"\x1b$B";
    let mut out = Vec::with_capacity(text.len() + 8);
    let mut mode = ASCII;
    let mut enter = |out: &mut Vec<u8>, wanted: &'static [u8]| {
        if mode != wanted {
            out.extend(wanted);
            mode = wanted;
        }
    };
    for c in text.chars() {
        if c.is_ascii() {
            enter(&mut out, ASCII);
            out.push(c as u8);
            continue;
        }
        if let '\u{ff61}'..='\u{ff9f}' = c {
            enter(&mut out, KATAKANA);
            out.push((c as u32 - 0xff61) as u8 + 0x21);
            continue;
        }
        if LIKENESSES.contains(&c) {
            return Err(c);
        }
        // Kanji are the two-byte characters of EUC-JP without their high bits.
        match encode_multi(encoding_rs::EUC_JP, c.encode_utf8(&mut [0; 4]))?[..] {
            [first @ 0xa1..=0xfe, second @ 0xa1..=0xfe] => {
                enter(&mut out, KANJI);
                out.extend([first & 0x7f, second & 0x7f]);
            }
            _ => return Err(c),
        }
    }
    enter(&mut out, ASCII);
    Ok(out)
}
