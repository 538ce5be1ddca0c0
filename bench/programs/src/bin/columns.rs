//! How many rows of columns an engine takes and gives in a second: `bench-columns --folder FOLDER` on the embedded engine,
//! `bench-columns --url URL` on PostgreSQL. Prints one line of JSON. It refuses a folder that is not empty; on PostgreSQL it
//! makes a schema and drops it.
//!
//! Rows are ticks of several instruments, in batches as a stream writes them. To add a question: a line in [`ask`].

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use kernel::{Clock, Entropy, Scope, SystemClock, SystemEntropy, TenantId};
use serde_json::{Value, json};
use store::{
    Aggregation, Column, ColumnKind, ColumnRow, ColumnScan, ColumnTable, ColumnValue, Columns, Measure,
    TimeRange,
};
use store_embedded::{EmbeddedStore, Options};
use store_postgres::{DatabaseUrl, Migrator, PostgresStore, Settings};

const TICKS: ColumnTable = ColumnTable {
    name: "ticks",
    columns: &[
        Column { name: "price", kind: ColumnKind::Float },
        Column { name: "volume", kind: ColumnKind::Integer },
        Column { name: "venue", kind: ColumnKind::Text },
    ],
};
const SECOND_NS: i64 = 1_000_000_000;
const BAR_NS: i64 = 300 * SECOND_NS;

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Measures columns.
#[derive(Debug, Parser)]
#[command(name = "bench-columns")]
struct Arguments {
    /// An empty folder for the embedded engine
    #[arg(long, required_unless_present = "url")]
    folder: Option<PathBuf>,
    /// Of a PostgreSQL
    #[arg(long, conflicts_with = "folder")]
    url: Option<String>,
    /// Rows in all
    #[arg(long, default_value_t = 500_000)]
    rows: usize,
    /// Instruments
    #[arg(long, default_value_t = 50)]
    series: usize,
    /// Rows of one append
    #[arg(long, default_value_t = 5_000)]
    batch: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    bench::tell(runtime.block_on(run(&arguments)))
}

async fn run(arguments: &Arguments) -> Result<Value, Fault> {
    if let Some(url) = &arguments.url {
        let settings = Settings {
            url: Some(DatabaseUrl::new(url.clone())),
            schema: format!("bench_{:016x}", SystemEntropy::new().next_u64()),
            statement_timeout_seconds: 120.0,
            ..Settings::default()
        };
        let clock = SystemClock::new();
        Migrator::new(&settings, &clock).up().await?;
        let store = PostgresStore::open(
            settings.clone(),
            Arc::new(SystemClock::new()),
            Arc::new(SystemEntropy::new()),
        );
        let told = ask(&*store.await?.columns(), arguments).await;
        Migrator::new(&settings, &clock).down(0).await?;
        return told;
    }
    let folder = arguments.folder.clone().unwrap_or_default();
    if folder.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(format!("{} is not empty", folder.display()).into());
    }
    let store = EmbeddedStore::open(&folder, Options::default(), Arc::new(SystemClock::new()))?;
    ask(&*store.columns(), arguments).await
}

/// The ticks of one batch: each second has one of every instrument.
fn ticks(arguments: &Arguments, start: usize) -> Vec<ColumnRow> {
    let tick = |number: usize| {
        let time = i64::try_from(number / arguments.series).unwrap_or(i64::MAX) * SECOND_NS;
        let price = 50.0 + (number % 977) as f64 / 100.0;
        ColumnRow {
            series: name(number % arguments.series),
            time_ns: time,
            id: format!("{number:x}"),
            revision: 0,
            values: vec![
                ColumnValue::Float(price),
                ColumnValue::Integer(i64::try_from(number % 500).unwrap_or(0)),
                ColumnValue::Text("XNYM".to_owned()),
            ],
        }
    };
    (start..(start + arguments.batch).min(arguments.rows)).map(tick).collect()
}

fn name(number: usize) -> String {
    format!("INSTRUMENT_{number:03}")
}

async fn ask(columns: &dyn Columns, arguments: &Arguments) -> Result<Value, Fault> {
    let clock = SystemClock::new();
    let scope = Scope::system(TenantId::new("desk")?, "bench");
    let since = |began| clock.elapsed().saturating_sub(began).as_secs_f64();
    let mut told = json!({ "rows": arguments.rows, "batch": arguments.batch });
    for what in ["append_rows_per_second", "duplicate_rows_per_second"] {
        let began = clock.elapsed();
        for start in (0..arguments.rows).step_by(arguments.batch) {
            columns.append(&scope, TICKS, ticks(arguments, start)).await?;
        }
        told[what] = json!((arguments.rows as f64 / since(began)).round());
    }
    let range = TimeRange { from_ns: 0, to_ns: store::MAX_TIME_NS };
    let began = clock.elapsed();
    let mut scanned = 0;
    for number in 0..arguments.series {
        let mut scan = ColumnScan::new(name(number), range, store::MAX_SCAN_ROWS);
        loop {
            let page = columns.scan(&scope, TICKS, &scan).await?;
            scanned += page.rows.len();
            scan.cursor = page.cursor;
            if scan.cursor.is_none() {
                break;
            }
        }
    }
    told["scan_rows_per_second"] = json!((scanned as f64 / since(began)).round());
    let began = clock.elapsed();
    let to_ns = i64::try_from(arguments.rows / arguments.series + 1)? * SECOND_NS;
    let mut aggregated = 0;
    for number in 0..arguments.series {
        let measures = vec![Measure::Column("price"), Measure::Product("price", "volume")];
        let series = name(number);
        let range = TimeRange { from_ns: 0, to_ns };
        let asked = Aggregation { series, range, bucket_ns: BAR_NS, origin_ns: 0, measures };
        let bars = columns.aggregate(&scope, TICKS, &asked).await?;
        aggregated += bars.iter().map(|bar| bar.rows).sum::<u64>();
    }
    told["aggregate_rows_per_second"] = json!((aggregated as f64 / since(began)).round());
    let names: Vec<String> = (0..arguments.series).map(name).collect();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    let began = clock.elapsed();
    for _ in 0..100 {
        columns.latest(&scope, TICKS, &names, to_ns).await?;
    }
    told["latest_of_all_series_ms"] = json!(since(began) * 10.0);
    if scanned != arguments.rows || aggregated != arguments.rows as u64 {
        return Err(format!("{scanned} rows were scanned and {aggregated} added up").into());
    }
    Ok(told)
}
