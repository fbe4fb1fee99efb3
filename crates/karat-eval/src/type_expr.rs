//! Type expressions: `list(object({a = optional(string, "x")}))`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use karat_hcl::ast::{Call, Expr, ExprKind, ObjectItem, ObjectKey};
use karat_hcl::diag::{Diagnostic, Diagnostics, Span};
use karat_value::{ConvertError, Data, ObjectType, Type, Value, convert};

/// A type with the defaults of its optional attributes.
#[derive(Clone, Debug, PartialEq)]
pub struct TypeConstraint {
    /// The type.
    pub ty: Type,
    /// What to put in place of missing and null attributes.
    pub defaults: Defaults,
}

/// Defaults of optional attributes, in the shape of the type that they belong to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Defaults {
    /// By attribute of an object.
    values: BTreeMap<Arc<str>, Value>,
    /// Defaults further inside: by attribute, by position in a tuple, or "" for all elements of a
    /// collection.
    children: BTreeMap<Arc<str>, Self>,
}

impl Defaults {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.children.is_empty()
    }

    /// Puts defaults where attributes are missing or null, also inside defaults that were put in.
    #[must_use]
    pub fn apply(&self, value: &Value) -> Value {
        if self.is_empty() || !value.is_known() || value.is_null() {
            return value.clone();
        }
        let result = match value.data() {
            Data::Seq(items) => {
                let items: Vec<Value> =
                    items.iter().enumerate().map(|(i, item)| self.child(i).apply(item)).collect();
                rebuild_sequence(value.ty(), items)
            }
            Data::Map(items) => {
                let mut result: BTreeMap<Arc<str>, Value> = items
                    .iter()
                    .map(|(name, item)| (name.clone(), self.named(name).apply(item)))
                    .collect();
                for (name, default) in &self.values {
                    if result.get(name).is_none_or(Value::is_null) {
                        result.insert(name.clone(), self.named(name).apply(default));
                    }
                }
                // With defaults of other types a map is one no longer.
                Value::object(result)
            }
            _ => value.clone(),
        };
        result.with_marks(value.marks())
    }

    fn child(&self, position: usize) -> &Self {
        self.named(&position.to_string())
    }

    fn named(&self, name: &str) -> &Self {
        const NONE: &Defaults = &Defaults { values: BTreeMap::new(), children: BTreeMap::new() };
        self.children.get(name).or_else(|| self.children.get("")).unwrap_or(NONE)
    }
}

fn rebuild_sequence(ty: &Type, items: Vec<Value>) -> Value {
    match ty {
        Type::Set(element) if items.iter().all(|item| item.ty() == &**element) => {
            Value::set((**element).clone(), items)
        }
        Type::List(element) if items.iter().all(|item| item.ty() == &**element) => {
            Value::list((**element).clone(), items)
        }
        _ => Value::tuple(items),
    }
}

impl TypeConstraint {
    /// Any type.
    pub fn any() -> Self {
        Self { ty: Type::Dynamic, defaults: Defaults::default() }
    }

    /// The value with defaults put in, converted to the type.
    ///
    /// # Errors
    /// As [`convert`].
    pub fn convert(&self, value: &Value) -> Result<Value, ConvertError> {
        convert(&self.defaults.apply(value), &self.ty)
    }
}

/// What a type expression means. After an error the type is [`Type::Dynamic`] there.
pub fn type_constraint(expr: &Expr) -> (TypeConstraint, Diagnostics) {
    let mut diags = Diagnostics::new();
    let (ty, defaults) = read(expr, &mut diags);
    (TypeConstraint { ty, defaults }, diags)
}

fn invalid(span: Span, detail: impl Into<String>) -> Diagnostic {
    Diagnostic::error("Invalid type specification").detail(detail).at(span)
}

const KEYWORDS: [&str; 9] =
    ["string", "number", "bool", "any", "list", "set", "map", "object", "tuple"];

fn read(expr: &Expr, diags: &mut Diagnostics) -> (Type, Defaults) {
    let none = Defaults::default();
    if let ExprKind::Call(call) = &expr.kind {
        return constructor(call, expr.span, diags);
    }
    let ty = match expr.as_keyword() {
        Some("string") => Type::String,
        Some("number") => Type::Number,
        Some("bool") => Type::Bool,
        Some("any") => Type::Dynamic,
        Some(word @ ("list" | "set" | "map")) => {
            diags.push(
                invalid(
                    expr.span,
                    format!(
                        "The {word} type constructor requires one argument specifying the element \
                         type."
                    ),
                )
                .hint(format!("Write {word}(string), or {word}(any) for any one type.")),
            );
            Type::Dynamic
        }
        Some(word @ ("object" | "tuple")) => {
            diags.push(invalid(expr.span, needs(word)));
            Type::Dynamic
        }
        Some(word) => {
            diags.push(
                invalid(
                    expr.span,
                    format!("The keyword \"{word}\" is not a valid type specification."),
                )
                .did_you_mean(word, KEYWORDS),
            );
            Type::Dynamic
        }
        None => {
            let diag = invalid(
                expr.span,
                "A type specification is either a primitive type keyword (bool, number, string) or \
                 a complex type constructor call, like list(string).",
            );
            diags.push(match expr.as_literal_str() {
                Some(word) if KEYWORDS.contains(&word) => {
                    diag.hint(format!("Write {word} without quotes."))
                }
                _ => diag,
            });
            Type::Dynamic
        }
    };
    (ty, none)
}

fn needs(word: &str) -> String {
    if word == "object" {
        "The object type constructor requires one argument specifying the attribute types and \
         values as a map."
            .to_owned()
    } else {
        "The tuple type constructor requires one argument specifying the element types as a list."
            .to_owned()
    }
}

fn constructor(call: &Call, span: Span, diags: &mut Diagnostics) -> (Type, Defaults) {
    let name = call.name.name.as_str();
    let nothing = (Type::Dynamic, Defaults::default());
    let one = match call.args.as_slice() {
        [one] if call.expand.is_none() => Some(one),
        _ => None,
    };
    match name {
        "string" | "number" | "bool" | "any" => {
            diags.push(invalid(
                span,
                format!("Primitive type keyword \"{name}\" does not expect arguments."),
            ));
            nothing
        }
        "list" | "set" | "map" => {
            let Some(element) = one else {
                diags.push(invalid(
                    span,
                    format!(
                        "The {name} type constructor requires one argument specifying the element \
                         type."
                    ),
                ));
                return nothing;
            };
            let (element, defaults) = read(element, diags);
            let ty = match name {
                "list" => Type::list(element),
                "set" => Type::set(element),
                _ => Type::map(element),
            };
            (ty, within([("".into(), defaults)]))
        }
        "object" => match one.map(|one| &one.kind) {
            Some(ExprKind::Object(items)) => object(items, diags),
            _ => {
                diags.push(invalid(span, needs(name)));
                nothing
            }
        },
        "tuple" => match one.map(|one| &one.kind) {
            Some(ExprKind::Tuple(items)) => {
                let mut types = Vec::new();
                let mut children = Vec::new();
                for (i, item) in items.iter().enumerate() {
                    let (ty, defaults) = read(item, diags);
                    types.push(ty);
                    children.push((Arc::from(i.to_string()), defaults));
                }
                (Type::tuple(types), within(children))
            }
            _ => {
                diags.push(invalid(span, needs(name)));
                nothing
            }
        },
        "optional" => {
            diags.push(
                Diagnostic::error("Invalid use of \"optional\" modifier")
                    .detail(
                        "The \"optional\" modifier is only for the attribute types of object types.",
                    )
                    .at(span),
            );
            nothing
        }
        _ => {
            diags.push(
                invalid(
                    call.name.span,
                    format!("Keyword \"{name}\" is not a valid type constructor."),
                )
                .did_you_mean(name, KEYWORDS),
            );
            nothing
        }
    }
}

fn within(children: impl IntoIterator<Item = (Arc<str>, Defaults)>) -> Defaults {
    let children = children.into_iter().filter(|(_, child)| !child.is_empty()).collect();
    Defaults { values: BTreeMap::new(), children }
}

fn object(items: &[ObjectItem], diags: &mut Diagnostics) -> (Type, Defaults) {
    let mut attrs: BTreeMap<Arc<str>, Type> = BTreeMap::new();
    let mut optional = BTreeSet::new();
    let mut defaults = Defaults::default();
    for item in items {
        let name: Arc<str> = match &item.key {
            ObjectKey::Name(ident) => ident.name.as_str().into(),
            ObjectKey::Expr(expr) => {
                let diag =
                    invalid(expr.span, "Object constructor map keys must be attribute names.");
                diags.push(match expr.as_literal_str() {
                    Some(name) if karat_hcl::is_identifier(name) => {
                        diag.hint(format!("Write {name} without quotes."))
                    }
                    _ => diag,
                });
                continue;
            }
        };
        if attrs.contains_key(&name) {
            diags.push(invalid(item.key.span(), "Object constructor map keys must be unique."));
            continue;
        }
        let mut ty_expr = &item.value;
        let mut default_expr = None;
        if let ExprKind::Call(call) = &ty_expr.kind
            && call.name.name == "optional"
        {
            match call.args.as_slice() {
                [ty] => ty_expr = ty,
                [ty, default] => {
                    ty_expr = ty;
                    default_expr = Some(default);
                }
                _ => {
                    diags.push(invalid(
                        item.value.span,
                        "Optional attribute modifier requires the attribute type as its argument, \
                         and may have a default as its second.",
                    ));
                    continue;
                }
            }
            optional.insert(name.clone());
        }
        let (ty, child) = read(ty_expr, diags);
        if let Some(expr) = default_expr
            && let Some(default) = default_value(expr, &ty, &child, diags)
        {
            defaults.values.insert(name.clone(), default);
        }
        if !child.is_empty() {
            defaults.children.insert(name.clone(), child);
        }
        attrs.insert(name, ty);
    }
    (Type::Object(Arc::new(ObjectType { attrs, optional })), defaults)
}

fn default_value(
    expr: &Expr,
    ty: &Type,
    child: &Defaults,
    diags: &mut Diagnostics,
) -> Option<Value> {
    let world = karat_functions::MemoryWorld::default();
    let environment = crate::Environment::new(&world, "").with_functions(crate::Functions::None);
    let (value, found) = crate::evaluate(expr, &crate::Scope::new(&environment));
    let failed = found.has_errors();
    diags.append(found);
    if failed {
        return None;
    }
    match convert(&child.apply(&value), ty) {
        // Stays as it is: inside a bigger value it is converted with all the rest.
        Ok(_) => Some(value),
        Err(error) => {
            diags.push(
                Diagnostic::error("Invalid default value for optional attribute")
                    .detail(format!(
                        "This default value is not compatible with the attribute's type \
                         constraint: {error}."
                    ))
                    .at(expr.span),
            );
            None
        }
    }
}
