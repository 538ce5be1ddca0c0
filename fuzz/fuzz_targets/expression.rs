//! Feeds `bodies/expression.rs`, which says what must hold.
#![no_main]

#[path = "../bodies/expression.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::expression(bytes));
