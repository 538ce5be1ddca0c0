//! Lists that are answered as lines of JSON or as CSV: the names of its fields are the header, and a time and a number stand there as
//! they stand in JSON.

use kernel::{Error, Result};
use serde::Serialize;

/// The header of answers that are not JSON: where the next page begins.
pub(super) const NEXT_FROM: &str = "next-from";

/// An object a line.
pub(super) fn ndjson<T: Serialize>(lines: &[T]) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, line).map_err(Error::internal)?;
        text.push(b'\n');
    }
    Ok(text)
}

/// RFC 4180 with a header, also where there are no lines. `header` names the fields in their order.
pub(super) fn csv<T: Serialize>(header: &[&str], lines: &[T]) -> Result<Vec<u8>> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    writer.write_record(header).map_err(Error::internal)?;
    for line in lines {
        writer.serialize(line).map_err(Error::internal)?;
    }
    writer.into_inner().map_err(|fault| Error::internal(fault.into_error()))
}
