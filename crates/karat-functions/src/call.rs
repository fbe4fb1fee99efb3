//! Calling a function: what holds for all of them.

use karat_value::{Facts, Marks, Type, Value, convert};

use crate::function::{CallContext, Function, FunctionError, Kind, Param, Returns};

impl Kind {
    /// The type itself.
    #[must_use]
    pub fn ty(self) -> Type {
        match self {
            Self::String => Type::String,
            Self::Number => Type::Number,
            Self::Bool => Type::Bool,
            Self::Any => Type::Dynamic,
            Self::ListOfString => Type::list(Type::String),
            Self::ListOfBool => Type::list(Type::Bool),
            Self::ListOfAny => Type::list(Type::Dynamic),
            Self::SetOfString => Type::set(Type::String),
            Self::SetOfAny => Type::set(Type::Dynamic),
            Self::ListOfNumber => Type::list(Type::Number),
        }
    }
}

/// Calls a function with values as an expression gives them.
///
/// For every argument, in order, once all are converted:
/// 1. it is converted to the type of its parameter ([`Kind::Any`] takes all as they are);
/// 2. marks are taken off at any depth, to be put on the result, unless the parameter
///    allows marked values;
/// 3. null is an error, unless the parameter allows null;
/// 4. a value of unknown type (a bare `null` included) makes the whole result unknown
///    and of unknown type, unless the parameter allows dynamic values;
/// 5. an unknown value makes the result an unknown value of the type that the function's
///    type rule gives, unless the parameter allows unknown values. A known collection
///    that holds unknown values counts as known: bodies deal with that.
///
/// # Errors
/// A wrong number of arguments, an argument that does not fit, or what the function
/// itself finds wrong. [`FunctionError::argument`] says which argument, if one.
pub fn call(
    function: &Function,
    args: &[Value],
    cx: &dyn CallContext,
) -> Result<Value, FunctionError> {
    check_count(function, args.len())?;
    let mut converted = Vec::with_capacity(args.len());
    for (index, (arg, param)) in args.iter().zip(params(function)).enumerate() {
        converted.push(match param.kind {
            Kind::Any => arg.clone(),
            kind => convert(arg, &kind.ty())
                .map_err(|error| FunctionError::argument(index, error.to_string()))?,
        });
    }
    let mut prepared = Vec::with_capacity(args.len());
    let mut marks = Marks::NONE;
    let mut unknown = false;
    let mut dynamic = false;
    for (index, (arg, param)) in converted.into_iter().zip(params(function)).enumerate() {
        let arg = if param.allow_marked {
            arg
        } else {
            let (arg, found) = arg.unmark_deep();
            marks.merge(&found);
            arg
        };
        // After an argument of unknown type, nothing is said about the others.
        if arg.is_null() && !param.allow_null && !dynamic {
            return Err(FunctionError::argument(index, "argument must not be null"));
        }
        dynamic |= *arg.ty() == Type::Dynamic && !param.allow_dynamic;
        unknown |= !arg.is_known() && !param.allow_unknown;
        prepared.push(arg);
    }
    if dynamic {
        return Ok(Value::dynamic().with_marks(&marks));
    }
    let ty = match function.returns {
        Returns::Always(kind) => kind.ty(),
        Returns::From(rule) => rule(&prepared, cx)?,
    };
    let facts = if function.not_null { Facts::not_null() } else { Facts::default() };
    if unknown {
        return Ok(Value::unknown(ty).knowing(&facts).with_marks(&marks));
    }
    let result = (function.body)(&prepared, &ty, cx)?;
    Ok(result.knowing(&facts).with_marks(&marks))
}

/// The parameter of every argument that may come.
fn params(function: &Function) -> impl Iterator<Item = Param> {
    let rest = function.variadic.into_iter().cycle();
    function.params.iter().copied().chain(rest)
}

/// Checks that the number of arguments is one that the function takes.
///
/// # Errors
/// How many it takes, and the name of the first that is missing.
pub fn check_count(function: &Function, given: usize) -> Result<(), FunctionError> {
    let required = function.params.len();
    let name = function.name;
    if given < required {
        let at_least = if function.variadic.is_some() { "at least " } else { "" };
        let missing = function.params[given].name;
        return Err(FunctionError::new(format!(
            "{name} takes {at_least}{required} argument(s), but {given} given: {missing:?} is missing"
        )));
    }
    if given > required && function.variadic.is_none() {
        return Err(FunctionError::new(format!(
            "{name} takes only {required} argument(s), but {given} given"
        )));
    }
    Ok(())
}
