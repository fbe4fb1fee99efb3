//! What one evaluation may use up.

use std::cell::Cell;

use karat_value::Value;

/// Steps of one evaluation: expressions, elements, and pieces of text of [`TEXT_PER_STEP`] bytes.
const STEPS: u64 = 8_000_000;
pub(crate) const TEXT_PER_STEP: usize = 64;
/// The longest text that an operation may make, in bytes.
pub(crate) const MAX_TEXT: usize = 64 << 20;
/// The weight that a value may have, and likewise all arguments of a call, all arguments of a block
/// and all locals of a template together. 60 bytes of memory weigh one.
pub const MAX_WEIGHT: usize = 2_000_000;
/// How deep values may be nested: what uses them goes down by recursion.
pub(crate) const MAX_DEPTH: usize = 1_000;

#[derive(Debug)]
pub(crate) struct Budget {
    left: Cell<u64>,
}

impl Budget {
    pub(crate) fn new() -> Self {
        Self { left: Cell::new(STEPS) }
    }

    /// Takes `steps` off; false when nothing is left.
    pub(crate) fn take(&self, steps: usize) -> bool {
        let left = self.left.get().saturating_sub(steps as u64);
        self.left.set(left);
        left > 0
    }

    /// Takes off what a text of `bytes` costs.
    pub(crate) fn take_text(&self, bytes: usize) -> bool {
        bytes <= MAX_TEXT && self.take(bytes / TEXT_PER_STEP)
    }

    /// Takes off what a walk through values costs, which is a few instructions for an element.
    /// False also for more than [`MAX_WEIGHT`].
    pub(crate) fn take_walk<'v>(&self, values: impl IntoIterator<Item = &'v Value>) -> bool {
        let weight = values.into_iter().map(Value::weight).fold(0, usize::saturating_add);
        weight <= MAX_WEIGHT && self.take(weight / 16)
    }

    /// Ends the evaluation.
    pub(crate) fn exhaust(&self) {
        self.left.set(0);
    }

    pub(crate) fn is_exhausted(&self) -> bool {
        self.left.get() == 0
    }
}
