//! How much there is in a value and how deep it is, kept with what holds it.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use crate::{Type, Value};

/// The elements of a value, how much there is in them, and how deep they are nested.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighed<T> {
    // Come first: what is of another size is another value.
    weight: usize,
    depth: usize,
    items: T,
}

impl<T> Weighed<T> {
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth
    }
}

impl<T> Deref for Weighed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.items
    }
}

impl Weighed<Vec<Value>> {
    pub(crate) fn seq(items: Vec<Value>) -> Self {
        let (weight, depth) = measure(SEQUENCE, items.iter());
        Self { weight, depth, items }
    }
}

impl Weighed<BTreeMap<Arc<str>, Value>> {
    pub(crate) fn map(items: BTreeMap<Arc<str>, Value>) -> Self {
        let (weight, depth) = measure(MAPPING, items.values());
        Self { weight, depth, items }
    }
}

/// What an empty sequence and an empty mapping weigh, in elements that take as much memory.
pub(crate) const SEQUENCE: usize = 4;
pub(crate) const MAPPING: usize = 24;

/// Weight and depth of what holds `items` and weighs `own` without them.
fn measure<'a>(own: usize, items: impl Iterator<Item = &'a Value>) -> (usize, usize) {
    items.fold((own, 1), |(weight, depth), item| {
        (weight.saturating_add(item.weight()), depth.max(item.depth() + 1))
    })
}

/// Larger types weigh as much as this: parts are shared here too, and no walk may take forever.
const LARGEST: usize = 16 << 20;

/// How much there is in a type.
pub(crate) fn of_type(ty: &Type) -> usize {
    let mut weight = 0;
    walk(ty, &mut weight);
    weight
}

fn walk(ty: &Type, weight: &mut usize) {
    *weight += 1;
    if *weight >= LARGEST {
        return;
    }
    match ty {
        Type::Dynamic | Type::String | Type::Number | Type::Bool => {}
        Type::List(element) | Type::Set(element) | Type::Map(element) => walk(element, weight),
        Type::Object(object) => object.attrs.values().for_each(|ty| walk(ty, weight)),
        Type::Tuple(elements) => elements.iter().for_each(|ty| walk(ty, weight)),
    }
}
