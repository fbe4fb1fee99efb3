//! Keeps secrets out of everything that is shown or stored.

use std::collections::BTreeSet;
use std::sync::{Arc, RwLock};

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;

/// What stands in place of a secret, as in Packer.
pub const MASK: &str = "<sensitive>";

/// A base64 text of fewer bytes says too little to be worth masking and hits by chance.
const SHORTEST_BASE64: usize = 8;

/// Replaces secrets in text. Clones share one set, so that a secret that becomes known while a
/// build runs (a generated password) is masked everywhere from then on.
#[derive(Clone, Debug, Default)]
pub struct Masker(Arc<RwLock<State>>);

#[derive(Debug, Default)]
struct State {
    secrets: BTreeSet<String>,
    matcher: Option<AhoCorasick>,
}

impl Masker {
    /// A masker that knows no secret.
    pub fn new() -> Self {
        Self::default()
    }

    /// Masks `secret` from now on: whole, line by line, and the base64 of either (at each of the
    /// three alignments, so that it is found inside the base64 of a longer text). Of overlapping
    /// secrets the longest is replaced.
    pub fn add(&self, secret: &str) {
        let mut state = self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = state.secrets.len();
        for piece in std::iter::once(secret).chain(secret.lines()) {
            let piece = piece.trim_end_matches('\r');
            if piece.trim().is_empty() {
                continue;
            }
            state.secrets.insert(piece.to_owned());
            state.secrets.extend(base64_forms(piece));
        }
        if state.secrets.len() != before {
            state.matcher = AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(&state.secrets)
                .ok();
        }
    }

    /// The text with every secret replaced by [`MASK`].
    pub fn mask(&self, text: &str) -> String {
        let state = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(matcher) = &state.matcher else { return text.to_owned() };
        let mut out = String::with_capacity(text.len());
        matcher.replace_all_with(text, &mut out, |_, _, dst| {
            dst.push_str(MASK);
            true
        });
        out
    }

    /// Whether no secret is known.
    pub fn is_empty(&self) -> bool {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).secrets.is_empty()
    }
}

/// What of the base64 of any text that holds `secret` depends on the secret alone.
fn base64_forms(secret: &str) -> Vec<String> {
    let mut forms = Vec::new();
    for lead in 0..3usize {
        let padded = [&[0u8; 2][..lead.min(2)], secret.as_bytes()].concat();
        let text = base64::engine::general_purpose::STANDARD_NO_PAD.encode(&padded);
        // The first characters mix with the bytes before, the last one with the bytes after.
        let start = [0, 2, 3][lead];
        let end = padded.len() * 8 / 6;
        if end > start && end - start >= SHORTEST_BASE64 {
            forms.push(text[start..end].to_owned());
        }
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_whole_lines_and_base64() {
        let masker = Masker::new();
        masker.add("hunter2-is-long\nsecond line");
        assert_eq!(masker.mask("a hunter2-is-long b"), "a <sensitive> b");
        assert_eq!(masker.mask("second line\n"), "<sensitive>\n");
        for lead in ["", "x", "xy", "xyz"] {
            let text = format!("{lead}hunter2-is-long,tail");
            let coded = base64::engine::general_purpose::STANDARD.encode(text);
            assert!(masker.mask(&coded).contains(MASK), "{lead}: {coded}");
        }
    }

    #[test]
    fn the_longest_of_overlapping_secrets_wins() {
        let masker = Masker::new();
        masker.add("abc");
        masker.add("abcdef");
        assert_eq!(masker.mask("xabcdefx abc"), "x<sensitive>x <sensitive>");
    }
}
