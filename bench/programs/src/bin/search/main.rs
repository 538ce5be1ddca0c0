//! Measures search: quality on a judged collection, latency over many texts, the cost of encoding, and the measures
//! themselves against what `trec_eval` says.
//!
//! Every command prints one line of JSON.

mod embed;
mod latency;
mod quality;
mod trec;

use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(version, about)]
enum Command {
    /// nDCG@10, recall@100 and MAP by words, by meaning, and by both.
    Quality(quality::Options),
    /// The time of searches over many generated texts.
    Latency(latency::Options),
    /// The time to encode texts.
    Embed(embed::Options),
    /// Measures of a run in the format of TREC.
    Trec(trec::Options),
}

fn main() -> ExitCode {
    bench::tell(match Command::parse() {
        Command::Quality(options) => quality::run(&options),
        Command::Latency(options) => latency::run(&options),
        Command::Embed(options) => embed::run(&options),
        Command::Trec(options) => trec::run(&options),
    })
}
