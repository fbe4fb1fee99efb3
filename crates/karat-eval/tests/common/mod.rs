//! What several tests share.

use karat_eval::Scope;
use karat_value::{Type, Value};

/// The names of a console without a template.
pub(crate) fn console_names(scope: &mut Scope<'_>) {
    let none: [(&str, Value); 0] = [];
    scope.set("var", Value::object_of(none.clone()));
    scope.set("local", Value::object_of(none));
    let path = [("cwd", Value::string("/templates")), ("root", Value::string(""))];
    scope.set("path", Value::object_of(path));
    let text = || Value::unknown(Type::String);
    scope.set(
        "packer",
        Value::object_of([
            ("version", text()),
            ("iterationID", text()),
            ("versionFingerprint", text()),
        ]),
    );
    scope.set("source", Value::object_of([("name", text()), ("type", text())]));
    scope.set("build", Value::unknown(Type::object::<&str>([])));
}
