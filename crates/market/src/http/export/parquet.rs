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
use futures::{Stream, stream};
use kernel::{Error, Result};
use parking_lot::Mutex;
use store::ColumnRow;

use crate::service::export::{Cell, Export, ExportTable, FieldKind};

/// Tests have few.
const GROUP_ROWS: usize = if cfg!(test) { 2 } else { 8_192 };

/// The file, piece by piece.
pub(super) fn pieces(export: Export) -> Result<impl Stream<Item = Result<Bytes>> + Send + 'static> {
    let file = File::new(export.table).map_err(Error::internal)?;
    Ok(stream::try_unfold(Some((export, file)), |begun| async move {
        let Some((mut export, mut file)) = begun else { return Ok(None) };
        while file.rows.len() < GROUP_ROWS {
            match export.next().await? {
                Some(rows) => file.rows.extend(rows),
                None => {
                    let end = tokio::task::spawn_blocking(move || file.end());
                    return Ok(Some((end.await.map_err(Error::internal)??, None)));
                }
            }
        }
        let group = tokio::task::spawn_blocking(move || file.group().map(|piece| (piece, file)));
        let (piece, file) = group.await.map_err(Error::internal)??;
        Ok(Some((piece, Some((export, file)))))
    }))
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
    rows: Vec<ColumnRow>,
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
        Ok(Self { table, writer, unsent, rows: Vec::new() })
    }

    fn group(&mut self) -> Result<Bytes> {
        let rows = std::mem::take(&mut self.rows);
        write_group(&mut self.writer, self.table, &rows).map_err(Error::internal)?;
        Ok(self.unsent.take())
    }

    fn end(mut self) -> Result<Bytes> {
        let rows = std::mem::take(&mut self.rows);
        if !rows.is_empty() {
            write_group(&mut self.writer, self.table, &rows).map_err(Error::internal)?;
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    use ::parquet::record::RowAccessor;
    use futures::TryStreamExt;
    use kernel::Timestamp;

    use super::super::{Format, text};
    use super::*;
    use crate::MarketSettings;
    use crate::tests::{Desk, MINUTE_MS, START_MS, scope};

    async fn whole(pieces: impl Stream<Item = Result<Bytes>>) -> Vec<u8> {
        let pieces: Vec<Bytes> = pieces.try_collect().await.unwrap();
        pieces.concat()
    }

    async fn traded() -> Desk {
        let mut desk = Desk::new(2, &MarketSettings::default());
        for sequence in 0..5_i64 {
            for symbol in ["HUB", "ZONE"] {
                let message = serde_json::json!({
                    "source_system": "f, \"x\"", "symbol": symbol, "sequence": sequence, "price": -36.98 + sequence as f64,
                    "volume": 2, "timestamp": START_MS + sequence * 10 * MINUTE_MS,
                });
                desk.send("desk", &message).await.unwrap();
            }
        }
        desk.run().await;
        desk
    }

    fn all_time() -> (Timestamp, Timestamp) {
        (Timestamp::UNIX_EPOCH, "2100-01-01T00:00:00Z".parse().unwrap())
    }

    #[tokio::test]
    async fn every_format_has_the_same_rows() {
        let desk = traded().await;
        let service = desk.service();
        for (name, least) in [("prices", 10), ("bars_5m", 2), ("bars_1d", 0)] {
            let table = ExportTable::named(name).unwrap();
            let export = || service.export(&scope("desk"), table, BTreeSet::new(), all_time()).unwrap();
            let lines = String::from_utf8(whole(text::pieces(export(), Format::Ndjson)).await).unwrap();
            let lines: Vec<serde_json::Value> =
                lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert!(lines.len() >= least, "{name}: {lines:?}");

            let bytes = whole(text::pieces(export(), Format::Csv)).await;
            let mut reader = csv::Reader::from_reader(bytes.as_slice());
            let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
            let expected: Vec<&str> = table.fields.iter().map(|field| field.name).collect();
            assert_eq!(header, expected);
            let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
            assert_eq!(rows.len(), lines.len());

            let bytes = Bytes::from(whole(pieces(export()).unwrap()).await);
            let file = SerializedFileReader::new(bytes).unwrap();
            assert!(name != "prices" || file.num_row_groups() > 1);
            let told: Vec<_> = file.get_row_iter(None).unwrap().map(Result::unwrap).collect();
            assert_eq!(told.len(), lines.len());
            for ((line, row), kept) in lines.iter().zip(&rows).zip(&told) {
                for (place, field) in table.fields.iter().enumerate() {
                    let (value, cell) = (&line[field.name], &row[place]);
                    let same = match field.kind {
                        _ if value.is_null() => {
                            cell.is_empty()
                                && kept.get_column_iter().nth(place).unwrap().1.to_string() == "null"
                        }
                        FieldKind::Text => value == cell && kept.get_string(place).unwrap() == cell,
                        FieldKind::Float => {
                            value.as_f64() == cell.parse().ok()
                                && value.as_f64() == kept.get_double(place).ok()
                        }
                        FieldKind::Integer => {
                            value.as_i64() == cell.parse().ok() && value.as_i64() == kept.get_long(place).ok()
                        }
                        FieldKind::Time => {
                            let time: Timestamp = cell.parse().unwrap();
                            value == cell
                                && kept.get_timestamp_micros(place).unwrap() == time.as_microsecond()
                        }
                    };
                    assert!(same, "{name}.{}: {value} {cell:?} {kept}", field.name);
                }
            }
        }
        let bytes = Bytes::from(
            whole(
                pieces(
                    service
                        .export(
                            &scope("other"),
                            ExportTable::named("prices").unwrap(),
                            BTreeSet::new(),
                            all_time(),
                        )
                        .unwrap(),
                )
                .unwrap(),
            )
            .await,
        );
        let file = SerializedFileReader::new(bytes).unwrap();
        assert_eq!(file.get_row_iter(None).unwrap().count(), 0, "another tenant has none");
    }

    #[tokio::test]
    async fn an_export_is_of_what_was_asked() {
        let desk = traded().await;
        let service = desk.service();
        let prices = ExportTable::named("prices").unwrap();
        let one = BTreeSet::from(["ZONE".to_owned()]);
        let middle = |minute: i64| Timestamp::from_millisecond(START_MS + minute * MINUTE_MS).unwrap();
        let mut export = service.export(&scope("desk"), prices, one, (middle(10), middle(30))).unwrap();
        let rows = export.next().await.unwrap().unwrap();
        assert_eq!(rows.iter().map(|row| row.series.as_str()).collect::<Vec<_>>(), ["ZONE"; 2]);
        assert!(export.next().await.unwrap().is_none());
        let refused = |instruments: &[&str], range| {
            let instruments = instruments.iter().map(|id| (*id).to_owned()).collect();
            service.export(&scope("desk"), prices, instruments, range).unwrap_err().code().name
        };
        assert_eq!(refused(&["ZONE", "NOWHERE"], all_time()), "INSTRUMENT_NOT_FOUND");
        assert_eq!(refused(&[], (middle(1), middle(0))), "VALIDATION_ERROR");
        assert_eq!(ExportTable::named("ticks").unwrap_err().field(), Some("table"));
    }
}
