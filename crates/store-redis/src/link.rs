//! The link to the servers: a pool of connections, a breaker, and one task that mends both.
//!
//! A command never opens a connection. It takes one that is open, waits at most its time, and goes; where none is
//! open it fails at once. [`BREAKER_FAILURES`] failures in a row, and no success for as long as a command may take,
//! close the whole pool; the second because many failures at one moment may all be of one node of a Cluster. The task
//! opens connections again, trying anew after a jittered pause of at most [`LONGEST_PAUSE`] whatever became of earlier
//! tries, and lets commands through once a server has answered.

use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use kernel::{Clock, Entropy, Error, Result, codes};
use parking_lot::{Mutex, RwLock};
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::config::Settings;
use crate::connect::{Blame, Connection, Connector, Place, blame, refused};
use crate::scripts::Lua;

const BREAKER_FAILURES: u32 = 5;
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

// How often every connection to a single server is asked whether it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What is known of the link, for metrics and readiness.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Connections that are wanted.
    pub pool_size: usize,
    /// Connections that are open. None: commands fail at once.
    pub open: usize,
    /// Commands that were answered.
    pub answered: u64,
    /// Commands that had no answer within their time.
    pub timed_out: u64,
    /// Commands that failed otherwise.
    pub failed: u64,
    /// Commands that were not sent, because no connection was open.
    pub refused: u64,
    /// Connections opened since the start.
    pub opened: u64,
    /// Times that the breaker closed the pool.
    pub broken: u64,
}

#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    timed_out: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    opened: AtomicU64,
    broken: AtomicU64,
}

struct Live {
    id: u64,
    connection: Connection,
}

/// Where an open connection stands, so that a late failure does not count against its successor.
#[derive(Debug, Clone, Copy)]
struct Seat {
    place: usize,
    id: u64,
}

struct Pool {
    connector: Connector,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    command_timeout: Duration,
    connection_timeout: Duration,
    seats: RwLock<Vec<Option<Live>>>,
    turn: AtomicUsize,
    failures: AtomicU32,
    /// When the last command succeeded, or a connection was opened, on the clock.
    succeeded_ms: AtomicU64,
    wake: Notify,
    fault: Mutex<Option<RedisError>>,
    counts: Counts,
}

/// The link. Dropping it ends its task and closes its connections.
pub(crate) struct Link {
    pool: Arc<Pool>,
    keeper: JoinHandle<()>,
}

impl fmt::Debug for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Link").field("figures", &self.figures()).finish_non_exhaustive()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Link {
    /// Tries once to fill the pool, within the time that opening a connection may take, then goes on in the
    /// background. A server that is away is no error.
    pub(crate) async fn open(
        settings: &Settings,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self> {
        let size = settings.pool_size as usize;
        let pool = Arc::new(Pool {
            connector: Connector::new(settings)?,
            clock,
            entropy,
            command_timeout: settings.command_timeout(),
            connection_timeout: settings.connection_timeout(),
            seats: RwLock::new((0..size).map(|_| None).collect()),
            turn: AtomicUsize::new(0),
            failures: AtomicU32::new(0),
            succeeded_ms: AtomicU64::new(0),
            wake: Notify::new(),
            fault: Mutex::new(None),
            counts: Counts::default(),
        });
        if let Err(cause) = pool.first_try().await {
            tracing::warn!(error = %cause, "the cache is away; it is tried again in the background");
            *pool.fault.lock() = Some(cause);
        }
        let keeper = tokio::spawn(keep(Arc::clone(&pool)));
        Ok(Self { pool, keeper })
    }

    /// Sends a command.
    ///
    /// # Errors
    /// `UNAVAILABLE` at once while no connection is open, and when the connection breaks; `TIMED_OUT` after the time
    /// of a command.
    pub(crate) async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        self.pool.run(command, None).await
    }

    /// Runs a script in one round trip; in two where the server has not seen it yet.
    ///
    /// # Errors
    /// As [`Link::run`].
    pub(crate) async fn script<T: FromRedisValue>(
        &self,
        script: &Lua,
        keys: &[String],
        arguments: &[String],
    ) -> Result<T> {
        let call = |name: &str, which: &str| {
            let mut command = redis::cmd(name);
            command.arg(which).arg(keys.len()).arg(keys).arg(arguments);
            command
        };
        let (known, whole) = (call("EVALSHA", script.hashed().get_hash()), call("EVAL", script.code));
        self.pool.run(&known, Some(&whole)).await
    }

    /// What is known of it.
    pub(crate) fn figures(&self) -> Figures {
        let (seats, counts) = (self.pool.seats.read(), &self.pool.counts);
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Figures {
            pool_size: seats.len(),
            open: seats.iter().flatten().count(),
            answered: read(&counts.answered),
            timed_out: read(&counts.timed_out),
            failed: read(&counts.failed),
            refused: read(&counts.refused),
            opened: read(&counts.opened),
            broken: read(&counts.broken),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Pool {
    async fn run<T: FromRedisValue>(&self, command: &Cmd, whole: Option<&Cmd>) -> Result<T> {
        let Some((seat, mut connection)) = self.take() else {
            count(&self.counts.refused);
            return Err(self.away());
        };
        match self.send(seat, &mut connection, command, whole).await? {
            Ok(value) => redis::from_redis_value(value).map_err(Error::internal),
            Err(cause) => Err(refused(cause)),
        }
    }

    /// The inner error is the server's answer.
    async fn send(
        &self,
        seat: Seat,
        connection: &mut Connection,
        command: &Cmd,
        whole: Option<&Cmd>,
    ) -> Result<RedisResult<redis::Value>> {
        let answer = timeout(self.command_timeout, connection.send(command, whole)).await;
        let answer = answer.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
        // A Cluster's connection keeps the time too.
        if let Err(cause) = &answer
            && cause.is_timeout()
        {
            count(&self.counts.timed_out);
            self.note_failure(seat, cause.clone());
            let limit_ms = self.command_timeout.as_millis();
            return Err(Error::new(
                codes::TIMED_OUT,
                format!("the cache did not answer within {limit_ms} ms"),
            ));
        };
        let blame = answer.as_ref().err().map_or(Blame::Command, |cause| blame(cause, connection));
        if blame == Blame::Command {
            self.note_success();
            count(&self.counts.answered);
            return Ok(answer);
        }
        count(&self.counts.failed);
        let Err(cause) = answer else { unreachable!("only a failure is to blame") };
        match blame {
            Blame::Connection => self.close(seat, cause.clone()),
            Blame::Place => self.close_all(seat, cause.clone()),
            _ => self.note_failure(seat, cause.clone()),
        }
        Err(Error::new(codes::UNAVAILABLE, "the cache failed in the middle of a command").with_source(cause))
    }

    /// The next open connection, in turn.
    fn take(&self) -> Option<(Seat, Connection)> {
        let seats = self.seats.read();
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        (0..seats.len()).find_map(|step| {
            let place = first.wrapping_add(step) % seats.len();
            let live = seats[place].as_ref()?;
            Some((Seat { place, id: live.id }, live.connection.clone()))
        })
    }

    fn away(&self) -> Error {
        let error = Error::new(codes::UNAVAILABLE, "the cache is away; it is tried again in the background");
        match &*self.fault.lock() {
            Some(cause) => error.with_source(cause.clone()),
            None => error,
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn note_success(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.succeeded_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    fn note_failure(&self, seat: Seat, cause: RedisError) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let quiet_ms = self.now_ms().saturating_sub(self.succeeded_ms.load(Ordering::Relaxed));
        if failures >= BREAKER_FAILURES && u128::from(quiet_ms) >= self.command_timeout.as_millis() {
            self.close_all(seat, cause);
        }
    }

    /// Closes one connection, unless it has been replaced since.
    fn close(&self, seat: Seat, cause: RedisError) {
        let mut seats = self.seats.write();
        if seats[seat.place].as_ref().is_some_and(|live| live.id == seat.id) {
            seats[seat.place] = None;
            *self.fault.lock() = Some(cause);
            self.wake.notify_one();
        }
    }

    /// Closes every connection, unless the one that failed has been replaced since.
    fn close_all(&self, seat: Seat, cause: RedisError) {
        let mut seats = self.seats.write();
        if seats[seat.place].as_ref().is_none_or(|live| live.id != seat.id) {
            return;
        }
        tracing::warn!(error = %cause, "the cache is away; it is tried again in the background");
        seats.fill_with(|| None);
        self.failures.store(0, Ordering::Relaxed);
        count(&self.counts.broken);
        *self.fault.lock() = Some(cause);
        self.wake.notify_one();
    }

    async fn first_try(&self) -> RedisResult<()> {
        let (place, connection) = self.try_once().await?;
        self.seat(connection);
        self.fill(&place).await;
        Ok(())
    }

    async fn try_once(&self) -> RedisResult<(Place, Connection)> {
        let open = async {
            let place = self.connector.locate().await?;
            let connection = self.connector.open(&place).await?;
            Ok((place, connection))
        };
        timeout(self.connection_timeout, open).await.unwrap_or_else(|_| Err(too_slow()))
    }

    /// Puts a connection on a free seat; drops it where there is none.
    fn seat(&self, connection: Connection) {
        let id = self.counts.opened.fetch_add(1, Ordering::Relaxed);
        let mut seats = self.seats.write();
        if let Some(free) = seats.iter_mut().find(|seat| seat.is_none()) {
            *free = Some(Live { id, connection });
            self.note_success();
        }
    }

    fn free_seats(&self) -> usize {
        self.seats.read().iter().filter(|seat| seat.is_none()).count()
    }

    /// Opens what is missing, all at once.
    async fn fill(&self, place: &Place) {
        let one = || async {
            match timeout(self.connection_timeout, self.connector.open(place)).await {
                Ok(Ok(connection)) => self.seat(connection),
                Ok(Err(cause)) => *self.fault.lock() = Some(cause),
                Err(_) => *self.fault.lock() = Some(too_slow()),
            }
        };
        join_all((0..self.free_seats()).map(|_| one())).await;
    }

    /// Tries until a connection is open. A new try begins after each pause even while earlier ones wait: they may
    /// wait for a server that no longer is where it was.
    async fn first_connection(&self) -> (Place, Connection) {
        let mut tries = FuturesUnordered::new();
        let mut pause = SHORTEST_PAUSE;
        loop {
            tries.push(self.try_once());
            let mut over = pin!(sleep(self.jittered(pause)));
            loop {
                tokio::select! {
                    Some(outcome) = tries.next() => match outcome {
                        Ok(found) => return found,
                        Err(cause) => *self.fault.lock() = Some(cause),
                    },
                    () = &mut over => break,
                }
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Half of the pause to all of it, so that processes that lost a server together do not come back together.
    fn jittered(&self, pause: Duration) -> Duration {
        let half_us = u64::try_from(pause.as_micros() / 2).unwrap_or(u64::MAX);
        Duration::from_micros(half_us + self.entropy.next_u64() % half_us.max(1))
    }

    async fn mend(&self) {
        while self.free_seats() > 0 {
            let was_away = self.free_seats() == self.seats.read().len();
            let (place, connection) = self.first_connection().await;
            self.seat(connection);
            self.fill(&place).await;
            if was_away {
                tracing::info!("the cache is back");
            }
            if self.free_seats() > 0 {
                sleep(self.jittered(LONGEST_PAUSE)).await;
            }
        }
    }

    /// Asks every connection to a single server whether it lives, so that one that died in its sleep, or a server
    /// that stalls, is known before a caller waits for it. A Cluster's nodes are watched by its connection.
    async fn ask_all(&self) {
        let live: Vec<(Seat, Connection)> = {
            let seats = self.seats.read();
            let single = |live: &&Live| matches!(live.connection, Connection::Server(_));
            let named = seats.iter().enumerate().filter_map(|(place, seat)| Some((place, seat.as_ref()?)));
            let named = named.filter(|(_, live)| single(live));
            named.map(|(place, live)| (Seat { place, id: live.id }, live.connection.clone())).collect()
        };
        let ask = |(seat, mut connection): (Seat, Connection)| async move {
            // What it finds is noted on the way.
            let _ = self.send(seat, &mut connection, &redis::cmd("PING"), None).await;
        };
        join_all(live.into_iter().map(ask)).await;
    }
}

fn too_slow() -> RedisError {
    RedisError::from((ErrorKind::Io, "no connection within the time limit"))
}

async fn keep(pool: Arc<Pool>) {
    loop {
        pool.mend().await;
        // Either way, a lost connection is a reason to ask the others.
        let _ = timeout(HEARTBEAT, pool.wake.notified()).await;
        pool.ask_all().await;
    }
}
