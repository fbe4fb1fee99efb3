//! Derives a component's schema and decoder from its configuration struct.
