//! Tensors as the Open Inference Protocol has them: a name, a datatype, a shape, values in row-major order.
//!
//! Refuses a number of values that is not that of the shape, numbers that do not fit their datatype, and floats that are
//! not finite. FP16 and BF16 are not taken: JSON has no form for them. To add a datatype: a line in `kinds!`, and how a
//! value of it is read.

use kernel::{Error, Result, codes};
use serde::{Serialize, Serializer};

use crate::scalar::{FromScalar, Scalar};

macro_rules! kinds {
    ($($kind:ident $name:literal $rust:ty, $title:literal;)*) => {
        /// The datatype of a tensor.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum DataType {
            $(#[doc = $title] $kind,)*
        }

        impl DataType {
            /// Every datatype.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// As the protocol writes it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }

        /// Values of one datatype.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Values {
            $(#[doc = $title] $kind(Vec<$rust>),)*
        }

        impl Values {
            /// The datatype.
            #[must_use]
            pub fn kind(&self) -> DataType {
                match self {
                    $(Self::$kind(_) => DataType::$kind,)*
                }
            }

            /// How many.
            #[must_use]
            pub fn len(&self) -> usize {
                match self {
                    $(Self::$kind(values) => values.len(),)*
                }
            }

            /// Reads values as JSON has them.
            ///
            /// # Errors
            /// `VALIDATION_ERROR` for the first that is not of the datatype.
            pub(crate) fn read(kind: DataType, scalars: Vec<Scalar>) -> Result<Self> {
                match kind {
                    $(DataType::$kind => read_all(kind, scalars).map(Self::$kind),)*
                }
            }

            /// Takes the values of another behind its own. Nothing happens where the datatypes differ.
            pub(crate) fn append(&mut self, other: &Self) {
                match (self, other) {
                    $((Self::$kind(values), Self::$kind(more)) => values.extend_from_slice(more),)*
                    _ => {}
                }
            }

            /// Writes one value.
            pub(crate) fn write_one<S: Serializer>(
                &self,
                at: usize,
                serializer: S,
            ) -> std::result::Result<S::Ok, S::Error> {
                match self {
                    $(Self::$kind(values) => values[at].serialize(serializer),)*
                }
            }

            /// Some of the values.
            pub(crate) fn part(&self, range: std::ops::Range<usize>) -> Self {
                match self {
                    $(Self::$kind(values) => Self::$kind(values[range].to_vec()),)*
                }
            }
        }

        impl Serialize for Values {
            fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                match self {
                    $(Self::$kind(values) => values.serialize(serializer),)*
                }
            }
        }
    };
}

kinds! {
    Bool "BOOL" bool, "True or false.";
    Uint8 "UINT8" u8, "Bytes.";
    Uint16 "UINT16" u16, "Whole numbers from 0 of 16 bits.";
    Uint32 "UINT32" u32, "Whole numbers from 0 of 32 bits.";
    Uint64 "UINT64" u64, "Whole numbers from 0 of 64 bits.";
    Int8 "INT8" i8, "Whole numbers of 8 bits.";
    Int16 "INT16" i16, "Whole numbers of 16 bits.";
    Int32 "INT32" i32, "Whole numbers of 32 bits.";
    Int64 "INT64" i64, "Whole numbers of 64 bits.";
    Fp32 "FP32" f32, "Floats of 32 bits.";
    Fp64 "FP64" f64, "Floats of 64 bits.";
    Bytes "BYTES" String, "Texts.";
}

impl DataType {
    /// Reads the protocol's name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

fn read_all<T: FromScalar>(kind: DataType, scalars: Vec<Scalar>) -> Result<Vec<T>> {
    let read = |(at, scalar): (usize, Scalar)| {
        T::from_scalar(scalar).map_err(|shown| {
            let message = format!("value {at} is {shown}, which is not {}", kind.name());
            Error::new(codes::VALIDATION_ERROR, message)
        })
    };
    scalars.into_iter().enumerate().map(read).collect()
}

impl Values {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether every float is a number.
    #[must_use]
    pub fn are_finite(&self) -> bool {
        match self {
            Self::Fp32(values) => values.iter().all(|value| value.is_finite()),
            Self::Fp64(values) => values.iter().all(|value| value.is_finite()),
            _ => true,
        }
    }

    /// The same, where NaN stands for no value.
    #[must_use]
    pub fn are_finite_or_blank(&self) -> bool {
        match self {
            Self::Fp64(values) => !values.iter().any(|value| value.is_infinite()),
            _ => self.are_finite(),
        }
    }
}

/// A named tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// The length of each axis.
    pub shape: Vec<usize>,
    /// Its values, the last axis quickest.
    pub values: Values,
}

/// The number of values of a shape; none where it is past counting.
pub(crate) fn count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |product, length| product.checked_mul(*length))
}

/// The examples of a request or an answer: the length of the first axis of its tensors; 1 where there is none.
pub(crate) fn row_count(tensors: &[Tensor]) -> usize {
    tensors.first().map_or(1, Tensor::rows)
}

impl Tensor {
    /// A tensor whose shape fits its values.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` where it does not.
    pub fn new(name: impl Into<String>, shape: Vec<usize>, values: Values) -> Result<Self> {
        let expected = count(&shape);
        if expected == Some(values.len()) {
            return Ok(Self { name: name.into(), shape, values });
        }
        let wanted = expected.map_or_else(|| "too many".to_owned(), |count| count.to_string());
        let message = format!("the shape {shape:?} has {wanted} values, and there are {}", values.len());
        Err(Error::new(codes::VALIDATION_ERROR, message))
    }

    /// The length of the first axis; 1 where there is none.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// The shape as the protocol writes it.
    #[cfg(feature = "grpc")]
    pub(crate) fn wire_shape(&self) -> Vec<i64> {
        self.shape.iter().map(|length| i64::try_from(*length).unwrap_or(i64::MAX)).collect()
    }

    /// Whether another can stand below it: the same datatype, and the same axes but the first.
    pub(crate) fn stacks_with(&self, other: &Self) -> bool {
        self.values.kind() == other.values.kind() && self.shape.get(1..) == other.shape.get(1..)
    }

    /// Puts the rows of another below its own.
    pub(crate) fn stack(&mut self, other: &Self) {
        self.values.append(&other.values);
        if let (Some(length), Some(more)) = (self.shape.first_mut(), other.shape.first()) {
            *length += more;
        }
    }

    /// Some of its rows.
    pub(crate) fn rows_of(&self, rows: std::ops::Range<usize>) -> Self {
        let width = self.shape.get(1..).and_then(count).unwrap_or(0);
        let mut shape = self.shape.clone();
        if let Some(length) = shape.first_mut() {
            *length = rows.len();
        }
        let values = self.values.part(rows.start * width..rows.end * width);
        Self { name: self.name.clone(), shape, values }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_shape_has_as_many_values_as_it_says() {
        let values = || Values::Fp32(vec![1.0, 2.0, 3.0]);
        assert_eq!(Tensor::new("x", vec![3, 1], values()).unwrap().rows(), 3);
        assert!(Tensor::new("x", vec![], Values::Bool(vec![true])).is_ok(), "a scalar");
        assert!(Tensor::new("x", vec![2, 0], Values::Bool(vec![])).is_ok());
        for shape in [vec![2], vec![], vec![3, 2], vec![usize::MAX, 2]] {
            assert!(Tensor::new("x", shape.clone(), values()).is_err(), "{shape:?}");
        }
    }

    #[test]
    fn names_are_read_back() {
        for kind in DataType::ALL {
            assert_eq!(DataType::parse(kind.name()), Some(*kind));
        }
        assert_eq!(DataType::parse("FP16"), None);
    }

    proptest! {
        #[test]
        fn what_is_stacked_comes_apart_again(parts in prop::collection::vec(1_usize..5, 1..6), width in 1_usize..4) {
            let mut next = 0;
            let tensors: Vec<Tensor> = parts
                .iter()
                .map(|rows| {
                    let values = (0..rows * width).map(|_| { next += 1; next }).collect();
                    Tensor::new("x", vec![*rows, width], Values::Int64(values)).unwrap()
                })
                .collect();
            let mut whole = tensors[0].clone();
            for tensor in &tensors[1..] {
                prop_assert!(whole.stacks_with(tensor));
                whole.stack(tensor);
            }
            let mut at = 0;
            for tensor in &tensors {
                prop_assert_eq!(&whole.rows_of(at..at + tensor.rows()), tensor);
                at += tensor.rows();
            }
            prop_assert_eq!(at, whole.rows());
        }
    }
}
