//! The one type that several types have in common.

use crate::convert::{convert_known, is_convertible};
use crate::{ConvertError, Type, Value};

/// What several types have in common.
pub(crate) enum Unified {
    /// A type that all convert to.
    Type(Type),
    /// Collections next to something that is not known yet: nothing can be said.
    Undecided,
}

impl Unified {
    pub(crate) fn into_type(self) -> Type {
        match self {
            Self::Type(ty) => ty,
            Self::Undecided => Type::Dynamic,
        }
    }
}

/// The most general of `types` that all others convert to, or a list or map type that all
/// convert to. `lossy` also allows conversions that may fail, as the branches of `?:` do; without
/// it text never becomes a number or bool. `None` if there is none, or no type is given.
pub fn unify(types: &[Type], lossy: bool) -> Option<Type> {
    unify_kind(types, lossy).map(Unified::into_type)
}

/// Converts all values to the type that they have in common.
///
/// # Errors
/// `None` if there is no such type; an error inside if one value does not convert.
pub fn unify_values(
    values: &[Value],
    lossy: bool,
) -> Option<(Type, Result<Vec<Value>, ConvertError>)> {
    let types: Vec<Type> = values.iter().map(|value| value.ty().clone()).collect();
    match unify_kind(&types, lossy)? {
        Unified::Type(ty) => {
            let values = values.iter().map(|value| convert_known(value, &ty)).collect();
            Some((ty, values))
        }
        Unified::Undecided => {
            let unknown = |value: &Value| Value::dynamic().with_marks(&value.deep_marks());
            Some((Type::Dynamic, Ok(values.iter().map(unknown).collect())))
        }
    }
}

pub(crate) fn unify_kind(types: &[Type], lossy: bool) -> Option<Unified> {
    let first = types.first()?;
    if types.iter().all(|ty| ty == first) {
        return Some(Unified::Type(first.clone()));
    }
    // Many values are of few types.
    let mut distinct: Vec<Type> = Vec::new();
    for ty in types {
        if !distinct.contains(ty) {
            distinct.push(ty.clone());
        }
    }
    let types = distinct.as_slice();
    let count = |f: fn(&Type) -> bool| types.iter().filter(|ty| f(ty)).count();
    let maps = count(|ty| matches!(ty, Type::Map(_)));
    let lists = count(|ty| matches!(ty, Type::List(_)));
    let sets = count(|ty| matches!(ty, Type::Set(_)));
    let objects = count(|ty| matches!(ty, Type::Object(_)));
    let tuples = count(|ty| matches!(ty, Type::Tuple(_)));
    let unknown = count(|ty| matches!(ty, Type::Dynamic));
    let of_kind = |n: usize| n > 0 && n + unknown == types.len();
    if [maps, lists, sets, objects, tuples].into_iter().any(|n| unknown > 0 && of_kind(n)) {
        return Some(Unified::Undecided);
    }
    if of_kind(maps) || of_kind(lists) || of_kind(sets) {
        return unify_collections(types, lossy);
    }
    if of_kind(objects) {
        return unify_objects(types, lossy);
    }
    if of_kind(tuples) {
        return unify_tuples(types, lossy);
    }
    if maps > 0
        && of_kind(maps + objects)
        && let Some(found) = mixed(types, lossy, |ty| matches!(ty, Type::Object(_)), to_map)
    {
        return Some(found);
    }
    if lists > 0
        && of_kind(lists + tuples)
        && let Some(found) = mixed(types, lossy, |ty| matches!(ty, Type::Tuple(_)), to_list)
    {
        return Some(found);
    }
    if objects > 0 && tuples > 0 {
        return None;
    }
    by_preference(types, lossy)
}

fn unify_collections(types: &[Type], lossy: bool) -> Option<Unified> {
    let elements: Vec<Type> = types.iter().filter_map(|ty| ty.element().cloned()).collect();
    let element = unify(&elements, lossy)?;
    checked(types, types[0].with_element(element), lossy)
}

fn unify_objects(types: &[Type], lossy: bool) -> Option<Unified> {
    let attrs: Vec<_> = types
        .iter()
        .filter_map(|ty| if let Type::Object(object) = ty { Some(&object.attrs) } else { None })
        .collect();
    if attrs.iter().any(|other| !other.keys().eq(attrs[0].keys())) {
        return to_map(types, lossy).map(Unified::Type);
    }
    let mut result = Vec::new();
    for name in attrs[0].keys() {
        let across: Vec<Type> = attrs.iter().map(|attrs| attrs[name].clone()).collect();
        result.push((name.clone(), unify(&across, lossy)?));
    }
    checked(types, Type::object(result), lossy).or_else(|| to_map(types, lossy).map(Unified::Type))
}

fn unify_tuples(types: &[Type], lossy: bool) -> Option<Unified> {
    let elements: Vec<_> = types
        .iter()
        .filter_map(|ty| if let Type::Tuple(elements) = ty { Some(elements) } else { None })
        .collect();
    if elements.iter().any(|other| other.len() != elements[0].len()) {
        return to_list(types, lossy).map(Unified::Type);
    }
    let mut result = Vec::new();
    for i in 0..elements[0].len() {
        let across: Vec<Type> = elements.iter().map(|elements| elements[i].clone()).collect();
        result.push(unify(&across, lossy)?);
    }
    checked(types, Type::tuple(result), lossy).or_else(|| to_list(types, lossy).map(Unified::Type))
}

/// The map type that object types have in common.
fn to_map(types: &[Type], lossy: bool) -> Option<Type> {
    let attrs: Vec<Type> = types
        .iter()
        .filter_map(|ty| if let Type::Object(object) = ty { Some(object) } else { None })
        .flat_map(|object| object.attrs.values().cloned())
        .collect();
    let result = Type::map(unify(&attrs, lossy)?);
    types.iter().all(|ty| is_convertible(ty, &result, lossy)).then_some(result)
}

/// The list type that tuple types have in common.
fn to_list(types: &[Type], lossy: bool) -> Option<Type> {
    let elements: Vec<Type> = types
        .iter()
        .filter_map(|ty| if let Type::Tuple(elements) = ty { Some(elements) } else { None })
        .flat_map(|elements| elements.iter().cloned())
        .collect();
    let result = Type::list(unify(&elements, lossy)?);
    types.iter().all(|ty| is_convertible(ty, &result, lossy)).then_some(result)
}

/// Lists with tuples, maps with objects: first the latter among themselves, then all.
fn mixed(
    types: &[Type],
    lossy: bool,
    loose: fn(&Type) -> bool,
    tighten: fn(&[Type], bool) -> Option<Type>,
) -> Option<Unified> {
    let some: Vec<Type> = types.iter().filter(|ty| loose(ty)).cloned().collect();
    let tight = tighten(&some, lossy)?;
    let all: Vec<Type> =
        types.iter().map(|ty| if loose(ty) { tight.clone() } else { ty.clone() }).collect();
    match unify_kind(&all, lossy)? {
        Unified::Type(Type::Dynamic) | Unified::Undecided => None,
        found => Some(found),
    }
}

/// The first of the types, the most general ones first, that all others convert to.
fn by_preference(types: &[Type], lossy: bool) -> Option<Unified> {
    let fits = |want: &Type| types.iter().all(|ty| ty == want || is_convertible(ty, want, lossy));
    let want = most_general_first(types).into_iter().find(|want| fits(want))?;
    Some(Unified::Type(want.clone()))
}

/// A topological order: generality is no total order.
fn most_general_first(types: &[Type]) -> Vec<&Type> {
    let mut rest: Vec<&Type> = types.iter().collect();
    let mut result = Vec::with_capacity(rest.len());
    while !rest.is_empty() {
        let is_top = |ty: &&&Type| rest.iter().all(|other| generality(other, ty) <= 0);
        // Should there be a circle, it is cut at its first member.
        let top = rest.iter().position(|ty| is_top(&ty)).unwrap_or(0);
        result.push(rest.remove(top));
    }
    result
}

/// Positive when `a` is the more general type, negative when `b` is, 0 when neither.
fn generality(a: &Type, b: &Type) -> i8 {
    match (a, b) {
        // A type that is known decides before one that is not.
        (Type::Dynamic, Type::Dynamic) => 0,
        (Type::Dynamic, _) => -1,
        (_, Type::Dynamic) => 1,
        (Type::String, Type::Number | Type::Bool) => 1,
        (Type::Number | Type::Bool, Type::String) => -1,
        (Type::List(a), Type::List(b))
        | (Type::Set(a), Type::Set(b))
        | (Type::Map(a), Type::Map(b)) => generality(a, b),
        (Type::List(_) | Type::Tuple(_), Type::Set(_))
        | (Type::List(_), Type::Tuple(_))
        | (Type::Map(_), Type::Object(_)) => 1,
        (Type::Set(_), Type::List(_) | Type::Tuple(_))
        | (Type::Tuple(_), Type::List(_))
        | (Type::Object(_), Type::Map(_)) => -1,
        (Type::Object(a), Type::Object(b)) if a.attrs.keys().eq(b.attrs.keys()) => {
            all_parts(a.attrs.values().zip(b.attrs.values()))
        }
        (Type::Tuple(a), Type::Tuple(b)) if a.len() == b.len() => all_parts(a.iter().zip(b.iter())),
        _ => 0,
    }
}

/// One is more general than the other if no part says the opposite.
fn all_parts<'t>(parts: impl Iterator<Item = (&'t Type, &'t Type)>) -> i8 {
    let (mut above, mut below) = (false, false);
    for (a, b) in parts {
        match generality(a, b) {
            0 => {}
            1.. => above = true,
            _ => below = true,
        }
    }
    i8::from(above) - i8::from(below)
}

fn checked(types: &[Type], result: Type, lossy: bool) -> Option<Unified> {
    types
        .iter()
        .all(|ty| *ty == result || is_convertible(ty, &result, lossy))
        .then_some(Unified::Type(result))
}
