//! Running a template that has no data.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::parse::is_builtin;
use super::{Arg, ArgKind, Command, Control, ControlKind, Error, NAME, Node, Pipe};

/// What an operand gives.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// What data has that is not there.
    Nothing,
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
}

/// What a function wants to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Int,
    Any,
}

/// What a function takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signature {
    /// Of each argument.
    pub(crate) takes: &'static [Kind],
    /// Whether the last may be given any number of times, also none.
    pub(crate) repeats: bool,
}

/// The functions of a template. They give texts.
pub(crate) trait Functions {
    /// What the function of this name takes, if there is one.
    fn signature(&self, name: &str) -> Option<Signature>;

    /// Calls it with arguments of its signature.
    fn call(&mut self, name: &str, args: &[Value]) -> Result<String, String>;
}

/// Runs a template, whose text is needed for the places in errors.
pub(crate) fn run(
    text: &str,
    nodes: &[Node],
    functions: &mut dyn Functions,
) -> Result<String, Error> {
    let mut runner = Runner {
        text,
        functions,
        at: (0, String::new()),
        variables: vec![("$".into(), Value::Nothing)],
        out: String::new(),
    };
    runner.list(nodes)?;
    Ok(runner.out)
}

/// The longest text that comes out or that a call takes or gives, in bytes. Go has no limit, and a
/// variable that is printed twice into itself some thirty times fills any memory.
const LONGEST: usize = 1 << 20;

struct Runner<'a> {
    text: &'a str,
    functions: &'a mut dyn Functions,
    /// Where it is: an offset, and what stands there.
    at: (usize, String),
    variables: Vec<(String, Value)>,
    out: String,
}

type Result<T, E = Error> = std::result::Result<T, E>;

impl Runner<'_> {
    fn fail<T>(&self, message: impl AsRef<str>) -> Result<T> {
        let (pos, context) = &self.at;
        let before = &self.text[..*pos];
        let line = before.matches('\n').count() + 1;
        let column = pos - before.rfind('\n').map_or(0, |i| i + 1);
        Err(Error(format!(
            "template: {NAME}:{line}:{column}: executing \"{NAME}\" at <{context}>: {}",
            message.as_ref()
        )))
    }

    fn list(&mut self, nodes: &[Node]) -> Result<()> {
        for node in nodes {
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Action(pipe) => {
                    let value = self.pipe(pipe)?;
                    if pipe.variables.is_empty() {
                        self.print(&value);
                    }
                }
                Node::Control(control) => self.control(control)?,
            }
            if self.out.len() > LONGEST {
                return self.fail(format!("the text is longer than {LONGEST} bytes"));
            }
        }
        Ok(())
    }

    fn control(&mut self, control: &Control) -> Result<()> {
        let known = self.variables.len();
        let value = match &control.pipe {
            Some(pipe) => self.pipe(pipe)?,
            None => Value::Nothing,
        };
        match control.kind {
            ControlKind::If | ControlKind::With => {
                let list = if truth(&value) { &control.list } else { &control.otherwise };
                self.list(list)?;
            }
            ControlKind::Range => match value {
                Value::Nothing | Value::Int(..=0) => self.list(&control.otherwise)?,
                _ => return self.fail("range can't iterate over a value without data"),
            },
            _ => return self.fail("template not defined"),
        }
        self.variables.truncate(known);
        Ok(())
    }

    fn print(&mut self, value: &Value) {
        match value {
            Value::Nothing => self.out.push_str("<no value>"),
            Value::Text(text) => self.out.push_str(text),
            Value::Int(int) => self.out.push_str(&int.to_string()),
            Value::Float(float) => self.out.push_str(&float.to_string()),
            Value::Bool(b) => self.out.push_str(if *b { "true" } else { "false" }),
        }
    }

    fn pipe(&mut self, pipe: &Pipe) -> Result<Value> {
        self.at = (pipe.pos, pipe.to_string());
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(command, value)?);
        }
        let value = value.unwrap_or(Value::Nothing);
        for name in &pipe.variables {
            let known = self.variables.iter_mut().rev().find(|(n, _)| n == name);
            match known {
                Some(variable) if pipe.assigns => variable.1 = value.clone(),
                _ => self.variables.push((name.clone(), value.clone())),
            }
        }
        Ok(value)
    }

    fn command(&mut self, command: &Command, last: Option<Value>) -> Result<Value> {
        let first = &command.args[0];
        if let ArgKind::Identifier(name) = &first.kind {
            self.at = (first.pos, name.clone());
            let node = (command.pos, command.to_string());
            return self.call(name, node, &command.args[1..], last);
        }
        if !matches!(first.kind, ArgKind::Pipe(_)) {
            self.at = (first.pos, first.to_string());
        }
        let given = command.args.len() > 1 || last.is_some();
        let is_field = match &first.kind {
            ArgKind::Field(_) | ArgKind::Chain(..) => true,
            ArgKind::Variable(name) => name.contains('.'),
            _ => false,
        };
        if given && !is_field {
            return self.fail(format!("can't give argument to non-function {first}"));
        }
        match &first.kind {
            ArgKind::Nil => self.fail("nil is not a command"),
            _ => self.value(first),
        }
    }

    /// The value of an operand that is no call with arguments.
    fn value(&mut self, arg: &Arg) -> Result<Value> {
        match &arg.kind {
            ArgKind::Identifier(name) => {
                self.at = (arg.pos, name.clone());
                self.call(name, self.at.clone(), &[], None)
            }
            ArgKind::Dot | ArgKind::Nil => Ok(Value::Nothing),
            ArgKind::Field(_) => {
                self.at = (arg.pos, arg.to_string());
                Ok(Value::Nothing)
            }
            ArgKind::Variable(text) => {
                self.at = (arg.pos, text.clone());
                let mut names = text.split('.');
                let name = names.next().unwrap_or_default();
                let found = self.variables.iter().rev().find(|(n, _)| n == name);
                let value = found.map_or(Value::Nothing, |(_, v)| v.clone());
                self.fields(value, names)
            }
            ArgKind::Chain(node, fields) => {
                self.at = (arg.pos, arg.to_string());
                let value = self.value(node)?;
                self.fields(value, fields.split('.').skip(1))
            }
            ArgKind::Bool(b) => Ok(Value::Bool(*b)),
            ArgKind::Text(_, text) => Ok(Value::Text(text.clone())),
            ArgKind::Pipe(pipe) => self.pipe(pipe),
            ArgKind::Number(number) => match (number.int, number.float) {
                (_, Some(float)) if number.text.contains(['.', 'e', 'E', 'p', 'P']) => {
                    Ok(Value::Float(float))
                }
                (Some(int), _) => Ok(Value::Int(int)),
                _ => self.fail(format!("{} overflows int", number.text)),
            },
        }
    }

    fn fields<'n>(&self, value: Value, mut names: impl Iterator<Item = &'n str>) -> Result<Value> {
        match (&value, names.next()) {
            (_, None) => Ok(value),
            (Value::Nothing, _) => Ok(Value::Nothing),
            (_, Some(name)) => {
                self.fail(format!("can't evaluate field {name} in type {}", go_type(&value)))
            }
        }
    }

    fn call(
        &mut self,
        name: &str,
        node: (usize, String),
        args: &[Arg],
        last: Option<Value>,
    ) -> Result<Value> {
        let given = args.len() + usize::from(last.is_some());
        let builtin = is_builtin(name);
        let signature = if builtin {
            Signature { takes: &[Kind::Any], repeats: true }
        } else {
            match self.functions.signature(name) {
                Some(signature) => signature,
                None => return self.fail(format!("\"{name}\" is not a defined function")),
            }
        };
        let Signature { takes, repeats } = signature;
        let wanted = takes.len();
        if repeats && given + 1 < wanted {
            let (wanted, given) = (wanted - 1, args.len());
            return self.fail(format!(
                "wrong number of args for {name}: want at least {wanted} got {given}"
            ));
        }
        if !repeats && given != wanted {
            return self
                .fail(format!("wrong number of args for {name}: want {wanted} got {given}"));
        }
        let kind = |index: usize| takes.get(index).or(takes.last()).copied().unwrap_or(Kind::Any);
        let mut values = Vec::with_capacity(given);
        for (index, arg) in args.iter().enumerate() {
            values.push(self.arg(arg, kind(index))?);
        }
        if let Some(last) = last {
            let kind = kind(values.len());
            values.push(self.checked(last, kind)?);
        }
        let result = if most(name, &values) > LONGEST {
            Err(format!("the text is longer than {LONGEST} bytes"))
        } else if builtin {
            call_builtin(name, &values)
        } else {
            self.functions.call(name, &values)
        };
        match result {
            Ok(text) => Ok(Value::Text(text)),
            Err(message) => {
                self.at = node;
                self.fail(format!("error calling {name}: {message}"))
            }
        }
    }

    fn arg(&mut self, arg: &Arg, kind: Kind) -> Result<Value> {
        self.at = (arg.pos, arg.to_string());
        let name = kind.go_type();
        match (&arg.kind, kind) {
            (_, Kind::Any) => self.value(arg),
            (ArgKind::Nil, _) => self.fail(format!("cannot assign nil to {name}")),
            (
                ArgKind::Dot
                | ArgKind::Field(_)
                | ArgKind::Variable(_)
                | ArgKind::Pipe(_)
                | ArgKind::Identifier(_)
                | ArgKind::Chain(..),
                _,
            ) => {
                let value = self.value(arg)?;
                self.checked(value, kind)
            }
            (ArgKind::Text(_, text), Kind::Text) => Ok(Value::Text(text.clone())),
            (_, Kind::Text) => self.fail(format!("expected string; found {arg}")),
            (ArgKind::Number(number), Kind::Int) if number.int.is_some() => {
                Ok(Value::Int(number.int.unwrap_or_default()))
            }
            (_, Kind::Int) => self.fail(format!("expected integer; found {arg}")),
        }
    }

    fn checked(&self, value: Value, kind: Kind) -> Result<Value> {
        match (&value, kind) {
            (_, Kind::Any) | (Value::Text(_), Kind::Text) | (Value::Int(_), Kind::Int) => Ok(value),
            (Value::Nothing, _) => self.fail(format!("invalid value; expected {}", kind.go_type())),
            _ => self.fail(format!(
                "wrong type for value; expected {}; got {}",
                kind.go_type(),
                go_type(&value)
            )),
        }
    }
}

impl Kind {
    fn go_type(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Int => "int",
            Self::Any => "interface {}",
        }
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Nothing => "nil",
        Value::Text(_) => "string",
        Value::Int(_) => "int",
        Value::Float(_) => "float64",
        Value::Bool(_) => "bool",
    }
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Nothing => false,
        Value::Text(text) => !text.is_empty(),
        Value::Int(int) => *int != 0,
        Value::Float(float) => *float != 0.0,
        Value::Bool(b) => *b,
    }
}

/// How long a text a call may make: each verb of `printf` shows the longest argument or fills up to
/// a width, for which the library allows 65,535; elsewhere a character may become `\u0027`.
fn most(name: &str, values: &[Value]) -> usize {
    let length = |value: &Value| match value {
        Value::Text(text) => text.len(),
        _ => 0,
    };
    match (name, values.first()) {
        ("printf", Some(Value::Text(format))) => {
            let digits = format.split(|c: char| !c.is_ascii_digit()).map(str::len).max();
            let wide = format.contains('*') || digits.is_some_and(|digits| digits > 3);
            let width = if wide { usize::from(u16::MAX) } else { 999 };
            let longest = values.iter().map(length).max().unwrap_or(0).max(width);
            format.matches('%').count().saturating_mul(longest).saturating_add(format.len())
        }
        ("html" | "js" | "urlquery", _) => values.iter().map(length).sum::<usize>() * 6,
        _ => values.iter().map(length).sum(),
    }
}

/// Calls a function that every template has.
fn call_builtin(name: &str, values: &[Value]) -> std::result::Result<String, String> {
    let mut data = BTreeMap::new();
    let mut text = format!("{{{{ {name}");
    for (value, index) in values.iter().zip(0..) {
        text.push_str(&format!(" .a{index}"));
        data.insert(
            Arc::from(format!("a{index}")),
            match value {
                Value::Nothing => gotmpl::Value::Nil,
                Value::Text(text) => gotmpl::Value::String(text.as_str().into()),
                Value::Int(int) => gotmpl::Value::Int(*int),
                Value::Float(float) => gotmpl::Value::Float(*float),
                Value::Bool(b) => gotmpl::Value::Bool(*b),
            },
        );
    }
    text.push_str(" }}");
    let template = gotmpl::Template::new(NAME).parse(&text).map_err(|e| e.to_string())?;
    let data = gotmpl::Value::Map(Arc::new(data));
    template.execute_to_string(&data).map_err(|e| e.to_string())
}
