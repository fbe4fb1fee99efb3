//! Runs of templates with components that only write down what is done to them.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod bench;
mod fake;

mod order;
mod post;
mod provisioners;
mod reuse;
mod safety;
mod same_name;

/// A template of one source and one build with these blocks in it.
fn one(source: &str, build: &str) -> String {
    format!(
        "source \"thing\" \"a\" {{\nvalue = \"v\"\n{source}\n}}\nbuild {{\nsources = [\"thing.a\"]\n{build}\n}}\n"
    )
}

/// A note with further options.
fn note(text: &str, more: &str) -> String {
    format!("provisioner \"note\" {{\ntext = \"{text}\"\n{more}\n}}\n")
}
