//! Keys in the database: parts that keep their order when compared byte by byte.

use kernel::{Error, Result, Scope, codes};
use store::IndexValue;

const INTEGER: u8 = 1;
const TEXT: u8 = 2;

/// A key that is built part by part. Names never have the byte 0, so 0 ends them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Key(Vec<u8>);

impl Key {
    /// A key that begins with the tenant of `scope`.
    pub(crate) fn of(scope: &Scope) -> Self {
        Self::default().name(scope.tenant().as_str())
    }

    /// Adds a name without the byte 0.
    pub(crate) fn name(mut self, name: &str) -> Self {
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(0);
        self
    }

    /// Adds a value of an index.
    pub(crate) fn value(mut self, value: &IndexValue) -> Self {
        match value {
            IndexValue::Integer(number) => {
                self.0.push(INTEGER);
                // The sign bit turned, so that negative numbers come first.
                self.0.extend_from_slice(&(number ^ i64::MIN).to_be_bytes());
            }
            IndexValue::Text(text) => {
                self.0.push(TEXT);
                for byte in text.bytes() {
                    self.0.push(byte);
                    if byte == 0 {
                        self.0.push(0xff);
                    }
                }
                self.0.extend_from_slice(&[0, 0]);
            }
        }
        self
    }

    /// Adds the last part, which may have any bytes.
    pub(crate) fn last(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The smallest key that does not begin with this one. None of ours is all 0xff.
    pub(crate) fn end(&self) -> Vec<u8> {
        let mut end = self.0.clone();
        while let Some(last) = end.pop() {
            if last < 0xff {
                end.push(last + 1);
                break;
            }
        }
        end
    }
}

/// Reads a value of an index and returns what follows it.
pub(crate) fn read_value(bytes: &[u8]) -> Result<(IndexValue, &[u8])> {
    let damaged = || Error::new(codes::CORRUPTED, "an index entry cannot be read");
    let (tag, rest) = bytes.split_first().ok_or_else(damaged)?;
    match *tag {
        INTEGER => {
            let (number, rest) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
            Ok((IndexValue::Integer(i64::from_be_bytes(*number) ^ i64::MIN), rest))
        }
        TEXT => {
            let mut text = Vec::new();
            let mut place = 0;
            loop {
                match (rest.get(place), rest.get(place + 1)) {
                    (Some(0), Some(0xff)) => {
                        text.push(0);
                        place += 2;
                    }
                    (Some(0), Some(0)) => break,
                    (Some(0) | None, _) => return Err(damaged()),
                    (Some(byte), _) => {
                        text.push(*byte);
                        place += 1;
                    }
                }
            }
            let text = String::from_utf8(text).map_err(|_| damaged())?;
            Ok((IndexValue::Text(text), &rest[place + 2..]))
        }
        _ => Err(damaged()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_value() -> impl Strategy<Value = IndexValue> {
        prop_oneof![
            any::<i64>().prop_map(IndexValue::Integer),
            "[\\x00a\u{ff}]{0,4}".prop_map(IndexValue::Text),
            "\\PC{0,8}".prop_map(IndexValue::Text),
        ]
    }

    proptest! {
        #[test]
        fn values_keep_their_order(left in any_value(), right in any_value(), key in "\\PC{0,4}") {
            let bytes = |value: &IndexValue| Key::default().value(value).last(key.as_bytes()).into_bytes();
            prop_assert_eq!(bytes(&left).cmp(&bytes(&right)), left.cmp(&right));
        }

        #[test]
        fn values_round_trip(value in any_value(), key in "\\PC{0,4}") {
            let bytes = Key::default().value(&value).last(key.as_bytes()).into_bytes();
            let (again, rest) = read_value(&bytes).unwrap();
            prop_assert_eq!(again, value);
            prop_assert_eq!(rest, key.as_bytes());
        }

        #[test]
        fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let _ = read_value(&bytes);
        }
    }

    #[test]
    fn an_end_is_past_every_longer_key() {
        let key = Key::default().name("a");
        assert!(key.clone().last(&[0xff; 9]).into_bytes() < key.end());
        assert!(key.bytes() < &key.end()[..]);
    }
}
