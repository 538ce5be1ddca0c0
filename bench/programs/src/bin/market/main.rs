//! Runs the pure parts of `market` over real data and prints what came out and what it cost, as one line of JSON.
//!
//! Each question is a file beside this one; the bars stand in `bench/bars/stream_*.py`. It refuses to judge. To add a
//! question: a file with `run`, a variant of [`Question`].

mod bars;
mod curves;
mod data;
mod instruments;
mod negative;
mod normalise;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

/// As the product has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Fault = Box<dyn std::error::Error + Send + Sync>;
type Told = Result<serde_json::Value, Fault>;

/// Works on market data and tells what came out and what it cost.
#[derive(Debug, Parser)]
#[command(name = "bench-market")]
struct Arguments {
    /// What to do
    question: Question,
    /// The folder of the real data
    #[arg(long)]
    data: PathBuf,
    /// Writes the trades and our bars of them into this folder, for a peer
    #[arg(long)]
    export: Option<PathBuf>,
    /// A small size, to see that it works
    #[arg(long)]
    quick: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Question {
    Bars,
    Curves,
    Instruments,
    NegativePrices,
    Normalise,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let told = match arguments.question {
        Question::Bars => bars::run(&arguments.data, arguments.quick, arguments.export.as_deref()),
        Question::Curves => curves::run(&arguments.data, arguments.quick),
        Question::Instruments => Ok(instruments::run()),
        Question::NegativePrices => negative::run(&arguments.data, arguments.quick),
        Question::Normalise => normalise::run(&arguments.data, arguments.quick),
    };
    bench::tell(told)
}
