//! Names that come from outside, checked once where they enter.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Error, codes};

/// A name given by a caller (a user, an entity, a device): 1 to 255 bytes of UTF-8 without control characters.
///
/// Cloning is cheap: the text is shared.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(Arc<str>);

impl Id {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// Checks `text` and keeps it.
    ///
    /// # Errors
    /// `INVALID_ID` when it is empty, longer than 255 bytes, or has a control character.
    pub fn new(text: impl AsRef<str>) -> Result<Self, Error> {
        let text = text.as_ref();
        if let Some(fault) = fault_of(text) {
            return Err(Error::new(codes::INVALID_ID, fault));
        }
        Ok(Self(Arc::from(text)))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn fault_of(text: &str) -> Option<String> {
    if text.is_empty() {
        Some("an id must have at least one character".to_owned())
    } else if text.len() > Id::MAX_BYTES {
        Some(format!("an id has at most {} bytes, this one has {}", Id::MAX_BYTES, text.len()))
    } else if text.chars().any(char::is_control) {
        Some(format!("an id has no control characters, `{}` does", text.escape_debug()))
    } else {
        None
    }
}

impl TryFrom<String> for Id {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl Borrow<str> for Id {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Id {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, formatter)
    }
}

/// The tenant that owns a piece of data: 1 to 64 characters of `a-z A-Z 0-9 _ - .`, so that it can stand in
/// a key, a topic, a table name and a metric label without quoting.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// Nobody's: what the server keeps for itself or for all tenants together.
    #[must_use]
    pub fn server() -> Self {
        Self("_system".into())
    }

    /// Checks `text` and keeps it.
    ///
    /// # Errors
    /// `INVALID_TENANT` when it is empty, too long, or has a character outside the set.
    pub fn new(text: impl AsRef<str>) -> Result<Self, Error> {
        let text = text.as_ref();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if text.is_empty() || text.len() > Self::MAX_BYTES || !text.bytes().all(allowed) {
            return Err(Error::new(
                codes::INVALID_TENANT,
                format!(
                    "a tenant is 1 to {} characters of a-z A-Z 0-9 _ - ., not `{}`",
                    Self::MAX_BYTES,
                    text.escape_debug()
                ),
            ));
        }
        Ok(Self(Arc::from(text)))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TenantId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl From<TenantId> for String {
    fn from(tenant: TenantId) -> Self {
        tenant.0.as_ref().to_owned()
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_checked() {
        let check = |text: &str, good: bool| assert_eq!(Id::new(text).is_ok(), good, "{text:?}");
        check("movie:42", true);
        check("Ünïcödé 名前", true);
        check("", false);
        check("a\0b", false);
        check("line\nbreak", false);
        check(&"x".repeat(255), true);
        check(&"x".repeat(256), false);
    }

    #[test]
    fn tenants_are_checked() {
        let check = |text: &str, good: bool| assert_eq!(TenantId::new(text).is_ok(), good, "{text:?}");
        check("default", true);
        check("shop-1.eu_WEST", true);
        check("", false);
        check("a/b", false);
        check("a b", false);
        check("ü", false);
        check(&"x".repeat(65), false);
    }

    #[test]
    fn wire_form_is_checked_too() {
        assert!(serde_json::from_str::<Id>(r#""""#).is_err());
        assert_eq!(serde_json::to_string(&Id::new("a").unwrap()).unwrap(), r#""a""#);
    }
}
