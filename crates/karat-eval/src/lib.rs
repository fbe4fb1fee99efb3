//! Evaluates expressions of the template language. Pure: the outside is reached only through the
//! [`World`](karat_functions::World) that functions are given.
//!
//! - [`Environment`]: what is the same in a whole template: the world, its folder, which functions
//!   may be called. [`Scope`]: the names that an expression can use.
//! - [`evaluate`]: expression to value. Never fails as a whole: where something is wrong the value
//!   is unknown and the diagnostics say why.
//! - [`references()`]: which names an expression uses, without evaluating it.
//! - [`TypeConstraint`]: what `type = object({a = optional(string, "x")})` means.
//! - [`console_eval`]: what a console prints for a line.
//!
//! An evaluation may take only so many steps and make only so much text (see [`evaluate`]), so no
//! template can exhaust the machine.

mod access;
mod budget;
mod call;
mod console;
mod evaluator;
mod iterate;
mod operators;
mod references;
mod scope;
mod special;
mod template;
mod type_expr;

pub use budget::MAX_WEIGHT;
pub use console::{console_eval, console_value};
pub use evaluator::{evaluate, evaluate_as};
pub use references::{Reference, ReferenceStep, references, static_reference};
pub use scope::{Environment, Functions, Scope};
pub use type_expr::{Defaults, TypeConstraint, type_constraint};
