//! Keys of layers: what goes in decides what comes out.
//!
//! A key covers the parent's *output* digest, the operation with its whole configuration, the
//! contents (never names or times alone) of all inputs, the declared environment, and the version
//! of the code that builds. Keying on the output of the parent means that a parent which was
//! rebuilt and came out equal keeps its children valid.

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::{Digest, Error, Result};

/// Raised when the same inputs would give another layer than before, so that old ones are not
/// taken for new ones.
pub const BUILDER_ABI: u32 = 1;

/// Collects what a layer is made from.
#[derive(Debug, Clone)]
pub struct LayerKey {
    parent: Option<Digest>,
    operation: String,
    inputs: BTreeMap<String, Digest>,
    environment: BTreeMap<String, String>,
    abi: u32,
}

impl LayerKey {
    /// Starts a key with the name of the operation and its configuration, which is brought into a
    /// canonical form: the order of object members does not matter.
    ///
    /// # Errors
    /// When the configuration cannot be written as JSON.
    pub fn new(
        parent: Option<Digest>,
        operation: &str,
        configuration: &impl Serialize,
    ) -> Result<Self> {
        let value = serde_json::to_value(configuration)
            .map_err(|error| Error::Invalid(format!("the options of {operation}: {error}")))?;
        let mut text = String::new();
        canonical(&mut text, &serde_json::json!([operation, value]));
        Ok(Self {
            parent,
            operation: text,
            inputs: BTreeMap::new(),
            environment: BTreeMap::new(),
            abi: BUILDER_ABI,
        })
    }

    /// Adds the content of an input under a name that tells what it is for.
    #[must_use]
    pub fn input(mut self, name: impl Into<String>, content: Digest) -> Self {
        self.inputs.insert(name.into(), content);
        self
    }

    /// Adds an environment variable that the operation can see.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// The key itself.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = Sha256::new();
        // Every field is preceded by its length, so no two different keys give the same bytes.
        let mut field = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        field(b"karat-key 1");
        field(&self.abi.to_le_bytes());
        field(self.parent.as_ref().map_or(&[], |parent| &parent.0));
        field(self.operation.as_bytes());
        field(&(self.inputs.len() as u64).to_le_bytes());
        for (name, digest) in &self.inputs {
            field(name.as_bytes());
            field(&digest.0);
        }
        for (name, value) in &self.environment {
            field(name.as_bytes());
            field(value.as_bytes());
        }
        Digest(hasher.finalize().into())
    }
}

/// JSON with sorted members and no space.
pub(crate) fn canonical(out: &mut String, value: &serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::Object(members) => {
            let sorted: BTreeMap<_, _> = members.iter().collect();
            out.push('{');
            for (index, (name, value)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(name.clone()).to_string());
                out.push(':');
                canonical(out, value);
            }
            out.push('}');
        }
        Value::Array(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                canonical(out, value);
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Parts {
        parent: Option<[u8; 32]>,
        operation: String,
        options: BTreeMap<String, String>,
        inputs: BTreeMap<String, [u8; 32]>,
        env: BTreeMap<String, String>,
        abi: u32,
    }

    fn parts() -> impl Strategy<Value = Parts> {
        let map = || prop::collection::btree_map("[a-z]{0,3}", "[a-z]{0,3}", 0..4);
        (
            any::<Option<[u8; 32]>>(),
            "[a-z]{1,4}",
            map(),
            prop::collection::btree_map("[a-z]{0,3}", any::<[u8; 32]>(), 0..4),
            map(),
            0u32..3,
        )
            .prop_map(|(parent, operation, options, inputs, env, abi)| Parts {
                parent,
                operation,
                options,
                inputs,
                env,
                abi,
            })
    }

    fn key(parts: &Parts) -> Digest {
        let mut key =
            LayerKey::new(parts.parent.map(Digest), &parts.operation, &parts.options).unwrap();
        for (name, digest) in &parts.inputs {
            key = key.input(name, Digest(*digest));
        }
        for (name, value) in &parts.env {
            key = key.env(name, value);
        }
        key.abi = parts.abi;
        key.digest()
    }

    proptest! {
        #[test]
        fn each_part_changed_alone_changes_the_key(a in parts(), b in parts()) {
            let mut changed = vec![
                Parts { parent: b.parent, ..a.clone() },
                Parts { operation: b.operation.clone(), ..a.clone() },
                Parts { options: b.options.clone(), ..a.clone() },
                Parts { inputs: b.inputs.clone(), ..a.clone() },
                Parts { env: b.env.clone(), ..a.clone() },
                Parts { abi: b.abi, ..a.clone() },
            ];
            // One input's content alone, and one option's value alone.
            if let Some(name) = a.inputs.keys().next() {
                let mut other = a.clone();
                other.inputs.get_mut(name).unwrap()[7] ^= 1;
                changed.push(other);
            }
            if let Some(name) = a.options.keys().next() {
                let mut other = a.clone();
                other.options.get_mut(name).unwrap().push('!');
                changed.push(other);
            }
            for other in changed {
                prop_assert_eq!(other == a, key(&other) == key(&a), "{:?} {:?}", other, a);
            }
        }
    }

    #[test]
    fn order_of_members_does_not_matter() {
        let a = serde_json::json!({"x": 1, "y": [true, {"b": 1, "a": 2}]});
        let b = serde_json::json!({"y": [true, {"a": 2, "b": 1}], "x": 1});
        let key = |value| LayerKey::new(None, "op", &value).unwrap().digest();
        assert_eq!(key(a), key(b));
    }
}
