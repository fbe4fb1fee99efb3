//! JSON to model.
//!
//! Packer decodes the parts with different strictness: names and types of builders, and everything
//! of provisioners, may be of other types than they should; the root, variables and
//! post-processors may not. Keys match whatever their case where no key matches exactly; only
//! those that match exactly are taken out of the options. All of this is kept.

use std::collections::HashMap;

use karat_config::Duration;
use karat_hcl::diag::{Diagnostic, Diagnostics, SourceId, Span};
use karat_hcl::json_text::{self, Member, Text, Value, ValueKind};

use crate::model::{Builder, PostProcessor, Provisioner, Template, Variable};

/// The keys that the root may have.
const ROOT: &[&str] = &[
    "min_packer_version",
    "description",
    "builders",
    "comments",
    "push",
    "post-processors",
    "provisioners",
    "error-cleanup-provisioner",
    "variables",
    "sensitive-variables",
];

/// Reads a template. What cannot be read is left out of it, with an error.
pub fn parse(source: SourceId, text: &str) -> (Template, Diagnostics) {
    let (value, diags) = json_text::read(source, text);
    let mut reader = Reader { diags };
    let broken = reader.diags.has_errors();
    if !broken {
        reader.refuse_twins(&value);
    }
    let root = match value.members() {
        Some(members) => members,
        None => {
            if !broken {
                reader.wrong("The template", "an object", &value);
            }
            &[]
        }
    };
    let span = Span::new(source, 0..text.len());
    (reader.template(root, span), reader.diags)
}

struct Reader {
    diags: Diagnostics,
}

/// The member of this name; else one whose name differs in case alone.
fn find<'a>(members: &'a [Member], name: &str) -> Option<&'a Member> {
    let exact = members.iter().rev().find(|m| m.name.text == name);
    exact.or_else(|| members.iter().find(|m| m.name.text.eq_ignore_ascii_case(name)))
}

/// What a key holds, if it is there and not `null`.
fn given<'a>(members: &'a [Member], name: &str) -> Option<&'a Value> {
    let value = &find(members, name)?.value;
    (!matches!(value.kind, ValueKind::Null | ValueKind::Broken)).then_some(value)
}

fn rest(members: &[Member], taken: &[&str]) -> Vec<Member> {
    members.iter().filter(|m| !taken.contains(&m.name.text.as_str())).cloned().collect()
}

/// A string, or what a lenient reader makes one of.
fn lenient_text(value: &Value) -> Option<Text> {
    let text = match &value.kind {
        ValueKind::String(text) => return Some(text.clone()),
        ValueKind::Bool(b) => if *b { "1" } else { "0" }.to_owned(),
        ValueKind::Number(digits) => digits.parse::<f64>().ok()?.to_string(),
        ValueKind::Array(items) if items.is_empty() => String::new(),
        _ => return None,
    };
    Some(Text::made(text, value.span))
}

impl Reader {
    fn wrong(&mut self, what: &str, wanted: &str, value: &Value) {
        self.diags.push(
            Diagnostic::error("Wrong type")
                .detail(format!("{what} has to be {wanted}, not {}.", value.describe()))
                .at(value.span),
        );
    }

    fn refuse_twins(&mut self, value: &Value) {
        match &value.kind {
            ValueKind::Array(items) => items.iter().for_each(|item| self.refuse_twins(item)),
            ValueKind::Object(members) => {
                let mut names = HashMap::new();
                for member in members.iter() {
                    let name = member.name.text.as_str();
                    let first = *names.entry(name).or_insert(member.name.span);
                    if first != member.name.span {
                        self.diags.push(
                            Diagnostic::error(format!("Template has duplicate field: {name}"))
                                .detail(format!("The key \"{name}\" stands twice in this object."))
                                .at(member.name.span)
                                .also(first, "the first"),
                        );
                    }
                    self.refuse_twins(&member.value);
                }
            }
            _ => {}
        }
    }

    fn template(&mut self, root: &[Member], span: Span) -> Template {
        let comments = self.comments(root);
        let sensitive = match given(root, "sensitive-variables") {
            Some(value) => self.texts("\"sensitive-variables\"", value),
            None => Vec::new(),
        };
        Template {
            min_packer_version: self.root_text(root, "min_packer_version"),
            description: self.root_text(root, "description"),
            comments,
            variables: self.variables(root, &sensitive),
            sensitive,
            builders: self.builders(root),
            provisioners: self.provisioners(root),
            error_cleanup: given(root, "error-cleanup-provisioner")
                .and_then(|value| self.provisioner("The error-cleanup-provisioner", value)),
            post_processors: self.post_processors(root),
            push: self.object(root, "push"),
            span,
        }
    }

    /// The comments; reports the keys that mean nothing.
    fn comments(&mut self, root: &[Member]) -> Vec<(Text, Text)> {
        let mut comments = Vec::new();
        for member in root {
            let name = &member.name.text;
            let known = |k: &&str| find(root, k).is_some_and(|m| std::ptr::eq(m, member));
            if ROOT.iter().any(known) {
                continue;
            }
            if !name.starts_with('_') {
                let mut candidates = ROOT.to_vec();
                candidates.retain(|k| *k != "comments");
                self.diags.push(
                    Diagnostic::error(format!("Unknown root level key in template: '{name}'"))
                        .detail(format!("Nothing at the root of a template is called \"{name}\"."))
                        .at(member.name.span)
                        .did_you_mean(name, candidates)
                        .hint("A key that begins with \"_\" is a comment."),
                );
                continue;
            }
            match &member.value.kind {
                ValueKind::String(text) => comments.push((member.name.clone(), text.clone())),
                _ => self.wrong(&format!("The comment \"{name}\""), "a string", &member.value),
            }
        }
        comments
    }

    fn root_text(&mut self, root: &[Member], key: &str) -> Option<Text> {
        let value = given(root, key)?;
        match &value.kind {
            ValueKind::String(text) => Some(text.clone()),
            _ => {
                self.wrong(&format!("\"{key}\""), "a string", value);
                None
            }
        }
    }

    fn object(&mut self, root: &[Member], key: &str) -> Vec<Member> {
        let Some(value) = given(root, key) else { return Vec::new() };
        match value.members() {
            Some(members) => members.to_vec(),
            None => {
                self.wrong(&format!("\"{key}\""), "an object", value);
                Vec::new()
            }
        }
    }

    fn array<'a>(&mut self, root: &'a [Member], key: &str) -> &'a [Value] {
        let Some(value) = given(root, key) else { return &[] };
        match value.items() {
            Some(items) => items,
            None => {
                self.wrong(&format!("\"{key}\""), "an array", value);
                &[]
            }
        }
    }

    /// An array of strings and nothing else.
    fn texts(&mut self, what: &str, value: &Value) -> Vec<Text> {
        let Some(items) = value.items() else {
            self.wrong(what, "an array of strings", value);
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in items {
            match &item.kind {
                ValueKind::String(text) => texts.push(text.clone()),
                ValueKind::Null => texts.push(Text::made("", item.span)),
                _ => self.wrong(&format!("Each of {what}"), "a string", item),
            }
        }
        texts
    }

    /// An array of strings, or what a lenient reader makes one of.
    fn lenient_texts(&mut self, what: &str, value: &Value) -> Vec<Text> {
        let one = std::slice::from_ref(value);
        let items = match &value.kind {
            ValueKind::Array(items) => items,
            ValueKind::Object(members) if members.is_empty() => return Vec::new(),
            ValueKind::String(text) if text.text.is_empty() => return Vec::new(),
            _ => one,
        };
        let mut texts = Vec::new();
        for item in items {
            match (&item.kind, lenient_text(item)) {
                (_, Some(text)) => texts.push(text),
                (ValueKind::Null, None) => texts.push(Text::made("", item.span)),
                _ => self.wrong(&format!("Each of {what}"), "a string", item),
            }
        }
        texts
    }

    fn variables(&mut self, root: &[Member], sensitive: &[Text]) -> Vec<Variable> {
        let mut variables = Vec::new();
        for member in self.object(root, "variables") {
            let default = match member.value.kind {
                ValueKind::Null => None,
                ValueKind::String(text) => Some(text),
                _ => {
                    let (name, value) = (&member.name.text, &member.value);
                    let shown = match &value.kind {
                        ValueKind::Number(digits) => format!("Write \"{digits}\"."),
                        ValueKind::Bool(b) => format!("Write \"{b}\"."),
                        _ => "Join the elements with commas, and split them where they are used."
                            .into(),
                    };
                    self.diags.push(
                        Diagnostic::error(format!("Variable {name} is not a string"))
                            .detail(format!(
                                "User variables are strings or null; this is {}.",
                                value.describe()
                            ))
                            .at(value.span)
                            .hint(shown),
                    );
                    continue;
                }
            };
            let sensitive = sensitive.iter().any(|s| s.text == member.name.text);
            variables.push(Variable { name: member.name, default, sensitive });
        }
        variables
    }

    fn builders(&mut self, root: &[Member]) -> Vec<Builder> {
        let mut builders: Vec<Builder> = Vec::new();
        for (value, index) in self.array(root, "builders").iter().zip(1..) {
            let what = format!("Builder {index}");
            let Some(members) = value.members() else {
                self.wrong(&what, "an object", value);
                continue;
            };
            let Some(type_name) = self.type_name(&what, members, value.span) else { continue };
            let name = self.lenient(&what, members, "name").filter(|n| !n.text.is_empty());
            let name = name.unwrap_or_else(|| type_name.clone());
            if let Some(first) = builders.iter().find(|b| b.name.text == name.text) {
                self.diags.push(
                    Diagnostic::error(format!("builder with name '{}' already exists", name.text))
                        .detail(format!("{what} has the name of an earlier one."))
                        .at(name.span)
                        .also(first.name.span, "the earlier one")
                        .hint("Builders of one type are told apart by \"name\"."),
                );
                continue;
            }
            let options = rest(members, &["name", "type"]);
            builders.push(Builder { type_name, name, options, span: value.span });
        }
        builders
    }

    fn type_name(&mut self, what: &str, members: &[Member], span: Span) -> Option<Text> {
        let before = self.diags.len();
        let found = self.lenient(what, members, "type").filter(|t| !t.text.is_empty());
        if found.is_none() && self.diags.len() == before {
            self.diags.push(
                Diagnostic::error(format!("{what}: missing 'type'"))
                    .detail("Each has a type that says what it is.")
                    .at(Span { end: span.start + 1, ..span }),
            );
        }
        found
    }

    fn lenient(&mut self, what: &str, members: &[Member], key: &str) -> Option<Text> {
        let value = given(members, key)?;
        let text = lenient_text(value);
        if text.is_none() {
            self.wrong(&format!("\"{key}\" of {}", lower(what)), "a string", value);
        }
        text
    }

    fn provisioners(&mut self, root: &[Member]) -> Vec<Provisioner> {
        let values = self.array(root, "provisioners").iter().zip(1..);
        values
            .filter_map(|(v, index)| self.provisioner(&format!("Provisioner {index}"), v))
            .collect()
    }

    fn provisioner(&mut self, what: &str, value: &Value) -> Option<Provisioner> {
        let Some(members) = value.members() else {
            self.wrong(what, "an object", value);
            return None;
        };
        let type_name = self.type_name(what, members, value.span)?;
        let mut names = |key: &str| match given(members, key) {
            Some(value) => self.lenient_texts(&format!("\"{key}\" of {}", lower(what)), value),
            None => Vec::new(),
        };
        let (only, except) = (names("only"), names("except"));
        Some(Provisioner {
            type_name,
            only,
            except,
            overrides: self.overrides(what, members),
            pause_before: self.duration(what, members, "pause_before"),
            max_retries: self.lenient(what, members, "max_retries").filter(|t| !t.text.is_empty()),
            timeout: self.duration(what, members, "timeout"),
            options: rest(
                members,
                &["except", "only", "override", "pause_before", "max_retries", "type", "timeout"],
            ),
            span: value.span,
        })
    }

    fn overrides(&mut self, what: &str, members: &[Member]) -> Vec<Member> {
        let Some(value) = given(members, "override") else { return Vec::new() };
        let mut found = Vec::new();
        let parts = value.items().unwrap_or(std::slice::from_ref(value));
        for part in parts {
            match part.members() {
                Some(members) => found.extend_from_slice(members),
                None => {
                    let what = format!("\"override\" of {}", lower(what));
                    self.wrong(&what, "an object with the names of builders", part);
                }
            }
        }
        found
    }

    fn duration(&mut self, what: &str, members: &[Member], key: &str) -> Option<Duration> {
        let value = given(members, key)?;
        let of = || format!("\"{key}\" of {}", lower(what));
        match &value.kind {
            ValueKind::String(text) => match text.text.parse::<Duration>() {
                Ok(duration) => Some(duration),
                Err(error) => {
                    self.diags.push(
                        Diagnostic::error("Invalid duration")
                            .detail(format!("{}: {error}.", of()))
                            .at(value.span)
                            .hint("Write it like \"90s\" or \"1h10m\"."),
                    );
                    None
                }
            },
            ValueKind::Number(digits) => Some(nanoseconds(digits)),
            ValueKind::Bool(b) => Some(nanoseconds(if *b { "1" } else { "0" })),
            _ => {
                self.wrong(&of(), "a string such as \"90s\"", value);
                None
            }
        }
    }

    fn post_processors(&mut self, root: &[Member]) -> Vec<Vec<PostProcessor>> {
        let mut chains = Vec::new();
        for (value, index) in self.array(root, "post-processors").iter().zip(1..) {
            let one = std::slice::from_ref(value);
            let (chain, nested) = match value.items() {
                Some(items) => (items, true),
                None => (one, false),
            };
            let mut found = Vec::new();
            for (part, within) in chain.iter().zip(1..) {
                if nested && part.items().is_some() {
                    self.diags.push(
                        Diagnostic::error("Sequence not allowed to be nested in a sequence")
                            .detail(format!(
                                "Post-processor {index}.{within} is an array; one array is one \
                                 chain of post-processors, and chains do not lie in each other."
                            ))
                            .at(part.span),
                    );
                    continue;
                }
                found
                    .extend(self.post_processor(&format!("Post-processor {index}.{within}"), part));
            }
            chains.push(found);
        }
        chains
    }

    fn post_processor(&mut self, what: &str, value: &Value) -> Option<PostProcessor> {
        let span = value.span;
        let none: &[Member] = &[];
        let (members, type_name) = match &value.kind {
            ValueKind::String(text) if !text.text.is_empty() => (none, text.clone()),
            ValueKind::Object(members) => {
                let Some(type_name) = self.strict(what, members, "type") else {
                    if given(members, "type").is_none_or(|t| t.as_str() == Some("")) {
                        self.diags.push(
                            Diagnostic::error(format!("{what}: type is required"))
                                .detail("Each has a type that says what it is.")
                                .at(Span { end: span.start + 1, ..span }),
                        );
                    }
                    return None;
                };
                (&**members, type_name)
            }
            _ => {
                self.wrong(what, "the name of a type, an object, or an array of those", value);
                return None;
            }
        };
        let mut names = |key: &str| match given(members, key) {
            Some(value) => self.texts(&format!("\"{key}\" of {}", lower(what)), value),
            None => Vec::new(),
        };
        let (only, except) = (names("only"), names("except"));
        let keep_input_artifact = match given(members, "keep_input_artifact") {
            None => None,
            Some(Value { kind: ValueKind::Bool(b), .. }) => Some(*b),
            Some(other) => {
                let what = format!("\"keep_input_artifact\" of {}", lower(what));
                self.wrong(&what, "true or false", other);
                None
            }
        };
        Some(PostProcessor {
            name: self.strict(what, members, "name").unwrap_or_else(|| type_name.clone()),
            type_name,
            only,
            except,
            keep_input_artifact,
            options: rest(members, &["except", "only", "keep_input_artifact", "type", "name"]),
            span,
        })
    }

    /// A string that is not empty, and nothing that could be made one.
    fn strict(&mut self, what: &str, members: &[Member], key: &str) -> Option<Text> {
        let value = given(members, key)?;
        match &value.kind {
            ValueKind::String(text) => Some(text.clone()).filter(|t| !t.text.is_empty()),
            _ => {
                self.wrong(&format!("\"{key}\" of {}", lower(what)), "a string", value);
                None
            }
        }
    }
}

/// A bare number where a duration is due counts nanoseconds.
fn nanoseconds(digits: &str) -> Duration {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates, which is what a length of time beyond all bounds may do"
    )]
    let nanos = digits.parse::<f64>().unwrap_or(0.0) as u64;
    Duration(std::time::Duration::from_nanos(nanos))
}

/// A name of a part within a sentence.
fn lower(what: &str) -> String {
    let mut chars = what.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

#[cfg(test)]
mod tests;
