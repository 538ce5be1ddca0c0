//! Feeds `bodies/event.rs`, which says what must hold.
#![no_main]

#[path = "../bodies/event.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::event(bytes));
