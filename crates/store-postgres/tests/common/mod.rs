//! What the tests share: a schema for each test on the server that `WATERSHED_TEST_POSTGRES_URL` names, a connection
//! beside the store's, and a proxy that can be cut.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

pub(crate) mod proxy;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kernel::{Entropy, Event, Scope, SeededEntropy, SystemClock, SystemEntropy, TenantId, Timestamp};
use store::{ReadLimit, Topic};
use store_postgres::{DatabaseUrl, MIGRATIONS, Migration, Migrator, PostgresStore, Settings};
use tokio_postgres::{Client, NoTls};

pub(crate) const TOPIC: Topic = Topic::fixed("events");
pub(crate) const ALL: ReadLimit = ReadLimit { events: usize::MAX, bytes: usize::MAX };

/// The server's URL.
pub(crate) fn url() -> String {
    #[expect(clippy::disallowed_methods, reason = "the tests are told where the server is")]
    let url = std::env::var("WATERSHED_TEST_POSTGRES_URL");
    url.unwrap_or_else(|_| {
        panic!(
            "WATERSHED_TEST_POSTGRES_URL is not set: run the tests under `scripts/with-engines --only postgres \
             COMMAND` or `python3 scripts/engines/postgres.py COMMAND`, which start a server for them"
        )
    })
}

/// A schema that is dropped with this.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) settings: Settings,
}

impl Schema {
    /// An empty schema, not migrated.
    pub(crate) fn empty() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let lot = SystemEntropy::new().next_u64();
        let name = format!("test_{lot:016x}_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let settings = Settings {
            url: Some(DatabaseUrl::new(url())),
            schema: name,
            max_connections: 4,
            min_connections: 0,
            ..Settings::default()
        };
        Self { settings }
    }

    /// A schema at the newest step.
    pub(crate) async fn migrated() -> Self {
        let schema = Self::empty();
        schema.migrate().await;
        schema
    }

    pub(crate) async fn migrate(&self) {
        Migrator::new(&self.settings, &SystemClock::new()).up().await.unwrap();
    }

    /// Opens a store on it, after changing the settings.
    pub(crate) async fn open_with(&self, change: impl FnOnce(&mut Settings)) -> PostgresStore {
        let mut settings = self.settings.clone();
        change(&mut settings);
        PostgresStore::open(settings, Arc::new(SystemClock::new()), Arc::new(SystemEntropy::new()))
            .await
            .unwrap()
    }

    pub(crate) async fn open(&self) -> PostgresStore {
        self.open_with(|_| ()).await
    }

    /// A connection of the test's own, in the schema.
    pub(crate) async fn client(&self) -> Client {
        let client = connect().await;
        client
            .batch_execute(&format!("SET search_path = \"{}\", public", self.settings.schema))
            .await
            .unwrap();
        client
    }
}

pub(crate) async fn connect() -> Client {
    let (client, connection) = tokio_postgres::connect(&url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

impl Drop for Schema {
    fn drop(&mut self) {
        let statement = format!("DROP SCHEMA IF EXISTS \"{}\" CASCADE", self.settings.schema);
        let drop = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { connect().await.batch_execute(&statement).await })
        };
        // A test that failed already is told of, not this.
        let _ = std::thread::spawn(drop).join();
    }
}

/// What the next release may add to the schema: columns of every table, an index, a table.
pub(crate) fn next_release() -> Vec<Migration> {
    let newest = MIGRATIONS.last().unwrap().number;
    let next = Migration {
        number: newest + 1,
        name: "what_the_next_release_adds",
        up: "DO $$ DECLARE one text; BEGIN
                 FOR one IN SELECT tablename FROM pg_tables WHERE schemaname = current_schema() LOOP
                     EXECUTE format('ALTER TABLE %I ADD COLUMN next_note text', one);
                     EXECUTE format('ALTER TABLE %I ADD COLUMN next_count int NOT NULL DEFAULT 7', one);
                 END LOOP;
             END $$;
             CREATE INDEX next_index ON records (next_count);
             CREATE TABLE next_table (number bigint PRIMARY KEY)",
        down: "DROP TABLE next_table;
             DO $$ DECLARE one text; BEGIN
                 FOR one IN SELECT tablename FROM pg_tables WHERE schemaname = current_schema() LOOP
                     EXECUTE format('ALTER TABLE %I DROP COLUMN next_note, DROP COLUMN next_count', one);
                 END LOOP;
             END $$",
        compatible_with: newest,
    };
    MIGRATIONS.iter().copied().chain([next]).collect()
}

/// As [`opener`], on the schema of the next release.
pub(crate) fn opener_on_next() -> impl AsyncFn() -> PostgresStore {
    let schema = tokio::sync::OnceCell::<Schema>::new();
    let make = async || {
        let (schema, steps) = (Schema::empty(), next_release());
        Migrator::new(&schema.settings, &SystemClock::new()).with_steps(&steps).up().await.unwrap();
        schema
    };
    async move || schema.get_or_init(&make).await.open().await
}

/// An opener for the conformance suites: the same schema again and again.
pub(crate) fn opener(change: impl Fn(&mut Settings) + Clone) -> impl AsyncFn() -> PostgresStore {
    let schema = tokio::sync::OnceCell::<Schema>::new();
    async move || schema.get_or_init(Schema::migrated).await.open_with(&change).await
}

pub(crate) fn scope_of(tenant: &str) -> Scope {
    Scope::system(TenantId::new(tenant).unwrap(), "test")
}

pub(crate) fn scope() -> Scope {
    scope_of("shop")
}

#[expect(clippy::needless_pass_by_value, reason = "short calls read better in tests")]
pub(crate) fn event(id: impl ToString) -> Event {
    Event::new(scope().tenant(), id.to_string(), "/test", "test.happened", Timestamp::UNIX_EPOCH)
}

/// Numbers that are the same in every run.
pub(crate) fn draw(seed: u64) -> SeededEntropy {
    SeededEntropy::new(seed)
}
