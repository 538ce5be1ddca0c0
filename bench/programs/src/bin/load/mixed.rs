//! What callers of a shop do at once: most ask for recommendations, some tell what a user did, a few read an entity.
//!
//! Bounded in time and in rate. With a rate, requests are due at even steps and each is measured from when it was due;
//! without one, every connection sends its next request when the last is answered. Users, entities and ids are those of
//! `watershed demo` with as many of each. What was acknowledged is kept in a file, an id a line, so that it can be
//! looked for. A refusal (503 that says when to come again) is told apart from a failure.

mod tally;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use clap::Args;
use kernel::Clock;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::tally::{BUCKET, Worker, told};
use crate::Fault;
use crate::connection::{Connection, Target, local};

const SECONDS_MAX: f64 = 3_600.0;
/// Between two tries to connect to a server that refuses.
const PAUSE: Duration = Duration::from_millis(20);
const VERBS: [&str; 4] = ["view", "like", "add_to_cart", "purchase"];

/// `mixed`
#[derive(Debug, Args)]
pub(crate) struct Mixed {
    /// More servers, asked by turns with the first
    #[arg(long, value_parser = local)]
    also: Vec<SocketAddr>,
    /// How long
    #[arg(long)]
    seconds: f64,
    /// Requests a second; as fast as they are answered where missing
    #[arg(long)]
    rate: Option<f64>,
    /// Connections, each with a request at a time
    #[arg(long, default_value_t = 16)]
    connections: u64,
    /// Connections for writes alone, so that reads do not wait behind writes that wait: the callers of a service are
    /// many. 0: every connection sends everything. It needs a rate
    #[arg(long, default_value_t = 0, requires = "rate")]
    write_connections: u64,
    /// Of 100 requests, those that write
    #[arg(long, default_value_t = 15)]
    writes: u32,
    /// Of 100 requests, those that read an entity
    #[arg(long, default_value_t = 5)]
    reads: u32,
    /// What is asked for a user, `{}`
    #[arg(long, default_value = "/api/v1/recommendations/user/{}?count=10")]
    path: String,
    /// Users of the generated data
    #[arg(long, default_value_t = 1_000)]
    users: u32,
    /// Entities of the generated data
    #[arg(long, default_value_t = 3_000)]
    entities: u32,
    /// The beginning of every event's id; another for each run
    #[arg(long)]
    prefix: String,
    /// Where the ids of acknowledged events go
    #[arg(long)]
    acknowledged: Option<PathBuf>,
    /// The longest that a read may take
    #[arg(long, default_value_t = 1_000)]
    read_limit_ms: u64,
    /// The longest that a write may take
    #[arg(long, default_value_t = 5_000)]
    write_limit_ms: u64,
    /// Seed of what is asked
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Recommend,
    Write,
    Entity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Good,
    Refused,
    Failed,
}

struct Plan<'a> {
    mixed: &'a Mixed,
    clock: &'a dyn Clock,
    began: Duration,
    /// The number of the next request, for those who send everything or reads, and for those who send writes.
    next: [AtomicU64; 2],
    time: String,
}

/// What a connection sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Everything,
    Reads,
    Writes,
}

impl Part {
    fn has(self, kind: Kind) -> bool {
        self == Self::Everything || (self == Self::Writes) == (kind == Kind::Write)
    }
}

impl Mixed {
    pub(crate) fn run(&self, target: &Target, clock: &dyn Clock) -> Result<String, Fault> {
        let is_bounded = self.seconds > 0.0 && self.seconds <= SECONDS_MAX && self.connections > 0;
        if !is_bounded || self.writes + self.reads > 100 || self.rate.is_some_and(|rate| rate <= 0.0) {
            return Err("ask for a positive time, rate and number of connections, and shares of 100".into());
        }
        let addresses: Vec<SocketAddr> = std::iter::once(target.address).chain(self.also.clone()).collect();
        let targets: Vec<Target> = addresses
            .iter()
            .cycle()
            .take(usize::try_from(self.connections + self.write_connections)?)
            .map(|address| Target { address: *address, key: target.key.clone() })
            .collect();
        let connections: Vec<Connection> = targets.iter().map(Connection::open).collect::<Result<_, _>>()?;
        let began_unix_ms = clock.now().as_millisecond();
        let plan = Plan {
            mixed: self,
            clock,
            began: clock.elapsed(),
            next: Default::default(),
            time: clock.now().to_string(),
        };
        let workers: Vec<Worker> = thread::scope(|scope| {
            let plan = &plan;
            let start =
                |((part, connection), target)| scope.spawn(move || plan.work(part, connection, target));
            let parts = (0..).map(|number| self.part(number));
            let running: Vec<_> = parts.zip(connections).zip(&targets).map(start).collect();
            running.into_iter().filter_map(|running| running.join().ok()).collect()
        });
        let seconds = clock.elapsed().saturating_sub(plan.began).as_secs_f64();
        self.keep(&workers)?;
        Ok(serde_json::to_string(&told(workers, began_unix_ms, seconds))?)
    }

    fn part(&self, connection: u64) -> Part {
        match self.write_connections {
            0 => Part::Everything,
            _ if connection < self.connections => Part::Reads,
            _ => Part::Writes,
        }
    }

    fn keep(&self, workers: &[Worker]) -> Result<(), Fault> {
        let Some(path) = &self.acknowledged else { return Ok(()) };
        let ids = workers.iter().flat_map(|worker| &worker.acknowledged);
        let text: String = ids.map(|number| format!("{}-{number}\n", self.prefix)).collect();
        Ok(std::fs::write(path, text)?)
    }
}

impl Plan<'_> {
    fn work(&self, part: Part, connection: Connection, target: &Target) -> Worker {
        let mut worker = Worker::default();
        let mut connection = Some(connection);
        loop {
            let number = self.next[usize::from(part == Part::Writes)].fetch_add(1, Ordering::Relaxed);
            let now = self.clock.elapsed();
            let due = self
                .mixed
                .rate
                .map_or(now, |rate| self.began + Duration::from_secs_f64(number as f64 / rate));
            if due.saturating_sub(self.began).as_secs_f64() >= self.mixed.seconds {
                return worker;
            }
            let mut random = ChaCha8Rng::seed_from_u64(self.mixed.seed);
            random.set_stream(number);
            let kind = self.kind(random.next_u32() % 100);
            if !part.has(kind) {
                continue;
            }
            thread::sleep(due.saturating_sub(now));
            worker.late.add(self.clock.elapsed().saturating_sub(due));
            let answered = match &mut connection {
                Some(open) => self.ask(open, kind, number, &mut random),
                None => Err("no connection".into()),
            };
            let outcome = answered.unwrap_or_else(|fault| {
                // The old connection may hold half an answer.
                connection = None;
                worker.failures.push(fault.to_string());
                Outcome::Failed
            });
            self.note(&mut worker, kind, outcome, due, number);
            if connection.is_none() {
                connection = Connection::open(target).ok();
                if connection.is_none() {
                    thread::sleep(PAUSE);
                }
            }
        }
    }

    fn kind(&self, lot: u32) -> Kind {
        let Mixed { writes, reads, .. } = self.mixed;
        match lot {
            lot if lot < *writes => Kind::Write,
            lot if lot < writes + reads => Kind::Entity,
            _ => Kind::Recommend,
        }
    }

    fn ask(
        &self,
        connection: &mut Connection,
        kind: Kind,
        number: u64,
        random: &mut ChaCha8Rng,
    ) -> Result<Outcome, Fault> {
        let user = name("user", random.next_u32() % self.mixed.users, self.mixed.users);
        let entity = name("item", random.next_u32() % self.mixed.entities, self.mixed.entities);
        let answer = match kind {
            Kind::Recommend => connection.get(&self.mixed.path.replace("{}", &user))?,
            Kind::Entity => connection.get(&format!("/api/v1/entities/{entity}?entity_type=product"))?,
            Kind::Write => {
                let (prefix, time) = (&self.mixed.prefix, &self.time);
                let verb = VERBS[random.next_u32() as usize % VERBS.len()];
                let body = format!(
                    r#"{{"specversion":"1.0","id":"{prefix}-{number}","source":"/bench","type":"recommend.interaction.recorded.v1","time":"{time}","data":{{"user_id":"{user}","entity_id":"{entity}","entity_type":"product","interaction_type":"{verb}"}}}}"#
                );
                connection.post("/api/v1/events", "application/cloudevents+json", body.as_bytes())?
            }
        };
        match answer.status {
            200..300 => Ok(Outcome::Good),
            503 if answer.says_when => Ok(Outcome::Refused),
            status => {
                let shown = String::from_utf8_lossy(&answer.body[..answer.body.len().min(300)]);
                Err(format!("{kind:?} answered {status}: {shown}").into())
            }
        }
    }

    fn note(&self, worker: &mut Worker, kind: Kind, outcome: Outcome, due: Duration, number: u64) {
        let now = self.clock.elapsed();
        let took = now.saturating_sub(due);
        let is_write = kind == Kind::Write;
        let limit_ms = if is_write { self.mixed.write_limit_ms } else { self.mixed.read_limit_ms };
        let tally = &mut worker.tallies[kind as usize];
        tally.most = tally.most.max(took);
        tally.over_limit += u64::from(took > Duration::from_millis(limit_ms));
        let column = match (is_write, outcome) {
            (false, Outcome::Good) => 0,
            (false, _) => 1,
            (true, Outcome::Good) => 2,
            (true, Outcome::Refused) => 3,
            (true, Outcome::Failed) => 4,
        };
        match outcome {
            Outcome::Good => {
                tally.good.add(took);
                tally.good_count += 1;
                if is_write {
                    worker.acknowledged.push(number);
                }
            }
            Outcome::Refused => tally.refused += 1,
            Outcome::Failed => tally.failed += 1,
        }
        let bucket = (now.saturating_sub(self.began).as_millis() / BUCKET.as_millis()) as usize;
        if worker.timeline.len() <= bucket {
            worker.timeline.resize(bucket + 1, [0; 5]);
        }
        worker.timeline[bucket][column] += 1;
    }
}

/// As the generator names one of `count`.
fn name(kind: &str, number: u32, count: u32) -> String {
    let width = count.max(2).ilog10() as usize + 1;
    format!("{kind}-{number:0width$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_generators() {
        assert_eq!(name("user", 7, 1_000), "user-0007");
        assert_eq!(name("item", 2_999, 3_000), "item-2999");
        assert_eq!(name("user", 0, 1), "user-0");
    }

    #[test]
    fn each_request_has_one_part() {
        for kind in [Kind::Recommend, Kind::Write, Kind::Entity] {
            assert_ne!(Part::Reads.has(kind), Part::Writes.has(kind));
            assert!(Part::Everything.has(kind));
        }
    }
}
