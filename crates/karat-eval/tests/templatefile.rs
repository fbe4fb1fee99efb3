//! `templatefile` through the evaluator.

use karat_eval::{Environment, Functions, Scope, console_value};
use karat_functions::MemoryWorld;
use karat_hcl::diag::SourceId;
use karat_value::Value;

fn run(text: &str) -> Result<Value, String> {
    let world = MemoryWorld::default()
        .with_file("list", "${[for x in xs : x * 2]}")
        .with_file("text", "%{ for x in xs ~}\n- ${x}\n%{ endfor ~}\n")
        .with_file("never", "%{ if false }${missing}%{ endif }")
        .with_file("nested", "${templatefile(\"list\", {xs = []})}")
        .with_file("carriage", "${~1}\r${1}")
        .with_file("signs", "%\r\n${~1}% \r\n${~1}%%\n${~1}")
        .with_file("broken", "a\n${1 +}")
        .with_file("wrong", "a\n  ${x + \"b\"}");
    let environment = Environment::new(&world, "");
    let scope = Scope::new(&environment);
    console_value(text, SourceId(0), &scope)
        .map_err(|diags| diags.iter().map(|diag| diag.detail.clone()).collect::<String>())
}

#[track_caller]
fn fails(text: &str, part: &str) {
    let error = run(text).expect_err("should fail");
    assert!(error.contains(part), "{text}: {error}");
}

#[test]
fn a_file_that_is_one_interpolation_keeps_its_type() {
    let numbers = [2, 4].map(|n| Value::number(karat_value::Number::from(n))).to_vec();
    assert_eq!(run("templatefile(\"list\", {xs = [1, 2]})"), Ok(Value::tuple(numbers)));
}

#[test]
fn anything_else_is_text() {
    assert_eq!(run("templatefile(\"text\", {xs = [1, 2]})"), Ok(Value::string("- 1\n- 2\n")));
}

#[test]
fn a_carriage_return_alone_makes_text_of_what_follows() {
    assert_eq!(run("templatefile(\"carriage\", {})"), Ok(Value::string("1\r${1}")));
}

#[test]
fn a_sign_keeps_the_character_before_its_line_end() {
    assert_eq!(run("templatefile(\"signs\", {})"), Ok(Value::string("%\r1% 1%%1")));
}

#[test]
fn every_name_in_the_file_must_be_given() {
    fails("templatefile(\"never\", {})", "missing");
    fails("templatefile(\"list\", {\"1x\" = 1})", "1x");
}

#[test]
fn what_is_wrong_in_a_file_is_told_with_its_place() {
    fails("templatefile(\"broken\", {})", "broken:2,");
    fails("templatefile(\"wrong\", {x = 1})", "wrong:2,9");
    fails("templatefile(\"nested\", {})", "recursively");
    fails("templatefile(\"nowhere\", {})", "nowhere");
}

#[test]
fn expressions_of_variable_files_know_no_functions_and_no_names() {
    let world = MemoryWorld::default();
    let environment = Environment::new(&world, "").with_functions(Functions::None);
    let scope = Scope::new(&environment);
    let run = |text: &str| {
        console_value(text, SourceId(0), &scope)
            .map_err(|diags| diags.iter().map(|diag| diag.summary.clone()).collect::<String>())
    };
    assert_eq!(run("[for x in [1] : \"n${x}\"]"), Ok(Value::tuple(vec![Value::string("n1")])));
    assert_eq!(run("upper(\"a\")"), Err("Function calls not allowed".to_owned()));
    assert_eq!(run("try(1)"), Err("Function calls not allowed".to_owned()));
    assert_eq!(run("prod"), Err("Variables not allowed".to_owned()));
}

#[test]
fn only_defaults_of_variables_see_the_environment() {
    let mut world = MemoryWorld::default();
    world.env.insert("HOME".to_owned(), "/home/user".to_owned());
    let environment = Environment::new(&world, "").with_functions(Functions::VariableDefault);
    let scope = Scope::new(&environment);
    let run = |text: &str| console_value(text, SourceId(0), &scope);
    assert_eq!(run("env(\"HOME\")"), Ok(Value::string("/home/user")));
    assert!(run("upper(\"a\")").is_err());
}
