//! The two trees walked together: what the parser calls while it reads a message. See [`super::capture`].

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::capture::{Captured, Node, Role, Scalar};

/// Reads an object whose names are the children of `node`.
pub(super) struct Object<'n, 'c, 'a> {
    pub(super) node: &'n Node,
    pub(super) captured: &'c mut Captured<'a>,
}

impl<'de> DeserializeSeed<'de> for Object<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(child) = map.next_key_seed(Name(self.node))? {
            match child {
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
                Some(child) if matches!(child.leaf, Some((Role::Metadata, _))) => {
                    let raw: &'de RawValue = map.next_value()?;
                    self.captured.metadata(child, raw);
                }
                Some(child) => map.next_value_seed(Value { node: child, captured: self.captured })?,
            }
        }
        Ok(())
    }
}

/// Looks a name up without keeping it.
struct Name<'n>(&'n Node);

impl<'de, 'n> DeserializeSeed<'de> for Name<'n> {
    type Value = Option<&'n Node>;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'n> Visitor<'_> for Name<'n> {
    type Value = Option<&'n Node>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.child(name))
    }
}

/// Reads a value that has a role, names under it, or both.
struct Value<'n, 'c, 'a> {
    node: &'n Node,
    captured: &'c mut Captured<'a>,
}

impl<'a> Value<'_, '_, 'a> {
    fn put(self, value: Scalar<'a>) {
        if let Some(leaf) = self.node.leaf {
            self.captured.put(leaf, value);
        }
    }

    fn is_raw_payload(&self) -> bool {
        matches!(self.node.leaf, Some((Role::RawPayload, _)))
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.put(Scalar::Other("true or false"));
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.put(Scalar::Integer(number));
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.put(i64::try_from(number).map_or(Scalar::Float(number as f64), Scalar::Integer));
        Ok(())
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        self.put(Scalar::Float(number));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if self.is_raw_payload() {
            self.captured.adopt(Captured::read(text, self.node));
        } else {
            self.put(Scalar::Text(Cow::Owned(text.to_owned())));
        }
        Ok(())
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<(), E> {
        if self.is_raw_payload() {
            self.captured.adopt(Captured::read(text, self.node));
        } else {
            self.put(Scalar::Text(Cow::Borrowed(text)));
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        self.put(Scalar::Other("a list"));
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        if self.node.children.is_empty() {
            IgnoredAny.visit_map(map)?;
            self.put(Scalar::Other("an object"));
            return Ok(());
        }
        Object { node: self.node, captured: self.captured }.visit_map(map)
    }
}
