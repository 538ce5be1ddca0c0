//! What is searched for: items with a type, an id, a text, attributes and tags; and what limits them.
//!
//! It refuses nested attributes as filters: they are kept and given back, and cannot be asked for. To add a limit: here,
//! in [`Item::check`], and in the field's schema in `http`.

use std::collections::BTreeSet;

use kernel::{Error, Id, Result, codes};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The longest text, in bytes.
pub const TEXT_BYTES_MAX: usize = 256 << 10;
/// The most bytes of attributes, as JSON.
pub const METADATA_BYTES_MAX: usize = 64 << 10;
/// The most tags of an item.
pub const TAGS_MAX: usize = 100;
/// The longest tag and type, in bytes.
pub const TAG_BYTES_MAX: usize = 200;

/// Between the type and the id in a key; neither has control characters.
const SEPARATOR: char = '\u{1f}';

/// The type and id of an item.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemName {
    /// What kind of thing it is, 1 to 200 bytes.
    pub entity_type: Id,
    /// Unique within its type, 1 to 255 bytes.
    pub entity_id: Id,
}

impl ItemName {
    /// One name for both.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}{SEPARATOR}{}", self.entity_type, self.entity_id)
    }

    /// The name of a key.
    ///
    /// # Errors
    /// `CORRUPTED` for what is no key.
    pub fn of_key(key: &str) -> Result<Self> {
        let parts =
            key.split_once(SEPARATOR).ok_or_else(|| Error::new(codes::CORRUPTED, "a key is damaged"))?;
        Ok(Self { entity_type: Id::new(parts.0)?, entity_id: Id::new(parts.1)? })
    }

    /// Checks what an [`Id`] does not.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the field.
    pub fn check(&self) -> Result<()> {
        check_length("entity_type", self.entity_type.as_str(), TAG_BYTES_MAX)
    }
}

/// One thing that can be found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// What kind of thing it is.
    pub entity_type: Id,
    /// Unique within its type.
    pub entity_id: Id,
    /// What it is found by.
    pub text: String,
    /// Given back with it; strings, numbers and booleans can be asked for.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    /// What it can be asked for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
}

impl Item {
    /// Its type and id.
    #[must_use]
    pub fn name(&self) -> ItemName {
        ItemName { entity_type: self.entity_type.clone(), entity_id: self.entity_id.clone() }
    }

    /// Checks every limit.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the field.
    pub fn check(&self) -> Result<()> {
        self.name().check()?;
        if self.text.trim().is_empty() {
            return Err(invalid("text", "has nothing to be found by"));
        }
        check_length("text", &self.text, TEXT_BYTES_MAX)?;
        if self.tags.len() > TAGS_MAX {
            return Err(invalid(
                "tags",
                format!("an item has at most {TAGS_MAX} tags, not {}", self.tags.len()),
            ));
        }
        for tag in &self.tags {
            check_tag("tags", tag)?;
        }
        let bytes = serde_json::to_vec(&self.metadata).map_err(Error::internal)?.len();
        if bytes > METADATA_BYTES_MAX {
            let message = format!("has at most {METADATA_BYTES_MAX} bytes as JSON, not {bytes}");
            return Err(invalid("metadata", message));
        }
        Ok(())
    }

    /// A hash of all of it: what was made of another state of the item has another.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` where it has no JSON form.
    pub fn digest(&self) -> Result<u64> {
        let hash = blake3::hash(&serde_json::to_vec(self).map_err(Error::internal)?);
        let (first, _) =
            hash.as_bytes().split_first_chunk::<8>().ok_or_else(|| Error::internal("a short hash"))?;
        Ok(u64::from_le_bytes(*first))
    }

    /// The attributes that can be asked for, as one text each. Long ones cannot.
    pub fn attributes(&self) -> impl Iterator<Item = String> {
        let short = |attribute: &String| attribute.len() <= 2 * TAG_BYTES_MAX;
        self.metadata.iter().filter_map(|(name, value)| attribute(name, value)).filter(short)
    }
}

/// An attribute as one text; nothing for lists, objects and null.
#[must_use]
pub fn attribute(name: &str, value: &Value) -> Option<String> {
    let shown = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(bool) => bool.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    Some(format!("{name}{SEPARATOR}{shown}"))
}

/// Checks a tag, or a type in a filter.
///
/// # Errors
/// `VALIDATION_ERROR` naming the field.
pub fn check_tag(field: &str, tag: &str) -> Result<()> {
    if tag.is_empty() || tag.chars().any(char::is_control) {
        return Err(invalid(field, "is 1 character at least, and none is a control character"));
    }
    check_length(field, tag, TAG_BYTES_MAX)
}

fn check_length(field: &str, text: &str, bytes_max: usize) -> Result<()> {
    if text.len() <= bytes_max {
        return Ok(());
    }
    Err(invalid(field, format!("has at most {bytes_max} bytes, not {}", text.len())))
}

pub(crate) fn invalid(field: &str, message: impl Into<String>) -> Error {
    Error::new(codes::VALIDATION_ERROR, message).with_field(field)
}

/// What happened to an item.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// It is there now, in place of what was there before.
    Put(Box<Item>),
    /// It is gone.
    Delete(ItemName),
}

impl Change {
    /// The key of the item.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Put(item) => item.name().key(),
            Self::Delete(name) => name.key(),
        }
    }

    /// Checks every limit.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the field.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Put(item) => item.check(),
            Self::Delete(name) => name.check(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(item: &Value, field: Option<&str>) {
        let found = serde_json::from_value::<Item>(item.clone()).unwrap().check();
        let found = found.err().map(|error| error.field().unwrap_or_default().to_owned());
        assert_eq!(found.as_deref(), field, "{item}");
    }

    #[test]
    fn limits_are_held() {
        let item = |text: &str, tags: Value| json!({"entity_type": "t", "entity_id": "1", "text": text, "tags": tags});
        check(&item("x", json!([])), None);
        check(&item(" \n", json!([])), Some("text"));
        check(&item(&"x".repeat(TEXT_BYTES_MAX + 1), json!([])), Some("text"));
        check(&item("x", json!([""])), Some("tags"));
        check(&item("x", json!(["\u{7}"])), Some("tags"));
        check(&item("x", (0..101).map(|tag| tag.to_string()).collect()), Some("tags"));
        let long = json!({"entity_type": "t".repeat(201), "entity_id": "1", "text": "x"});
        check(&long, Some("entity_type"));
        let heavy =
            json!({"entity_type": "t", "entity_id": "1", "text": "x", "metadata": {"a": "x".repeat(70_000)}});
        check(&heavy, Some("metadata"));
    }

    #[test]
    fn keys_and_attributes_are_unambiguous() {
        let name = ItemName { entity_type: Id::new("a").unwrap(), entity_id: Id::new("b/c").unwrap() };
        assert_eq!(ItemName::of_key(&name.key()).unwrap(), name);
        assert!(ItemName::of_key("nonsense").is_err());
        assert_eq!(attribute("year", &json!(1994)).unwrap(), "year\u{1f}1994");
        assert_eq!(attribute("list", &json!([1])), None);
    }
}
