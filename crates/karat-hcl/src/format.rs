//! The canonical layout of a file, byte for byte that of `packer fmt`.
//!
//! Only the blanks between tokens change, never a line end or a token. Three passes, each over
//! lines of tokens: indentation by the brackets a line leaves open; blanks between neighbouring
//! tokens by a list of rules; then `=` and comments of neighbouring lines are put under each
//! other. The rules, with their oddities, are those of HashiCorp's `hclwrite`: whoever has
//! formatted files wants no other layout.

use unicode_segmentation::UnicodeSegmentation;

use crate::token::{Start, Token, TokenKind as K, lex};

/// Deeper levels are not indented further. No text without errors has so many.
const MAX_INDENT: usize = 200;

/// Lays a text out. The result of a result is itself.
///
/// A text with syntax errors is laid out as far as it makes sense; callers should refuse it.
pub fn format(text: &str) -> String {
    let mut tokens = cells(text);
    let lines = lines(&tokens);
    indent(&mut tokens, &lines);
    space(&mut tokens, &lines);
    align(&mut tokens, &lines);
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for token in &tokens {
        out.extend(std::iter::repeat_n(' ', token.blanks));
        out.push_str(token.text);
    }
    out
}

/// A token and the blanks before it.
struct Cell<'a> {
    kind: K,
    text: &'a str,
    blanks: usize,
}

impl Cell<'_> {
    fn ends_line(&self) -> bool {
        self.kind == K::Newline || self.kind == K::Comment && self.text.ends_with('\n')
    }

    fn columns(&self) -> usize {
        self.blanks
            + if self.text.is_ascii() && !self.text.contains('\r') {
                self.text.len()
            } else {
                self.text.graphemes(true).count()
            }
    }
}

fn cells(text: &str) -> Vec<Cell<'_>> {
    let mut blanks = 0;
    let mut cells = Vec::new();
    for token in lex(text, Start::Normal) {
        let Token { kind, .. } = token;
        let piece = text.get(token.range()).unwrap_or("");
        match kind {
            K::ByteOrderMark | K::Space => blanks += piece.len(),
            _ => {
                cells.push(Cell { kind, text: piece, blanks });
                blanks = 0;
            }
        }
    }
    cells
}

/// One line as ranges of tokens: `lead` up to an `=` or a comment at the end, then those.
struct Line {
    lead: std::ops::Range<usize>,
    /// From the `=` on, if what stands behind it is complete; may be empty.
    assign: std::ops::Range<usize>,
    /// The comment at the end of a line that holds other things; may be empty.
    comment: std::ops::Range<usize>,
}

fn lines(tokens: &[Cell<'_>]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut start = 0;
    for (index, token) in tokens.iter().enumerate() {
        if token.kind == K::End {
            lines.push(line(tokens, start, index));
            break;
        }
        if token.ends_line() {
            lines.push(line(tokens, start, index + 1));
            start = index + 1;
        }
    }
    lines
}

fn line(tokens: &[Cell<'_>], start: usize, end: usize) -> Line {
    let mut rest = end;
    if end > start + 1 && tokens[end - 1].kind == K::Comment {
        rest = end - 1;
    }
    let mut lead = rest;
    let equals = tokens[start..rest].iter().skip(1).position(|t| t.kind == K::Assign);
    if let Some(equals) = equals.map(|i| start + 1 + i) {
        let net: i32 = tokens[equals..rest].iter().map(|t| t.kind.bracket()).sum();
        if net == 0 {
            lead = equals;
        }
    }
    Line { lead: start..lead, assign: lead..rest, comment: rest..end }
}

fn indent(tokens: &mut [Cell<'_>], lines: &[Line]) {
    // How many brackets each open level of indentation waits for.
    let mut levels: Vec<i32> = Vec::new();
    for line in lines {
        let Some(first) = line.lead.clone().next() else { continue };
        if tokens[first].kind == K::Newline {
            tokens[first].blanks = 0;
            continue;
        }
        let mut net = 0;
        for token in &tokens[line.lead.clone()] {
            net += token.kind.bracket();
            if token.kind == K::OpenHeredoc {
                break;
            }
        }
        net += tokens[line.assign.clone()].iter().map(|t| t.kind.bracket()).sum::<i32>();
        let mut width = levels.len();
        if net > 0 {
            levels.push(net);
        } else if net < 0 {
            let mut closed = -net;
            while closed > 0
                && let Some(level) = levels.last_mut()
            {
                if closed < *level {
                    *level -= closed;
                    break;
                }
                closed -= *level;
                levels.pop();
            }
            width = levels.len();
        }
        tokens[first].blanks = 2 * width.min(MAX_INDENT);
    }
}

fn space(tokens: &mut [Cell<'_>], lines: &[Line]) {
    for line in lines {
        for cell in [&line.lead, &line.assign] {
            for index in cell.clone().skip(1) {
                let before = (index >= cell.start + 2).then(|| tokens[index - 2].kind);
                let blank = has_blank(before, &tokens[index - 1], tokens[index].kind);
                tokens[index].blanks = usize::from(blank);
            }
        }
        if let Some(first) = line.assign.clone().next() {
            tokens[first].blanks = 1;
        }
    }
}

/// Whether a blank stands between `token` and the one `after` it.
fn has_blank(before: Option<K>, token: &Cell<'_>, after: K) -> bool {
    let kind = token.kind;
    match (kind, after) {
        (_, K::Newline) => false,
        // A function and its arguments, a namespace and its function, a point and its name.
        (K::Ident, K::OpenParen | K::DoubleColon) | (K::DoubleColon, K::Ident) => false,
        (K::Dot, _) | (_, K::Dot) => false,
        (_, K::Comma | K::Ellipsis) => false,
        (K::Comma, _) => true,
        // The text of templates is not touched.
        (K::QuotedText | K::Text | K::OpenQuote | K::OpenHeredoc, _)
        | (_, K::QuotedText | K::Text | K::CloseQuote | K::CloseHeredoc) => false,
        // `for x in [a]`: no index.
        (K::Ident, _) if token.text == "in" && before == Some(K::Ident) => true,
        (K::Ident | K::Number, K::OpenBracket) => false,
        (_, K::OpenBracket) if kind.bracket() < 0 => false,
        (K::Bang, _) => false,
        (K::Minus, _) => !negates(before),
        (K::OpenBrace, K::CloseBrace) => false,
        (K::OpenBrace, _) | (_, K::CloseBrace) => true,
        (K::Interpolation | K::Directive, K::OpenBrace) => true,
        (K::CloseBrace, K::TemplateEnd) => true,
        (K::TemplateEnd, K::Interpolation | K::Directive) => false,
        _ => kind.bracket() <= 0 && after.bracket() >= 0,
    }
}

/// Whether a minus behind this token is the sign of a number, not a subtraction.
fn negates(before: Option<K>) -> bool {
    matches!(
        before,
        None | Some(
            K::OpenParen
                | K::OpenBrace
                | K::OpenBracket
                | K::Assign
                | K::Colon
                | K::Comma
                | K::Question
                | K::Plus
                | K::Star
                | K::Slash
                | K::Percent
                | K::Minus
                | K::Equal
                | K::NotEqual
                | K::Greater
                | K::GreaterOrEqual
                | K::Less
                | K::LessOrEqual
                | K::And
                | K::Or
                | K::Bang
        )
    )
}

fn align(tokens: &mut [Cell<'_>], lines: &[Line]) {
    align_cell(tokens, lines, |line| line.lead.clone(), |line| line.assign.clone());
    align_cell(tokens, lines, |line| line.lead.start..line.assign.end, |line| line.comment.clone());
}

/// Puts the cells of neighbouring lines that have one under each other.
fn align_cell(
    tokens: &mut [Cell<'_>],
    lines: &[Line],
    before: impl Fn(&Line) -> std::ops::Range<usize>,
    cell: impl Fn(&Line) -> std::ops::Range<usize>,
) {
    for chain in lines.chunk_by(|a, b| cell(a).is_empty() == cell(b).is_empty()) {
        let widths: Vec<usize> =
            chain.iter().map(|line| tokens[before(line)].iter().map(Cell::columns).sum()).collect();
        let widest = widths.iter().copied().max().unwrap_or(0);
        for (line, width) in chain.iter().zip(widths) {
            if let Some(first) = cell(line).next() {
                tokens[first].blanks = widest - width + 1;
            }
        }
    }
}
