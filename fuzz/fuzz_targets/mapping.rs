//! The column mapping: any text is refused or understood.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recommend::import::{Mapping, TimeUnit};

fuzz_target!(|text: &str| {
    let _ = text.parse::<Mapping>();
    let _ = text.parse::<TimeUnit>();
});
