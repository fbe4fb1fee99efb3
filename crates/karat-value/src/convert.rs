//! Conversion of values between types.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::unify::{Unified, unify_kind};
use crate::{Data, Facts, Number, Type, Value, unify};

/// Why a value is not of the type that is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvertError {
    /// The way from the value to the part of it that does not fit.
    pub path: Vec<PathStep>,
    /// What is wanted there: "a number is required".
    pub message: String,
}

/// One step into a value.
#[derive(Clone, Debug, PartialEq)]
pub enum PathStep {
    /// `.name`
    Attr(Arc<str>),
    /// `["key"]`
    Key(Arc<str>),
    /// `[0]`
    Index(usize),
}

impl fmt::Display for PathStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attr(name) => write!(f, ".{name}"),
            Self::Key(key) => write!(f, "[{}]", crate::print::quote(key)),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

impl ConvertError {
    fn new(message: impl Into<String>) -> Self {
        Self { path: Vec::new(), message: message.into() }
    }

    fn within(mut self, step: PathStep) -> Self {
        self.path.insert(0, step);
        self
    }
}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.path {
            write!(f, "{step}")?;
        }
        if !self.path.is_empty() {
            f.write_str(": ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConvertError {}

/// `value` as a value of type `want`. Marks stay. Unknown and null values change their type.
/// Attributes of objects that `want` does not name are dropped; optional ones that are missing
/// become null. [`Type::Dynamic`] in `want` stands for whatever type fits.
///
/// # Errors
/// Where a part of the value cannot be what is wanted.
pub fn convert(value: &Value, want: &Type) -> Result<Value, ConvertError> {
    if *value.ty() == want.without_optional() {
        return Ok(value.clone());
    }
    if !is_convertible(value.ty(), want, true) {
        return Err(ConvertError::new(mismatch(value.ty(), want)));
    }
    convert_known(value, want)
}

/// Whether values of type `have` may be converted to `want`. Some of them may still fail: not
/// every text is a number.
pub fn can_convert(have: &Type, want: &Type) -> bool {
    *have == want.without_optional() || is_convertible(have, want, true)
}

/// `lossy`: also where a value may turn out not to fit.
pub(crate) fn is_convertible(have: &Type, want: &Type, lossy: bool) -> bool {
    let inner = |a: &Type, b: &Type| a == b || is_convertible(a, b, lossy);
    match (have, want) {
        (_, Type::Dynamic) => true,
        (Type::Dynamic, _) => lossy,
        (Type::Number | Type::Bool, Type::String) => true,
        (Type::String, Type::Number | Type::Bool) => lossy,
        (Type::List(a) | Type::Set(a), Type::List(b))
        | (Type::Set(a), Type::Set(b))
        | (Type::Map(a), Type::Map(b)) => inner(a, b),
        (Type::List(a), Type::Set(b)) => lossy && inner(a, b),
        (Type::Tuple(items), Type::List(want) | Type::Set(want)) => {
            element_type(items, want, lossy, false)
                .is_some_and(|want| items.iter().all(|item| inner(item, &want)))
        }
        (Type::Object(object), Type::Map(want)) => {
            let items: Vec<Type> = object.attrs.values().cloned().collect();
            element_type(&items, want, lossy, true)
                .is_some_and(|want| items.iter().all(|item| inner(item, &want)))
        }
        (Type::Map(element), Type::Object(object)) => {
            lossy
                && object
                    .attrs
                    .iter()
                    .all(|(name, ty)| object.optional.contains(name) || inner(element, ty))
        }
        (Type::Object(have), Type::Object(want)) => {
            want.attrs.iter().all(|(name, ty)| match have.attrs.get(name) {
                Some(have) => inner(have, ty),
                None => want.optional.contains(name),
            })
        }
        (Type::Tuple(have), Type::Tuple(want)) => {
            have.len() == want.len() && have.iter().zip(want.iter()).all(|(a, b)| inner(a, b))
        }
        _ => false,
    }
}

/// The element type when values of types `items` are put into a collection of `want`.
fn element_type(items: &[Type], want: &Type, lossy: bool, undecided: bool) -> Option<Type> {
    if *want != Type::Dynamic || items.is_empty() {
        return Some(want.clone());
    }
    match unify_kind(items, lossy)? {
        Unified::Type(ty) => Some(ty),
        Unified::Undecided => undecided.then_some(Type::Dynamic),
    }
}

/// [`convert`] where [`is_convertible`] was asked before.
pub(crate) fn convert_known(value: &Value, want: &Type) -> Result<Value, ConvertError> {
    if value.ty() == want || *want == Type::Dynamic {
        return Ok(value.clone());
    }
    let fill = || fill_in(value.ty(), &want.without_optional());
    let result = match value.data() {
        Data::Unknown => Value::unknown(fill()).knowing(&facts_after(value, want)),
        Data::Null => Value::null(fill()),
        Data::Number(number) if *want == Type::String => Value::string(number.to_text()),
        Data::Bool(bool) if *want == Type::String => {
            Value::string(if *bool { "true" } else { "false" })
        }
        Data::String(text) => from_text(text, want)?,
        Data::Seq(items) => from_sequence(value, items, want)?,
        Data::Map(items) => from_mapping(value, items, want)?,
        Data::Number(_) | Data::Bool(_) => {
            return Err(ConvertError::new(mismatch(value.ty(), want)));
        }
    };
    Ok(result.with_marks(value.marks()))
}

/// What is known of an unknown value when it has become one of type `want`.
fn facts_after(value: &Value, want: &Type) -> Facts {
    let have = value.facts();
    let (min, max) = match (value.ty(), want) {
        (Type::Object(object), Type::Map(_)) => (object.attrs.len(), Some(object.attrs.len())),
        (Type::Tuple(items), Type::List(_)) => (items.len(), Some(items.len())),
        // Equal elements become one.
        (Type::Tuple(items), Type::Set(_)) => (items.len().min(1), Some(items.len())),
        (_, Type::Set(_)) => (have.min_length.min(1), have.max_length),
        (_, Type::List(_) | Type::Map(_)) => (have.min_length, have.max_length),
        _ => (0, None),
    };
    Facts { not_null: have.not_null, ..Facts::length(min, max) }
}

fn from_text(text: &Arc<str>, want: &Type) -> Result<Value, ConvertError> {
    match want {
        Type::Number => Number::parse(text)
            .map(Value::number)
            .map_err(|error| ConvertError::new(error.to_string())),
        Type::Bool => match &**text {
            "true" | "1" => Ok(Value::bool(true)),
            "false" | "0" => Ok(Value::bool(false)),
            other => Err(ConvertError::new(match other.to_lowercase().as_str() {
                word @ ("true" | "false") => {
                    format!("a bool is required; to convert from string, use lowercase \"{word}\"")
                }
                _ => "a bool is required".to_owned(),
            })),
        },
        _ => Err(ConvertError::new(mismatch(&Type::String, want))),
    }
}

fn from_sequence(value: &Value, items: &[Value], want: &Type) -> Result<Value, ConvertError> {
    let at = |i: usize| move |error: ConvertError| error.within(PathStep::Index(i));
    let types = || items.iter().map(|item| item.ty().clone()).collect::<Vec<_>>();
    match want {
        // Of an element of a collection of any type, nothing was asked before.
        Type::Tuple(wants) if wants.len() == items.len() => {
            let pairs = items.iter().zip(wants.iter()).enumerate();
            let items: Result<Vec<Value>, _> =
                pairs.map(|(i, (item, want))| convert_known(item, want).map_err(at(i))).collect();
            Ok(Value::tuple(items?))
        }
        Type::List(element) | Type::Set(element) => {
            let is_set = matches!(want, Type::Set(_));
            let element = match value.ty().element() {
                // An empty collection keeps its type where any will do.
                Some(have) if **element == Type::Dynamic => have.clone(),
                Some(_) => (**element).clone(),
                None => element_type(&types(), element, true, false)
                    .ok_or_else(|| ConvertError::new(NO_COMMON_TYPE))?,
            };
            let items: Result<Vec<Value>, _> = items
                .iter()
                .enumerate()
                .map(|(i, item)| convert_known(item, &element).map_err(at(i)))
                .collect();
            let items = items?;
            let (element, items) = agree(items, &element, "list")?;
            Ok(if is_set { Value::set(element, items) } else { Value::list(element, items) })
        }
        _ => Err(ConvertError::new(mismatch(value.ty(), want))),
    }
}

fn from_mapping(
    value: &Value,
    items: &BTreeMap<Arc<str>, Value>,
    want: &Type,
) -> Result<Value, ConvertError> {
    let from_map = matches!(value.ty(), Type::Map(_));
    let at = |name: &Arc<str>| {
        let name = name.clone();
        let step = if from_map { PathStep::Key(name) } else { PathStep::Attr(name) };
        move |error: ConvertError| error.within(step)
    };
    match want {
        Type::Map(element) => {
            let types: Vec<Type> = items.values().map(|item| item.ty().clone()).collect();
            let element = match value.ty().element() {
                Some(have) if **element == Type::Dynamic => have.clone(),
                Some(_) => (**element).clone(),
                None => element_type(&types, element, true, true)
                    .ok_or_else(|| ConvertError::new(NO_COMMON_TYPE))?,
            };
            let mut names = Vec::new();
            let mut values = Vec::new();
            for (name, item) in items {
                values.push(convert_known(item, &element).map_err(at(name))?);
                names.push(name.clone());
            }
            let (element, values) = agree(values, &element, "map")?;
            Ok(Value::map(element, names.into_iter().zip(values).collect()))
        }
        Type::Object(object) => {
            let mut result = BTreeMap::new();
            for (name, want) in &object.attrs {
                let item = match items.get(name) {
                    Some(item) if !is_convertible(item.ty(), want, true) && item.ty() != want => {
                        return Err(ConvertError::new(mismatch(item.ty(), want))).map_err(at(name));
                    }
                    Some(item) => convert_known(item, want).map_err(at(name))?,
                    None if object.optional.contains(name) => Value::null(want.clone()),
                    None => {
                        return Err(ConvertError::new(format!(
                            "map has no element for required attribute \"{name}\""
                        )));
                    }
                };
                result.insert(name.clone(), item);
            }
            Ok(Value::object(result))
        }
        _ => Err(ConvertError::new(mismatch(value.ty(), want))),
    }
}

const NO_COMMON_TYPE: &str = "cannot find a common base type for all elements";

/// Where the wanted element type left something open, the converted elements may differ once more.
fn agree(
    items: Vec<Value>,
    element: &Type,
    kind: &str,
) -> Result<(Type, Vec<Value>), ConvertError> {
    let Some(first) = items.first() else { return Ok((element.without_optional(), items)) };
    let ty = first.ty().clone();
    if items.iter().all(|item| *item.ty() == ty) {
        return Ok((ty, items));
    }
    let types: Vec<Type> = items.iter().map(|item| item.ty().clone()).collect();
    if let Some(ty) = unify(&types, true) {
        let converted: Result<Vec<Value>, _> =
            items.iter().map(|item| convert_known(item, &ty)).collect();
        let converted = converted?;
        if ty != Type::Dynamic && converted.iter().all(|item| *item.ty() == ty) {
            return Ok((ty, converted));
        }
        // Nothing but unknown and null values of any type can be told apart later.
        if converted.iter().any(|item| !item.is_known()) {
            return Ok((Type::Dynamic, converted));
        }
    }
    Err(ConvertError::new(format!("element types must all match for conversion to {kind}")))
}

/// `out` with what it leaves open taken from `have`: the type of a null or unknown after
/// conversion.
fn fill_in(have: &Type, out: &Type) -> Type {
    match (have, out) {
        (Type::Dynamic, _) => out.clone(),
        (_, Type::Dynamic) => have.clone(),
        (Type::Map(a), Type::Map(b)) => Type::map(fill_in(a, b)),
        (Type::List(a) | Type::Set(a), Type::List(b)) => Type::list(fill_in(a, b)),
        (Type::List(a) | Type::Set(a), Type::Set(b)) => Type::set(fill_in(a, b)),
        (Type::Object(a), Type::Map(b)) => {
            let attrs: Vec<Type> = a.attrs.values().cloned().collect();
            Type::map(unify(&attrs, true).map_or_else(|| (**b).clone(), |ty| fill_in(&ty, b)))
        }
        (Type::Tuple(a), Type::List(b) | Type::Set(b)) => {
            let element = unify(a, true).map_or_else(|| (**b).clone(), |ty| fill_in(&ty, b));
            out.with_element(element)
        }
        (Type::Object(a), Type::Object(b)) => Type::object(b.attrs.iter().map(|(name, ty)| {
            let ty = a.attrs.get(name).map_or_else(|| ty.clone(), |have| fill_in(have, ty));
            (name.clone(), ty)
        })),
        (Type::Map(a), Type::Object(b)) => {
            Type::object(b.attrs.iter().map(|(name, ty)| (name.clone(), fill_in(a, ty))))
        }
        (Type::Tuple(a), Type::Tuple(b)) => {
            Type::tuple(a.iter().zip(b.iter()).map(|(a, b)| fill_in(a, b)).collect::<Vec<_>>())
        }
        _ => out.clone(),
    }
}

impl Type {
    /// The same kind of collection with another element type.
    pub(crate) fn with_element(&self, element: Self) -> Self {
        match self {
            Self::Set(_) => Self::set(element),
            Self::Map(_) => Self::map(element),
            _ => Self::list(element),
        }
    }
}

/// What is wrong with a value of type `have` where `want` is wanted: "string required".
pub fn mismatch(have: &Type, want: &Type) -> String {
    match (have, want) {
        (Type::Object(have), Type::Object(want)) => {
            let missing: Vec<String> = want
                .attrs
                .keys()
                .filter(|name| !have.attrs.contains_key(*name) && !want.optional.contains(*name))
                .map(|name| format!("\"{name}\""))
                .collect();
            match missing.as_slice() {
                [] => {}
                [one] => return format!("attribute {one} is required"),
                several => return format!("attributes {} are required", several.join(", ")),
            }
            for (name, want) in &want.attrs {
                if let Some(have) = have.attrs.get(name)
                    && have != want
                    && !is_convertible(have, want, true)
                {
                    return format!("attribute \"{name}\": {}", mismatch(have, want));
                }
            }
            "incompatible object attributes".into()
        }
        (Type::Tuple(have), Type::List(want) | Type::Set(want)) => {
            for (i, have) in have.iter().enumerate() {
                if **want != Type::Dynamic && have != &**want && !is_convertible(have, want, true) {
                    return format!("element {i}: {}", mismatch(have, want));
                }
            }
            "all elements must have the same type".into()
        }
        (Type::Tuple(have), Type::Tuple(want)) if have.len() != want.len() => {
            format!("a tuple of {} elements is required, not of {}", want.len(), have.len())
        }
        (Type::Object(have), Type::Map(want)) => {
            for (name, have) in &have.attrs {
                if **want != Type::Dynamic && have != &**want && !is_convertible(have, want, true) {
                    return format!("element \"{name}\": {}", mismatch(have, want));
                }
            }
            "all elements must have the same type".into()
        }
        (Type::List(have), Type::List(want))
        | (Type::Set(have), Type::Set(want))
        | (Type::Map(have), Type::Map(want)) => {
            format!("incompatible element type: {}", mismatch(have, want))
        }
        (_, want) => format!("{} required, not {}", want.friendly(), have.friendly()),
    }
}
