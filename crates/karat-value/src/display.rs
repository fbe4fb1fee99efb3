//! Short forms of values for messages.

use crate::Value;

impl Value {
    /// What a message calls it: "a string", "an object", "null".
    pub fn noun(&self) -> String {
        if self.is_null() {
            return "null".to_owned();
        }
        let name = self.ty().friendly();
        let article = if name.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        format!("{article} {name}")
    }
}
