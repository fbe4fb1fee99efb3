//! The order of sets.

use std::cmp::Ordering;

use crate::{Data, Type, Value, print};

/// Sorts and removes repetitions. Strings go by bytes, numbers by value, false before true, nulls
/// and then unknown values last; everything else by a text made of it.
pub(crate) fn order_set(element: &Type, items: Vec<Value>) -> Vec<Value> {
    let mut keyed: Vec<(Option<Key>, Value)> = items
        .into_iter()
        .map(|item| ((!element.is_primitive()).then(|| Key::new(&item)), item))
        .collect();
    keyed.sort_by(|(a, av), (b, bv)| class(av).cmp(&class(bv)).then_with(|| compare(a, av, b, bv)));
    let mut result: Vec<Value> = Vec::with_capacity(keyed.len());
    for (_, item) in keyed {
        // Two unknown values may still turn out to differ.
        if !item.is_wholly_known() || result.last() != Some(&item) {
            result.push(item);
        }
    }
    result
}

fn class(value: &Value) -> u8 {
    match value.data() {
        Data::Unknown => 2,
        Data::Null => 1,
        _ => 0,
    }
}

fn compare(a: &Option<Key>, av: &Value, b: &Option<Key>, bv: &Value) -> Ordering {
    match (a, b, av.data(), bv.data()) {
        (Some(a), Some(b), _, _) => a.cmp(b),
        (_, _, Data::String(a), Data::String(b)) => a.as_bytes().cmp(b.as_bytes()),
        (_, _, Data::Number(a), Data::Number(b)) => a.cmp(b),
        (_, _, Data::Bool(a), Data::Bool(b)) => a.cmp(b),
        _ => Ordering::Equal,
    }
}

/// What other values than primitive ones are sorted by: with ten digits of each number, which is
/// Packer's order, and where that is not enough with all of them.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    short: Vec<u8>,
    exact: Vec<u8>,
}

impl Key {
    fn new(value: &Value) -> Self {
        let mut key = Self { short: Vec::new(), exact: Vec::new() };
        write_key(value, Some(10), &mut key.short);
        write_key(value, None, &mut key.exact);
        key
    }
}

/// A text that equal values share.
pub(crate) fn likeness(value: &Value) -> Vec<u8> {
    let mut key = Vec::new();
    write_key(value, Some(20), &mut key);
    key
}

/// A text that equal values share; with all digits of numbers, others do not.
fn write_key(value: &Value, places: Option<usize>, out: &mut Vec<u8>) {
    let (open, close) = match value.ty() {
        Type::Map(_) => (b'{', b'}'),
        Type::List(_) | Type::Set(_) => (b'[', b']'),
        _ => (b'<', b'>'),
    };
    match value.data() {
        Data::Unknown => out.push(b'?'),
        Data::Null => out.push(b'~'),
        Data::Bool(value) => out.push(if *value { b'T' } else { b'F' }),
        Data::Number(number) if number.is_zero() => out.push(b'0'),
        Data::Number(number) => out.extend(number.format('g', places).bytes()),
        Data::String(text) => out.extend(print::quote(text).bytes()),
        Data::Seq(items) => {
            out.push(open);
            for item in items.iter() {
                write_key(item, places, out);
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
                write_key(item, places, out);
                out.push(b';');
            }
            out.push(close);
        }
    }
}
