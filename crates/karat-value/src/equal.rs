//! What `==` means.

use crate::{Data, Type, Value};

impl Value {
    /// Whether two values are equal: same type, same content; nothing is converted, but nulls of
    /// all types are equal. `None` if that depends on what is not known yet. Marks do not matter.
    pub fn equals(&self, other: &Self) -> Option<bool> {
        let (null, other_null) = (self.is_null(), other.is_null());
        if (null && other.is_certainly_not_null()) || (other_null && self.is_certainly_not_null()) {
            return Some(false);
        }
        match (self.is_known(), other.is_known()) {
            (false, false) => return None,
            (true, true) => {}
            (true, false) => return equals_unknown(self, other),
            (false, true) => return equals_unknown(other, self),
        }
        match (self.is_null(), other.is_null()) {
            (true, true) => return Some(true),
            (true, false) | (false, true) => return Some(false),
            (false, false) => {}
        }
        if has_open_type(self) || has_open_type(other) {
            return if self.ty().may_equal(other.ty()) { None } else { Some(false) };
        }
        if self.ty() != other.ty() {
            return Some(false);
        }
        match (self.data(), other.data()) {
            (Data::Seq(a), Data::Seq(b)) => {
                if a.len() != b.len() {
                    return if matches!(self.ty(), Type::Set(_))
                        && !(self.is_wholly_known() && other.is_wholly_known())
                    {
                        None
                    } else {
                        Some(false)
                    };
                }
                all(a.iter().zip(b.iter()).map(|(a, b)| a.equals(b)))
            }
            (Data::Map(a), Data::Map(b)) => {
                if !a.keys().eq(b.keys()) {
                    return Some(false);
                }
                all(a.values().zip(b.values()).map(|(a, b)| a.equals(b)))
            }
            (a, b) => Some(a == b),
        }
    }
}

/// False as soon as one is false, whatever is still unknown.
fn all(results: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut known = true;
    for result in results {
        match result {
            Some(false) => return Some(false),
            Some(true) => {}
            None => known = false,
        }
    }
    known.then_some(true)
}

fn equals_unknown(known: &Value, unknown: &Value) -> Option<bool> {
    let facts = unknown.known_facts();
    if known.ty() == unknown.ty() && !known.is_null() && facts.is_some_and(|f| f.excludes(known)) {
        return Some(false);
    }
    if known.is_null() || unknown.ty().has_dynamic() || known.ty() == unknown.ty() {
        return None;
    }
    if has_open_type(known) && known.ty().may_equal(unknown.ty()) {
        return None;
    }
    // The unknown value could still be null, but the known one is not.
    Some(false)
}

/// Whether there is an unknown value of unknown type in it.
fn has_open_type(value: &Value) -> bool {
    match value.data() {
        Data::Unknown => value.ty().has_dynamic(),
        Data::Seq(items) => items.iter().any(has_open_type),
        Data::Map(items) => items.values().any(has_open_type),
        _ => false,
    }
}
