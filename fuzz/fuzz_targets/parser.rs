//! See `targets.rs` of the tests.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| karat_fuzz::run("parser", text));
