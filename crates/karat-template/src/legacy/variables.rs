//! User variables: values from flags and files, and defaults that need each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;
use karat_functions::World;
use karat_hcl::diag::{Diagnostic, Diagnostics, SourceId};
use karat_hcl::json_text::{self, ValueKind};
use karat_text::{Engine, Place, UserVariables, VariableError};
use karat_value::{Mark, Value};

use super::Source;
use crate::variables::{Given, Variable};

/// How often variables are rendered before they are taken to need each other in a circle.
const ROUNDS: usize = 100;

/// The variables with their values.
pub(super) struct Resolved {
    pub(super) values: UserVariables,
    /// Those that the template declares, for a person to read.
    pub(super) shown: IndexMap<String, Variable>,
    pub(super) secrets: Vec<String>,
}

/// Reads a variable file: an object of strings.
pub(crate) fn read_file(
    name: &str,
    source: SourceId,
    text: &str,
    given: &mut BTreeMap<String, String>,
    diags: &mut Diagnostics,
) {
    let (value, found) = json_text::read(source, text);
    let broken = found.has_errors();
    diags.append(found);
    let members = match &value.kind {
        _ if broken => return,
        ValueKind::Null => return,
        ValueKind::Object(members) => members,
        _ => {
            diags.push(
                Diagnostic::error(format!("Error reading variables in '{name}'"))
                    .at(value.span)
                    .detail(format!(
                        "A file of user variables holds an object of strings, not {}.",
                        value.describe()
                    )),
            );
            return;
        }
    };
    for member in members.iter() {
        let text = match &member.value.kind {
            ValueKind::String(text) => text.text.clone(),
            ValueKind::Null => String::new(),
            _ => {
                let what = member.value.describe();
                let mut diagnostic =
                    Diagnostic::error(format!("Error reading variables in '{name}'"))
                        .at(member.value.span)
                        .detail(format!(
                            "The user variable \"{}\" is {what}; user variables are strings.",
                            member.name.text
                        ));
                match &member.value.kind {
                    ValueKind::Number(digits) => {
                        diagnostic = diagnostic.hint(format!("Write \"{digits}\"."));
                    }
                    ValueKind::Bool(flag) => {
                        diagnostic = diagnostic.hint(format!("Write \"{flag}\"."));
                    }
                    _ => {}
                }
                diags.push(diagnostic);
                continue;
            }
        };
        given.insert(member.name.text.clone(), text);
    }
}

/// Gives every variable its value.
pub(super) fn resolve(
    source: &Source,
    root: &Path,
    given: &Given,
    world: &dyn World,
    diags: &mut Diagnostics,
) -> Resolved {
    let template = &source.template;
    let mut values = source.given.clone();
    for flag in &given.flags {
        if let Some((name, value)) = flag.split_once('=') {
            values.insert(name.to_owned(), value.to_owned());
        }
    }
    for variable in &template.variables {
        let name = &variable.name.text;
        if variable.default.is_none() && !values.contains_key(name) {
            diags.push(
                Diagnostic::error(format!("required variable not set: {name}"))
                    .at(variable.name.span)
                    .detail(format!(
                        "The default of the user variable \"{name}\" is null, so it has to be given."
                    ))
                    .hint(format!("Give it by -var '{name}=…' or in a -var-file.")),
            );
        }
    }
    let defaults = template.variables.iter().map(|variable| {
        let default = variable.default.as_ref().map(|d| d.text.clone());
        (variable.name.text.clone(), default.unwrap_or_default())
    });
    let mut texts: BTreeMap<String, String> = defaults.collect();
    texts.extend(values.clone());
    if let Err((name, text, reason)) = render_all(&texts, &mut values, root, world) {
        diags.push(failed(source, &name, &text, &reason));
    }
    let secrets: Vec<String> = template
        .variables
        .iter()
        .filter(|v| v.sensitive)
        .filter_map(|v| values.get(&v.name.text).cloned())
        .filter(|value| !value.is_empty())
        .collect();
    let shown = template.variables.iter().map(|v| shown(v, values.get(&v.name.text))).collect();
    Resolved { values: Arc::new(values), shown, secrets }
}

/// Renders the texts until they no longer change, the values of one round being there in the
/// next.
///
/// # Errors
/// The name and text of a variable that cannot be rendered, and why.
fn render_all(
    texts: &BTreeMap<String, String>,
    values: &mut BTreeMap<String, String>,
    root: &Path,
    world: &dyn World,
) -> Result<(), (String, String, VariableError)> {
    let root = root.to_string_lossy();
    let mut engines: BTreeMap<&str, Engine> = BTreeMap::new();
    let mut waiting: Vec<(&String, &String)> = texts.iter().collect();
    // Before the first success nothing is there, not even what was given.
    let mut any = false;
    let mut last_failure = None;
    for _ in 0..ROUNDS {
        let before = values.clone();
        let (mut rendered_one, mut again) = (false, false);
        let mut done = BTreeSet::new();
        for (name, text) in &waiting {
            let engine = engines.entry(name.as_str()).or_insert_with(|| {
                let mut engine = Engine::new(world, "", "", &root);
                engine.packer_version = crate::PACKER_VERSION.to_owned();
                engine
            });
            let known = if any { values.clone() } else { BTreeMap::new() };
            engine.place = Place::Variable(Arc::new(known));
            match render_kept(engine, text, world) {
                Ok(value) => {
                    rendered_one = true;
                    any = true;
                    values.insert((*name).clone(), value);
                    if calls_user(text) {
                        again = true;
                    } else {
                        done.insert(name.as_str());
                    }
                }
                Err(VariableError::Unset(reason)) => {
                    again = true;
                    last_failure =
                        Some(((*name).clone(), (*text).clone(), VariableError::Unset(reason)));
                }
                Err(error) => return Err(((*name).clone(), (*text).clone(), error)),
            }
        }
        waiting.retain(|(name, _)| !done.contains(name.as_str()));
        if !again {
            return Ok(());
        }
        if *values == before && done.is_empty() {
            // Further rounds find the same. One that cannot be rendered stops the command only if
            // there is no other that can.
            return match last_failure {
                Some(failure) if !rendered_one => Err(failure),
                _ => Ok(()),
            };
        }
    }
    Ok(())
}

/// Renders a text but for what is of the form `{{ .Name }}`, which is rendered later by others.
fn render_kept(engine: &Engine, text: &str, world: &dyn World) -> Result<String, VariableError> {
    let mut kept = Vec::new();
    let mut marked = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        marked.push_str(&rest[..start]);
        let action = &rest[start..];
        match late_action(action) {
            Some(length) => {
                marked.push_str(&placeholder(kept.len()));
                kept.push(&action[..length]);
                rest = &action[length..];
            }
            None => {
                marked.push_str("{{");
                rest = &action[2..];
            }
        }
    }
    marked.push_str(rest);
    let mut rendered = engine.render_variable(&marked, world)?;
    for (place, action) in kept.iter().enumerate() {
        rendered = rendered.replace(&placeholder(place), action);
    }
    Ok(rendered)
}

/// Stands for the text that is kept; no text of a template holds these characters.
fn placeholder(place: usize) -> String {
    format!("\u{10fffe}{place}\u{10fffe}")
}

/// The length of an action that begins with a point.
fn late_action(action: &str) -> Option<usize> {
    let inner = action.strip_prefix("{{")?;
    let blank = inner.chars().next().filter(|c| matches!(c, ' ' | '\t' | '\n' | '\u{c}' | '\r'));
    let name = inner[blank.map_or(0, char::len_utf8)..].strip_prefix('.')?;
    let end = name.find("}}")?;
    if name[..end].trim_end_matches(['\n', '\r', '\t', ' ']).contains('\n') {
        return None;
    }
    Some(action.len() - name.len() + end + 2)
}

/// Whether a text calls `user` in the one way that makes it be rendered again.
fn calls_user(text: &str) -> bool {
    text.split("{{").skip(1).any(|action| {
        let call = action.trim_start().strip_prefix("user").map(str::trim_start);
        call.and_then(|call| call.strip_prefix('`')).is_some_and(|call| {
            let mut closing = call.split('`').skip(1);
            closing.any(|after| after.trim_start().starts_with("}}"))
        })
    })
}

fn failed(source: &Source, name: &str, text: &str, reason: &VariableError) -> Diagnostic {
    let diagnostic = match reason {
        VariableError::Unset(_) => Diagnostic::error(format!("Failed to interpolate \"{name}\""))
            .detail(format!(
                "\"{text}\" needs a variable that has no value: {reason}. Variables that others \
                 are made of have to be there."
            )),
        VariableError::Other(_) => {
            Diagnostic::error(format!("error interpolating default value for '{name}'"))
                .detail(format!("\"{text}\" cannot be rendered: {reason}."))
        }
    };
    match source.template.variable(name) {
        Some(variable) => {
            let default = variable.default.as_ref().filter(|d| d.text == text);
            diagnostic.at(default.map_or(variable.name.span, |d| d.span))
        }
        None => diagnostic,
    }
}

fn shown(variable: &karat_legacy::Variable, value: Option<&String>) -> (String, Variable) {
    let name = variable.name.text.clone();
    let text = |text: &str| {
        let value = Value::string(text);
        if variable.sensitive { value.marked(Mark::Sensitive) } else { value }
    };
    let shown = Variable {
        name: name.clone(),
        span: variable.name.span,
        description: String::new(),
        value: value.map_or_else(|| Value::unknown(karat_value::Type::String), |v| text(v)),
        default: variable.default.as_ref().map(|d| text(&d.text)),
        sensitive: variable.sensitive,
        is_set: value.is_some(),
    };
    (name, shown)
}

#[cfg(test)]
mod tests {
    use karat_functions::MemoryWorld;

    use super::*;

    fn render(
        texts: &[(&str, &str)],
        given: &[(&str, &str)],
    ) -> Result<BTreeMap<String, String>, String> {
        let own = |all: &[(&str, &str)]| -> BTreeMap<String, String> {
            all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let mut values = own(given);
        let mut texts = own(texts);
        texts.extend(values.clone());
        match render_all(&texts, &mut values, Path::new("/t"), &MemoryWorld::default()) {
            Ok(()) => Ok(values),
            Err((name, _, error)) => Err(format!("{name}: {error}")),
        }
    }

    #[test]
    fn variables_are_made_of_each_other_in_any_order() {
        let values =
            render(&[("a", "{{user `b`}}!"), ("b", "{{ user `c` }}"), ("c", "x")], &[]).unwrap();
        assert_eq!((values["a"].as_str(), values["b"].as_str()), ("x!", "x"));
        let values = render(&[("a", "{{user `b`}}!"), ("b", "1")], &[("b", "{{upper `y`}}")]);
        assert_eq!(values.unwrap()["a"], "Y!");
    }

    #[test]
    fn circles_and_missing_ones_are_told_unless_another_works() {
        assert!(render(&[("a", "{{user `b`}}"), ("b", "{{user `a`}}")], &[]).is_err());
        assert!(render(&[("a", "{{user `none`}}"), ("b", "1")], &[]).is_err());
        let values =
            render(&[("a", "{{user `none`}}"), ("b", "{{user `c`}}"), ("c", "1")], &[]).unwrap();
        assert_eq!(values.get("a"), None);
    }

    #[test]
    fn what_begins_with_a_point_is_left_for_later() {
        let values = render(&[("a", "{{ .Vars }} {{upper `x`}} {{.Path}}")], &[]).unwrap();
        assert_eq!(values["a"], "{{ .Vars }} X {{.Path}}");
        let error = render(&[("a", "{{ nosuch }}")], &[]).unwrap_err();
        assert!(error.contains("nosuch"), "{error}");
    }
}
