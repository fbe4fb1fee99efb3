//! Marks: notes that go with a value through every operation.

use std::collections::BTreeSet;
use std::sync::Arc;

/// One note on a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Mark {
    /// Must not be shown to anyone.
    Sensitive,
    /// A note that only its maker understands.
    Note(Arc<str>),
}

/// A small set of marks; free when empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(Option<Arc<BTreeSet<Mark>>>);

impl Marks {
    /// No marks.
    pub const NONE: Self = Self(None);

    /// One mark.
    pub fn one(mark: Mark) -> Self {
        Self(Some(Arc::new(BTreeSet::from([mark]))))
    }

    /// Only [`Mark::Sensitive`].
    pub fn sensitive() -> Self {
        Self::one(Mark::Sensitive)
    }

    /// Whether there is no mark.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether `mark` is among them.
    pub fn contains(&self, mark: &Mark) -> bool {
        self.0.as_ref().is_some_and(|set| set.contains(mark))
    }

    /// Whether [`Mark::Sensitive`] is among them.
    pub fn is_sensitive(&self) -> bool {
        self.contains(&Mark::Sensitive)
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (_, None) => {}
            (mine @ None, theirs) => mine.clone_from(theirs),
            (Some(mine), Some(theirs)) => {
                if !Arc::ptr_eq(mine, theirs) && !theirs.is_subset(mine) {
                    Arc::make_mut(mine).extend(theirs.iter().cloned());
                }
            }
        }
    }

    /// The marks of both.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        self.merge(other);
        self
    }

    /// Each mark.
    pub fn iter(&self) -> impl Iterator<Item = &Mark> {
        self.0.iter().flat_map(|set| set.iter())
    }
}
