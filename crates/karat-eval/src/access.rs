//! Steps into values: attributes, indexes, splats.

use karat_hcl::ast::Splat;
use karat_hcl::diag::{Diagnostic, Diagnostics, Span};
use karat_value::{Data, Facts, Marks, Type, Value, convert};

use crate::evaluator::{Evaluator, is_enough};
use crate::scope::Scope;

fn refuse(diag: Diagnostic) -> Result<Value, Box<Diagnostic>> {
    Err(Box::new(diag))
}

/// `value.name`
pub(crate) fn attribute(value: &Value, name: &str, span: Span) -> Result<Value, Box<Diagnostic>> {
    if value.is_null() {
        return refuse(
            Diagnostic::error("Attempt to get attribute from null value")
                .detail("This value is null, so it does not have any attributes.")
                .at(span),
        );
    }
    let unsupported =
        |detail: String| Diagnostic::error("Unsupported attribute").detail(detail).at(span);
    let marks = value.marks();
    match (value.ty(), value.data()) {
        (Type::Dynamic, _) => Ok(Value::dynamic().with_marks(marks)),
        (Type::Object(object), data) => {
            let Some(ty) = object.attrs.get(name) else {
                return refuse(unsupported(format!(
                    "This object does not have an attribute named \"{name}\"."
                ))
                .did_you_mean(name, object.attrs.keys().map(|name| &**name)));
            };
            let item = match data {
                Data::Map(items) => items.get(name).cloned(),
                _ => None,
            };
            Ok(item.unwrap_or_else(|| Value::unknown(ty.clone())).with_marks(marks))
        }
        (Type::Map(_), Data::Map(items)) => match items.get(name) {
            Some(item) => Ok(item.clone().with_marks(marks)),
            None => refuse(Diagnostic::error("Missing map element")
                .detail(format!("This map does not have an element with the key \"{name}\"."))
                .at(span)
                .did_you_mean(name, items.keys().map(|name| &**name))),
        },
        (Type::Map(element), _) => {
            Ok(Value::unknown((**element).clone()).with_marks(marks))
        }
        (Type::List(element) | Type::Set(element), _)
            if matches!(**element, Type::Object(_)) =>
        {
            refuse(unsupported(format!(
                "Can't access attributes on a {}.",
                value.ty().friendly()
            ))
            .hint(format!(
                "Did you mean one element's, as in [0].{name}, or those of all, as in [*].{name}?"
            )))
        }
        (ty, _) if ty.is_primitive() => refuse(unsupported(format!(
            "Can't access attributes on a primitive-typed value ({}).",
            ty.friendly()
        ))),
        (ty, _) => refuse(unsupported(format!(
            "This value, {}, does not have any attributes.",
            article(&ty.friendly())
        ))),
    }
}

fn article(noun: &str) -> String {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) {
        format!("an {noun}")
    } else {
        format!("a {noun}")
    }
}

/// `value[key]`
pub(crate) fn index(value: &Value, key: &Value, span: Span) -> Result<Value, Box<Diagnostic>> {
    let invalid = |detail: &str| Diagnostic::error("Invalid index").detail(detail).at(span);
    let no_element = |why: &str| {
        invalid(&format!(
            "The given key does not identify an element in this collection value{why}"
        ))
    };
    if value.is_null() {
        return refuse(
            Diagnostic::error("Attempt to index null value")
                .detail("This value is null, so it does not have any indices.")
                .at(span),
        );
    }
    if key.is_null() {
        return refuse(invalid("Can't use a null value as an indexing key."));
    }
    let marks = value.marks().clone().union(key.marks());
    if *key.ty() == Type::Dynamic || *value.ty() == Type::Dynamic {
        return Ok(Value::dynamic().with_marks(&marks));
    }
    let want = match value.ty() {
        Type::List(_) | Type::Tuple(_) => Type::Number,
        Type::Map(_) | Type::Object(_) => Type::String,
        Type::Set(_) => {
            return refuse(invalid(
                "Elements of a set are identified only by their value and don't have any separate \
                 index or key to select with, so it's only possible to perform operations across \
                 all elements of the set.",
            ));
        }
        _ => return refuse(invalid("This value does not have any indices.")),
    };
    let was_number = *key.ty() == Type::Number;
    let key = convert(key, &want).map_err(|error| Box::new(no_element(&format!(": {error}."))))?;
    let found = match want {
        Type::Number => {
            let types = if let Type::Tuple(types) = value.ty() { Some(types) } else { None };
            let Some(number) = key.as_number() else {
                let ty = value.ty().element().cloned().unwrap_or(Type::Dynamic);
                return Ok(Value::unknown(ty).with_marks(&marks));
            };
            let known = value.as_slice();
            let count = types.map(|types| types.len()).or(known.map(<[Value]>::len));
            if !number.is_integer() {
                return refuse(no_element(
                    ": indexing a sequence requires a whole number, but the given index has a \
                     fractional part.",
                ));
            }
            if number.is_sign_negative() && !number.is_zero() {
                return refuse(no_element(
                    ": a negative number is not a valid index for a sequence.",
                ));
            }
            let at = number.to_usize();
            if let Some(count) = count
                && at.is_none_or(|at| at >= count)
            {
                return refuse(no_element(&if count == 0 {
                    ": the collection has no elements.".to_owned()
                } else {
                    format!(
                        ": the given index is greater than or equal to the length of the \
                         collection, which is {count}."
                    )
                }));
            }
            let ty = at.and_then(|at| types.and_then(|types| types.get(at)));
            let ty = ty.or(value.ty().element()).cloned().unwrap_or(Type::Dynamic);
            at.zip(known)
                .and_then(|(at, items)| items.get(at).cloned())
                .unwrap_or_else(|| Value::unknown(ty))
        }
        _ => {
            let Some(name) = key.as_str() else {
                let ty = value.ty().element().cloned().unwrap_or(Type::Dynamic);
                return Ok(Value::unknown(ty).with_marks(&marks));
            };
            match (value.ty(), value.as_map()) {
                (_, Some(items)) => match items.get(name) {
                    Some(item) => item.clone(),
                    None => {
                        let why = if was_number && matches!(value.ty(), Type::Object(_)) {
                            ". An object only supports looking up attributes by name, not by \
                             numeric index."
                        } else {
                            "."
                        };
                        return refuse(
                            no_element(why).did_you_mean(name, items.keys().map(|name| &**name)),
                        );
                    }
                },
                (Type::Object(object), None) => match object.attrs.get(name) {
                    Some(ty) => Value::unknown(ty.clone()),
                    None => return refuse(no_element(".")),
                },
                (ty, None) => Value::unknown(ty.element().cloned().unwrap_or(Type::Dynamic)),
            }
        }
    };
    Ok(found.with_marks(&marks))
}

impl Evaluator {
    /// `source[*].each`
    pub(crate) fn splat(&self, splat: &Splat, scope: &Scope<'_>, diags: &mut Diagnostics) -> Value {
        let mut own = Diagnostics::new();
        let source = self.eval(&splat.source, scope, &mut own);
        let failed = own.has_errors();
        diags.append(own);
        if failed {
            return Value::dynamic();
        }
        let (source, marks) = source.unmark();
        let is_sequence = source.ty().is_sequence();
        if source.is_null() {
            if !is_sequence {
                return Value::tuple(Vec::new()).with_marks(&marks);
            }
            diags.push(
                Diagnostic::error("Splat of null value")
                    .detail(
                        "Splat expressions (with the * symbol) cannot be applied to null sequences.",
                    )
                    .at(splat.marker),
            );
            return Value::dynamic();
        }
        if *source.ty() == Type::Dynamic {
            return Value::dynamic().with_marks(&marks);
        }
        // What is not known may turn out null, which would give no element.
        let undecided = !is_sequence && !source.is_certainly_not_null();
        let source = if is_sequence { source } else { Value::tuple(vec![source]) };
        let mut each = |item: Value, diags: &mut Diagnostics| {
            self.splat_items.borrow_mut().push(item);
            let value = self.eval(&splat.each, scope, diags);
            self.splat_items.borrow_mut().pop();
            value
        };
        let Some(items) = source.as_slice() else {
            // A list, set or tuple that is not known: only types can be told.
            let ty = match source.ty() {
                Type::Tuple(types) => {
                    let items = types.iter().map(|ty| each(Value::unknown(ty.clone()), diags));
                    Type::tuple(items.map(|item| item.ty().clone()).collect::<Vec<_>>())
                }
                ty => {
                    let element = ty.element().cloned().unwrap_or(Type::Dynamic);
                    Type::list(each(Value::unknown(element), diags).ty().clone())
                }
            };
            let mut facts = Facts::not_null();
            if let (Type::List(_), Type::List(_) | Type::Set(_)) = (&ty, source.ty()) {
                let of = source.facts();
                facts = Facts { not_null: true, ..Facts::length(of.min_length, of.max_length) };
            }
            return Value::unknown(ty).knowing(&facts).with_marks(&marks);
        };
        let mut each_diags = Diagnostics::new();
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            values.push(each(item.clone(), &mut each_diags));
            if is_enough(&each_diags, 0) {
                break;
            }
        }
        let failed = each_diags.has_errors();
        diags.append(each_diags);
        if undecided {
            return Value::dynamic().with_marks(&marks);
        }
        if failed {
            // Where the value is not needed its type may be.
            let ty = match source.ty() {
                Type::Tuple(_) => Type::tuple(vec![Type::Dynamic; items.len()]),
                _ => Type::list(Type::Dynamic),
            };
            return Value::unknown(ty).with_marks(&marks);
        }
        self.gather(splat, &source, values, &mut each, &marks, diags)
    }

    fn gather(
        &self,
        splat: &Splat,
        source: &Value,
        values: Vec<Value>,
        each: &mut dyn FnMut(Value, &mut Diagnostics) -> Value,
        marks: &Marks,
        diags: &mut Diagnostics,
    ) -> Value {
        let Some(element) = source.ty().element() else {
            return Value::tuple(values).with_marks(marks);
        };
        let ty = match values.first() {
            Some(first) => first.ty().clone(),
            None => each(Value::unknown(element.clone()), diags).ty().clone(),
        };
        if values.iter().any(|value| *value.ty() != ty) {
            diags.push(
                Diagnostic::error("Invalid nested splat expressions")
                    .detail(
                        "The second level of splat expression produced elements of different \
                         types, so it isn't possible to construct a valid list to represent the \
                         result.",
                    )
                    .at(splat.marker),
            );
            return Value::dynamic();
        }
        Value::list(ty, values).with_marks(marks)
    }
}
