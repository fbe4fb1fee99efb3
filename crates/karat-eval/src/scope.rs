//! What an expression can name.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use karat_functions::{Function, Place, World};
use karat_value::Value;

/// Which functions an expression may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Functions {
    /// None: variable files, `-var` values.
    None,
    /// All but those for defaults of variables.
    Template,
    /// Only those for defaults of variables.
    VariableDefault,
    /// All that a template file may call: no `templatefile` within one.
    TemplateFile,
    /// All there are, those for defaults of variables among them.
    All,
}

impl Functions {
    pub(crate) fn allows(self, function: &Function) -> bool {
        match self {
            Self::None => false,
            Self::Template | Self::TemplateFile => function.place == Place::Everywhere,
            Self::VariableDefault => function.place == Place::VariableDefault,
            Self::All => true,
        }
    }

    /// Whether `try`, `can` and `convert` are there.
    pub(crate) fn has_special_forms(self) -> bool {
        matches!(self, Self::Template | Self::TemplateFile | Self::All)
    }
}

/// What is the same for all expressions of a template.
#[derive(Clone)]
pub struct Environment<'w> {
    /// The outside.
    pub world: &'w dyn World,
    /// The folder of the template, where `file` and its like start.
    pub root: PathBuf,
    /// What may be called.
    pub functions: Functions,
}

impl<'w> Environment<'w> {
    /// Everything that a template may call.
    pub fn new(world: &'w dyn World, root: impl Into<PathBuf>) -> Self {
        Self { world, root: root.into(), functions: Functions::Template }
    }

    /// The same with other functions.
    #[must_use]
    pub fn with_functions(mut self, functions: Functions) -> Self {
        self.functions = functions;
        self
    }
}

impl fmt::Debug for Environment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("root", &self.root)
            .field("functions", &self.functions)
            .finish_non_exhaustive()
    }
}

/// The names that an expression can use, and what is around it. Names that a scope lacks are
/// looked for in the scope around it.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    environment: &'a Environment<'a>,
    parent: Option<&'a Self>,
    variables: BTreeMap<Arc<str>, Value>,
}

impl<'a> Scope<'a> {
    /// A scope without names.
    pub fn new(environment: &'a Environment<'a>) -> Self {
        Self { environment, parent: None, variables: BTreeMap::new() }
    }

    /// A scope within this one.
    pub fn child(&'a self) -> Self {
        Self { environment: self.environment, parent: Some(self), variables: BTreeMap::new() }
    }

    /// A scope within this one, in which other functions may be called.
    pub fn with<'b>(&'b self, environment: &'b Environment<'b>) -> Scope<'b> {
        Scope { environment, parent: Some(self), variables: BTreeMap::new() }
    }

    /// Gives a name its value; replaces an older one.
    pub fn set(&mut self, name: impl Into<Arc<str>>, value: Value) {
        self.variables.insert(name.into(), value);
    }

    /// The value of a name, from here or around here.
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self.variables.get(name) {
            Some(value) => Some(value),
            None => self.parent?.get(name),
        }
    }

    /// All names, from the inside out; may repeat.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.variables.keys().map(|name| &**name).collect();
        if let Some(parent) = self.parent {
            names.extend(parent.names());
        }
        names
    }

    /// What is around all scopes.
    pub fn environment(&self) -> &'a Environment<'a> {
        self.environment
    }
}
