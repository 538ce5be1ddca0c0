//! One pool of connections to one server. Every wait has an end: for a connection, for a statement, for the server.
//!
//! A background task (`database/keeper.rs`) closes old connections, keeps the least number open, and while the breaker is open
//! probes the server. To add a kind of call: a method here, so that time limits and the breaker hold for it too.

mod keeper;

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    Client, ClientWrapper, Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod,
};
use kernel::{Entropy, Error, Result, codes};
use tokio::task::JoinHandle;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Connection, Row, Socket, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::breaker::Breaker;
use crate::config::{Address, Settings, duration};
use crate::database::keeper::{Lent, Shared, keep};
use crate::failure::Failure;
use crate::tls::connector;

/// How much longer than the server's own limit a caller waits.
const GRACE: Duration = Duration::from_secs(1);

// Who reads a moment may take its time between two statements.
const MOMENT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
    SET LOCAL idle_in_transaction_session_timeout = 600000";

/// What carries a connection's bytes; it must be polled.
pub(crate) type AloneConnection = Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

pub(crate) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The figures of a pool, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolFigures {
    /// Open connections that nobody uses.
    pub idle: usize,
    /// Connections in use.
    pub in_use: usize,
    /// The most that may be open.
    pub max: usize,
    /// Callers that wait for a connection.
    pub waiting: usize,
    /// Whether calls are refused at once because the server is away.
    pub is_open_circuit: bool,
}

/// Ends a background task when dropped.
#[derive(Debug)]
pub(crate) struct Background(JoinHandle<()>);

impl Background {
    pub(crate) fn start(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A pool of connections to one server.
#[derive(Debug)]
pub(crate) struct Database {
    shared: Arc<Shared>,
    _keeper: Background,
}

/// The driver's configuration of an address, with every wait bounded.
pub(crate) fn driver_config(address: &Address, settings: &Settings) -> tokio_postgres::Config {
    let mut config = address.config.clone();
    let acquire_timeout = duration(settings.acquire_timeout_seconds);
    if config.get_application_name().is_none() {
        config.application_name("watershed");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(acquire_timeout);
    }
    // A connection whose other end vanished without a word is noticed.
    config.keepalives(true).keepalives_idle(Duration::from_secs(30));
    config.tcp_user_timeout(duration(settings.statement_timeout_seconds) + GRACE);
    config
}

/// A connection outside the pool, before it is driven.
pub(crate) async fn connect_alone(settings: &Settings) -> Result<(tokio_postgres::Client, AloneConnection)> {
    let address = settings.write_address()?;
    let config = driver_config(&address, settings);
    let tls = connector(&address)?;
    let connected =
        tokio::time::timeout(duration(settings.acquire_timeout_seconds), config.connect(tls)).await;
    let connected = connected.map_err(|_| Failure::silent().error)?;
    connected.map_err(|cause| Failure::unreachable(cause).error)
}

/// What every connection is told first.
pub(crate) fn session(settings: &Settings) -> String {
    // pgvector is installed where the operator chose to; these are the usual places. Every statement finds its rows by
    // an index; before a young table is analysed, the planner would read all of it instead.
    format!(
        "SET search_path = \"{}\", public, extensions; SET statement_timeout = {}; SET lock_timeout = {}; \
         SET idle_in_transaction_session_timeout = 60000; SET jit = off; SET client_min_messages = warning; \
         SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_material = off; \
         SET enable_hashjoin = off; SET enable_mergejoin = off",
        settings.schema,
        duration(settings.statement_timeout_seconds).as_millis(),
        duration(settings.statement_timeout_seconds).as_millis(),
    )
}

impl Database {
    /// Opens no connection yet; the keeper does.
    pub(crate) fn new(
        name: &'static str,
        address: &Address,
        settings: &Settings,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self> {
        let tls: MakeRustlsConnect = connector(address)?;
        let manager = Manager::from_config(
            driver_config(address, settings),
            tls,
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let max_lifetime = duration(settings.max_lifetime_seconds);
        let session: Arc<str> = session(settings).into();
        let greet = Hook::async_fn(move |client: &mut deadpool_postgres::ClientWrapper, _| {
            let session = Arc::clone(&session);
            Box::pin(async move { client.batch_execute(&session).await.map_err(HookError::Backend) })
        });
        let retire = Hook::sync_fn(move |_: &mut deadpool_postgres::ClientWrapper, metrics| {
            if metrics.age() > max_lifetime { Err(HookError::message("too old")) } else { Ok(()) }
        });
        let pool = Pool::builder(manager)
            .max_size(settings.max_connections)
            .post_create(greet)
            .pre_recycle(retire)
            .build()
            .map_err(Error::internal)?;
        let shared = Arc::new(Shared {
            name,
            pool,
            breaker: Breaker::new(settings.failures_to_open),
            entropy,
            acquire_timeout: duration(settings.acquire_timeout_seconds),
            statement_timeout: duration(settings.statement_timeout_seconds),
            silence: duration(settings.silence_timeout_seconds),
            idle_timeout: duration(settings.idle_timeout_seconds),
            max_lifetime,
            min_connections: settings.min_connections,
        });
        let keeper = Background::start(keep(Arc::clone(&shared)));
        Ok(Self { shared, _keeper: keeper })
    }

    pub(crate) fn figures(&self) -> PoolFigures {
        let status = self.shared.pool.status();
        PoolFigures {
            idle: status.available,
            in_use: status.size.saturating_sub(status.available),
            max: status.max_size,
            waiting: status.waiting,
            is_open_circuit: self.shared.breaker.is_open(),
        }
    }

    /// Asks for a sign of life.
    ///
    /// # Errors
    /// `UNAVAILABLE` or `TIMED_OUT` when there is none within `limit`.
    pub(crate) async fn ping(&self, limit: Duration) -> Result<()> {
        match tokio::time::timeout(limit, self.query("SELECT 1", &[])).await {
            Ok(found) => found.map(|_| ()),
            Err(_) => Err(Error::new(codes::TIMED_OUT, "the database did not answer in time")),
        }
    }

    /// Runs one statement, once.
    pub(crate) async fn query(&self, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Row>> {
        self.attempt(Call::Plain, sql, parameters).await.map_err(|failure| failure.error)
    }

    /// Runs one statement that changes nothing; again, on another connection, when the first one was lost.
    pub(crate) async fn read(&self, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Row>> {
        match self.attempt(Call::Plain, sql, parameters).await {
            Err(failure) if failure.is_broken && failure.error.code() == codes::UNAVAILABLE => {
                self.query(sql, parameters).await
            }
            found => found.map_err(|failure| failure.error),
        }
    }

    /// Runs one statement in a transaction whose settings are `before`, in one round trip.
    pub(crate) async fn read_under(
        &self,
        before: &str,
        sql: &str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>> {
        self.attempt(Call::Under(before), sql, parameters).await.map_err(|failure| failure.error)
    }

    /// A connection of its own that sees one moment and changes nothing.
    pub(crate) async fn moment(&self) -> Result<Moment> {
        let shared = &self.shared;
        shared.breaker.check()?;
        let client = shared.acquire().await.map_err(|failure| failure.error)?;
        // Taken out of the pool, it is closed in the end, and its transaction with it.
        let moment = Moment { client: Object::take(client), limit: shared.statement_timeout + GRACE };
        moment.bounded(moment.client.batch_execute(MOMENT)).await?;
        Ok(moment)
    }

    /// Runs one statement and, after it is committed, tells those who listen on `channel`; in one round trip.
    pub(crate) async fn query_and_notify(
        &self,
        sql: &str,
        parameters: Parameters<'_>,
        (channel, payload): (&str, &str),
    ) -> Result<Vec<Row>> {
        self.attempt(Call::ThenNotify(channel, payload), sql, parameters)
            .await
            .map_err(|failure| failure.error)
    }

    async fn attempt(
        &self,
        call: Call<'_>,
        sql: &str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, Failure> {
        let shared = &self.shared;
        shared.breaker.check().map_err(Failure::refused)?;
        let client = tokio::select! {
            biased;
            client = shared.acquire() => client?,
            () = shared.breaker.opened() => {
                return Err(shared.breaker.check().map_or_else(Failure::refused, |()| Failure::abandoned()));
            }
        };
        let mut lent = Lent(Some(client));
        let limit = shared.statement_timeout + GRACE;
        let found = tokio::select! {
            biased;
            found = tokio::time::timeout(limit, call.run(lent.client(), sql, parameters)) => match found {
                Ok(found) => found.map_err(Failure::from),
                Err(_) => Err(Failure::silent()),
            },
            () = shared.breaker.opened() => Err(Failure::abandoned()),
        };
        match &found {
            Err(failure) => {
                if failure.is_broken {
                    lent.discard();
                }
                shared.note(failure);
            }
            Ok(_) => shared.breaker.succeeded(),
        }
        found
    }
}

/// A connection whose statements all see the same moment.
pub(crate) struct Moment {
    client: ClientWrapper,
    limit: Duration,
}

impl Moment {
    async fn bounded<T>(&self, call: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T> {
        let found = match tokio::time::timeout(self.limit, call).await {
            Ok(found) => found.map_err(Failure::from),
            Err(_) => Err(Failure::silent()),
        };
        found.map_err(|failure| failure.error)
    }

    /// Runs one statement.
    pub(crate) async fn read(&self, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Row>> {
        let statement = self.bounded(self.client.prepare_cached(sql)).await?;
        self.bounded(self.client.query(&statement, parameters)).await
    }
}

/// How a statement is sent.
#[derive(Clone, Copy)]
enum Call<'a> {
    Plain,
    Under(&'a str),
    ThenNotify(&'a str, &'a str),
}

impl Call<'_> {
    async fn run(
        self,
        client: &Client,
        sql: &str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let statement: Statement = client.prepare_cached(sql).await?;
        match self {
            Self::Plain => client.query(&statement, parameters).await,
            // What is polled together is sent together, in this order.
            Self::Under(before) => {
                let begin = format!("BEGIN READ ONLY; {before}");
                let (begun, found, ended) = futures::join!(
                    client.batch_execute(&begin),
                    client.query(&statement, parameters),
                    client.batch_execute("COMMIT"),
                );
                begun?;
                let found = found?;
                ended?;
                Ok(found)
            }
            Self::ThenNotify(channel, payload) => {
                let notify = client.prepare_cached("SELECT pg_notify($1, $2)").await?;
                let notice: [&(dyn ToSql + Sync); 2] = [&channel, &payload];
                let (found, told) =
                    futures::join!(client.query(&statement, parameters), client.query(&notify, &notice));
                // The event is written whether or not anyone was told; waiters look by themselves too.
                if let Err(cause) = told {
                    tracing::debug!(%cause, "a notification was not sent");
                }
                found
            }
        }
    }
}
