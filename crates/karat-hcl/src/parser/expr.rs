//! Expressions.

use super::{Abort, Parser, Result, Seen};
use crate::ast::{
    Binary, BinaryOp, Call, Conditional, Expr, ExprKind, For, ForResult, Ident, ObjectItem,
    ObjectKey, Splat, SplatForm, Step, TemplateForm, Traversal, Unary, UnaryOp,
};
use crate::diag::{Diagnostic, Span};
use crate::token::TokenKind as K;

impl Parser<'_> {
    pub(super) fn expression(&mut self) -> Result<Expr> {
        self.deeper(Self::conditional)
    }

    fn conditional(&mut self) -> Result<Expr> {
        let condition = self.binary(1)?;
        if !self.eat(K::Question) {
            return Ok(condition);
        }
        let question = self.previous();
        let then = self.expression()?;
        if !self.at(K::Colon) {
            let next = self.peek();
            let found = self.describe(next);
            let span = self.span_at(question);
            return self.fail(
                Diagnostic::error("Missing false expression in conditional")
                    .detail(format!(
                        "After \"condition ? value\" comes \":\" and the other value, not {found}."
                    ))
                    .at(self.span(next))
                    .also(span, "the conditional"),
            );
        }
        self.bump();
        let otherwise = self.expression()?;
        let span = condition.span.to(otherwise.span);
        self.node(ExprKind::Conditional(Box::new(Conditional { condition, then, otherwise })), span)
    }

    /// Operators of at least this strength.
    fn binary(&mut self, strength: u8) -> Result<Expr> {
        let mut left = self.operand()?;
        while let Some((op, level)) = operator(self.peek().kind).filter(|(_, l)| *l >= strength) {
            let index = self.bump();
            let right = self.binary(level + 1)?;
            let span = left.span.to(right.span);
            let op_span = self.span_at(index);
            left =
                self.node(ExprKind::Binary(Box::new(Binary { op, op_span, left, right })), span)?;
        }
        Ok(left)
    }

    fn operand(&mut self) -> Result<Expr> {
        let term = self.term()?;
        self.steps(term)
    }

    /// What follows a value: `.name`, `.0`, `[key]`, `.*`, `[*]`.
    fn steps(&mut self, base: Expr) -> Result<Expr> {
        let mut base = base;
        let mut steps = Vec::new();
        loop {
            match self.peek().kind {
                K::Dot if self.dot_star() => {
                    let source = self.traversal(base, steps)?;
                    steps = Vec::new();
                    base = self.attribute_splat(source)?;
                }
                K::Dot => {
                    let step = self.dot_step()?;
                    steps.push(step);
                }
                K::OpenBracket if self.bracket_star() => {
                    let source = self.traversal(base, steps)?;
                    return self.full_splat(source);
                }
                K::OpenBracket => {
                    let step = self.index()?;
                    steps.push(step);
                }
                _ => return self.traversal(base, steps),
            }
        }
    }

    fn traversal(&mut self, base: Expr, steps: Vec<Step>) -> Result<Expr> {
        let Some(last) = steps.last() else { return Ok(base) };
        let span = base.span.to(last.span());
        self.node(ExprKind::Traversal(Traversal { base: Box::new(base), steps }), span)
    }

    fn dot_star(&self) -> bool {
        let dot = self.next_index();
        self.kind_behind(dot).1 == K::Star
    }

    fn bracket_star(&self) -> bool {
        let open = self.next_index();
        self.kind_behind(open).1 == K::Star
    }

    /// The next token behind one, over line ends where they mean nothing.
    fn kind_behind(&self, index: usize) -> (usize, K) {
        let mut next = index + 1;
        while !self.newlines && self.tokens.get(next).is_some_and(|t| t.kind == K::Newline) {
            next += 1;
        }
        (next, self.tokens.get(next).map_or(K::End, |t| t.kind))
    }

    /// `.name` or `.0`
    fn dot_step(&mut self) -> Result<Step> {
        let dot = self.bump();
        let next = self.peek();
        match next.kind {
            K::Ident => {
                let last = self.bump();
                Ok(Step::Attr { name: self.ident(next), span: self.span_between(dot, last) })
            }
            K::Number => {
                let digits = self.slice(next).to_owned();
                if let Some((first, second)) = digits.split_once('.') {
                    return self.fail(
                        Diagnostic::error("Invalid legacy index syntax")
                            .detail(format!(
                                "\".{digits}\" would be the fraction {digits}, not two indexes."
                            ))
                            .at(self.span(next))
                            .hint(format!("Write [{first}][{second}] instead.")),
                    );
                }
                let last = self.bump();
                Ok(Step::LegacyIndex { digits, span: self.span_between(dot, last) })
            }
            K::Star => self.fail(
                Diagnostic::error("Nested splat expression not allowed")
                    .detail("Within \".*\" there can be no other \"*\".")
                    .at(self.span(next))
                    .hint("Use \"[*]\" for both."),
            ),
            _ => {
                let found = self.describe(next);
                self.fail(
                    Diagnostic::error("Invalid attribute name")
                        .detail(format!("A name is expected after the point, not {found}."))
                        .at(self.span(next))
                        .also(self.span_at(dot), "the point")
                        .hint("For a name with other characters write [\"name\"]."),
                )
            }
        }
    }

    fn attribute_splat(&mut self, source: Expr) -> Result<Expr> {
        let dot = self.bump();
        let star = self.bump();
        let marker = self.span_between(dot, star);
        let mut steps = Vec::new();
        while self.at(K::Dot) {
            let step = self.dot_step()?;
            steps.push(step);
        }
        let item = Expr::new(ExprKind::SplatItem, marker);
        let each = Box::new(self.traversal(item, steps)?);
        let span = source.span.to(each.span);
        let form = SplatForm::Attribute;
        self.node(ExprKind::Splat(Splat { source: Box::new(source), form, marker, each }), span)
    }

    fn full_splat(&mut self, source: Expr) -> Result<Expr> {
        let open = self.bump();
        self.with_newlines(self.newlines, Self::bump);
        let close = self.next_index();
        if self.tokens[close].kind != K::CloseBracket {
            let found = self.describe(self.tokens[close]);
            return self.fail(
                Diagnostic::error("Missing close bracket on splat index")
                    .detail(format!("\"[*\" goes on with \"]\", not with {found}."))
                    .at(self.span_at(close)),
            );
        }
        self.bump();
        let marker = self.span_between(open, close);
        let item = Expr::new(ExprKind::SplatItem, marker);
        let each = Box::new(self.deeper(|p| p.steps(item))?);
        let span = source.span.to(each.span);
        let form = SplatForm::Full;
        self.node(ExprKind::Splat(Splat { source: Box::new(source), form, marker, each }), span)
    }

    /// `[key]`
    fn index(&mut self) -> Result<Step> {
        let open = self.bump();
        let key = self.with_newlines(false, |p| {
            let start = p.pos;
            let key = match p.expression() {
                Ok(key) => key,
                Err(Abort) => {
                    p.skip_to_close(open)?;
                    p.error_expr(start, p.previous().max(start))
                }
            };
            if p.at(K::CloseBracket) {
                p.bump();
                return Ok(key);
            }
            if p.pairs[open].is_none() {
                return p.unclosed(open, "index");
            }
            let next = p.peek();
            let found = p.describe(next);
            p.report(
                Diagnostic::error("Missing close bracket on index")
                    .detail(format!("The index is complete before {found}."))
                    .at(p.span(next))
                    .also(p.span_at(open), "opened here"),
            );
            p.skip_to_close(open)?;
            p.bump();
            Ok(key)
        })?;
        Ok(Step::Index { key, span: self.span_between(open, self.previous()) })
    }

    /// Skips to the token that closes `open`.
    pub(super) fn skip_to_close(&mut self, open: usize) -> Result<()> {
        match self.pairs[open] {
            Some(close) => {
                self.pos = close;
                Ok(())
            }
            None => Err(Abort),
        }
    }

    fn term(&mut self) -> Result<Expr> {
        let next = self.peek();
        match next.kind {
            K::Number => self.number(next),
            K::Ident => {
                let index = self.bump();
                if matches!(self.peek().kind, K::OpenParen | K::DoubleColon) {
                    return self.call(index);
                }
                let kind = match self.slice(next) {
                    "true" => ExprKind::Bool(true),
                    "false" => ExprKind::Bool(false),
                    "null" => ExprKind::Null,
                    _ => ExprKind::Variable(self.ident(next)),
                };
                Ok(Expr::new(kind, self.span(next)))
            }
            K::OpenQuote => self.template(TemplateForm::Quoted),
            K::OpenHeredoc => {
                let flush = self.slice(next).starts_with("<<-");
                self.template(if flush {
                    TemplateForm::FlushHeredoc
                } else {
                    TemplateForm::Heredoc
                })
            }
            K::OpenParen => self.parens(),
            K::OpenBracket => self.tuple(),
            K::OpenBrace => self.object(),
            K::Minus | K::Bang => {
                let index = self.bump();
                let op = if next.kind == K::Minus { UnaryOp::Negate } else { UnaryOp::Not };
                let operand = self.deeper(Self::operand)?;
                let op_span = self.span_at(index);
                let span = op_span.to(operand.span);
                self.node(ExprKind::Unary(Box::new(Unary { op, op_span, operand })), span)
            }
            _ => self.no_expression(next),
        }
    }

    fn number(&mut self, token: Seen) -> Result<Expr> {
        self.bump();
        let text = self.slice(token);
        let span = self.span(token);
        if !is_number(text) {
            self.report(
                Diagnostic::error("Invalid number literal")
                    .detail(format!("{text} is not a number: digits, at most one point, and at most one exponent make one."))
                    .at(span),
            );
            return Ok(Expr::new(ExprKind::Error, span));
        }
        Ok(Expr::new(ExprKind::Number(text.to_owned()), span))
    }

    fn no_expression<T>(&mut self, next: Seen) -> Result<T> {
        let text = self.slice(next);
        let diagnostic = match next.kind {
            K::End => Diagnostic::error("Missing expression")
                .detail("A value is expected, but the text ends here."),
            K::Newline => Diagnostic::error("Missing expression")
                .detail("A value is expected, but the line ends here.")
                .hint("Only inside brackets may an expression go on over line ends."),
            K::Less if self.text[next.start as usize..].starts_with("<<") => {
                Diagnostic::error("Invalid heredoc")
                    .detail("A heredoc begins with \"<<\" or \"<<-\", a word without blanks or quotes, and the end of the line.")
                    .hint("Write for example <<EOT with nothing behind it on the line.")
            }
            K::Dot => Diagnostic::error("Invalid expression")
                .detail("A value cannot begin with a point.")
                .hint("A number needs a digit before the point: 0.5"),
            K::Plus => Diagnostic::error("Invalid expression")
                .detail("A value cannot begin with \"+\".")
                .hint("Leave the sign of a positive number out."),
            K::Invalid if text == "'" => Diagnostic::error("Invalid expression")
                .detail("Text stands in double quotes.")
                .hint("Use \" instead of '."),
            K::Star if self.tokens[self.previous()].kind == K::Star => {
                Diagnostic::error("Invalid expression")
                    .detail("There is no operator \"**\".")
                    .hint("For a power use pow(base, exponent).")
            }
            K::Invalid if matches!(text, "\u{201c}" | "\u{201d}" | "\u{2018}" | "\u{2019}") => {
                Diagnostic::error("Invalid expression")
                    .detail(format!("{text} is a typographic quote."))
                    .hint("Use \" for text.")
            }
            K::Assign => Diagnostic::error("Invalid expression")
                .detail("A value is expected here, not \"=\".")
                .hint("To compare, use \"==\"."),
            _ => Diagnostic::error("Invalid expression")
                .detail(format!("A value is expected here, not {}.", self.describe(next))),
        };
        self.fail(diagnostic.at(self.span(next)))
    }

    fn parens(&mut self) -> Result<Expr> {
        let open = self.bump();
        let inner = self.with_newlines(false, |p| {
            let start = p.pos;
            let inner = match p.expression() {
                Ok(inner) => inner,
                Err(Abort) => {
                    p.skip_to_close(open)?;
                    p.error_expr(start, p.previous().max(start))
                }
            };
            if p.at(K::CloseParen) {
                p.bump();
                return Ok(inner);
            }
            if p.pairs[open].is_none() {
                return p.unclosed(open, "parenthesis");
            }
            let next = p.peek();
            let found = p.describe(next);
            p.report(
                Diagnostic::error("Unbalanced parentheses")
                    .detail(format!("The expression is complete before {found}."))
                    .at(p.span(next))
                    .also(p.span_at(open), "opened here"),
            );
            p.skip_to_close(open)?;
            p.bump();
            Ok(inner)
        })?;
        let span = self.span_between(open, self.previous());
        self.node(ExprKind::Parens(Box::new(inner)), span)
    }

    fn tuple(&mut self) -> Result<Expr> {
        let open = self.bump();
        let kind = self.with_newlines(false, |p| {
            if p.at_keyword("for") {
                return p.for_expression(open);
            }
            let mut items = Vec::new();
            loop {
                if p.at(K::CloseBracket) {
                    p.bump();
                    return Ok(ExprKind::Tuple(items));
                }
                let start = p.pos;
                match p.expression() {
                    Ok(item) => items.push(item),
                    Err(Abort) => {
                        p.skip_to_separator(open)?;
                        items.push(p.error_expr(start, p.previous().max(start)));
                    }
                }
                p.separator(open, K::CloseBracket, "list", "item")?;
            }
        })?;
        let span = self.span_between(open, self.previous());
        self.node(kind, span)
    }

    /// Behind an item: a comma, or the closing bracket, which is left to be taken.
    fn separator(&mut self, open: usize, close: K, what: &str, item: &str) -> Result<()> {
        if self.eat(K::Comma) || self.at(close) && self.pairs[open] == Some(self.next_index()) {
            return Ok(());
        }
        if self.pairs[open].is_none() {
            return self.unclosed(open, what);
        }
        let next = self.peek();
        let found = self.describe(next);
        let mut diagnostic = Diagnostic::error(format!("Missing {item} separator"))
            .detail(format!("A comma is expected before the next {item}, not {found}."))
            .at(self.span(next));
        if next.kind == K::Ellipsis {
            diagnostic = diagnostic.hint(
                "\"...\" can stand only behind the last argument of a function and in \"{for …}\".",
            );
        } else if matches!(next.kind, K::Assign | K::Colon) && close == K::CloseBracket {
            diagnostic = diagnostic.hint("Names with values stand in {braces}, not in [brackets].");
        } else if self.begins_new_value(next.kind) {
            diagnostic = diagnostic.hint(format!("Put a comma behind the {item} before it."));
        }
        let value_follows = self.begins_new_value(next.kind);
        self.report(diagnostic);
        if value_follows {
            // Most likely only the comma is missing.
            return Ok(());
        }
        self.skip_to_separator(open)?;
        self.eat(K::Comma);
        Ok(())
    }

    fn begins_new_value(&self, kind: K) -> bool {
        matches!(
            kind,
            K::Ident
                | K::Number
                | K::OpenQuote
                | K::OpenHeredoc
                | K::OpenBrace
                | K::OpenParen
                | K::Bang
        )
    }

    fn object(&mut self) -> Result<Expr> {
        let open = self.bump();
        let is_for = self.with_newlines(false, |p| p.at_keyword("for"));
        let kind = if is_for {
            self.with_newlines(false, |p| p.for_expression(open))?
        } else {
            self.with_newlines(true, |p| p.object_items(open))?
        };
        let span = self.span_between(open, self.previous());
        self.node(kind, span)
    }

    fn object_items(&mut self, open: usize) -> Result<ExprKind> {
        let mut items = Vec::new();
        loop {
            match self.peek().kind {
                K::Newline => {
                    self.bump();
                }
                K::CloseBrace if self.pairs[open] == Some(self.next_index()) => {
                    self.bump();
                    return Ok(ExprKind::Object(items));
                }
                K::CloseBrace | K::End if self.pairs[open].is_none() => {
                    return self.unclosed(open, "object");
                }
                _ => match self.object_item(open) {
                    Ok(item) => {
                        items.push(item);
                        self.end_of_object_item(open)?;
                    }
                    Err(Abort) => {
                        self.skip_to_separator(open)?;
                        self.eat(K::Comma);
                    }
                },
            }
        }
    }

    fn object_item(&mut self, open: usize) -> Result<ObjectItem> {
        let start = self.next_index();
        let key = self.object_key()?;
        let next = self.peek();
        if !matches!(next.kind, K::Assign | K::Colon) {
            return self.no_key_separator(open, start, next);
        }
        self.bump();
        let value_start = self.pos;
        let value = match self.expression() {
            Ok(value) => value,
            Err(Abort) => {
                self.skip_to_separator(open)?;
                self.error_expr(value_start, self.previous().max(value_start))
            }
        };
        Ok(ObjectItem { key, value })
    }

    fn object_key(&mut self) -> Result<ObjectKey> {
        let next = self.peek();
        if next.kind == K::Ident && matches!(self.peek_second(), K::Assign | K::Colon) {
            self.bump();
            return Ok(ObjectKey::Name(self.ident(next)));
        }
        let key = self.expression()?;
        Ok(match key.kind {
            ExprKind::Variable(ident) => ObjectKey::Name(ident),
            _ => ObjectKey::Expr(key),
        })
    }

    fn no_key_separator<T>(&mut self, open: usize, start: usize, next: Seen) -> Result<T> {
        if self.pairs[open].is_none() && !matches!(next.kind, K::Newline | K::Comma) {
            return self.unclosed(open, "object");
        }
        let key = self.text
            [self.tokens[start].start as usize..self.tokens[self.previous()].end as usize]
            .to_owned();
        let found = self.describe(next);
        let diagnostic = match next.kind {
            K::Newline | K::Comma | K::CloseBrace => Diagnostic::error("Missing attribute value")
                .detail(format!("The key {key} needs \"=\" and a value before {found}.")),
            K::OpenBrace => Diagnostic::error("Missing key/value separator")
                .detail(format!("The key {key} needs \"=\" before its value."))
                .hint("Inside a value there are no blocks: write \"=\" before \"{\"."),
            _ => Diagnostic::error("Missing key/value separator")
                .detail(format!("After the key {key} comes \"=\" and a value, not {found}."))
                .hint("A key with blanks or points in it stands in quotes."),
        };
        self.fail(diagnostic.at(self.span(next)))
    }

    fn end_of_object_item(&mut self, open: usize) -> Result<()> {
        let next = self.peek();
        match next.kind {
            K::Comma | K::Newline => {
                self.bump();
                Ok(())
            }
            K::CloseBrace => Ok(()),
            _ if self.pairs[open].is_none() => self.unclosed(open, "object"),
            _ => {
                let found = self.describe(next);
                self.report(
                    Diagnostic::error("Missing attribute separator")
                        .detail(format!(
                            "A comma or a line end is expected before the next key, not {found}."
                        ))
                        .at(self.span(next)),
                );
                self.skip_to_separator(open)?;
                self.eat(K::Comma);
                Ok(())
            }
        }
    }

    fn call(&mut self, first: usize) -> Result<Expr> {
        let mut name = self.ident(self.tokens[first]);
        while self.eat(K::DoubleColon) {
            let next = self.peek();
            if next.kind != K::Ident {
                let found = self.describe(next);
                return self.fail(
                    Diagnostic::error("Missing function name")
                        .detail(format!("After \"::\" comes the name of a function, not {found}."))
                        .at(self.span(next)),
                );
            }
            let part = self.ident(next);
            self.bump();
            name = Ident::new(format!("{}::{}", name.name, part.name), name.span.to(part.span));
        }
        let next = self.peek();
        if next.kind != K::OpenParen {
            let found = self.describe(next);
            return self.fail(
                Diagnostic::error("Missing open parenthesis")
                    .detail(format!(
                        "After the name of the function {} comes \"(\", not {found}.",
                        name.name
                    ))
                    .at(self.span(next)),
            );
        }
        let open = self.bump();
        let (args, expand) = self.with_newlines(false, |p| p.arguments(open))?;
        let parens = self.span_between(open, self.previous());
        let span = name.span.to(parens);
        self.node(ExprKind::Call(Call { name, args, expand, parens }), span)
    }

    fn arguments(&mut self, open: usize) -> Result<(Vec<Expr>, Option<Span>)> {
        let mut args = Vec::new();
        loop {
            if self.eat(K::CloseParen) {
                return Ok((args, None));
            }
            let start = self.pos;
            match self.expression() {
                Ok(arg) => args.push(arg),
                Err(Abort) => {
                    self.skip_to_separator(open)?;
                    args.push(self.error_expr(start, self.previous().max(start)));
                }
            }
            if self.at(K::Ellipsis) {
                let dots = self.bump();
                let span = self.span_at(dots);
                if self.eat(K::CloseParen) {
                    return Ok((args, Some(span)));
                }
                if self.pairs[open].is_none() {
                    return self.unclosed(open, "function call");
                }
                self.report(
                    Diagnostic::error("Missing closing parenthesis")
                        .detail("\"...\" stands behind the last argument, and \")\" follows it.")
                        .at(span),
                );
                self.skip_to_close(open)?;
                self.bump();
                return Ok((args, Some(span)));
            }
            self.separator(open, K::CloseParen, "function call", "argument")?;
        }
    }

    /// `[for …]` or `{for …}`; the next token is `for`.
    fn for_expression(&mut self, open: usize) -> Result<ExprKind> {
        let result = self.for_inner(open);
        match result {
            Ok(kind) => Ok(kind),
            Err(Abort) => {
                self.skip_to_close(open)?;
                self.bump();
                Ok(ExprKind::Error)
            }
        }
    }

    fn for_inner(&mut self, open: usize) -> Result<ExprKind> {
        let makes_object = self.tokens[open].kind == K::OpenBrace;
        let introducer = self.bump();
        if makes_object && matches!(self.peek().kind, K::Assign | K::Colon) {
            return self.fail(
                Diagnostic::error("Invalid 'for' expression")
                    .detail("\"{for\" begins a \"for\" expression, so \"for\" cannot be the first key of an object.")
                    .at(self.span_at(introducer))
                    .hint("Put the key in quotes: \"for\"."),
            );
        }
        let (key, value) = self.for_names("expression")?;
        let collection = self.expression()?;
        if !self.at(K::Colon) {
            return self.bad_for(open, "\":\" follows the collection");
        }
        self.bump();
        let first = self.expression()?;
        let second = if self.eat(K::FatArrow) { Some(self.expression()?) } else { None };
        let group = self.at(K::Ellipsis).then(|| self.bump()).map(|i| self.span_at(i));
        let condition = if self.at_keyword("if") {
            self.bump();
            Some(self.expression()?)
        } else {
            None
        };
        let closer = if makes_object { K::CloseBrace } else { K::CloseBracket };
        if !self.at(closer) || self.pairs[open] != Some(self.next_index()) {
            return self
                .bad_for(open, if makes_object { "\"}\" ends it" } else { "\"]\" ends it" });
        }
        self.bump();
        let result = self.for_result(makes_object, first, second, group)?;
        Ok(ExprKind::For(Box::new(For { key, value, collection, result, condition })))
    }

    fn for_result(
        &mut self,
        makes_object: bool,
        first: Expr,
        second: Option<Expr>,
        group: Option<Span>,
    ) -> Result<ForResult> {
        if makes_object {
            let Some(value) = second else {
                self.report(
                    Diagnostic::error("Invalid 'for' expression")
                        .detail("A \"for\" in braces makes an object and needs \"key => value\".")
                        .at(first.span)
                        .hint("For a list use [brackets]."),
                );
                let item = Expr::new(ExprKind::Error, first.span);
                return Ok(ForResult::Object { key: first, value: item, group: false });
            };
            return Ok(ForResult::Object { key: first, value, group: group.is_some() });
        }
        if second.is_some() {
            self.report(
                Diagnostic::error("Invalid 'for' expression")
                    .detail("A \"for\" in brackets makes a list, so it has no key.")
                    .at(first.span)
                    .hint("For an object use {braces}."),
            );
        } else if let Some(span) = group {
            self.report(
                Diagnostic::error("Invalid 'for' expression")
                    .detail("Values are gathered with \"...\" only in a \"for\" in braces.")
                    .at(span),
            );
        }
        Ok(ForResult::Tuple { item: second.unwrap_or(first) })
    }

    fn bad_for<T>(&mut self, open: usize, wanted: &str) -> Result<T> {
        let next = self.peek();
        if self.pairs[open].is_none() && next.kind == K::End {
            return self.unclosed(open, "'for' expression");
        }
        let found = self.describe(next);
        self.fail(
            Diagnostic::error("Invalid 'for' expression")
                .detail(format!("In a \"for\" expression {wanted}, not {found}."))
                .at(self.span(next)),
        )
    }

    /// `k, v in`, of an expression or a directive.
    pub(super) fn for_names(&mut self, what: &str) -> Result<(Option<Ident>, Ident)> {
        let summary = format!("Invalid 'for' {what}");
        let first = self.for_name(&summary, "\"for\"")?;
        let (key, value) = if self.eat(K::Comma) {
            (Some(first), self.for_name(&summary, "the comma")?)
        } else {
            (None, first)
        };
        if !self.at_keyword("in") {
            let next = self.peek();
            let found = self.describe(next);
            return self.fail(
                Diagnostic::error(summary)
                    .detail(format!("After its names comes \"in\", not {found}."))
                    .at(self.span(next))
                    .hint("Write for example: for key, value in collection"),
            );
        }
        self.bump();
        Ok((key, value))
    }

    fn for_name(&mut self, summary: &str, behind: &str) -> Result<Ident> {
        let next = self.peek();
        if next.kind == K::Ident {
            self.bump();
            return Ok(self.ident(next));
        }
        let found = self.describe(next);
        self.fail(
            Diagnostic::error(summary)
                .detail(format!("After {behind} comes the name of a variable, not {found}."))
                .at(self.span(next)),
        )
    }
}

/// An operator and its strength.
fn operator(kind: K) -> Option<(BinaryOp, u8)> {
    Some(match kind {
        K::Or => (BinaryOp::Or, 1),
        K::And => (BinaryOp::And, 2),
        K::Equal => (BinaryOp::Equal, 3),
        K::NotEqual => (BinaryOp::NotEqual, 3),
        K::Less => (BinaryOp::Less, 4),
        K::LessOrEqual => (BinaryOp::LessOrEqual, 4),
        K::Greater => (BinaryOp::Greater, 4),
        K::GreaterOrEqual => (BinaryOp::GreaterOrEqual, 4),
        K::Plus => (BinaryOp::Add, 5),
        K::Minus => (BinaryOp::Subtract, 5),
        K::Star => (BinaryOp::Multiply, 6),
        K::Slash => (BinaryOp::Divide, 6),
        K::Percent => (BinaryOp::Modulo, 6),
        _ => return None,
    })
}

/// Digits, one point, digits, an exponent. That it begins with a digit, the lexer knows.
fn is_number(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    mantissa.matches('.').count() <= 1
        && digits(&mantissa.replacen('.', "", 1))
        && exponent.is_none_or(|e| digits(e.trim_start_matches(['+', '-'])))
}
