//! What is wrong, in the words of the protocol.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use karat_hcl::diag::{Diagnostic as Problem, Diagnostics, Label, Severity, SourceMap};
use tower_lsp_server::ls_types::{
    Diagnostic, DiagnosticRelatedInformation, DiagnosticSeverity, Location, Uri,
};

use crate::document::range_in;

/// The problems of each file. Those that belong to no file are told at the beginning of
/// `otherwise`.
pub(crate) fn by_file(
    sources: &SourceMap,
    diags: &Diagnostics,
    otherwise: &Path,
) -> BTreeMap<PathBuf, Vec<Diagnostic>> {
    let mut files: BTreeMap<PathBuf, Vec<Diagnostic>> = BTreeMap::new();
    for problem in diags {
        let place = problem.primary.as_ref().and_then(|label| location(sources, label));
        let (path, range) = match place {
            Some(place) => place,
            None => (otherwise.to_owned(), Default::default()),
        };
        files.entry(path).or_default().push(Diagnostic {
            range,
            severity: Some(match problem.severity {
                Severity::Error => DiagnosticSeverity::ERROR,
                Severity::Warning => DiagnosticSeverity::WARNING,
            }),
            source: Some("karat".to_owned()),
            message: message(problem),
            related_information: related(sources, problem),
            ..Diagnostic::default()
        });
    }
    files
}

fn location(
    sources: &SourceMap,
    label: &Label,
) -> Option<(PathBuf, tower_lsp_server::ls_types::Range)> {
    let source = sources.get(label.span.source)?;
    let path = PathBuf::from(&source.name);
    // Values of flags and of the environment are texts without a file.
    path.is_absolute().then(|| (path, range_in(&source.text, label.span)))
}

fn message(problem: &Problem) -> String {
    let mut text = problem.summary.clone();
    let said = problem.primary.as_ref().map(|label| label.text.as_str()).unwrap_or_default();
    for more in [said, &problem.detail].into_iter().filter(|t| !t.is_empty()) {
        text.push_str("\n\n");
        text.push_str(more);
    }
    for hint in &problem.hints {
        text.push_str("\n\nHint: ");
        text.push_str(hint);
    }
    text
}

fn related(sources: &SourceMap, problem: &Problem) -> Option<Vec<DiagnosticRelatedInformation>> {
    let all: Vec<_> = problem
        .secondary
        .iter()
        .filter_map(|label| {
            let (path, range) = location(sources, label)?;
            let uri = Uri::from_file_path(path)?;
            let message = label.text.clone();
            Some(DiagnosticRelatedInformation { location: Location { uri, range }, message })
        })
        .collect();
    (!all.is_empty()).then_some(all)
}
