//! What the tests share: a database for each test on the server that `WATERSHED_TEST_CLICKHOUSE_URL` names, statements beside
//! the store's, a proxy that can be cut, and a server of the test's own that can be ended.

pub(crate) mod own_server;
pub(crate) mod proxy;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kernel::{Clock, Entropy, Scope, SystemClock, SystemEntropy, TenantId};
use store::{
    Column, ColumnKind, ColumnRow, ColumnScan, ColumnTable, ColumnValue, Columns, MAX_TIME_NS, Secret,
    TimeRange,
};
use store_clickhouse::{ClickHouseStore, Migrator, Settings};

pub(crate) const TICKS: ColumnTable = ColumnTable {
    name: "ticks",
    columns: &[
        Column { name: "price", kind: ColumnKind::Float },
        Column { name: "venue", kind: ColumnKind::Text },
    ],
};
pub(crate) const EVER: TimeRange = TimeRange { from_ns: -MAX_TIME_NS, to_ns: MAX_TIME_NS };

/// The server's URL, with its account.
pub(crate) fn url() -> String {
    told("WATERSHED_TEST_CLICKHOUSE_URL")
}

/// What `scripts/with-engines` says.
fn told(variable: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "the tests are told where the server is")]
    let told = std::env::var(variable);
    told.unwrap_or_else(|_| {
        panic!(
            "{variable} is not set: run the tests under `scripts/with-engines --only clickhouse COMMAND`, which starts a \
             server for them"
        )
    })
}

/// What the server answers to a statement of the test's own, as text.
pub(crate) async fn ask(statement: String) -> String {
    let url = url();
    let (account, host) = url.trim_start_matches("http://").split_once('@').unwrap();
    let (user, password) = account.split_once(':').unwrap();
    // A machine that is busy may keep it waiting.
    let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).no_proxy().build().unwrap();
    let request = client.post(format!("http://{host}/?default_format=TabSeparated")).body(statement.clone());
    let answer =
        request.header("x-clickhouse-user", user).header("x-clickhouse-key", password).send().await.unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert!(status.is_success(), "{statement}: {text}");
    text.trim_end().to_owned()
}

/// A database that is dropped with this.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) settings: Settings,
}

impl Database {
    /// One that is not there yet.
    pub(crate) fn empty() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let lot = SystemEntropy::new().next_u64();
        let database = format!("test_{lot:016x}_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        Self { settings: Settings { url: Secret::new(url()), database, ..Settings::default() } }
    }

    /// One at the newest step.
    pub(crate) async fn migrated() -> Self {
        let database = Self::empty();
        database.migrator().up().await.unwrap();
        database
    }

    pub(crate) fn name(&self) -> &str {
        &self.settings.database
    }

    pub(crate) fn migrator(&self) -> Migrator<'static> {
        Migrator::new(&self.settings, Arc::new(SystemClock::new()), Arc::new(SystemEntropy::new())).unwrap()
    }

    /// Opens a store on it, after changing the settings.
    pub(crate) async fn open_with(&self, change: impl FnOnce(&mut Settings)) -> ClickHouseStore {
        self.open_at(Arc::new(SystemClock::new()), change).await
    }

    /// The same, at a time of the test's own.
    pub(crate) async fn open_at(
        &self,
        clock: Arc<dyn Clock>,
        change: impl FnOnce(&mut Settings),
    ) -> ClickHouseStore {
        let mut settings = self.settings.clone();
        change(&mut settings);
        ClickHouseStore::open(&settings, clock, Arc::new(SystemEntropy::new())).await.unwrap()
    }

    pub(crate) async fn open(&self) -> ClickHouseStore {
        self.open_with(|_| ()).await
    }

    /// Merges every part of a table into one for each month.
    pub(crate) async fn merge(&self, table: &str) {
        ask(format!("OPTIMIZE TABLE `{}`.`columns_{table}` FINAL", self.name())).await;
    }

    /// How many rows there are before any is passed over.
    pub(crate) async fn stored(&self, table: &str) -> u64 {
        ask(format!("SELECT count() FROM `{}`.`columns_{table}`", self.name())).await.parse().unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let statement = format!("DROP DATABASE IF EXISTS `{}` SYNC", self.settings.database);
        let drop = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(ask(statement))
        };
        // A test that failed already is told of, not this.
        let _ = std::thread::spawn(drop).join();
    }
}

/// An opener for the conformance suite: the same database again and again.
pub(crate) fn opener() -> impl AsyncFn() -> Arc<dyn Columns> {
    let database = tokio::sync::OnceCell::<Database>::new();
    async move || database.get_or_init(Database::migrated).await.open().await.columns()
}

pub(crate) fn scope_of(tenant: &str) -> Scope {
    Scope::system(TenantId::new(tenant).unwrap(), "test")
}

pub(crate) fn scope() -> Scope {
    scope_of("desk")
}

pub(crate) fn row(time_ns: i64, revision: u32, price: f64) -> ColumnRow {
    let values = vec![ColumnValue::Float(price), ColumnValue::Text(format!("price {price}"))];
    ColumnRow { series: "WTI".to_owned(), time_ns, id: "1".to_owned(), revision, values }
}

/// Everything that counts of the one series.
pub(crate) async fn all(columns: &Arc<dyn Columns>) -> Vec<ColumnRow> {
    columns.scan(&scope(), TICKS, &ColumnScan::new("WTI", EVER, 10_000)).await.unwrap().rows
}

pub(crate) async fn append(columns: &Arc<dyn Columns>, rows: Vec<ColumnRow>) -> u64 {
    columns.append(&scope(), TICKS, rows).await.unwrap()
}
