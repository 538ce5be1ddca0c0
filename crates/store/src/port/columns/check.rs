//! What no engine needs to know to hold: names, kinds, lengths, finite numbers.

use std::collections::HashSet;

use kernel::{Error, Result, codes};

use super::{
    Column, ColumnKind, ColumnRow, ColumnTable, ColumnValue, MAX_APPEND_BYTES, MAX_APPEND_ROWS, MAX_COLUMNS,
    MAX_SERIES, MAX_SERIES_BYTES, MAX_TEXT_BYTES, MAX_TIME_NS, TimeRange,
};

const MAX_NAME_BYTES: usize = 40;

pub(super) fn invalid(field: &str, message: impl Into<String>) -> Error {
    Error::new(codes::VALIDATION_ERROR, message).with_field(field)
}

fn is_name(name: &str) -> bool {
    let is_lawful = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(is_lawful)
}

/// Checks the name of a series or an id.
pub(super) fn check_text(field: &str, text: &str) -> Result<()> {
    if text.is_empty() || text.len() > MAX_SERIES_BYTES || text.contains('\0') {
        let message = format!("must have 1 to {MAX_SERIES_BYTES} bytes without U+0000, not {}", text.len());
        return Err(invalid(field, message));
    }
    Ok(())
}

/// Checks a time.
pub(super) fn check_time(field: &str, time_ns: i64) -> Result<()> {
    if (-MAX_TIME_NS..=MAX_TIME_NS).contains(&time_ns) {
        return Ok(());
    }
    Err(invalid(field, format!("must be a time of the years 1685 to 2255, not {time_ns} ns")))
}

impl ColumnTable {
    /// Checks the declaration itself. Every engine calls it, in each method.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a bad name, a name that is given twice, or too few or too many columns.
    pub fn check(&self) -> Result<()> {
        if !is_name(self.name) {
            return Err(invalid("table", format!("`{}` is no name of a table", self.name.escape_debug())));
        }
        if self.columns.is_empty() || self.columns.len() > MAX_COLUMNS {
            return Err(invalid("columns", format!("a table has 1 to {MAX_COLUMNS} columns")));
        }
        let mut seen = HashSet::new();
        for column in self.columns {
            if !is_name(column.name) || !seen.insert(column.name) {
                let message =
                    format!("`{}` is no name of a column, or given twice", column.name.escape_debug());
                return Err(invalid("columns", message));
            }
        }
        Ok(())
    }

    /// The place of a column, by its name.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` when the table has none of that name.
    pub fn place(&self, name: &str) -> Result<usize> {
        let found = self.columns.iter().position(|column| column.name == name);
        let message = || format!("table `{}` has no column `{}`", self.name, name.escape_debug());
        found.ok_or_else(|| invalid("columns", message()))
    }

    /// Checks the declaration and every row of an append. Every engine calls it before it writes.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the row and the column; `TOO_LARGE` for too many rows or bytes.
    pub fn check_rows(&self, rows: &[ColumnRow]) -> Result<()> {
        self.check()?;
        if rows.len() > MAX_APPEND_ROWS {
            let message = format!("an append has at most {MAX_APPEND_ROWS} rows, not {}", rows.len());
            return Err(Error::new(codes::TOO_LARGE, message));
        }
        let mut bytes = 0;
        for (number, row) in rows.iter().enumerate() {
            self.check_row(row).map_err(|error| {
                let field = error.field().unwrap_or("row").to_owned();
                invalid(&field, format!("row {number}: `{field}` {}", error.message()))
            })?;
            bytes += row.bytes();
        }
        if bytes > MAX_APPEND_BYTES {
            let message = format!("the rows of an append have at most {MAX_APPEND_BYTES} bytes, not {bytes}");
            return Err(Error::new(codes::TOO_LARGE, message));
        }
        Ok(())
    }

    fn check_row(&self, row: &ColumnRow) -> Result<()> {
        check_text("series", &row.series)?;
        check_text("id", &row.id)?;
        check_time("time_ns", row.time_ns)?;
        if i32::try_from(row.revision).is_err() {
            return Err(invalid("revision", format!("must be at most {}", i32::MAX)));
        }
        if row.values.len() != self.columns.len() {
            let message =
                format!("must be {} of `{}`, not {}", self.columns.len(), self.name, row.values.len());
            return Err(invalid("values", message));
        }
        self.columns.iter().zip(&row.values).try_for_each(|(column, value)| column.check(value))
    }

    /// Checks what names a row.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the part.
    pub fn check_row_name(&self, series: &str, time_ns: i64, id: &str) -> Result<()> {
        self.check()?;
        check_text("series", series)?;
        check_time("time_ns", time_ns)?;
        check_text("id", id)
    }

    /// Checks a request for the last rows of series.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for too many, a bad name, or one that is named twice.
    pub fn check_latest(&self, series: &[&str], as_of_ns: i64) -> Result<()> {
        self.check()?;
        check_time("as_of_ns", as_of_ns)?;
        if series.len() > MAX_SERIES {
            return Err(invalid("series", format!("at most {MAX_SERIES} are asked for at once")));
        }
        let mut seen = HashSet::new();
        for name in series {
            check_text("series", name)?;
            if !seen.insert(name) {
                return Err(invalid("series", format!("`{}` is named twice", name.escape_debug())));
            }
        }
        Ok(())
    }

    /// Checks a list of series.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a limit that is not 1 to 1,000, or what cannot name a series.
    pub fn check_series(&self, after: Option<&str>, limit: usize) -> Result<()> {
        self.check()?;
        if limit == 0 || limit > MAX_SERIES {
            return Err(invalid("limit", format!("a list has 1 to {MAX_SERIES} series")));
        }
        after.map_or(Ok(()), |after| check_text("after", after))
    }

    /// Checks what is to be removed.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a bad range, or what cannot name a series.
    pub fn check_delete(&self, series: Option<&str>, range: TimeRange) -> Result<()> {
        self.check()?;
        range.check()?;
        series.map_or(Ok(()), |series| check_text("series", series))
    }
}

impl Column {
    fn check(&self, value: &ColumnValue) -> Result<()> {
        let wanted = match (self.kind, value) {
            (_, ColumnValue::Missing) | (ColumnKind::Integer, ColumnValue::Integer(_)) => return Ok(()),
            (ColumnKind::Float, ColumnValue::Float(number)) if number.is_finite() => return Ok(()),
            (ColumnKind::Text, ColumnValue::Text(text))
                if text.len() <= MAX_TEXT_BYTES && !text.contains('\0') =>
            {
                return Ok(());
            }
            (ColumnKind::Float, _) => "must be a finite number".to_owned(),
            (ColumnKind::Integer, _) => "must be a whole number".to_owned(),
            (ColumnKind::Text, _) => {
                format!("must be a text of at most {MAX_TEXT_BYTES} bytes without U+0000")
            }
        };
        Err(invalid(self.name, wanted))
    }
}

impl ColumnRow {
    /// About how many bytes it has.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of = |value: &ColumnValue| match value {
            ColumnValue::Text(text) => text.len(),
            _ => 8,
        };
        self.series.len() + self.id.len() + 16 + self.values.iter().map(of).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        Column { name: "price", kind: ColumnKind::Float },
        Column { name: "trades", kind: ColumnKind::Integer },
        Column { name: "venue", kind: ColumnKind::Text },
    ];
    const TICKS: ColumnTable = ColumnTable { name: "ticks", columns: COLUMNS };

    #[test]
    fn rows_are_checked_by_number_and_column() {
        let good = ColumnRow {
            series: "WTI".to_owned(),
            time_ns: 0,
            id: "1".to_owned(),
            revision: 0,
            values: vec![ColumnValue::Float(-36.98), ColumnValue::Missing, ColumnValue::Text("x".to_owned())],
        };
        let check = |row: ColumnRow, field: Option<&str>| {
            let error = TICKS.check_rows(&[good.clone(), row]).err();
            assert_eq!(error.as_ref().and_then(Error::field), field, "{error:?}");
            assert!(error.is_none_or(|error| error.message().starts_with("row 1: ")));
        };
        let with = |place: usize, value: ColumnValue| {
            let mut row = good.clone();
            row.values[place] = value;
            row
        };
        check(good.clone(), None);
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            check(with(0, ColumnValue::Float(bad)), Some("price"));
        }
        check(with(0, ColumnValue::Integer(1)), Some("price"));
        check(with(1, ColumnValue::Float(1.0)), Some("trades"));
        check(with(2, ColumnValue::Text("a\0".to_owned())), Some("venue"));
        check(with(2, ColumnValue::Text("x".repeat(MAX_TEXT_BYTES + 1))), Some("venue"));
        check(ColumnRow { series: String::new(), ..good.clone() }, Some("series"));
        check(ColumnRow { id: "x".repeat(257), ..good.clone() }, Some("id"));
        check(ColumnRow { time_ns: i64::MIN, ..good.clone() }, Some("time_ns"));
        check(ColumnRow { revision: u32::MAX, ..good.clone() }, Some("revision"));
        check(ColumnRow { values: Vec::new(), ..good.clone() }, Some("values"));
        let many = vec![good; MAX_APPEND_ROWS + 1];
        assert_eq!(TICKS.check_rows(&many).unwrap_err().code(), codes::TOO_LARGE);
    }

    #[test]
    fn declarations_are_checked() {
        let check = |table: ColumnTable, field: Option<&str>| {
            assert_eq!(table.check().err().as_ref().and_then(Error::field), field, "{table:?}");
        };
        check(TICKS, None);
        check(ColumnTable { name: "Ticks", ..TICKS }, Some("table"));
        check(ColumnTable { name: "", ..TICKS }, Some("table"));
        check(ColumnTable { columns: &[], ..TICKS }, Some("columns"));
        const PRICE: Column = COLUMNS[0];
        check(ColumnTable { columns: &[PRICE, PRICE], ..TICKS }, Some("columns"));
        const QUOTED: Column = Column { name: "a\"b", kind: ColumnKind::Text };
        check(ColumnTable { columns: &[QUOTED], ..TICKS }, Some("columns"));
    }
}
