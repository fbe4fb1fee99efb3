//! What is known of a value that is not known: enough, at times, to answer a question about it.

use std::sync::Arc;

use unicode_segmentation::UnicodeSegmentation;

use crate::{Data, Number, Type, Value};

/// A bound of a number, and whether the number may be equal to it.
pub type Bound = (Number, bool);

/// What holds of a value. A value that is not null and has no other facts may be anything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// It is not null. All else holds if it is not.
    pub not_null: bool,
    /// No number is less.
    pub low: Option<Bound>,
    /// No number is greater.
    pub high: Option<Bound>,
    /// How the text begins.
    pub prefix: Arc<str>,
    /// The least number of elements.
    pub min_length: usize,
    /// The greatest number of elements.
    pub max_length: Option<usize>,
}

impl Facts {
    /// That it is not null.
    pub fn not_null() -> Self {
        Self { not_null: true, ..Self::default() }
    }

    /// That a text begins with `prefix`. What may still become one character with what follows is
    /// left out.
    pub fn prefix(prefix: &str) -> Self {
        Self { prefix: safe_prefix(prefix).into(), ..Self::default() }
    }

    /// That there are at least and at most so many elements.
    pub fn length(min: usize, max: Option<usize>) -> Self {
        Self { min_length: min, max_length: max, ..Self::default() }
    }

    /// That the length of what these facts hold of is a number within these bounds.
    pub fn of_length(&self) -> Self {
        Self {
            not_null: true,
            low: Some((self.min_length.into(), true)),
            // Whatever it is, it is finite.
            high: Some((self.max_length.map_or_else(|| i64::MAX.into(), Number::from), true)),
            ..Self::default()
        }
    }

    /// What holds of a value of which one of the two holds.
    #[must_use]
    pub fn either(a: &Self, b: &Self) -> Self {
        let wider = |a: &Option<Bound>, b: &Option<Bound>, low: bool| {
            let (a, b) = (a.as_ref()?, b.as_ref()?);
            let order = if low { a.0.cmp(&b.0) } else { b.0.cmp(&a.0) };
            Some(match order {
                std::cmp::Ordering::Less => a.clone(),
                std::cmp::Ordering::Greater => b.clone(),
                std::cmp::Ordering::Equal => (a.0.clone(), a.1 || b.1),
            })
        };
        Self {
            not_null: a.not_null && b.not_null,
            low: wider(&a.low, &b.low, true),
            high: wider(&a.high, &b.high, false),
            prefix: "".into(),
            min_length: a.min_length.min(b.min_length),
            max_length: a.max_length.zip(b.max_length).map(|(a, b)| a.max(b)),
        }
    }

    fn both(self, other: &Self) -> Self {
        let tighter = |a: Option<Bound>, b: &Option<Bound>, low: bool| match (a, b) {
            (a, None) => a,
            (None, Some(b)) => Some(b.clone()),
            (Some(a), Some(b)) => {
                let order = if low { a.0.cmp(&b.0) } else { b.0.cmp(&a.0) };
                Some(match order {
                    std::cmp::Ordering::Greater => a,
                    std::cmp::Ordering::Less => b.clone(),
                    std::cmp::Ordering::Equal => (a.0, a.1 && b.1),
                })
            }
        };
        let longer = self.prefix.len() >= other.prefix.len();
        Self {
            not_null: self.not_null || other.not_null,
            low: tighter(self.low, &other.low, true),
            high: tighter(self.high, &other.high, false),
            prefix: if longer { self.prefix } else { other.prefix.clone() },
            min_length: self.min_length.max(other.min_length),
            max_length: match (self.max_length, other.max_length) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
        }
    }

    /// The value itself, if there is only one of which this holds.
    fn value(&self, ty: &Type) -> Option<Value> {
        if !self.not_null {
            return None;
        }
        if let (Type::Number, Some((low, true)), Some((high, true))) = (ty, &self.low, &self.high)
            && low == high
        {
            return Some(Value::number(low.clone()));
        }
        let length = self.max_length.filter(|max| *max == self.min_length)?;
        match ty {
            Type::List(element) => {
                let items = vec![Value::unknown((**element).clone()); length];
                Some(Value::list((**element).clone(), items))
            }
            Type::Set(element) if length <= 1 => {
                let items = vec![Value::unknown((**element).clone()); length];
                Some(Value::set((**element).clone(), items))
            }
            Type::Map(element) if length == 0 => {
                Some(Value::map((**element).clone(), std::collections::BTreeMap::new()))
            }
            _ => None,
        }
    }

    /// Whether a known value, not null and of the same type, is certainly another one.
    pub(crate) fn excludes(&self, known: &Value) -> bool {
        if known.as_str().is_some_and(|text| !text.starts_with(&*self.prefix)) {
            return true;
        }
        if let Some(number) = known.as_number() {
            // Of a number of which anything is known it is known that it is finite, unless a bound
            // says otherwise.
            let end = if number.is_sign_negative() { &self.low } else { &self.high };
            let beyond = number.is_infinite() && end.is_none();
            let below = self
                .low
                .as_ref()
                .is_some_and(|(low, inclusive)| number < low || (number == low && !inclusive));
            let above = self
                .high
                .as_ref()
                .is_some_and(|(high, inclusive)| number > high || (number == high && !inclusive));
            return beyond || below || above;
        }
        if !matches!(known.ty(), Type::List(_) | Type::Set(_) | Type::Map(_)) {
            return false;
        }
        let of = known.facts();
        of.max_length.is_some_and(|most| most < self.min_length)
            || self.max_length.is_some_and(|most| of.min_length > most)
    }
}

impl Value {
    /// What holds of it.
    pub fn facts(&self) -> Facts {
        match self.data() {
            Data::Unknown => self.known_facts().cloned().unwrap_or_default(),
            Data::Null => Facts::default(),
            Data::Bool(_) => Facts::not_null(),
            Data::Number(number) => Facts {
                low: Some((number.clone(), true)),
                high: Some((number.clone(), true)),
                ..Facts::not_null()
            },
            Data::String(text) => Facts { prefix: text.clone(), ..Facts::not_null() },
            // Elements of a set that are not known may turn out to be the same.
            Data::Seq(items) if matches!(self.ty(), Type::Set(_)) => {
                let certain = items.len() <= 1 || self.is_wholly_known();
                Facts {
                    min_length: if certain { items.len() } else { 1 },
                    max_length: Some(items.len()),
                    ..Facts::not_null()
                }
            }
            Data::Seq(_) | Data::Map(_) => {
                let count = self.element_count().unwrap_or(0);
                Facts { min_length: count, max_length: Some(count), ..Facts::not_null() }
            }
        }
    }

    /// The value with what is known of it besides. Of a value that is known, or whose type is not,
    /// nothing is noted. Where only one value is left, that is the result.
    #[must_use]
    pub fn knowing(self, facts: &Facts) -> Self {
        if self.is_known() || *self.ty() == Type::Dynamic || *facts == Facts::default() {
            return self;
        }
        let facts = self.facts().both(facts);
        let marks = self.marks().clone();
        match facts.value(self.ty()) {
            Some(value) => value.with_marks(&marks),
            None => self.with_facts(facts),
        }
    }

    /// Whether it certainly is not null.
    pub fn is_certainly_not_null(&self) -> bool {
        match self.data() {
            Data::Null => false,
            Data::Unknown => self.known_facts().is_some_and(|facts| facts.not_null),
            _ => true,
        }
    }
}

/// The beginning of a text that stays what it is, whatever follows.
fn safe_prefix(text: &str) -> &str {
    let Some((at, last)) = text.grapheme_indices(true).next_back() else { return text };
    let ends = "-_:;/\\,.(){}[]|?!~ \t@#$%^&*+\"'";
    let mut chars = last.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) if ends.contains(c) => text,
        _ => &text[..at],
    }
}
