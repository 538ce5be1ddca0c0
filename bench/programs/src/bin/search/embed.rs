//! Encodes the lines of a file, several times, and writes their vectors.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use bench::process::processor_seconds;
use search::encoder::{Encoder, SentenceEncoder};
use serde_json::{Value, json};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The folder of the model.
    #[arg(long)]
    model: PathBuf,
    /// Texts, one a line.
    #[arg(long)]
    texts: PathBuf,
    /// Written: 32 bit floats, row by row.
    #[arg(long)]
    vectors: PathBuf,
    #[arg(long, default_value = "1")]
    threads: NonZeroUsize,
    #[arg(long, default_value = "1024")]
    batch_tokens: usize,
    #[arg(long, default_value = "3")]
    rounds: usize,
}

#[expect(clippy::disallowed_methods, reason = "time is what is measured")]
pub(crate) fn run(options: &Options) -> Result<Value, Box<dyn Error + Send + Sync>> {
    let encoder = SentenceEncoder::open(&options.model, "measured", options.batch_tokens, options.threads)?;
    let text = fs::read_to_string(&options.texts)?;
    let texts: Vec<&str> = text.lines().collect();
    encoder.encode(&texts[..texts.len().min(32)])?;
    let (mut rounds, mut encoded) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds.max(1) {
        let (wall, cpu) = (Instant::now(), processor_seconds(None)?);
        encoded = encoder.encode(&texts)?;
        rounds.push((processor_seconds(None)? - cpu, wall.elapsed().as_secs_f64()));
    }
    rounds.sort_by(|left, right| left.0.total_cmp(&right.0));
    let (cpu, wall) = rounds[rounds.len() / 2];
    let mut file = fs::File::create(&options.vectors)?;
    for one in &encoded {
        let bytes: Vec<u8> = one.vector.iter().flat_map(|value| value.to_le_bytes()).collect();
        file.write_all(&bytes)?;
    }
    let all: Vec<f64> = rounds.iter().map(|round| round.0).collect();
    let tokens: usize = encoded.iter().map(|one| one.tokens).sum();
    Ok(
        json!({"cpu_seconds": cpu, "wall_seconds": wall, "all_cpu_seconds": all, "texts": texts.len(), "tokens": tokens}),
    )
}
