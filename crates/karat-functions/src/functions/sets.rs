//! Functions on sets.

use std::collections::HashMap;

use karat_value::{Marks, Type, Value, convert, unify};

use super::collections::{sequence, shaped};
use super::lists::MAX_ELEMENTS;
use crate::args::{Outcome, fail, fail_at};
use crate::function::{CallContext, Function, FunctionError, Kind, Param};

const FIRST: Param = Param::new("first_set", Kind::SetOfAny).dynamic();
const OTHERS: Param = Param::new("other_sets", Kind::SetOfAny).dynamic();

/// All functions of this group.
pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        variadic: Some(OTHERS),
        ..shaped(
            "setintersection",
            &[FIRST],
            operation_type,
            "Gives the elements that all sets hold.",
            &[("setintersection([\"a\", \"b\"], [\"b\", \"c\"])", "[\"b\"]")],
            intersection,
        )
    },
    Function {
        variadic: Some(Param::new("sets", Kind::Any).marked().unknown()),
        ..shaped(
            "setproduct",
            &[],
            product_type,
            "Combines every element of each argument with every one of the others. Lists give a list of tuples; with a set among the arguments the result is a set.",
            &[("setproduct([\"a\", \"b\"], [1])", "[[\"a\", 1], [\"b\", 1]]")],
            product,
        )
    },
    Function {
        variadic: Some(OTHERS),
        ..shaped(
            "setunion",
            &[FIRST],
            operation_type,
            "Gives the elements that any of the sets holds.",
            &[("setunion([\"a\"], [\"b\"])", "[\"a\", \"b\"]")],
            union,
        )
    },
];

fn operation_type(args: &[Value], _: &dyn CallContext) -> Result<Type, FunctionError> {
    let mut elements = Vec::new();
    for arg in args {
        let Type::Set(element) = arg.ty() else { return Ok(Type::Dynamic) };
        // An empty tuple says nothing of the type.
        if **element == Type::Dynamic && arg.element_count() == Some(0) {
            continue;
        }
        elements.push((**element).clone());
    }
    if elements.is_empty() {
        return Ok(Type::set(Type::Dynamic));
    }
    unify(&elements, true)
        .map(Type::set)
        .ok_or_else(|| FunctionError::new("the sets must have element types that agree"))
}

/// A set of nulls alone has no type that could agree with that of lists or maps.
fn agree(args: &[Value], ty: &Type) -> Result<(), FunctionError> {
    let open = |ty: &Type| ty.element() == Some(&Type::Dynamic);
    if open(ty) && args.iter().any(|arg| !open(arg.ty()) && arg.element_count() != Some(0)) {
        return fail("the sets must have element types that agree");
    }
    Ok(())
}

/// The sets with elements of the common type; `None` when one is not wholly known.
fn converted(args: &[Value], ty: &Type) -> Result<Option<Vec<Value>>, FunctionError> {
    let mut sets = Vec::with_capacity(args.len());
    for (index, arg) in args.iter().enumerate() {
        let set =
            convert(arg, ty).map_err(|error| FunctionError::argument(index, error.to_string()))?;
        if !set.is_wholly_known() {
            return Ok(None);
        }
        sets.push(set);
    }
    Ok(Some(sets))
}

fn union(args: &[Value], ty: &Type, _: &dyn CallContext) -> Outcome {
    agree(args, ty)?;
    let mut all = Vec::new();
    for (index, arg) in args.iter().enumerate() {
        let set =
            convert(arg, ty).map_err(|error| FunctionError::argument(index, error.to_string()))?;
        all.extend(set.as_slice().unwrap_or_default().iter().cloned());
    }
    Ok(sequence(ty, all))
}

fn intersection(args: &[Value], ty: &Type, _: &dyn CallContext) -> Outcome {
    let Some(sets) = converted(args, ty)? else { return Ok(Value::unknown(ty.clone())) };
    agree(args, ty)?;
    let mut shared: Vec<Value> =
        sets.first().and_then(Value::as_slice).unwrap_or_default().to_vec();
    for set in sets.iter().skip(1) {
        let mut others: HashMap<Vec<u8>, Vec<&Value>> = HashMap::new();
        for item in set.as_slice().unwrap_or_default() {
            others.entry(item.likeness()).or_default().push(item);
        }
        shared.retain(|item| others.get(&item.likeness()).is_some_and(|o| o.contains(&item)));
    }
    Ok(sequence(ty, shared))
}

fn product_type(args: &[Value], _: &dyn CallContext) -> Result<Type, FunctionError> {
    if args.len() < 2 {
        return fail("at least two arguments are required");
    }
    let mut elements = Vec::with_capacity(args.len());
    let mut set = false;
    for (index, arg) in args.iter().enumerate() {
        elements.push(match arg.ty() {
            Type::Set(element) => {
                set = true;
                (**element).clone()
            }
            Type::List(element) => (**element).clone(),
            Type::Tuple(types) if types.is_empty() => Type::Dynamic,
            Type::Tuple(types) => match unify(types, true) {
                Some(common) => common,
                None => return fail_at(index, "all elements must have types that agree"),
            },
            _ => return fail_at(index, "must be a set, a list or a tuple"),
        });
    }
    let tuple = Type::tuple(elements);
    Ok(if set { Type::set(tuple) } else { Type::list(tuple) })
}

fn product(args: &[Value], ty: &Type, _: &dyn CallContext) -> Outcome {
    let mut marks = Marks::NONE;
    args.iter().for_each(|arg| marks.merge(arg.marks()));
    let Some(lists) = args.iter().map(Value::as_slice).collect::<Option<Vec<_>>>() else {
        return Ok(Value::unknown(ty.clone()).with_marks(&marks));
    };
    let open_set = |arg: &&Value| matches!(arg.ty(), Type::Set(_)) && !arg.is_wholly_known();
    if args.iter().any(|arg| open_set(&arg) && arg.element_count() != Some(1)) {
        return Ok(Value::unknown(ty.clone()).with_marks(&marks));
    }
    let total = lists
        .iter()
        .try_fold(1_usize, |total, list| total.checked_mul(list.len()))
        .filter(|total| total.saturating_mul(args.len()) <= MAX_ELEMENTS);
    let Some(total) = total else {
        return fail(format!("the product has more than {MAX_ELEMENTS} elements"));
    };
    let Some(Type::Tuple(types)) = ty.element() else { return fail("the result is no product") };
    let mut columns: Vec<Vec<Value>> = Vec::with_capacity(lists.len());
    for (index, (list, ty)) in lists.iter().zip(types.iter()).enumerate() {
        let column = list.iter().map(|item| {
            convert(item, ty).map_err(|error| FunctionError::argument(index, error.to_string()))
        });
        columns.push(column.collect::<Result<_, _>>()?);
    }
    let mut rows = Vec::with_capacity(total);
    for number in 0..total {
        let mut rest = number;
        let mut row: Vec<Value> = columns
            .iter()
            .rev()
            .map(|column| {
                let item = column[rest % column.len()].clone();
                rest /= column.len();
                item
            })
            .collect();
        row.reverse();
        rows.push(Value::tuple(row));
    }
    Ok(sequence(ty, rows).with_marks(&marks))
}
