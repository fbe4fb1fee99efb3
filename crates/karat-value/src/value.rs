//! A value: null, unknown or known, with a type and marks.

use std::collections::BTreeMap;
use std::sync::Arc;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::set::{likeness, order_set};
use crate::weight::{self, Weighed};
use crate::{Facts, Mark, Marks, Number, ObjectType, Type};

/// A value of the template language. Cheap to clone.
///
/// `PartialEq` is exact sameness: type, marks, null and unknown included. What `==` means in a
/// template is [`Value::equals`].
///
/// What is known of an unknown value besides ([`Facts`]) is no part of that sameness.
#[derive(Clone, Debug)]
pub struct Value {
    ty: Type,
    data: Data,
    marks: Marks,
    facts: Option<Arc<Facts>>,
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.ty == other.ty && self.data == other.data && self.marks == other.marks
    }
}

/// What a value holds.
#[derive(Clone, Debug)]
pub enum Data {
    /// Nothing.
    Null,
    /// Something that is decided later.
    Unknown,
    /// A bool.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text, in normal form C.
    String(Arc<str>),
    /// The elements of a list, a tuple, or a set (in its order).
    Seq(Arc<Weighed<Vec<Value>>>),
    /// The elements of a map or an object, in byte order of their keys.
    Map(Arc<Weighed<BTreeMap<Arc<str>, Value>>>),
}

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) | (Self::Unknown, Self::Unknown) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Number(a), Self::Number(b)) => a == b,
            (Self::String(a), Self::String(b)) => a == b,
            // What is shared is the same, and needs no walk.
            (Self::Seq(a), Self::Seq(b)) => Arc::ptr_eq(a, b) || a == b,
            (Self::Map(a), Self::Map(b)) => Arc::ptr_eq(a, b) || a == b,
            _ => false,
        }
    }
}

impl Data {
    fn seq(items: Vec<Value>) -> Self {
        Self::Seq(Arc::new(Weighed::seq(items)))
    }

    fn map(items: BTreeMap<Arc<str>, Value>) -> Self {
        Self::Map(Arc::new(Weighed::map(items)))
    }
}

impl Value {
    // Nothing checks that data fits the type, so this stays private to the crate.
    pub(crate) fn raw(ty: Type, data: Data) -> Self {
        Self { ty, data, marks: Marks::NONE, facts: None }
    }

    pub(crate) fn known_facts(&self) -> Option<&Facts> {
        self.facts.as_deref()
    }

    pub(crate) fn with_facts(mut self, facts: Facts) -> Self {
        self.facts = Some(Arc::new(facts));
        self
    }

    /// A null of type `ty`.
    pub fn null(ty: Type) -> Self {
        Self::raw(ty.without_optional(), Data::Null)
    }

    /// The untyped null: what the word `null` gives.
    pub fn untyped_null() -> Self {
        Self::raw(Type::Dynamic, Data::Null)
    }

    /// A value of type `ty` that is not known yet.
    pub fn unknown(ty: Type) -> Self {
        Self::raw(ty.without_optional(), Data::Unknown)
    }

    /// A value of which nothing is known, not even its type.
    pub fn dynamic() -> Self {
        Self::raw(Type::Dynamic, Data::Unknown)
    }

    /// A bool.
    pub fn bool(value: bool) -> Self {
        Self::raw(Type::Bool, Data::Bool(value))
    }

    /// A number.
    pub fn number(value: impl Into<Number>) -> Self {
        Self::raw(Type::Number, Data::Number(value.into()))
    }

    /// A text. Makes it normal form C.
    pub fn string(value: impl AsRef<str> + Into<Arc<str>>) -> Self {
        Self::raw(Type::String, Data::String(normalize(value)))
    }

    /// A list of `element`s. All `items` must be of that type (unmarked marks aside); where one is
    /// not, the list's element type becomes [`Type::Dynamic`].
    pub fn list(element: Type, items: Vec<Self>) -> Self {
        let element = fitting(element, items.iter());
        Self::raw(Type::list(element), Data::seq(items))
    }

    /// A set of `element`s: sorted, without repetitions. Marks on items move to the set, as
    /// nothing may tell which element of a set carried them.
    pub fn set(element: Type, items: Vec<Self>) -> Self {
        let element = fitting(element, items.iter());
        let mut marks = Marks::NONE;
        let items = items.into_iter().map(|item| item.unmark_deep_into(&mut marks)).collect();
        let items = order_set(&element, items);
        let set = Self::raw(Type::set(element), Data::seq(items));
        set.with_marks(&marks)
    }

    /// A map of `element`s.
    pub fn map(element: Type, items: BTreeMap<Arc<str>, Self>) -> Self {
        let element = fitting(element, items.values());
        Self::raw(Type::map(element), Data::map(items))
    }

    /// A list whose element type is that of its first item, `any` when empty.
    pub fn list_of(items: Vec<Self>) -> Self {
        let element = items.first().map_or(Type::Dynamic, |item| item.ty().clone());
        Self::list(element, items)
    }

    /// A list of strings.
    pub fn string_list<S: AsRef<str> + Into<Arc<str>>>(items: impl IntoIterator<Item = S>) -> Self {
        Self::list(Type::String, items.into_iter().map(Self::string).collect())
    }

    /// A tuple.
    pub fn tuple(items: Vec<Self>) -> Self {
        let ty = Type::tuple(items.iter().map(|item| item.ty.clone()).collect::<Vec<_>>());
        Self::raw(ty, Data::seq(items))
    }

    /// An object.
    pub fn object(items: BTreeMap<Arc<str>, Self>) -> Self {
        let attrs = items.iter().map(|(name, item)| (name.clone(), item.ty.clone())).collect();
        let ty = Type::Object(Arc::new(ObjectType { attrs, optional: Default::default() }));
        Self::raw(ty, Data::map(items))
    }

    /// An object from names and values; of equal names the last wins. Names become normal form C.
    pub fn object_of<K: AsRef<str> + Into<Arc<str>>>(
        items: impl IntoIterator<Item = (K, Self)>,
    ) -> Self {
        Self::object(items.into_iter().map(|(name, item)| (normalize(name), item)).collect())
    }

    /// Its type.
    pub fn ty(&self) -> &Type {
        &self.ty
    }

    /// What it holds.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        matches!(self.data, Data::Null)
    }

    /// Whether it is known; parts of it may still be unknown.
    pub fn is_known(&self) -> bool {
        !matches!(self.data, Data::Unknown)
    }

    /// Whether it and all in it are known.
    pub fn is_wholly_known(&self) -> bool {
        match &self.data {
            Data::Unknown => false,
            Data::Seq(items) => items.iter().all(Self::is_wholly_known),
            Data::Map(items) => items.values().all(Self::is_wholly_known),
            _ => true,
        }
    }

    /// How much memory it would take if nothing in it were shared, and how much there is to walk:
    /// one for a number, more for long texts and for what holds other values. As parts may be
    /// shared, a small template can make a value of a weight that no memory could hold.
    pub fn weight(&self) -> usize {
        match &self.data {
            Data::Seq(items) => items.weight(),
            Data::Map(items) => items.weight(),
            Data::String(text) => 1 + text.len() / 64,
            Data::Null | Data::Unknown => weight::of_type(&self.ty),
            Data::Bool(_) | Data::Number(_) => 1,
        }
    }

    /// Its weight without what is in it.
    pub fn own_weight(&self) -> usize {
        match &self.data {
            Data::Seq(_) => weight::SEQUENCE,
            Data::Map(_) => weight::MAPPING,
            _ => self.weight(),
        }
    }

    /// How deep lists, maps and the like are nested in it: 0 for a text.
    pub fn depth(&self) -> usize {
        match &self.data {
            Data::Seq(items) => items.depth(),
            Data::Map(items) => items.depth(),
            _ => 0,
        }
    }

    /// What equal values have in common, and others rarely do: for finding them among many. Nulls
    /// of all types are equal; of unknown values nothing is said.
    pub fn likeness(&self) -> Vec<u8> {
        likeness(self)
    }

    /// The text of a known string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.data {
            Data::String(text) => Some(text),
            _ => None,
        }
    }

    /// A known bool.
    pub fn as_bool(&self) -> Option<bool> {
        match self.data {
            Data::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// A known number.
    pub fn as_number(&self) -> Option<&Number> {
        match &self.data {
            Data::Number(value) => Some(value),
            _ => None,
        }
    }

    /// The elements of a known list, set or tuple.
    pub fn as_slice(&self) -> Option<&[Self]> {
        match &self.data {
            Data::Seq(items) => Some(items),
            _ => None,
        }
    }

    /// The elements of a known map or object.
    pub fn as_map(&self) -> Option<&BTreeMap<Arc<str>, Self>> {
        match &self.data {
            Data::Map(items) => Some(items),
            _ => None,
        }
    }

    /// How many elements a known list, set, tuple, map or object has.
    pub fn element_count(&self) -> Option<usize> {
        match &self.data {
            Data::Seq(items) => Some(items.len()),
            Data::Map(items) => Some(items.len()),
            _ => None,
        }
    }

    /// Key and value of each element of a known list, set, tuple, map or object, in order: the
    /// keys of lists and tuples are numbers, those of sets the elements themselves. The marks of
    /// the collection itself are not on what comes out. `None` for anything else.
    pub fn elements(&self) -> Option<Elements<'_>> {
        match &self.data {
            Data::Seq(items) => Some(Elements(ElementsKind::Seq {
                items: items.iter().enumerate(),
                set: matches!(self.ty, Type::Set(_)),
            })),
            Data::Map(items) => Some(Elements(ElementsKind::Map(items.iter()))),
            _ => None,
        }
    }

    /// The marks on the value itself, not on what is in it.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// The marks on the value and on everything in it.
    pub fn deep_marks(&self) -> Marks {
        let mut marks = Marks::NONE;
        self.collect_marks(&mut marks);
        marks
    }

    /// Adds the marks on the value and on everything in it to `marks`.
    pub fn collect_marks(&self, marks: &mut Marks) {
        marks.merge(&self.marks);
        match &self.data {
            Data::Seq(items) => items.iter().for_each(|item| item.collect_marks(marks)),
            Data::Map(items) => items.values().for_each(|item| item.collect_marks(marks)),
            _ => {}
        }
    }

    /// Whether it, or anything in it, is sensitive.
    pub fn is_sensitive(&self) -> bool {
        self.deep_marks().is_sensitive()
    }

    /// The value with `marks` added.
    #[must_use]
    pub fn with_marks(mut self, marks: &Marks) -> Self {
        self.marks.merge(marks);
        self
    }

    /// The value with one mark added.
    #[must_use]
    pub fn marked(self, mark: Mark) -> Self {
        self.with_marks(&Marks::one(mark))
    }

    /// The value without its own marks, and those.
    pub fn unmark(mut self) -> (Self, Marks) {
        let marks = std::mem::take(&mut self.marks);
        (self, marks)
    }

    /// The value without any marks on it or in it, and all of them.
    pub fn unmark_deep(self) -> (Self, Marks) {
        let mut marks = Marks::NONE;
        let value = self.unmark_deep_into(&mut marks);
        (value, marks)
    }

    fn unmark_deep_into(self, marks: &mut Marks) -> Self {
        if self.deep_marks().is_empty() {
            return self;
        }
        marks.merge(&self.marks);
        let data = match self.data {
            Data::Seq(items) => {
                Data::seq(items.iter().map(|item| item.clone().unmark_deep_into(marks)).collect())
            }
            Data::Map(items) => Data::map(
                items
                    .iter()
                    .map(|(key, item)| (key.clone(), item.clone().unmark_deep_into(marks)))
                    .collect(),
            ),
            other => other,
        };
        Self { facts: self.facts, ..Self::raw(self.ty, data) }
    }

    /// A copy in which `f` has replaced every value that is no collection, from the inside. Types
    /// are computed anew for tuples and objects; collections keep their element type.
    #[must_use]
    pub fn map_leaves(&self, f: &mut dyn FnMut(&Self) -> Self) -> Self {
        match &self.data {
            Data::Seq(items) => {
                let items: Vec<Self> = items.iter().map(|item| item.map_leaves(f)).collect();
                match &self.ty {
                    Type::List(element) => Self::list((**element).clone(), items),
                    Type::Set(element) => Self::set((**element).clone(), items),
                    _ => Self::tuple(items),
                }
            }
            Data::Map(items) => {
                let items =
                    items.iter().map(|(key, item)| (key.clone(), item.map_leaves(f))).collect();
                match &self.ty {
                    Type::Map(element) => Self::map((**element).clone(), items),
                    _ => Self::object(items),
                }
            }
            _ => f(self),
        }
        .with_marks(&self.marks)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::bool(value)
    }
}

impl From<Number> for Value {
    fn from(value: Number) -> Self {
        Self::number(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::number(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::string(value)
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::string(value)
    }
}

/// The elements of a value, see [`Value::elements`].
#[derive(Debug)]
pub struct Elements<'a>(ElementsKind<'a>);

#[derive(Debug)]
enum ElementsKind<'a> {
    Seq { items: std::iter::Enumerate<std::slice::Iter<'a, Value>>, set: bool },
    Map(std::collections::btree_map::Iter<'a, Arc<str>, Value>),
}

impl<'a> Iterator for Elements<'a> {
    type Item = (Value, &'a Value);

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            ElementsKind::Seq { items, set } => {
                let (i, item) = items.next()?;
                let key = if *set { item.clone() } else { Value::number(i) };
                Some((key, item))
            }
            ElementsKind::Map(items) => {
                let (key, item) = items.next()?;
                Some((Value::raw(Type::String, Data::String(key.clone())), item))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            ElementsKind::Seq { items, .. } => items.size_hint(),
            ElementsKind::Map(items) => items.size_hint(),
        }
    }
}

impl ExactSizeIterator for Elements<'_> {}

fn normalize(text: impl AsRef<str> + Into<Arc<str>>) -> Arc<str> {
    if text.as_ref().is_ascii() || is_nfc_quick(text.as_ref().chars()) == IsNormalized::Yes {
        text.into()
    } else {
        text.as_ref().nfc().collect::<String>().into()
    }
}

fn fitting<'a>(element: Type, items: impl Iterator<Item = &'a Value>) -> Type {
    for item in items {
        if item.ty != element {
            return Type::Dynamic;
        }
    }
    element.without_optional()
}
