//! A text, and the ways of the protocol and of the language to name a place in it.

use karat_hcl::ast::{Body, NativeBody};
use karat_hcl::diag::{Diagnostics, SourceId, Span};
use tower_lsp_server::ls_types::{Position, Range};

/// A text and its tree.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) text: String,
    pub(crate) body: Body,
    pub(crate) diags: Diagnostics,
    lines: Vec<usize>,
}

impl Document {
    /// Reads a text in native syntax.
    pub(crate) fn new(text: String) -> Self {
        let (parsed, diags) = karat_hcl::parse(SourceId(0), &text);
        let lines = line_starts(&text);
        Self { text, body: parsed.body, diags, lines }
    }

    /// The tree.
    pub(crate) fn native(&self) -> Option<&NativeBody> {
        match &self.body {
            Body::Native(body) => Some(body),
            Body::Json(_) => None,
        }
    }

    /// The byte at a place of the protocol, which counts in UTF-16.
    pub(crate) fn offset(&self, position: Position) -> usize {
        let line = usize::try_from(position.line).unwrap_or(usize::MAX);
        let Some(start) = self.lines.get(line).copied() else { return self.text.len() };
        let end = self.lines.get(line + 1).copied().unwrap_or(self.text.len());
        let mut units = usize::try_from(position.character).unwrap_or(usize::MAX);
        let text = self.text[start..end].trim_end_matches(['\n', '\r']);
        for (at, c) in text.char_indices() {
            if units < c.len_utf16() {
                return start + at;
            }
            units -= c.len_utf16();
        }
        start + text.len()
    }

    /// The place of a span in the words of the protocol.
    pub(crate) fn range(&self, span: Span) -> Range {
        range(&self.text, &self.lines, span)
    }

    /// The whole text.
    pub(crate) fn whole(&self) -> Range {
        Range {
            start: Position::new(0, 0),
            end: position(&self.text, &self.lines, self.text.len()),
        }
    }
}

/// The place of a span in any text.
pub(crate) fn range_in(text: &str, span: Span) -> Range {
    range(text, &line_starts(text), span)
}

fn range(text: &str, lines: &[usize], span: Span) -> Range {
    let span = span.range();
    Range { start: position(text, lines, span.start), end: position(text, lines, span.end) }
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect()
}

fn position(text: &str, lines: &[usize], offset: usize) -> Position {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let line = lines.partition_point(|start| *start <= offset).saturating_sub(1);
    let start = lines.get(line).copied().unwrap_or(0);
    let units = text[start..offset].encode_utf16().count();
    let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Position::new(small(line), small(units))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_in_utf_16() {
        let document = Document::new("a = \"é😀x\"\r\nb = 1\n".into());
        let x = document.text.find('x').unwrap();
        let span = Span::new(SourceId(0), x..x + 1);
        let range = document.range(span);
        assert_eq!((range.start.line, range.start.character), (0, 8));
        assert_eq!(document.offset(range.start), x);
        assert_eq!(document.offset(Position::new(1, 0)), document.text.find('b').unwrap());
        // Behind the end of a line is its end.
        assert_eq!(document.offset(Position::new(0, 99)), document.text.find('\r').unwrap());
        assert_eq!(document.offset(Position::new(9, 0)), document.text.len());
        assert_eq!(document.whole().end, Position::new(2, 0));
    }
}
