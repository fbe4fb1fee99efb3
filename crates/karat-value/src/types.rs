//! The types of values.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// What a value is.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Type {
    /// Any type, to be decided by a value: `any` in a type expression, the type of an untyped
    /// null, the type of an unknown value of which nothing is known.
    Dynamic,
    /// Unicode text in normal form C.
    String,
    /// See [`crate::Number`].
    Number,
    /// `true` or `false`.
    Bool,
    /// A sequence of values of one type.
    List(Arc<Type>),
    /// Distinct values of one type in a fixed order.
    Set(Arc<Type>),
    /// Values of one type under text keys.
    Map(Arc<Type>),
    /// Values each of its own type under fixed names.
    Object(Arc<ObjectType>),
    /// A sequence of fixed length, each value of its own type.
    Tuple(Arc<Vec<Type>>),
}

/// The attributes of an object type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectType {
    /// Name and type of each attribute.
    pub attrs: BTreeMap<Arc<str>, Type>,
    /// Which of them a value that is to be converted may lack.
    pub optional: BTreeSet<Arc<str>>,
}

impl Type {
    /// `list(element)`
    pub fn list(element: Self) -> Self {
        Self::List(Arc::new(element))
    }

    /// `set(element)`
    pub fn set(element: Self) -> Self {
        Self::Set(Arc::new(element))
    }

    /// `map(element)`
    pub fn map(element: Self) -> Self {
        Self::Map(Arc::new(element))
    }

    /// `tuple([elements])`
    pub fn tuple(elements: impl Into<Vec<Self>>) -> Self {
        Self::Tuple(Arc::new(elements.into()))
    }

    /// `object({attrs})`, none optional.
    pub fn object<K: Into<Arc<str>>>(attrs: impl IntoIterator<Item = (K, Self)>) -> Self {
        let attrs = attrs.into_iter().map(|(name, ty)| (name.into(), ty)).collect();
        Self::Object(Arc::new(ObjectType { attrs, optional: BTreeSet::new() }))
    }

    /// String, number or bool.
    pub fn is_primitive(&self) -> bool {
        matches!(self, Self::String | Self::Number | Self::Bool)
    }

    /// List, set or map.
    pub fn is_collection(&self) -> bool {
        matches!(self, Self::List(_) | Self::Set(_) | Self::Map(_))
    }

    /// List, set or tuple: known values are held as a sequence.
    pub fn is_sequence(&self) -> bool {
        matches!(self, Self::List(_) | Self::Set(_) | Self::Tuple(_))
    }

    /// Map or object: known values are held under text keys.
    pub fn is_mapping(&self) -> bool {
        matches!(self, Self::Map(_) | Self::Object(_))
    }

    /// The type of the elements of a list, set or map.
    pub fn element(&self) -> Option<&Self> {
        match self {
            Self::List(element) | Self::Set(element) | Self::Map(element) => Some(element),
            _ => None,
        }
    }

    /// The type of an object's attribute.
    pub fn attribute(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(object) => object.attrs.get(name),
            _ => None,
        }
    }

    /// Whether [`Type::Dynamic`] is it or is in it.
    pub fn has_dynamic(&self) -> bool {
        match self {
            Self::Dynamic => true,
            Self::String | Self::Number | Self::Bool => false,
            Self::List(element) | Self::Set(element) | Self::Map(element) => element.has_dynamic(),
            Self::Object(object) => object.attrs.values().any(Self::has_dynamic),
            Self::Tuple(elements) => elements.iter().any(Self::has_dynamic),
        }
    }

    /// The same type, with no attribute optional at any depth: the type that converted values
    /// have.
    #[must_use]
    pub fn without_optional(&self) -> Self {
        match self {
            Self::Dynamic | Self::String | Self::Number | Self::Bool => self.clone(),
            Self::List(element) => Self::list(element.without_optional()),
            Self::Set(element) => Self::set(element.without_optional()),
            Self::Map(element) => Self::map(element.without_optional()),
            Self::Object(object) => Self::Object(Arc::new(ObjectType {
                attrs: object
                    .attrs
                    .iter()
                    .map(|(name, ty)| (name.clone(), ty.without_optional()))
                    .collect(),
                optional: BTreeSet::new(),
            })),
            Self::Tuple(elements) => {
                Self::tuple(elements.iter().map(Self::without_optional).collect::<Vec<_>>())
            }
        }
    }

    /// Whether a value of a type that fits `self`, [`Type::Dynamic`] standing for any type, may
    /// also be of a type that fits `other`.
    pub fn may_equal(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dynamic, _) | (_, Self::Dynamic) => true,
            (Self::List(a), Self::List(b))
            | (Self::Set(a), Self::Set(b))
            | (Self::Map(a), Self::Map(b)) => a.may_equal(b),
            (Self::Object(a), Self::Object(b)) => {
                a.attrs.len() == b.attrs.len()
                    && a.attrs
                        .iter()
                        .zip(&b.attrs)
                        .all(|((an, at), (bn, bt))| an == bn && at.may_equal(bt))
            }
            (Self::Tuple(a), Self::Tuple(b)) => {
                a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a.may_equal(b))
            }
            _ => self == other,
        }
    }

    /// A short name for messages: "string", "list of number", "object", "tuple".
    pub fn friendly(&self) -> String {
        match self {
            Self::Dynamic => "dynamic".into(),
            Self::String => "string".into(),
            Self::Number => "number".into(),
            Self::Bool => "bool".into(),
            Self::List(element) => format!("list of {}", element.friendly_element()),
            Self::Set(element) => format!("set of {}", element.friendly_element()),
            Self::Map(element) => format!("map of {}", element.friendly_element()),
            Self::Object(_) => "object".into(),
            Self::Tuple(_) => "tuple".into(),
        }
    }

    fn friendly_element(&self) -> String {
        match self {
            Self::Dynamic => "any single type".into(),
            other => other.friendly(),
        }
    }
}

/// As a type expression: `list(object({a = optional(string)}))`.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dynamic => f.write_str("any"),
            Self::String => f.write_str("string"),
            Self::Number => f.write_str("number"),
            Self::Bool => f.write_str("bool"),
            Self::List(element) => write!(f, "list({element})"),
            Self::Set(element) => write!(f, "set({element})"),
            Self::Map(element) => write!(f, "map({element})"),
            Self::Tuple(elements) => {
                f.write_str("tuple([")?;
                for (i, element) in elements.iter().enumerate() {
                    let comma = if i == 0 { "" } else { ", " };
                    write!(f, "{comma}{element}")?;
                }
                f.write_str("])")
            }
            Self::Object(object) => {
                f.write_str("object({")?;
                for (i, (name, ty)) in object.attrs.iter().enumerate() {
                    let comma = if i == 0 { "" } else { ", " };
                    if object.optional.contains(name) {
                        write!(f, "{comma}{name} = optional({ty})")?;
                    } else {
                        write!(f, "{comma}{name} = {ty}")?;
                    }
                }
                f.write_str("})")
            }
        }
    }
}

impl fmt::Debug for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
