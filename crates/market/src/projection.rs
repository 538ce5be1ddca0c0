//! From topics to tables: what the stages make, as rows that answers are read from.
//!
//! [`ProjectionSink`] takes the outputs of a stage, appends them to the log, then writes the rows. Both know what they
//! have, so that outputs that come again change nothing. [`rebuild`] makes the rows again from the topics: those of the
//! stages, and the corrections of a backfill, which have a topic of their own so that no stage counts a tick twice.
//!
//! To add a table: its declaration, a place in [`tables`], and what of which topic goes there in [`rows_of`].

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use kernel::{Error, Event, Result, Scope, TenantId, Timestamp, codes};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{
    Column, ColumnKind, ColumnRow, ColumnTable, ColumnValue, Columns, EventLog, MAX_APPEND_ROWS, ReadLimit,
    Stored, Topic,
};
use stream::{LogSink, Output, Sink};

use crate::algorithms::bars::{Ohlcv, Quote};
use crate::algorithms::quality::VALID;
use crate::events::{KeptBar, TickMessage, kinds, topics};
use crate::service::curves::{CURVE_QUOTES, row_of};
use crate::topology::BAR_KINDS;

/// Rows that a backfill found to differ.
pub const CORRECTED_ROWS: Topic = Topic::fixed(topics::CORRECTED_ROWS);
/// The source of their events.
const BACKFILL: &str = "/watershed/backfill";

/// Every price, by instrument and time.
pub const PRICES: ColumnTable = ColumnTable {
    name: "market_prices",
    columns: &[
        Column { name: "price", kind: ColumnKind::Float },
        Column { name: "volume", kind: ColumnKind::Float },
        Column { name: "bid_price", kind: ColumnKind::Float },
        Column { name: "ask_price", kind: ColumnKind::Float },
        Column { name: "market", kind: ColumnKind::Text },
        Column { name: "currency", kind: ColumnKind::Text },
        Column { name: "unit", kind: ColumnKind::Text },
        Column { name: "source_system", kind: ColumnKind::Text },
        Column { name: "sequence", kind: ColumnKind::Integer },
        Column { name: "tick_id", kind: ColumnKind::Text },
        Column { name: "received_us", kind: ColumnKind::Integer },
        Column { name: "quality_flags", kind: ColumnKind::Text },
    ],
};

/// Every quote, by instrument and time, whether there was a trade with it or not.
pub const QUOTES: ColumnTable = ColumnTable {
    name: "market_quotes",
    columns: &[
        Column { name: "bid_price", kind: ColumnKind::Float },
        Column { name: "ask_price", kind: ColumnKind::Float },
        Column { name: "market", kind: ColumnKind::Text },
        Column { name: "currency", kind: ColumnKind::Text },
        Column { name: "unit", kind: ColumnKind::Text },
        Column { name: "source_system", kind: ColumnKind::Text },
        Column { name: "sequence", kind: ColumnKind::Integer },
        Column { name: "tick_id", kind: ColumnKind::Text },
        Column { name: "received_us", kind: ColumnKind::Integer },
        Column { name: "quality_flags", kind: ColumnKind::Text },
    ],
};

/// The tables that stages and backfills write.
pub(crate) fn tables() -> impl Iterator<Item = ColumnTable> {
    [PRICES, QUOTES].into_iter().chain(BAR_KINDS.map(|kind| kind.table))
}

/// Bytes of names that a row has at most, so that a full append is within what the port takes.
const ROWS_AT_ONCE: usize = MAX_APPEND_ROWS / 2;

/// The log, then tables: what is served was told before.
#[derive(Debug)]
pub struct ProjectionSink {
    log: LogSink,
    columns: Arc<dyn Columns>,
}

impl ProjectionSink {
    /// Over these engines.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, columns: Arc<dyn Columns>) -> Self {
        Self { log: LogSink::new(log), columns }
    }
}

/// Every table that rows of market data are in, for settings that name tables.
#[must_use]
pub fn every_table() -> Vec<ColumnTable> {
    tables().chain([CURVE_QUOTES]).collect()
}

#[async_trait]
impl Sink for ProjectionSink {
    async fn deliver(&self, outputs: Vec<Output>) -> Result<()> {
        let mut rows = Rows::default();
        for output in &outputs {
            rows.add(&output.topic, &output.event)?;
        }
        self.log.deliver(outputs).await?;
        rows.write(self.columns.as_ref()).await.map(drop)
    }
}

/// Rows by tenant and table.
#[derive(Default)]
pub(crate) struct Rows(BTreeMap<(TenantId, &'static str), (ColumnTable, Vec<ColumnRow>)>);

impl Rows {
    pub(crate) fn add(&mut self, topic: &Topic, event: &Event) -> Result<()> {
        for (table, row) in rows_of(topic, event)? {
            self.put(&event.tenant, table, row);
        }
        Ok(())
    }

    fn add_quotes(&mut self, stored: &Stored) -> Result<()> {
        let Some(row) = row_of(stored.event.data_as()?, stored.offset)? else { return Ok(()) };
        self.put(&stored.event.tenant, CURVE_QUOTES, row);
        Ok(())
    }

    fn put(&mut self, tenant: &TenantId, table: ColumnTable, row: ColumnRow) {
        let entry = self.0.entry((tenant.clone(), table.name));
        entry.or_insert_with(|| (table, Vec::new())).1.push(row);
    }

    /// Returns how many were not there yet.
    pub(crate) async fn write(self, columns: &dyn Columns) -> Result<u64> {
        let mut new = 0;
        for ((tenant, _), (table, mut rows)) in self.0 {
            let scope = Scope::system(tenant, "market");
            while !rows.is_empty() {
                let rest = rows.split_off(rows.len().min(ROWS_AT_ONCE));
                new += columns.append(&scope, table, std::mem::replace(&mut rows, rest)).await?;
            }
        }
        Ok(new)
    }
}

/// The rows that an event of a topic makes: of a tick its price and its quote, where it has them.
pub(crate) fn rows_of(topic: &Topic, event: &Event) -> Result<Vec<(ColumnTable, ColumnRow)>> {
    // Punctuations, and at brokers what others wrote there.
    if ![kinds::ENRICHED_TICK, kinds::BAR, kinds::CORRECTED_ROW].contains(&event.kind.as_str()) {
        return Ok(Vec::new());
    }
    if topic.as_str() == topics::CORRECTED_ROWS {
        return Ok(vec![event.data_as::<Correction>()?.row()?]);
    }
    if topic.as_str() == topics::ENRICHED_TICKS {
        let tick: Arc<TickMessage> = event.shared_data_as()?;
        let price = tick.trade().map(|_| (PRICES, price_row(&tick)));
        let quote = tick.quote().map(|quote| (QUOTES, quote_row(&tick, &quote)));
        return Ok(price.into_iter().chain(quote).collect());
    }
    let Some(kind) = BAR_KINDS.iter().find(|kind| kind.topic == topic.as_str()) else {
        return Ok(Vec::new());
    };
    Ok(vec![(kind.table, bar_row(&event.data_as()?))])
}

fn number(value: Option<f64>) -> ColumnValue {
    value.map_or(ColumnValue::Missing, ColumnValue::Float)
}

fn integer(value: u64) -> ColumnValue {
    ColumnValue::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

/// Ticks of one time stand in the order of their numbers.
fn place_of(tick: &TickMessage) -> String {
    format!("{:020}-{}", tick.payload.sequence.unwrap_or(0), tick.payload.tick_id)
}

fn price_row(tick: &TickMessage) -> ColumnRow {
    let payload = &tick.payload;
    let text = |text: &str| ColumnValue::Text(text.to_owned());
    let flags = payload.quality_flags.as_deref().unwrap_or_default().join(",");
    ColumnRow {
        series: payload.instrument_id.to_string(),
        time_ns: tick.occurred_at.saturating_mul(1_000),
        id: place_of(tick),
        revision: 0,
        values: vec![
            number(payload.price),
            number(payload.volume),
            number(payload.bid_price),
            number(payload.ask_price),
            text(&payload.market),
            text(&payload.currency),
            text(&payload.unit),
            text(&payload.source_system),
            payload.sequence.map_or(ColumnValue::Missing, integer),
            text(&payload.tick_id),
            ColumnValue::Integer(tick.ingested_at),
            ColumnValue::Text(flags),
        ],
    }
}

fn quote_row(tick: &TickMessage, quote: &Quote) -> ColumnRow {
    let payload = &tick.payload;
    let text = |text: &str| ColumnValue::Text(text.to_owned());
    // That of a tick without any other is no flag beside one.
    let flags = payload.quality_flags.as_deref().unwrap_or_default();
    let own = flags.iter().map(|flag| &**flag).filter(|flag| *flag != VALID);
    let mut flags: Vec<&str> = own.chain(quote.state().flag()).collect();
    if flags.is_empty() {
        flags.push(VALID);
    }
    ColumnRow {
        series: payload.instrument_id.to_string(),
        time_ns: tick.occurred_at.saturating_mul(1_000),
        id: place_of(tick),
        revision: 0,
        values: vec![
            number(quote.bid),
            number(quote.ask),
            text(&payload.market),
            text(&payload.currency),
            text(&payload.unit),
            text(&payload.source_system),
            payload.sequence.map_or(ColumnValue::Missing, integer),
            text(&payload.tick_id),
            ColumnValue::Integer(tick.ingested_at),
            ColumnValue::Text(flags.join(",")),
        ],
    }
}

/// What stands for the market of a bar that has none.
pub const NO_MARKET: &str = "-";

fn bar_row(bar: &KeptBar) -> ColumnRow {
    let Ohlcv { open, high, low, close, volume, vwap, trade_count } = bar.values;
    let prices = [Some(open), Some(high), Some(low), Some(close), Some(volume), vwap].map(number);
    let rest = [integer(trade_count), ColumnValue::Integer(bar.interval_end.as_microsecond())];
    ColumnRow {
        series: bar.instrument_id.clone(),
        time_ns: bar.interval_start.as_microsecond().saturating_mul(1_000),
        id: if bar.market.is_empty() { NO_MARKET.to_owned() } else { bar.market.clone() },
        revision: bar.revision,
        values: prices.into_iter().chain(rest).collect(),
    }
}

/// The next revision of a row: that there is none any more.
pub(crate) fn withdrawn(row: &ColumnRow) -> ColumnRow {
    let values = vec![ColumnValue::Missing; row.values.len()];
    ColumnRow { revision: row.revision + 1, values, ..row.clone() }
}

/// Whether a row says that there is none.
pub(crate) fn is_withdrawn(row: &ColumnRow) -> bool {
    row.values.iter().all(|value| *value == ColumnValue::Missing)
}

/// A value on the wire.
pub(crate) fn json(value: &ColumnValue) -> Value {
    match value {
        ColumnValue::Missing => Value::Null,
        ColumnValue::Float(number) => Value::from(*number),
        ColumnValue::Integer(number) => Value::from(*number),
        ColumnValue::Text(text) => Value::from(text.as_str()),
    }
}

/// Revisions of rows on their way to the topic of corrections.
pub(crate) struct Corrections<'a> {
    pub(crate) table: ColumnTable,
    pub(crate) rows: &'a [ColumnRow],
}

/// One of them on the wire.
#[derive(Serialize, Deserialize)]
struct Correction {
    table: String,
    instrument_id: String,
    time_ns: i64,
    id: String,
    revision: u32,
    /// By the columns of the table.
    values: Vec<Value>,
}

impl Corrections<'_> {
    /// Appends them. Their ids are of what they say, so that those that come again are known.
    pub(crate) async fn append(&self, scope: &Scope, log: &dyn EventLog, now: Timestamp) -> Result<()> {
        let event = |row: &ColumnRow| {
            let correction = Correction {
                table: self.table.name.to_owned(),
                instrument_id: row.series.clone(),
                time_ns: row.time_ns,
                id: row.id.clone(),
                revision: row.revision,
                values: row.values.iter().map(json).collect(),
            };
            let data = serde_json::value::to_raw_value(&correction).map_err(Error::internal)?;
            let id = blake3::hash(data.get().as_bytes()).to_hex();
            Ok(Event {
                subject: Some(row.series.clone()),
                data: Some(data.into()),
                ..Event::new(scope.tenant(), &id[..32], BACKFILL, kinds::CORRECTED_ROW, now)
            })
        };
        let events = self.rows.iter().map(event).collect::<Result<Vec<Event>>>()?;
        log.append(scope, &CORRECTED_ROWS, events).await.map(drop)
    }
}

impl Correction {
    fn row(self) -> Result<(ColumnTable, ColumnRow)> {
        let wrong =
            |what: &str| Error::new(codes::CORRUPTED, format!("a correction of `{}` {what}", self.table));
        let table = tables().find(|table| table.name == self.table).ok_or_else(|| wrong("names no table"))?;
        if self.values.len() > table.columns.len() {
            return Err(wrong("has more values than the table has columns"));
        }
        let read = |(column, value): (&Column, &Value)| {
            let found = match (column.kind, value) {
                (_, Value::Null) => Some(ColumnValue::Missing),
                (ColumnKind::Float, value) => value.as_f64().map(ColumnValue::Float),
                (ColumnKind::Integer, value) => value.as_i64().map(ColumnValue::Integer),
                (ColumnKind::Text, value) => value.as_str().map(|text| ColumnValue::Text(text.to_owned())),
            };
            found.ok_or_else(|| wrong("has a value of another kind"))
        };
        // Columns that were added to the table since have nothing there.
        let missing = table.columns.len() - self.values.len();
        let values = table.columns.iter().zip(&self.values).map(read);
        let values = values.chain((0..missing).map(|_| Ok(ColumnValue::Missing))).collect::<Result<_>>()?;
        let Self { instrument_id: series, time_ns, id, revision, .. } = self;
        Ok((table, ColumnRow { series, time_ns, id, revision, values }))
    }
}

/// Makes the rows again from what the topics hold; returns how many were missing.
///
/// # Errors
/// Those of the engines.
pub async fn rebuild(log: &dyn EventLog, columns: &dyn Columns) -> Result<u64> {
    let mut missing = 0;
    let bars = BAR_KINDS.iter().map(|kind| kind.topic);
    let others = [topics::CORRECTED_ROWS, topics::CURVE_UPDATES];
    for name in [topics::ENRICHED_TICKS].into_iter().chain(bars).chain(others) {
        missing += rebuild_from(log, columns, &Topic::fixed(name), |_| true).await?;
    }
    Ok(missing)
}

/// Writes the rows of the scope's tenant that the topic of corrections has and the tables do not; returns how many.
pub(crate) async fn apply_corrections(
    scope: &Scope,
    log: &dyn EventLog,
    columns: &dyn Columns,
) -> Result<u64> {
    rebuild_from(log, columns, &CORRECTED_ROWS, |event| event.tenant == *scope.tenant()).await
}

async fn rebuild_from(
    log: &dyn EventLog,
    columns: &dyn Columns,
    topic: &Topic,
    is_wanted: impl Fn(&Event) -> bool,
) -> Result<u64> {
    let mut missing = 0;
    for extent in log.extents(topic).await? {
        let mut offset = extent.first;
        while offset < extent.next {
            let batch = log.read(topic, extent.partition, offset, ReadLimit::default()).await?;
            let Some(last) = batch.last() else { break };
            offset = last.offset + 1;
            let mut rows = Rows::default();
            for stored in batch.iter().filter(|stored| is_wanted(&stored.event)) {
                let added = match stored.event.kind.as_str() {
                    kinds::CURVE_QUOTES => rows.add_quotes(stored),
                    _ => rows.add(topic, &stored.event),
                };
                added.map_err(|error| damaged(topic, stored.offset, error))?;
            }
            missing += rows.write(columns).await?;
        }
    }
    Ok(missing)
}

fn damaged(topic: &Topic, offset: u64, error: Error) -> Error {
    let message = format!("event {offset} of `{topic}` is no row");
    Error::new(kernel::codes::CORRUPTED, message).with_source(error)
}
