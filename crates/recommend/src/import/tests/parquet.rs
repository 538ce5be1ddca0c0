//! Parquet: read, gone on with, and broken.

use std::sync::Arc;

use ::parquet::basic::Compression;
use ::parquet::column::writer::ColumnWriter;
use ::parquet::data_type::ByteArray;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use proptest::prelude::*;

use super::*;

fn written(compression: Compression) -> Vec<u8> {
    let schema =
        "message rows { required byte_array user_id (utf8); required int64 item_id; optional double rating;
        required int64 ts (timestamp_millis); }";
    let properties = WriterProperties::builder().set_compression(compression).build();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).unwrap();
    for group in 0..2 {
        let mut rows = writer.next_row_group().unwrap();
        while let Some(mut column) = rows.next_column().unwrap() {
            match column.untyped() {
                ColumnWriter::ByteArrayColumnWriter(column) => {
                    column.write_batch(&[ByteArray::from("u1"), ByteArray::from("u2")], None, None).unwrap();
                }
                ColumnWriter::Int64ColumnWriter(column) => {
                    column.write_batch(&[1_700_000_000_000 + group, 7], None, None).unwrap();
                }
                ColumnWriter::DoubleColumnWriter(column) => {
                    column.write_batch(&[f64::NAN], Some(&[1, 0]), None).unwrap();
                }
                _ => panic!("there is no such column"),
            }
            column.close().unwrap();
        }
        rows.close().unwrap();
    }
    writer.close().unwrap();
    bytes
}

#[test]
fn parquet_is_read_and_resumed() {
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(Default::default())]
    {
        let bytes = written(compression);
        let expected = [
            "a.parquet:2 u2 rating item 7@1970-01-01T00:00:00.007Z",
            "a.parquet:4 u2 rating item 7@1970-01-01T00:00:00.007Z",
            "! a.parquet:1: rating: `NaN` is not a finite number",
            "! a.parquet:3: rating: `NaN` is not a finite number",
        ];
        assert_eq!(import(&[("a.parquet", &bytes)], &Request::default()), expected);
        let folder = folder(&[("a.parquet", &bytes)]);
        let mut first = start(folder.path(), &Request::default()).unwrap();
        first.next().unwrap().unwrap();
        let plan = Plan::detect(folder.path(), &Request::default()).unwrap();
        let second = Importer::resume(plan, Options::default(), first.checkpoint()).unwrap();
        assert_eq!(second.map(|row| row.unwrap().position.line).collect::<Vec<_>>(), [4]);
    }
}

/// One interaction, beside a column that has no meaning here: bytes that are not text.
fn with_another_column() -> Vec<u8> {
    let schema = "message rows { required byte_array who (utf8); required byte_array what (utf8); required byte_array raw; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::default()).unwrap();
    let mut rows = writer.next_row_group().unwrap();
    let mut values = [&b"u"[..], b"i", b"\xff\xfe"].into_iter();
    while let Some(mut column) = rows.next_column().unwrap() {
        let ColumnWriter::ByteArrayColumnWriter(column_of_bytes) = column.untyped() else {
            panic!("of bytes")
        };
        column_of_bytes.write_batch(&[ByteArray::from(values.next().unwrap().to_vec())], None, None).unwrap();
        column.close().unwrap();
    }
    rows.close().unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn columns_that_are_not_mapped_are_not_read() {
    let bytes = with_another_column();
    let mapped = request("parquet", "user_id=who,entity_id=what");
    assert_eq!(import(&[("a.parquet", &bytes)], &mapped), ["a.parquet:1 u view item i"]);
    let all = request("parquet", "user_id=who,attributes=*");
    assert_eq!(import(&[("a.parquet", &bytes)], &all), ["! a.parquet:1: raw: the bytes are not UTF-8"]);
}

#[test]
fn a_parquet_file_that_was_changed_is_read_again() {
    let bytes = written(Compression::UNCOMPRESSED);
    let folder = folder(&[("a.parquet", &bytes)]);
    let plan = || Plan::detect(folder.path(), &Request::default()).unwrap();
    let mut first = Importer::start(plan(), Options::default()).unwrap();
    assert_eq!(first.by_ref().count(), 2);
    let again = Importer::resume(plan(), Options::default(), first.checkpoint()).unwrap();
    assert_eq!(again.count(), 0);
    std::fs::write(folder.path().join("a.parquet"), written(Compression::SNAPPY)).unwrap();
    let mut second = Importer::resume(plan(), Options::default(), first.checkpoint()).unwrap();
    assert_eq!(second.take_resumed(), [Resumed::Changed { file: "a.parquet".to_owned() }]);
    assert_eq!(second.count(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_broken_parquet_file_is_read(at in any::<prop::sample::Index>(), byte: u8, cut: bool) {
        let mut bytes = written(Compression::SNAPPY);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        let folder = folder(&[("a.parquet", &bytes)]);
        if let Ok(importer) = start(folder.path(), &Request::default()) {
            prop_assert!(importer.take(1_000_000).count() < 1_000_000);
        }
    }
}
