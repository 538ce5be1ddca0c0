//! How many events a second are taken in durably: batches from a few connections, for a while.
//!
//! Only acknowledged events count, and every answer is read: an event that was refused, or known already, is a fault.

use std::thread;
use std::time::Duration;

use bench::latencies::{Latencies, Summary};
use bench::process::processor_seconds;
use clap::Args;
use kernel::Clock;
use serde::{Deserialize, Serialize};

use crate::Fault;
use crate::connection::{Connection, Target};
use crate::events::Maker;

const SECONDS_MAX: u64 = 600;

/// `ingest`
#[derive(Debug, Args)]
pub(crate) struct Ingest {
    /// Events in a request; 1 posts an event alone, not an array
    #[arg(long, default_value_t = 1_000)]
    batch: u64,
    /// Connections, each with a request at a time
    #[arg(long, default_value_t = 2)]
    connections: u64,
    /// How long
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// The beginning of every event's id; another for each run
    #[arg(long)]
    prefix: String,
    /// Users in the events
    #[arg(long, default_value_t = 100_000)]
    users: u32,
    /// Entities in the events
    #[arg(long, default_value_t = 50_000)]
    entities: u32,
    /// The server's process, for its processor time
    #[arg(long)]
    pid: u32,
}

#[derive(Debug, Serialize)]
struct Told {
    events: u64,
    events_per_second: f64,
    seconds: f64,
    /// Of a request.
    latency: Summary,
    server_microseconds_per_event: f64,
    client_microseconds_per_event: f64,
    megabytes_per_second: f64,
}

#[derive(Debug, Default)]
struct Tally {
    latencies: Latencies,
    events: u64,
    bytes: u64,
}

#[derive(Debug, Deserialize)]
struct BatchAnswer {
    stored: u64,
}

#[derive(Debug, Deserialize)]
struct SingleAnswer {
    status: String,
}

impl Ingest {
    pub(crate) fn run(&self, target: &Target, clock: &dyn Clock) -> Result<String, Fault> {
        if self.batch == 0 || self.connections == 0 || self.seconds > SECONDS_MAX {
            return Err(
                format!("there must be an event and a connection, and {SECONDS_MAX} s at most").into()
            );
        }
        let processor = || -> Result<(f64, f64), Fault> {
            Ok((processor_seconds(Some(self.pid))?, processor_seconds(None)?))
        };
        let (began, began_processor) = (clock.elapsed(), processor()?);
        let until = began + Duration::from_secs(self.seconds);
        let tallies: Vec<Result<Tally, Fault>> = thread::scope(|scope| {
            let post = |number| move || self.post(target, clock, number, until);
            let running: Vec<_> = (0..self.connections).map(|number| scope.spawn(post(number))).collect();
            let gone = || Err("a thread ended early".into());
            running.into_iter().map(|running| running.join().unwrap_or_else(|_| gone())).collect()
        });
        let seconds = clock.elapsed().saturating_sub(began).as_secs_f64();
        let (server, client) = processor()?;
        let mut all = Tally::default();
        for tally in tallies {
            let tally = tally?;
            all.latencies.extend(tally.latencies);
            all.events += tally.events;
            all.bytes += tally.bytes;
        }
        let each = |processor: f64| processor * 1e6 / all.events.max(1) as f64;
        Ok(serde_json::to_string(&Told {
            events: all.events,
            events_per_second: all.events as f64 / seconds,
            seconds,
            server_microseconds_per_event: each(server - began_processor.0),
            client_microseconds_per_event: each(client - began_processor.1),
            megabytes_per_second: all.bytes as f64 / 1e6 / seconds,
            latency: all.latencies.summary(),
        })?)
    }

    fn post(&self, target: &Target, clock: &dyn Clock, number: u64, until: Duration) -> Result<Tally, Fault> {
        let mut connection = Connection::open(target)?;
        let mut maker = Maker::new(clock, self.users, self.entities, number);
        let prefix = format!("{}-{number}", self.prefix);
        let mut tally = Tally::default();
        while clock.elapsed() < until {
            let is_single = self.batch == 1;
            let body = match is_single {
                true => maker.single(&prefix, tally.events),
                false => maker.batch(&prefix, tally.events, self.batch),
            };
            let began = clock.elapsed();
            let answer = connection.post("/api/v1/events", "application/json", body)?.ok()?;
            let took = clock.elapsed().saturating_sub(began);
            let stored = stored(answer.body, is_single)?;
            if stored != self.batch {
                return Err(format!("{stored} of {} events were stored", self.batch).into());
            }
            tally.latencies.add(took);
            tally.events += stored;
            tally.bytes += body.len() as u64;
        }
        Ok(tally)
    }
}

fn stored(body: &[u8], is_single: bool) -> Result<u64, Fault> {
    if !is_single {
        return Ok(serde_json::from_slice::<BatchAnswer>(body)?.stored);
    }
    Ok(u64::from(serde_json::from_slice::<SingleAnswer>(body)?.status == "stored"))
}
