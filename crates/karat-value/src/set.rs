//! The order of sets.

use std::cmp::Ordering;

use crate::{Data, Type, Value, print};

/// Sorts and removes repetitions. Strings go by bytes, numbers by value, false before true, nulls
/// and then unknown values last; everything else by a text made of it.
pub(crate) fn order_set(element: &Type, items: Vec<Value>) -> Vec<Value> {
    let mut keyed: Vec<(SortKey, Value)> =
        items.into_iter().map(|item| (SortKey::new(element, &item), item)).collect();
    keyed.sort_by(|(a, av), (b, bv)| a.cmp(b, av, bv));
    let mut result: Vec<Value> = Vec::with_capacity(keyed.len());
    for (_, item) in keyed {
        // Two unknown values may still turn out to differ.
        if !item.is_wholly_known() || result.last() != Some(&item) {
            result.push(item);
        }
    }
    result
}

enum SortKey {
    Direct,
    Text(Vec<u8>),
}

impl SortKey {
    fn new(element: &Type, item: &Value) -> Self {
        if element.is_primitive() {
            return Self::Direct;
        }
        let mut text = Vec::new();
        write_key(item, &mut text);
        Self::Text(text)
    }

    fn cmp(&self, other: &Self, a: &Value, b: &Value) -> Ordering {
        let class = |value: &Value| match value.data() {
            Data::Unknown => 2,
            Data::Null => 1,
            _ => 0,
        };
        class(a).cmp(&class(b)).then_with(|| match (self, other, a.data(), b.data()) {
            (Self::Text(a), Self::Text(b), _, _) => a.cmp(b),
            (_, _, Data::String(a), Data::String(b)) => a.as_bytes().cmp(b.as_bytes()),
            (_, _, Data::Number(a), Data::Number(b)) => a.cmp(b),
            (_, _, Data::Bool(a), Data::Bool(b)) => a.cmp(b),
            _ => Ordering::Equal,
        })
    }
}

/// A text that equal values share and others, but for digits after the tenth of numbers, do not.
fn write_key(value: &Value, out: &mut Vec<u8>) {
    let (open, close) = match value.ty() {
        Type::Map(_) => (b'{', b'}'),
        Type::List(_) | Type::Set(_) => (b'[', b']'),
        _ => (b'<', b'>'),
    };
    match value.data() {
        Data::Unknown => out.push(b'?'),
        Data::Null => out.push(b'~'),
        Data::Bool(value) => out.push(if *value { b'T' } else { b'F' }),
        Data::Number(number) => out.extend(number.format('g', Some(10)).bytes()),
        Data::String(text) => out.extend(print::quote(text).bytes()),
        Data::Seq(items) => {
            out.push(open);
            for item in items.iter() {
                write_key(item, out);
                out.push(b';');
            }
            out.push(close);
        }
        Data::Map(items) => {
            out.push(open);
            for (key, item) in items.iter() {
                if matches!(value.ty(), Type::Map(_)) {
                    out.extend(print::quote(key).bytes());
                    out.push(b':');
                }
                write_key(item, out);
                out.push(b';');
            }
            out.push(close);
        }
    }
}
