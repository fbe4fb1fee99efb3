//! Templates: text with interpolations and directives.
//!
//! Four steps, in the order in which Packer takes them: pieces are read in a row and `~` trims
//! the text beside its mark; the indentation of a flush heredoc goes; neighbouring texts are
//! joined; the row becomes a tree.

use unicode_segmentation::UnicodeSegmentation;

use super::body::normal;
use super::{Abort, Parser, Result, Seen};
use crate::ast::{
    Expr, ExprKind, Ident, Template, TemplateFor, TemplateForm, TemplateIf, TemplatePart,
};
use crate::diag::{Diagnostic, Span};
use crate::token::TokenKind as K;

/// Words that can stand behind `%{`.
const DIRECTIVES: [&str; 5] = ["if", "else", "endif", "for", "endfor"];

enum Piece {
    Text { text: String, span: Span },
    Interpolation { expr: Expr, span: Span },
    If { condition: Expr, span: Span },
    Else { span: Span },
    EndIf { span: Span },
    For { key: Option<Ident>, value: Ident, collection: Expr, span: Span },
    EndFor { span: Span },
}

impl Parser<'_> {
    /// Reads a quoted template or a heredoc; its opening token is the next.
    pub(super) fn template(&mut self, form: TemplateForm) -> Result<Expr> {
        let open = self.bump();
        let pieces = self.deeper(|p| p.pieces(Some(open)))?;
        let parts = self.parts(pieces, form);
        let last = self.pairs[open].unwrap_or_else(|| self.previous());
        let span = self.span_between(open, last);
        self.template_node(Template { form, parts }, span)
    }

    /// Reads a template that fills the whole text.
    pub(super) fn whole_template(&mut self, form: TemplateForm) -> Expr {
        let last = self.tokens.len() - 1;
        let span = self.place.span(0, self.tokens[last].end);
        let pieces = self.with_newlines(true, |p| p.pieces(None));
        let Ok(pieces) = pieces else { return Expr::new(ExprKind::Error, span) };
        let parts = self.parts(pieces, form);
        let template = Template { form, parts };
        self.template_node(template, span).unwrap_or_else(|Abort| Expr::new(ExprKind::Error, span))
    }

    fn parts(&mut self, mut pieces: Vec<Piece>, form: TemplateForm) -> Vec<TemplatePart> {
        if form == TemplateForm::FlushHeredoc {
            unindent(&mut pieces);
        }
        self.tree(join(pieces))
    }

    /// Reads pieces up to and with the closing token of `open`, or to the end of the text.
    fn pieces(&mut self, open: Option<usize>) -> Result<Vec<Piece>> {
        let depth = self.depth;
        let result = self.with_newlines(true, |p| p.pieces_to(open));
        self.depth = depth;
        result
    }

    fn pieces_to(&mut self, open: Option<usize>) -> Result<Vec<Piece>> {
        let close = open.and_then(|open| self.pairs[open]);
        let errors = self.diagnostics.len();
        let base = self.depth;
        let mut pieces: Vec<Piece> = Vec::new();
        let mut trim_next = false;
        let mut can_trim = false;
        loop {
            let index = self.pos;
            let token = self.tokens[index];
            let trim = std::mem::take(&mut trim_next);
            let can_trim_before = std::mem::take(&mut can_trim);
            match token.kind {
                _ if Some(index) == close => {
                    self.bump();
                    let quoted = token.kind == K::CloseQuote;
                    if quoted && token.start == token.end && self.diagnostics.len() == errors {
                        self.unterminated_string(open.unwrap_or(index));
                    }
                    return Ok(pieces);
                }
                K::QuotedText | K::Text => {
                    self.bump();
                    let mut text = String::new();
                    if token.kind == K::QuotedText {
                        self.cook_quoted(token, &mut text);
                    } else {
                        text.push_str(unescape_sign(self.slice(token)));
                    }
                    if trim {
                        text = text.trim_start().to_owned();
                    }
                    pieces.push(Piece::Text { text, span: self.span(token) });
                    can_trim = true;
                }
                K::Interpolation | K::Directive => {
                    if can_trim_before
                        && self.slice(token).ends_with('~')
                        && let Some(Piece::Text { text, .. }) = pieces.last_mut()
                    {
                        text.truncate(text.trim_end().len());
                    }
                    let read = self.with_newlines(false, |p| match token.kind {
                        K::Interpolation => {
                            p.interpolation(index).map(|(piece, trims)| (Some(piece), trims))
                        }
                        _ => p.directive(index),
                    });
                    match read {
                        Ok((piece, trims)) => {
                            trim_next = trims;
                            self.note_depth(base, piece.as_ref())?;
                            pieces.extend(piece);
                        }
                        // The mark has no end: go on behind the line, or with the closing quote.
                        Err(Abort) => match (close, self.pairs[index]) {
                            (Some(close), _) if self.tokens[close].kind == K::CloseQuote => {
                                self.pos = close;
                            }
                            (_, Some(end)) => self.pos = end + 1,
                            (_, None) => {
                                self.pos = self.tokens.len() - 1;
                                return Err(Abort);
                            }
                        },
                    }
                }
                K::Invalid if open.is_some_and(|open| self.tokens[open].kind == K::OpenHeredoc) => {
                    self.bump();
                    self.report(
                        Diagnostic::error("Invalid character")
                            .detail("In a heredoc, a carriage return has to be part of a line end.")
                            .at(self.span(token))
                            .hint("Save the file with line ends of one kind."),
                    );
                }
                K::End if open.is_none() => return Ok(pieces),
                K::End => {
                    let open = open.unwrap_or(index);
                    if self.tokens[open].kind == K::OpenHeredoc {
                        self.unterminated_heredoc(open);
                    } else {
                        self.unterminated_string(open);
                    }
                    return Err(Abort);
                }
                _ => {
                    // Left over from an interpolation that went wrong.
                    self.bump();
                }
            }
        }
    }

    /// Directives that are open count as depth.
    fn note_depth(&mut self, base: u32, piece: Option<&Piece>) -> Result<()> {
        match piece {
            Some(Piece::If { span, .. } | Piece::For { span, .. }) => {
                if self.depth >= super::MAX_NESTING {
                    return Err(self.refuse_depth(*span));
                }
                self.depth += 1;
            }
            Some(Piece::EndIf { .. } | Piece::EndFor { .. }) => {
                self.depth = self.depth.saturating_sub(1).max(base);
            }
            _ => {}
        }
        Ok(())
    }

    fn interpolation(&mut self, open: usize) -> Result<(Piece, bool)> {
        self.bump();
        if self.is_empty_end(open) && self.pairs[open] == Some(self.next_index()) {
            return self.unclosed_mark(open);
        }
        let start = self.pos;
        let expr = match self.expression() {
            Ok(expr) => expr,
            Err(Abort) => {
                self.skip_to_close(open)?;
                if self.is_empty_end(open) {
                    return Err(Abort);
                }
                self.error_expr(start, self.previous().max(start))
            }
        };
        let trims = self.end_of_mark(open, None)?;
        let span = self.span_between(open, self.previous());
        Ok((Piece::Interpolation { expr, span }, trims))
    }

    /// Takes the `}` of an interpolation or directive; says whether it is `~}`.
    fn end_of_mark(&mut self, open: usize, word: Option<&str>) -> Result<bool> {
        let next = self.peek();
        let here = self.next_index();
        if self.is_empty_end(open) {
            return self.unclosed_mark(open);
        }
        if self.pairs[open] != Some(here) {
            let found = self.describe(next);
            let summary = match word {
                None => "Extra characters after interpolation expression".to_owned(),
                Some(word) => format!("Extra characters in {word} marker"),
            };
            let mut diagnostic = Diagnostic::error(summary)
                .detail(format!("\"}}\" is expected here, not {found}."))
                .at(self.span(next))
                .also(self.span_at(open), "opened here");
            let sign = self.slice(self.tokens[open]).chars().next().unwrap_or('$');
            if word.is_none() || next.kind == K::Colon {
                diagnostic = diagnostic.hint(format!(
                    "If this is meant for another language, such as the shell, write {sign}{sign}{{ instead of {sign}{{."
                ));
            }
            self.report(diagnostic);
            self.skip_to_close(open)?;
        }
        let close = self.bump();
        Ok(self.slice(self.tokens[close]).starts_with('~'))
    }

    /// Whether the mark that `open` opens has no end, or one that stands for a missing one.
    fn is_empty_end(&self, open: usize) -> bool {
        self.pairs[open].is_none_or(|close| self.slice(self.tokens[close]).is_empty())
    }

    fn unclosed_mark<T>(&mut self, open: usize) -> Result<T> {
        let token = self.tokens[open];
        let what = match token.kind {
            K::Directive => "Unclosed template directive",
            _ => "Unclosed template interpolation sequence",
        };
        let text = self.slice(token).to_owned();
        let sign = text.chars().next().unwrap_or('$');
        self.fail(
            Diagnostic::error(what)
                .detail(format!("The \"{text}\" that begins here has no \"}}\"."))
                .at(self.span(token))
                .hint(format!("To write {sign}{{ itself, double the sign: {sign}{sign}{{")),
        )
    }

    fn directive(&mut self, open: usize) -> Result<(Option<Piece>, bool)> {
        self.bump();
        let word = self.peek();
        if word.kind != K::Ident {
            let found = self.describe(word);
            self.report(
                Diagnostic::error("Invalid template directive")
                    .detail(format!(
                        "After \"%{{\" comes if, else, endif, for or endfor, not {found}."
                    ))
                    .at(self.span(word))
                    .hint("To write %{ itself, double the sign: %%{"),
            );
            return self.skip_directive(open);
        }
        let name = self.slice(word);
        if !DIRECTIVES.contains(&name) {
            let mut diagnostic = Diagnostic::error("Invalid template control keyword")
                .detail(format!(
                    "\"{name}\" is not a directive: if, else, endif, for and endfor are."
                ))
                .at(self.span(word));
            diagnostic = match name {
                "elseif" | "elif" | "elsif" => diagnostic
                    .hint("There is no such directive: put another \"if\" inside the \"else\"."),
                "end" => diagnostic.hint("Use \"endif\" or \"endfor\"."),
                _ => diagnostic.did_you_mean(name, DIRECTIVES),
            };
            self.report(diagnostic);
            return self.skip_directive(open);
        }
        self.bump();
        let piece = match self.directive_piece(name) {
            Ok(piece) => piece,
            Err(Abort) => {
                self.skip_to_close(open)?;
                if self.is_empty_end(open) {
                    return Err(Abort);
                }
                self.directive_in_error(open, name)
            }
        };
        let trims = self.end_of_mark(open, Some(name))?;
        let whole = self.span_between(open, self.previous());
        let piece = match piece {
            Piece::If { condition, .. } => Piece::If { condition, span: whole },
            Piece::For { key, value, collection, .. } => {
                Piece::For { key, value, collection, span: whole }
            }
            Piece::Else { .. } => Piece::Else { span: whole },
            Piece::EndIf { .. } => Piece::EndIf { span: whole },
            _ => Piece::EndFor { span: whole },
        };
        Ok((Some(piece), trims))
    }

    /// What a directive holds. Its span is not known yet.
    fn directive_piece(&mut self, name: &str) -> Result<Piece> {
        let span = self.span_at(self.previous());
        Ok(match name {
            "if" => Piece::If { condition: self.expression()?, span },
            "else" => Piece::Else { span },
            "endif" => Piece::EndIf { span },
            "for" => {
                let (key, value) = self.for_names("directive")?;
                Piece::For { key, value, collection: self.expression()?, span }
            }
            _ => Piece::EndFor { span },
        })
    }

    /// Stands for an `if` or `for` that could not be read, so that its end still has a start.
    fn directive_in_error(&self, open: usize, name: &str) -> Piece {
        let span = self.span_at(open);
        let error = Expr::new(ExprKind::Error, span);
        match name {
            "for" => {
                Piece::For { key: None, value: Ident::new("_", span), collection: error, span }
            }
            _ => Piece::If { condition: error, span },
        }
    }

    fn skip_directive<T>(&mut self, open: usize) -> Result<(Option<T>, bool)> {
        self.skip_to_close(open)?;
        if self.is_empty_end(open) {
            return Err(Abort);
        }
        self.bump();
        Ok((None, false))
    }

    pub(super) fn unterminated_string(&mut self, open: usize) {
        self.report(
            Diagnostic::error("Unterminated string")
                .detail("The text in quotes has no closing quote on its line.")
                .label(self.span_at(open), "opened here")
                .hint("For text of several lines use \\n, or a heredoc (<<EOT)."),
        );
    }

    fn unterminated_heredoc(&mut self, open: usize) {
        let token = self.tokens[open];
        let marker = self.slice(token).trim_start_matches('<').trim_start_matches('-').trim();
        let rest = self.text.get(token.end as usize..).unwrap_or("");
        let mut offset = token.end as usize;
        let mut near = None;
        for line in rest.split_inclusive('\n') {
            let text = line.trim_start();
            if text.starts_with(marker) && text.len() > marker.len() {
                near = Some(offset + (line.len() - text.len()));
                break;
            }
            offset += line.len();
        }
        let mut diagnostic = Diagnostic::error("Unterminated heredoc")
            .detail(format!("No line holds the end marker \"{marker}\" and nothing else."))
            .label(self.span(token), "opened here");
        if let Some(start) = near {
            let clip = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let span = self.place.span(clip(start), clip(start + marker.len()));
            diagnostic = diagnostic
                .also(span, "not an end marker: something else stands on this line")
                .hint("Put what follows the marker, such as \")\" or \",\", on the next line.");
        }
        self.report(diagnostic);
    }

    /// Adds what a piece of a quoted template stands for.
    pub(super) fn cook_quoted(&mut self, token: Seen, out: &mut String) {
        let text = self.slice(token);
        if text.starts_with(['$', '%']) {
            out.push_str(unescape_sign(text));
            return;
        }
        let mut rest = text;
        while let Some(at) = rest.find('\\') {
            out.push_str(&rest[..at]);
            let start = token.start as usize + (text.len() - rest.len()) + at;
            let taken = self.escape(&rest[at..], start, out);
            rest = &rest[at + taken..];
        }
        out.push_str(rest);
    }

    /// Reads one escape; gives the number of bytes it takes.
    fn escape(&mut self, text: &str, start: usize, out: &mut String) -> usize {
        let Some(selector) = text.chars().nth(1) else {
            self.bad_escape(start, 1, "A character must follow the backslash.", None);
            return 1;
        };
        let digits = match selector {
            'n' => return add(out, '\n'),
            'r' => return add(out, '\r'),
            't' => return add(out, '\t'),
            '"' => return add(out, '"'),
            '\\' => return add(out, '\\'),
            'u' => 4,
            'U' => 8,
            _ => {
                let len = 1 + selector.len_utf8();
                let hint = match selector {
                    '$' | '%' => format!(
                        "To write {selector}{{ itself, double the sign: {selector}{selector}{{"
                    ),
                    '\'' | '/' => format!("{selector} needs no backslash."),
                    'x' | '0' | 'a' | 'b' | 'e' | 'f' | 'v' => {
                        "Write other characters as \\uXXXX with four hexadecimal digits.".to_owned()
                    }
                    _ => "For a backslash itself write \\\\.".to_owned(),
                };
                let detail = format!(
                    "\"\\{selector}\" is none of \\n \\r \\t \\\" \\\\ \\uXXXX \\UXXXXXXXX."
                );
                self.bad_escape(start, len, &detail, Some(&hint));
                out.push(selector);
                return len;
            }
        };
        let found = text[2..].bytes().take(digits).take_while(u8::is_ascii_hexdigit).count();
        let len = 2 + found;
        if found < digits {
            let detail =
                format!("After \"\\{selector}\" come {digits} hexadecimal digits, not {found}.");
            self.bad_escape(start, len, &detail, None);
            return len;
        }
        match u32::from_str_radix(&text[2..len], 16).ok().and_then(char::from_u32) {
            Some(c) => out.push(c),
            None => {
                let detail = format!("U+{} is not a character.", &text[2..len]);
                let surrogate = digits == 4;
                self.bad_escape(
                    start,
                    len,
                    &detail,
                    surrogate.then_some(
                        "Halves of a pair cannot be written; write the character with \\U and eight digits.",
                    ),
                );
            }
        }
        len
    }

    fn bad_escape(&mut self, start: usize, len: usize, detail: &str, hint: Option<&str>) {
        let clip = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let span = self.place.span(clip(start), clip(start + len));
        let mut diagnostic = Diagnostic::error("Invalid escape sequence").detail(detail).at(span);
        if let Some(hint) = hint {
            diagnostic = diagnostic.hint(hint);
        }
        self.report(diagnostic);
    }

    /// Puts pieces between directives into them.
    fn tree(&mut self, pieces: Vec<Piece>) -> Vec<TemplatePart> {
        let mut parts = Vec::new();
        let mut open: Vec<Open> = Vec::new();
        for piece in pieces {
            let span = match piece {
                Piece::Text { text, span } => {
                    parts.push(TemplatePart::Literal { text: normal(&text), span });
                    continue;
                }
                Piece::Interpolation { expr, span } => {
                    parts.push(TemplatePart::Interpolation { expr: Box::new(expr), span });
                    continue;
                }
                Piece::If { condition, span } => {
                    let outer = std::mem::take(&mut parts);
                    open.push(Open::If { condition, then: None, span, outer });
                    continue;
                }
                Piece::For { key, value, collection, span } => {
                    let outer = std::mem::take(&mut parts);
                    open.push(Open::For { key, value, collection, span, outer });
                    continue;
                }
                Piece::Else { span } => {
                    if let Some(Open::If { then: then @ None, .. }) = open.last_mut() {
                        *then = Some(std::mem::take(&mut parts));
                        continue;
                    }
                    self.unexpected_directive("else", span, open.last());
                    continue;
                }
                Piece::EndIf { span } if matches!(open.last(), Some(Open::If { .. })) => span,
                Piece::EndFor { span } if matches!(open.last(), Some(Open::For { .. })) => span,
                Piece::EndIf { span } => {
                    self.unexpected_directive("endif", span, open.last());
                    continue;
                }
                Piece::EndFor { span } => {
                    self.unexpected_directive("endfor", span, open.last());
                    continue;
                }
            };
            if let Some(directive) = open.pop() {
                parts = directive.close(parts, span);
            }
        }
        while let Some(directive) = open.pop() {
            let (name, span) = directive.name();
            self.report(
                Diagnostic::error("Unexpected end of template")
                    .detail(format!("The directive \"{name}\" has no \"end{name}\"."))
                    .label(span, "opened here"),
            );
            parts = directive.close(parts, span);
        }
        parts
    }

    fn unexpected_directive(&mut self, name: &str, span: Span, open: Option<&Open>) {
        let mut diagnostic = Diagnostic::error(format!("Unexpected {name} directive")).at(span);
        diagnostic = match open {
            None => {
                diagnostic.detail(format!("Nothing is open here that \"{name}\" could belong to."))
            }
            Some(open) => {
                let (word, place) = open.name();
                let detail = match (word, name) {
                    ("if", "else") => "This \"if\" has an \"else\" already.".to_owned(),
                    _ => format!(
                        "The directive open here is \"{word}\", which ends with \"end{word}\"."
                    ),
                };
                diagnostic.detail(detail).also(place, "opened here")
            }
        };
        self.report(diagnostic);
    }
}

/// A directive whose end is still to come.
enum Open {
    If {
        condition: Expr,
        /// The parts before `else`, once that was seen.
        then: Option<Vec<TemplatePart>>,
        span: Span,
        outer: Vec<TemplatePart>,
    },
    For {
        key: Option<Ident>,
        value: Ident,
        collection: Expr,
        span: Span,
        outer: Vec<TemplatePart>,
    },
}

impl Open {
    fn name(&self) -> (&'static str, Span) {
        match self {
            Self::If { span, .. } => ("if", *span),
            Self::For { span, .. } => ("for", *span),
        }
    }

    /// The parts around the directive with the directive at their end.
    fn close(self, parts: Vec<TemplatePart>, end: Span) -> Vec<TemplatePart> {
        match self {
            Self::If { condition, then, span, mut outer } => {
                let (then, otherwise) = match then {
                    Some(then) => (then, parts),
                    None => (parts, Vec::new()),
                };
                let span = span.to(end);
                outer.push(TemplatePart::If(Box::new(TemplateIf {
                    condition,
                    then,
                    otherwise,
                    span,
                })));
                outer
            }
            Self::For { key, value, collection, span, mut outer } => {
                let span = span.to(end);
                outer.push(TemplatePart::For(Box::new(TemplateFor {
                    key,
                    value,
                    collection,
                    body: parts,
                    span,
                })));
                outer
            }
        }
    }
}

fn add(out: &mut String, c: char) -> usize {
    out.push(c);
    2
}

/// `$${` stands for `${`, `%%{` for `%{`.
fn unescape_sign(text: &str) -> &str {
    if text.starts_with("$${") || text.starts_with("%%{") { &text[1..] } else { text }
}

/// Takes from each line of a flush heredoc as much indentation as the least indented one has.
fn unindent(pieces: &mut [Piece]) {
    let mut least = usize::MAX;
    let mut at_line_start = true;
    let mut starts = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let at_start = std::mem::take(&mut at_line_start);
        let Piece::Text { text, .. } = piece else {
            if at_start {
                least = 0;
            }
            continue;
        };
        at_line_start = text.ends_with('\n');
        if !at_start {
            continue;
        }
        let inner = text.trim_start();
        if inner.is_empty() && at_line_start {
            // A blank line says nothing about indentation.
            continue;
        }
        least = least.min(text[..text.len() - inner.len()].graphemes(true).count());
        starts.push(index);
    }
    for index in starts {
        if let Some(Piece::Text { text, .. }) = pieces.get_mut(index) {
            let cut: usize = text.graphemes(true).take(least).map(str::len).sum();
            text.drain(..cut);
        }
    }
}

/// Makes one piece of texts side by side.
fn join(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut joined: Vec<Piece> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        if let Piece::Text { text, span } = &piece
            && let Some(Piece::Text { text: before, span: place }) = joined.last_mut()
        {
            before.push_str(text);
            *place = place.to(*span);
            continue;
        }
        joined.push(piece);
    }
    joined
}
