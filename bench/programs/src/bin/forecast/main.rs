//! Forecasts the Treasury curve and day-ahead power prices by walk-forward and prints the scores as one line of JSON.
//!
//! The bars stand in `bench/bars/models_*.py`. It refuses to judge, and to choose anything on the days of a test. To add
//! a question: a file with `run`, a variant of [`Question`].

#![expect(clippy::print_stderr, reason = "it tells how far it is")]

mod power;
mod yields;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

/// As the product has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Fault = Box<dyn std::error::Error + Send + Sync>;
type Told = Result<serde_json::Value, Fault>;

/// Forecasts and tells how good it was.
#[derive(Debug, Parser)]
#[command(name = "bench-forecast")]
struct Arguments {
    /// What to do
    question: Question,
    /// The folder of the real data
    #[arg(long)]
    data: PathBuf,
    /// Only these markets
    #[arg(long, value_delimiter = ',', default_values_t = power::MARKETS.map(str::to_owned))]
    markets: Vec<String>,
    /// Forecast so many days before the test in place of it, for choosing settings
    #[arg(long)]
    validation_days: Option<usize>,
    /// Also tell what the power forecast is worth where it is fitted anew only after so many days
    #[arg(long, value_delimiter = ',')]
    refit_days: Vec<usize>,
    /// Settings of the power forecast as JSON; what is not named is as by default
    #[arg(long, default_value = "{}")]
    settings: String,
    /// A small size, to see that it works
    #[arg(long)]
    quick: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Question {
    Power,
    Yield,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let told = match arguments.question {
        Question::Power => power::run(&arguments),
        Question::Yield => yields::run(&arguments.data, arguments.quick),
    };
    bench::tell(told)
}

fn read(path: &std::path::Path) -> Result<String, Fault> {
    Ok(std::fs::read_to_string(path).map_err(|cause| format!("{}: {cause}", path.display()))?)
}
