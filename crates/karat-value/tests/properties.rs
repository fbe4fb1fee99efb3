//! What holds for conversion, unification, sets and JSON of any values.

use karat_value::{
    Mark, Number, Type, Value, can_convert, convert, json, print, unify, unify_values,
};
use proptest::prelude::*;

fn types() -> impl Strategy<Value = Type> {
    let leaf = prop::sample::select(vec![Type::Dynamic, Type::String, Type::Number, Type::Bool]);
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(Type::list),
            inner.clone().prop_map(Type::set),
            inner.clone().prop_map(Type::map),
            prop::collection::vec(inner.clone(), 0..3).prop_map(Type::tuple),
            prop::collection::btree_map("[ab]", inner, 0..3).prop_map(Type::object),
        ]
    })
}

fn values() -> impl Strategy<Value = Value> {
    let number = |text: &str| Value::number(Number::parse(text).expect("a number"));
    let leaf = prop_oneof![
        prop::sample::select(vec!["", "a", "1", "true", "-0", "é", "\u{7}"])
            .prop_map(Value::string),
        prop::sample::select(vec!["0", "1", "-0", "0.1", "1e30", "1.00000000001"]).prop_map(number),
        any::<bool>().prop_map(Value::bool),
        Just(Value::untyped_null()),
        Just(Value::dynamic()),
        types().prop_map(Value::null),
        types().prop_map(Value::unknown),
        Just(Value::string("s").marked(Mark::Sensitive)),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::tuple),
            prop::collection::btree_map("[abc]", inner.clone(), 0..4).prop_map(Value::object_of),
            (prop::collection::vec(inner.clone(), 0..4), types()).prop_map(|(items, ty)| {
                let tuple = Value::tuple(items);
                convert(&tuple, &Type::list(ty)).unwrap_or(tuple)
            }),
            prop::collection::vec(inner, 0..4).prop_map(|items| {
                let tuple = Value::tuple(items);
                convert(&tuple, &Type::set(Type::Dynamic)).unwrap_or(tuple)
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(4000)
    })]

    #[test]
    fn conversion_gives_what_was_asked_for_and_does_so_once(value in values(), want in types()) {
        if let Ok(found) = convert(&value, &want) {
            prop_assert!(can_convert(value.ty(), &want));
            prop_assert!(found.ty().may_equal(&want), "{found:?} is no {want}");
            prop_assert_eq!(convert(&found, &want), Ok(found.clone()));
            let was = value.deep_marks();
            prop_assert!(was.iter().all(|mark| !value.is_known() || found.deep_marks().contains(mark)
                || !was.is_sensitive()
                || matches!(found.ty(), Type::Object(_))
                || found.is_sensitive()
                || lost_attribute(&value)), "{value:?} to {want} lost its mark: {found:?}");
        }
    }

    #[test]
    fn unified_values_have_one_type(values in prop::collection::vec(values(), 1..4)) {
        let types: Vec<Type> = values.iter().map(|value| value.ty().clone()).collect();
        let found = unify_values(&values, true);
        prop_assert_eq!(found.as_ref().map(|(ty, _)| ty.clone()), unify(&types, true));
        if let Some((ty, Ok(values))) = found {
            prop_assert!(values.iter().all(|value| value.ty().may_equal(&ty)));
        }
        // The order of types does not decide whether there is a common one.
        let mut reversed = types.clone();
        reversed.reverse();
        prop_assert_eq!(unify(&types, false).is_some(), unify(&reversed, false).is_some());
    }

    #[test]
    fn equality_is_symmetric(a in values(), b in values()) {
        prop_assert_eq!(a.equals(&b), b.equals(&a));
        prop_assert_ne!(a.equals(&a), Some(false));
        if a.is_wholly_known() {
            prop_assert_eq!(a.equals(&a), Some(true));
        }
    }

    #[test]
    fn sets_do_not_depend_on_the_order_given(items in prop::collection::vec(values(), 0..5)) {
        let mut reversed = items.clone();
        reversed.reverse();
        let set = |items: Vec<Value>| convert(&Value::tuple(items), &Type::set(Type::Dynamic));
        if let (Ok(a), Ok(b)) = (set(items), set(reversed)) && a.is_wholly_known() {
            prop_assert_eq!(a, b);
        }
    }

    #[test]
    fn json_reads_back(value in values()) {
        let _ = print::console(&value);
        if let Ok(text) = json::to_json(&value) {
            let parsed: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
            let again = json::from_json(&parsed);
            prop_assert_eq!(again.element_count(), value.element_count());
        }
    }
}

/// Conversion of an object may drop attributes, with their marks.
fn lost_attribute(value: &Value) -> bool {
    let inside = |value: &Value| matches!(value.ty(), Type::Object(_)) || lost_attribute(value);
    matches!(value.ty(), Type::Object(_))
        || value.elements().is_some_and(|mut items| items.any(|(_, item)| inside(item)))
}
