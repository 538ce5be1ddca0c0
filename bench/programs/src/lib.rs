//! What the benchmark programs share: percentiles and the processor time of a process.
//!
//! It refuses to judge: bars stand in `bench/bars`, and a program only prints what it measured as JSON.
//! To add a program: a file in `src/bin`, a `[[bin]]` in the manifest.

pub mod latencies;
pub mod process;
