//! The names that options for file names may use.

use karat_component::{ComponentError, PostProcessContext};
use karat_provisioners::late::Late;

/// Renders file names for one build.
pub(crate) struct Names<'a> {
    late: Late,
    cx: &'a PostProcessContext,
}

impl<'a> Names<'a> {
    pub(crate) fn new(cx: &'a PostProcessContext) -> Self {
        Self { late: Late::new(&cx.build, &cx.generated, &cx.services), cx }
    }

    /// Renders `text` with `BuildName`, `BuilderType` and the values in `own`.
    pub(crate) fn render(
        &self,
        option: &str,
        text: &str,
        own: &[(&str, &str)],
    ) -> Result<String, ComponentError> {
        let build = &self.cx.build;
        let mut all = vec![
            ("BuildName", build.source_name.as_str()),
            ("BuilderType", build.source_type.as_str()),
        ];
        all.extend_from_slice(own);
        self.late.render(option, text, &all)
    }
}
