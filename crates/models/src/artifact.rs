//! An artifact: named tensors and text metadata, stored as safetensors (github.com/huggingface/safetensors,
//! format 0.x: an 8-byte header length, a JSON header, the tensors).

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use kernel::{Error, Result, codes};
use safetensors::tensor::{Dtype, SafeTensors, View};

/// The values of a tensor, in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub enum Tensor {
    /// 32-bit floats of the given shape.
    F32(Vec<usize>, Vec<f32>),
    /// 64-bit floats of the given shape.
    F64(Vec<usize>, Vec<f64>),
    /// Unsigned 32-bit integers of the given shape.
    U32(Vec<usize>, Vec<u32>),
    /// Signed bytes of the given shape.
    I8(Vec<usize>, Vec<i8>),
    /// Bytes of the given shape, for example an encoded struct. Read, they share the memory of the file.
    U8(Vec<usize>, Bytes),
}

/// A model as it is stored: tensors by name and metadata.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Artifact {
    /// What kind of model, which format, its settings and metrics; keys and values are free text.
    pub metadata: BTreeMap<String, String>,
    /// The tensors.
    pub tensors: BTreeMap<String, Tensor>,
}

macro_rules! take {
    ($name:ident, $variant:ident, $values:ty, $title:literal) => {
        #[doc = concat!("Takes the ", $title, " tensor `name` out, with its shape.")]
        ///
        /// # Errors
        /// `CORRUPTED` when there is none of that name and type.
        pub fn $name(&mut self, name: &str) -> Result<(Vec<usize>, $values)> {
            match self.tensors.remove(name) {
                Some(Tensor::$variant(shape, values)) => Ok((shape, values)),
                Some(_) => Err(damaged(format!("tensor `{name}` is not of type {}", $title))),
                None => Err(damaged(format!("tensor `{name}` is missing"))),
            }
        }
    };
}

impl Artifact {
    take!(take_f32, F32, Vec<f32>, "f32");
    take!(take_f64, F64, Vec<f64>, "f64");
    take!(take_u32, U32, Vec<u32>, "u32");
    take!(take_i8, I8, Vec<i8>, "i8");
    take!(take_u8, U8, Bytes, "u8");

    /// Adds a one-dimensional tensor.
    pub fn put(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.tensors.insert(name.into(), tensor);
    }

    /// The metadata value `key`.
    ///
    /// # Errors
    /// `CORRUPTED` when it is missing.
    pub fn text(&self, key: &str) -> Result<&str> {
        let value = self.metadata.get(key).ok_or_else(|| damaged(format!("metadata `{key}` is missing")))?;
        Ok(value)
    }

    /// The artifact as safetensors bytes. Equal artifacts give equal bytes.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` when a shape does not fit its values.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        // One metadata entry with sorted JSON inside, because a map of several has no fixed order when written.
        let metadata = HashMap::from([(
            "watershed".to_owned(),
            serde_json::to_string(&self.metadata).map_err(Error::internal)?,
        )]);
        safetensors::serialize(
            self.tensors.iter().map(|(name, tensor)| (name, Borrowed(tensor))),
            Some(metadata),
        )
        .map_err(Error::internal)
    }

    /// Reads what [`Artifact::to_bytes`] wrote.
    ///
    /// # Errors
    /// `CORRUPTED` when it is anything else.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|cause| unreadable(cause.into()))?;
        let metadata = header
            .metadata()
            .as_ref()
            .and_then(|entries| entries.get("watershed"))
            .ok_or_else(|| damaged("it was not written by this program"))?;
        let metadata = serde_json::from_str(metadata).map_err(|cause| unreadable(cause.into()))?;
        let file = SafeTensors::deserialize(bytes).map_err(|cause| unreadable(cause.into()))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            let (shape, data) = (view.shape().to_vec(), view.data());
            let tensor = match view.dtype() {
                Dtype::F32 => Tensor::F32(shape, words(data, f32::from_le_bytes)),
                Dtype::F64 => Tensor::F64(shape, words(data, f64::from_le_bytes)),
                Dtype::U32 => Tensor::U32(shape, words(data, u32::from_le_bytes)),
                Dtype::I8 => Tensor::I8(shape, words(data, i8::from_le_bytes)),
                Dtype::U8 => Tensor::U8(shape, bytes.slice_ref(data)),
                other => return Err(damaged(format!("tensor `{name}` has the unknown type {other:?}"))),
            };
            tensors.insert(name.to_owned(), tensor);
        }
        Ok(Self { metadata, tensors })
    }
}

fn damaged(reason: impl std::fmt::Display) -> Error {
    Error::new(codes::CORRUPTED, format!("a model artifact cannot be read: {reason}"))
}

fn unreadable(cause: Box<dyn std::error::Error + Send + Sync>) -> Error {
    damaged("its bytes are damaged").with_source(cause)
}

fn words<const N: usize, T>(data: &[u8], from_le_bytes: fn([u8; N]) -> T) -> Vec<T> {
    data.as_chunks::<N>().0.iter().map(|chunk| from_le_bytes(*chunk)).collect()
}

struct Borrowed<'a>(&'a Tensor);

impl View for Borrowed<'_> {
    fn dtype(&self) -> Dtype {
        match self.0 {
            Tensor::F32(..) => Dtype::F32,
            Tensor::F64(..) => Dtype::F64,
            Tensor::U32(..) => Dtype::U32,
            Tensor::I8(..) => Dtype::I8,
            Tensor::U8(..) => Dtype::U8,
        }
    }

    fn shape(&self) -> &[usize] {
        match self.0 {
            Tensor::F32(shape, _)
            | Tensor::F64(shape, _)
            | Tensor::U32(shape, _)
            | Tensor::I8(shape, _)
            | Tensor::U8(shape, _) => shape,
        }
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self.0 {
            Tensor::F32(_, values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Tensor::F64(_, values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Tensor::U32(_, values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Tensor::I8(_, values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Tensor::U8(_, values) => Cow::Borrowed(values),
        }
    }

    fn data_len(&self) -> usize {
        match self.0 {
            Tensor::F32(_, values) => values.len() * 4,
            Tensor::F64(_, values) => values.len() * 8,
            Tensor::U32(_, values) => values.len() * 4,
            Tensor::I8(_, values) => values.len(),
            Tensor::U8(_, values) => values.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_finds_damage() {
        let mut artifact = Artifact::default();
        artifact.metadata.insert("kind".to_owned(), "test".to_owned());
        artifact.metadata.insert("settings".to_owned(), "{}".to_owned());
        artifact.put("weights", Tensor::F32(vec![2, 2], vec![1.0, -2.5, f32::MIN_POSITIVE, 0.0]));
        artifact.put("ids", Tensor::U32(vec![3], vec![7, 8, 9]));
        artifact.put("quantised", Tensor::I8(vec![1], vec![-3]));
        artifact.put("text", Tensor::U8(vec![2], Bytes::from_static(b"ab")));
        artifact.put("exact", Tensor::F64(vec![1], vec![0.1]));
        artifact.put("empty", Tensor::F32(vec![0], vec![]));
        let bytes = artifact.to_bytes().unwrap();
        assert_eq!(bytes, artifact.to_bytes().unwrap());
        let bytes = Bytes::from(bytes);
        let mut again = Artifact::from_bytes(&bytes).unwrap();
        assert_eq!(again, artifact);
        assert_eq!(again.take_u32("ids").unwrap(), (vec![3], vec![7, 8, 9]));
        assert!(again.take_u32("ids").is_err());
        assert!(again.take_u32("weights").is_err());
        for length in [0, 7, 8, 40, bytes.len() - 1] {
            assert!(Artifact::from_bytes(&bytes.slice(..length)).is_err(), "cut at {length}");
        }
    }
}
