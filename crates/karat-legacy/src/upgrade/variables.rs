//! Variables: those that only hold text stay variables, the others become locals.

use std::collections::{BTreeMap, BTreeSet};

use super::calls::{VariableCalls, users};
use super::{Writer, body, names};
use crate::model::Template;

/// What becomes of a variable.
struct Variable<'a> {
    default: Option<&'a str>,
    sensitive: bool,
}

fn is_local(default: &str, mend: bool) -> bool {
    let mut calls = VariableCalls::default();
    calls.upgrade(default, mend);
    calls.is_local
}

impl Writer<'_> {
    /// The blocks of variables, and those of locals.
    pub(super) fn variables(&mut self, text: &str) -> (String, String) {
        let mut variables = BTreeMap::new();
        // Mended, the calls tell of them, whatever else the text calls.
        let text = if self.options.mend { "" } else { text };
        for name in users(text) {
            variables.insert(name, Variable { default: None, sensitive: false });
        }
        for variable in &self.template.variables {
            let default = variable.default.as_ref().map(|d| d.text.as_str());
            let sensitive = variable.sensitive;
            let name = names::variable(&variable.name.text, self.options.mend);
            variables.insert(name, Variable { default, sensitive });
        }
        let mend = self.options.mend;
        let local = |v: &Variable<'_>| v.default.is_some_and(|text| is_local(text, mend));
        let locals = variables.iter().filter(|(_, v)| local(v)).map(|(name, _)| name.clone());
        let locals: Vec<String> = locals.collect();
        if mend {
            self.calls.locals.extend(locals.iter().cloned());
        }
        let (mut out, mut sensitive, mut plain) = (String::new(), String::new(), String::new());
        for (name, variable) in &variables {
            if !karat_hcl::is_identifier(name) {
                self.remark(format!("\"{name}\" cannot be the name of a variable in HCL2"));
            }
            let default = variable.default.filter(|_| locals.contains(name));
            if default.is_some() {
                // Without mending, a sensitive local does not know those that come behind it.
                self.calls.locals.insert(name.clone());
            }
            match default {
                Some(default) if variable.sensitive => {
                    let mut block = String::from("\n");
                    body::open(&mut block, "local", &[name]);
                    block.push_str("sensitive=true\n");
                    body::text_argument(&mut block, "expression", default);
                    block.push_str("}\n");
                    sensitive.push_str(&self.calls.upgrade(&karat_hcl::format(&block)));
                }
                Some(default) => body::text_argument(&mut plain, name, default),
                None => out.push_str(&block(name, variable, mend)),
            }
        }
        if !plain.is_empty() {
            let block = karat_hcl::format(&format!("\nlocals {{\n{plain}}}\n"));
            sensitive.push_str(&self.calls.upgrade(&block));
        }
        (out, sensitive)
    }
}

/// The blocks of variables that are asked for and that nobody declared.
pub(super) fn undeclared<'a>(
    used: impl Iterator<Item = &'a String>,
    template: &Template,
) -> String {
    let declared = template.variables.iter().map(|v| names::variable(&v.name.text, true));
    let declared: BTreeSet<String> = declared.collect();
    let new = used.filter(|name| !declared.contains(*name));
    new.map(|name| block(name, &Variable { default: None, sensitive: false }, true)).collect()
}

fn block(name: &str, variable: &Variable<'_>, mend: bool) -> String {
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
    VariableCalls::default().upgrade(&karat_hcl::format(&block), mend)
}
