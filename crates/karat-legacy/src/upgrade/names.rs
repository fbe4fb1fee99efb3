//! Names of builders to names of sources.

use std::sync::LazyLock;

use regex::{Captures, Regex};

/// A name that HCL can hold: of `{{ user `x` }}` the `x`, of other calls the function, and `_` for
/// what may not stand in a name.
pub(super) fn label(name: &str) -> String {
    static CALL: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"\{\{-?\s*(?:user\s*[`"]([^`"]*)[`"]|\.?(\w+)[^}]*)\s*-?\}\}"#)
            .expect("the pattern is fixed, and tests use it")
    });
    let plain = CALL.replace_all(name.trim(), |found: &Captures<'_>| {
        let word = found.get(1).or(found.get(2));
        word.map_or_else(String::new, |m| m.as_str().to_owned())
    });
    let mut out: String =
        plain.chars().map(|c| if c.is_alphanumeric() || c == '-' { c } else { '_' }).collect();
    if !karat_hcl::is_identifier(&out) {
        out.insert(0, '_');
    }
    out
}

/// The name of a variable: mended, one that HCL can hold.
pub(super) fn variable(name: &str, mend: bool) -> String {
    if mend && !karat_hcl::is_identifier(name) { label(name) } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_names() {
        for (name, wanted) in [
            ("web", "web"),
            (" two words ", "two_words"),
            ("centos-6.7", "centos-6_7"),
            ("{{user `vm_name`}}-{{timestamp}}", "vm_name-timestamp"),
            ("{{ user \"a b\" }}", "a_b"),
            ("{{isotime \"2006\"}}", "isotime"),
            ("9", "_9"),
            ("", "_"),
        ] {
            assert_eq!(label(name), wanted, "{name}");
            assert!(karat_hcl::is_identifier(wanted), "{wanted}");
        }
    }
}
