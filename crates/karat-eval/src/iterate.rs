//! `for` in expressions and in templates.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use karat_hcl::ast::{Expr, For, ForResult, Ident};
use karat_hcl::diag::{Diagnostic, Diagnostics};
use karat_value::{Marks, Type, Value, convert};

use crate::evaluator::{Evaluator, is_enough};
use crate::scope::Scope;

/// Whether an element takes part.
enum Include {
    Yes,
    No,
    /// Not known, or an error was reported.
    Unknown,
}

impl Evaluator {
    /// The collection of a `for`: `Err` holds what the whole `for` is when there is nothing to go
    /// through.
    pub(crate) fn iterated(
        &self,
        expr: &Expr,
        scope: &Scope<'_>,
        diags: &mut Diagnostics,
    ) -> Result<(Value, Marks), Value> {
        let value = self.eval(expr, scope, diags);
        if value.is_null() {
            diags.push(
                Diagnostic::error("Iteration over null value")
                    .detail("A null value cannot be used as the collection in a 'for' expression.")
                    .at(expr.span),
            );
            return Err(Value::dynamic());
        }
        let (value, marks) = value.unmark();
        if *value.ty() == Type::Dynamic {
            return Err(Value::dynamic().with_marks(&marks));
        }
        if !value.ty().is_sequence() && !value.ty().is_mapping() {
            diags.push(
                Diagnostic::error("Iteration over non-iterable value")
                    .detail(format!(
                        "A value of type {} cannot be used as the collection in a 'for' \
                         expression.",
                        value.ty().friendly()
                    ))
                    .at(expr.span),
            );
            return Err(Value::dynamic());
        }
        Ok((value, marks))
    }

    pub(crate) fn for_expr(&self, expr: &For, scope: &Scope<'_>, diags: &mut Diagnostics) -> Value {
        let (collection, mut marks) = match self.iterated(&expr.collection, scope, diags) {
            Ok(found) => found,
            Err(value) => return value,
        };
        if let Some(condition) = &expr.condition
            && !self.check_condition(expr, condition, &mut marks, scope, diags)
        {
            return Value::dynamic();
        }
        let Some(elements) = collection.elements() else {
            return Value::dynamic().with_marks(&marks);
        };
        let mut tuple = Vec::new();
        let mut object: BTreeMap<Arc<str>, Value> = BTreeMap::new();
        let mut groups: BTreeMap<Arc<str>, Vec<Value>> = BTreeMap::new();
        let mut known = true;
        let before = diags.len();
        for (key, value) in elements {
            if self.budget.is_exhausted() || is_enough(diags, before) {
                return Value::dynamic();
            }
            let scope = bind(scope, expr.key.as_ref(), &expr.value, key, value.clone());
            match self.include(expr.condition.as_ref(), &mut marks, known, &scope, diags) {
                Include::Yes => {}
                Include::No => continue,
                Include::Unknown => {
                    known = false;
                    continue;
                }
            }
            let (key, item, group) = match &expr.result {
                ForResult::Tuple { item } => {
                    tuple.push(self.eval(item, &scope, diags));
                    continue;
                }
                ForResult::Object { key, value, group } => (key, value, *group),
            };
            let Some(name) = self.for_key(key, &mut marks, known, &scope, diags) else {
                known = false;
                continue;
            };
            let item = self.eval(item, &scope, diags);
            if group {
                groups.entry(name).or_default().push(item);
                continue;
            }
            match object.entry(name) {
                Entry::Vacant(entry) => drop(entry.insert(item)),
                Entry::Occupied(entry) => diags.push(
                    Diagnostic::error("Duplicate object key")
                        .detail(format!(
                            "Two different items produced the key \"{}\" in this 'for' expression.",
                            entry.key()
                        ))
                        .at(key.span)
                        .hint(
                            "If duplicates are expected, use the ellipsis (...) after the value \
                             expression to enable grouping by key.",
                        ),
                ),
            }
        }
        let value = match &expr.result {
            _ if !known => Value::dynamic(),
            ForResult::Tuple { .. } => Value::tuple(tuple),
            ForResult::Object { group: true, .. } => Value::object(
                groups.into_iter().map(|(name, items)| (name, Value::tuple(items))).collect(),
            ),
            ForResult::Object { .. } => Value::object(object),
        };
        value.with_marks(&marks)
    }

    /// Looks at the `if` once with unknown elements, so that plain mistakes show also for empty
    /// collections.
    fn check_condition(
        &self,
        expr: &For,
        condition: &Expr,
        marks: &mut Marks,
        scope: &Scope<'_>,
        diags: &mut Diagnostics,
    ) -> bool {
        let scope = bind(scope, expr.key.as_ref(), &expr.value, Value::dynamic(), Value::dynamic());
        let mut own = Diagnostics::new();
        let value = self.eval(condition, &scope, &mut own);
        let failed = own.has_errors();
        diags.append(own);
        if value.is_null() {
            diags.push(null_condition(condition));
            return false;
        }
        if let Err(error) = convert(&value, &Type::Bool) {
            diags.push(invalid_condition(condition, &error.to_string()));
            return false;
        }
        marks.merge(value.marks());
        !failed
    }

    fn include(
        &self,
        condition: Option<&Expr>,
        marks: &mut Marks,
        report: bool,
        scope: &Scope<'_>,
        diags: &mut Diagnostics,
    ) -> Include {
        let Some(condition) = condition else { return Include::Yes };
        let (value, found) = self.eval(condition, scope, diags).unmark();
        marks.merge(&found);
        if value.is_null() {
            if report {
                diags.push(null_condition(condition));
            }
            return Include::Unknown;
        }
        match convert(&value, &Type::Bool) {
            Ok(value) => match value.as_bool() {
                Some(true) => Include::Yes,
                Some(false) => Include::No,
                None => Include::Unknown,
            },
            Err(error) => {
                if report {
                    diags.push(invalid_condition(condition, &error.to_string()));
                }
                Include::Unknown
            }
        }
    }

    fn for_key(
        &self,
        key: &Expr,
        marks: &mut Marks,
        report: bool,
        scope: &Scope<'_>,
        diags: &mut Diagnostics,
    ) -> Option<Arc<str>> {
        let invalid =
            |detail: String| Diagnostic::error("Invalid object key").detail(detail).at(key.span);
        let (value, found) = self.eval(key, scope, diags).unmark();
        marks.merge(&found);
        let problem = if value.is_null() {
            "Key expression in 'for' expression must not produce a null value.".to_owned()
        } else {
            match convert(&value, &Type::String) {
                Ok(value) => return value.as_str().map(Arc::from),
                Err(error) => {
                    format!("The key expression produced an invalid result: {error}.")
                }
            }
        };
        if report {
            diags.push(invalid(problem));
        }
        None
    }
}

/// A scope for one element.
pub(crate) fn bind<'s>(
    scope: &'s Scope<'s>,
    key_name: Option<&Ident>,
    value_name: &Ident,
    key: Value,
    value: Value,
) -> Scope<'s> {
    let mut child = scope.child();
    if let Some(name) = key_name {
        child.set(name.name.as_str(), key);
    }
    child.set(value_name.name.as_str(), value);
    child
}

fn null_condition(place: &Expr) -> Diagnostic {
    Diagnostic::error("Condition is null")
        .detail("The value of the 'if' clause must not be null.")
        .at(place.span)
}

fn invalid_condition(place: &Expr, error: &str) -> Diagnostic {
    Diagnostic::error("Invalid 'for' condition")
        .detail(format!("The 'if' clause value is invalid: {error}."))
        .at(place.span)
}
