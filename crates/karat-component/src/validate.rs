//! How a component says what is wrong with its options.

use std::collections::BTreeSet;

use karat_config::{Body, Config, Decoder};
use karat_hcl::diag::{Diagnostic, Diagnostics, Span};

/// What a component is told before it runs. Pure data.
#[derive(Clone, Debug, Default)]
pub struct PrepareContext {
    /// The component's type as in the template, for messages.
    pub component: String,
    /// The folder of the template, as the user typed it.
    pub template_dir: String,
    /// Whether `-force` was given.
    pub force: bool,
    /// Whether `-debug` was given.
    pub debug: bool,
    /// Whether values may be unknown, since the template is only validated or planned.
    pub planning: bool,
}

/// Collects the problems that `validate` finds.
#[derive(Debug)]
pub struct ValidateContext<'a> {
    /// What the component is told.
    pub prepare: &'a PrepareContext,
    body: &'a Body,
    unknown: BTreeSet<String>,
    problems: Vec<Problem>,
}

/// One problem, on its way to be a [`Diagnostic`].
#[derive(Debug)]
pub struct Problem {
    option: Option<String>,
    diagnostic: Diagnostic,
}

impl Problem {
    /// Adds the explanation, whole sentences.
    pub fn detail(&mut self, text: impl Into<String>) -> &mut Self {
        self.diagnostic.detail = text.into();
        self
    }

    /// Adds what to do about it.
    pub fn hint(&mut self, text: impl Into<String>) -> &mut Self {
        self.diagnostic.hints.push(text.into());
        self
    }
}

impl<'a> ValidateContext<'a> {
    /// Decodes `body` as `C` and lets `validate` look at it. Problems with an option whose value
    /// is unknown yet are dropped: they may be no problems once it is known.
    pub fn check<C: Config, T>(
        body: &'a Body,
        prepare: &'a PrepareContext,
        diags: &mut Diagnostics,
        validate: impl FnOnce(C, &mut Self) -> Option<T>,
    ) -> Option<T> {
        let mut decoder = Decoder::new(body, &prepare.component);
        let config = C::decode(&mut decoder);
        let (found, unknown) = decoder.finish(&C::schema());
        let failed = found.has_errors();
        diags.append(found);
        let mut cx = Self { prepare, body, unknown, problems: Vec::new() };
        let validated = if failed { None } else { validate(config?, &mut cx) };
        let errors = cx.problems.iter().any(|p| p.diagnostic.is_error() && !cx.excused(p));
        let Self { problems, unknown, .. } = cx;
        diags.extend(
            problems
                .into_iter()
                .filter(|p| !p.option.as_ref().is_some_and(|o| unknown.contains(o)))
                .map(|p| p.diagnostic),
        );
        if errors { None } else { validated }
    }

    fn excused(&self, problem: &Problem) -> bool {
        problem.option.as_ref().is_some_and(|o| self.unknown.contains(o))
    }

    /// Whether the option's value is known. An absent option is.
    pub fn is_known(&self, option: &str) -> bool {
        !self.unknown.contains(option)
    }

    /// Whether the option stands in the template.
    pub fn is_set(&self, option: &str) -> bool {
        self.body.attributes.get(option).is_some_and(|a| !a.value.is_null())
            || self.body.blocks.iter().any(|b| b.name == option)
    }

    /// Where the option's value stands; the block itself if it is absent.
    pub fn span(&self, option: &str) -> Span {
        self.body.attributes.get(option).map(|a| a.value_span).unwrap_or_else(|| {
            self.body.blocks_of(option).next().map_or(self.body.span, |b| b.name_span)
        })
    }

    /// Reports an error in the value of one option.
    pub fn error(&mut self, option: &str, summary: impl Into<String>) -> &mut Problem {
        let diagnostic = Diagnostic::error(summary).at(self.span(option));
        self.push(Some(option.to_owned()), diagnostic)
    }

    /// Reports an error of the block as a whole.
    pub fn block_error(&mut self, summary: impl Into<String>) -> &mut Problem {
        let diagnostic = Diagnostic::error(summary).at(self.body.span);
        self.push(None, diagnostic)
    }

    /// Reports something about one option that does not stop the command.
    pub fn warning(&mut self, option: &str, summary: impl Into<String>) -> &mut Problem {
        let diagnostic = Diagnostic::warning(summary).at(self.span(option));
        self.push(Some(option.to_owned()), diagnostic)
    }

    fn push(&mut self, option: Option<String>, diagnostic: Diagnostic) -> &mut Problem {
        self.problems.push(Problem { option, diagnostic });
        self.problems.last_mut().expect("one was just pushed")
    }
}
