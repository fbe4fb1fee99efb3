//! Errors in templates, with file, line, column and excerpt.

use std::collections::HashSet;
use std::fmt::Write as _;

use karat_component::Masker;
use karat_hcl::diag::{Diagnostic, Diagnostics, Label, Severity, SourceMap};

use super::out;

/// Draws diagnostics for people.
#[derive(Debug)]
pub(crate) struct Renderer<'a> {
    pub(crate) sources: &'a SourceMap,
    pub(crate) masker: &'a Masker,
    pub(crate) colour: bool,
}

impl Renderer<'_> {
    /// Prints all of them, to stderr; once what is wrong in each round of a `dynamic` block.
    pub(crate) fn print(&self, diags: &Diagnostics) {
        let mut printed = HashSet::new();
        for diagnostic in diags {
            let text = self.render(diagnostic);
            if !printed.insert(text.clone()) {
                continue;
            }
            match diagnostic.severity {
                Severity::Error => out::stderr_line(&text),
                Severity::Warning => out::warning_line(&text),
            }
        }
    }

    /// One diagnostic, several lines, with an empty line at its end.
    pub(crate) fn render(&self, diagnostic: &Diagnostic) -> String {
        let mut text = String::new();
        let (word, code) = match diagnostic.severity {
            Severity::Error => ("Error", "1;31"),
            Severity::Warning => ("Warning", "1;33"),
        };
        let _ = writeln!(text, "{} {}", self.paint(code, &format!("{word}:")), diagnostic.summary);
        for (label, first) in diagnostic
            .primary
            .iter()
            .map(|l| (l, true))
            .chain(diagnostic.secondary.iter().map(|l| (l, false)))
        {
            self.excerpt(&mut text, label, if first { code } else { "1;34" });
        }
        if !diagnostic.detail.is_empty() {
            let _ = writeln!(text, "\n{}", diagnostic.detail);
        }
        for (place, hint) in diagnostic.hints.iter().enumerate() {
            let lead = if place == 0 { "\n" } else { "" };
            let _ = writeln!(text, "{lead}{} {hint}", self.paint("1;36", "Hint:"));
        }
        self.masker.mask(&text)
    }

    fn excerpt(&self, text: &mut String, label: &Label, code: &str) {
        let Some(source) = self.sources.get(label.span.source) else { return };
        let start = source.position(label.span.range().start);
        let end = source.position(label.span.range().end);
        let _ =
            writeln!(text, "  on {} line {}, column {}:", source.name, start.line, start.column);
        let line = source.line(start.line);
        let number = start.line.to_string();
        let _ = writeln!(text, "  {number} | {}", line.replace('\t', " "));
        let width = if end.line == start.line {
            end.column.saturating_sub(start.column).max(1)
        } else {
            (line.chars().count() + 1).saturating_sub(start.column).max(1)
        };
        let (gutter, pad) = (" ".repeat(number.len()), " ".repeat(start.column - 1));
        let marks = self.paint(code, &"^".repeat(width));
        let said = if label.text.is_empty() { String::new() } else { format!(" {}", label.text) };
        let _ = writeln!(text, "  {gutter} | {pad}{marks}{said}");
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
