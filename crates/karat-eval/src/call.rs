//! Function calls.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::OnceLock;

use karat_functions::{CallContext, Function, FunctionError, World};
use karat_hcl::ast::{Call, Expr};
use karat_hcl::diag::{Diagnostic, Diagnostics, SourceId, Span};
use karat_hcl::parse_template;
use karat_value::{Type, Value, convert};

use crate::budget::Budget;
use crate::evaluator::{Evaluator, evaluate_within};
use crate::references::references;
use crate::scope::{Environment, Functions, Scope};
use crate::special;

/// An argument: an expression, or a value that `...` gave.
pub(crate) enum Argument<'e> {
    Expr(&'e Expr),
    Value(Value, Span),
}

impl Argument<'_> {
    pub(crate) fn span(&self) -> Span {
        match self {
            Self::Expr(expr) => expr.span,
            Self::Value(_, span) => *span,
        }
    }
}

fn functions() -> &'static BTreeMap<&'static str, &'static Function> {
    static TABLE: OnceLock<BTreeMap<&'static str, &'static Function>> = OnceLock::new();
    TABLE.get_or_init(|| {
        karat_functions::table().iter().map(|function| (function.name, function)).collect()
    })
}

impl Evaluator {
    pub(crate) fn call(
        &self,
        call: &Call,
        span: Span,
        scope: &Scope<'_>,
        diags: &mut Diagnostics,
    ) -> Value {
        let name = call.name.name.as_str();
        let allowed = scope.environment().functions;
        if allowed == Functions::None {
            diags.push(
                Diagnostic::error("Function calls not allowed")
                    .detail("Functions may not be called here.")
                    .at(call.name.span),
            );
            return Value::dynamic();
        }
        let is_special = allowed.has_special_forms() && special::NAMES.contains(&name);
        let function = functions().get(name).copied().filter(|found| allowed.allows(found));
        if function.is_none() && !is_special {
            diags.push(unknown_function(call, allowed));
            return Value::dynamic();
        }
        let mut own = Diagnostics::new();
        let Some(args) = self.arguments(call, scope, &mut own) else {
            diags.append(own);
            return Value::dynamic();
        };
        diags.append(own);
        match function {
            Some(function) if !is_special => {
                self.call_function(function, call, &args, span, scope, diags)
            }
            _ => self.special_form(name, call, &args, scope, diags),
        }
    }

    /// The arguments with `...` resolved; `None` if the call's value is unknown or an error was
    /// reported.
    fn arguments<'e>(
        &self,
        call: &'e Call,
        scope: &Scope<'_>,
        diags: &mut Diagnostics,
    ) -> Option<Vec<Argument<'e>>> {
        let mut args: Vec<Argument<'e>> = call.args.iter().map(Argument::Expr).collect();
        if call.expand.is_none() {
            return Some(args);
        }
        let last = call.args.last()?;
        let value = self.eval(last, scope, diags);
        if diags.has_errors() {
            return None;
        }
        let mut invalid = |detail: &str| {
            diags.push(
                Diagnostic::error("Invalid expanding argument value").detail(detail).at(last.span),
            );
        };
        if value.is_null() {
            invalid("The expanding argument (indicated by ...) must not be null.");
            return None;
        }
        if *value.ty() != Type::Dynamic && !value.ty().is_sequence() {
            invalid(
                "The expanding argument (indicated by ...) must be of a tuple, list, or set type.",
            );
            return None;
        }
        let items = value.as_slice()?;
        args.pop();
        args.extend(
            items
                .iter()
                .map(|item| Argument::Value(item.clone().with_marks(value.marks()), last.span)),
        );
        Some(args)
    }

    /// The value of an argument.
    pub(crate) fn argument(
        &self,
        argument: &Argument<'_>,
        scope: &Scope<'_>,
        diags: &mut Diagnostics,
    ) -> Value {
        match argument {
            Argument::Expr(expr) => self.eval(expr, scope, diags),
            Argument::Value(value, _) => value.clone(),
        }
    }

    fn call_function(
        &self,
        function: &Function,
        call: &Call,
        args: &[Argument<'_>],
        span: Span,
        scope: &Scope<'_>,
        diags: &mut Diagnostics,
    ) -> Value {
        let name = function.name;
        let required = function.params.len();
        if args.len() < required {
            let at_least = if function.variadic.is_some() { " at least" } else { "" };
            diags.push(
                Diagnostic::error("Not enough function arguments")
                    .detail(format!(
                        "Function \"{name}\" expects{at_least} {required} argument(s). Missing \
                         value for \"{}\".",
                        function.params[args.len()].name
                    ))
                    .at(call.parens),
            );
            return Value::dynamic();
        }
        if function.variadic.is_none() && args.len() > required {
            diags.push(too_many(name, required, args[required].span()));
            return Value::dynamic();
        }
        let mut own = Diagnostics::new();
        let mut values = Vec::with_capacity(args.len());
        for (i, argument) in args.iter().enumerate() {
            let value = self.argument(argument, scope, &mut own);
            let param = function.param(i);
            if let Some(param) = param
                && let Err(error) = convert(&value, &param.kind.ty())
            {
                own.push(invalid_argument(param.name, &error.to_string(), argument.span()));
            }
            values.push(value);
        }
        let failed = own.has_errors();
        diags.append(own);
        if failed || self.budget.is_exhausted() {
            return Value::dynamic();
        }
        // One text may stand in many places of a list and cost nothing there, but most functions
        // make new texts of it.
        if !self.budget.take_walk(&values) {
            self.give_up(span);
            return Value::dynamic();
        }
        let context = Context { environment: scope.environment(), budget: self.budget.clone() };
        match karat_functions::call(function, &values, &context) {
            Ok(value) => {
                if self.budget.take(value.weight()) {
                    value
                } else {
                    self.give_up(span);
                    Value::dynamic()
                }
            }
            Err(_) if self.budget.is_exhausted() => {
                self.give_up(span);
                Value::dynamic()
            }
            Err(error) => {
                diags.push(call_failed(function, &error, args, call, span));
                Value::dynamic()
            }
        }
    }
}

fn unknown_function(call: &Call, allowed: Functions) -> Diagnostic {
    let name = call.name.name.as_str();
    let known = functions().values().filter(|function| allowed.allows(function));
    let special: &[&str] = if allowed.has_special_forms() { &special::NAMES } else { &[] };
    let names: Vec<&str> =
        known.map(|function| function.name).chain(special.iter().copied()).collect();
    let diag = Diagnostic::error("Call to unknown function")
        .detail(format!("There is no function named \"{name}\"."))
        .at(call.name.span);
    match name {
        "tostring" | "tonumber" | "tobool" | "tolist" | "toset" | "tomap" => {
            let ty = name.trim_start_matches("to");
            let ty = if matches!(ty, "list" | "set" | "map") {
                format!("{ty}(any)")
            } else {
                ty.to_owned()
            };
            diag.hint(format!("Use convert(value, {ty})."))
        }
        "env" => diag.hint("env can only be called in the default of a variable."),
        _ => diag.did_you_mean(name, names),
    }
}

pub(crate) fn too_many(name: &str, expected: usize, span: Span) -> Diagnostic {
    Diagnostic::error("Too many function arguments")
        .detail(format!("Function \"{name}\" expects only {expected} argument(s)."))
        .at(span)
}

pub(crate) fn invalid_argument(param: &str, error: &str, span: Span) -> Diagnostic {
    Diagnostic::error("Invalid function argument")
        .detail(format!("Invalid value for \"{param}\" parameter: {error}."))
        .at(span)
}

fn call_failed(
    function: &Function,
    error: &FunctionError,
    args: &[Argument<'_>],
    call: &Call,
    span: Span,
) -> Diagnostic {
    let place = error.argument.and_then(|i| Some((function.param(i)?, args.get(i)?)));
    match place {
        Some((param, argument)) => invalid_argument(param.name, &error.message, argument.span()),
        None => Diagnostic::error("Error in function call")
            .detail(format!(
                "Call to function \"{}\" failed: {}.",
                function.name,
                error.message.trim_end_matches('.')
            ))
            .label(call.name.span, "")
            .also(span, "in this call"),
    }
}

/// What functions know of where they are called.
struct Context<'a> {
    environment: &'a Environment<'a>,
    budget: Rc<Budget>,
}

impl CallContext for Context<'_> {
    fn world(&self) -> &dyn World {
        self.environment.world
    }

    fn root(&self) -> &Path {
        &self.environment.root
    }

    fn spend(&self, steps: usize) -> bool {
        self.budget.take(steps)
    }

    fn render_template(
        &self,
        name: &str,
        source: &str,
        variables: &Value,
    ) -> Result<Value, FunctionError> {
        if self.environment.functions == Functions::TemplateFile {
            return Err(FunctionError::new(
                "cannot recursively call templatefile from inside a templatefile call",
            ));
        }
        let fail = |diags: &Diagnostics| FunctionError::new(describe(name, source, diags));
        let (expr, diags) = parse_template(SourceId(u32::MAX), source, 0..source.len());
        if diags.has_errors() {
            return Err(fail(&diags));
        }
        let environment = self.environment.clone().with_functions(Functions::TemplateFile);
        let mut scope = Scope::new(&environment);
        for (key, value) in variables.as_map().into_iter().flatten() {
            if !karat_hcl::is_identifier(key) {
                return Err(FunctionError::argument(
                    1,
                    format!(
                        "invalid template variable name \"{key}\": must start with a letter, \
                         followed by zero or more letters, digits, and underscores"
                    ),
                ));
            }
            scope.set(key.clone(), value.clone().with_marks(variables.marks()));
        }
        for reference in references(&expr) {
            if scope.get(&reference.root.name).is_none() {
                return Err(FunctionError::argument(
                    1,
                    format!(
                        "vars map does not contain key \"{}\", referenced at {}",
                        reference.root.name,
                        place(name, source, reference.root.span)
                    ),
                ));
            }
        }
        let (value, diags) = evaluate_within(&expr, &scope, &self.budget);
        if diags.has_errors() { Err(fail(&diags)) } else { Ok(value) }
    }
}

/// `name:line,column`
fn place(name: &str, source: &str, span: Span) -> String {
    let before = source.get(..span.range().start).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{name}:{line},{column}")
}

fn describe(name: &str, source: &str, diags: &Diagnostics) -> String {
    let errors: Vec<String> = diags
        .iter()
        .filter(|diag| diag.is_error())
        .map(|diag| {
            let at = diag
                .primary
                .as_ref()
                .map_or_else(|| name.to_owned(), |label| place(name, source, label.span));
            let detail = diag.detail.trim_end_matches('.');
            format!("{at}: {}; {detail}", diag.summary)
        })
        .collect();
    errors.join("\n")
}
