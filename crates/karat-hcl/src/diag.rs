//! Diagnostics as data: a terse message, labelled places in source text, hints.
//!
//! Nothing here knows a terminal. The binary renders a [`Diagnostic`] for people, as JSON or for
//! an editor.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Names one source text within a [`SourceMap`].
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct SourceId(pub u32);

impl fmt::Debug for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// A half-open range of bytes in one source text.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Span {
    /// The text that the offsets count in.
    pub source: SourceId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{}..{}", self.source, self.start, self.end)
    }
}

impl Span {
    /// A span of `range` in `source`.
    pub fn new(source: SourceId, range: Range<usize>) -> Self {
        let clip = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { source, start: clip(range.start), end: clip(range.end) }
    }

    /// The smallest span that holds both. Of two texts, the first one's span.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        if self.source != other.source {
            return self;
        }
        Self {
            source: self.source,
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }

    /// The byte offsets.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The command fails.
    Error,
    /// The command goes on.
    Warning,
}

/// A place in a source text and what to say of it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// What to say there; may be empty.
    pub text: String,
}

/// One problem found in what the user wrote.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A few words: what is wrong. Reads alone. No full stop.
    pub summary: String,
    /// Whole sentences: why, with the offending text. May be empty.
    pub detail: String,
    /// The place, if there is one.
    pub primary: Option<Label>,
    /// Other places that matter ("first defined here").
    pub secondary: Vec<Label>,
    /// What to do about it, each a sentence ("did you mean \"x\"?").
    pub hints: Vec<String>,
}

impl Diagnostic {
    /// An error with its summary.
    pub fn error(summary: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            summary: summary.into(),
            detail: String::new(),
            primary: None,
            secondary: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// A warning with its summary.
    pub fn warning(summary: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(summary) }
    }

    /// Adds the explanation.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Sets the place.
    #[must_use]
    pub fn at(self, span: Span) -> Self {
        self.label(span, "")
    }

    /// Sets the place and what is said there.
    #[must_use]
    pub fn label(mut self, span: Span, text: impl Into<String>) -> Self {
        self.primary = Some(Label { span, text: text.into() });
        self
    }

    /// Adds another place.
    #[must_use]
    pub fn also(mut self, span: Span, text: impl Into<String>) -> Self {
        self.secondary.push(Label { span, text: text.into() });
        self
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds a "did you mean" hint if one of `candidates` is close to `given`.
    #[must_use]
    pub fn did_you_mean<'a>(
        self,
        given: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        match closest(given, candidates) {
            Some(best) => self.hint(format!("Did you mean \"{best}\"?")),
            None => self,
        }
    }

    /// Whether the command fails because of it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// A list of diagnostics that is added to while work goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.0.push(diagnostic);
    }

    /// Adds all of another list.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Whether there is an error among them.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(Diagnostic::is_error)
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// In the order in which they were found.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Extend<Diagnostic> for Diagnostics {
    fn extend<T: IntoIterator<Item = Diagnostic>>(&mut self, iter: T) {
        self.0.extend(iter);
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

/// One text that was read.
#[derive(Clone, Debug)]
pub struct Source {
    /// As it is shown: a path as the user typed it, `<stdin>`, `-var s`, …
    pub name: String,
    /// The whole text, exactly as read.
    pub text: Arc<str>,
    line_starts: Vec<usize>,
}

/// A place for people. Lines and columns count from 1; a column is a grapheme-free code point count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in code points, from 1.
    pub column: usize,
}

impl Source {
    fn new(name: String, text: Arc<str>) -> Self {
        let line_starts =
            std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
        Self { name, text, line_starts }
    }

    /// Line and column of a byte offset. An offset beyond the end is the end.
    pub fn position(&self, offset: usize) -> Position {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.line_starts.partition_point(|&start| start <= offset) - 1;
        let column = self.text[self.line_starts[line]..offset].chars().count() + 1;
        Position { line: line + 1, column }
    }

    /// The text of a line (from 1) without its line end; empty if there is no such line.
    pub fn line(&self, line: usize) -> &str {
        let Some(&start) = line.checked_sub(1).and_then(|i| self.line_starts.get(i)) else {
            return "";
        };
        let end = self.line_starts.get(line).copied().unwrap_or(self.text.len());
        self.text[start..end].trim_end_matches(['\n', '\r'])
    }
}

/// All texts that were read, so that a [`Span`] can be shown.
#[derive(Clone, Debug, Default)]
pub struct SourceMap {
    sources: Vec<Source>,
}

impl SourceMap {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a text and gives its id.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<Arc<str>>) -> SourceId {
        let id = SourceId(u32::try_from(self.sources.len()).unwrap_or(u32::MAX));
        self.sources.push(Source::new(name.into(), text.into()));
        id
    }

    /// The text of a file.
    ///
    /// # Errors
    /// When it is not UTF-8. What can be read of the text is then added to the map, so that the
    /// diagnostic shows the place.
    pub fn decode(&mut self, name: &str, bytes: Vec<u8>) -> Result<String, Box<Diagnostic>> {
        let wrong = match String::from_utf8(bytes) {
            Ok(text) => return Ok(text),
            Err(error) => error,
        };
        let at = wrong.utf8_error().valid_up_to();
        let bytes = wrong.as_bytes();
        let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
        let byte = bytes.get(at).copied().unwrap_or_default();
        let id = self.add(name, String::from_utf8_lossy(bytes));
        let wrong = Diagnostic::error("Invalid character encoding")
            .at(Span::new(id, at..at + char::REPLACEMENT_CHARACTER.len_utf8()))
            .detail(format!(
                "Templates are UTF-8 texts, in which the byte 0x{byte:02x} begins no character here."
            ))
            .hint(if utf16 {
                "The file looks like UTF-16, as some editors write it: save it as UTF-8."
            } else {
                "Save the file as UTF-8."
            });
        Err(Box::new(wrong))
    }

    /// The text with this id.
    pub fn get(&self, id: SourceId) -> Option<&Source> {
        self.sources.get(id.0 as usize)
    }

    /// The text that a span covers; empty if the span is of another map.
    pub fn text(&self, span: Span) -> &str {
        self.get(span.source).and_then(|s| s.text.get(span.range())).unwrap_or("")
    }

    /// All texts with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (SourceId, &Source)> {
        (0..).map(SourceId).zip(&self.sources)
    }
}

/// The candidate closest to `given`, if it is close enough to be what was meant.
///
/// Close means an edit distance (with swaps of neighbours) of at most a third of the length.
pub fn closest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (given.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|c| *c != given)
        .map(|c| (distance(given, c), c))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// Optimal string alignment distance.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best =
                (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_utf8_is_shown_where_it_is_wrong() {
        let mut map = SourceMap::new();
        assert_eq!(map.decode("a.hcl", "é = 1".into()), Ok("é = 1".to_owned()));
        let wrong = map.decode("a.hcl", b"a = 1\n\xc3\xa9 = \"caf\xe9\"\n".to_vec()).unwrap_err();
        let span = wrong.primary.unwrap().span;
        let source = map.get(span.source).unwrap();
        assert_eq!(source.position(span.range().start), Position { line: 2, column: 9 });
        assert_eq!(source.line(2), "é = \"caf\u{fffd}\"");
        assert_eq!(map.text(span), "\u{fffd}");
        assert!(wrong.detail.contains("0xe9"), "{}", wrong.detail);
        let wrong = map.decode("a.hcl", b"\xff\xfea\0".to_vec()).unwrap_err();
        assert!(wrong.hints[0].contains("UTF-16"), "{}", wrong.hints[0]);
    }

    #[test]
    fn positions_count_from_one_and_by_code_point() {
        let mut map = SourceMap::new();
        let id = map.add("a.hcl", "é = 1\r\nb\n");
        let source = map.get(id).unwrap();
        assert_eq!(source.position(3), Position { line: 1, column: 3 });
        assert_eq!(source.position(8), Position { line: 2, column: 1 });
        assert_eq!(source.position(99), Position { line: 3, column: 1 });
        assert_eq!(source.line(1), "é = 1");
        assert_eq!(source.line(9), "");
    }

    #[test]
    fn closest_needs_to_be_close() {
        assert_eq!(closest("inlne", ["inline", "script"]), Some("inline"));
        assert_eq!(closest("ssh_usernmae", ["ssh_username", "ssh_host"]), Some("ssh_username"));
        assert_eq!(closest("zzz", ["inline", "script"]), None);
    }
}
