//! The protocol's extension for binary tensor data: the header `Inference-Header-Content-Length` says where the JSON ends, and
//! behind it stand the values of tensors, little-endian, in the order in which the JSON names them. A text is its length
//! in 4 bytes and itself.

use axum::http::{HeaderMap, HeaderName};
use bytes::Bytes;
use kernel::{Error, Result, codes};

use crate::tensor::{DataType, Values};

pub(super) static LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// What came behind the JSON and was not yet taken.
#[derive(Debug, Default)]
pub(super) struct Taken(Bytes);

/// Splits a body where the header says.
///
/// # Errors
/// `VALIDATION_ERROR` for a header that is no length of the body.
pub(super) fn split(headers: &HeaderMap, mut body: Bytes) -> Result<(Bytes, Taken)> {
    let Some(header) = headers.get(&LENGTH) else { return Ok((body, Taken::default())) };
    let length = header
        .to_str()
        .ok()
        .and_then(|text| text.parse::<usize>().ok())
        .filter(|length| *length <= body.len());
    let Some(length) = length else {
        let message = "is the number of bytes of JSON at the beginning of the body";
        return Err(Error::new(codes::VALIDATION_ERROR, message).with_field(LENGTH.as_str()));
    };
    let behind = body.split_off(length);
    Ok((body, Taken(behind)))
}

macro_rules! numbers {
    ($bytes:expr, $kind:ident, $rust:ty) => {{
        let (chunks, rest) = $bytes.as_chunks::<{ size_of::<$rust>() }>();
        let values = chunks.iter().map(|chunk| <$rust>::from_le_bytes(*chunk)).collect();
        rest.is_empty().then_some(Values::$kind(values))
    }};
}

impl Taken {
    /// The next values.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` where so many bytes are not there or are no such values.
    pub(super) fn values(&mut self, kind: DataType, size: usize) -> Result<Values> {
        let refused = |message: &str| Error::new(codes::VALIDATION_ERROR, message);
        if size > self.0.len() {
            return Err(refused("the body ends before `binary_data_size` bytes"));
        }
        read(kind, &self.0.split_to(size))
    }

    /// # Errors
    /// `VALIDATION_ERROR` where no input named the rest.
    pub(super) fn end(self) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let message = format!("{} bytes behind the JSON belong to no input", self.0.len());
        Err(Error::new(codes::VALIDATION_ERROR, message).with_field("inputs"))
    }
}

/// Values of a datatype out of bytes.
///
/// # Errors
/// `VALIDATION_ERROR` where they are no such values.
pub(crate) fn read(kind: DataType, bytes: &Bytes) -> Result<Values> {
    let values = match kind {
        DataType::Bool => bytes
            .iter()
            .map(|byte| match byte {
                0 => Some(false),
                1 => Some(true),
                _ => None,
            })
            .collect::<Option<_>>()
            .map(Values::Bool),
        DataType::Uint8 => Some(Values::Uint8(bytes.to_vec())),
        DataType::Uint16 => numbers!(bytes, Uint16, u16),
        DataType::Uint32 => numbers!(bytes, Uint32, u32),
        DataType::Uint64 => numbers!(bytes, Uint64, u64),
        DataType::Int8 => numbers!(bytes, Int8, i8),
        DataType::Int16 => numbers!(bytes, Int16, i16),
        DataType::Int32 => numbers!(bytes, Int32, i32),
        DataType::Int64 => numbers!(bytes, Int64, i64),
        DataType::Fp32 => numbers!(bytes, Fp32, f32),
        DataType::Fp64 => numbers!(bytes, Fp64, f64),
        DataType::Bytes => texts(bytes).map(Values::Bytes),
    };
    values.ok_or_else(|| {
        Error::new(codes::VALIDATION_ERROR, format!("its bytes are no values of {}", kind.name()))
    })
}

fn texts(mut bytes: &[u8]) -> Option<Vec<String>> {
    let mut found = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (text, rest) = rest.split_at_checked(length)?;
        found.push(String::from_utf8(text.to_vec()).ok()?);
        bytes = rest;
    }
    bytes.is_empty().then_some(found)
}

/// Writes values behind the JSON; how many bytes they take.
pub(crate) fn write(values: &Values, out: &mut Vec<u8>) -> usize {
    macro_rules! numbers {
        ($values:expr) => {
            $values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()))
        };
    }
    let begin = out.len();
    match values {
        Values::Bool(values) => out.extend(values.iter().map(|value| u8::from(*value))),
        Values::Uint8(values) => out.extend_from_slice(values),
        Values::Uint16(values) => numbers!(values),
        Values::Uint32(values) => numbers!(values),
        Values::Uint64(values) => numbers!(values),
        Values::Int8(values) => numbers!(values),
        Values::Int16(values) => numbers!(values),
        Values::Int32(values) => numbers!(values),
        Values::Int64(values) => numbers!(values),
        Values::Fp32(values) => numbers!(values),
        Values::Fp64(values) => numbers!(values),
        Values::Bytes(values) => {
            for text in values {
                out.extend_from_slice(&(text.len() as u32).to_le_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
    out.len() - begin
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(kind: DataType, bytes: &[u8]) -> Result<Values> {
        Taken(Bytes::copy_from_slice(bytes)).values(kind, bytes.len())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(floats in prop::collection::vec(any::<f64>().prop_filter("is equal to itself", |value| !value.is_nan()), 0..20),
            texts in prop::collection::vec(".{0,9}", 0..9), whole in prop::collection::vec(any::<i16>(), 0..20)) {
            for values in [Values::Fp64(floats), Values::Bytes(texts), Values::Int16(whole)] {
                let mut out = Vec::new();
                prop_assert_eq!(write(&values, &mut out), out.len());
                prop_assert_eq!(read(values.kind(), &out).unwrap(), values);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            for kind in DataType::ALL {
                drop(read(*kind, &bytes));
            }
        }
    }

    #[test]
    fn lengths_are_held() {
        assert!(read(DataType::Fp32, &[0; 6]).is_err());
        assert!(read(DataType::Bool, &[2]).is_err());
        assert!(read(DataType::Bytes, &[9, 0, 0, 0, b'a']).is_err());
        assert!(Taken(Bytes::from_static(b"abc")).values(DataType::Uint8, 4).is_err());
        assert!(Taken(Bytes::from_static(b"abc")).end().is_err());
        let headers = |value: &str| HeaderMap::from_iter([(LENGTH.clone(), value.parse().unwrap())]);
        let body = || Bytes::from_static(b"{}rest");
        let (json, rest) = split(&headers("2"), body()).unwrap();
        assert_eq!((json.as_ref(), rest.0.as_ref()), (b"{}".as_ref(), b"rest".as_ref()));
        assert!(split(&headers("7"), body()).is_err() && split(&headers("-1"), body()).is_err());
    }
}
