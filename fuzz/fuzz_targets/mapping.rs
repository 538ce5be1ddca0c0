//! Feeds `bodies/mapping.rs`, which says what must hold.
#![no_main]

#[path = "../bodies/mapping.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::mapping(bytes));
