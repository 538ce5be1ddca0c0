//! Loads a running server and prints one line of JSON about it: `bench-load latency|freshness|ingest|mixed|write`.
//!
//! Blocking sockets and as many threads as connections: on a small machine the client must leave the processors to
//! the server. It refuses hosts other than this one, and loops without a bound in count or time.
//! To add a way to load: a file with its arguments and a `run`, a variant of [`Command`].

mod connection;
mod events;
mod freshness;
mod ingest;
mod latency;
mod mixed;
mod write;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use connection::Target;
use kernel::{Clock, SystemClock};

/// What went wrong, in words.
type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Loads a server that runs on this machine.
#[derive(Debug, Parser)]
#[command(name = "bench-load")]
struct Arguments {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask, at a fixed rate or one after another, and tell how long answers take
    Latency(latency::Latency),
    /// Post an interaction, then ask until the answer reflects it
    Freshness(freshness::Freshness),
    /// Post batches of events as fast as they are taken
    Ingest(ingest::Ingest),
    /// Ask and write in the proportions of a shop, and tell what became of each kind of request
    Mixed(mixed::Mixed),
    /// Post small batches at a steady rate until the server is gone, printing what was acknowledged
    Write(write::Write),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let clock = SystemClock::new();
    let (target, clock): (&Target, &dyn Clock) = (&arguments.target, &clock);
    let told = match &arguments.command {
        Command::Latency(latency) => latency.run(target, clock),
        Command::Freshness(freshness) => freshness.run(target, clock),
        Command::Ingest(ingest) => ingest.run(target, clock),
        Command::Mixed(mixed) => mixed.run(target, clock),
        Command::Write(write) => write.run(target, clock),
    };
    bench::tell(told)
}
