//! Writes until the server is gone: for the benchmark that kills it.
//!
//! Each line of output is a batch that was acknowledged whole: `PREFIX FIRST COUNT`, written before the next is sent. A
//! batch without a line may be there or not. When the server goes away the program ends well, as that is the plan.

use std::io::Write as _;
use std::thread;
use std::time::Duration;

use clap::Args;
use kernel::Clock;
use serde::Deserialize;

use crate::Fault;
use crate::connection::{Connection, Target};
use crate::events::Maker;

/// Batches have 1 to this many events.
const BATCH_MAX: u64 = 200;

/// `write`
#[derive(Debug, Args)]
pub(crate) struct Write {
    /// The beginning of every event's id; another for each run
    #[arg(long)]
    prefix: String,
    /// Connections, each with a request at a time
    #[arg(long, default_value_t = 4)]
    connections: u64,
    /// Events a second from each connection, at most
    #[arg(long, default_value_t = 2_500.0)]
    rate: f64,
    /// Give up after so long: nobody killed the server
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

#[derive(Debug, Deserialize)]
struct BatchAnswer {
    refused: u64,
}

impl Write {
    pub(crate) fn run(&self, target: &Target, clock: &dyn Clock) -> Result<String, Fault> {
        let ended: Vec<Result<(), Fault>> = thread::scope(|scope| {
            let write = |number| move || self.write(target, clock, number);
            let running: Vec<_> = (0..self.connections).map(|number| scope.spawn(write(number))).collect();
            let gone = || Err("a thread ended early".into());
            running.into_iter().map(|running| running.join().unwrap_or_else(|_| gone())).collect()
        });
        ended.into_iter().collect::<Result<Vec<()>, _>>().map(|_| "end".to_owned())
    }

    fn write(&self, target: &Target, clock: &dyn Clock, number: u64) -> Result<(), Fault> {
        let mut connection = Connection::open(target)?;
        let mut maker = Maker::new(clock, 2_000, 2_000, number);
        let prefix = format!("{}-{number}", self.prefix);
        let began = clock.elapsed();
        let (mut first, mut round) = (0, 0);
        while clock.elapsed().saturating_sub(began) < Duration::from_secs(self.seconds) {
            // Sizes that follow no beat, the same in every run.
            let count = 1 + (round * 31 + number * 7) % BATCH_MAX;
            let body = maker.batch(&prefix, first, count);
            let Ok(answer) = connection.post("/api/v1/events", "application/json", body) else {
                return Ok(());
            };
            let answer: BatchAnswer = serde_json::from_slice(answer.ok()?.body)?;
            if answer.refused > 0 {
                return Err(format!("{} of {count} events were refused", answer.refused).into());
            }
            let mut out = std::io::stdout().lock();
            out.write_all(format!("{prefix} {first} {count}\n").as_bytes())?;
            out.flush()?;
            drop(out);
            first += count;
            round += 1;
            let due = Duration::from_secs_f64(first as f64 / self.rate);
            thread::sleep(due.saturating_sub(clock.elapsed().saturating_sub(began)));
        }
        Err("nobody stopped the server".into())
    }
}
