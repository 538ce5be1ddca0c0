//! The little of the protocol buffers wire format that a dump needs: fields of one message, unknown ones
//! passed over. (<https://protobuf.dev/programming-guides/encoding/>)

/// The value of one field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// Reads the fields of a message in order; ends after the first that is broken.
#[derive(Debug, Clone)]
pub(super) struct Message<'a> {
    rest: &'a [u8],
}

impl<'a> Message<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((tag >> 3, value))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Message<'a> {
    type Item = Result<(u64, Value<'a>), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.rest = &[];
        }
        Some(field.ok_or("the message is cut off or is not of protocol buffers"))
    }
}

#[cfg(test)]
pub(super) mod encode {
    //! The other direction, for tests.

    pub(in crate::import) fn varint(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    pub(in crate::import) fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
        [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
    }

    pub(in crate::import) fn number(field: u64, value: u64) -> Vec<u8> {
        [varint(field << 3), varint(value)].concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_are_read() {
        let bytes = [
            encode::bytes(1, b"ab"),
            encode::number(3, 300),
            [vec![7 << 3 | 1], 1.5_f64.to_bits().to_le_bytes().to_vec()].concat(),
            vec![9 << 3 | 5, 1, 0, 0, 0],
        ]
        .concat();
        let fields: Vec<_> = Message::new(&bytes).map(Result::unwrap).collect();
        assert_eq!(
            fields,
            [
                (1, Value::Bytes(b"ab")),
                (3, Value::Varint(300)),
                (7, Value::Fixed64(1.5_f64.to_bits())),
                (9, Value::Fixed32(1)),
            ]
        );
        assert!(Message::new(&bytes[..3]).any(|field| field.is_err()));
        assert!(Message::new(&[0xff; 12]).any(|field| field.is_err()));
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            prop_assert!(Message::new(&bytes).count() <= bytes.len());
        }
    }
}
