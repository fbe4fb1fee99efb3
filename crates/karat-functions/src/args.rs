//! Getting at arguments that `call` has prepared, and building results.

use karat_value::{Number, Value};

use crate::function::FunctionError;

/// What a function body gives.
pub(crate) type Outcome = Result<Value, FunctionError>;

/// The text of a string argument; empty for what is not one, which `call` rules out.
pub(crate) fn text(arg: &Value) -> &str {
    arg.as_str().unwrap_or_default()
}

/// A number argument as a whole number of 64 bits.
pub(crate) fn whole(arg: &Value) -> Result<i64, FunctionError> {
    arg.as_number().and_then(Number::to_i64).ok_or_else(|| {
        FunctionError::new(format!(
            "value must be a whole number between {} and {}",
            i64::MIN,
            i64::MAX
        ))
    })
}

/// The same, with the position for the error.
pub(crate) fn whole_at(args: &[Value], index: usize) -> Result<i64, FunctionError> {
    whole(&args[index]).map_err(|error| FunctionError::argument(index, error.message))
}

/// A string result.
pub(crate) fn string(value: impl AsRef<str> + Into<std::sync::Arc<str>>) -> Outcome {
    Ok(Value::string(value))
}

/// A failure of the call as a whole.
pub(crate) fn fail<T>(message: impl Into<String>) -> Result<T, FunctionError> {
    Err(FunctionError::new(message))
}

/// A failure of one argument.
pub(crate) fn fail_at<T>(index: usize, message: impl Into<String>) -> Result<T, FunctionError> {
    Err(FunctionError::argument(index, message))
}
