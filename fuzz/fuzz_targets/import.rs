//! Feeds `bodies/import.rs`, which says what must hold.
//!
//! The reader of Parquet catches the asserts of its library. The hook of libFuzzer would abort before that; without it a
//! panic that nobody catches still ends the run.
#![no_main]

#[path = "../bodies/import.rs"]
mod body;

libfuzzer_sys::fuzz_target!(
    init: std::panic::set_hook(Box::new(|_| ())),
    |bytes: &[u8]| body::import(bytes)
);
