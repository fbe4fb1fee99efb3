//! What one evaluation may use up.

use std::cell::Cell;

/// Steps of one evaluation: expressions, elements, and pieces of text of [`TEXT_PER_STEP`] bytes.
const STEPS: u64 = 8_000_000;
pub(crate) const TEXT_PER_STEP: usize = 64;
/// The longest text that an operation may make, in bytes.
pub(crate) const MAX_TEXT: usize = 64 << 20;

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

    /// Ends the evaluation.
    pub(crate) fn exhaust(&self) {
        self.left.set(0);
    }

    pub(crate) fn is_exhausted(&self) -> bool {
        self.left.get() == 0
    }
}
