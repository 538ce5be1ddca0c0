//! How long answers take, and what they cost the server in processor time.
//!
//! Open loop (with a rate): requests are due at times that are drawn before the first is sent, as the arrivals of many
//! independent callers (exponential gaps), and each is measured from when it was due. A server that stalls makes every
//! request behind it late, and all of that is counted. Closed loop (without a rate): one request after another on each
//! connection, which tells the time of a request that waits for nobody.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use bench::latencies::{Latencies, Summary};
use bench::process::processor_seconds;
use clap::Args;
use kernel::Clock;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::Fault;
use crate::connection::{Connection, Target};

const REQUESTS_MAX: usize = 1_000_000;
/// A sleeping thread wakes up a little late; the last stretch is waited out awake.
const AWAKE: Duration = Duration::from_micros(120);
/// From the end of preparation to the first request.
const LEAD: Duration = Duration::from_millis(50);

/// `latency`
#[derive(Debug, Args)]
pub(crate) struct Latency {
    /// What to ask for; `{}` stands for a line of the file of subjects
    #[arg(long)]
    path: String,
    /// A file with a subject a line, asked about in this order
    #[arg(long)]
    subjects: Option<std::path::PathBuf>,
    /// A file with JSON that is posted; without it is asked by GET
    #[arg(long)]
    body: Option<std::path::PathBuf>,
    /// Requests in all; once through the subjects where missing
    #[arg(long)]
    requests: Option<usize>,
    /// Requests a second; as fast as they are answered where missing
    #[arg(long)]
    rate: Option<f64>,
    /// Connections
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// The server's process, for its processor time
    #[arg(long)]
    pid: u32,
    /// Seed of the arrivals
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Serialize)]
struct Told {
    /// From when a request was due to when its answer was whole.
    latency: Summary,
    /// From when a request was due to when it was sent: what the client or a busy connection added.
    late: Summary,
    requests_per_second: f64,
    server_microseconds_per_request: f64,
    /// The first of these is shown.
    failures: usize,
    first_failure: Option<String>,
    /// Answers that say that another algorithm answered.
    fallbacks: usize,
    body_bytes_mean: f64,
}

#[derive(Debug, Default)]
struct Tally {
    latencies: Latencies,
    late: Latencies,
    answered: usize,
    body_bytes: usize,
    fallbacks: usize,
    failures: Vec<String>,
}

struct Plan<'a> {
    target: &'a Target,
    clock: &'a dyn Clock,
    paths: Vec<String>,
    body: Option<Vec<u8>>,
    /// When each request is due; empty for a closed loop.
    due: Vec<Duration>,
    requests: usize,
    next: AtomicUsize,
}

impl Latency {
    pub(crate) fn run(&self, target: &Target, clock: &dyn Clock) -> Result<String, Fault> {
        let paths = self.paths()?;
        let requests = self.requests.unwrap_or(paths.len());
        if requests == 0 || requests > REQUESTS_MAX || self.connections == 0 {
            return Err(format!("ask for 1 to {REQUESTS_MAX} requests on at least 1 connection").into());
        }
        let connections: Vec<Connection> =
            (0..self.connections).map(|_| Connection::open(target)).collect::<Result<_, _>>()?;
        let due =
            self.rate.map_or_else(Vec::new, |rate| arrivals(rate, requests, self.seed, clock.elapsed()));
        let body = self.body.as_ref().map(std::fs::read).transpose()?;
        let plan = Plan { target, clock, paths, body, due, requests, next: AtomicUsize::new(0) };
        let (began, began_processor) = (clock.elapsed(), processor_seconds(Some(self.pid))?);
        let tallies: Vec<Tally> = thread::scope(|scope| {
            let running: Vec<_> = connections.into_iter().map(|one| scope.spawn(|| plan.work(one))).collect();
            running.into_iter().filter_map(|running| running.join().ok()).collect()
        });
        let seconds = clock.elapsed().saturating_sub(began).as_secs_f64();
        let processor = processor_seconds(Some(self.pid))? - began_processor;
        Ok(serde_json::to_string(&told(tallies, requests, seconds, processor))?)
    }

    fn paths(&self) -> Result<Vec<String>, Fault> {
        let Some(file) = &self.subjects else { return Ok(vec![self.path.clone()]) };
        let subjects = std::fs::read_to_string(file)?;
        Ok(subjects.lines().map(|subject| self.path.replace("{}", subject)).collect())
    }
}

/// Exponential gaps from shortly after `now` on.
fn arrivals(rate: f64, requests: usize, seed: u64, now: Duration) -> Vec<Duration> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut due = now + LEAD;
    let gap = |random: &mut ChaCha8Rng| {
        let uniform = (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        Duration::from_secs_f64(-(1.0 - uniform).ln() / rate)
    };
    (0..requests)
        .map(|_| {
            due += gap(&mut random);
            due
        })
        .collect()
}

impl Plan<'_> {
    fn work(&self, mut connection: Connection) -> Tally {
        let mut tally = Tally::default();
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.requests {
                return tally;
            }
            let due = self.due.get(index).copied().unwrap_or_else(|| self.clock.elapsed());
            self.wait_until(due);
            tally.late.add(self.clock.elapsed().saturating_sub(due));
            let path = &self.paths[index % self.paths.len()];
            let answer = match &self.body {
                None => connection.get(path),
                Some(body) => connection.post(path, "application/json", body),
            };
            let answer = answer.and_then(|answer| answer.ok());
            let took = self.clock.elapsed().saturating_sub(due);
            match answer {
                Ok(answer) => {
                    tally.latencies.add(took);
                    tally.answered += 1;
                    tally.body_bytes += answer.body.len();
                    tally.fallbacks += usize::from(says_fallback(answer.body));
                }
                Err(fault) => {
                    tally.failures.push(fault.to_string());
                    // The old connection may hold half an answer.
                    match Connection::open(self.target) {
                        Ok(other) => connection = other,
                        Err(_) => return tally,
                    }
                }
            }
        }
    }

    fn wait_until(&self, due: Duration) {
        let left = due.saturating_sub(self.clock.elapsed());
        if left > AWAKE {
            thread::sleep(left - AWAKE);
        }
        while self.clock.elapsed() < due {
            std::hint::spin_loop();
        }
    }
}

fn says_fallback(body: &[u8]) -> bool {
    let word = br#""fallback":"#;
    body.windows(word.len()).any(|window| window == word)
}

fn told(tallies: Vec<Tally>, requests: usize, seconds: f64, processor: f64) -> Told {
    let mut all = Tally::default();
    for tally in tallies {
        all.latencies.extend(tally.latencies);
        all.late.extend(tally.late);
        all.answered += tally.answered;
        all.body_bytes += tally.body_bytes;
        all.fallbacks += tally.fallbacks;
        all.failures.extend(tally.failures);
    }
    Told {
        latency: all.latencies.summary(),
        late: all.late.summary(),
        requests_per_second: requests as f64 / seconds,
        server_microseconds_per_request: processor * 1e6 / requests as f64,
        // A connection that could not be opened again leaves requests unsent.
        failures: requests - all.answered,
        first_failure: all.failures.into_iter().next(),
        fallbacks: all.fallbacks,
        body_bytes_mean: all.body_bytes as f64 / all.answered.max(1) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_rise_at_the_rate() {
        let due = arrivals(500.0, 10_000, 1, Duration::from_secs(1));
        assert!(due.is_sorted());
        let mean = (due[9_999] - due[0]).as_secs_f64() / 9_999.0;
        assert!((mean - 0.002).abs() < 0.0001, "{mean}");
        assert_eq!(due, arrivals(500.0, 10_000, 1, Duration::from_secs(1)));
    }
}
