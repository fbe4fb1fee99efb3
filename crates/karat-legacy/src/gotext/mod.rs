//! Go's `text/template`, as far as `hcl2_upgrade` needs it.
//!
//! What an upgraded template holds depends on how Go prints a parsed action back, on which word a
//! parser stops at, and on the text of its errors, which lands in comments. The engine that
//! renders templates (`karat-text`) answers none of these questions, so they are answered here:
//! the language is parsed whole, and run as far as text without data can be.

mod exec;
mod lex;
mod parse;

use std::fmt;

pub(crate) use karat_text::go::quote;

pub(crate) use exec::{Functions, Kind, Signature, Value, run};
pub(crate) use parse::parse;

/// The name that templates have in their errors.
const NAME: &str = "hcl2_upgrade";

/// Why a text is no template, or cannot be run. The text is Go's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Error(pub(crate) String);

/// A part of a template.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    /// What stands between actions.
    Text(String),
    /// `{{ … }}`
    Action(Pipe),
    /// `{{ if … }}` and the like.
    Control(Control),
}

/// `{{ if … }} … {{ else }} … {{ end }}`, and others that hold templates.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    pub(crate) kind: ControlKind,
    pub(crate) pipe: Option<Pipe>,
    pub(crate) list: Vec<Node>,
    pub(crate) otherwise: Vec<Node>,
}

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ControlKind {
    If,
    With,
    Range,
    Template,
    Break,
    Continue,
}

impl ControlKind {
    /// The type of its node in Go.
    pub(crate) fn go_type(self) -> &'static str {
        match self {
            Self::If => "*parse.IfNode",
            Self::With => "*parse.WithNode",
            Self::Range => "*parse.RangeNode",
            Self::Template => "*parse.TemplateNode",
            Self::Break => "*parse.BreakNode",
            Self::Continue => "*parse.ContinueNode",
        }
    }
}

/// Commands, each given the value of the one before.
#[derive(Clone, Debug)]
pub(crate) struct Pipe {
    pub(crate) pos: usize,
    /// `$x :=`, `$x =`
    pub(crate) variables: Vec<String>,
    pub(crate) assigns: bool,
    pub(crate) commands: Vec<Command>,
}

/// An operand and its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) pos: usize,
    pub(crate) args: Vec<Arg>,
}

/// An operand.
#[derive(Clone, Debug)]
pub(crate) struct Arg {
    pub(crate) pos: usize,
    pub(crate) kind: ArgKind,
}

/// What an operand is.
#[derive(Clone, Debug)]
pub(crate) enum ArgKind {
    /// The name of a function.
    Identifier(String),
    Dot,
    Nil,
    /// `$x.y`: with the dollar sign and the dots.
    Variable(String),
    /// `.x.y`: with the dots.
    Field(String),
    Bool(bool),
    Number(Number),
    /// As written, and what it means.
    Text(String, String),
    Pipe(Box<Pipe>),
    /// `(…).x`
    Chain(Box<Arg>, String),
}

/// A number, as written and what it may be.
#[derive(Clone, Debug)]
pub(crate) struct Number {
    pub(crate) text: String,
    pub(crate) int: Option<i64>,
    pub(crate) float: Option<f64>,
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            let operator = if self.assigns { "=" } else { ":=" };
            write!(f, "{} {operator} ", self.variables.join(", "))?;
        }
        for (index, command) in self.commands.iter().enumerate() {
            if index > 0 {
                f.write_str(" | ")?;
            }
            write!(f, "{command}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, arg) in self.args.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            match &arg.kind {
                ArgKind::Pipe(pipe) => write!(f, "({pipe})")?,
                _ => write!(f, "{arg}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Arg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ArgKind::Identifier(text)
            | ArgKind::Variable(text)
            | ArgKind::Field(text)
            | ArgKind::Text(text, _) => f.write_str(text),
            ArgKind::Dot => f.write_str("."),
            ArgKind::Nil => f.write_str("nil"),
            ArgKind::Bool(b) => write!(f, "{b}"),
            ArgKind::Number(number) => f.write_str(&number.text),
            ArgKind::Pipe(pipe) => write!(f, "{pipe}"),
            ArgKind::Chain(node, fields) => match &node.kind {
                ArgKind::Pipe(pipe) => write!(f, "({pipe}){fields}"),
                _ => write!(f, "{node}{fields}"),
            },
        }
    }
}

#[cfg(test)]
mod tests;
