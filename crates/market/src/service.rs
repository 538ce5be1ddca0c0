//! The questions: prices, quotes, bars and what the last of them say together, instruments, and what would become of a message.
//!
//! A newest price is read from the view; one as of a time, and closed bars, from the rows. An open bar stands in an answer
//! where the rows have none with as many trades.
//!
//! It refuses to make up a price or a bar: a gap is told as a gap.

mod bars;
pub mod curves;
mod dead_letters;
pub mod export;
pub mod live;
mod spreads;
mod statistics;
mod validate;

use std::sync::Arc;

use compact_str::CompactString;
use kernel::{Error, ErrorCode, ErrorKind, Permission, Result, Scope, Timestamp, codes};
use store::{ColumnRow, ColumnScan, ColumnTable, ColumnValue, Columns, EventLog, MAX_TIME_NS, TimeRange};

pub use bars::{BarAnswer, BarQuestion, BarState, ToldBar};
pub use dead_letters::{STAGES, StageLetter, StageLetters};
pub use spreads::{KeptQuote, QUOTE_NOT_FOUND, SpreadAnswer, SpreadQuestion, ToldSpread};
pub use statistics::{StatisticsAnswer, StatisticsLine, StatisticsQuestion, WINDOW_MAX};
pub use validate::{Verdict, Would};

use crate::algorithms::instruments::Classification;
use crate::projection::{PRICES, is_withdrawn};
use crate::settings::Rules;
use crate::views::{Instrument, MarketViews, Price, Quote};

/// Withdrawn rows that are read at once.
const ROWS_PASSED_OVER: usize = 1_000;
/// How often they are.
const PAGES_PASSED_OVER: usize = 20;

/// No tick of the instrument was taken in.
pub const INSTRUMENT_NOT_FOUND: ErrorCode = ErrorCode {
    name: "INSTRUMENT_NOT_FOUND",
    kind: ErrorKind::NotFound,
    title: "No tick of this instrument was taken in",
};

/// The instrument had no price then.
pub const PRICE_NOT_FOUND: ErrorCode = ErrorCode {
    name: "PRICE_NOT_FOUND",
    kind: ErrorKind::NotFound,
    title: "The instrument had no price then",
};

/// Answers questions about markets.
#[derive(Debug)]
pub struct Service {
    rules: Arc<Rules>,
    views: Arc<MarketViews>,
    columns: Arc<dyn Columns>,
    log: Arc<dyn EventLog>,
    letters: StageLetters,
}

/// An instrument with its newest price.
#[derive(Debug, Clone)]
pub struct Quoted {
    /// The instrument.
    pub instrument: String,
    /// Its price.
    pub price: Price,
    /// Its newest quote; none as of an earlier time.
    pub quote: Option<Quote>,
}

/// Which instruments.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Whose id begins so.
    pub prefix: Option<String>,
    /// Whose newest price is of this market, in capitals.
    pub market: Option<String>,
    /// What is traded.
    pub commodity: Option<String>,
    /// Where.
    pub region: Option<String>,
}

/// One page of instruments, and the last id of it where there are more.
pub type InstrumentPage<T> = (Vec<T>, Option<String>);

impl Service {
    /// Over these.
    #[must_use]
    pub fn new(
        rules: Arc<Rules>,
        views: Arc<MarketViews>,
        columns: Arc<dyn Columns>,
        log: Arc<dyn EventLog>,
    ) -> Self {
        Self { rules, views, columns, letters: StageLetters::new(Arc::clone(&log)), log }
    }

    /// The rules that everything works by.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What the stages refused.
    #[must_use]
    pub fn letters(&self) -> &StageLetters {
        &self.letters
    }

    /// The newest price of an instrument.
    ///
    /// # Errors
    /// `INSTRUMENT_NOT_FOUND`; `PRICE_NOT_FOUND` where it was only quoted.
    pub fn price(&self, scope: &Scope, id: &str) -> Result<Quoted> {
        scope.require(Permission::Read)?;
        let found = self.views.of(scope.tenant(), |view| {
            view.instrument(id).map(|known| (known.price.clone(), known.quote.clone()))
        });
        let (price, quote) = found.ok_or_else(|| instrument_not_found(id))?;
        let price = price.ok_or_else(|| price_not_found(id))?;
        Ok(Quoted { instrument: id.to_owned(), price, quote })
    }

    /// The price that an instrument had: the newest that happened at that time or before.
    ///
    /// # Errors
    /// `PRICE_NOT_FOUND`, also behind very many prices that were withdrawn; those of the engine.
    pub async fn price_as_of(&self, scope: &Scope, id: &str, time: Timestamp) -> Result<Quoted> {
        scope.require(Permission::Read)?;
        let as_of_ns = nanoseconds(time, "as_of")?;
        let row = self.last_row(scope, PRICES, id, as_of_ns).await?;
        let row = row.ok_or_else(|| price_not_found(id))?;
        Ok(Quoted { instrument: id.to_owned(), price: price_of(&row)?, quote: None })
    }

    /// The newest row of a table at a time or before that was not withdrawn.
    async fn last_row(
        &self,
        scope: &Scope,
        table: ColumnTable,
        id: &str,
        as_of_ns: i64,
    ) -> Result<Option<ColumnRow>> {
        let newest = self.columns.latest(scope, table, &[id], as_of_ns).await?.into_iter().next();
        if newest.as_ref().is_none_or(|row| !is_withdrawn(row)) {
            return Ok(newest);
        }
        let range = TimeRange { from_ns: -MAX_TIME_NS, to_ns: as_of_ns.saturating_add(1).min(MAX_TIME_NS) };
        let mut scan = ColumnScan { descending: true, ..ColumnScan::new(id, range, ROWS_PASSED_OVER) };
        let mut reached_ns = as_of_ns;
        for _ in 0..PAGES_PASSED_OVER {
            let page = self.columns.scan(scope, table, &scan).await?;
            let last_ns = page.rows.last().map(|row| row.time_ns);
            let found = page.rows.into_iter().find(|row| !is_withdrawn(row));
            if found.is_some() || page.cursor.is_none() {
                return Ok(found);
            }
            reached_ns = last_ns.unwrap_or(reached_ns);
            scan.cursor = page.cursor;
        }
        let reached = Timestamp::from_nanosecond(reached_ns.into()).unwrap_or_default();
        let (code, what) =
            if table.name == PRICES.name { (PRICE_NOT_FOUND, "price") } else { (QUOTE_NOT_FOUND, "quote") };
        let message = format!(
            "a backfill withdrew every {what} of `{}` after {reached}; ask for a time before that",
            id.escape_debug()
        );
        Err(Error::new(code, message).with_field("as_of"))
    }

    /// The newest prices of the instruments after `after`, in the order of their ids.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub fn prices(
        &self,
        scope: &Scope,
        filter: &Filter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<InstrumentPage<Quoted>> {
        self.page(scope, filter, after, limit, |id, known| {
            let price = known.price.clone()?;
            Some(Quoted { instrument: id.to_owned(), price, quote: known.quote.clone() })
        })
    }

    /// What the instruments after `after` are, in the order of their ids.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub fn instruments(
        &self,
        scope: &Scope,
        filter: &Filter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<InstrumentPage<(String, Classification)>> {
        let (ids, next) = self.page(scope, filter, after, limit, |id, _| Some(id.to_owned()))?;
        let classified = |id: String| {
            let classification = self.rules.taxonomy.classify(&id);
            (id, classification)
        };
        Ok((ids.into_iter().map(classified).collect(), next))
    }

    /// What an instrument is, by the rules of now.
    ///
    /// # Errors
    /// `INSTRUMENT_NOT_FOUND`.
    pub fn instrument(&self, scope: &Scope, id: &str) -> Result<Classification> {
        scope.require(Permission::Read)?;
        let is_known = self.views.of(scope.tenant(), |view| view.instrument(id).is_some());
        if is_known { Ok(self.rules.taxonomy.classify(id)) } else { Err(instrument_not_found(id)) }
    }

    fn page<T>(
        &self,
        scope: &Scope,
        filter: &Filter,
        after: Option<&str>,
        limit: usize,
        take: impl Fn(&str, &Instrument) -> Option<T>,
    ) -> Result<InstrumentPage<T>> {
        scope.require(Permission::Read)?;
        Ok(self.views.of(scope.tenant(), |view| {
            let mut found: Vec<T> = Vec::new();
            let mut last = None;
            for (id, known) in view.after(after) {
                let Some(one) = Some(()).filter(|()| filter.holds(id, known)).and_then(|()| take(id, known))
                else {
                    continue;
                };
                if found.len() == limit {
                    return (found, last);
                }
                found.push(one);
                last = Some(id.to_owned());
            }
            (found, None)
        }))
    }
}

impl Filter {
    fn holds(&self, id: &str, known: &Instrument) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        self.prefix.as_deref().is_none_or(|prefix| id.starts_with(prefix))
            && is(&self.market, known.price.as_ref().map(|price| price.market.as_str()))
            && is(&self.commodity, known.labels.as_ref().map(|labels| labels.commodity.as_str()))
            && is(&self.region, known.labels.as_ref().map(|labels| labels.region.as_str()))
    }
}

fn instrument_not_found(id: &str) -> Error {
    let message = format!("there is no tick of `{}`", id.escape_debug());
    Error::new(INSTRUMENT_NOT_FOUND, message).with_field("instrument")
}

fn price_not_found(id: &str) -> Error {
    let message = format!("`{}` had no price then", id.escape_debug());
    Error::new(PRICE_NOT_FOUND, message).with_field("instrument")
}

/// A time of a request as rows have it.
fn nanoseconds(time: Timestamp, field: &str) -> Result<i64> {
    let bounded = i64::try_from(time.as_nanosecond()).ok().filter(|ns| ns.abs() <= store::MAX_TIME_NS);
    let message = "must be a time of the years 1685 to 2255";
    bounded.ok_or_else(|| Error::new(codes::VALIDATION_ERROR, message).with_field(field))
}

/// The value of a column that a table has.
fn value<'a>(row: &'a ColumnRow, table: ColumnTable, name: &str) -> Result<&'a ColumnValue> {
    let place = table.place(name)?;
    row.values.get(place).ok_or_else(|| Error::internal("a row has fewer values than its table columns"))
}

fn float(row: &ColumnRow, table: ColumnTable, name: &str) -> Result<Option<f64>> {
    Ok(match value(row, table, name)? {
        ColumnValue::Float(number) => Some(*number),
        _ => None,
    })
}

fn whole(row: &ColumnRow, table: ColumnTable, name: &str) -> Result<Option<i64>> {
    Ok(match value(row, table, name)? {
        ColumnValue::Integer(number) => Some(*number),
        _ => None,
    })
}

fn text(row: &ColumnRow, table: ColumnTable, name: &str) -> Result<String> {
    Ok(match value(row, table, name)? {
        ColumnValue::Text(text) => text.clone(),
        _ => String::new(),
    })
}

/// The flags of a row, which has them with commas between.
fn flags(row: &ColumnRow, table: ColumnTable) -> Result<Vec<CompactString>> {
    let flags = text(row, table, "quality_flags")?;
    Ok(flags.split(',').filter(|flag| !flag.is_empty()).map(CompactString::from).collect())
}

fn price_of(row: &ColumnRow) -> Result<Price> {
    let text = |name: &str| text(row, PRICES, name).map(CompactString::from);
    Ok(Price {
        price: float(row, PRICES, "price")?.ok_or_else(|| Error::internal("a row of prices has none"))?,
        volume: float(row, PRICES, "volume")?,
        market: text("market")?,
        currency: text("currency")?,
        unit: text("unit")?,
        source_system: text("source_system")?,
        sequence: whole(row, PRICES, "sequence")?.and_then(|number| u64::try_from(number).ok()),
        tick_id: text("tick_id")?,
        occurred_us: row.time_ns.div_euclid(1_000),
        received_us: whole(row, PRICES, "received_us")?.unwrap_or(0),
        quality_flags: flags(row, PRICES)?,
    })
}
