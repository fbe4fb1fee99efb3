//! Tokens to trees. Reading never fails: what cannot be read is reported, stands in the tree as
//! [`ExprKind::Error`], and reading goes on behind it.
//!
//! Before anything is read, brackets are paired over the whole text. So an error
//! inside a pair never reaches beyond it, and one that was never closed is reported where it was
//! opened, not at the end of the file.

mod body;
mod brackets;
mod expr;
mod template;

pub(crate) use body::normal;

use std::ops::Range;

use crate::ast::{Body, Expr, ExprKind, MAX_HEIGHT, NativeBody, Template, TemplateForm};
use crate::diag::{Diagnostic, Diagnostics, SourceId, Span};
use crate::token::{Start, Token, TokenKind, lex};

/// Brackets, templates, blocks and conditionals may lie this deep in each other.
pub const MAX_NESTING: u32 = 100;

/// After so many errors nothing more is reported of a text.
const MAX_ERRORS: usize = 50;

/// A text that was read: its tokens and what they mean.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// All of the text, blanks and comments as well.
    pub tokens: Vec<Token>,
    /// What it means.
    pub body: Body,
}

/// Reads a file in native syntax.
pub fn parse(source: SourceId, text: &str) -> (Parsed, Diagnostics) {
    if !fits(text) {
        let span = Span::new(source, 0..0);
        let body = Body::Native(NativeBody { items: Vec::new(), span, end: span });
        return (Parsed { tokens: Vec::new(), body }, too_large(source).into());
    };
    let tokens = lex(text, Start::Normal);
    let mut parser = Parser::new(text, Place::offset(source, 0), &tokens);
    let body = parser.file();
    let diagnostics = parser.finish();
    (Parsed { tokens, body: Body::Native(body) }, diagnostics)
}

/// Reads one expression that fills `range` of a text. Line ends mean nothing in it.
pub fn parse_expression(source: SourceId, text: &str, range: Range<usize>) -> (Expr, Diagnostics) {
    let Some((text, place)) = part(source, text, range) else {
        let expr = Expr::new(ExprKind::Error, Span::new(source, 0..0));
        return (expr, too_large(source).into());
    };
    expression_at(text, place)
}

/// Reads a template without quotes that fills `range` of a text, as `templatefile` does.
///
/// The result is an [`ExprKind::Template`] of the form [`TemplateForm::Bare`].
pub fn parse_template(source: SourceId, text: &str, range: Range<usize>) -> (Expr, Diagnostics) {
    let Some((text, place)) = part(source, text, range) else {
        let expr = Expr::new(ExprKind::Error, Span::new(source, 0..0));
        return (expr, too_large(source).into());
    };
    template_at(text, place, TemplateForm::Bare)
}

/// Whether a text can be a name: of a variable, an attribute, a block type.
pub fn is_identifier(text: &str) -> bool {
    let tokens = lex(text, Start::Normal);
    matches!(tokens.as_slice(), [token, end]
        if token.kind == TokenKind::Ident && end.kind == TokenKind::End)
}

pub(crate) fn expression_at(text: &str, place: Place) -> (Expr, Diagnostics) {
    let tokens = lex(text, Start::Normal);
    let mut parser = Parser::new(text, place, &tokens);
    let expr = parser.whole_expression();
    (expr, parser.finish())
}

pub(crate) fn template_at(text: &str, place: Place, form: TemplateForm) -> (Expr, Diagnostics) {
    let tokens = lex(text, Start::Template);
    let mut parser = Parser::new(text, place, &tokens);
    let expr = parser.whole_template(form);
    (expr, parser.finish())
}

fn part(source: SourceId, text: &str, range: Range<usize>) -> Option<(&str, Place)> {
    let start = range.start;
    let text = text.get(range).filter(|_| fits(text))?;
    Some((text, Place::offset(source, start)))
}

/// Offsets are 32 bits wide.
fn fits(text: &str) -> bool {
    text.len() < u32::MAX as usize / 2
}

fn too_large(source: SourceId) -> Diagnostic {
    Diagnostic::error("Text too large")
        .detail("Templates may be at most 2 GiB long.")
        .at(Span::new(source, 0..0))
}

/// Where the text that is read stands in its source.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    source: SourceId,
    /// Pairs of an offset in the text and one in the source, rising. Between two, both count on
    /// alike.
    steps: Vec<(usize, usize)>,
}

impl Place {
    pub(crate) fn offset(source: SourceId, offset: usize) -> Self {
        Self { source, steps: vec![(0, offset)] }
    }

    /// A text that was made from its source with escapes resolved.
    pub(crate) fn mapped(source: SourceId, steps: Vec<(usize, usize)>) -> Self {
        Self { source, steps }
    }

    fn span(&self, start: u32, end: u32) -> Span {
        Span::new(self.source, self.find(start as usize)..self.find(end as usize))
    }

    fn find(&self, offset: usize) -> usize {
        let index = self.steps.partition_point(|(from, _)| *from <= offset);
        match index.checked_sub(1).and_then(|i| self.steps.get(i)) {
            Some((from, to)) => to + (offset - from),
            None => offset,
        }
    }
}

/// An error was reported, and whoever can should skip to where reading makes sense again.
struct Abort;

type Result<T, E = Abort> = std::result::Result<T, E>;

/// A token that the parser sees. A line comment is seen as its line end.
#[derive(Clone, Copy, Debug)]
struct Seen {
    kind: TokenKind,
    start: u32,
    end: u32,
}

struct Parser<'a> {
    text: &'a str,
    place: Place,
    tokens: Vec<Seen>,
    /// For each token that opens or closes something, the index of the other end.
    pairs: Vec<Option<usize>>,
    pos: usize,
    /// Whether line ends are tokens here.
    newlines: bool,
    depth: u32,
    too_deep: bool,
    /// That a block on one line holds a block was reported; its brace is not to be reported too.
    single_line_reported: bool,
    diagnostics: Diagnostics,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, place: Place, all: &[Token]) -> Self {
        let mut tokens = Vec::with_capacity(all.len());
        let mut open_comment = None;
        for token in all {
            let seen = Seen { kind: token.kind, start: token.start, end: token.end };
            if token.kind == TokenKind::Invalid
                && text.get(token.range()).is_some_and(|t| t.starts_with("/*"))
            {
                open_comment = Some(seen);
            } else if token.kind == TokenKind::Comment {
                let comment = text.get(token.range()).unwrap_or("");
                if comment.ends_with('\n') {
                    let start = token.end - if comment.ends_with("\r\n") { 2 } else { 1 };
                    tokens.push(Seen { kind: TokenKind::Newline, start, end: token.end });
                }
            } else if !token.kind.is_trivia() {
                tokens.push(seen);
            }
        }
        let pairs = brackets::pair(text, &tokens);
        let mut parser = Self {
            text,
            place,
            tokens,
            pairs,
            pos: 0,
            newlines: false,
            depth: 0,
            too_deep: false,
            single_line_reported: false,
            diagnostics: Diagnostics::new(),
        };
        if let Some(span) = open_comment.map(|token| parser.span(token)) {
            parser.report(
                Diagnostic::error("Unclosed comment")
                    .detail("The comment that begins here has no \"*/\".")
                    .at(span),
            );
        }
        parser
    }

    fn finish(self) -> Diagnostics {
        self.diagnostics
    }

    /// Reads an expression that fills the whole text.
    fn whole_expression(&mut self) -> Expr {
        let expr = match self.expression() {
            Ok(expr) => expr,
            Err(Abort) => return self.error_expr(0, self.tokens.len() - 1),
        };
        let next = self.peek();
        if next.kind != TokenKind::End {
            let mut diagnostic = Diagnostic::error("Extra characters after expression")
                .detail(format!("The expression is complete before {}.", self.describe(next)))
                .at(self.span(next));
            let before = self.tokens[self.previous()];
            if next.kind == TokenKind::Assign {
                diagnostic = diagnostic.hint("To compare, use \"==\".");
            } else if before.kind == TokenKind::Number && before.end == next.start {
                diagnostic = diagnostic
                    .hint("A number is made of digits, at most one point and one exponent.");
            }
            self.report(diagnostic);
        }
        expr
    }

    // Looking at tokens.

    /// The index of the next token.
    fn next_index(&self) -> usize {
        let mut pos = self.pos;
        if !self.newlines {
            while self.tokens.get(pos).is_some_and(|t| t.kind == TokenKind::Newline) {
                pos += 1;
            }
        }
        pos.min(self.tokens.len() - 1)
    }

    fn peek(&self) -> Seen {
        self.tokens[self.next_index()]
    }

    fn at(&self, kind: TokenKind) -> bool {
        self.peek().kind == kind
    }

    /// The token behind the next one, whatever it is.
    fn peek_second(&self) -> TokenKind {
        self.tokens.get(self.next_index() + 1).map_or(TokenKind::End, |t| t.kind)
    }

    fn at_keyword(&self, word: &str) -> bool {
        let next = self.peek();
        next.kind == TokenKind::Ident && self.slice(next) == word
    }

    /// Takes the next token and gives its index. The end is never taken.
    fn bump(&mut self) -> usize {
        let index = self.next_index();
        self.pos = (index + 1).min(self.tokens.len() - 1);
        index
    }

    fn eat(&mut self, kind: TokenKind) -> bool {
        let found = self.at(kind);
        if found {
            self.bump();
        }
        found
    }

    fn slice(&self, token: Seen) -> &'a str {
        self.text.get(token.start as usize..token.end as usize).unwrap_or("")
    }

    fn span(&self, token: Seen) -> Span {
        self.place.span(token.start, token.end)
    }

    fn span_at(&self, index: usize) -> Span {
        self.span(self.tokens[index.min(self.tokens.len() - 1)])
    }

    /// From the start of one token to the end of another.
    fn span_between(&self, first: usize, last: usize) -> Span {
        self.span_at(first).to(self.span_at(last.max(first)))
    }

    /// The token before the next one.
    fn previous(&self) -> usize {
        self.pos.saturating_sub(1)
    }

    /// Runs `f` with line ends seen or not.
    fn with_newlines<T>(&mut self, newlines: bool, f: impl FnOnce(&mut Self) -> T) -> T {
        let saved = std::mem::replace(&mut self.newlines, newlines);
        let result = f(self);
        self.newlines = saved;
        result
    }

    /// Runs `f` one level deeper, unless that is too deep.
    fn deeper<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_NESTING {
            let span = self.span(self.peek());
            return Err(self.refuse_depth(span));
        }
        self.depth += 1;
        let result = f(self);
        self.depth -= 1;
        result
    }

    fn refuse_depth(&mut self, span: Span) -> Abort {
        if !std::mem::replace(&mut self.too_deep, true) {
            self.report(
                Diagnostic::error("Nested too deeply")
                    .detail(format!(
                        "Brackets, templates, blocks and conditionals may lie at most {MAX_NESTING} deep in each other, and operators and indexes may follow each other at most {MAX_HEIGHT} times."
                    ))
                    .at(span)
                    .hint("Give parts of it names of their own in a \"locals\" block."),
            );
        }
        Abort
    }

    // Making nodes.

    /// An expression, unless it is too tall.
    fn node(&mut self, kind: ExprKind, span: Span) -> Result<Expr> {
        let expr = Expr::new(kind, span);
        if expr.height() > MAX_HEIGHT {
            return Err(self.refuse_depth(span));
        }
        Ok(expr)
    }

    fn error_expr(&self, first: usize, last: usize) -> Expr {
        Expr::new(ExprKind::Error, self.span_between(first, last))
    }

    fn template_node(&mut self, template: Template, span: Span) -> Result<Expr> {
        self.node(ExprKind::Template(template), span)
    }

    // Reporting.

    fn report(&mut self, diagnostic: Diagnostic) {
        match self.diagnostics.len() {
            n if n < MAX_ERRORS => self.diagnostics.push(diagnostic),
            MAX_ERRORS => {
                let mut last = Diagnostic::error("Too many errors")
                    .detail("The rest of this text was not checked.");
                last.primary = diagnostic.primary;
                self.diagnostics.push(last);
            }
            _ => {}
        }
    }

    fn fail<T>(&mut self, diagnostic: Diagnostic) -> Result<T> {
        self.report(diagnostic);
        Err(Abort)
    }

    /// What a token is called in a message: `the word "x"`, `a line end`.
    fn describe(&self, token: Seen) -> String {
        let text = self.slice(token);
        match token.kind {
            TokenKind::End => "the end of the text".into(),
            TokenKind::Newline => "the end of the line".into(),
            TokenKind::Ident => format!("the word \"{text}\""),
            TokenKind::Number => format!("the number {text}"),
            TokenKind::OpenQuote => "a quoted text".into(),
            TokenKind::CloseQuote => "the closing quote".into(),
            TokenKind::OpenHeredoc => "a heredoc".into(),
            TokenKind::TemplateEnd if text.is_empty() => "the end of the line".into(),
            TokenKind::Invalid => format!("the character {:?}", text.chars().next().unwrap_or(' ')),
            _ => format!("\"{text}\""),
        }
    }

    /// Reports that `open` was never closed, seen at the next token.
    fn unclosed<T>(&mut self, open: usize, what: &str) -> Result<T> {
        let token = self.tokens[open];
        let closer = match token.kind {
            TokenKind::OpenBracket => "]",
            TokenKind::OpenParen => ")",
            _ => "}",
        };
        let next = self.peek();
        let seen = match next.kind {
            TokenKind::End => "it is still open at the end of the text".to_owned(),
            _ => format!("here {} comes instead of it", self.describe(next)),
        };
        self.fail(
            Diagnostic::error(format!("Unclosed {what}"))
                .detail(format!(
                    "The \"{}\" that begins the {what} has no matching \"{closer}\".",
                    self.slice(token)
                ))
                .label(self.span(token), "opened here")
                .also(self.span(next), seen),
        )
    }

    /// Skips to the next comma of a pair of brackets (or line end, where those separate), or to
    /// its end.
    fn skip_to_separator(&mut self, open: usize) -> Result<()> {
        let Some(close) = self.pairs[open] else { return Err(Abort) };
        let mut index = self.pos.max(open + 1);
        while index < close {
            match self.tokens[index].kind {
                TokenKind::Comma => break,
                TokenKind::Newline if self.newlines => break,
                _ => index = self.behind(index),
            }
        }
        self.pos = index.min(close);
        Ok(())
    }

    /// The index behind a token and, if it opens something, behind all of that.
    fn behind(&self, index: usize) -> usize {
        match self.pairs[index] {
            Some(close) if close > index => close + 1,
            _ => index + 1,
        }
    }
}
