//! Rows of an Apache Parquet file with a column mapping, without Arrow. Lines are rows, from 1.
//!
//! Refuses: columns of bytes that are not text, and lists of anything but text, where they are mapped. Others are not
//! read.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kernel::{Error, Result, Timestamp};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, ListAccessor, Row as ParquetRow};
use parquet::schema::types::Type;
use serde_json::{Map, Value};

use super::assemble::Defaults;
use super::json_lines::JsonLines;
use super::mapping::{Mapping, Origin};
use super::{Fault, IMPORT_SOURCE, Mark, Parts, Reader, Step, guess};

pub(super) struct ParquetRows {
    path: PathBuf,
    rows: RowIter<'static>,
    decode: JsonLines,
    line: u64,
    total_rows: u64,
    size_bytes: u64,
    crc32: u32,
}

impl ParquetRows {
    /// Opens `path`. Reads all of it once, as its rows are not in the order of its bytes and any of them may change.
    pub(super) fn open(path: &Path, mapping: Option<Mapping>, defaults: Defaults) -> Result<Self> {
        let (size_bytes, crc32) = super::source::measure(path)?;
        let file = File::open(path).map_err(|cause| super::source::fault(path, &cause))?;
        let reader = guarded(|| SerializedFileReader::new(file)).map_err(|cause| refuse(path, &cause))?;
        let file = reader.metadata().file_metadata();
        let total_rows = u64::try_from(file.num_rows()).unwrap_or(0);
        let columns: Vec<&str> = file.schema().get_fields().iter().map(|field| field.name()).collect();
        let mapping = mapping.or_else(|| guess::mapping_of(&columns).ok());
        let projection = mapping.as_ref().and_then(|mapping| projection(file.schema(), mapping));
        let rows = guarded(|| RowIter::from_file_into(Box::new(reader)).project(projection))
            .map_err(|cause| refuse(path, &cause))?;
        Ok(Self {
            path: path.to_owned(),
            rows,
            decode: JsonLines::new(mapping, defaults)?,
            line: 0,
            total_rows,
            size_bytes,
            crc32,
        })
    }

    fn next_row(&mut self) -> Result<Option<ParquetRow>> {
        let rows = &mut self.rows;
        let row = guarded(|| rows.next().transpose()).map_err(|cause| refuse(&self.path, &cause))?;
        self.line += u64::from(row.is_some());
        Ok(row)
    }
}

/// The columns that the mapping names, so that no other is read and none of another kind stands in the way. `None` for
/// all of them.
fn projection(schema: &Type, mapping: &Mapping) -> Option<Type> {
    let is_named = |name: &str| {
        mapping.origins().any(|origin| match origin {
            Origin::Column(column) => column == name || column.split('.').next() == Some(name),
            _ => false,
        })
    };
    let fields: Vec<_> =
        schema.get_fields().iter().filter(|field| is_named(field.name())).map(Arc::clone).collect();
    if fields.is_empty() || mapping.origins().any(|origin| *origin == Origin::Rest) {
        return None;
    }
    Type::group_type_builder(schema.name()).with_fields(fields).build().ok()
}

/// The library has asserts on what it reads; a file that trips one is a bad file, not a defect of Watershed.
fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result.map_err(|cause| cause.to_string()),
        Err(_) => Err("its content breaks the format".to_owned()),
    }
}

fn refuse(path: &Path, cause: &str) -> Error {
    Error::new(IMPORT_SOURCE, format!("`{}` cannot be read as Parquet: {cause}", path.display()))
}

impl Reader for ParquetRows {
    fn next_record(&mut self, rows: &mut Parts) -> Result<Step> {
        let Some(row) = self.next_row()? else { return Ok(Step::End) };
        let line = self.line;
        let read = object_of(&row).and_then(|object| self.decode.object(&object, line, rows));
        Ok(Step::Record { line, fault: read.err() })
    }

    fn mark(&self) -> Mark {
        Mark { offset: self.size_bytes, line: self.line, crc32: self.crc32 }
    }

    fn position_bytes(&self) -> u64 {
        // The bytes are read column by column, which says nothing of how far it is.
        let share = self.line as f64 / self.total_rows.max(1) as f64;
        (self.size_bytes as f64 * share.min(1.0)) as u64
    }
}

fn object_of(row: &ParquetRow) -> Result<Map<String, Value>, Fault> {
    let mut object = Map::new();
    for (name, field) in row.get_column_iter() {
        object.insert(name.clone(), value_of(name, field)?);
    }
    Ok(object)
}

fn value_of(name: &str, field: &Field) -> Result<Value, Fault> {
    let finite = |number: f64| {
        serde_json::Number::from_f64(number)
            .map(Value::Number)
            .ok_or_else(|| Fault::new(name, format!("`{number}` is not a finite number")))
    };
    let time = |read: Result<Timestamp, jiff::Error>| {
        read.map(|timestamp| timestamp.to_string().into())
            .map_err(|_| Fault::new(name, "the time is out of the range of time"))
    };
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(flag) => (*flag).into(),
        Field::Byte(number) => (*number).into(),
        Field::Short(number) => (*number).into(),
        Field::Int(number) => (*number).into(),
        Field::Long(number) => (*number).into(),
        Field::UByte(number) => (*number).into(),
        Field::UShort(number) => (*number).into(),
        Field::UInt(number) => (*number).into(),
        Field::ULong(number) => (*number).into(),
        Field::Float16(number) => finite(number.to_f64())?,
        Field::Float(number) => finite(f64::from(*number))?,
        Field::Double(number) => finite(*number)?,
        Field::Str(text) => text.as_str().into(),
        Field::Bytes(bytes) => {
            std::str::from_utf8(bytes.data()).map_err(|_| Fault::new(name, "the bytes are not UTF-8"))?.into()
        }
        Field::Date(days) => time(Timestamp::from_second(i64::from(*days) * 86_400))?,
        Field::TimestampMillis(number) => time(Timestamp::from_millisecond(*number))?,
        Field::TimestampMicros(number) => time(Timestamp::from_microsecond(*number))?,
        Field::TimeMillis(number) => (*number).into(),
        Field::TimeMicros(number) => (*number).into(),
        Field::Decimal(_) => field.to_string().into(),
        Field::Group(row) => Value::Object(object_of(row)?),
        Field::ListInternal(list) => {
            let texts = (0..list.len()).map(|at| list.get_string(at).map(|text| Value::from(text.as_str())));
            let texts: Result<Vec<Value>, _> = texts.collect();
            Value::Array(texts.map_err(|_| Fault::new(name, "it is a list of anything but texts"))?)
        }
        Field::MapInternal(_) => return Err(Fault::new(name, "it is a map")),
    })
}
