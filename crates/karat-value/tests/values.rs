//! Types, conversion, unification, equality, sets, marks, JSON and printing.

#![expect(clippy::unwrap_used, reason = "a test may fail so")]

use std::collections::BTreeMap;

use karat_value::{
    Data, Mark, Marks, Number, Type, Value, can_convert, convert, json, print, unify, unify_values,
};

fn n(text: &str) -> Value {
    Value::number(Number::parse(text).unwrap())
}

fn s(text: &str) -> Value {
    Value::string(text)
}

fn tuple<const N: usize>(items: [Value; N]) -> Value {
    Value::tuple(items.to_vec())
}

fn object<const N: usize>(items: [(&str, Value); N]) -> Value {
    Value::object_of(items)
}

fn map(element: Type, items: &[(&str, Value)]) -> Value {
    let items = items.iter().map(|(key, item)| ((*key).into(), item.clone()));
    Value::map(element, items.collect::<BTreeMap<_, _>>())
}

#[track_caller]
fn converts(value: &Value, want: &Type, expected: &Value) {
    assert_eq!(convert(value, want).as_ref(), Ok(expected), "{value:?} to {want}");
}

#[track_caller]
fn refuses(value: &Value, want: &Type, message: &str) {
    let error = convert(value, want).expect_err("should not convert");
    assert_eq!(error.to_string(), message, "{value:?} to {want}");
}

#[test]
fn primitives_convert_where_the_text_allows() {
    converts(&n("1.50"), &Type::String, &s("1.5"));
    converts(&s("1e3"), &Type::Number, &n("1000"));
    converts(&s("0"), &Type::Bool, &Value::bool(false));
    converts(&Value::bool(true), &Type::String, &s("true"));
    refuses(&s("x"), &Type::Number, "a number is required");
    refuses(&s("yes"), &Type::Bool, "a bool is required");
    refuses(
        &s("True"),
        &Type::Bool,
        "a bool is required; to convert from string, use lowercase \"true\"",
    );
    refuses(&n("1"), &Type::Bool, "bool required, not number");
    refuses(&tuple([]), &Type::String, "string required, not tuple");
}

#[test]
fn errors_lead_to_the_part_that_does_not_fit() {
    let ty = Type::map(Type::list(Type::object([("b", Type::Number)])));
    let value = object([("a", tuple([object([("b", s("x"))])]))]);
    refuses(&value, &ty, ".a[0].b: a number is required");
    let value = object([("a", tuple([object([("c", s("1"))])]))]);
    refuses(&value, &ty, "element \"a\": element 0: attribute \"b\" is required");
}

#[test]
fn collections_convert_with_their_elements() {
    let numbers = Value::list(Type::Number, vec![n("1"), n("2")]);
    converts(&tuple([s("1"), n("2")]), &Type::list(Type::Number), &numbers);
    converts(&tuple([n("1"), s("a")]), &Type::list(Type::Dynamic), &Value::string_list(["1", "a"]));
    converts(
        &object([("a", n("1")), ("b", s("x"))]),
        &Type::map(Type::Dynamic),
        &map(Type::String, &[("a", s("1")), ("b", s("x"))]),
    );
    converts(
        &tuple([tuple([n("1")]), tuple([n("1"), n("2")])]),
        &Type::list(Type::Dynamic),
        &Value::list(
            Type::list(Type::Number),
            vec![Value::list(Type::Number, vec![n("1")]), numbers],
        ),
    );
    converts(&tuple([]), &Type::set(Type::String), &Value::set(Type::String, vec![]));
    assert!(!can_convert(tuple([n("1"), Value::bool(true)]).ty(), &Type::list(Type::Dynamic)));
    assert!(!can_convert(&Type::list(Type::Number), &Type::map(Type::Number)));
}

#[test]
fn objects_lose_what_is_not_wanted_and_gain_what_is_optional() {
    let mut ty = Type::object([("a", Type::String), ("b", Type::Number)]);
    let value = object([("a", n("1")), ("c", n("2"))]);
    refuses(&value, &ty, "attribute \"b\" is required");
    if let Type::Object(object) = &mut ty {
        std::sync::Arc::make_mut(object).optional.insert("b".into());
    }
    let expected = object([("a", s("1")), ("b", Value::null(Type::Number))]);
    converts(&value, &ty, &expected);
    converts(&map(Type::Number, &[("a", n("1"))]), &ty, &expected);
    assert_eq!(ty.to_string(), "object({a = string, b = optional(number)})");
}

#[test]
fn nulls_and_unknown_values_take_the_type() {
    converts(&Value::untyped_null(), &Type::Number, &Value::null(Type::Number));
    converts(&Value::dynamic(), &Type::list(Type::Bool), &Value::unknown(Type::list(Type::Bool)));
    let tuple_type = Type::tuple([Type::Number, Type::String]);
    converts(
        &Value::unknown(tuple_type),
        &Type::list(Type::Dynamic),
        &Value::unknown(Type::list(Type::String)),
    );
}

#[test]
fn unification_prefers_text_then_lists_and_maps() {
    let of = |types: &[Type]| unify(types, true);
    assert_eq!(of(&[Type::Number, Type::String]), Some(Type::String));
    assert_eq!(of(&[Type::Bool, Type::String]), Some(Type::String));
    assert_eq!(of(&[Type::Bool, Type::Number]), None);
    assert_eq!(of(&[Type::tuple([]), Type::object::<&str>([])]), None);
    assert_eq!(of(&[Type::tuple([Type::Number]), Type::tuple([])]), Some(Type::list(Type::Number)));
    assert_eq!(
        of(&[Type::object([("a", Type::Number)]), Type::object([("b", Type::String)])]),
        Some(Type::map(Type::String))
    );
    assert_eq!(
        of(&[Type::list(Type::String), Type::tuple([Type::Number])]),
        Some(Type::list(Type::String))
    );
    assert_eq!(
        of(&[Type::map(Type::Number), Type::object([("a", Type::String)])]),
        Some(Type::map(Type::String))
    );
    assert_eq!(of(&[]), None);
    let (ty, values) = unify_values(&[n("1"), s("a")], false).unwrap();
    assert_eq!((ty, values.unwrap()), (Type::String, vec![s("1"), s("a")]));
}

#[test]
fn equality_never_converts() {
    assert_eq!(n("1").equals(&s("1")), Some(false));
    assert_eq!(n("-0").equals(&n("0")), Some(true));
    assert_eq!(Value::null(Type::String).equals(&Value::null(Type::Bool)), Some(true));
    let list = Value::list(Type::Number, vec![n("1")]);
    assert_eq!(list.equals(&tuple([n("1")])), Some(false));
    assert_eq!(tuple([n("1")]).equals(&tuple([n("1")])), Some(true));
    let null = object([("a", Value::untyped_null())]);
    assert_eq!(null.equals(&object([])), Some(false));
    assert_eq!(null.equals(&null), Some(true));
}

#[test]
fn equality_with_the_unknown() {
    let unknown = Value::unknown(Type::Number);
    assert_eq!(unknown.equals(&n("1")), None);
    assert_eq!(unknown.equals(&s("1")), Some(false));
    assert_eq!(unknown.equals(&Value::null(Type::String)), None);
    assert_eq!(Value::dynamic().equals(&s("1")), None);
    let two = |a: Value, b: Value| tuple([a, b]);
    // One difference is enough, whatever the rest may be.
    let left = two(unknown, n("1"));
    assert_eq!(left.equals(&two(n("5"), n("2"))), Some(false));
    assert_eq!(left.equals(&two(n("5"), n("1"))), None);
}

#[test]
fn sets_are_in_order_and_hold_nothing_twice() {
    let set = |ty: Type, items: Vec<Value>| match Value::set(ty, items).data() {
        Data::Seq(items) => items.to_vec(),
        other => panic!("{other:?}"),
    };
    assert_eq!(set(Type::Number, vec![n("10"), n("9"), n("9.0")]), [n("9"), n("10")]);
    let null = Value::null(Type::String);
    let texts = vec![s("é"), null.clone(), s("a"), s("B"), s("_"), s("a")];
    assert_eq!(set(Type::String, texts), [s("B"), s("_"), s("a"), s("é"), null]);
    let pair = |a: &str, b: &str| Value::string_list([a, b]);
    let pairs = vec![pair("b", "a"), pair("a", "c"), pair("a", "b"), pair("b", "a")];
    let ordered = [pair("a", "b"), pair("a", "c"), pair("b", "a")];
    assert_eq!(set(Type::list(Type::String), pairs), ordered);
    // More digits than the order looks at first.
    let [a, b] = ["1.00000000001", "1.00000000002"].map(|text| tuple([n(text)]));
    let mixed = vec![b.clone(), a.clone(), b.clone(), a.clone()];
    assert_eq!(set(Type::tuple([Type::Number]), mixed), [a, b]);
    // Two unknown elements may still differ.
    let unknown = Value::unknown(Type::String);
    assert_eq!(set(Type::String, vec![unknown.clone(), unknown, s("a")]).len(), 3);
}

#[test]
fn marks_stay_where_they_are_until_something_must_tell() {
    let secret = s("x").marked(Mark::Sensitive);
    let value = tuple([n("1"), secret.clone()]);
    assert!(value.marks().is_empty() && value.is_sensitive());
    let (plain, marks) = value.clone().unmark_deep();
    assert_eq!((plain, marks), (tuple([n("1"), s("x")]), Marks::sensitive()));
    let list = convert(&value, &Type::list(Type::String)).unwrap();
    assert!(list.marks().is_empty() && list.is_sensitive());
    let set = convert(&value, &Type::set(Type::String)).unwrap();
    assert_eq!(set.marks(), &Marks::sensitive());
    assert!(convert(&secret, &Type::String).unwrap().is_sensitive());
    assert!(Value::unknown(Type::Number).marked(Mark::Sensitive).is_sensitive());
    let note = Mark::Note("from a data source".into());
    let both = secret.marked(note.clone());
    assert!(both.marks().contains(&note) && both.is_sensitive());
}

#[test]
fn text_is_in_normal_form_c() {
    assert_eq!(s("e\u{301}"), s("\u{e9}"));
    assert_eq!(object([("e\u{301}", n("1"))]), object([("\u{e9}", n("1"))]));
}

#[test]
fn json_has_all_digits_and_escapes_what_html_minds() {
    let value = object([
        ("b", tuple([Value::untyped_null(), Value::bool(true), n("1e21"), n("-0")])),
        ("a", s("<&>\u{2028}\u{7f}\"\\\n\u{8}\u{1}")),
    ]);
    assert_eq!(
        json::to_json(&value).unwrap(),
        r#"{"a":"\u003c\u0026\u003e\u2028"#.to_owned()
            + "\u{7f}"
            + r#"\"\\\n\b\u0001","b":[null,true,1000000000000000000000,-0]}"#
    );
    assert_eq!(json::to_json(&n("Inf")), Err(json::JsonError::Infinite));
    assert_eq!(json::to_json(&Value::dynamic()), Err(json::JsonError::Unknown));
    let parsed = json::from_json(&serde_json::json!({"a": [1, null, "x"]}));
    assert_eq!(parsed, object([("a", tuple([n("1"), Value::untyped_null(), s("x")]))]));
}

#[test]
fn consoles_hide_null_attributes_and_quote_as_go_does() {
    let value = object([
        ("a", Value::untyped_null()),
        ("b", tuple([Value::untyped_null(), s("\u{7}\u{7f}\u{a0}\u{200b}e\u{301}\u{e0001}😀")])),
        ("c", object([])),
    ]);
    assert_eq!(
        print::console(&value),
        "{\n  \"b\" = [\n    null,\n    \"\\a\\x7f\\u00a0\\u200bé\\U000e0001😀\",\n  ]\n  \"c\" = {}\n}"
    );
    assert_eq!(print::console(&s("a\"b")), "a\"b");
    assert_eq!(print::console(&tuple([Value::dynamic()])), "<unknown>");
}

#[test]
fn leaves_can_be_replaced() {
    let value = object([("a", tuple([s("x"), n("1")])), ("b", s("y"))]);
    let mask = |leaf: &Value| if leaf.as_str().is_some() { s("*") } else { leaf.clone() };
    let masked = value.map_leaves(&mut { mask });
    assert_eq!(masked, object([("a", tuple([s("*"), n("1")])), ("b", s("*"))]));
}

#[test]
fn elements_of_any_type_do_not_become_tuples_of_another_length() {
    let none = Value::list(Type::list(Type::Dynamic), Vec::new());
    let one = Value::set(Type::Bool, vec![Value::bool(false)]);
    let set = Value::set(Type::Dynamic, vec![one, none, Value::dynamic()]);
    assert!(convert(&set, &Type::set(Type::tuple([Type::Dynamic]))).is_err());
}
