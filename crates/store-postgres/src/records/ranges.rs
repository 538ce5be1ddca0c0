//! How index values are stored, and which keys and values a page lies between.

use kernel::{Error, Result, codes};
use store::{IndexValue, Position, Query, Selection};

const INTEGER: u8 = 0;
const TEXT: u8 = 1;

/// Bytes that sort as the values do: integers (with the sign bit flipped) before texts.
pub(super) fn value_bytes(value: &IndexValue) -> Vec<u8> {
    match value {
        IndexValue::Integer(number) => {
            let ordered = number.cast_unsigned() ^ (1 << 63);
            [&[INTEGER][..], &ordered.to_be_bytes()].concat()
        }
        IndexValue::Text(text) => [&[TEXT], text.as_bytes()].concat(),
    }
}

/// The value that was stored so.
pub(super) fn read_value(bytes: &[u8]) -> Result<IndexValue> {
    let damaged = || Error::new(codes::CORRUPTED, "a stored index value cannot be read");
    match bytes.split_first().ok_or_else(damaged)? {
        (&INTEGER, rest) => {
            let ordered = u64::from_be_bytes(rest.try_into().map_err(|_| damaged())?);
            Ok(IndexValue::Integer((ordered ^ (1 << 63)).cast_signed()))
        }
        (&TEXT, rest) => Ok(IndexValue::Text(std::str::from_utf8(rest).map_err(|_| damaged())?.to_owned())),
        _ => Err(damaged()),
    }
}

/// Where a page begins (inclusive) and ends (exclusive): by key, or by value and key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start_value: Vec<u8>,
    pub(super) start: Vec<u8>,
    pub(super) end_value: Vec<u8>,
    /// None where a list by key goes on to the last.
    pub(super) end: Option<Vec<u8>>,
}

/// The smallest bytes that are larger.
fn successor(bytes: &[u8]) -> Vec<u8> {
    [bytes, &[0]].concat()
}

/// The smallest bytes that are larger than all that begin so; none where everything begins so.
fn end_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let (last, rest) = prefix.split_last()?;
    // The byte 255 is in no UTF-8 text.
    Some([rest, &[last.saturating_add(1)]].concat())
}

impl Range {
    /// What is left of the query's list after the cursor; none when nothing is. A cursor cannot widen the list.
    pub(super) fn new(query: &Query, after: Option<&Position>) -> Option<Self> {
        let by_key = |prefix: &[u8]| Self {
            start_value: Vec::new(),
            start: prefix.to_vec(),
            end_value: Vec::new(),
            end: end_of_prefix(prefix),
        };
        // No key is empty, so (a value, no key) comes before every entry with that value.
        let by_value = |from: &IndexValue, to: &IndexValue| Self {
            start_value: value_bytes(from),
            start: Vec::new(),
            end_value: successor(&value_bytes(to)),
            end: Some(Vec::new()),
        };
        let mut range = match &query.selection {
            Selection::All => by_key(&[]),
            Selection::Prefix(prefix) => by_key(prefix.as_bytes()),
            Selection::Equal(_, value) => by_value(value, value),
            Selection::Between(_, from, to) => by_value(from, to),
        };
        if let Some(after) = after {
            let value = match (&query.selection, &after.value) {
                (Selection::Equal(_, value), _) | (_, Some(value)) => value_bytes(value),
                _ => Vec::new(),
            };
            range.cut(value, after.key.as_bytes(), query.descending);
        }
        let is_empty = match &range.end {
            None => false,
            Some(end) => (&range.start_value, &range.start) >= (&range.end_value, end),
        };
        (!is_empty).then_some(range)
    }

    fn cut(&mut self, value: Vec<u8>, key: &[u8], is_descending: bool) {
        if is_descending {
            let place = (value, key.to_vec());
            let is_less = self.end.as_ref().is_none_or(|end| (&place.0, &place.1) < (&self.end_value, end));
            if is_less {
                (self.end_value, self.end) = (place.0, Some(place.1));
            }
        } else {
            let place = (value, successor(key));
            if (&place.0, &place.1) > (&self.start_value, &self.start) {
                (self.start_value, self.start) = place;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = IndexValue> {
        prop_oneof![
            any::<i64>().prop_map(IndexValue::Integer),
            "[a-b\0\u{10ffff}]{0,4}".prop_map(IndexValue::Text)
        ]
    }

    proptest! {
        #[test]
        fn stored_values_sort_as_values_do(left in value(), right in value()) {
            prop_assert_eq!(value_bytes(&left).cmp(&value_bytes(&right)), left.cmp(&right));
            prop_assert_eq!(read_value(&value_bytes(&left)).unwrap(), left);
        }

        #[test]
        fn a_prefix_ends_after_all_that_begin_so(prefix in "\\PC{1,3}", key in "\\PC{1,5}") {
            let end = end_of_prefix(prefix.as_bytes()).unwrap();
            let within = key.as_bytes() >= prefix.as_bytes() && key.as_bytes() < &end[..];
            prop_assert_eq!(within, key.starts_with(&prefix));
        }
    }

    #[test]
    fn damaged_values_are_refused() {
        for bytes in [&[][..], &[0, 1], &[1, 0xff], &[7]] {
            assert_eq!(read_value(bytes).unwrap_err().code(), codes::CORRUPTED, "{bytes:?}");
        }
    }
}
