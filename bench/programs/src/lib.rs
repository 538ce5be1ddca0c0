//! What the benchmark programs share: percentiles, the processor time of a process, and how one ends.
//!
//! It refuses to judge: bars stand in `bench/bars`, and a program only prints what it measured as JSON.
//! To add a program: a file in `src/bin`, a `[[bin]]` in the manifest.

use std::fmt::Display;
use std::process::ExitCode;

pub mod latencies;
pub mod process;

/// Prints what was measured, or why nothing was.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "what it prints is what a program is for")]
pub fn tell(measured: Result<impl Display, impl Display>) -> ExitCode {
    match measured {
        Ok(told) => {
            println!("{told}");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!("error: {fault}");
            ExitCode::FAILURE
        }
    }
}
