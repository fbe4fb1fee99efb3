//! What a function is, and how it is called.

use std::fmt;
use std::path::Path;

use karat_value::{Type, Value};

use crate::world::World;

/// The type a parameter takes. `Any` takes every value as it is; for all others the
/// argument is converted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    String,
    /// A number.
    Number,
    /// True or false.
    Bool,
    /// Every value, unconverted.
    Any,
    /// `list(string)`.
    ListOfString,
    /// `list(bool)`.
    ListOfBool,
    /// `list(any)`: a list whose elements have one type.
    ListOfAny,
    /// `set(string)`, only as a result.
    SetOfString,
    /// `set(any)`: a set whose elements have one type.
    SetOfAny,
    /// `list(number)`, only as a result.
    ListOfNumber,
}

/// One parameter.
///
/// The flags say which arguments the body is ready for; without them `call` deals
/// with such arguments itself (see [`crate::call()`]).
#[derive(Debug, Clone, Copy)]
pub struct Param {
    /// The name that error messages use.
    pub name: &'static str,
    /// The type to which an argument is converted.
    pub kind: Kind,
    /// The body takes null. Otherwise null is an error.
    pub allow_null: bool,
    /// The body takes values not known yet. Otherwise the result is unknown.
    pub allow_unknown: bool,
    /// The body takes values whose type is not known, such as a bare `null`.
    /// Otherwise the result is unknown and of unknown type.
    pub allow_dynamic: bool,
    /// The body takes marked (sensitive) values and marks its result itself.
    /// Otherwise marks are taken off, at any depth, and put on the result.
    pub allow_marked: bool,
}

impl Param {
    /// A parameter without flags.
    #[must_use]
    pub const fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            allow_null: false,
            allow_unknown: false,
            allow_dynamic: false,
            allow_marked: false,
        }
    }

    /// The body takes null.
    #[must_use]
    pub const fn null(mut self) -> Self {
        self.allow_null = true;
        self
    }

    /// The body takes unknown values.
    #[must_use]
    pub const fn unknown(mut self) -> Self {
        self.allow_unknown = true;
        self
    }

    /// The body takes values of unknown type.
    #[must_use]
    pub const fn dynamic(mut self) -> Self {
        self.allow_dynamic = true;
        self
    }

    /// The body takes marked values.
    #[must_use]
    pub const fn marked(mut self) -> Self {
        self.allow_marked = true;
        self
    }
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionError {
    /// The position of the argument at fault, from 0, when one is.
    pub argument: Option<usize>,
    /// What is wrong, as a fragment that reads after a colon.
    pub message: String,
}

impl FunctionError {
    /// An error of the call as a whole.
    pub fn new(message: impl Into<String>) -> Self {
        Self { argument: None, message: message.into() }
    }

    /// An error of one argument, counted from 0.
    pub fn argument(argument: usize, message: impl Into<String>) -> Self {
        Self { argument: Some(argument), message: message.into() }
    }
}

impl fmt::Display for FunctionError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for FunctionError {}

/// What a call knows of its surroundings.
pub trait CallContext {
    /// The outside.
    fn world(&self) -> &dyn World;

    /// The folder of the template, where `file`, `fileexists`, `fileset` and
    /// `templatefile` start.
    fn root(&self) -> &Path;

    /// Takes off what something costs that is not seen in the values: as many steps of an
    /// evaluation as take as long. False when that was too much.
    fn spend(&self, steps: usize) -> bool {
        let _ = steps;
        true
    }

    /// Renders the text of a template file; the evaluator supplies this.
    ///
    /// `name` is the path as the caller wrote it, for messages. The variables are a
    /// map or an object. Inside, `templatefile` is refused. A file that is one
    /// interpolation gives the value itself.
    ///
    /// # Errors
    /// What is wrong in the file, or the name of a variable that is not given.
    fn render_template(
        &self,
        name: &str,
        source: &str,
        variables: &Value,
    ) -> Result<Value, FunctionError> {
        let _ = (source, variables);
        Err(FunctionError::new(format!("cannot render {name}: templates are not available here")))
    }
}

/// Computes the type of the result from arguments of which some may be unknown.
pub type TypeFn = fn(&[Value], &dyn CallContext) -> Result<Type, FunctionError>;

/// Computes the result. The type is what the function's type rule gave for the same
/// arguments.
pub type BodyFn = fn(&[Value], &Type, &dyn CallContext) -> Result<Value, FunctionError>;

/// How the type of the result is found.
#[derive(Debug, Clone, Copy)]
pub enum Returns {
    /// Always the same.
    Always(Kind),
    /// It depends on the arguments.
    From(TypeFn),
}

/// Where a function may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In every expression that may call functions.
    Everywhere,
    /// Only in the `default` of a variable.
    VariableDefault,
}

/// A function of the template language.
#[derive(Debug, Clone, Copy)]
pub struct Function {
    /// The name in templates.
    pub name: &'static str,
    /// Where it may be called.
    pub place: Place,
    /// One or two sentences for a person who writes templates.
    pub doc: &'static str,
    /// Pairs of an expression and its result.
    pub examples: &'static [(&'static str, &'static str)],
    /// The parameters that must be given.
    pub params: &'static [Param],
    /// The parameter that takes all further arguments.
    pub variadic: Option<Param>,
    /// How the type of the result is found.
    pub returns: Returns,
    /// The result is never null, also while it is unknown.
    pub not_null: bool,
    /// The implementation. Use [`crate::call()`], which prepares the arguments.
    pub body: BodyFn,
}

impl Function {
    /// The parameter that the argument at this position belongs to.
    #[must_use]
    pub fn param(&self, index: usize) -> Option<&Param> {
        self.params.get(index).or(self.variadic.as_ref())
    }
}
