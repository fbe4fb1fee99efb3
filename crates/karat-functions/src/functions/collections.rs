//! Functions on maps and objects, and those that take collections of every kind.

use std::collections::BTreeMap;
use std::sync::Arc;

use karat_value::{Data, Facts, Marks, Type, Value, convert, unify};

use crate::args::{Outcome, fail, fail_at, text, whole};
use crate::function::{
    BodyFn, CallContext, Function, FunctionError, Kind, Param, Place, Returns, TypeFn,
};
use crate::text::cluster_count;

/// A function whose result type depends on its arguments.
pub(super) const fn shaped(
    name: &'static str,
    params: &'static [Param],
    returns: TypeFn,
    doc: &'static str,
    examples: &'static [(&'static str, &'static str)],
    body: BodyFn,
) -> Function {
    Function {
        name,
        place: Place::Everywhere,
        doc,
        examples,
        params,
        variadic: None,
        returns: Returns::From(returns),
        not_null: true,
        body,
    }
}

/// A function with a fixed result type.
pub(super) const fn fixed(
    name: &'static str,
    params: &'static [Param],
    returns: Kind,
    doc: &'static str,
    examples: &'static [(&'static str, &'static str)],
    body: BodyFn,
) -> Function {
    Function {
        name,
        place: Place::Everywhere,
        doc,
        examples,
        params,
        variadic: None,
        returns: Returns::Always(returns),
        not_null: true,
        body,
    }
}

/// All functions of this group.
pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        variadic: Some(Param::new("vals", Kind::Any).null().unknown().dynamic()),
        not_null: false,
        ..shaped(
            "coalesce",
            &[],
            coalesce_type,
            "Gives the first argument that is not null and not an empty text, converted to the common type of all.",
            &[("coalesce(\"\", null, \"c\")", "c"), ("coalesce(1, \"a\")", "\"1\"")],
            coalesce,
        )
    },
    shaped(
        "keys",
        &[Param::new("inputMap", Kind::Any).unknown().marked()],
        keys_type,
        "Lists the keys of a map or object in byte order.",
        &[("keys({b = 1, a = 2})", "[\"a\", \"b\"]")],
        keys,
    ),
    fixed(
        "length",
        &[Param::new("value", Kind::Any).dynamic().unknown()],
        Kind::Number,
        "Counts the elements of a collection or the grapheme clusters of a text.",
        &[("length(\"👨‍👩‍👧\")", "1"), ("length([1, 2])", "2")],
        length,
    ),
    Function {
        not_null: false,
        ..shaped(
            "lookup",
            &[
                Param::new("inputMap", Kind::Any).marked(),
                Param::new("key", Kind::String).marked(),
                Param::new("default", Kind::Any).marked(),
            ],
            lookup_type,
            "Gives the element of a map or object, or the default where there is none.",
            &[("lookup({a = 1}, \"b\", 2)", "2")],
            lookup,
        )
    },
    Function {
        variadic: Some(Param::new("maps", Kind::Any).dynamic().null().marked()),
        ..shaped(
            "merge",
            &[],
            merge_type,
            "Merges maps and objects; of equal keys the last wins. Nulls among the arguments are skipped.",
            &[("merge({a = 1}, {b = 2})", "{a = 1, b = 2}")],
            merge,
        )
    },
    shaped(
        "values",
        &[Param::new("mapping", Kind::Any).marked()],
        values_type,
        "Lists the values of a map or object in the order of its keys.",
        &[("values({b = \"x\", a = 2})", "[2, \"x\"]")],
        values,
    ),
    shaped(
        "zipmap",
        &[
            Param::new("keys", Kind::ListOfString).marked(),
            Param::new("values", Kind::Any).marked(),
        ],
        zipmap_type,
        "Makes a map of a list of keys and a list of values, or an object of a list and a tuple.",
        &[("zipmap([\"a\", \"b\"], [1, 2])", "{a = 1, b = 2}")],
        zipmap,
    ),
];

fn coalesce_type(args: &[Value], _: &dyn CallContext) -> Result<Type, FunctionError> {
    let types: Vec<Type> = args.iter().map(|arg| arg.ty().clone()).collect();
    unify(&types, true)
        .ok_or_else(|| FunctionError::new("all arguments must have types that agree"))
}

fn coalesce(args: &[Value], ty: &Type, _: &dyn CallContext) -> Outcome {
    for arg in args {
        // What turns out not to convert is passed over like a null.
        let Ok(arg) = convert(arg, ty) else { continue };
        if !arg.is_known() {
            return Ok(Value::unknown(ty.clone()));
        }
        if arg.is_null() || (*ty == Type::String && arg.as_str() == Some("")) {
            continue;
        }
        return Ok(arg);
    }
    fail("every argument is null or an empty text")
}

/// The attribute types of an object.
fn attributes(ty: &Type) -> Option<&BTreeMap<Arc<str>, Type>> {
    match ty {
        Type::Object(object) => Some(&object.attrs),
        _ => None,
    }
}

fn keys_type(args: &[Value], _: &dyn CallContext) -> Result<Type, FunctionError> {
    match args[0].ty() {
        Type::Map(_) => Ok(Type::list(Type::String)),
        Type::Object(object) => Ok(Type::tuple(vec![Type::String; object.attrs.len()])),
        _ => fail_at(0, "must be a map or an object"),
    }
}

fn keys(args: &[Value], ty: &Type, _: &dyn CallContext) -> Outcome {
    let input = &args[0];
    let result = match attributes(input.ty()) {
        Some(attributes) => {
            Value::tuple(attributes.keys().map(|name| Value::string(name.clone())).collect())
        }
        None => match input.as_map() {
            Some(elements) => Value::string_list(elements.keys().cloned()),
            None => Value::unknown(ty.clone()),
        },
    };
    Ok(result.with_marks(input.marks()))
}

fn length(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    let input = &args[0];
    let count = match input.ty() {
        Type::Tuple(elements) => elements.len(),
        Type::Object(object) => object.attrs.len(),
        Type::Number | Type::Bool => {
            return fail("argument must be a text, a collection, an object or a tuple");
        }
        Type::Set(_) if !input.is_wholly_known() && input.element_count() != Some(1) => {
            // Elements that are not known yet may turn out to be equal.
            return Ok(Value::unknown(Type::Number).knowing(&input.facts().of_length()));
        }
        _ => match input.data() {
            Data::String(text) => cluster_count(text),
            _ => match input.element_count() {
                Some(count) => count,
                None if *input.ty() == Type::String => {
                    let least = cluster_count(&input.facts().prefix);
                    // A text has no greatest length.
                    let facts = Facts { high: None, ..Facts::length(least, None).of_length() };
                    return Ok(Value::unknown(Type::Number).knowing(&facts));
                }
                None => {
                    return Ok(Value::unknown(Type::Number).knowing(&input.facts().of_length()));
                }
            },
        },
    };
    Ok(Value::number(count))
}

fn lookup_type(args: &[Value], _: &dyn CallContext) -> Result<Type, FunctionError> {
    match args[0].ty() {
        Type::Object(object) => {
            let Some(key) = args[1].as_str() else { return Ok(Type::Dynamic) };
            Ok(object.attrs.get(key).unwrap_or(args[2].ty()).clone())
        }
        Type::Map(element) => {
            if convert(&args[2], element).is_err() {
                return fail_at(2, "the default must have the type of the map's elements");
            }
            Ok((**element).clone())
        }
        _ => fail_at(0, "must be a map or an object"),
    }
}

fn lookup(args: &[Value], ty: &Type, _: &dyn CallContext) -> Outcome {
    let (input, key) = (&args[0], &args[1]);
    let mut marks = input.marks().clone();
    marks.merge(key.marks());
    if !input.is_wholly_known() {
        return Ok(Value::unknown(ty.clone()).with_marks(&marks));
    }
    let found = input.as_map().and_then(|elements| elements.get(text(key)));
    let value = match found {
        Some(value) => value.clone(),
        None => {
            convert(&args[2], ty).map_err(|error| FunctionError::argument(2, error.to_string()))?
        }
    };
    Ok(value.with_marks(&marks))
}

fn merge_type(args: &[Value], _: &dyn CallContext) -> Result<Type, FunctionError> {
    let mut attributes: BTreeMap<Arc<str>, Type> = BTreeMap::new();
    let mut all_known = true;
    let mut same = true;
    for (index, arg) in args.iter().enumerate() {
        match arg.ty() {
            Type::Dynamic => return Ok(Type::Dynamic),
            Type::Object(_) if arg.is_null() => {}
            Type::Object(object) => {
                attributes.extend(object.attrs.iter().map(|(name, ty)| (name.clone(), ty.clone())));
            }
            Type::Map(element) => match arg.as_map() {
                Some(elements) => {
                    attributes
                        .extend(elements.keys().map(|key| (key.clone(), (**element).clone())));
                }
                None => all_known &= arg.is_null(),
            },
            other => {
                let message =
                    format!("arguments must be maps or objects, not {}", other.friendly());
                return Err(FunctionError::argument(index, message));
            }
        }
        same &= arg.ty() == args[0].ty();
    }
    match args.first() {
        Some(first) if same => Ok(first.ty().clone()),
        _ if !all_known => Ok(Type::Dynamic),
        _ => Ok(Type::object(attributes)),
    }
}

fn merge(args: &[Value], ty: &Type, _: &dyn CallContext) -> Outcome {
    let mut marks = Marks::NONE;
    let mut merged: BTreeMap<Arc<str>, Value> = BTreeMap::new();
    for (index, arg) in args.iter().enumerate() {
        marks.merge(arg.marks());
        if !arg.is_null() && !arg.ty().is_mapping() {
            // Beside a bare null types are not looked at, and a set of texts is its own keys.
            let items = arg.as_slice().unwrap_or_default();
            let keyed = matches!(arg.ty(), Type::Set(_)) || items.is_empty();
            if !arg.ty().is_sequence() || !keyed || items.iter().any(|i| i.as_str().is_none()) {
                let message =
                    format!("arguments must be maps or objects, not {}", arg.ty().friendly());
                return fail_at(index, message);
            }
            merged.extend(items.iter().map(|item| (text(item).into(), item.clone())));
            continue;
        }
        let elements = arg.as_map().into_iter().flatten();
        merged.extend(elements.map(|(key, value)| (key.clone(), value.clone())));
    }
    if let Type::Object(object) = ty
        && object.attrs.len() != merged.len()
    {
        return fail("an object that is null has no attributes to be merged");
    }
    let result = match ty {
        Type::Map(element) => Value::map((**element).clone(), merged),
        _ => Value::object(merged),
    };
    Ok(result.with_marks(&marks))
}

fn values_type(args: &[Value], _: &dyn CallContext) -> Result<Type, FunctionError> {
    match args[0].ty() {
        Type::Map(element) => Ok(Type::list((**element).clone())),
        Type::Object(object) => Ok(Type::tuple(object.attrs.values().cloned().collect::<Vec<_>>())),
        _ => fail("the argument must be a map or an object"),
    }
}

fn values(args: &[Value], ty: &Type, _: &dyn CallContext) -> Outcome {
    let elements = args[0].as_map().into_iter().flatten();
    let items = elements.map(|(_, value)| value.clone()).collect();
    Ok(sequence(ty, items).with_marks(args[0].marks()))
}

/// A list or tuple of the type that the function's rule gave.
pub(super) fn sequence(ty: &Type, items: Vec<Value>) -> Value {
    match ty {
        Type::List(element) => Value::list((**element).clone(), items),
        Type::Set(element) => Value::set((**element).clone(), items),
        _ => Value::tuple(items),
    }
}

fn zipmap_type(args: &[Value], _: &dyn CallContext) -> Result<Type, FunctionError> {
    match args[1].ty() {
        Type::List(element) => Ok(Type::map((**element).clone())),
        Type::Tuple(elements) => {
            if !args[0].is_wholly_known() {
                return Ok(Type::Dynamic);
            }
            let keys = zip_keys(&args[0], elements.len())?;
            let attributes = keys.into_iter().zip(elements.iter().cloned());
            Ok(Type::object(attributes.collect::<BTreeMap<Arc<str>, Type>>()))
        }
        _ => fail("the values must be a list or a tuple"),
    }
}

fn zip_keys(keys: &Value, values: usize) -> Result<Vec<Arc<str>>, FunctionError> {
    let keys = keys.as_slice().unwrap_or_default();
    if keys.len() != values {
        let message = format!("{} keys do not go with {values} values", keys.len());
        return Err(FunctionError::new(message));
    }
    let known = |(index, key): (usize, &Value)| match key.as_str() {
        Some(key) => Ok(Arc::from(key)),
        None => fail_at(0, format!("the key at index {index} is null")),
    };
    keys.iter().enumerate().map(known).collect()
}

fn zipmap(args: &[Value], ty: &Type, _: &dyn CallContext) -> Outcome {
    let (keys, values) = (&args[0], &args[1]);
    let mut marks = keys.deep_marks();
    marks.merge(values.marks());
    if !keys.is_wholly_known() {
        return Ok(Value::unknown(ty.clone()).with_marks(&marks));
    }
    let items = values.as_slice().unwrap_or_default();
    let keys = zip_keys(keys, items.len())?;
    let zipped = keys.into_iter().zip(items.iter().cloned()).collect();
    let result = match ty {
        Type::Map(element) => Value::map((**element).clone(), zipped),
        _ => Value::object(zipped),
    };
    Ok(result.with_marks(&marks))
}

/// A whole number that counts or points into something.
pub(super) fn index_of(arg: &Value, what: &str, position: usize) -> Result<i64, FunctionError> {
    whole(arg).map_err(|error| {
        FunctionError::argument(position, format!("invalid {what}: {}", error.message))
    })
}
