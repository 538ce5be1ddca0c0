//! From topics to tables: what the stages make, as rows that answers are read from.
//!
//! [`ProjectionSink`] takes the outputs of a stage, appends them to the log, then writes the rows. Both know what they
//! have, so that outputs that come again change nothing. [`rebuild`] makes the rows again from the topics.
//!
//! To add a table: its declaration, and what of which topic goes there in [`row`].

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use kernel::{Error, Event, Result, Scope, TenantId};
use store::{
    Column, ColumnKind, ColumnRow, ColumnTable, ColumnValue, Columns, EventLog, MAX_APPEND_ROWS, ReadLimit,
    Topic,
};
use stream::{LogSink, Output, Sink};

use crate::algorithms::bars::Ohlcv;
use crate::events::{KeptBar, TickMessage, kinds, topics};
use crate::topology::BAR_KINDS;

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

/// Bytes of names that a row has at most, so that a full append is within what the port takes.
const ROWS_AT_ONCE: usize = MAX_APPEND_ROWS / 2;

/// The log, then tables.
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
struct Rows(BTreeMap<(TenantId, &'static str), (ColumnTable, Vec<ColumnRow>)>);

impl Rows {
    fn add(&mut self, topic: &Topic, event: &Event) -> Result<()> {
        if let Some((table, row)) = row(topic, event)? {
            let entry = self.0.entry((event.tenant.clone(), table.name));
            entry.or_insert_with(|| (table, Vec::new())).1.push(row);
        }
        Ok(())
    }

    /// Returns how many were not there yet.
    async fn write(self, columns: &dyn Columns) -> Result<u64> {
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

/// The row that an event of a topic is, where it is one.
fn row(topic: &Topic, event: &Event) -> Result<Option<(ColumnTable, ColumnRow)>> {
    // Punctuations, and at brokers what others wrote there.
    if ![kinds::ENRICHED_TICK, kinds::BAR].contains(&event.kind.as_str()) {
        return Ok(None);
    }
    if topic.as_str() == topics::ENRICHED_TICKS {
        let tick: TickMessage = event.data_as()?;
        return Ok(tick.trade().map(|_| (PRICES, price_row(&tick))));
    }
    let Some(kind) = BAR_KINDS.iter().find(|kind| kind.topic == topic.as_str()) else { return Ok(None) };
    Ok(Some((kind.table, bar_row(&event.data_as()?))))
}

fn number(value: Option<f64>) -> ColumnValue {
    value.map_or(ColumnValue::Missing, ColumnValue::Float)
}

fn integer(value: u64) -> ColumnValue {
    ColumnValue::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

fn price_row(tick: &TickMessage) -> ColumnRow {
    let payload = &tick.payload;
    let text = |text: &str| ColumnValue::Text(text.to_owned());
    let flags = payload.quality_flags.as_deref().unwrap_or_default().join(",");
    ColumnRow {
        series: payload.instrument_id.clone(),
        time_ns: tick.occurred_at.saturating_mul(1_000),
        // Ticks of one time stand in the order of their numbers.
        id: format!("{:020}-{}", payload.sequence.unwrap_or(0), payload.tick_id),
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

/// Makes the rows again from what the topics hold; returns how many were missing.
///
/// # Errors
/// Those of the engines.
pub async fn rebuild(log: &dyn EventLog, columns: &dyn Columns) -> Result<u64> {
    let mut missing = 0;
    let bars = BAR_KINDS.iter().map(|kind| kind.topic);
    for name in [topics::ENRICHED_TICKS].into_iter().chain(bars) {
        let topic = Topic::fixed(name);
        for extent in log.extents(&topic).await? {
            let mut offset = extent.first;
            while offset < extent.next {
                let batch = log.read(&topic, extent.partition, offset, ReadLimit::default()).await?;
                let Some(last) = batch.last() else { break };
                offset = last.offset + 1;
                let mut rows = Rows::default();
                for stored in &batch {
                    rows.add(&topic, &stored.event).map_err(|error| damaged(&topic, stored.offset, error))?;
                }
                missing += rows.write(columns).await?;
            }
        }
    }
    Ok(missing)
}

fn damaged(topic: &Topic, offset: u64, error: Error) -> Error {
    let message = format!("event {offset} of `{topic}` is no row");
    Error::new(kernel::codes::CORRUPTED, message).with_source(error)
}
