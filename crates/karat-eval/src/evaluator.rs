//! Expressions to values.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use karat_hcl::ast::{
    BinaryOp, Conditional, Expr, ExprKind, Ident, ObjectItem, ObjectKey, Step, Traversal,
};
use karat_hcl::diag::{Diagnostic, Diagnostics, Span};
use karat_value::{Facts, Marks, Number, Type, Value, convert, unify_values};

use crate::budget::{Budget, MAX_DEPTH, MAX_WEIGHT};
use crate::operators;
use crate::references::references;
use crate::scope::Scope;

/// Evaluates an expression.
///
/// Where something is wrong, the diagnostics say so and the value there is unknown. Two branches
/// of `?:` are both evaluated, for their types; what is wrong in the one not taken is not told,
/// likewise with `&&` and `||`.
///
/// An evaluation that takes more than some million steps, or makes a text of more than 64 MiB, a
/// value of more than some million elements or one nested more than 1000 deep, is given up with an
/// error that nothing in the expression can hide.
pub fn evaluate(expr: &Expr, scope: &Scope<'_>) -> (Value, Diagnostics) {
    evaluate_within(expr, scope, &Rc::new(Budget::new()))
}

/// [`evaluate`] as a part of another evaluation, out of the same budget.
pub(crate) fn evaluate_within(
    expr: &Expr,
    scope: &Scope<'_>,
    budget: &Rc<Budget>,
) -> (Value, Diagnostics) {
    let evaluator = Evaluator::new(budget.clone());
    let mut diags = Diagnostics::new();
    let value = evaluator.eval(expr, scope, &mut diags);
    if let Some(place) = evaluator.given_up.take() {
        return (Value::dynamic(), too_expensive(expr.span, place).into());
    }
    (value, without_repetitions(diags))
}

fn too_expensive(span: Span, place: Span) -> Diagnostic {
    Diagnostic::error("Expression too expensive")
        .detail("Evaluating this expression takes too many steps, or makes too much or too deep a value.")
        .at(span)
        .also(place, "given up here")
        .hint("Use smaller ranges, widths and repetitions, or fewer nested loops.")
}

/// What is wrong in a loop is wrong for every element, but needs to be told once.
fn without_repetitions(diags: Diagnostics) -> Diagnostics {
    if diags.len() < 2 {
        return diags;
    }
    let mut result = Diagnostics::new();
    let mut told: Vec<&Diagnostic> = Vec::new();
    for diag in diags.iter() {
        if !told.contains(&diag) {
            told.push(diag);
            result.push(diag.clone());
        }
    }
    result
}

/// After so many messages a loop is left.
const MAX_TOLD: usize = 20;

/// Whether so much was told since there were `before` messages that a loop should be left.
pub(crate) fn is_enough(diags: &Diagnostics, before: usize) -> bool {
    diags.len() > before + MAX_TOLD
}

/// Evaluates an expression and converts the value to a type.
pub fn evaluate_as(expr: &Expr, want: &Type, scope: &Scope<'_>) -> (Value, Diagnostics) {
    let (value, mut diags) = evaluate(expr, scope);
    if diags.has_errors() {
        return (Value::unknown(want.clone()), diags);
    }
    match convert(&value, want) {
        Ok(value) => (value, diags),
        Err(error) => {
            diags.push(
                Diagnostic::error("Unsuitable value type")
                    .detail(format!("Unsuitable value: {error}."))
                    .at(expr.span),
            );
            (Value::unknown(want.clone()), diags)
        }
    }
}

/// The result of a condition that is not known yet: what holds of both branches holds of it.
fn either<E>(
    ty: Type,
    then: &Result<Value, E>,
    otherwise: &Result<Value, E>,
    same_type: bool,
) -> Value {
    let (Ok(then), Ok(otherwise)) = (then, otherwise) else { return Value::unknown(ty) };
    if then.is_null() && otherwise.is_null() {
        return Value::null(ty);
    }
    let facts = Facts::either(&then.facts(), &otherwise.facts());
    let facts = match ty {
        // Texts and structures are known not to be null, and no more.
        Type::Number | Type::List(_) | Type::Set(_) | Type::Map(_) if same_type => facts,
        _ => Facts { not_null: facts.not_null, ..Facts::default() },
    };
    Value::unknown(ty).knowing(&facts)
}

/// One evaluation.
pub(crate) struct Evaluator {
    pub(crate) budget: Rc<Budget>,
    /// Where the evaluation was given up.
    given_up: Cell<Option<Span>>,
    /// What [`ExprKind::SplatItem`] stands for, the innermost last.
    pub(crate) splat_items: RefCell<Vec<Value>>,
}

impl Evaluator {
    pub(crate) fn new(budget: Rc<Budget>) -> Self {
        Self { budget, given_up: Cell::new(None), splat_items: RefCell::new(Vec::new()) }
    }

    /// Ends the evaluation: it costs too much.
    pub(crate) fn give_up(&self, place: Span) {
        self.budget.exhaust();
        self.given_up.set(self.given_up.get().or(Some(place)));
    }

    pub(crate) fn eval(&self, expr: &Expr, scope: &Scope<'_>, diags: &mut Diagnostics) -> Value {
        if !self.budget.take(1) {
            self.give_up(expr.span);
            return Value::dynamic();
        }
        // Trees are of bounded height, but the stack of a thread may be small.
        let value = stacker::maybe_grow(128 << 10, 1 << 20, || self.dispatch(expr, scope, diags));
        let made = matches!(expr.kind, ExprKind::Tuple(_) | ExprKind::Object(_) | ExprKind::For(_));
        let paid = !made || self.budget.take(value.own_weight());
        // Its parts may be shared, so that it took few steps to make, but whoever uses it walks.
        if !paid || value.weight() > MAX_WEIGHT || value.depth() > MAX_DEPTH {
            self.give_up(expr.span);
            return Value::dynamic();
        }
        value
    }

    fn dispatch(&self, expr: &Expr, scope: &Scope<'_>, diags: &mut Diagnostics) -> Value {
        match &expr.kind {
            ExprKind::Null => Value::untyped_null(),
            ExprKind::Bool(value) => Value::bool(*value),
            ExprKind::Number(text) => match Number::parse(text) {
                Ok(number) => Value::number(number),
                Err(error) => {
                    diags.push(
                        Diagnostic::error("Invalid number literal")
                            .detail(format!("\"{text}\": {error}."))
                            .at(expr.span),
                    );
                    Value::unknown(Type::Number)
                }
            },
            ExprKind::Template(template) => self.template(template, expr.span, scope, diags),
            ExprKind::Tuple(items) => {
                Value::tuple(items.iter().map(|item| self.eval(item, scope, diags)).collect())
            }
            ExprKind::Object(items) => self.object(items, scope, diags),
            ExprKind::Call(call) => self.call(call, expr.span, scope, diags),
            ExprKind::For(expr) => self.for_expr(expr, scope, diags),
            ExprKind::Conditional(conditional) => {
                self.conditional(conditional, expr.span, scope, diags)
            }
            ExprKind::Binary(binary) => match binary.op {
                BinaryOp::And | BinaryOp::Or => self.logical(binary, scope, diags),
                _ => self.binary(binary, expr.span, scope, diags),
            },
            ExprKind::Unary(unary) => self.unary(unary, expr.span, scope, diags),
            ExprKind::Parens(inner) => self.eval(inner, scope, diags),
            ExprKind::Variable(ident) => variable(ident, scope, diags),
            ExprKind::Traversal(traversal) => self.traversal(traversal, scope, diags),
            ExprKind::Splat(splat) => self.splat(splat, scope, diags),
            ExprKind::SplatItem => {
                self.splat_items.borrow().last().cloned().unwrap_or_else(Value::dynamic)
            }
            ExprKind::Error => {
                // Whoever reads the text reports what is wrong; this keeps the value from use.
                Value::dynamic()
            }
        }
    }

    fn object(&self, items: &[ObjectItem], scope: &Scope<'_>, diags: &mut Diagnostics) -> Value {
        let mut result: BTreeMap<Arc<str>, Value> = BTreeMap::new();
        let mut marks = Marks::NONE;
        let mut known = true;
        for item in items {
            let key = match &item.key {
                ObjectKey::Name(name) => Some(Value::string(name.name.as_str())),
                ObjectKey::Expr(expr) if expr.is_absolute_traversal() => {
                    diags.push(
                        Diagnostic::error("Ambiguous attribute key")
                            .detail(
                                "This could be a name with points in it or a reference to a value.",
                            )
                            .at(expr.span)
                            .hint("For a name put it in quotes, for a reference in parentheses."),
                    );
                    None
                }
                ObjectKey::Expr(expr) => {
                    let mut key_diags = Diagnostics::new();
                    let key = self.eval(expr, scope, &mut key_diags);
                    let failed = key_diags.has_errors();
                    diags.append(key_diags);
                    (!failed).then_some(key)
                }
            };
            let value = self.eval(&item.value, scope, diags);
            let Some(key) = key else {
                known = false;
                continue;
            };
            match object_key(key, item.key.span(), &mut marks) {
                Ok(Some(key)) => drop(result.insert(key, value)),
                Ok(None) => known = false,
                Err(diag) => {
                    known = false;
                    diags.push(*diag);
                }
            }
        }
        let value = if known { Value::object(result) } else { Value::dynamic() };
        value.with_marks(&marks)
    }

    fn conditional(
        &self,
        expr: &Conditional,
        span: Span,
        scope: &Scope<'_>,
        diags: &mut Diagnostics,
    ) -> Value {
        let mut then_diags = Diagnostics::new();
        let then = self.eval(&expr.then, scope, &mut then_diags);
        let mut else_diags = Diagnostics::new();
        let otherwise = self.eval(&expr.otherwise, scope, &mut else_diags);
        if !self.budget.take_walk([&then, &otherwise]) {
            self.give_up(span);
            return Value::dynamic();
        }
        let same_type = then.ty() == otherwise.ty();
        let Some(branches) = unify_branches(&then, &otherwise) else {
            diags.push(
                Diagnostic::error("Inconsistent conditional result types")
                    .detail(format!(
                        "The true and false result expressions must have consistent types. The \
                         'true' value is {}, but the 'false' value is {}.",
                        then.noun(),
                        otherwise.noun()
                    ))
                    .label(expr.then.span, then.ty().friendly())
                    .also(expr.otherwise.span, otherwise.ty().friendly()),
            );
            return Value::dynamic();
        };
        let (ty, then, otherwise) = branches;
        let mut marks = Marks::NONE;
        let Some(condition) = self.condition(&expr.condition, &mut marks, scope, diags) else {
            return Value::unknown(ty);
        };
        let branch_marks = |branch: &Result<Value, _>| {
            branch.as_ref().map_or(Marks::NONE, |value: &Value| value.marks().clone())
        };
        marks.merge(&branch_marks(&then));
        marks.merge(&branch_marks(&otherwise));
        let (branch, branch_diags, place, word) = match condition {
            Some(true) => (then, then_diags, &expr.then, "true"),
            Some(false) => (otherwise, else_diags, &expr.otherwise, "false"),
            None => {
                // A branch that may not be chosen fails in silence, and that it does may tell of
                // what is in it.
                for (branch, diags) in [(&expr.then, then_diags), (&expr.otherwise, else_diags)] {
                    if diags.has_errors() {
                        marks.merge(&self.marks_within(branch, scope));
                    }
                }
                return either(ty, &then, &otherwise, same_type).with_marks(&marks);
            }
        };
        diags.append(branch_diags);
        match branch {
            Ok(value) => value.with_marks(&marks),
            Err(error) => {
                diags.push(
                    Diagnostic::error("Inconsistent conditional result types")
                        .detail(format!("The {word} result value has the wrong type: {error}."))
                        .label(place.span, "this value")
                        .also(span, "in this condition"),
                );
                Value::unknown(ty).with_marks(&marks)
            }
        }
    }

    /// The marks of all values that an expression names.
    fn marks_within(&self, expr: &Expr, scope: &Scope<'_>) -> Marks {
        let mut marks = Marks::NONE;
        for reference in references(expr) {
            let Some(mut value) = scope.get(&reference.root.name).cloned() else { continue };
            for step in &reference.steps {
                let Some(name) = step.name() else { break };
                let Ok(next) = crate::access::attribute(&value, name, reference.span) else {
                    break;
                };
                value = next;
            }
            if !self.budget.take_walk([&value]) {
                self.give_up(expr.span);
                break;
            }
            marks.merge(&value.deep_marks());
        }
        marks
    }

    /// Evaluates what stands before `?` or after `%{ if`: `None` after an error, `Some(None)` when
    /// it is not known. Adds its marks to `marks`.
    pub(crate) fn condition(
        &self,
        expr: &Expr,
        marks: &mut Marks,
        scope: &Scope<'_>,
        diags: &mut Diagnostics,
    ) -> Option<Option<bool>> {
        let mut own = Diagnostics::new();
        let value = self.eval(expr, scope, &mut own);
        let failed = own.has_errors();
        diags.append(own);
        let (value, found) = value.unmark();
        marks.merge(&found);
        if value.is_null() {
            diags.push(
                Diagnostic::error("Null condition")
                    .detail("The condition value is null. Conditions must either be true or false.")
                    .at(expr.span),
            );
            return None;
        }
        if failed {
            return Some(None);
        }
        match convert(&value, &Type::Bool) {
            // As unknown texts and numbers are not yet told apart from what would convert.
            _ if !value.is_known() => Some(None),
            Ok(value) => Some(value.as_bool()),
            Err(error) => {
                diags.push(
                    Diagnostic::error("Incorrect condition type")
                        .detail(format!("The condition expression must be of type bool: {error}."))
                        .label(expr.span, value.ty().friendly()),
                );
                None
            }
        }
    }

    fn traversal(
        &self,
        traversal: &Traversal,
        scope: &Scope<'_>,
        diags: &mut Diagnostics,
    ) -> Value {
        let mut own = Diagnostics::new();
        let mut value = self.eval(&traversal.base, scope, &mut own);
        for step in &traversal.steps {
            let next = match step {
                Step::Attr { name, span } => crate::access::attribute(&value, &name.name, *span),
                Step::LegacyIndex { digits, span } => {
                    let key =
                        Number::parse(digits).map_or_else(|_| Value::dynamic(), Value::number);
                    crate::access::index(&value, &key, *span)
                }
                Step::Index { key, span } => {
                    let key = self.eval(key, scope, &mut own);
                    crate::access::index(&value, &key, *span)
                }
            };
            match next {
                Ok(next) => value = next,
                Err(diag) => {
                    // What could not be evaluated needs no second message.
                    own.push(*diag);
                    value = Value::dynamic();
                    // Keys further on may still have errors of their own; names have not.
                }
            }
        }
        diags.append(own);
        // Of what failed elsewhere in the base the type counts: `true ? 1 : [[], nosuch()][0]`.
        value
    }
}

/// The branches of `?:`, each as a value of the type that both have in common, or why not.
type Branches =
    (Type, Result<Value, karat_value::ConvertError>, Result<Value, karat_value::ConvertError>);

fn unify_branches(then: &Value, otherwise: &Value) -> Option<Branches> {
    let is_untyped_null = |value: &Value| value.is_null() && *value.ty() == Type::Dynamic;
    if is_untyped_null(then) {
        let ty = otherwise.ty().clone();
        return Some((ty.clone(), convert(then, &ty), Ok(otherwise.clone())));
    }
    if is_untyped_null(otherwise) {
        let ty = then.ty().clone();
        return Some((ty.clone(), Ok(then.clone()), convert(otherwise, &ty)));
    }
    if *then.ty() == Type::Dynamic || *otherwise.ty() == Type::Dynamic {
        return Some((Type::Dynamic, Ok(then.clone()), Ok(otherwise.clone())));
    }
    let ty = karat_value::unify(&[then.ty().clone(), otherwise.ty().clone()], true)?;
    // One branch that does not convert must not keep the other one from its value.
    let one = |value: &Value| {
        if *value.ty() == ty { Ok(value.clone()) } else { convert(value, &ty) }
    };
    if ty == Type::Dynamic {
        let (_, values) = unify_values(&[then.clone(), otherwise.clone()], true)?;
        let mut values = values.ok()?.into_iter();
        return Some((ty, Ok(values.next()?), Ok(values.next()?)));
    }
    Some((ty.clone(), one(then), one(otherwise)))
}

fn variable(ident: &Ident, scope: &Scope<'_>, diags: &mut Diagnostics) -> Value {
    if let Some(value) = scope.get(&ident.name) {
        return value.clone();
    }
    let names = scope.names();
    if names.is_empty() {
        diags.push(
            Diagnostic::error("Variables not allowed")
                .detail("Variables may not be used here.")
                .at(ident.span)
                .hint(format!("If \"{}\" is meant as text, put it in quotes.", ident.name)),
        );
        return Value::dynamic();
    }
    let error = Diagnostic::error("Unknown variable")
        .detail(format!("There is no variable named \"{}\".", ident.name))
        .at(ident.span);
    let holder = ["var", "local"].into_iter().find(|root| holds(scope, root, &ident.name));
    diags.push(match holder {
        Some(root) => error.hint(format!("Write {root}.{} for its value.", ident.name)),
        None if ident.name == "build" => {
            error.hint("Values of a build are known to its provisioners and post-processors only.")
        }
        None => error.did_you_mean(&ident.name, names),
    });
    Value::dynamic()
}

/// Whether `root.name` would be something.
fn holds(scope: &Scope<'_>, root: &str, name: &str) -> bool {
    scope.get(root).and_then(Value::as_map).is_some_and(|values| values.get(name).is_some())
}

/// The text that a value is as a key of an object; `None` when it is not known.
pub(crate) fn object_key(
    key: Value,
    span: Span,
    marks: &mut Marks,
) -> Result<Option<Arc<str>>, Box<Diagnostic>> {
    let (key, found) = key.unmark();
    marks.merge(&found);
    if key.is_null() {
        let diag = Diagnostic::error("Null value as key");
        return Err(Box::new(diag.detail("Can't use a null value as a key.").at(span)));
    }
    match convert(&key, &Type::String) {
        Ok(key) => Ok(key.as_str().map(Arc::from)),
        Err(error) => {
            let detail = format!("Can't use this value as a key: {error}.");
            Err(Box::new(Diagnostic::error("Incorrect key type").detail(detail).at(span)))
        }
    }
}

// Operators live in a file of their own; this is the way there.
impl Evaluator {
    fn binary(
        &self,
        expr: &karat_hcl::ast::Binary,
        span: Span,
        scope: &Scope<'_>,
        diags: &mut Diagnostics,
    ) -> Value {
        let mut own = Diagnostics::new();
        let left = self.eval(&expr.left, scope, &mut own);
        let right = self.eval(&expr.right, scope, &mut own);
        let failed = own.has_errors();
        diags.append(own);
        if !self.budget.take_walk([&left, &right]) {
            self.give_up(span);
            return Value::unknown(operators::result_type(expr.op));
        }
        let result = operators::binary(expr, &left, &right, span, failed);
        result.unwrap_or_else(|errors| {
            diags.append(errors);
            Value::unknown(operators::result_type(expr.op))
        })
    }

    fn unary(
        &self,
        expr: &karat_hcl::ast::Unary,
        span: Span,
        scope: &Scope<'_>,
        diags: &mut Diagnostics,
    ) -> Value {
        let mut own = Diagnostics::new();
        let operand = self.eval(&expr.operand, scope, &mut own);
        let failed = own.has_errors();
        diags.append(own);
        let result = operators::unary(expr, &operand, span);
        match result {
            Ok(value) if !failed => value,
            Ok(value) => Value::unknown(value.ty().clone()),
            Err(diag) => {
                diags.push(*diag);
                // The operator still tells which type comes out.
                Value::unknown(operators::operand_type(expr.op))
            }
        }
    }
}
