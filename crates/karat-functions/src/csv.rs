//! CSV by the rules of Go's reader, which templates can see: blank lines are skipped,
//! a quote inside a bare field is an error, `\r\n` inside quotes becomes `\n`.

/// What is wrong with a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CsvError {
    /// From 1.
    pub line: usize,
    pub message: &'static str,
}

/// Reads records one after the other.
#[derive(Debug)]
pub(crate) struct Reader<'t> {
    rest: &'t str,
    /// The number of the line read last.
    line: usize,
    /// The line where the last record began.
    record_line: usize,
}

impl<'t> Reader<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { rest: text, line: 0, record_line: 0 }
    }

    /// The line where the last record began, from 1.
    pub(crate) fn record_line(&self) -> usize {
        self.record_line
    }

    /// The next line, with a bare `\n` as its end; the last one may have none.
    fn next_line(&mut self) -> Option<String> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.find('\n').map_or(self.rest.len(), |at| at + 1);
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.line += 1;
        if let Some(body) = line.strip_suffix("\r\n") {
            return Some(format!("{body}\n"));
        }
        // A carriage return that ends the whole text is dropped, too.
        let line = if rest.is_empty() { line.strip_suffix('\r').unwrap_or(line) } else { line };
        Some(line.to_owned())
    }

    /// Reads the next record; `None` at the end.
    ///
    /// # Errors
    /// A quote where none may stand, or one that is never closed.
    pub(crate) fn record(&mut self) -> Result<Option<Vec<String>>, CsvError> {
        let mut line = loop {
            match self.next_line() {
                None => return Ok(None),
                Some(line) if line.is_empty() || line == "\n" => {}
                Some(line) => break line,
            }
        };
        self.record_line = self.line;
        let mut fields = Vec::new();
        let mut at = 0;
        loop {
            let Some(quoted) = line[at..].strip_prefix('"') else {
                let field = &line[at..];
                let comma = field.find(',');
                let end = comma.unwrap_or_else(|| field.trim_end_matches('\n').len());
                let field = &field[..end];
                if field.contains('"') {
                    return Err(self.error("a bare field holds a quote"));
                }
                fields.push(field.to_owned());
                match comma {
                    Some(comma) => at += comma + 1,
                    None => return Ok(Some(fields)),
                }
                continue;
            };
            at = line.len() - quoted.len();
            let mut field = String::new();
            loop {
                if let Some(quote) = line[at..].find('"') {
                    field.push_str(&line[at..at + quote]);
                    at += quote + 1;
                    let after = &line[at..];
                    if after.starts_with('"') {
                        field.push('"');
                        at += 1;
                    } else if after.starts_with(',') {
                        at += 1;
                        fields.push(field);
                        break;
                    } else if after.is_empty() || after == "\n" {
                        fields.push(field);
                        return Ok(Some(fields));
                    } else {
                        return Err(self.error("text follows the closing quote of a field"));
                    }
                } else {
                    field.push_str(&line[at..]);
                    match self.next_line() {
                        Some(next) => {
                            line = next;
                            at = 0;
                        }
                        None => return Err(self.error("a quoted field is never closed")),
                    }
                }
            }
        }
    }

    fn error(&self, message: &'static str) -> CsvError {
        CsvError { line: self.line, message }
    }
}
