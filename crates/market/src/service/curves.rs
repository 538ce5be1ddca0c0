//! Quotes of tenors in, curves out: what was quoted is kept, what follows from it is made when it is asked for.
//!
//! A set of quotes is an event of `pricing.curve.updates.v1` and a row. The revision of the row follows from the event and
//! its place alone ([`QuotesEvent`]), so that of two sets for one time the one that the log has last counts, however often
//! either is sent, and rows that are made again are the same.
//!
//! It refuses quotes that no curve can be made of, and a curve of a name that nobody quoted.

use kernel::{Error, ErrorCode, ErrorKind, EventDraft, Permission, Result, Scope, Timestamp, codes};
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;
use store::{Column, ColumnKind, ColumnRow, ColumnScan, ColumnTable, ColumnValue, TimeRange, Topic};

use super::{Service, nanoseconds, value, whole};
use crate::algorithms::curves::{Curve, CurveFault, Method, ParQuote};
use crate::events::{kinds, topics};

/// Nobody quoted the curve, or not until then.
pub const CURVE_NOT_FOUND: ErrorCode = ErrorCode {
    name: "CURVE_NOT_FOUND",
    kind: ErrorKind::NotFound,
    title: "Nobody quoted this curve until then",
};

/// The quotes of a curve, by its name and their time.
pub const CURVE_QUOTES: ColumnTable = ColumnTable {
    name: "curve_quotes",
    columns: &[
        Column { name: "frequency", kind: ColumnKind::Integer },
        Column { name: "quotes", kind: ColumnKind::Text },
        // What the revision is more than the place of the event; rows of earlier releases have none.
        Column { name: "base", kind: ColumnKind::Integer },
    ],
};

/// What was quoted, as it came.
pub(crate) const UPDATES: Topic = Topic::fixed(topics::CURVE_UPDATES);
const SOURCE: &str = "/api/v1/market/curves";
/// A time has one set of quotes.
const ROW: &str = "quotes";
const MOST_NAME_BYTES: usize = 100;
/// Those who lift a curve at the same time do it by the same, or by so much more that their revisions differ all the same.
const LIFT: u64 = 1 << 16;

/// One quoted tenor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TenorQuote {
    /// `1m`, `10y`.
    pub tenor: String,
    /// The par rate, a fraction of one.
    pub rate: f64,
}

/// What was quoted at one time: the data of the event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuoteSet {
    /// Of which curve.
    pub curve: String,
    /// When.
    pub as_of: Timestamp,
    /// How often a year coupons are paid.
    pub frequency: u32,
    /// By rising term.
    pub quotes: Vec<TenorQuote>,
}

/// A set of quotes on its topic.
///
/// Its revision is its offset and `base` together. As long as a curve stays in its partition, offsets grow by themselves, and
/// writers that do not know of each other get different ones. Where partitions were added the curve may go on in one that is
/// shorter: an event whose revision is not above the one that its writer saw counts for nothing, and the writer sends another
/// with a `base` that lifts it. The next writer takes the `base` over.
///
/// An event whose writer ended before it made a row is seen by nobody until rows are made again. Quotes that come later in its
/// partition are above it; where partitions were added before those, it may come back above them.
#[derive(Debug, Serialize, Deserialize)]
pub struct QuotesEvent {
    /// What was quoted.
    #[serde(flatten)]
    pub set: QuoteSet,
    /// The revision that its writer saw; missing for the first one of a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u32>,
    /// What its revision is more than its offset.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub base: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A set of quotes in its newest revision.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptQuotes {
    /// What was quoted.
    pub set: QuoteSet,
    /// Higher for one that came later.
    pub revision: u32,
}

/// The years of `3m`, `10y`, `2w` or `1d`; none for what is no tenor.
#[must_use]
pub fn years(tenor: &str) -> Option<f64> {
    let split = tenor.len().checked_sub(1).filter(|split| tenor.is_char_boundary(*split))?;
    let (number, unit) = tenor.split_at(split);
    let is_number =
        !number.is_empty() && number.len() <= 5 && number.bytes().all(|byte| byte.is_ascii_digit());
    let count: f64 = number.parse().ok().filter(|_| is_number)?;
    let in_a_year = match unit {
        "y" | "Y" => 1.0,
        "m" | "M" => 12.0,
        "w" | "W" => 52.0,
        "d" | "D" => 365.0,
        _ => return None,
    };
    Some(count / in_a_year)
}

impl QuoteSet {
    /// The curve through them.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming what is wrong with the quotes.
    pub fn curve(&self, method: Method) -> Result<Curve> {
        Curve::bootstrap(&self.par_quotes()?, self.frequency, method).map_err(|fault| {
            let field = if fault == CurveFault::Frequency { "frequency" } else { "quotes" };
            invalid(field, fault.to_string())
        })
    }

    fn par_quotes(&self) -> Result<Vec<ParQuote>> {
        let quote = |quote: &TenorQuote| {
            let term_years = years(&quote.tenor).ok_or_else(|| {
                let shown = quote.tenor.escape_debug();
                invalid("quotes", format!("`{shown}` is no tenor, such as 3m or 10y"))
            })?;
            Ok(ParQuote { term_years, rate: quote.rate })
        };
        self.quotes.iter().map(quote).collect()
    }
}

impl QuotesEvent {
    /// The revision of an event at this offset; none where it counts for nothing.
    fn revision(&self, offset: u64) -> Result<Option<u32>> {
        let revision = u32::try_from(offset).ok().and_then(|offset| offset.checked_add(self.base));
        let revision = revision.ok_or_else(|| Error::internal("the topic of curves has too many events"))?;
        Ok(Some(revision).filter(|revision| self.after.is_none_or(|after| *revision > after)))
    }
}

impl Service {
    /// Keeps a set of quotes; durable when this returns. What is there already changes nothing.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `VALIDATION_ERROR` for a name or quotes that make no curve; those of the engines: send it again.
    pub async fn quote(&self, scope: &Scope, set: QuoteSet, now: Timestamp) -> Result<KeptQuotes> {
        scope.require(Permission::Write)?;
        check_name(&set.curve)?;
        // Many long terms take a while.
        let checked = set.clone();
        let check = tokio::task::spawn_blocking(move || checked.curve(Method::default()).map(drop));
        check.await.map_err(Error::internal)??;
        let time_ns = nanoseconds(set.as_of, "as_of")?;
        let before = self.columns.revisions(scope, CURVE_QUOTES, &set.curve, time_ns, ROW).await?;
        let before = before.last().map(|row| Ok::<_, Error>((kept(row)?, base(row)?))).transpose()?;
        if let Some((before, _)) = before.as_ref().filter(|(before, _)| before.set == set) {
            return Ok(before.clone());
        }
        let (after, base) = before.map_or((None, 0), |(before, base)| (Some(before.revision), base));
        let mut event = QuotesEvent { set, after, base };
        let mut revision = event.revision(self.told(scope, &event, now).await?)?;
        if let (None, Some(after)) = (revision, after) {
            event.base = self.lifted(base, after).await?;
            revision = event.revision(self.told(scope, &event, now).await?)?;
        }
        let revision = revision.ok_or_else(|| Error::internal("the revisions of a curve are used up"))?;
        let kept = KeptQuotes { set: event.set, revision };
        if self.columns.append(scope, CURVE_QUOTES, vec![row(&kept, event.base)?]).await? == 0 {
            self.check_kept(scope, &kept).await?;
        }
        Ok(kept)
    }

    /// A base that lifts every event that comes now above the revision that was seen, and above all that were told, also where
    /// a writer ended before it made a row of its own.
    async fn lifted(&self, base: u32, after: u32) -> Result<u32> {
        let extents = self.log.extents(&UPDATES).await?;
        let end = extents.iter().map(|extent| extent.next).max().unwrap_or(0);
        let least = u64::from(base).saturating_add(end).max(u64::from(after) + 1);
        let base = least.checked_next_multiple_of(LIFT).and_then(|base| u32::try_from(base).ok());
        base.ok_or_else(|| Error::internal("the revisions of a curve are used up"))
    }

    /// Appends an event, and returns its offset.
    async fn told(&self, scope: &Scope, event: &QuotesEvent, now: Timestamp) -> Result<u64> {
        let data = to_raw_value(event).map_err(Error::internal)?;
        // Sent again by a caller it is another event: the first one may be behind others that nobody made a row of, and would
        // be taken for it.
        let id = blake3::hash(format!("{now} {}", data.get()).as_bytes()).to_hex();
        let draft = EventDraft {
            specversion: Some(kernel::SPEC_VERSION.to_owned()),
            id: Some(id[..32].to_owned()),
            source: Some(SOURCE.to_owned()),
            kind: Some(kinds::CURVE_QUOTES.to_owned()),
            subject: Some(event.set.curve.clone()),
            partitionkey: Some(event.set.curve.clone()),
            data: Some(data),
            ..EventDraft::default()
        };
        let places = self.log.append(scope, &UPDATES, vec![draft.seal(scope, now)?]).await?;
        places
            .first()
            .map(|place| place.offset)
            .ok_or_else(|| Error::internal("the log names no place of an event that it took"))
    }

    /// Whether the row of that revision is this one: while partitions are added, two writers may come to the same.
    async fn check_kept(&self, scope: &Scope, wanted: &KeptQuotes) -> Result<()> {
        let (curve, time_ns) = (&wanted.set.curve, nanoseconds(wanted.set.as_of, "as_of")?);
        let rows = self.columns.revisions(scope, CURVE_QUOTES, curve, time_ns, ROW).await?;
        let found = rows.iter().find(|row| row.revision == wanted.revision).map(kept).transpose()?;
        if found.as_ref() == Some(wanted) {
            return Ok(());
        }
        let message = "others quoted this curve meanwhile; read it, and send again what still holds";
        Err(Error::new(codes::CONFLICT, message))
    }

    /// The newest quotes of a curve at a time.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `CURVE_NOT_FOUND`; those of the engine.
    pub async fn quotes_as_of(&self, scope: &Scope, curve: &str, time: Timestamp) -> Result<KeptQuotes> {
        scope.require(Permission::Read)?;
        check_name(curve)?;
        let rows = self.columns.latest(scope, CURVE_QUOTES, &[curve], nanoseconds(time, "as_of")?).await?;
        let row = rows.first().ok_or_else(|| {
            let message = format!("`{}` was not quoted until then", curve.escape_debug());
            Error::new(CURVE_NOT_FOUND, message).with_field("name")
        })?;
        kept(row)
    }

    /// The quotes of a curve in a range of time, newest first, and the cursor of the next page.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `VALIDATION_ERROR` for a range or a cursor that is none; those of the engine.
    pub async fn quote_history(
        &self,
        scope: &Scope,
        curve: &str,
        (from, to): (Timestamp, Timestamp),
        cursor: Option<String>,
        limit: usize,
    ) -> Result<(Vec<KeptQuotes>, Option<String>)> {
        scope.require(Permission::Read)?;
        check_name(curve)?;
        let range = TimeRange { from_ns: nanoseconds(from, "from")?, to_ns: nanoseconds(to, "to")? };
        if range.to_ns < range.from_ns {
            return Err(invalid("to", "must not be before `from`"));
        }
        let scan = ColumnScan { descending: true, cursor, ..ColumnScan::new(curve, range, limit) };
        let page = self.columns.scan(scope, CURVE_QUOTES, &scan).await?;
        Ok((page.rows.iter().map(kept).collect::<Result<_>>()?, page.cursor))
    }
}

fn invalid(field: &str, message: impl Into<String>) -> Error {
    Error::new(codes::VALIDATION_ERROR, message.into()).with_field(field)
}

fn check_name(curve: &str) -> Result<()> {
    if curve.is_empty() || curve.len() > MOST_NAME_BYTES || curve.chars().any(char::is_control) {
        let message = format!("must be 1 to {MOST_NAME_BYTES} bytes without control characters");
        return Err(invalid("name", message));
    }
    Ok(())
}

/// The row of an event of the topic, at its place there, for who makes the rows again; none where it counts for nothing.
///
/// # Errors
/// Where it is no set of quotes.
pub fn row_of(event: QuotesEvent, offset: u64) -> Result<Option<ColumnRow>> {
    let Some(revision) = event.revision(offset)? else { return Ok(None) };
    row(&KeptQuotes { set: event.set, revision }, event.base).map(Some)
}

fn row(kept: &KeptQuotes, base: u32) -> Result<ColumnRow> {
    let quotes = serde_json::to_string(&kept.set.quotes).map_err(Error::internal)?;
    Ok(ColumnRow {
        series: kept.set.curve.clone(),
        time_ns: nanoseconds(kept.set.as_of, "as_of")?,
        id: ROW.to_owned(),
        revision: kept.revision,
        values: vec![
            ColumnValue::Integer(i64::from(kept.set.frequency)),
            ColumnValue::Text(quotes),
            ColumnValue::Integer(i64::from(base)),
        ],
    })
}

fn base(row: &ColumnRow) -> Result<u32> {
    let base = whole(row, CURVE_QUOTES, "base")?.unwrap_or(0);
    u32::try_from(base).map_err(|_| Error::new(codes::CORRUPTED, "a row of curves has no lawful base"))
}

/// The set of quotes that a row is.
pub(crate) fn kept(row: &ColumnRow) -> Result<KeptQuotes> {
    let damaged = || Error::new(codes::CORRUPTED, "a row of curves is no set of quotes");
    let ColumnValue::Text(quotes) = value(row, CURVE_QUOTES, "quotes")? else { return Err(damaged()) };
    let frequency = whole(row, CURVE_QUOTES, "frequency")?.and_then(|count| u32::try_from(count).ok());
    let set = QuoteSet {
        curve: row.series.clone(),
        as_of: Timestamp::from_nanosecond(i128::from(row.time_ns)).map_err(Error::internal)?,
        frequency: frequency.ok_or_else(damaged)?,
        quotes: serde_json::from_str(quotes).map_err(|cause| damaged().with_source(cause))?,
    };
    Ok(KeptQuotes { set, revision: row.revision })
}

#[cfg(test)]
mod tests;
