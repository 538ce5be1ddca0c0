//! Tensors as messages: raw bytes, or a list for each family of datatypes. It refuses values in two places, in none, or in
//! the list of another datatype.

use bytes::Bytes;
use kernel::{Error, Result, codes};

use super::inference::InferTensorContents;
use crate::http::binary;
use crate::tensor::{DataType, Tensor, Values};

/// An input of a request: its name, datatype and shape, and its values in one of two places.
pub(super) fn read(
    number: usize,
    (name, datatype, shape): (String, &str, &[i64]),
    contents: Option<InferTensorContents>,
    raw: Option<Bytes>,
) -> Result<Tensor> {
    let field = |part: &str| format!("inputs[{number}].{part}");
    let refused =
        |part: &str, message: String| Error::new(codes::VALIDATION_ERROR, message).with_field(field(part));
    let kind = DataType::parse(datatype).ok_or_else(|| {
        refused("datatype", format!("`{}` is not one that is taken", datatype.escape_debug()))
    })?;
    let length = |length: &i64| {
        usize::try_from(*length).map_err(|_| refused("shape", format!("{length} is no length")))
    };
    let shape = shape.iter().map(length).collect::<Result<Vec<_>>>()?;
    let values = match (contents, raw) {
        (None, Some(raw)) => binary::read(kind, &raw),
        (Some(contents), None) => listed(kind, contents),
        (Some(_), Some(_)) => {
            Err(Error::new(codes::VALIDATION_ERROR, "has values in `contents` and in `raw_input_contents`"))
        }
        // A list without values is not sent.
        (None, None) => listed(kind, InferTensorContents::default()),
    };
    let values = values.map_err(|error| error.with_field(field("contents")))?;
    Tensor::new(name, shape, values).map_err(|error| error.with_field(field("shape")))
}

fn narrow<T, W: TryInto<T> + Copy + std::fmt::Display>(kind: DataType, wide: &[W]) -> Result<Vec<T>> {
    let narrow = |value: &W| {
        (*value).try_into().map_err(|_| {
            Error::new(codes::VALIDATION_ERROR, format!("{value} is no value of {}", kind.name()))
        })
    };
    wide.iter().map(narrow).collect()
}

fn listed(kind: DataType, contents: InferTensorContents) -> Result<Values> {
    let given = [
        contents.bool_contents.len(),
        contents.int_contents.len(),
        contents.int64_contents.len(),
        contents.uint_contents.len(),
        contents.uint64_contents.len(),
        contents.fp32_contents.len(),
        contents.fp64_contents.len(),
        contents.bytes_contents.len(),
    ];
    let values = match kind {
        DataType::Bool => Values::Bool(contents.bool_contents),
        DataType::Int8 => Values::Int8(narrow(kind, &contents.int_contents)?),
        DataType::Int16 => Values::Int16(narrow(kind, &contents.int_contents)?),
        DataType::Int32 => Values::Int32(contents.int_contents),
        DataType::Int64 => Values::Int64(contents.int64_contents),
        DataType::Uint8 => Values::Uint8(narrow(kind, &contents.uint_contents)?),
        DataType::Uint16 => Values::Uint16(narrow(kind, &contents.uint_contents)?),
        DataType::Uint32 => Values::Uint32(contents.uint_contents),
        DataType::Uint64 => Values::Uint64(contents.uint64_contents),
        DataType::Fp32 => Values::Fp32(contents.fp32_contents),
        DataType::Fp64 => Values::Fp64(contents.fp64_contents),
        DataType::Bytes => {
            let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).ok();
            let texts = contents.bytes_contents.iter().map(text).collect::<Option<_>>();
            let refused = || Error::new(codes::VALIDATION_ERROR, "has a value that is not UTF-8");
            Values::Bytes(texts.ok_or_else(refused)?)
        }
    };
    if given.iter().sum::<usize>() != values.len() {
        let message = format!("has values in another list than that of {}", kind.name());
        return Err(Error::new(codes::VALIDATION_ERROR, message));
    }
    Ok(values)
}

/// Values in the list of their datatype.
pub(super) fn contents(values: Values) -> InferTensorContents {
    let mut told = InferTensorContents::default();
    match values {
        Values::Bool(values) => told.bool_contents = values,
        Values::Int8(values) => told.int_contents = values.into_iter().map(i32::from).collect(),
        Values::Int16(values) => told.int_contents = values.into_iter().map(i32::from).collect(),
        Values::Int32(values) => told.int_contents = values,
        Values::Int64(values) => told.int64_contents = values,
        Values::Uint8(values) => told.uint_contents = values.into_iter().map(u32::from).collect(),
        Values::Uint16(values) => told.uint_contents = values.into_iter().map(u32::from).collect(),
        Values::Uint32(values) => told.uint_contents = values,
        Values::Uint64(values) => told.uint64_contents = values,
        Values::Fp32(values) => told.fp32_contents = values,
        Values::Fp64(values) => told.fp64_contents = values,
        Values::Bytes(values) => told.bytes_contents = values.into_iter().map(Bytes::from).collect(),
    }
    told
}

/// Values as bytes.
pub(super) fn raw(values: &Values) -> Bytes {
    let mut bytes = Vec::new();
    binary::write(values, &mut bytes);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every() -> Vec<Values> {
        vec![
            Values::Bool(vec![true, false]),
            Values::Int8(vec![-128, 127]),
            Values::Int16(vec![i16::MIN, 7]),
            Values::Int32(vec![i32::MIN, 7]),
            Values::Int64(vec![i64::MIN, 7]),
            Values::Uint8(vec![0, 255]),
            Values::Uint16(vec![u16::MAX, 7]),
            Values::Uint32(vec![u32::MAX, 7]),
            Values::Uint64(vec![u64::MAX, 7]),
            Values::Fp32(vec![1.5, -0.0]),
            Values::Fp64(vec![1e300, -0.0]),
            Values::Bytes(vec!["ä".to_owned(), String::new()]),
        ]
    }

    #[test]
    fn both_places_hold_every_datatype() {
        assert_eq!(every().len(), DataType::ALL.len());
        for values in every() {
            let name = values.kind().name();
            let told = |contents, raw| read(0, ("x".to_owned(), name, &[2]), contents, raw).unwrap().values;
            assert_eq!(told(Some(contents(values.clone())), None), values);
            assert_eq!(told(None, Some(raw(&values))), values);
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let check = |shape: &[i64], datatype: &str, contents, raw, field: &str| {
            let error = read(3, ("x".to_owned(), datatype, shape), contents, raw).unwrap_err();
            assert_eq!((error.code(), error.field()), (codes::VALIDATION_ERROR, Some(field)), "{error}");
        };
        let floats = || Some(contents(Values::Fp32(vec![1.0, 2.0])));
        check(&[3], "FP32", floats(), None, "inputs[3].shape");
        check(&[-1], "FP32", floats(), None, "inputs[3].shape");
        check(&[i64::MAX, i64::MAX], "FP32", floats(), None, "inputs[3].shape");
        check(&[2], "FP16", floats(), None, "inputs[3].datatype");
        check(&[2], "FP64", floats(), None, "inputs[3].contents");
        check(&[2], "FP32", floats(), Some(Bytes::from_static(&[0; 8])), "inputs[3].contents");
        check(&[2], "FP32", None, Some(Bytes::from_static(&[0; 7])), "inputs[3].contents");
        check(&[2], "FP32", None, None, "inputs[3].shape");
        check(&[1], "INT8", Some(contents(Values::Int32(vec![128]))), None, "inputs[3].contents");
        check(&[1], "UINT16", Some(contents(Values::Uint32(vec![65_536]))), None, "inputs[3].contents");
        let broken =
            InferTensorContents { bytes_contents: vec![Bytes::from_static(b"\xff")], ..Default::default() };
        check(&[1], "BYTES", Some(broken), None, "inputs[3].contents");
    }
}
