//! Numbers, texts and truth values as JSON has them, in lists of any depth, read flat and in order.
//!
//! Whole numbers stay whole, so that no id of 64 bits loses digits. It refuses what is deeper than [`DEPTH_MAX`], objects, and
//! null where it is not asked for as [`Blanks`].

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Unexpected, Visitor};

/// Lists in lists.
const DEPTH_MAX: usize = 16;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    /// Null, for no value.
    Null,
}

/// Values of a list, and of lists in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Scalars(pub Vec<Scalar>);

/// The same, and null for no value, which only some models take.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Blanks(pub Vec<Scalar>);

struct Collector<'a> {
    found: &'a mut Vec<Scalar>,
    depth: usize,
    takes_null: bool,
}

impl<'de> DeserializeSeed<'de> for Collector<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Collector<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number, a text, true or false, or a list of them")
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.found.push(Scalar::Bool(value));
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.found.push(Scalar::Signed(value));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.found.push(Scalar::Unsigned(value));
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.found.push(Scalar::Float(value));
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.found.push(Scalar::Text(value.to_owned()));
        Ok(())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        if !self.takes_null {
            return Err(E::invalid_type(Unexpected::Unit, &self));
        }
        self.found.push(Scalar::Null);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if self.depth == DEPTH_MAX {
            return Err(A::Error::custom("the lists are too deep"));
        }
        let Self { found, depth, takes_null } = self;
        while list
            .next_element_seed(Collector { found: &mut *found, depth: depth + 1, takes_null })?
            .is_some()
        {}
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Scalars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut found = Vec::new();
        deserializer.deserialize_any(Collector { found: &mut found, depth: 0, takes_null: false })?;
        Ok(Self(found))
    }
}

impl From<Scalars> for Vec<Scalar> {
    fn from(Scalars(found): Scalars) -> Self {
        found
    }
}

impl From<Blanks> for Vec<Scalar> {
    fn from(Blanks(found): Blanks) -> Self {
        found
    }
}

impl<'de> Deserialize<'de> for Blanks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut found = Vec::new();
        deserializer.deserialize_any(Collector { found: &mut found, depth: 0, takes_null: true })?;
        Ok(Self(found))
    }
}

/// A value of a datatype, out of one of JSON.
pub(crate) trait FromScalar: Sized {
    /// Where it does not fit, how it is shown.
    fn from_scalar(scalar: Scalar) -> Result<Self, String>;
}

macro_rules! whole {
    ($($rust:ty)*) => {
        $(impl FromScalar for $rust {
            fn from_scalar(scalar: Scalar) -> Result<Self, String> {
                match scalar {
                    Scalar::Signed(value) => value.try_into().map_err(|_| value.to_string()),
                    Scalar::Unsigned(value) => value.try_into().map_err(|_| value.to_string()),
                    other => Err(other.shown()),
                }
            }
        })*
    };
}

whole!(u8 u16 u32 u64 i8 i16 i32 i64);

impl FromScalar for f64 {
    fn from_scalar(scalar: Scalar) -> Result<Self, String> {
        match scalar {
            Scalar::Float(value) if value.is_finite() => Ok(value),
            Scalar::Signed(value) => Ok(value as Self),
            Scalar::Unsigned(value) => Ok(value as Self),
            // Signatures refuse it where it stands for nothing.
            Scalar::Null => Ok(Self::NAN),
            other => Err(other.shown()),
        }
    }
}

impl FromScalar for f32 {
    fn from_scalar(scalar: Scalar) -> Result<Self, String> {
        if scalar == Scalar::Null {
            return Err(scalar.shown());
        }
        let value = f64::from_scalar(scalar)?;
        let narrow = value as Self;
        if narrow.is_finite() { Ok(narrow) } else { Err(value.to_string()) }
    }
}

impl FromScalar for bool {
    fn from_scalar(scalar: Scalar) -> Result<Self, String> {
        match scalar {
            Scalar::Bool(value) => Ok(value),
            other => Err(other.shown()),
        }
    }
}

impl FromScalar for String {
    fn from_scalar(scalar: Scalar) -> Result<Self, Self> {
        match scalar {
            Scalar::Text(value) => Ok(value),
            other => Err(other.shown()),
        }
    }
}

impl Scalar {
    fn shown(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Signed(value) => value.to_string(),
            Self::Unsigned(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Text(_) => "a text".to_owned(),
            Self::Null => "null".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(json: &str) -> Result<Vec<f32>, String> {
        let scalars: Scalars = serde_json::from_str(json).map_err(|cause| cause.to_string())?;
        scalars.0.into_iter().map(f32::from_scalar).collect()
    }

    #[test]
    fn nested_lists_are_read_flat() {
        assert_eq!(floats("[[1,2.5],[-3,4]]").unwrap(), [1.0, 2.5, -3.0, 4.0]);
        assert_eq!(floats("7").unwrap(), [7.0]);
        assert!(floats("[]").unwrap().is_empty());
        for bad in ["[null]", "[{}]", "[1e999]", "[NaN]", "[1e39]", "[\"a\"]", "[true]", &"[".repeat(40)] {
            assert!(floats(bad).is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<Scalars>(&format!("{}1{}", "[".repeat(17), "]".repeat(17))).is_err());
    }

    #[test]
    fn null_is_no_value_where_it_is_asked_for() {
        let Blanks(found) = serde_json::from_str("[1.5,null,[null]]").unwrap();
        assert_eq!(found, [Scalar::Float(1.5), Scalar::Null, Scalar::Null]);
        assert_eq!(serde_json::from_str::<Blanks>("null").unwrap(), Blanks(vec![Scalar::Null]));
        assert!(f64::from_scalar(Scalar::Null).unwrap().is_nan());
        assert!(f32::from_scalar(Scalar::Null).is_err() && i64::from_scalar(Scalar::Null).is_err());
        assert_eq!(String::from_scalar(Scalar::Null), Err("null".to_owned()));
    }

    #[test]
    fn whole_numbers_keep_their_digits() {
        let read = |json: &str| serde_json::from_str::<Scalars>(json).unwrap().0.remove(0);
        assert_eq!(i64::from_scalar(read("[9223372036854775807]")), Ok(i64::MAX));
        assert_eq!(u64::from_scalar(read("[18446744073709551615]")), Ok(u64::MAX));
        assert_eq!(i64::from_scalar(read("[18446744073709551615]")), Err("18446744073709551615".to_owned()));
        assert_eq!(u8::from_scalar(read("[256]")), Err("256".to_owned()));
        assert_eq!(i32::from_scalar(read("[1.5]")), Err("1.5".to_owned()));
    }
}
