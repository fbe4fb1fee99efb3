//! What has to hold between the parts of a template.

use karat_hcl::diag::{Diagnostic, Diagnostics, Span};
use karat_hcl::json_text::Text;

use crate::model::Template;

impl Template {
    /// Tells what is wrong between the parts: no builder; `only`, `except` and `override` that
    /// name no builder.
    pub fn check(&self) -> Diagnostics {
        let mut diags = Diagnostics::new();
        if self.builders.is_empty() {
            diags.push(
                Diagnostic::error("at least one builder must be defined")
                    .detail("The template has no \"builders\", so there is nothing to build.")
                    .at(Span { end: self.span.start + 1, ..self.span })
                    .hint("Write \"builders\": [{\"type\": …}]."),
            );
        }
        for (provisioner, index) in self.provisioners.iter().zip(1..) {
            let of = format!("provisioner {index}");
            self.check_selection(&provisioner.only, &provisioner.except, &of, &mut diags);
            for member in &provisioner.overrides {
                if self.builder(&member.name.text).is_none() {
                    diags.push(self.unknown("override", &member.name, &of));
                }
            }
        }
        for (chain, index) in self.post_processors.iter().zip(1..) {
            for (post_processor, within) in chain.iter().zip(1..) {
                let of = format!("post-processor {index}.{within}");
                let (only, except) = (&post_processor.only, &post_processor.except);
                self.check_selection(only, except, &of, &mut diags);
            }
        }
        diags
    }

    fn check_selection(&self, only: &[Text], except: &[Text], of: &str, diags: &mut Diagnostics) {
        if let ([first, ..], [second, ..]) = (only, except) {
            diags.push(
                Diagnostic::error(format!("{of}: only one of 'only' or 'except' may be specified"))
                    .detail(format!("The {of} has both."))
                    .at(second.span)
                    .also(first.span, "\"only\""),
            );
            return;
        }
        let all = only.iter().map(|n| ("only", n)).chain(except.iter().map(|n| ("except", n)));
        for (key, name) in all {
            if self.builder(&name.text).is_none() {
                diags.push(self.unknown(key, name, of));
            }
        }
    }

    fn unknown(&self, key: &str, name: &Text, of: &str) -> Diagnostic {
        let names: Vec<&str> = self.builders.iter().map(|b| b.name.text.as_str()).collect();
        let summary = match key {
            "override" => format!("{of}: override '{}' doesn't exist", name.text),
            _ => format!("{of}: '{key}' specified builder '{}' not found", name.text),
        };
        let diagnostic = Diagnostic::error(summary)
            .detail(format!(
                "\"{key}\" of the {of} names \"{}\", and no builder has this name.",
                name.text
            ))
            .at(name.span);
        let guessed = diagnostic.did_you_mean(&name.text, names.iter().copied());
        if guessed.hints.is_empty() && !names.is_empty() {
            return guessed.hint(format!("The builders are {}.", list(&names)));
        }
        guessed
    }
}

fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|n| format!("\"{n}\"")).collect();
    quoted.join(", ")
}
