//! Operators on values.

use std::cmp::Ordering;

use karat_hcl::ast::{Binary, BinaryOp, Unary, UnaryOp};
use karat_hcl::diag::{Diagnostic, Diagnostics, Span};
use karat_value::{Facts, Type, Value, convert};

use crate::evaluator::Evaluator;
use crate::scope::Scope;

pub(crate) fn result_type(op: BinaryOp) -> Type {
    match op {
        BinaryOp::Add
        | BinaryOp::Subtract
        | BinaryOp::Multiply
        | BinaryOp::Divide
        | BinaryOp::Modulo => Type::Number,
        _ => Type::Bool,
    }
}

/// Every operator but `&&` and `||`. `failed`: an operand could not be evaluated, so that only its
/// type is looked at.
pub(crate) fn binary(
    expr: &Binary,
    left: &Value,
    right: &Value,
    span: Span,
    failed: bool,
) -> Result<Value, Diagnostics> {
    let mut marks = left.deep_marks();
    marks.merge(&right.deep_marks());
    if matches!(expr.op, BinaryOp::Equal | BinaryOp::NotEqual) {
        let equal = if failed { None } else { left.equals(right) };
        let result = match equal {
            Some(equal) => Value::bool(equal == (expr.op == BinaryOp::Equal)),
            None => unknown_bool(),
        };
        return Ok(result.with_marks(&marks));
    }
    let mut errors = Diagnostics::new();
    let mut operand = |value: &Value, place, side: &str| {
        convert(value, &Type::Number).unwrap_or_else(|error| {
            errors.push(unsuitable(side, &error.to_string(), value, place));
            Value::unknown(Type::Number)
        })
    };
    let left = operand(left, expr.left.span, "left operand");
    let right = operand(right, expr.right.span, "right operand");
    if !errors.is_empty() {
        return Err(errors);
    }
    if !failed {
        for (value, place) in [(&left, expr.left.span), (&right, expr.right.span)] {
            if value.is_null() {
                errors.push(null_operand(place));
            }
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let (Some(a), Some(b), false) = (left.as_number(), right.as_number(), failed) else {
        return Ok(undecided(expr.op, &left, &right, failed).with_marks(&marks));
    };
    let order = |wanted: &[Ordering]| Ok(Value::bool(wanted.contains(&a.cmp(b))));
    let number = |result: Result<karat_value::Number, _>| result.map(Value::number);
    let result = match expr.op {
        BinaryOp::Less => order(&[Ordering::Less]),
        BinaryOp::LessOrEqual => order(&[Ordering::Less, Ordering::Equal]),
        BinaryOp::Greater => order(&[Ordering::Greater]),
        BinaryOp::GreaterOrEqual => order(&[Ordering::Greater, Ordering::Equal]),
        BinaryOp::Add => number(a.add(b)),
        BinaryOp::Subtract => number(a.sub(b)),
        BinaryOp::Multiply => number(a.mul(b)),
        BinaryOp::Divide => number(a.div(b)),
        _ => number(a.rem(b)),
    };
    match result {
        Ok(value) => Ok(value.with_marks(&marks)),
        Err(error) => {
            errors.push(operation_failed(&error.to_string(), span));
            Err(errors)
        }
    }
}

fn unknown_bool() -> Value {
    Value::unknown(Type::Bool).knowing(&Facts::not_null())
}

/// The result where an operand is not known; what is known of it may be enough.
fn undecided(op: BinaryOp, left: &Value, right: &Value, failed: bool) -> Value {
    if failed {
        return Value::unknown(result_type(op));
    }
    let (a, b) = (left.facts(), right.facts());
    let less = |a: &Facts, b: &Facts| match (&a.high, &b.low) {
        (Some((high, _)), Some((low, _))) => high < low,
        _ => false,
    };
    // Less, greater, or nothing is certain.
    let order = match (less(&a, &b), less(&b, &a)) {
        (true, _) => Some(Ordering::Less),
        (_, true) => Some(Ordering::Greater),
        _ => None,
    };
    match op {
        BinaryOp::Less | BinaryOp::LessOrEqual => {
            order.map_or_else(unknown_bool, |order| Value::bool(order.is_lt()))
        }
        BinaryOp::Greater | BinaryOp::GreaterOrEqual => {
            order.map_or_else(unknown_bool, |order| Value::bool(order.is_gt()))
        }
        _ => Value::unknown(Type::Number).knowing(&Facts::not_null()),
    }
}

/// The type of an operator's operand and of its result.
pub(crate) fn operand_type(op: UnaryOp) -> Type {
    match op {
        UnaryOp::Negate => Type::Number,
        UnaryOp::Not => Type::Bool,
    }
}

pub(crate) fn unary(expr: &Unary, operand: &Value, span: Span) -> Result<Value, Box<Diagnostic>> {
    let want = operand_type(expr.op);
    let value = convert(operand, &want).map_err(|error| {
        Box::new(unsuitable("unary operand", &error.to_string(), operand, expr.operand.span))
    })?;
    if value.is_null() {
        return Err(Box::new(null_operand(expr.operand.span)));
    }
    let result = match (value.as_number(), value.as_bool()) {
        (Some(number), _) => Value::number(number.neg()),
        (_, Some(bool)) => Value::bool(!bool),
        _ if value.is_known() => {
            return Err(Box::new(operation_failed("unsuitable operand", span)));
        }
        _ => Value::unknown(want).knowing(&Facts::not_null()),
    };
    Ok(result.with_marks(value.marks()))
}

fn unsuitable(side: &str, error: &str, value: &Value, place: Span) -> Diagnostic {
    Diagnostic::error("Invalid operand")
        .detail(format!("Unsuitable value for {side}: {error}."))
        .label(place, value.ty().friendly())
}

fn null_operand(place: Span) -> Diagnostic {
    Diagnostic::error("Operation failed")
        .detail("Error during operation: argument must not be null.")
        .label(place, "null")
}

fn operation_failed(error: &str, span: Span) -> Diagnostic {
    Diagnostic::error("Operation failed")
        .detail(format!("Error during operation: {error}."))
        .at(span)
}

impl Evaluator {
    /// `&&` and `||`: either side decides alone if it can, and then what is wrong with the other
    /// does not matter, unless it is of a type that can never be a bool.
    pub(crate) fn logical(
        &self,
        expr: &Binary,
        scope: &Scope<'_>,
        diags: &mut Diagnostics,
    ) -> Value {
        let mut type_errors = Diagnostics::new();
        let mut side = |place: &karat_hcl::ast::Expr, name: &str| {
            let mut own = Diagnostics::new();
            let given = self.eval(place, scope, &mut own);
            let value = convert(&given, &Type::Bool).unwrap_or_else(|error| {
                type_errors.push(unsuitable(name, &error.to_string(), &given, place.span));
                Value::unknown(Type::Bool)
            });
            (value, own)
        };
        let (left, left_diags) = side(&expr.left, "left operand");
        let (right, right_diags) = side(&expr.right, "right operand");
        if !type_errors.is_empty() {
            diags.append(type_errors);
            diags.append(left_diags);
            diags.append(right_diags);
            return Value::unknown(Type::Bool);
        }
        let (left, marks) = left.unmark();
        let (right, right_marks) = right.unmark();
        let marks = marks.union(&right_marks);
        let deciding = expr.op == BinaryOp::Or;
        // A null decides like false.
        let decides =
            |value: &Value| value.is_known() && value.as_bool().unwrap_or(false) == deciding;
        if decides(&left) {
            diags.append(left_diags);
            return Value::bool(deciding).with_marks(&marks);
        }
        if decides(&right) {
            diags.append(right_diags);
            return Value::bool(deciding).with_marks(&marks);
        }
        // An unknown side hides what is wrong with the other one only if it is sound itself.
        if left.is_known() || right.is_known() || left_diags.has_errors() {
            diags.append(left_diags);
            diags.append(right_diags);
        } else {
            diags.append(left_diags);
        }
        let unknown = unknown_bool();
        if left.is_known() && right.is_known() {
            for (value, place) in [(&left, expr.left.span), (&right, expr.right.span)] {
                if value.is_null() {
                    diags.push(null_operand(place));
                    return unknown.with_marks(&marks);
                }
            }
            return Value::bool(!deciding).with_marks(&marks);
        }
        unknown.with_marks(&marks)
    }
}
