//! Rows as ClickHouse's `RowBinary`: fixed numbers in little-endian order, texts behind their length in LEB128, a byte before
//! what may be missing. Numbers keep every bit.
//!
//! To add a kind of column: a line in each `match`.

use kernel::{Error, Result, codes};
use store::{ColumnKind, ColumnTable, ColumnValue};

/// The server's type of a column of values, as it writes it itself.
pub(crate) fn type_of(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Float => "Nullable(Float64)",
        ColumnKind::Integer => "Nullable(Int64)",
        ColumnKind::Text => "Nullable(String)",
    }
}

/// Appends a text.
pub(crate) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    let mut length = text.len();
    while length >= 0x80 {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(text.as_bytes());
}

/// Appends a value.
pub(crate) fn put_value(bytes: &mut Vec<u8>, value: &ColumnValue) {
    bytes.push(u8::from(*value == ColumnValue::Missing));
    match value {
        ColumnValue::Missing => {}
        ColumnValue::Float(number) => bytes.extend(number.to_le_bytes()),
        ColumnValue::Integer(number) => bytes.extend(number.to_le_bytes()),
        ColumnValue::Text(text) => put_text(bytes, text),
    }
}

/// Reads an answer from its beginning to its end.
#[derive(Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    /// Whether everything was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(cut_off)?;
        self.0 = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(Error::internal)
    }

    /// An `Int64`.
    pub(crate) fn i64(&mut self) -> Result<i64> {
        self.fixed().map(i64::from_le_bytes)
    }

    /// A `UInt64`.
    pub(crate) fn u64(&mut self) -> Result<u64> {
        self.fixed().map(u64::from_le_bytes)
    }

    /// A `UInt32`.
    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.fixed().map(u32::from_le_bytes)
    }

    /// A `UInt128`.
    pub(crate) fn u128(&mut self) -> Result<u128> {
        self.fixed().map(u128::from_le_bytes)
    }

    /// A `Float64`.
    pub(crate) fn f64(&mut self) -> Result<f64> {
        self.fixed().map(f64::from_le_bytes)
    }

    /// A `String`.
    pub(crate) fn text(&mut self) -> Result<String> {
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let [byte] = self.fixed::<1>()?;
            if shift > 28 {
                return Err(cut_off());
            }
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        String::from_utf8(self.take(length)?.to_vec()).map_err(|cause| cut_off().with_source(cause))
    }

    /// A value of each column of a table.
    pub(crate) fn values(&mut self, table: ColumnTable) -> Result<Vec<ColumnValue>> {
        let mut value = |kind: ColumnKind| {
            if self.fixed::<1>()? != [0] {
                return Ok(ColumnValue::Missing);
            }
            match kind {
                ColumnKind::Float => self.f64().map(ColumnValue::Float),
                ColumnKind::Integer => self.i64().map(ColumnValue::Integer),
                ColumnKind::Text => self.text().map(ColumnValue::Text),
            }
        };
        table.columns.iter().map(|column| value(column.kind)).collect()
    }
}

fn cut_off() -> Error {
    Error::new(codes::CORRUPTED, "an answer of ClickHouse is not what was asked for")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use store::Column;

    use super::*;

    const TABLE: ColumnTable = ColumnTable {
        name: "ticks",
        columns: &[
            Column { name: "price", kind: ColumnKind::Float },
            Column { name: "volume", kind: ColumnKind::Integer },
            Column { name: "venue", kind: ColumnKind::Text },
        ],
    };

    proptest! {
        #[test]
        fn what_is_put_is_read(price: u64, volume: Option<i64>, venue in proptest::option::of(".{0,200}"), cut: u16) {
            let values = [
                ColumnValue::Float(f64::from_bits(price >> 2)),
                volume.map_or(ColumnValue::Missing, ColumnValue::Integer),
                venue.map_or(ColumnValue::Missing, ColumnValue::Text),
            ];
            let mut bytes = Vec::new();
            values.iter().for_each(|value| put_value(&mut bytes, value));
            let mut reader = Reader(&bytes);
            prop_assert_eq!(reader.values(TABLE).unwrap(), values);
            prop_assert!(reader.is_empty());
            let cut = usize::from(cut) % bytes.len();
            prop_assert!(Reader(&bytes[..cut]).values(TABLE).is_err(), "what is cut off is noticed");
        }
    }
}
