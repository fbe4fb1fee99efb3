//! Bodies: attributes and blocks.

use unicode_normalization::UnicodeNormalization;

use super::{Abort, Parser, Result, Seen};
use crate::ast::{Attribute, Block, Body, Expr, ExprKind, Ident, Item, Label, NativeBody};
use crate::diag::{Diagnostic, Span};
use crate::token::TokenKind as K;

/// The block a body belongs to.
#[derive(Clone, Copy)]
struct Braces {
    /// Index of the block's first token.
    header: usize,
    /// Index of the `{`.
    open: usize,
    /// Index of the `}`, if there is one.
    close: Option<usize>,
}

impl Parser<'_> {
    /// Reads the whole text as a body.
    pub(super) fn file(&mut self) -> NativeBody {
        let items = self.with_newlines(true, |p| p.items(None));
        let end = self.span_at(self.tokens.len() - 1);
        let span = self.place.span(0, self.tokens[self.tokens.len() - 1].end);
        NativeBody { items, span, end }
    }

    pub(super) fn ident(&self, token: Seen) -> Ident {
        Ident::new(normal(self.slice(token)), self.span(token))
    }

    fn items(&mut self, braces: Option<Braces>) -> Vec<Item> {
        let mut items = Vec::new();
        let mut seen = std::collections::HashMap::new();
        let limit = braces.and_then(|b| b.close).unwrap_or(self.tokens.len() - 1);
        loop {
            // Errors may have led beyond the closing brace.
            if braces.is_some_and(|b| b.close.is_some_and(|close| self.pos > close)) {
                return items;
            }
            let next = self.peek();
            let before = self.pos;
            match next.kind {
                K::Newline => {
                    self.bump();
                }
                K::End => {
                    if let Some(braces) = braces {
                        self.unclosed_block(braces, None);
                    }
                    return items;
                }
                K::CloseBrace => {
                    let pair = self.pairs[self.next_index()];
                    match braces {
                        Some(braces) if braces.close == Some(self.next_index()) => {
                            self.bump();
                            return items;
                        }
                        Some(braces) if pair.is_some() => {
                            self.unclosed_block(braces, None);
                            return items;
                        }
                        _ => {
                            self.bump();
                            self.report(
                                Diagnostic::error("Unexpected closing brace")
                                    .detail("This \"}\" closes nothing that is open here.")
                                    .at(self.span(next))
                                    .hint("Remove it, or look for a missing \"{\" above."),
                            );
                        }
                    }
                }
                K::Ident => {
                    if let Some(braces) = braces
                        && braces.close.is_none()
                        && self.starts_further_left(braces)
                    {
                        self.unclosed_block(braces, Some(next));
                        return items;
                    }
                    match self.item(limit) {
                        Ok(item) => self.add(&mut items, &mut seen, item),
                        Err(Abort) => self.recover(before, limit),
                    }
                }
                _ => {
                    self.not_an_item(next);
                    self.recover(before, limit);
                }
            }
            if self.pos <= before {
                self.bump();
            }
        }
    }

    fn add(
        &mut self,
        items: &mut Vec<Item>,
        seen: &mut std::collections::HashMap<String, Span>,
        item: Item,
    ) {
        if let Item::Attribute(attribute) = &item {
            let name = &attribute.name;
            if let Some(first) = seen.get(&name.name) {
                self.report(
                    Diagnostic::error("Attribute redefined")
                        .detail(format!(
                            "The argument \"{}\" is already set. Each may be set only once.",
                            name.name
                        ))
                        .at(name.span)
                        .also(*first, "first set here"),
                );
                return;
            }
            seen.insert(name.name.clone(), name.span);
        }
        items.push(item);
    }

    fn not_an_item(&mut self, next: Seen) {
        let diagnostic = match next.kind {
            K::OpenQuote => Diagnostic::error("Invalid argument name")
                .detail("The name of an argument or the type of a block stands without quotes.")
                .hint("Remove the quotes around the name."),
            K::Invalid if self.slice(next) == ";" => {
                Diagnostic::error("Argument or block definition required")
                    .detail("There is no \";\" between arguments or blocks.")
                    .hint("Put each on a line of its own.")
            }
            _ => Diagnostic::error("Argument or block definition required").detail(format!(
                "An argument (\"name = value\") or a block (\"type {{ … }}\") is expected here, not {}.",
                self.describe(next)
            )),
        };
        self.report(diagnostic.at(self.span(next)));
    }

    fn item(&mut self, limit: usize) -> Result<Item> {
        let first = self.bump();
        let next = self.peek();
        match next.kind {
            K::Assign => {
                self.bump();
                Ok(Item::Attribute(self.attribute_line(first, limit)))
            }
            K::Colon => {
                self.report(
                    Diagnostic::error("Unexpected colon")
                        .detail(format!(
                            "The value of \"{}\" follows after \"=\".",
                            self.slice(self.tokens[first])
                        ))
                        .at(self.span(next))
                        .hint("Use \"=\" to set an argument."),
                );
                self.bump();
                Ok(Item::Attribute(self.attribute_line(first, limit)))
            }
            K::OpenQuote | K::OpenBrace | K::Ident => self.block(first).map(Item::Block),
            _ => {
                let name = self.slice(self.tokens[first]);
                let mut diagnostic = Diagnostic::error("Argument or block definition required")
                    .detail(format!(
                        "After \"{name}\" comes \"=\" and a value, or labels and \"{{\" for a block, not {}.",
                        self.describe(next)
                    ))
                    .at(self.span_at(first));
                let brace = if next.kind == K::Newline { self.brace_on_next_line() } else { None };
                diagnostic = match next.kind {
                    K::Dot | K::OpenBracket => {
                        diagnostic.hint("Only a single name can be set, not a part of a value.")
                    }
                    K::Equal => diagnostic.hint("\"==\" compares; to set an argument, use \"=\"."),
                    _ if brace.is_some() => {
                        diagnostic.hint("The \"{\" of a block stands on the line of its header.")
                    }
                    _ => diagnostic.hint(format!("Use \"=\" to set an argument: {name} = …")),
                };
                self.report(diagnostic);
                let Some(brace) = brace else { return Err(Abort) };
                self.pos = brace;
                self.block(first).map(Item::Block)
            }
        }
    }

    fn attribute_line(&mut self, first: usize, limit: usize) -> Attribute {
        let (attribute, read) = self.attribute(first, limit);
        if read {
            self.end_of_attribute(first, limit);
        }
        attribute
    }

    /// Reads the value behind the `=`. One that cannot be read is an error node; then the rest of
    /// the line was skipped, which the second result says.
    fn attribute(&mut self, first: usize, limit: usize) -> (Attribute, bool) {
        let name = self.ident(self.tokens[first]);
        let start = self.pos;
        let missing = matches!(self.peek().kind, K::Newline | K::End);
        if missing {
            self.report(
                Diagnostic::error("Missing value")
                    .detail(format!("Nothing stands after the \"=\" of \"{}\".", name.name))
                    .at(self.span(self.peek()))
                    .hint("A value begins on the line of the \"=\"; only inside brackets may it go on over line ends."),
            );
            let expr = Expr::new(ExprKind::Error, self.span_at(self.previous()));
            self.recover(start, limit);
            let span = name.span.to(expr.span);
            return (Attribute { name, expr, span }, false);
        }
        let (expr, read) = match self.expression() {
            Ok(expr) => (expr, true),
            Err(Abort) => {
                let expr = self.error_expr(start, self.previous().max(start));
                self.recover(start, limit);
                (expr, false)
            }
        };
        let span = name.span.to(expr.span);
        (Attribute { name, expr, span }, read)
    }

    fn end_of_attribute(&mut self, first: usize, limit: usize) {
        let next = self.peek();
        if matches!(next.kind, K::Newline | K::End) {
            return;
        }
        let name = self.slice(self.tokens[first]).to_owned();
        let diagnostic = match next.kind {
            K::CloseBrace if self.next_index() == limit => {
                Diagnostic::error("Missing newline after argument")
                    .detail("In a block of several lines the closing brace stands on its own line.")
            }
            K::Comma => Diagnostic::error("Unexpected comma after argument")
                .detail("Line ends separate arguments, not commas.")
                .hint("Remove the comma."),
            K::Question => Diagnostic::error("Missing newline after argument"),
            _ => Diagnostic::error("Missing newline after argument").detail(format!(
                "The value of \"{name}\" is complete before {}.",
                self.describe(next)
            )),
        };
        let at_close = next.kind == K::CloseBrace && self.next_index() == limit;
        let comma = next.kind == K::Comma;
        self.report(diagnostic.at(self.span(next)));
        if comma {
            self.bump();
            if self.at(K::Newline) || self.at(K::Ident) {
                return;
            }
        }
        if !at_close {
            self.recover(self.pos, limit);
        }
    }

    fn block(&mut self, first: usize) -> Result<Block> {
        let kind = self.ident(self.tokens[first]);
        let labels = self.labels(first)?;
        let open = self.next_index();
        let braces = Braces { header: first, open, close: self.pairs[open] };
        let header = self.span_between(first, open.saturating_sub(1).max(first));
        self.bump();
        let body_start = self.span_at(open);
        let items = self.deeper(|p| {
            Ok(match p.peek().kind {
                K::Newline | K::End | K::CloseBrace => p.items(Some(braces)),
                _ => p.single_line(braces),
            })
        });
        let items = match items {
            Ok(items) => items,
            Err(Abort) => {
                self.pos = braces.close.map_or(self.tokens.len() - 1, |close| close + 1);
                Vec::new()
            }
        };
        let close = braces.close.unwrap_or_else(|| self.previous().max(open));
        let end = self.span_at(close);
        let span = self.span_between(first, close);
        let next = self.peek();
        let in_line = next.kind == K::CloseBrace && std::mem::take(&mut self.single_line_reported);
        if braces.close.is_some() && !in_line && !matches!(next.kind, K::Newline | K::End) {
            self.report(
                Diagnostic::error("Missing newline after block definition")
                    .detail(format!(
                        "The block \"{}\" is complete before {}.",
                        kind.name,
                        self.describe(next)
                    ))
                    .at(self.span(next)),
            );
            if next.kind != K::Ident && next.kind != K::CloseBrace {
                self.recover(self.pos, self.tokens.len() - 1);
            }
        }
        let body = NativeBody { items, span: body_start.to(end), end };
        Ok(Block { kind, labels, body: Body::Native(body), header, span })
    }

    /// Reads labels up to the opening brace, which is then the next token.
    fn labels(&mut self, first: usize) -> Result<Vec<Label>> {
        let mut labels = Vec::new();
        loop {
            let next = self.peek();
            match next.kind {
                K::OpenBrace => return Ok(labels),
                K::OpenQuote => labels.push(self.quoted_label()),
                K::Ident => {
                    self.bump();
                    let Ident { name, span } = self.ident(next);
                    labels.push(Label { text: name, span, quoted: false });
                }
                _ => {
                    self.bad_header(first, next, &labels);
                    // `type "x" = {` and a brace on the next line read on as a block.
                    match (next.kind, self.brace_on_next_line()) {
                        (K::Newline | K::Assign, Some(brace)) => {
                            self.pos = brace;
                            return Ok(labels);
                        }
                        _ => return Err(Abort),
                    }
                }
            }
        }
    }

    /// The brace behind the next token, if nothing but line ends stands between.
    fn brace_on_next_line(&self) -> Option<usize> {
        let behind = self.tokens.iter().enumerate().skip(self.next_index() + 1);
        let (index, token) = behind.into_iter().find(|(_, token)| token.kind != K::Newline)?;
        (token.kind == K::OpenBrace).then_some(index)
    }

    fn bad_header(&mut self, first: usize, next: Seen, labels: &[Label]) {
        let kind = self.slice(self.tokens[first]);
        let diagnostic = Diagnostic::error("Invalid block definition");
        let diagnostic = match next.kind {
            K::Assign => diagnostic
                .detail("No \"=\" stands between the labels of a block and its \"{\".")
                .hint("Remove the \"=\"."),
            K::Newline | K::End => {
                let diagnostic = diagnostic.detail(format!(
                    "The block \"{kind}\" needs its \"{{\" on the line of its header."
                ));
                match labels {
                    [label] if label.quoted => diagnostic.hint(format!(
                        "To set an argument, use \"=\": {kind} = {:?}",
                        label.text
                    )),
                    [label] => diagnostic
                        .hint(format!("To set an argument, use \"=\": {kind} = {}", label.text)),
                    _ => diagnostic,
                }
            }
            _ => diagnostic.detail(format!(
                "After the header of a block \"{kind}\" another label or \"{{\" is expected, not {}.",
                self.describe(next)
            )),
        };
        self.report(diagnostic.at(self.span(next)).also(self.span_at(first), "the block"));
    }

    fn quoted_label(&mut self) -> Label {
        let open = self.bump();
        let close = self.pairs[open].unwrap_or(open);
        let mut text = String::new();
        let mut complained = false;
        let mut index = open + 1;
        while index < close {
            let token = self.tokens[index];
            if token.kind == K::QuotedText {
                self.cook_quoted(token, &mut text);
            } else if !std::mem::replace(&mut complained, true) {
                let sign = self.slice(token).chars().next().unwrap_or('$');
                self.report(
                    Diagnostic::error("Invalid string literal")
                        .detail("A label is plain text; nothing can be inserted into it.")
                        .at(self.span(token))
                        .hint(format!("To write {sign}{{ itself, double the sign: {sign}{sign}{{")),
                );
            }
            index = self.behind(index);
        }
        self.pos = close + 1;
        if self.slice(self.tokens[close]).is_empty() && !complained {
            self.unterminated_string(open);
        }
        Label { text: normal(&text), span: self.span_between(open, close), quoted: true }
    }

    /// `type { name = value }` on one line.
    fn single_line(&mut self, braces: Braces) -> Vec<Item> {
        let next = self.peek();
        let is_attribute = next.kind == K::Ident && self.peek_second() == K::Assign;
        if !is_attribute {
            if next.kind == K::Ident {
                self.report(
                    Diagnostic::error("Argument definition required")
                        .detail("A block on one line holds one argument (\"name = value\") and nothing else.")
                        .at(self.span(next))
                        .hint("Put what stands in the block on lines of its own."),
                );
                self.single_line_reported = true;
            }
            return self.items(Some(braces));
        }
        let first = self.bump();
        self.bump();
        let limit = braces.close.unwrap_or(self.tokens.len() - 1);
        let (attribute, read) = self.attribute(first, limit);
        let mut items = vec![Item::Attribute(attribute)];
        if !read {
            items.extend(self.items(Some(braces)));
            return items;
        }
        let next = self.peek();
        if next.kind == K::CloseBrace && braces.close == Some(self.next_index()) {
            self.bump();
            return items;
        }
        if braces.close.is_some() || next.kind == K::Comma {
            let detail = match next.kind {
                K::Newline => {
                    "A block whose first argument stands on the line of its \"{\" ends on that line."
                }
                _ => "A block on one line holds one argument and nothing else.",
            };
            self.report(
                Diagnostic::error("Invalid single-argument block definition")
                    .detail(detail)
                    .at(self.span(next))
                    .hint("Put each argument, and the closing brace, on a line of its own."),
            );
        }
        if let Some(close) = braces.close {
            // Read the rest for its own errors, but do not say the same again of each comma.
            if next.kind == K::Newline {
                items.extend(self.items(Some(braces)));
            } else {
                self.pos = close + 1;
            }
        } else {
            self.unclosed_block(braces, None);
            self.recover(self.pos, self.tokens.len() - 1);
        }
        items
    }

    /// Whether the next token begins a line, no further to the right than the block's header.
    fn starts_further_left(&self, braces: Braces) -> bool {
        let next = self.next_index();
        self.begins_line(next)
            && self.looks_like_item(next)
            && self.column(next) <= self.column(braces.header)
    }

    fn begins_line(&self, index: usize) -> bool {
        index == 0 || self.tokens[index - 1].kind == K::Newline
    }

    /// Bytes between the start of the line and the token.
    fn column(&self, index: usize) -> usize {
        let start = self.tokens[index].start as usize;
        let bytes = &self.text.as_bytes()[..start];
        start - bytes.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1)
    }

    fn unclosed_block(&mut self, braces: Braces, sign: Option<Seen>) {
        let kind = self.slice(self.tokens[braces.header]);
        let mut diagnostic = Diagnostic::error("Unclosed block")
            .detail(format!("The block \"{kind}\" has no closing \"}}\"."))
            .label(self.span_at(braces.open), "opened here");
        if let Some(sign) = sign {
            diagnostic = diagnostic.also(
                self.span(sign),
                "not indented further than the block: a \"}\" may be missing before it",
            );
        }
        self.report(diagnostic);
    }

    /// Skips to what may be the start of the next item, but not beyond `limit`.
    fn recover(&mut self, from: usize, limit: usize) {
        // With nothing taken since the error, something must be, or the same error comes again.
        if self.pos > from
            && self.begins_line(self.next_index())
            && self.looks_like_item(self.next_index())
        {
            return;
        }
        let mut index = self.pos;
        while index < limit.min(self.tokens.len() - 1) {
            let kind = self.tokens[index].kind;
            if kind == K::Newline && self.resumes(index + 1) {
                index += 1;
                break;
            }
            if kind == K::CloseBrace && self.pairs[index].is_some_and(|open| open < from) {
                break;
            }
            index = self.behind(index);
        }
        self.pos = index.min(self.tokens.len() - 1);
    }

    fn resumes(&self, index: usize) -> bool {
        matches!(self.tokens[index].kind, K::CloseBrace | K::Newline | K::End)
            || self.looks_like_item(index)
    }

    /// Whether an argument or a block header stands here.
    fn looks_like_item(&self, index: usize) -> bool {
        if self.tokens[index].kind != K::Ident {
            return false;
        }
        let mut index = index + 1;
        loop {
            match self.tokens.get(index).map(|t| t.kind) {
                Some(K::Assign | K::OpenBrace | K::Colon) => return true,
                Some(K::OpenQuote) => index = self.behind(index),
                Some(K::Ident) => index += 1,
                _ => return false,
            }
        }
    }
}

/// Normal form C, as Packer makes all text.
pub(crate) fn normal(text: &str) -> String {
    if text.is_ascii() { text.to_owned() } else { text.nfc().collect() }
}
