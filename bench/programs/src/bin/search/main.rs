//! Measures search: quality on a judged collection, latency over many texts, the cost of encoding, and the measures
//! themselves against what `trec_eval` says.
//!
//! Every command prints one line of JSON.

mod embed;
mod latency;
mod quality;
mod trec;

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

#[expect(clippy::print_stdout, reason = "what it prints is what it is for")]
fn main() -> std::io::Result<()> {
    let told = match Command::parse() {
        Command::Quality(options) => quality::run(&options),
        Command::Latency(options) => latency::run(&options),
        Command::Embed(options) => embed::run(&options),
        Command::Trec(options) => trec::run(&options),
    };
    println!("{}", told.map_err(std::io::Error::other)?);
    Ok(())
}

/// The processor time of this process, in seconds.
fn cpu_seconds() -> std::io::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}
