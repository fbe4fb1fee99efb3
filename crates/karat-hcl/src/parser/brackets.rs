//! Pairs brackets, quotes and template marks over a whole text, also one where some are missing.

use super::Seen;
use crate::token::TokenKind;

/// How far down the open braces one with the right indentation is looked for.
const REACH: usize = 64;

/// Indentation is looked at only where this many bytes hold the start of the line.
const MAX_LINE: usize = 1000;

/// For each token that opens or closes something, the index of its other end, if it has one.
pub(super) fn pair(text: &str, tokens: &[Seen]) -> Vec<Option<usize>> {
    let (pairs, balanced) = Pairing::new(text, tokens, false).run();
    if balanced {
        return pairs;
    }
    // Some brace is missing. Which one, the indentation may tell.
    Pairing::new(text, tokens, true).run().0
}

struct Pairing<'a> {
    text: &'a str,
    tokens: &'a [Seen],
    by_indent: bool,
    pairs: Vec<Option<usize>>,
    open: Vec<usize>,
    /// Counts of `{`, `[` and `(` open within the innermost template mark or quote.
    counts: Vec<[usize; 3]>,
    balanced: bool,
}

impl<'a> Pairing<'a> {
    fn new(text: &'a str, tokens: &'a [Seen], by_indent: bool) -> Self {
        Self {
            text,
            tokens,
            by_indent,
            pairs: vec![None; tokens.len()],
            open: Vec::new(),
            counts: vec![[0; 3]],
            balanced: true,
        }
    }

    fn run(mut self) -> (Vec<Option<usize>>, bool) {
        use TokenKind as K;
        for index in 0..self.tokens.len() {
            match self.tokens[index].kind {
                K::OpenBrace | K::OpenBracket | K::OpenParen => self.open(index),
                K::OpenQuote | K::OpenHeredoc | K::Interpolation | K::Directive => {
                    self.open.push(index);
                    self.counts.push([0; 3]);
                }
                K::CloseBrace => self.close_bracket(index, K::OpenBrace),
                K::CloseBracket => self.close_bracket(index, K::OpenBracket),
                K::CloseParen => self.close_bracket(index, K::OpenParen),
                K::CloseQuote => self.close_outer(index, &[K::OpenQuote]),
                K::CloseHeredoc => self.close_outer(index, &[K::OpenHeredoc]),
                K::TemplateEnd => self.close_outer(index, &[K::Interpolation, K::Directive]),
                _ => {}
            }
        }
        let balanced = self.balanced && self.open.is_empty();
        (self.pairs, balanced)
    }

    fn slot(kind: TokenKind) -> Option<usize> {
        match kind {
            TokenKind::OpenBrace => Some(0),
            TokenKind::OpenBracket => Some(1),
            TokenKind::OpenParen => Some(2),
            _ => None,
        }
    }

    fn open(&mut self, index: usize) {
        self.open.push(index);
        if let (Some(slot), Some(counts)) =
            (Self::slot(self.tokens[index].kind), self.counts.last_mut())
        {
            counts[slot] += 1;
        }
    }

    fn pop(&mut self) -> Option<usize> {
        let index = self.open.pop()?;
        match Self::slot(self.tokens[index].kind) {
            Some(slot) => {
                if let Some(counts) = self.counts.last_mut() {
                    counts[slot] -= 1;
                }
            }
            None => {
                self.counts.pop();
            }
        }
        Some(index)
    }

    fn join(&mut self, open: usize, close: usize) {
        self.pairs[open] = Some(close);
        self.pairs[close] = Some(open);
    }

    fn close_bracket(&mut self, close: usize, opener: TokenKind) {
        let held = Self::slot(opener).zip(self.counts.last()).map_or(0, |(slot, c)| c[slot]);
        if held == 0 {
            self.balanced = false;
            return;
        }
        let wanted = if self.by_indent && opener == TokenKind::OpenBrace {
            self.by_indentation(close)
        } else {
            None
        };
        while let Some(open) = self.pop() {
            let fits = match wanted {
                Some(wanted) => open == wanted,
                None => self.tokens[open].kind == opener,
            };
            if fits {
                self.join(open, close);
                return;
            }
            self.balanced = false;
        }
    }

    fn close_outer(&mut self, close: usize, openers: &[TokenKind]) {
        // The lexer makes these close what it opened last, except for a stray `~}`.
        let found = self
            .open
            .iter()
            .rev()
            .take_while(|open| Self::slot(self.tokens[**open].kind).is_some())
            .count();
        let outer = self.open.len().checked_sub(found + 1).map(|i| self.open[i]);
        if !outer.is_some_and(|open| openers.contains(&self.tokens[open].kind)) {
            self.balanced = false;
            return;
        }
        self.balanced &= found == 0;
        while let Some(open) = self.pop() {
            if Some(open) == outer {
                self.join(open, close);
                return;
            }
        }
    }

    /// The open brace on a line indented as the closing brace's line, if that brace is the first
    /// thing on its line and nearer braces are indented more.
    fn by_indentation(&self, close: usize) -> Option<usize> {
        let (indent, first) = self.indent(close);
        if !first {
            return None;
        }
        self.open
            .iter()
            .rev()
            .take(REACH)
            .take_while(|open| Self::slot(self.tokens[**open].kind).is_some())
            .filter(|open| self.tokens[**open].kind == TokenKind::OpenBrace)
            .map(|open| (*open, self.indent(*open).0))
            .take_while(|(_, width)| *width >= indent)
            .find(|(_, width)| *width == indent)
            .map(|(open, _)| open)
    }

    /// Width of the blanks at the start of a token's line, and whether only they stand before it.
    fn indent(&self, index: usize) -> (usize, bool) {
        let start = self.tokens[index].start as usize;
        let bytes = &self.text.as_bytes()[start.saturating_sub(MAX_LINE)..start];
        let before = match bytes.iter().rposition(|b| *b == b'\n') {
            Some(line_end) => &bytes[line_end + 1..],
            None if bytes.len() < MAX_LINE => bytes,
            None => return (usize::MAX, false),
        };
        let width = before.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        (width, width == before.len())
    }
}
