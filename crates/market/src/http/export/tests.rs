//! Exports of a desk over engines in memory, read back by the readers of each format.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::RowAccessor;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_ipc::reader::StreamReader;
use arrow_schema::DataType;
use async_trait::async_trait;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use kernel::{Error, Result, Timestamp, codes};
use serde_json::Value;

use super::{Format, arrow, parquet, text};
use crate::MarketSettings;
use crate::service::export::{ExportTable, FieldKind, TABLES};
use crate::tests::meddled::{Meddled, Meddler};
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
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines.len() >= least, "{name}: {lines:?}");

        let bytes = whole(text::pieces(export(), Format::Csv)).await;
        let mut reader = csv::Reader::from_reader(bytes.as_slice());
        let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
        let expected: Vec<&str> = table.fields.iter().map(|field| field.name).collect();
        assert_eq!(header, expected);
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), lines.len());

        let bytes = Bytes::from(whole(parquet::pieces(export()).unwrap()).await);
        let file = SerializedFileReader::new(bytes).unwrap();
        assert!(name != "prices" || file.num_row_groups() > 1);
        let told: Vec<_> = file.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(told.len(), lines.len());
        for ((line, row), kept) in lines.iter().zip(&rows).zip(&told) {
            for (place, field) in table.fields.iter().enumerate() {
                let (value, cell) = (&line[field.name], &row[place]);
                let same = match field.kind {
                    _ if value.is_null() => {
                        cell.is_empty() && kept.get_column_iter().nth(place).unwrap().1.to_string() == "null"
                    }
                    FieldKind::Text => value == cell && kept.get_string(place).unwrap() == cell,
                    FieldKind::Float => {
                        value.as_f64() == cell.parse().ok() && value.as_f64() == kept.get_double(place).ok()
                    }
                    FieldKind::Integer => {
                        value.as_i64() == cell.parse().ok() && value.as_i64() == kept.get_long(place).ok()
                    }
                    FieldKind::Time => {
                        let time: Timestamp = cell.parse().unwrap();
                        value == cell && kept.get_timestamp_micros(place).unwrap() == time.as_microsecond()
                    }
                };
                assert!(same, "{name}.{}: {value} {cell:?} {kept}", field.name);
            }
        }
    }
    let none = || {
        let prices = ExportTable::named("prices").unwrap();
        service.export(&scope("other"), prices, BTreeSet::new(), all_time()).unwrap()
    };
    let bytes = Bytes::from(whole(parquet::pieces(none()).unwrap()).await);
    let file = SerializedFileReader::new(bytes).unwrap();
    assert_eq!(file.get_row_iter(None).unwrap().count(), 0, "another tenant has none");
    let bytes = whole(arrow::pieces(none()).unwrap()).await;
    let mut reader = StreamReader::try_new(bytes.as_slice(), None).unwrap();
    assert_eq!(reader.schema().fields().len(), 15, "what there would be is told all the same");
    assert!(reader.next().is_none());
}

/// The value of a row of an Arrow column, as lines of JSON have it.
fn arrow_value(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Utf8 => Value::from(column.as_string::<i32>().value(row)),
        DataType::Float64 => Value::from(column.as_primitive::<Float64Type>().value(row)),
        DataType::Int64 => Value::from(column.as_primitive::<Int64Type>().value(row)),
        DataType::Timestamp(_, zone) => {
            assert_eq!(zone.as_deref(), Some("UTC"));
            let time_us = column.as_primitive::<TimestampMicrosecondType>().value(row);
            Value::from(Timestamp::from_microsecond(time_us).unwrap().to_string())
        }
        other => panic!("{other} is no type of an export"),
    }
}

#[tokio::test]
async fn an_arrow_stream_has_the_rows_of_the_lines() {
    let desk = traded().await;
    let service = desk.service();
    for table in &TABLES {
        let export = || service.export(&scope("desk"), table, BTreeSet::new(), all_time()).unwrap();
        let lines = String::from_utf8(whole(text::pieces(export(), Format::Ndjson)).await).unwrap();
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let pieces: Vec<Bytes> = arrow::pieces(export()).unwrap().try_collect().await.unwrap();
        let bytes = pieces.concat();
        assert!(bytes.ends_with(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]), "it says where it ends");
        let reader = StreamReader::try_new(bytes.as_slice(), None).unwrap();
        let schema = reader.schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, table.fields.iter().map(|field| field.name).collect::<Vec<_>>());
        let batches: Vec<RecordBatch> = reader.map(|batch| batch.unwrap()).collect();
        assert!(table.name != "prices" || (batches.len() > 1 && pieces.len() > 2), "batch by batch");
        let rows = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)));
        let found: Vec<Value> = rows
            .map(|(batch, row)| {
                let columns = batch.columns().iter().zip(table.fields);
                columns.map(|(column, field)| (field.name.to_owned(), arrow_value(column, row))).collect()
            })
            .collect();
        assert_eq!(found, lines, "{}", table.name);
    }
}

/// An engine that is gone after so many pages.
#[derive(Debug)]
struct Gone(AtomicUsize);

#[async_trait]
impl Meddler for Gone {
    async fn before_page(&self) -> Result<()> {
        let left = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |pages| pages.checked_sub(1));
        left.map(drop).map_err(|_| Error::new(codes::UNAVAILABLE, "the engine is gone"))
    }
}

/// How many pieces there were before the one that is an error.
async fn before_the_break(pieces: impl Stream<Item = Result<Bytes>>) -> usize {
    let told: Vec<Result<Bytes>> = pieces.collect().await;
    let (last, others) = told.split_last().unwrap();
    assert_eq!(last.as_ref().unwrap_err().code(), codes::UNAVAILABLE);
    assert!(others.iter().all(Result::is_ok));
    others.len()
}

#[tokio::test]
async fn an_export_that_cannot_go_on_ends_in_an_error_and_not_in_an_end() {
    let mut desk = traded().await;
    let prices = ExportTable::named("prices").unwrap();
    let columns = Arc::clone(&desk.columns);
    let mut service = || {
        // Of two instruments, each in a page of its own.
        let meddler = Gone(AtomicUsize::new(1));
        desk.columns = Arc::new(Meddled { columns: Arc::clone(&columns), meddler });
        desk.service()
    };
    let mut export = || service().export(&scope("desk"), prices, BTreeSet::new(), all_time()).unwrap();
    for format in [Format::Ndjson, Format::Csv] {
        assert_eq!(before_the_break(text::pieces(export(), format)).await, 1);
    }
    assert_eq!(before_the_break(parquet::pieces(export()).unwrap()).await, 1);
    assert_eq!(before_the_break(arrow::pieces(export()).unwrap()).await, 1);
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

#[test]
fn the_first_format_that_the_caller_takes_is_sent() {
    let check = |accept: &[&'static str], expected: Option<Format>| {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(header::ACCEPT, value.parse().unwrap());
        }
        let found = Format::accepted(&headers);
        assert_eq!(found.as_ref().ok().copied(), expected, "{accept:?}");
        if let Err(error) = found {
            assert_eq!(error.field(), Some("accept"));
        }
    };
    check(&[], Some(Format::Ndjson));
    check(&["*/*"], Some(Format::Ndjson));
    check(&["Text/CSV; q=0.9, */*"], Some(Format::Csv));
    check(&["image/png", "application/vnd.apache.parquet"], Some(Format::Parquet));
    check(&["application/vnd.apache.arrow.stream, */*;q=0.1"], Some(Format::Arrow));
    check(&["image/png"], None);
}
