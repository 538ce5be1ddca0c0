//! Rows as text: lines of JSON, or CSV. Times are RFC 3339 in UTC; what is missing is null, or empty.

use bytes::Bytes;
use futures::{Stream, stream};
use kernel::{Error, Result};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use store::ColumnRow;

use super::Format;
use crate::events::moment;
use crate::service::export::{Cell, Export, ExportTable};

/// The text, piece by piece.
pub(super) fn pieces(export: Export, format: Format) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
    stream::try_unfold((export, true), move |(mut export, is_first)| async move {
        let Some(rows) = export.next().await? else {
            let is_headless = is_first && format == Format::Csv;
            let head = is_headless.then(|| csv(export.table, &[], true)).transpose()?;
            return Ok(head.map(|head| (Bytes::from(head), (export, false))));
        };
        let text = match format {
            Format::Csv => csv(export.table, &rows, is_first)?,
            Format::Ndjson | Format::Parquet | Format::Arrow => ndjson(export.table, &rows)?,
        };
        Ok(Some((Bytes::from(text), (export, false))))
    })
}

fn csv(table: &ExportTable, rows: &[ColumnRow], has_header: bool) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    if has_header {
        writer.write_record(table.fields.iter().map(|field| field.name)).map_err(Error::internal)?;
    }
    for row in rows {
        let cells = table.fields.iter().map(|field| match table.cell(row, field) {
            Cell::Missing => String::new(),
            Cell::Text(text) => text.to_owned(),
            Cell::Float(number) => number.to_string(),
            Cell::Integer(number) => number.to_string(),
            Cell::Time(time_us) => moment(time_us).to_string(),
        });
        writer.write_record(cells).map_err(Error::internal)?;
    }
    writer.into_inner().map_err(|fault| Error::internal(fault.into_error()))
}

fn ndjson(table: &ExportTable, rows: &[ColumnRow]) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut text, &Line { table, row }).map_err(Error::internal)?;
        text.push(b'\n');
    }
    Ok(text)
}

struct Line<'a> {
    table: &'a ExportTable,
    row: &'a ColumnRow,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.table.fields.len()))?;
        for field in self.table.fields {
            match self.table.cell(self.row, field) {
                Cell::Missing => map.serialize_entry(field.name, &())?,
                Cell::Text(text) => map.serialize_entry(field.name, text)?,
                Cell::Float(number) => map.serialize_entry(field.name, &number)?,
                Cell::Integer(number) => map.serialize_entry(field.name, &number)?,
                Cell::Time(time_us) => map.serialize_entry(field.name, &moment(time_us))?,
            }
        }
        map.end()
    }
}
