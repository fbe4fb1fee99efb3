//! Functions on numbers.

use karat_value::{Number, Type, Value, convert};

use super::collections::fixed;
use crate::args::{Outcome, fail, fail_at, text, whole, whole_at};
use crate::floats::{ln, pow};
use crate::function::{CallContext, Function, FunctionError, Kind, Param, Returns};

const NUM: Param = Param::new("num", Kind::Number);
const NUMBERS: Param = Param::new("numbers", Kind::Number).dynamic();

/// All functions of this group.
pub(crate) const FUNCTIONS: &[Function] = &[
    fixed(
        "abs",
        &[NUM.dynamic()],
        Kind::Number,
        "Takes away the sign of a number.",
        &[("abs(-1.5)", "1.5")],
        |args, _, _| Ok(Value::number(number(&args[0]).abs())),
    ),
    fixed(
        "ceil",
        &[NUM],
        Kind::Number,
        "Rounds up to a whole number.",
        &[("ceil(1.1)", "2")],
        |args, _, _| Ok(Value::number(rounded(number(&args[0]), Number::ceil))),
    ),
    fixed(
        "floor",
        &[NUM],
        Kind::Number,
        "Rounds down to a whole number.",
        &[("floor(-1.1)", "-2")],
        |args, _, _| Ok(Value::number(rounded(number(&args[0]), Number::floor))),
    ),
    fixed(
        "log",
        &[NUM, Param::new("base", Kind::Number)],
        Kind::Number,
        "Gives the logarithm of a number, with the precision of 64-bit floats.",
        &[("log(100, 10)", "2")],
        |args, _, _| floats(args, |num, base| ln(num) / ln(base)),
    ),
    Function {
        variadic: Some(NUMBERS),
        ..fixed(
            "max",
            &[],
            Kind::Number,
            "Gives the greatest of its arguments.",
            &[("max(1, 3, 2)", "3")],
            |args, _, _| best(args, |next, best| next > best),
        )
    },
    Function {
        variadic: Some(NUMBERS),
        ..fixed(
            "min",
            &[],
            Kind::Number,
            "Gives the least of its arguments.",
            &[("min(1, 3, 2)", "1")],
            |args, _, _| best(args, |next, best| next < best),
        )
    },
    Function {
        returns: Returns::From(parseint_type),
        ..fixed(
            "parseint",
            &[Param::new("number", Kind::Any), Param::new("base", Kind::Number)],
            Kind::Number,
            "Reads a whole number in a base from 2 to 62. Above 36 small letters come before capitals.",
            &[("parseint(\"ff\", 16)", "255")],
            parseint,
        )
    },
    fixed(
        "pow",
        &[NUM, Param::new("power", Kind::Number)],
        Kind::Number,
        "Raises a number to a power, with the precision of 64-bit floats.",
        &[("pow(2, 3)", "8")],
        |args, _, _| floats(args, pow),
    ),
    fixed(
        "signum",
        &[NUM],
        Kind::Number,
        "Gives -1, 0 or 1 for the sign of a whole number.",
        &[("signum(-5)", "-1")],
        |args, _, _| Ok(Value::number(whole(&args[0])?.signum())),
    ),
    fixed(
        "sum",
        &[Param::new("list", Kind::Any)],
        Kind::Number,
        "Adds up the numbers of a list, tuple or set that is not empty.",
        &[("sum([1, \"2\"])", "3")],
        sum,
    ),
];

fn number(arg: &Value) -> &Number {
    const ZERO: &Number = &Number::ZERO;
    arg.as_number().unwrap_or(ZERO)
}

/// Rounds and keeps the precision, which later divisions show.
fn rounded(number: &Number, round: fn(&Number) -> Number) -> Number {
    let result = round(number);
    match number.sub(number) {
        // A zero of the old precision.
        Ok(zero) if !result.is_zero() => result.add(&zero).unwrap_or(result),
        _ => result,
    }
}

fn floats(args: &[Value], compute: fn(f64, f64) -> f64) -> Result<Value, FunctionError> {
    let float = |index: usize| {
        let exact = number(&args[index]);
        let float = exact.to_f64();
        if float.is_infinite() && !exact.is_infinite() {
            return fail_at(index, "the number is out of the range of 64-bit floats");
        }
        Ok(float)
    };
    let result = compute(float(0)?, float(1)?);
    match Number::from_f64(result) {
        Ok(number) => Ok(Value::number(number)),
        Err(_) => fail("the result is not a number"),
    }
}

fn best(args: &[Value], better: fn(&Number, &Number) -> bool) -> Outcome {
    let mut numbers = args.iter().map(number);
    let Some(mut best) = numbers.next() else { return fail("at least one number is required") };
    for next in numbers {
        if better(next, best) {
            best = next;
        }
    }
    Ok(Value::number(best.clone()))
}

fn parseint_type(args: &[Value], _: &dyn CallContext) -> Result<Type, FunctionError> {
    if *args[0].ty() != Type::String {
        return fail_at(0, format!("must be text, not {}", args[0].ty().friendly()));
    }
    Ok(Type::Number)
}

fn parseint(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    let base = whole_at(args, 1)?;
    let Some(radix) = u32::try_from(base).ok().filter(|base| (2..=62).contains(base)) else {
        return fail_at(1, "the base must be a whole number between 2 and 62");
    };
    match Number::parse_radix(text(&args[0]), radix) {
        Ok(number) => Ok(Value::number(number)),
        Err(_) => fail_at(0, format!("{:?} is no whole number in base {base}", text(&args[0]))),
    }
}

fn sum(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    let list = &args[0];
    if !list.ty().is_sequence() {
        let message = format!("must be a list, a set or a tuple, not {}", list.ty().friendly());
        return fail_at(0, message);
    }
    let items = list.as_slice().unwrap_or_default();
    if items.is_empty() {
        return fail_at(0, "an empty list has no sum");
    }
    if !list.is_wholly_known() {
        return Ok(Value::unknown(Type::Number));
    }
    let mut total: Option<Number> = None;
    for (index, item) in items.iter().enumerate() {
        let item = match convert(item, &Type::Number) {
            Ok(item) if !item.is_null() => item,
            _ => return fail_at(0, format!("element {index} is not a number")),
        };
        let item = number(&item);
        total = Some(match total {
            None => item.clone(),
            Some(total) => {
                total.add(item).map_err(|error| FunctionError::new(error.to_string()))?
            }
        });
    }
    Ok(Value::number(total.unwrap_or(Number::ZERO)))
}
