//! Functions that read secret stores, through the world.

use karat_value::{Type, Value};

use super::collections::fixed;
use crate::args::{Outcome, string, text};
use crate::function::{CallContext, Function, FunctionError, Kind, Param};

/// All functions of this group.
pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        not_null: false,
        ..fixed(
            "aws_secretsmanager",
            &[Param::new("name", Kind::String), Param::new("key", Kind::String).null()],
            Kind::String,
            "Reads a field of a secret of AWS Secrets Manager; with null for the key, the only field.",
            &[],
            aws_secret,
        )
    },
    Function {
        not_null: false,
        ..fixed(
            "aws_secretsmanager_raw",
            &[Param::new("name", Kind::String)],
            Kind::String,
            "Reads a whole secret of AWS Secrets Manager as it is stored.",
            &[],
            |args, _, cx| answer(cx.world().aws_secret_raw(text(&args[0]))),
        )
    },
    Function {
        not_null: false,
        ..fixed(
            "consul_key",
            &[Param::new("key", Kind::String)],
            Kind::String,
            "Reads a key of a Consul store.",
            &[],
            |args, _, cx| answer(cx.world().consul_key(text(&args[0]))),
        )
    },
    Function {
        not_null: false,
        ..fixed(
            "vault",
            &[Param::new("path", Kind::String), Param::new("key", Kind::String)],
            Kind::String,
            "Reads one field of a Vault secret.",
            &[],
            |args, _, cx| answer(cx.world().vault(text(&args[0]), text(&args[1]))),
        )
    },
];

fn answer(read: Result<String, String>) -> Outcome {
    string(read.map_err(FunctionError::new)?)
}

fn aws_secret(args: &[Value], _: &Type, cx: &dyn CallContext) -> Outcome {
    let key = args[1].as_str().filter(|key| !key.is_empty());
    answer(cx.world().aws_secret(text(&args[0]), key))
}
