//! The values that names in expressions have, and one place that calls the evaluator.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use karat_value::Value;

/// Values by the first word of a reference.
pub(crate) type Names = BTreeMap<Arc<str>, Value>;

/// `{a = …}` of values by name.
pub(crate) fn object<K: AsRef<str>>(items: impl IntoIterator<Item = (K, Value)>) -> Value {
    Value::object_of(items.into_iter().map(|(k, v)| (Arc::<str>::from(k.as_ref()), v)))
}

/// `path` and `packer`, which every expression sees.
pub(crate) fn surroundings(root: &Path, cwd: &Path) -> Names {
    let text = |path: &Path| Value::string(&*path.to_string_lossy());
    let mut names = Names::new();
    let path = object([("cwd", text(cwd)), ("root", text(root))]);
    names.insert("path".into(), path);
    let unknown = || Value::unknown(karat_value::Type::String);
    let packer = object([
        ("version", Value::string(crate::PACKER_VERSION)),
        ("iterationID", unknown()),
        ("versionFingerprint", unknown()),
    ]);
    names.insert("packer".into(), packer);
    names
}
