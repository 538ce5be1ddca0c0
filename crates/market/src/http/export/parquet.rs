//! Rows as a Parquet file that is sent while it is written: a row group at a time, and what readers begin with at the end.
//!
//! In memory are the rows of one group, and some hundred bytes for each column of each group that went before.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;

use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::column::writer::ColumnWriter;
use ::parquet::data_type::ByteArray;
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::{EnabledStatistics, WriterProperties};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use bytes::Bytes;
use futures::Stream;
use kernel::{Error, Result};
use parking_lot::Mutex;
use store::ColumnRow;

use super::batches::{self, Batches};
use crate::service::export::{Cell, Export, ExportTable, FieldKind};

/// The file, piece by piece.
pub(super) fn pieces(export: Export) -> Result<impl Stream<Item = Result<Bytes>> + Send + 'static> {
    let file = File::new(export.table).map_err(Error::internal)?;
    Ok(batches::pieces(export, file))
}

/// What was written and not sent yet.
#[derive(Debug, Clone, Default)]
struct Unsent(Arc<Mutex<Vec<u8>>>);

impl Write for Unsent {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Unsent {
    fn take(&self) -> Bytes {
        Bytes::from(std::mem::take(&mut *self.0.lock()))
    }
}

struct File {
    table: &'static ExportTable,
    writer: SerializedFileWriter<Unsent>,
    unsent: Unsent,
}

impl File {
    fn new(table: &'static ExportTable) -> Result<Self, ParquetError> {
        let schema = Arc::new(parse_message_type(&schema(table))?);
        // Indices of pages would be kept until the end.
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .build();
        let unsent = Unsent::default();
        let writer = SerializedFileWriter::new(unsent.clone(), schema, Arc::new(properties))?;
        Ok(Self { table, writer, unsent })
    }
}

impl Batches for File {
    fn batch(&mut self, rows: &[ColumnRow]) -> Result<Bytes> {
        write_group(&mut self.writer, self.table, rows).map_err(Error::internal)?;
        Ok(self.unsent.take())
    }

    fn end(mut self, rows: &[ColumnRow]) -> Result<Bytes> {
        if !rows.is_empty() {
            write_group(&mut self.writer, self.table, rows).map_err(Error::internal)?;
        }
        self.writer.finish().map_err(Error::internal)?;
        Ok(self.unsent.take())
    }
}

fn schema(table: &ExportTable) -> String {
    let mut text = format!("message {} {{", table.name);
    for field in table.fields {
        let kind = match field.kind {
            FieldKind::Text => ("byte_array", " (STRING)"),
            FieldKind::Float => ("double", ""),
            FieldKind::Integer => ("int64", ""),
            FieldKind::Time => ("int64", " (TIMESTAMP(MICROS,true))"),
        };
        let _ = write!(text, " optional {} {}{};", kind.0, field.name, kind.1);
    }
    text + " }"
}

fn write_group(
    writer: &mut SerializedFileWriter<Unsent>,
    table: &ExportTable,
    rows: &[ColumnRow],
) -> Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    for field in table.fields {
        let missing = || ParquetError::General(format!("there is no column for `{}`", field.name));
        let mut column = group.next_column()?.ok_or_else(missing)?;
        let cells = || rows.iter().map(|row| table.cell(row, field));
        let levels: Vec<i16> = cells().map(|cell| i16::from(cell != Cell::Missing)).collect();
        match column.untyped() {
            ColumnWriter::ByteArrayColumnWriter(column) => {
                let text =
                    |cell| if let Cell::Text(text) = cell { Some(ByteArray::from(text)) } else { None };
                column.write_batch(&cells().filter_map(text).collect::<Vec<_>>(), Some(&levels), None)?;
            }
            ColumnWriter::DoubleColumnWriter(column) => {
                let number = |cell| if let Cell::Float(number) = cell { Some(number) } else { None };
                column.write_batch(&cells().filter_map(number).collect::<Vec<_>>(), Some(&levels), None)?;
            }
            ColumnWriter::Int64ColumnWriter(column) => {
                let whole = |cell| match cell {
                    Cell::Integer(number) | Cell::Time(number) => Some(number),
                    _ => None,
                };
                column.write_batch(&cells().filter_map(whole).collect::<Vec<_>>(), Some(&levels), None)?;
            }
            _ => return Err(missing()),
        }
        column.close()?;
    }
    group.close().map(drop)
}
