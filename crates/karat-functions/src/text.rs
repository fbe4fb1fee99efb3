//! Text as the language measures it: grapheme clusters, one-to-one case mapping,
//! letters and white space as Go's standard library sees them.

use unicode_segmentation::UnicodeSegmentation as _;

/// Splits text into grapheme clusters by the rules of Unicode 13: a conjunct of Indic
/// consonants, one cluster since Unicode 15.1, is several here.
pub(crate) fn clusters(text: &str) -> impl Iterator<Item = &str> {
    text.graphemes(true).flat_map(split_conjuncts)
}

/// How many grapheme clusters the text has.
pub(crate) fn cluster_count(text: &str) -> usize {
    if text.is_ascii() {
        let pairs = text.as_bytes().windows(2).filter(|pair| pair == b"\r\n").count();
        return text.len() - pairs;
    }
    clusters(text).count()
}

/// Cuts a cluster before every consonant that only the newer conjunct rule joined.
fn split_conjuncts(cluster: &str) -> impl Iterator<Item = &str> {
    let mut rest = cluster;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = conjunct_break(rest).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

fn conjunct_break(cluster: &str) -> Option<usize> {
    if cluster.is_ascii() {
        return None;
    }
    let mut previous: Option<char> = None;
    for (at, current) in cluster.char_indices() {
        let joined = previous.is_some_and(|previous| {
            current.is_alphabetic() && !extends(current) && extends(previous)
        });
        if joined {
            return Some(at);
        }
        previous = Some(current);
    }
    None
}

/// Does the character attach to any character before it?
fn extends(c: char) -> bool {
    if c.is_ascii() {
        return false;
    }
    let mut buffer = String::with_capacity(5);
    buffer.push('a');
    buffer.push(c);
    buffer.graphemes(true).count() == 1
}

/// Upper case, character by character.
pub(crate) fn upper(text: &str) -> String {
    text.chars().map(upper_char).collect()
}

/// Lower case, character by character.
pub(crate) fn lower(text: &str) -> String {
    text.chars().map(lower_char).collect()
}

/// Title case of the first letter of every word; other letters stay.
pub(crate) fn title(text: &str) -> String {
    let mut previous = ' ';
    text.chars()
        .map(|c| {
            let starts = is_separator(previous);
            previous = c;
            if starts { title_char(c) } else { c }
        })
        .collect()
}

/// Is this a place between two words?
fn is_separator(c: char) -> bool {
    if c.is_ascii() {
        return !(c.is_ascii_alphanumeric() || c == '_');
    }
    // Letters and decimal digits are part of words; of all else, only white space is not.
    !is_letter(c) && is_space(c)
}

fn is_letter(c: char) -> bool {
    c.is_alphabetic()
}

/// White space.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace()
}

fn upper_char(c: char) -> char {
    let mut mapped = c.to_uppercase();
    match (mapped.next(), mapped.next()) {
        (Some(single), None) => single,
        _ => greek_with_iota(c).unwrap_or(c),
    }
}

fn lower_char(c: char) -> char {
    // The only character whose full lower case is longer than one character.
    if c == '\u{130}' {
        return 'i';
    }
    c.to_lowercase().next().unwrap_or(c)
}

fn title_char(c: char) -> char {
    match c {
        '\u{1c4}'..='\u{1c6}' => '\u{1c5}',
        '\u{1c7}'..='\u{1c9}' => '\u{1c8}',
        '\u{1ca}'..='\u{1cc}' => '\u{1cb}',
        '\u{1f1}'..='\u{1f3}' => '\u{1f2}',
        // Georgian has capitals, but titles are not set in them.
        '\u{10d0}'..='\u{10fa}' | '\u{10fd}'..='\u{10ff}' => c,
        _ => upper_char(c),
    }
}

/// Greek letters with a written iota have a single-character capital besides the full
/// mapping to two capitals.
fn greek_with_iota(c: char) -> Option<char> {
    let code = c as u32;
    let capital = match code {
        0x1f80..=0x1faf => code | 8,
        0x1fb3 | 0x1fc3 | 0x1ff3 => code + 9,
        _ => return None,
    };
    char::from_u32(capital)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_follow_unicode_13() {
        assert_eq!(cluster_count("\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}"), 1);
        assert_eq!(cluster_count("\r\n"), 1);
        assert_eq!(cluster_count("a\r\nb\r"), 4);
        assert_eq!(cluster_count("\u{915}\u{94d}\u{937}"), 2);
        assert_eq!(cluster_count("\u{1f1eb}\u{1f1f7}\u{1f1e9}"), 2);
        assert_eq!(cluster_count("\u{ac01}"), 1);
        assert_eq!(
            clusters("\u{915}\u{94d}\u{937}").collect::<Vec<_>>(),
            ["\u{915}\u{94d}", "\u{937}"]
        );
    }

    #[test]
    fn case_is_mapped_character_by_character() {
        assert_eq!(upper("ß ŉ ǆ ᾳ"), "ß ŉ Ǆ ᾼ");
        assert_eq!(lower("İ ΟΔΟΣ ẞ"), "i οδοσ ß");
        assert_eq!(title("it's o_k hello-world o’neil ǆ"), "It'S O_k Hello-World O’neil ǅ");
        assert_eq!(title("x\u{2019}y 日本 go"), "X\u{2019}y 日本 Go");
    }
}
