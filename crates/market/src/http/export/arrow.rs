//! Rows as a stream of Arrow record batches (Apache Arrow's columnar format, "IPC streaming format"), one after another; in memory
//! are the rows of one.
//!
//! Readers take a stream that lacks its end for a whole one: that an export was broken off is told by the connection alone.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field as ArrowField, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use futures::Stream;
use kernel::{Error, Result};
use store::ColumnRow;

use super::batches::{self, Batches};
use crate::service::export::{Cell, Export, ExportTable, Field, FieldKind};

const UTC: &str = "UTC";

/// The stream, piece by piece.
pub(super) fn pieces(export: Export) -> Result<impl Stream<Item = Result<Bytes>> + Send + 'static> {
    let batches = RecordBatches::new(export.table).map_err(Error::internal)?;
    Ok(batches::pieces(export, batches))
}

struct RecordBatches {
    table: &'static ExportTable,
    schema: SchemaRef,
    /// Over what was written and not sent yet.
    writer: StreamWriter<Vec<u8>>,
}

impl RecordBatches {
    fn new(table: &'static ExportTable) -> Result<Self, ArrowError> {
        let field = |field: &Field| ArrowField::new(field.name, data_type(field.kind), true);
        let schema = Arc::new(Schema::new(table.fields.iter().map(field).collect::<Vec<_>>()));
        let writer = StreamWriter::try_new(Vec::new(), &schema)?;
        Ok(Self { table, schema, writer })
    }

    fn write(&mut self, rows: &[ColumnRow]) -> Result<(), ArrowError> {
        let columns = self.table.fields.iter().map(|field| column(self.table, field, rows)).collect();
        self.writer.write(&RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    fn unsent(&mut self) -> Bytes {
        Bytes::from(std::mem::take(self.writer.get_mut()))
    }
}

impl Batches for RecordBatches {
    fn batch(&mut self, rows: &[ColumnRow]) -> Result<Bytes> {
        self.write(rows).map_err(Error::internal)?;
        Ok(self.unsent())
    }

    fn end(mut self, rows: &[ColumnRow]) -> Result<Bytes> {
        if !rows.is_empty() {
            self.write(rows).map_err(Error::internal)?;
        }
        self.writer.finish().map_err(Error::internal)?;
        Ok(self.unsent())
    }
}

fn data_type(kind: FieldKind) -> DataType {
    match kind {
        FieldKind::Text => DataType::Utf8,
        FieldKind::Float => DataType::Float64,
        FieldKind::Integer => DataType::Int64,
        FieldKind::Time => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
    }
}

/// A column of some rows. What is missing is null.
fn column(table: &ExportTable, field: &Field, rows: &[ColumnRow]) -> ArrayRef {
    let cells = rows.iter().map(|row| table.cell(row, field));
    let whole = |cell| match cell {
        Cell::Integer(number) | Cell::Time(number) => Some(number),
        _ => None,
    };
    match field.kind {
        FieldKind::Text => {
            let text = |cell| if let Cell::Text(text) = cell { Some(text) } else { None };
            Arc::new(cells.map(text).collect::<StringArray>())
        }
        FieldKind::Float => {
            let number = |cell| if let Cell::Float(number) = cell { Some(number) } else { None };
            Arc::new(cells.map(number).collect::<Float64Array>())
        }
        FieldKind::Integer => Arc::new(cells.map(whole).collect::<Int64Array>()),
        FieldKind::Time => {
            Arc::new(cells.map(whole).collect::<TimestampMicrosecondArray>().with_timezone(UTC))
        }
    }
}
