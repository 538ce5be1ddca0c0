//! Feature sets and their rows, as they are kept, and what they may be.

use std::collections::BTreeMap;

use kernel::{Result, Timestamp};
use serde::{Deserialize, Serialize};
use store::{Document, IndexValue, Table};

use super::NewRow;
use crate::limits::invalid;

const NAME_BYTES_MAX: usize = 100;
const ENTITY_BYTES_MAX: usize = 256;
const FEATURES_MAX: usize = 200;
const TEXT_BYTES_MAX: usize = 1_000;
/// Ten years.
const TTL_SECS_MAX: u64 = 315_360_000;
/// It stands in no name.
const SEPARATOR: char = '\u{1f}';

/// What a feature is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A finite number.
    Number,
    /// A text of 1,000 bytes at most.
    Text,
    /// True or false.
    Boolean,
}

impl Kind {
    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Text => "text",
            Self::Boolean => "boolean",
        }
    }

    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Number, Self::Text, Self::Boolean];
}

/// A value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// True or false.
    Boolean(bool),
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

impl Value {
    fn kind(&self) -> Kind {
        match self {
            Self::Boolean(_) => Kind::Boolean,
            Self::Number(_) => Kind::Number,
            Self::Text(_) => Kind::Text,
        }
    }
}

/// A set of features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureSet {
    /// Its name.
    pub name: String,
    /// What its entities are, such as `user`: a user who is forgotten is forgotten in these sets too.
    pub entity_type: String,
    /// What each feature is.
    pub features: BTreeMap<String, Kind>,
    /// A value is not believed any more so long after its event time, in seconds.
    pub ttl_secs: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Document for FeatureSet {
    const TABLE: Table = Table { name: "feature_sets", indexes: &[] };

    fn key(&self) -> String {
        self.name.clone()
    }
}

fn is_name(name: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_fine)
}

/// Says what an entity's id is, where this can be none.
pub(super) fn check_entity(entity: &str) -> std::result::Result<(), String> {
    let is_fine =
        !entity.is_empty() && entity.len() <= ENTITY_BYTES_MAX && !entity.contains(char::is_control);
    if is_fine {
        Ok(())
    } else {
        Err(format!("has 1 to {ENTITY_BYTES_MAX} bytes without control characters"))
    }
}

impl FeatureSet {
    /// Passes when it makes sense.
    pub(super) fn check(&self) -> Result<()> {
        let rule = format!("has 1 to {NAME_BYTES_MAX} letters, digits, `_`, `-` and `.`");
        if !is_name(&self.name) {
            return Err(invalid("name", rule));
        }
        if !is_name(&self.entity_type) {
            return Err(invalid("entity_type", rule));
        }
        if self.features.is_empty() || self.features.len() > FEATURES_MAX {
            return Err(invalid("features", format!("has 1 to {FEATURES_MAX} entries")));
        }
        if let Some(name) = self.features.keys().find(|name| !is_name(name)) {
            return Err(invalid("features", format!("the name `{}` {rule}", name.escape_debug())));
        }
        if !(1..=TTL_SECS_MAX).contains(&self.ttl_secs) {
            return Err(invalid("ttl_secs", format!("must be between 1 and {TTL_SECS_MAX}")));
        }
        Ok(())
    }

    /// Says why a row is not taken, where it is not.
    pub(super) fn takes(&self, row: &NewRow) -> std::result::Result<(), String> {
        check_entity(&row.entity).map_err(|rule| format!("`entity` {rule}"))?;
        if row.event_time < Timestamp::UNIX_EPOCH {
            return Err("`event_time` is 1970 at the earliest".to_owned());
        }
        if row.values.is_empty() {
            return Err("`values` names no feature".to_owned());
        }
        for (name, value) in &row.values {
            let shown = name.escape_debug();
            let Some(kind) = self.features.get(name) else {
                return Err(format!("the set has no feature `{shown}`"));
            };
            if value.kind() != *kind {
                return Err(format!("`{shown}` is a {}, not a {}", kind.name(), value.kind().name()));
            }
            let is_fine = match value {
                Value::Number(number) => number.is_finite(),
                Value::Text(text) => text.len() <= TEXT_BYTES_MAX,
                Value::Boolean(_) => true,
            };
            if !is_fine {
                return Err(format!(
                    "`{shown}` is a finite number, or a text of {TEXT_BYTES_MAX} bytes at most"
                ));
            }
        }
        Ok(())
    }
}

/// What an entity's features are from a time on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    set: String,
    entity: String,
    pub(super) event_time: Timestamp,
    pub(super) written_at: Timestamp,
    pub(super) values: BTreeMap<String, Value>,
}

/// What a value takes with its name, about.
pub(super) fn size_bytes(name: &str, value: &Value) -> usize {
    let text = if let Value::Text(text) = value { text.len() } else { 0 };
    // As a number, with quotes, and its event time.
    name.len() + text + 64
}

/// How the keys of an entity begin.
pub(super) fn prefix(set: &str, entity: &str) -> String {
    format!("{set}{SEPARATOR}{entity}{SEPARATOR}")
}

impl Row {
    pub(super) fn of(set: &FeatureSet, row: &NewRow, written_at: Timestamp) -> Self {
        let NewRow { entity, event_time, values } = row.clone();
        Self { set: set.name.clone(), entity, event_time, written_at, values }
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.values.iter().map(|(name, value)| size_bytes(name, value)).sum::<usize>() + 64
    }

    /// Its key, and its place among others of the entity: by time.
    pub(super) fn place(set: &str, entity: &str, time: Timestamp) -> String {
        format!("{}{:024}", prefix(set, entity), time.as_nanosecond().max(0))
    }
}

impl Document for Row {
    const TABLE: Table = Table { name: "feature_rows", indexes: &["moment"] };

    fn key(&self) -> String {
        Self::place(&self.set, &self.entity, self.event_time)
    }

    fn indexes(&self) -> Vec<(&'static str, IndexValue)> {
        vec![("moment", IndexValue::Text(self.key()))]
    }
}
