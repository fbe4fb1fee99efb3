//! The ssh communicator: one connection per machine, one exchange per script.
