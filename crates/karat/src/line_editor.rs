//! Lines typed at a terminal: with editing, a history over sessions, and completion of names.

use std::io;
use std::path::PathBuf;

use karat_component::Masker;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use crate::env;

/// What came from the terminal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line without its end.
    Typed(String),
    /// Ctrl-C: the line is not meant.
    Dropped,
    /// Ctrl-D: there are no more.
    End,
}

/// How many lines are remembered.
const REMEMBERED: usize = 1000;

/// Reads lines from a terminal.
pub(crate) struct LineEditor {
    editor: Editor<Names, FileHistory>,
    history: PathBuf,
}

impl LineEditor {
    /// An editor that completes `names`.
    ///
    /// # Errors
    /// When the terminal cannot be used.
    pub(crate) fn new(mut names: Vec<String>) -> io::Result<Self> {
        names.sort();
        names.dedup();
        let config = Config::builder()
            .max_history_size(REMEMBERED)
            .and_then(|config| config.history_ignore_dups(true))
            .map_err(cause)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .build();
        let mut editor = Editor::with_config(config).map_err(cause)?;
        editor.set_helper(Some(Names(names)));
        let history = env::state_dir().join("console-history");
        // Without a history it is as useful as before.
        let _ = editor.load_history(&history);
        Ok(Self { editor, history })
    }

    /// Reads a line. Secrets in it are not remembered.
    ///
    /// # Errors
    /// When the terminal goes away.
    pub(crate) fn read(&mut self, prompt: &str, masker: &Masker) -> io::Result<Line> {
        match self.editor.readline(prompt) {
            Ok(line) => {
                // A line that is not remembered is no harm.
                let _ = self.editor.add_history_entry(masker.mask(&line));
                Ok(Line::Typed(line))
            }
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(ReadlineError::Interrupted) => Ok(Line::Dropped),
            Err(error) => Err(cause(error)),
        }
    }
}

impl Drop for LineEditor {
    fn drop(&mut self) {
        if let Some(folder) = self.history.parent() {
            // Where nothing can be written, nothing is remembered.
            let _ = std::fs::create_dir_all(folder);
        }
        let _ = self.editor.save_history(&self.history);
    }
}

fn cause(error: ReadlineError) -> io::Error {
    match error {
        ReadlineError::Io(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

/// Completes names: `var.x`, functions, the words of the console.
struct Names(Vec<String>);

impl Completer for Names {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        place: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let (start, word) = last_word(&line[..place]);
        let found = self.0.iter().filter(|name| !word.is_empty() && name.starts_with(word));
        Ok((start, found.cloned().collect()))
    }
}

impl Hinter for Names {
    type Hint = String;
}

impl Highlighter for Names {}
impl Validator for Names {}
impl Helper for Names {}

fn last_word(text: &str) -> (usize, &str) {
    let word = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    let start =
        text.char_indices().rev().find(|(_, c)| !word(*c)).map_or(0, |(at, c)| at + c.len_utf8());
    (start, &text[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_completed() {
        assert_eq!(last_word("upper(var.na"), (6, "var.na"));
        assert_eq!(last_word("é + é"), (5, "é"));
        assert_eq!(last_word(""), (0, ""));
        assert_eq!(last_word("f("), (2, ""));
    }
}
