//! Keeps secrets out of everything that is shown or stored.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// What stands in place of a secret, as in Packer.
pub const MASK: &str = "<sensitive>";

/// A base64 text of fewer bytes says too little to be worth masking and hits by chance.
const SHORTEST_BASE64: usize = 8;

/// Where programs break base64 into lines: `base64` and MIME, PEM.
const BASE64_LINES: [usize; 2] = [76, 64];

/// Replaces secrets in text. Clones share one set, so that a secret that becomes known while a
/// build runs (a generated password) is masked everywhere from then on.
#[derive(Clone, Debug, Default)]
pub struct Masker(Arc<RwLock<State>>);

#[derive(Debug, Default)]
struct State {
    secrets: BTreeSet<String>,
    longest: usize,
    matcher: Option<AhoCorasick>,
}

impl Masker {
    /// A masker that knows no secret.
    pub fn new() -> Self {
        Self::default()
    }

    /// Masks `secret` from now on: whole, line by line, as it stands within a quoted text, and the
    /// base64 of all these (at each of the three alignments, so that it is found inside the base64
    /// of a longer text, and broken into lines). Of overlapping secrets the longest is replaced.
    pub fn add(&self, secret: &str) {
        self.add_all([secret]);
    }

    /// Masks several, as [`add`](Self::add) does.
    pub fn add_all<'a>(&self, secrets: impl IntoIterator<Item = &'a str>) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = state.secrets.len();
        for secret in secrets {
            for piece in std::iter::once(secret).chain(secret.lines()) {
                let piece = piece.trim_end_matches('\r');
                if piece.trim().is_empty() {
                    continue;
                }
                state.secrets.insert(piece.to_owned());
                state.secrets.extend(quoted_forms(piece));
                state.secrets.extend(base64_forms(piece));
            }
        }
        if state.secrets.len() != before {
            // What is masked already stays as it is, even if a part of the word is a secret.
            state.secrets.insert(MASK.to_owned());
            state.longest = state.secrets.iter().map(String::len).max().unwrap_or(0);
            state.matcher = AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(&state.secrets)
                .ok();
        }
    }

    /// The text with every secret replaced by [`MASK`].
    pub fn mask(&self, text: &str) -> String {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(matcher) = &state.matcher else { return text.to_owned() };
        let mut out = String::with_capacity(text.len());
        matcher.replace_all_with(text, &mut out, |_, _, dst| {
            dst.push_str(MASK);
            true
        });
        out
    }

    /// Masks every text in a JSON value, names of members as well.
    pub fn mask_json(&self, value: &mut serde_json::Value) {
        use serde_json::Value as Json;
        if self.is_empty() {
            return;
        }
        match value {
            Json::String(text) => *text = self.mask(text),
            Json::Array(items) => items.iter_mut().for_each(|v| self.mask_json(v)),
            Json::Object(map) => {
                let all = std::mem::take(map).into_iter();
                *map = all
                    .map(|(name, mut value)| {
                        self.mask_json(&mut value);
                        (self.mask(&name), value)
                    })
                    .collect();
            }
            _ => {}
        }
    }

    /// How many of the first bytes of a text, the rest of which is still to come, can be masked
    /// by themselves: no secret begins before that place and ends behind it.
    pub fn settled(&self, bytes: &[u8]) -> usize {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(matcher) = &state.matcher else { return bytes.len() };
        let mut end = bytes.len().saturating_sub(state.longest.saturating_sub(1));
        for found in matcher.find_iter(bytes) {
            if found.start() < end && found.end() > end {
                end = found.end();
            }
        }
        end
    }

    /// Whether no secret is known.
    pub fn is_empty(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).secrets.is_empty()
    }
}

/// How a text stands between quotes, in JSON and in values that are printed.
fn quoted_forms(secret: &str) -> Vec<String> {
    if !secret.contains(|c: char| c == '"' || c == '\\' || c.is_control() || !c.is_ascii()) {
        return Vec::new();
    }
    let inside = |text: String| text[1..text.len() - 1].to_owned();
    let mut forms = vec![
        inside(karat_value::json::quote(secret)),
        inside(karat_value::print::quote(secret)),
        inside(serde_json::Value::from(secret).to_string()),
    ];
    forms.retain(|form| form != secret);
    forms
}

/// What the base64 of a text that holds `secret` has of it: alone whole, within a longer text what
/// depends on the secret alone.
fn base64_forms(secret: &str) -> Vec<String> {
    let mut forms = Vec::new();
    for engine in [&STANDARD, &URL_SAFE] {
        let whole = engine.encode(secret);
        if whole.len() >= SHORTEST_BASE64 {
            forms.push(whole.trim_end_matches('=').to_owned());
            forms.push(whole);
        }
        for lead in 0..3usize {
            let padded = [&[0u8; 2][..lead], secret.as_bytes()].concat();
            let text = engine.encode(&padded);
            // The first characters mix with the bytes before, the last one with the bytes after.
            let start = [0, 2, 3][lead];
            let end = padded.len() * 8 / 6;
            if end > start && end - start >= SHORTEST_BASE64 {
                forms.push(text[start..end].to_owned());
                if lead == 0 {
                    forms.extend(BASE64_LINES.iter().flat_map(|n| broken(&text[..end], *n)));
                }
            }
        }
    }
    forms
}

/// The lines of a text of more than one, each of `width` characters.
fn broken(text: &str, width: usize) -> impl Iterator<Item = String> + '_ {
    let lines = text.as_bytes().chunks(width);
    lines
        .filter(move |line| text.len() > width && line.len() >= SHORTEST_BASE64)
        .map(|line| String::from_utf8_lossy(line).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masker(secrets: &[&str]) -> Masker {
        let masker = Masker::new();
        masker.add_all(secrets.iter().copied());
        masker
    }

    #[test]
    fn masks_whole_lines_and_base64() {
        let masker = masker(&["hunter2-is-long\nsecond line"]);
        assert_eq!(masker.mask("a hunter2-is-long b"), "a <sensitive> b");
        assert_eq!(masker.mask("second line\n"), "<sensitive>\n");
        for lead in ["", "x", "xy", "xyz"] {
            let text = format!("{lead}hunter2-is-long,tail");
            let coded = STANDARD.encode(text);
            assert!(masker.mask(&coded).contains(MASK), "{lead}: {coded}");
        }
    }

    #[test]
    fn base64_of_a_secret_alone_leaves_nothing() {
        for secret in ["hunter2", "hunter22", "hunter222", "a\nlong\nsecret"] {
            let masker = masker(&[secret]);
            assert_eq!(masker.mask(&STANDARD.encode(secret)), MASK, "{secret}");
            assert_eq!(masker.mask(&URL_SAFE.encode(secret)), MASK, "{secret}");
        }
        let odd = "\u{fb}\u{ff}\u{fe}????>>>";
        assert_eq!(masker(&[odd]).mask(&URL_SAFE.encode(odd)), MASK);
    }

    #[test]
    fn base64_in_lines() {
        let secret = "0123456789abcdef".repeat(20);
        let masker = masker(&[&secret]);
        for width in BASE64_LINES {
            let coded = STANDARD.encode(&secret);
            for line in coded.as_bytes().chunks(width) {
                let line = std::str::from_utf8(line).unwrap();
                if line.len() >= 12 {
                    assert!(masker.mask(line).contains(MASK), "{width}: {line}");
                }
            }
        }
    }

    #[test]
    fn secrets_within_quotes() {
        let masker = masker(&["a\"b\\c\td\u{1}é"]);
        for text in [
            serde_json::json!({ "x": "a\"b\\c\td\u{1}é" }).to_string(),
            karat_value::print::quote("a\"b\\c\td\u{1}é"),
            karat_value::json::quote("a\"b\\c\td\u{1}é"),
        ] {
            let masked = masker.mask(&text);
            assert!(masked.contains(&format!("\"{MASK}\"")), "{text}: {masked}");
        }
    }

    #[test]
    fn the_longest_of_overlapping_secrets_wins() {
        assert_eq!(masker(&["abc", "abcdef"]).mask("xabcdefx abc"), "x<sensitive>x <sensitive>");
    }

    #[test]
    fn masking_twice_is_masking_once() {
        let masker = masker(&["sens", "e"]);
        let once = masker.mask("the sensor");
        assert_eq!(once, "th<sensitive> <sensitive>or");
        assert_eq!(masker.mask(&once), once);
    }

    #[test]
    fn json_is_masked_in_all_places() {
        let mut json = serde_json::json!({ "k s3cret": ["s3cret", 1, { "a": "xs3cretx" }] });
        masker(&["s3cret"]).mask_json(&mut json);
        let wanted = serde_json::json!({
            "k <sensitive>": [MASK, 1, { "a": "x<sensitive>x" }]
        });
        assert_eq!(json, wanted);
    }

    #[test]
    fn a_text_in_pieces_is_cut_beside_secrets() {
        let secret = "s3cret-value";
        let masker = masker(&[secret]);
        let text = "x".repeat(40) + secret + &"y".repeat(40);
        for cut in 0..text.len() {
            let (mut seen, mut kept) = (String::new(), Vec::new());
            for piece in [&text[..cut], &text[cut..]] {
                kept.extend_from_slice(piece.as_bytes());
                let rest = kept.split_off(masker.settled(&kept));
                seen.push_str(&masker.mask(std::str::from_utf8(&kept).unwrap()));
                kept = rest;
            }
            seen.push_str(&masker.mask(std::str::from_utf8(&kept).unwrap()));
            assert_eq!(seen, text.replace(secret, MASK), "{cut}");
        }
    }
}
