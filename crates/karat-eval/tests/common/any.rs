//! What holds for any expression. Property tests and fuzzing run the same function.

use karat_eval::{Environment, Functions, Scope, evaluate, references};
use karat_functions::MemoryWorld;
use karat_hcl::diag::SourceId;
use karat_hcl::{parse_expression, parse_template};
use karat_value::{Mark, Type, Value, json, print};

use super::common::console_names;

/// Names of every kind of value.
pub(crate) fn names(scope: &mut Scope<'_>) {
    console_names(scope);
    scope.set("u", Value::dynamic());
    scope.set("secret", Value::string("secret").marked(Mark::Sensitive));
    scope.set("list", Value::string_list(["b", "a"]));
    let numbers = vec![Value::number(3), Value::number(1), Value::unknown(Type::Number)];
    scope.set("set", Value::set(Type::Number, numbers));
    let entry = ("k".into(), Value::bool(true).marked(Mark::Sensitive));
    scope.set("map", Value::map(Type::Bool, [entry].into()));
    scope.set("object", Value::object_of([("a", Value::null(Type::Number))]));
}

/// Reads and evaluates a text, twice.
pub(crate) fn check(text: &str, template: bool, functions: Functions) {
    let world = MemoryWorld::default().with_file("f", "${a}");
    let environment = Environment::new(&world, "").with_functions(functions);
    let mut scope = Scope::new(&environment);
    names(&mut scope);
    let range = 0..text.len();
    let (expr, parse_diags) = if template {
        parse_template(SourceId(0), text, range)
    } else {
        parse_expression(SourceId(0), text, range)
    };
    let (value, diags) = evaluate(&expr, &scope);
    assert!(references(&expr).len() <= text.len());
    if parse_diags.has_errors() || diags.has_errors() {
        return;
    }
    let _ = print::console(&value);
    if value.is_wholly_known() {
        // Infinities alone have no JSON form.
        assert!(json::to_json(&value).is_ok() || print::console(&value).contains("Inf"));
    }
    // The same again gives the same.
    let (again, _) = evaluate(&expr, &scope);
    assert_eq!(value, again);
}
