//! Spreads of real quotes: the newest one and that as of a time, and what the quotes of an interval say together.
//!
//! Both are read from the rows of quotes. An interval is added up when it is asked for, from every quote of it, so that a quote that
//! came late or was corrected is in it; a bound on how many are read keeps an answer within its time.
//!
//! It refuses to make a spread of sides that were quoted at different times, and to tell an interval of which it read a part.

use std::collections::BTreeMap;

use kernel::{Error, ErrorCode, ErrorKind, Permission, Result, Scope, Timestamp};
use store::{ColumnRow, ColumnScan, MAX_SCAN_ROWS, MAX_TIME_NS, TimeRange};

use super::bars::{invalid, place_of};
use super::{Service, flags, float, instrument_not_found, nanoseconds, text, whole};
use crate::algorithms::bars::{Interval, Quote, SpreadPartial, SpreadSummary};
use crate::projection::{QUOTES, is_withdrawn};
use crate::settings::{Calendars, KnownSlots};

/// Quotes that are read for an answer, at most.
const QUOTES_READ: usize = if cfg!(test) { 40 } else { 200_000 };
const ROWS_AT_ONCE: usize = if cfg!(test) { 7 } else { MAX_SCAN_ROWS };
const MINUTE_NS: i64 = 60_000_000_000;
/// No day is longer: one of 25 hours, and one more for a zone that moved.
const DAY_NS_MAX: i64 = 26 * 60 * MINUTE_NS;

/// The instrument had no quote then.
pub const QUOTE_NOT_FOUND: ErrorCode = ErrorCode {
    name: "QUOTE_NOT_FOUND",
    kind: ErrorKind::NotFound,
    title: "The instrument had no quote then",
};

/// A quote as it is kept.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each is the field of `TickPayload`")]
pub struct KeptQuote {
    pub quote: Quote,
    pub market: String,
    pub currency: String,
    pub unit: String,
    pub source_system: String,
    pub sequence: Option<u64>,
    pub tick_id: String,
    pub received_us: i64,
    /// Those of its tick, and that of a quote whose spread means nothing.
    pub quality_flags: Vec<String>,
}

/// Which spreads.
#[derive(Debug, Clone)]
pub struct SpreadQuestion {
    /// Of which instrument.
    pub instrument: String,
    /// Of intervals how long.
    pub interval: Interval,
    /// Those that begin at that time or later.
    pub from: Timestamp,
    /// And before this.
    pub to: Timestamp,
    /// Of this market only.
    pub market: Option<String>,
    /// Intervals at most.
    pub limit: usize,
}

/// The quotes of an interval at a market.
#[derive(Debug, Clone, PartialEq)]
pub struct ToldSpread {
    /// Its first microsecond.
    pub start_us: i64,
    /// The microsecond after its last.
    pub end_us: i64,
    /// Where they were quoted; empty where nobody said.
    pub market: String,
    /// What they say.
    pub summary: SpreadSummary,
    /// Quotes that are too large to be added up.
    pub out_of_range_count: u64,
}

/// Spreads of a range, oldest first. Where nobody quoted there is no line.
#[derive(Debug, Clone, PartialEq)]
pub struct SpreadAnswer {
    /// One for each interval and market.
    pub spreads: Vec<ToldSpread>,
    /// Where the next page begins, where there are more.
    pub next_from_us: Option<i64>,
}

impl Service {
    /// The quote of an instrument: the newest that happened at a time or before; the newest of all where none is given.
    ///
    /// # Errors
    /// `INSTRUMENT_NOT_FOUND`; `QUOTE_NOT_FOUND`, also behind very many quotes that were withdrawn; those of the engine.
    pub async fn quote_as_of(&self, scope: &Scope, id: &str, time: Option<Timestamp>) -> Result<KeptQuote> {
        scope.require(Permission::Read)?;
        let as_of_ns = time.map_or(Ok(MAX_TIME_NS), |time| nanoseconds(time, "as_of"))?;
        self.check_known(scope, id)?;
        let row = self.last_row(scope, QUOTES, id, as_of_ns).await?.ok_or_else(|| {
            let message = format!("`{}` was not quoted until then", id.escape_debug());
            Error::new(QUOTE_NOT_FOUND, message).with_field("instrument")
        })?;
        kept(&row)
    }

    fn check_known(&self, scope: &Scope, id: &str) -> Result<()> {
        let is_known = self.views.of(scope.tenant(), |view| view.instrument(id).is_some());
        if is_known { Ok(()) } else { Err(instrument_not_found(id)) }
    }

    /// What was quoted in the intervals of a range.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for an interval that is not kept or has too many quotes, or a range that is none;
    /// `INSTRUMENT_NOT_FOUND`; those of the engine.
    pub async fn spreads(&self, scope: &Scope, question: &SpreadQuestion) -> Result<SpreadAnswer> {
        scope.require(Permission::Read)?;
        place_of(question.interval)?;
        let (from_ns, to_ns) = (nanoseconds(question.from, "from")?, nanoseconds(question.to, "to")?);
        if to_ns < from_ns {
            return Err(invalid("to", "must not be before `from`"));
        }
        self.check_known(scope, &question.instrument)?;
        // An interval that begins in the range may end behind it.
        let longest_ns = match question.interval {
            Interval::Minutes(minutes) => i64::from(minutes) * MINUTE_NS,
            Interval::Day => DAY_NS_MAX,
        };
        let range = TimeRange { from_ns, to_ns: to_ns.saturating_add(longest_ns).min(MAX_TIME_NS) };
        let mut scan = ColumnScan::new(question.instrument.as_str(), range, ROWS_AT_ONCE);
        let mut intervals = Intervals::new(question, &self.rules.calendars);
        let mut read = 0;
        loop {
            let page = self.columns.scan(scope, QUOTES, &scan).await?;
            read += page.rows.len();
            for row in page.rows.iter().filter(|row| !is_withdrawn(row)) {
                intervals.add(quote_of(row)?, text(row, QUOTES, "market")?)?;
                if let Some(next_us) = intervals.enough(row.time_ns.div_euclid(1_000)) {
                    return Ok(intervals.before(Some(next_us)));
                }
            }
            let last_us = page.rows.last().map(|row| row.time_ns.div_euclid(1_000));
            scan.cursor = page.cursor;
            match last_us.filter(|_| scan.cursor.is_some()) {
                Some(last_us) if read >= QUOTES_READ => return intervals.read_until(last_us),
                Some(_) => {}
                None => {
                    let next_us = intervals.boundary();
                    return Ok(intervals.before(next_us));
                }
            }
        }
    }
}

/// Intervals that are added up.
struct Intervals<'a> {
    question: &'a SpreadQuestion,
    calendars: &'a Calendars,
    known: KnownSlots,
    /// By begin and market: the end, what was quoted, and how many quotes were out of range.
    all: BTreeMap<(i64, String), (i64, SpreadPartial, u64)>,
}

impl<'a> Intervals<'a> {
    fn new(question: &'a SpreadQuestion, calendars: &'a Calendars) -> Self {
        Self { question, calendars, known: KnownSlots::default(), all: BTreeMap::new() }
    }

    fn add(&mut self, quote: Quote, market: String) -> Result<()> {
        let question = self.question;
        if question.market.as_ref().is_some_and(|wanted| *wanted != market) {
            return Ok(());
        }
        let slot = self.calendars.slot(&mut self.known, &market, question.interval, quote.time_us);
        let asked = question.from.as_microsecond()..question.to.as_microsecond();
        let Some(slot) = slot.filter(|slot| asked.contains(&slot.start_us)) else { return Ok(()) };
        let entry = self.all.entry((slot.start_us, market));
        let (_, partial, out_of_range) = entry.or_insert_with(|| (slot.end_us, SpreadPartial::default(), 0));
        match SpreadPartial::of(&quote) {
            Ok(one) => partial.merge(&one).map_err(Error::internal)?,
            Err(_) => *out_of_range += 1,
        }
        Ok(())
    }

    /// Where the first interval begins that is more than was asked for. Those of one time are of one page, however many.
    fn boundary(&self) -> Option<i64> {
        // Asked for each quote.
        if self.all.len() <= self.question.limit {
            return None;
        }
        let (first_us, _) = self.all.keys().next()?;
        let (over_us, _) = self.all.keys().nth(self.question.limit)?;
        if over_us > first_us {
            return Some(*over_us);
        }
        self.all.keys().map(|(start_us, _)| *start_us).find(|start_us| start_us > first_us)
    }

    /// Where the intervals begin that a quote of a time may be in.
    fn starts(&self, time_us: i64) -> Vec<i64> {
        let interval = self.question.interval;
        match &self.question.market {
            Some(market) => {
                let slot = self.calendars.of(market).slot(interval, time_us);
                slot.into_iter().map(|slot| slot.start_us).collect()
            }
            None => self.calendars.starts(interval, time_us).collect(),
        }
    }

    /// The boundary, once no quote from a time on is in an interval before it, whatever its market.
    fn enough(&self, time_us: i64) -> Option<i64> {
        let next_us = self.boundary()?;
        let earliest_us = self.starts(time_us).into_iter().min()?;
        (next_us <= earliest_us).then_some(next_us)
    }

    /// The answer, where no more quotes are read after those up to a time: without the intervals that those may be in.
    fn read_until(self, last_us: i64) -> Result<SpreadAnswer> {
        let [from_us, to_us] = [self.question.from, self.question.to].map(Timestamp::as_microsecond);
        // What began before the range is not asked for.
        let next_us =
            self.starts(last_us).into_iter().filter(|start_us| *start_us >= from_us).min().unwrap_or(last_us);
        if next_us <= from_us {
            let message = format!(
                "one has more than {QUOTES_READ} quotes; ask for a shorter one, or take them all from the export of quotes"
            );
            return Err(invalid("interval", message));
        }
        let boundary_us = self.boundary();
        let next_us = boundary_us.map_or(next_us, |boundary_us| boundary_us.min(next_us));
        Ok(self.before(Some(next_us).filter(|next_us| *next_us < to_us)))
    }

    /// The intervals that begin before a time, where the next page begins.
    fn before(self, next_from_us: Option<i64>) -> SpreadAnswer {
        let asked = self
            .all
            .into_iter()
            .filter(|((start_us, _), _)| next_from_us.is_none_or(|next| *start_us < next));
        let told = asked.map(|((start_us, market), (end_us, partial, out_of_range_count))| ToldSpread {
            start_us,
            end_us,
            market,
            summary: partial.finish(),
            out_of_range_count,
        });
        SpreadAnswer { spreads: told.collect(), next_from_us }
    }
}

fn quote_of(row: &ColumnRow) -> Result<Quote> {
    let sequence = whole(row, QUOTES, "sequence")?.and_then(|number| u64::try_from(number).ok());
    Ok(Quote {
        time_us: row.time_ns.div_euclid(1_000),
        sequence: sequence.unwrap_or(0),
        bid: float(row, QUOTES, "bid_price")?,
        ask: float(row, QUOTES, "ask_price")?,
    })
}

fn kept(row: &ColumnRow) -> Result<KeptQuote> {
    let text = |name: &str| text(row, QUOTES, name);
    Ok(KeptQuote {
        quote: quote_of(row)?,
        market: text("market")?,
        currency: text("currency")?,
        unit: text("unit")?,
        source_system: text("source_system")?,
        sequence: whole(row, QUOTES, "sequence")?.and_then(|number| u64::try_from(number).ok()),
        tick_id: text("tick_id")?,
        received_us: whole(row, QUOTES, "received_us")?.unwrap_or(0),
        quality_flags: flags(row, QUOTES)?.into_iter().map(String::from).collect(),
    })
}

#[cfg(test)]
mod tests;
