//! Variables: those that only hold text stay variables, the others become locals.

use std::collections::{BTreeMap, BTreeSet};

use super::calls::{VariableCalls, users};
use super::{Writer, body};
use crate::model::Template;

/// What becomes of a variable.
struct Variable<'a> {
    default: Option<&'a str>,
    sensitive: bool,
}

/// The variables that become locals.
pub(super) fn locals(template: &Template) -> BTreeSet<String> {
    let with_text = template.variables.iter().filter_map(|v| Some((v, v.default.as_ref()?)));
    let calling = with_text.filter(|(_, default)| is_local(&default.text));
    calling.map(|(variable, _)| variable.name.text.clone()).collect()
}

fn is_local(default: &str) -> bool {
    let mut calls = VariableCalls::default();
    calls.upgrade(default);
    calls.is_local
}

impl Writer<'_> {
    /// The blocks of variables, and those of locals.
    pub(super) fn variables(&mut self, text: &str) -> (String, String) {
        let mut variables = BTreeMap::new();
        for name in users(text) {
            variables.insert(name, Variable { default: None, sensitive: false });
        }
        for variable in &self.template.variables {
            let default = variable.default.as_ref().map(|d| d.text.as_str());
            let sensitive = variable.sensitive;
            variables.insert(variable.name.text.clone(), Variable { default, sensitive });
        }
        let (mut out, mut sensitive, mut plain) = (String::new(), String::new(), String::new());
        for (name, variable) in &variables {
            match variable.default {
                Some(default) if is_local(default) && variable.sensitive => {
                    let mut block = String::from("\n");
                    body::open(&mut block, "local", &[name]);
                    block.push_str("sensitive=true\n");
                    body::text_argument(&mut block, "expression", default);
                    block.push_str("}\n");
                    sensitive.push_str(&self.calls.upgrade(&karat_hcl::format(&block)));
                }
                Some(default) if is_local(default) => {
                    body::text_argument(&mut plain, name, default);
                }
                _ => out.push_str(&block(name, variable)),
            }
        }
        if !plain.is_empty() {
            let block = karat_hcl::format(&format!("\nlocals {{\n{plain}}}\n"));
            sensitive.push_str(&self.calls.upgrade(&block));
        }
        (out, sensitive)
    }
}

fn block(name: &str, variable: &Variable<'_>) -> String {
    let mut block = String::from("\n");
    body::open(&mut block, "variable", &[name]);
    block.push_str("type=string\n");
    if let Some(default) = variable.default {
        body::text_argument(&mut block, "default", default);
    }
    if variable.sensitive {
        block.push_str("sensitive=true\n");
    }
    block.push_str("}\n");
    VariableCalls::default().upgrade(&karat_hcl::format(&block))
}
