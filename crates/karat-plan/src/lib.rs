//! Which builds depend on which, and the fingerprint of each. Pure.
