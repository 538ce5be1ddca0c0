//! Vectors and tags on the wire.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

/// A vector in pgvector's binary form: its length, two bytes that are zero, and its numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct EncodedVector<'a>(pub(super) &'a [f32]);

impl ToSql for EncodedVector<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_u16(u16::try_from(self.0.len())?);
        out.put_u16(0);
        self.0.iter().for_each(|number| out.put_f32(*number));
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        ty.name() == "vector"
    }

    to_sql_checked!();
}

/// A tag as one value, so that name and value cannot run into each other.
pub(super) fn encode_tag(name: &str, value: &str) -> Vec<u8> {
    let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), name.as_bytes(), value.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_has_its_documented_form() {
        let mut out = BytesMut::new();
        EncodedVector(&[1.0, -2.5]).to_sql(&Type::BYTEA, &mut out).unwrap();
        assert_eq!(out[..], [0, 2, 0, 0, 0x3f, 0x80, 0, 0, 0xc0, 0x20, 0, 0]);
    }

    #[test]
    fn tags_do_not_run_into_each_other() {
        assert_ne!(encode_tag("ab", "c"), encode_tag("a", "bc"));
        assert_ne!(encode_tag("a\0b", ""), encode_tag("a", "\0b"));
    }
}
