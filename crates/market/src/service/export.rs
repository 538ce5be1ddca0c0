//! Prices, quotes and bars of a range, of one instrument after another: everything that was told, for who takes it all away.
//!
//! Rows are read in pages while they are taken, each in its newest revision; a bar that was not told yet is not among them.
//! To add a table: an [`ExportTable`]. To add a column: a line in its fields, at the end.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use kernel::{Error, Permission, Result, Scope, Timestamp, codes};
use store::{ColumnRow, ColumnScan, ColumnTable, ColumnValue, Columns, TimeRange};

use super::{Service, instrument_not_found, nanoseconds};
use crate::projection::{NO_MARKET, PRICES, QUOTES, is_withdrawn};
use crate::topology::BAR_KINDS;

const ROWS_AT_ONCE: usize = 2_000;

/// What an export is of.
#[derive(Debug, Clone, Copy)]
pub struct ExportTable {
    /// As callers name it.
    pub name: &'static str,
    /// Its columns.
    pub fields: &'static [Field],
    table: ColumnTable,
}

/// A column of an export.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: FieldKind,
    place: Place,
}

/// What a column of an export holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// A text.
    Text,
    /// A number in double precision.
    Float,
    /// A whole number.
    Integer,
    /// A moment, to the microsecond.
    Time,
}

/// Where a value stands in a row.
#[derive(Debug, Clone, Copy)]
enum Place {
    Series,
    Time,
    Market,
    Revision,
    Column(&'static str),
}

/// A value of an export.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    /// None.
    Missing,
    /// Of [`FieldKind::Text`].
    Text(&'a str),
    /// Of [`FieldKind::Float`].
    Float(f64),
    /// Of [`FieldKind::Integer`].
    Integer(i64),
    /// Of [`FieldKind::Time`], microseconds since 1970.
    Time(i64),
}

const fn field(name: &'static str, kind: FieldKind, place: Place) -> Field {
    Field { name, kind, place }
}

const fn column(name: &'static str, kind: FieldKind) -> Field {
    field(name, kind, Place::Column(name))
}

const PRICE_FIELDS: &[Field] = &[
    field("instrument_id", FieldKind::Text, Place::Series),
    field("occurred_at", FieldKind::Time, Place::Time),
    column("price", FieldKind::Float),
    column("volume", FieldKind::Float),
    column("bid_price", FieldKind::Float),
    column("ask_price", FieldKind::Float),
    column("market", FieldKind::Text),
    column("currency", FieldKind::Text),
    column("unit", FieldKind::Text),
    column("source_system", FieldKind::Text),
    column("sequence", FieldKind::Integer),
    column("tick_id", FieldKind::Text),
    field("received_at", FieldKind::Time, Place::Column("received_us")),
    column("quality_flags", FieldKind::Text),
    field("revision", FieldKind::Integer, Place::Revision),
];

const QUOTE_FIELDS: &[Field] = &[
    field("instrument_id", FieldKind::Text, Place::Series),
    field("occurred_at", FieldKind::Time, Place::Time),
    column("bid_price", FieldKind::Float),
    column("ask_price", FieldKind::Float),
    column("market", FieldKind::Text),
    column("currency", FieldKind::Text),
    column("unit", FieldKind::Text),
    column("source_system", FieldKind::Text),
    column("sequence", FieldKind::Integer),
    column("tick_id", FieldKind::Text),
    field("received_at", FieldKind::Time, Place::Column("received_us")),
    column("quality_flags", FieldKind::Text),
    field("revision", FieldKind::Integer, Place::Revision),
];

const BAR_FIELDS: &[Field] = &[
    field("instrument_id", FieldKind::Text, Place::Series),
    field("market", FieldKind::Text, Place::Market),
    field("interval_start", FieldKind::Time, Place::Time),
    field("interval_end", FieldKind::Time, Place::Column("interval_end_us")),
    field("open", FieldKind::Float, Place::Column("open_price")),
    field("high", FieldKind::Float, Place::Column("high_price")),
    field("low", FieldKind::Float, Place::Column("low_price")),
    field("close", FieldKind::Float, Place::Column("close_price")),
    column("volume", FieldKind::Float),
    column("vwap", FieldKind::Float),
    column("trade_count", FieldKind::Integer),
    field("revision", FieldKind::Integer, Place::Revision),
];

/// All of them.
pub static TABLES: [ExportTable; 5] = [
    ExportTable { name: "prices", fields: PRICE_FIELDS, table: PRICES },
    ExportTable { name: "quotes", fields: QUOTE_FIELDS, table: QUOTES },
    ExportTable { name: "bars_5m", fields: BAR_FIELDS, table: BAR_KINDS[0].table },
    ExportTable { name: "bars_1h", fields: BAR_FIELDS, table: BAR_KINDS[1].table },
    ExportTable { name: "bars_1d", fields: BAR_FIELDS, table: BAR_KINDS[2].table },
];

impl ExportTable {
    /// The one of a name.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming `table`.
    pub fn named(name: &str) -> Result<&'static Self> {
        TABLES.iter().find(|table| table.name == name).ok_or_else(|| {
            let names = TABLES.map(|table| table.name).join(", ");
            let message = format!("`{}` is not one of {names}", name.escape_debug());
            Error::new(codes::VALIDATION_ERROR, message).with_field("table")
        })
    }

    /// The value of a row in a column.
    #[must_use]
    pub fn cell<'a>(&self, row: &'a ColumnRow, field: &Field) -> Cell<'a> {
        let name = match field.place {
            Place::Series => return Cell::Text(&row.series),
            Place::Time => return Cell::Time(row.time_ns.div_euclid(1_000)),
            Place::Market => return Cell::Text(if row.id == NO_MARKET { "" } else { &row.id }),
            Place::Revision => return Cell::Integer(i64::from(row.revision)),
            Place::Column(name) => name,
        };
        let value = self.table.columns.iter().zip(&row.values).find(|(column, _)| column.name == name);
        match value.map(|(_, value)| value) {
            None | Some(ColumnValue::Missing) => Cell::Missing,
            Some(ColumnValue::Text(text)) => Cell::Text(text),
            Some(ColumnValue::Float(number)) => Cell::Float(*number),
            Some(ColumnValue::Integer(number)) if field.kind == FieldKind::Time => Cell::Time(*number),
            Some(ColumnValue::Integer(number)) => Cell::Integer(*number),
        }
    }
}

/// An export that is under way.
#[derive(Debug)]
pub struct Export {
    /// What of.
    pub table: &'static ExportTable,
    columns: Arc<dyn Columns>,
    scope: Scope,
    range: TimeRange,
    instruments: VecDeque<String>,
    scan: Option<ColumnScan>,
}

impl Service {
    /// Everything of a range, of these instruments, or of all that there are now.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `VALIDATION_ERROR` for a range that is none; `INSTRUMENT_NOT_FOUND`.
    pub fn export(
        &self,
        scope: &Scope,
        table: &'static ExportTable,
        instruments: BTreeSet<String>,
        (from, to): (Timestamp, Timestamp),
    ) -> Result<Export> {
        scope.require(Permission::Read)?;
        let range = TimeRange { from_ns: nanoseconds(from, "from")?, to_ns: nanoseconds(to, "to")? };
        if range.to_ns < range.from_ns {
            let message = "must not be before `from`";
            return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("to"));
        }
        let instruments = self.views.of(scope.tenant(), |view| {
            if instruments.is_empty() {
                return Ok(view.after(None).map(|(id, _)| id.to_owned()).collect());
            }
            match instruments.iter().find(|id| view.instrument(id).is_none()) {
                Some(unknown) => Err(instrument_not_found(unknown)),
                None => Ok(instruments.into_iter().collect()),
            }
        })?;
        let columns = Arc::clone(&self.columns);
        Ok(Export { table, columns, scope: scope.clone(), range, instruments, scan: None })
    }
}

impl Export {
    /// The next rows, maybe none of them; nothing at the end.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn next(&mut self) -> Result<Option<Vec<ColumnRow>>> {
        let scan = match self.scan.take() {
            Some(scan) => scan,
            None => match self.instruments.pop_front() {
                Some(instrument) => ColumnScan::new(instrument, self.range, ROWS_AT_ONCE),
                None => return Ok(None),
            },
        };
        let mut page = self.columns.scan(&self.scope, self.table.table, &scan).await?;
        self.scan = page.cursor.map(|cursor| ColumnScan { cursor: Some(cursor), ..scan });
        page.rows.retain(|row| !is_withdrawn(row));
        Ok(Some(page.rows))
    }
}
