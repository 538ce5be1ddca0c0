//! The stored form of a row: what follows the series in its key, and its values.

use fjall::Slice;
use kernel::{Error, Result, codes};
use store::{ColumnKind, ColumnTable, ColumnValue};

const MISSING: u8 = 0;
const FLOAT: u8 = 1;
const INTEGER: u8 = 2;
const TEXT: u8 = 3;

fn damaged() -> Error {
    Error::new(codes::CORRUPTED, "a stored row is damaged")
}

/// What follows the series: time (8 bytes, the sign bit turned), id, a zero, revision (4 bytes).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place<'a> {
    pub(super) time_ns: i64,
    pub(super) id: &'a str,
    pub(super) revision: u32,
}

impl<'a> Place<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self> {
        let (time, rest) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
        let (id, rest) = read_name(rest)?;
        Ok(Self { time_ns: i64::from_be_bytes(*time) ^ i64::MIN, id, revision: read_revision(rest)? })
    }
}

/// A name that a zero ends, and what follows it.
pub(super) fn read_name(bytes: &[u8]) -> Result<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0).ok_or_else(damaged)?;
    Ok((std::str::from_utf8(&bytes[..end]).map_err(|_| damaged())?, &bytes[end + 1..]))
}

/// A revision that ends a key.
pub(super) fn read_revision(bytes: &[u8]) -> Result<u32> {
    bytes.try_into().map(u32::from_be_bytes).map_err(|_| damaged())
}

/// Each value: what it is (1 byte); then a number in double precision (8 bytes), a whole number (zigzag, 7 bits in a
/// byte), or a text (its length so, and its bytes).
pub(super) fn write_values(values: &[ColumnValue]) -> Slice {
    let mut bytes = Vec::with_capacity(values.len() * 9);
    for value in values {
        match value {
            ColumnValue::Missing => bytes.push(MISSING),
            ColumnValue::Float(number) => {
                bytes.push(FLOAT);
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            ColumnValue::Integer(number) => {
                bytes.push(INTEGER);
                write_number(&mut bytes, ((number << 1) ^ (number >> 63)).cast_unsigned());
            }
            ColumnValue::Text(text) => {
                bytes.push(TEXT);
                write_number(&mut bytes, text.len() as u64);
                bytes.extend_from_slice(text.as_bytes());
            }
        }
    }
    bytes.into()
}

/// The values of a row. Columns that the table did not have yet have nothing; those that a later release added are left out.
pub(super) fn read_values(table: ColumnTable, bytes: &[u8]) -> Result<Vec<ColumnValue>> {
    let mut rest = bytes;
    let mut values = Vec::with_capacity(table.columns.len());
    for column in table.columns {
        let Some((kind, after)) = rest.split_first() else {
            values.push(ColumnValue::Missing);
            continue;
        };
        let (value, after) = match (*kind, column.kind) {
            (MISSING, _) => (ColumnValue::Missing, after),
            (FLOAT, ColumnKind::Float) => {
                let (number, after) = after.split_first_chunk::<8>().ok_or_else(damaged)?;
                (ColumnValue::Float(f64::from_le_bytes(*number)), after)
            }
            (INTEGER, ColumnKind::Integer) => {
                let (number, after) = read_number(after)?;
                let number = (number >> 1).cast_signed() ^ -((number & 1).cast_signed());
                (ColumnValue::Integer(number), after)
            }
            (TEXT, ColumnKind::Text) => {
                let (length, after) = read_number(after)?;
                let length = usize::try_from(length).map_err(|_| damaged())?;
                let (text, after) = after.split_at_checked(length).ok_or_else(damaged)?;
                let text = std::str::from_utf8(text).map_err(|_| damaged())?;
                (ColumnValue::Text(text.to_owned()), after)
            }
            _ => {
                let message =
                    format!("column `{}` of `{}` was stored as another kind", column.name, table.name);
                return Err(Error::new(codes::CORRUPTED, message));
            }
        };
        values.push(value);
        rest = after;
    }
    Ok(values)
}

fn write_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push((number & 0x7f) as u8);
}

fn read_number(bytes: &[u8]) -> Result<(u64, &[u8])> {
    let mut number = 0;
    for (place, byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok((number, &bytes[place + 1..]));
        }
    }
    Err(damaged())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use store::Column;

    use super::*;

    const TABLE: ColumnTable = ColumnTable {
        name: "t",
        columns: &[
            Column { name: "f", kind: ColumnKind::Float },
            Column { name: "i", kind: ColumnKind::Integer },
            Column { name: "t", kind: ColumnKind::Text },
        ],
    };

    fn values() -> impl Strategy<Value = Vec<ColumnValue>> {
        let float =
            any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(ColumnValue::Float);
        let missing = Just(ColumnValue::Missing);
        (
            prop_oneof![float, missing.clone()],
            prop_oneof![any::<i64>().prop_map(ColumnValue::Integer), missing.clone()],
            prop_oneof!["\\PC{0,9}".prop_map(ColumnValue::Text), missing],
        )
            .prop_map(|(float, integer, text)| vec![float, integer, text])
    }

    proptest! {
        #[test]
        fn values_round_trip(values in values()) {
            prop_assert_eq!(read_values(TABLE, &write_values(&values)).unwrap(), &values[..]);
            let short = ColumnTable { columns: &TABLE.columns[..2], ..TABLE };
            prop_assert_eq!(read_values(short, &write_values(&values)).unwrap(), &values[..2]);
            let mut longer = read_values(TABLE, &write_values(&values[..1])).unwrap();
            prop_assert_eq!(longer.split_off(1), [ColumnValue::Missing, ColumnValue::Missing]);
        }

        #[test]
        fn garbage_is_refused_or_read(bytes: Vec<u8>) {
            let _ = read_values(TABLE, &bytes);
            let _ = Place::read(&bytes);
        }
    }

    #[test]
    fn another_kind_is_refused() {
        let bytes = write_values(&[ColumnValue::Integer(1)]);
        assert_eq!(read_values(TABLE, &bytes).unwrap_err().code(), codes::CORRUPTED);
    }
}
