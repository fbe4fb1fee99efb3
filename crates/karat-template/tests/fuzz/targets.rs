//! What is fuzzed, and what holds for any text. `fuzz/` feeds these functions for hours; the test
//! beside this file feeds them what was once found.

use std::collections::BTreeMap;
use std::sync::Arc;

use karat_eval::Functions;
use karat_functions::MemoryWorld;
use karat_text::{Engine, Place, insert_user_variables};

#[path = "../../../karat-eval/tests/common/any.rs"]
mod any_expression;
#[path = "../../../karat-legacy/tests/any/mod.rs"]
mod any_legacy;
#[path = "../../../karat-hcl/tests/syntax/any.rs"]
mod any_syntax;
#[path = "../any/mod.rs"]
mod any_template;
#[path = "../../../karat-eval/tests/common/mod.rs"]
mod common;
#[path = "../../../karat-hcl/tests/syntax/dump.rs"]
mod dump;

/// A target: takes any text, and panics when something is wrong with Karat.
pub(crate) type Target = fn(&str);

/// All targets by name.
pub(crate) const TARGETS: &[(&str, Target)] = &[
    ("parser", any_syntax::parser),
    ("formatter", any_syntax::formatter),
    ("evaluator", evaluator),
    ("json", json),
    ("text", text),
    ("legacy", any_legacy::everything),
    ("template", template),
];

/// Runs the target of that name.
///
/// # Panics
/// When something is wrong with Karat, or there is no such target.
pub(crate) fn run(name: &str, text: &str) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    target.unwrap_or_else(|| panic!("there is no target {name}")).1(text);
}

/// Expressions and texts with holes, evaluated.
fn evaluator(text: &str) {
    // Hashing passwords takes its time by design.
    if text.contains("bcrypt") {
        return;
    }
    any_expression::check(text, false, Functions::Template);
    any_expression::check(text, true, Functions::TemplateFile);
}

/// JSON syntax, as such and as a template.
fn json(text: &str) {
    any_syntax::json(text);
    if !text.contains("bcrypt") {
        any_template::whole("a.pkr.json", text, &[]);
    }
}

/// A whole template in native syntax.
fn template(text: &str) {
    if !text.contains("bcrypt") {
        any_template::whole("a.pkr.hcl", text, &[]);
    }
}

/// Text with `{{ }}`, at every place where it may stand.
fn text(text: &str) {
    let world = MemoryWorld::default();
    let variables = BTreeMap::from([
        ("a".to_owned(), "one".to_owned()),
        ("b".to_owned(), "{{ user `a` }}".to_owned()),
    ]);
    let inserted = insert_user_variables(text, &variables);
    let variables = Arc::new(variables);
    let places = [Place::Hcl, Place::Legacy(Arc::clone(&variables)), Place::Variable(variables)];
    for place in places {
        let mut engine = Engine::new(&world, "name", "type", "/templates");
        engine.build = vec![("Host".to_owned(), "192.0.2.1".to_owned())];
        engine.place = place;
        let data = || [("Path", "/tmp/script".to_owned()), ("Vars", "A='b'".to_owned())];
        let rendered = engine.render(text, data());
        assert_eq!(rendered, engine.render(text, data()), "the same again gives the same");
        let _ = engine.render(&inserted, data());
        let _ = engine.render_variable(text, &world);
    }
}
