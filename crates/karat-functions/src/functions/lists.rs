//! Functions on lists and tuples.

use std::collections::HashMap;

use karat_value::{Facts, Marks, Type, Value, convert, unify};

use super::collections::{fixed, index_of, sequence, shaped};
use crate::args::{Outcome, fail, fail_at};
use crate::function::{CallContext, Function, FunctionError, Kind, Param};

/// The most elements a function makes out of fewer.
pub(crate) const MAX_ELEMENTS: usize = 1 << 20;
/// The most elements that `range` makes.
const MAX_RANGE: usize = 1024;

const LIST: Param = Param::new("list", Kind::Any);

/// All functions of this group.
pub(crate) const FUNCTIONS: &[Function] = &[
    fixed(
        "alltrue",
        &[Param::new("list", Kind::ListOfBool)],
        Kind::Bool,
        "Tells whether all elements are true; a null is not. True for an empty list.",
        &[("alltrue([true, \"true\"])", "true")],
        alltrue,
    ),
    fixed(
        "anytrue",
        &[Param::new("list", Kind::ListOfBool)],
        Kind::Bool,
        "Tells whether any element is true. False for an empty list.",
        &[("anytrue([false, true])", "true")],
        anytrue,
    ),
    shaped(
        "chunklist",
        &[Param::new("list", Kind::ListOfAny).marked(), Param::new("size", Kind::Number).marked()],
        |args, _| Ok(Type::list(args[0].ty().clone())),
        "Cuts a list into lists of at most the given size; size 0 gives one.",
        &[("chunklist([1, 2, 3], 2)", "[[1, 2], [3]]")],
        chunklist,
    ),
    Function {
        variadic: Some(Param::new("vals", Kind::Any).null().unknown().dynamic()),
        ..shaped(
            "coalescelist",
            &[],
            coalescelist_type,
            "Gives the first list or tuple that is not null and not empty.",
            &[("coalescelist([], [3])", "[3]")],
            coalescelist,
        )
    },
    fixed(
        "compact",
        &[Param::new("list", Kind::ListOfString)],
        Kind::ListOfString,
        "Removes nulls and empty texts from a list of texts.",
        &[("compact([\"a\", \"\", null, \"b\"])", "[\"a\", \"b\"]")],
        compact,
    ),
    Function {
        variadic: Some(Param::new("seqs", Kind::Any).marked()),
        ..shaped(
            "concat",
            &[],
            concat_type,
            "Joins lists and tuples into one.",
            &[("concat([1], [\"a\"])", "[1, \"a\"]")],
            concat,
        )
    },
    fixed(
        "contains",
        &[LIST, Param::new("value", Kind::Any)],
        Kind::Bool,
        "Tells whether a list, tuple or set holds a value. Nothing is converted.",
        &[("contains([\"a\"], \"a\")", "true"), ("contains([\"1\"], 1)", "false")],
        contains,
    ),
    shaped(
        "distinct",
        &[Param::new("list", Kind::ListOfAny)],
        |args, _| Ok(args[0].ty().clone()),
        "Removes all but the first of equal elements.",
        &[("distinct([\"a\", \"b\", \"a\"])", "[\"a\", \"b\"]")],
        distinct,
    ),
    Function {
        not_null: false,
        ..shaped(
            "element",
            &[LIST.marked(), Param::new("index", Kind::Number)],
            element_type,
            "Gives the element at an index, counted round and round.",
            &[("element([\"a\", \"b\"], 3)", "b")],
            element,
        )
    },
    shaped(
        "flatten",
        &[LIST.marked()],
        flatten_type,
        "Puts the elements of lists within lists into one tuple. Maps are left as they are.",
        &[("flatten([1, [2, [3]]])", "[1, 2, 3]")],
        flatten,
    ),
    fixed(
        "index",
        &[LIST, Param::new("value", Kind::Any)],
        Kind::Number,
        "Finds the position of a value in a list or tuple. Nothing is converted.",
        &[("index([\"a\", \"b\"], \"b\")", "1")],
        index,
    ),
    Function {
        variadic: Some(Param::new("params", Kind::Number)),
        ..fixed(
            "range",
            &[],
            Kind::ListOfNumber,
            "Counts from a start (0) to a limit, without it, in steps (1 or -1). At most 1024 numbers.",
            &[
                ("range(3)", "[0, 1, 2]"),
                ("range(4, 1)", "[4, 3, 2]"),
                ("range(0, 1, 0.5)", "[0, 0.5]"),
            ],
            range,
        )
    },
    shaped(
        "reverse",
        &[LIST.marked()],
        reverse_type,
        "Reverses a list, tuple or set.",
        &[("reverse([1, 2])", "[2, 1]")],
        reverse,
    ),
    shaped(
        "slice",
        &[
            LIST.marked(),
            Param::new("start_index", Kind::Number),
            Param::new("end_index", Kind::Number),
        ],
        slice_type,
        "Takes the elements from one index up to, without, another.",
        &[("slice([\"a\", \"b\", \"c\"], 1, 2)", "[\"b\"]")],
        slice,
    ),
    fixed(
        "sort",
        &[Param::new("list", Kind::ListOfString).unknown()],
        Kind::ListOfString,
        "Sorts texts by their bytes. Other elements become texts first.",
        &[("sort([10, 9])", "[\"10\", \"9\"]")],
        sort,
    ),
];

fn items(value: &Value) -> &[Value] {
    value.as_slice().unwrap_or_default()
}

/// Are two values equal? `None` while that is not known.
fn same(a: &Value, b: &Value) -> Option<bool> {
    a.equals(b)
}

fn alltrue(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    for item in items(&args[0]) {
        if !item.is_known() {
            return Ok(Value::unknown(Type::Bool));
        }
        if item.as_bool() != Some(true) {
            return Ok(Value::bool(false));
        }
    }
    Ok(Value::bool(true))
}

fn anytrue(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    let items = items(&args[0]);
    if items.iter().any(|item| item.as_bool() == Some(true)) {
        return Ok(Value::bool(true));
    }
    let open = items.iter().any(|item| !item.is_known());
    Ok(if open { Value::unknown(Type::Bool) } else { Value::bool(false) })
}

fn chunklist(args: &[Value], ty: &Type, _: &dyn CallContext) -> Outcome {
    let (list, size) = (&args[0], &args[1]);
    let mut marks = list.marks().clone();
    marks.merge(size.marks());
    let size = index_of(size, "size", 1)?;
    let Ok(size) = usize::try_from(size) else {
        return fail_at(1, "the size must not be negative");
    };
    let elements = items(list);
    let inner = list.ty();
    let chunks = if elements.is_empty() {
        Vec::new()
    } else if size == 0 {
        vec![list.clone().unmark().0]
    } else {
        elements.chunks(size).map(|chunk| sequence(inner, chunk.to_vec())).collect()
    };
    Ok(sequence(ty, chunks).with_marks(&marks))
}

fn coalescelist_type(args: &[Value], _: &dyn CallContext) -> Result<Type, FunctionError> {
    let Some(first) = args.first() else { return fail("at least one argument is required") };
    for (index, arg) in args.iter().enumerate() {
        if !arg.is_known() {
            return Ok(Type::Dynamic);
        }
        if !matches!(arg.ty(), Type::List(_) | Type::Tuple(_)) {
            return fail_at(index, "must be a list or a tuple");
        }
    }
    let same = args.iter().all(|arg| arg.ty() == first.ty());
    Ok(if same { first.ty().clone() } else { Type::Dynamic })
}

fn coalescelist(args: &[Value], ty: &Type, _: &dyn CallContext) -> Outcome {
    for arg in args {
        if !arg.is_known() {
            return Ok(Value::unknown(ty.clone()));
        }
        if !items(arg).is_empty() {
            return Ok(arg.clone());
        }
    }
    fail("every argument is null or empty")
}

fn compact(args: &[Value], ty: &Type, _: &dyn CallContext) -> Outcome {
    if !args[0].is_wholly_known() {
        return Ok(Value::unknown(ty.clone()));
    }
    let kept = items(&args[0])
        .iter()
        .filter(|item| item.as_str().is_some_and(|text| !text.is_empty()))
        .cloned();
    Ok(sequence(ty, kept.collect()))
}

fn concat_type(args: &[Value], _: &dyn CallContext) -> Result<Type, FunctionError> {
    if args.is_empty() {
        return fail("at least one argument is required");
    }
    if args.iter().all(|arg| matches!(arg.ty(), Type::List(_))) {
        let types: Vec<Type> = args.iter().map(|arg| arg.ty().clone()).collect();
        if let Some(common) = unify(&types, true) {
            return Ok(common);
        }
    }
    let mut elements = Vec::new();
    for (index, arg) in args.iter().enumerate() {
        match arg.ty() {
            Type::Tuple(types) => elements.extend(types.iter().cloned()),
            Type::List(element) => match arg.element_count() {
                Some(count) => elements.extend(std::iter::repeat_n((**element).clone(), count)),
                None => return Ok(Type::Dynamic),
            },
            other => {
                let message = format!("must be a list or a tuple, not {}", other.friendly());
                return fail_at(index, message);
            }
        }
    }
    Ok(Type::tuple(elements))
}

fn concat(args: &[Value], ty: &Type, _: &dyn CallContext) -> Outcome {
    let mut marks = Marks::NONE;
    let mut joined = Vec::new();
    for (index, arg) in args.iter().enumerate() {
        let arg = match ty {
            Type::List(_) => convert(arg, ty)
                .map_err(|error| FunctionError::argument(index, error.to_string()))?,
            _ => arg.clone(),
        };
        marks.merge(arg.marks());
        joined.extend(items(&arg).iter().cloned());
    }
    Ok(sequence(ty, joined).with_marks(&marks))
}

fn contains(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    let list = &args[0];
    if !list.ty().is_sequence() {
        return fail_at(0, "must be a list, a tuple or a set");
    }
    let mut open = false;
    for item in items(list) {
        match same(&args[1], item) {
            Some(true) => return Ok(Value::bool(true)),
            Some(false) => {}
            None => open = true,
        }
    }
    Ok(if open { Value::unknown(Type::Bool) } else { Value::bool(false) })
}

fn distinct(args: &[Value], ty: &Type, _: &dyn CallContext) -> Outcome {
    if !args[0].is_wholly_known() {
        return Ok(Value::unknown(ty.clone()));
    }
    let all = items(&args[0]);
    let mut kept: Vec<Value> = Vec::new();
    // Comparing each to each is slow in long lists.
    let mut alike: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
    for item in all {
        let group = alike.entry(item.likeness()).or_default();
        if !group.iter().any(|other| same(&kept[*other], item) == Some(true)) {
            group.push(kept.len());
            kept.push(item.clone());
        }
    }
    Ok(sequence(ty, kept))
}

/// The index that `element` means in a sequence of this length.
fn wrapped(index: &Value, length: usize) -> Result<usize, FunctionError> {
    if index.as_number().is_some_and(|number| number.is_sign_negative() && !number.is_zero()) {
        return fail_at(1, "the index must not be negative");
    }
    let index = index_of(index, "index", 1)?;
    if length == 0 {
        return fail("an empty list has no elements");
    }
    Ok((index as u64 % length as u64) as usize)
}

fn element_type(args: &[Value], _: &dyn CallContext) -> Result<Type, FunctionError> {
    match args[0].ty() {
        Type::List(element) => Ok((**element).clone()),
        Type::Tuple(elements) => {
            if !args[1].is_known() {
                return Ok(Type::Dynamic);
            }
            let index = wrapped(&args[1], elements.len())?;
            Ok(elements[index].clone())
        }
        other => fail(format!("cannot take elements of {}", other.friendly())),
    }
}

fn element(args: &[Value], ty: &Type, _: &dyn CallContext) -> Outcome {
    let list = &args[0];
    let Some(items) = list.as_slice() else {
        return Ok(Value::unknown(ty.clone()).with_marks(list.marks()));
    };
    let index = wrapped(&args[1], items.len())?;
    Ok(items[index].clone().with_marks(list.marks()))
}

/// Walks lists within lists. False when something on the way is not known.
fn flatten_into(list: &Value, out: &mut Vec<Value>, marks: &mut Marks) -> bool {
    marks.merge(list.marks());
    let Some(elements) = list.as_slice() else { return false };
    let mut known = true;
    for item in elements {
        if *item.ty() == Type::Dynamic && !item.is_known() {
            known = false;
        }
        if item.ty().is_sequence() && !item.is_null() {
            known &= flatten_into(item, out, marks);
        } else {
            out.push(item.clone());
        }
    }
    known
}

fn flatten_type(args: &[Value], _: &dyn CallContext) -> Result<Type, FunctionError> {
    if !args[0].is_wholly_known() {
        return Ok(Type::Dynamic);
    }
    if !args[0].ty().is_sequence() {
        return fail("only lists, tuples and sets can be flattened");
    }
    let mut flat = Vec::new();
    flatten_into(&args[0], &mut flat, &mut Marks::default());
    Ok(Type::tuple(flat.iter().map(|item| item.ty().clone()).collect::<Vec<_>>()))
}

fn flatten(args: &[Value], ty: &Type, _: &dyn CallContext) -> Outcome {
    let mut flat = Vec::new();
    let mut marks = Marks::NONE;
    let known = flatten_into(&args[0], &mut flat, &mut marks);
    let result = if known { Value::tuple(flat) } else { Value::unknown(ty.clone()) };
    Ok(result.with_marks(&marks))
}

fn index(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    let list = &args[0];
    if !matches!(list.ty(), Type::List(_) | Type::Tuple(_)) {
        return fail("the first argument must be a list or a tuple");
    }
    let elements = items(list);
    if elements.is_empty() {
        return fail("an empty list holds nothing to find");
    }
    for (position, item) in elements.iter().enumerate() {
        match same(item, &args[1]) {
            Some(true) => return Ok(Value::number(position)),
            Some(false) => {}
            None => return Ok(Value::unknown(Type::Number)),
        }
    }
    fail("the list does not hold this value")
}

fn range(args: &[Value], ty: &Type, _: &dyn CallContext) -> Outcome {
    use karat_value::Number;
    let numbers: Vec<Number> = args.iter().filter_map(|arg| arg.as_number().cloned()).collect();
    let zero = Number::from(0_i64);
    let unit = |down: bool| Number::from(if down { -1_i64 } else { 1 });
    let (start, end, step) = match numbers.as_slice() {
        [end] => (zero.clone(), end.clone(), unit(*end < zero)),
        [start, end] => (start.clone(), end.clone(), unit(end < start)),
        [start, end, step] => (start.clone(), end.clone(), step.clone()),
        _ => return fail("one, two or three arguments are needed"),
    };
    if step == zero && start != end {
        return fail_at(2, "the step must not be zero");
    }
    let down = step < zero;
    if down && end > start {
        return fail_at(1, "the limit must be less than the start when the step is negative");
    }
    if !down && end < start {
        return fail_at(1, "the limit must be greater than the start when the step is positive");
    }
    let mut counted = Vec::new();
    let mut next = start;
    while if down { next > end } else { next < end } {
        if counted.len() >= MAX_RANGE {
            return fail(format!(
                "more than {MAX_RANGE} numbers; bring the limits together or widen the step"
            ));
        }
        counted.push(Value::number(next.clone()));
        next = next.add(&step).map_err(|error| FunctionError::new(error.to_string()))?;
    }
    Ok(sequence(ty, counted))
}

fn reverse_type(args: &[Value], _: &dyn CallContext) -> Result<Type, FunctionError> {
    match args[0].ty() {
        Type::Tuple(elements) => {
            Ok(Type::tuple(elements.iter().rev().cloned().collect::<Vec<_>>()))
        }
        Type::List(element) | Type::Set(element) => Ok(Type::list((**element).clone())),
        other => fail_at(0, format!("must be a list or a tuple, not {}", other.friendly())),
    }
}

fn reverse(args: &[Value], ty: &Type, _: &dyn CallContext) -> Outcome {
    let reversed = items(&args[0]).iter().rev().cloned().collect();
    Ok(sequence(ty, reversed).with_marks(args[0].marks()))
}

/// The limits of a slice as far as they are known, checked against the length.
fn slice_limits(args: &[Value]) -> Result<Option<(usize, usize)>, FunctionError> {
    let length = match args[0].ty() {
        Type::Tuple(elements) => Some(elements.len()),
        _ => args[0].element_count(),
    };
    let mut limits = [None, None];
    for (position, what) in [(1, "start index"), (2, "end index")] {
        if !args[position].is_known() {
            continue;
        }
        let index = index_of(&args[position], what, position)?;
        let Ok(index) = usize::try_from(index) else {
            return fail_at(position, format!("the {what} must not be negative"));
        };
        if length.is_some_and(|length| index > length) {
            return fail_at(position, format!("the {what} is greater than the length of the list"));
        }
        limits[position - 1] = Some(index);
    }
    let [Some(start), Some(end)] = limits else { return Ok(None) };
    if start > end {
        return fail_at(1, "the start index is greater than the end index");
    }
    Ok(Some((start, end)))
}

fn slice_type(args: &[Value], _: &dyn CallContext) -> Result<Type, FunctionError> {
    match args[0].ty() {
        Type::Set(_) => fail_at(0, "a set has no indexes; convert it to a list first"),
        ty @ Type::List(_) => slice_limits(args).map(|_| ty.clone()),
        Type::Tuple(elements) => Ok(match slice_limits(args)? {
            Some((start, end)) => Type::tuple(elements[start..end].to_vec()),
            None => Type::Dynamic,
        }),
        _ => fail_at(0, "must be a list or a tuple"),
    }
}

fn slice(args: &[Value], ty: &Type, _: &dyn CallContext) -> Outcome {
    let marks = args[0].marks();
    let (Some((start, end)), Some(elements)) = (slice_limits(args)?, args[0].as_slice()) else {
        return Ok(Value::unknown(ty.clone()).with_marks(marks));
    };
    Ok(sequence(ty, elements[start..end].to_vec()).with_marks(marks))
}

fn sort(args: &[Value], ty: &Type, _: &dyn CallContext) -> Outcome {
    if !args[0].is_wholly_known() {
        let facts = args[0].facts();
        let facts = Facts::length(facts.min_length, facts.max_length);
        return Ok(Value::unknown(ty.clone()).knowing(&facts));
    }
    let mut sorted = items(&args[0]).to_vec();
    if let Some(index) = sorted.iter().position(Value::is_null) {
        return fail(format!("element {index} is null; null cannot be sorted"));
    }
    sorted.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    Ok(sequence(ty, sorted))
}
