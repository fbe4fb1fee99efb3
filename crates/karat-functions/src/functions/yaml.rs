//! YAML 1.1.

use karat_value::{Type, Value};

use super::collections::{fixed, shaped};
use crate::args::{Outcome, string, text};
use crate::function::{Function, FunctionError, Kind, Param};
use crate::yaml;

/// All functions of this group.
pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        not_null: false,
        ..shaped(
            "yamldecode",
            &[Param::new("src", Kind::String)],
            |args, _| match args[0].as_str() {
                Some(source) => Ok(decode(source)?.ty().clone()),
                None => Ok(Type::Dynamic),
            },
            "Reads a value from one document of YAML 1.1: yes, no, on, off are bools, dates become RFC 3339.",
            &[("yamldecode(\"a: [1, yes]\")", "{a = [1, true]}")],
            |args, _, _| {
                let value = decode(text(&args[0]))?;
                // A document that is null says nothing of its type.
                Ok(if *value.ty() == Type::Dynamic { Value::dynamic() } else { value })
            },
        )
    },
    fixed(
        "yamlencode",
        &[Param::new("value", Kind::Any).null().dynamic().unknown()],
        Kind::String,
        "Writes a value as YAML in block style, texts quoted.",
        &[("yamlencode({a = [1]})", "\"a\":\\n- 1\\n")],
        |args, _, _| {
            if !args[0].is_wholly_known() {
                return Ok(Value::unknown(Type::String));
            }
            string(yaml::encode(&args[0]))
        },
    ),
];

fn decode(source: &str) -> Outcome {
    yaml::decode(source)
        .map_err(|message| FunctionError::argument(0, format!("invalid YAML: {message}")))
}
