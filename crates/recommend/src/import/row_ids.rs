//! Ids of rows, made of what a row says and not of where it stands: a row keeps its id when lines before it come or go,
//! and a row that was corrected has a new one.
//!
//! Rows of one file that say the same are told apart by how many there were before, which takes one 64-bit number of
//! memory for each row of the file. A time that only counts lines is no part of an id.

use std::fmt::Write;
use std::hash::Hasher;

use crc32fast::Hasher as Crc32;
use hashbrown::{HashMap, HashSet};
use rustc_hash::{FxBuildHasher, FxHasher};

use super::Row;
use crate::attributes::{AttributeValue, Attributes};

/// Gives ids to the rows of one file, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct RowIds {
    file: String,
    times_are_lines: bool,
    seen: HashSet<u64, FxBuildHasher>,
    /// How often, for what was seen more than once.
    repeated: HashMap<u64, u32, FxBuildHasher>,
}

impl RowIds {
    pub(super) fn new(file: &str, times_are_lines: bool) -> Self {
        Self { file: file.to_owned(), times_are_lines, ..Self::default() }
    }

    /// The id of the next row: `FILE:USER/ENTITY@SECONDS-CRC`, with `#2` for the second that says the same.
    pub(super) fn next(&mut self, row: &Row) -> String {
        let mut id = format!("{}:", self.file);
        let crc32 = match row {
            Row::Entity { entity_id, entity_type, attributes, hidden, available_from } => {
                id.push_str(entity_id.as_str());
                let from = available_from.map_or_else(String::new, |time| time.to_string());
                let hidden = if *hidden { "hidden" } else { "" };
                crc32_of(&["entity", entity_type.as_str(), hidden, &from], attributes)
            }
            Row::User { user_id, attributes } => {
                id.push_str(user_id.as_str());
                crc32_of(&["user"], attributes)
            }
            Row::Interaction {
                user_id,
                entity_id,
                entity_type,
                interaction_type,
                value,
                timestamp,
                metadata,
            } => {
                let _ = write!(id, "{user_id}/{entity_id}");
                let time = timestamp.filter(|_| !self.times_are_lines);
                if let Some(time) = time {
                    let _ = write!(id, "@{}", time.as_second());
                }
                let time = time.map_or_else(String::new, |time| time.as_nanosecond().to_string());
                let value = value.map_or_else(String::new, |value| value.to_bits().to_string());
                let kind = [entity_type.as_str(), interaction_type.as_str()];
                crc32_of(
                    &["interaction", user_id.as_str(), entity_id.as_str(), kind[0], kind[1], &time, &value],
                    metadata,
                )
            }
        };
        let _ = write!(id, "-{crc32:08x}");
        let count = self.count(&id);
        if count > 1 {
            let _ = write!(id, "#{count}");
        }
        id
    }

    fn count(&mut self, id: &str) -> u32 {
        let mut hasher = FxHasher::default();
        hasher.write(id.as_bytes());
        let hash = hasher.finish();
        if self.seen.insert(hash) {
            return 1;
        }
        let count = self.repeated.entry(hash).or_insert(1);
        *count += 1;
        *count
    }
}

/// Each part is preceded by its length, so that no two lists of parts are the same bytes.
fn crc32_of(parts: &[&str], attributes: &Attributes) -> u32 {
    let mut crc32 = Crc32::new();
    let mut part = |bytes: &[u8]| {
        crc32.update(&(bytes.len() as u64).to_le_bytes());
        crc32.update(bytes);
    };
    for text in parts {
        part(text.as_bytes());
    }
    for (name, value) in attributes {
        part(name.as_bytes());
        match value {
            AttributeValue::Boolean(value) => part(&[u8::from(*value)]),
            AttributeValue::Number(value) => part(&value.to_bits().to_le_bytes()),
            AttributeValue::Text(text) => part(text.as_bytes()),
            AttributeValue::Tags(tags) => {
                part(&(tags.len() as u64).to_le_bytes());
                tags.iter().for_each(|tag| part(tag.as_bytes()));
            }
        }
    }
    crc32.finalize()
}

#[cfg(test)]
mod tests {
    use kernel::{Id, Timestamp};

    use super::*;

    fn row(user: &str, item: &str, value: Option<f64>, second: Option<i64>) -> Row {
        Row::Interaction {
            user_id: Id::new(user).unwrap(),
            entity_id: Id::new(item).unwrap(),
            entity_type: Id::new("item").unwrap(),
            interaction_type: Id::new("view").unwrap(),
            value,
            timestamp: second.map(|second| Timestamp::from_second(second).unwrap()),
            metadata: Attributes::new(),
        }
    }

    #[test]
    fn an_id_says_what_and_not_where() {
        let [first, second] = [row("u", "a", None, Some(7)), row("u", "b", None, Some(8))];
        let (mut one, mut other) = (RowIds::new("f", false), RowIds::new("f", false));
        assert_eq!([one.next(&first), one.next(&second)], {
            let later = other.next(&second);
            [other.next(&first), later]
        });
        assert!(RowIds::new("f", false).next(&first).starts_with("f:u/a@7-"));
    }

    #[test]
    fn whatever_differs_is_another_row() {
        let described = |attributes: &[(&str, AttributeValue)]| {
            let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
            Row::described(Id::new("u").unwrap(), Id::new("item").unwrap(), attributes.collect())
        };
        let text = |text: &str| AttributeValue::Text(text.to_owned());
        let rows = [
            row("u", "a", None, None),
            row("u", "a", Some(1.0), None),
            row("u", "a", Some(2.0), None),
            row("u", "a", None, Some(7)),
            row("u/a", "b", None, None),
            row("u", "a/b", None, None),
            described(&[]),
            described(&[("x", text("y"))]),
            described(&[("x", AttributeValue::Tags(vec!["y".to_owned()]))]),
            Row::User { user_id: Id::new("u").unwrap(), attributes: Attributes::new() },
        ];
        let ids: HashSet<String> = rows.iter().map(|row| RowIds::new("f", false).next(row)).collect();
        assert_eq!(ids.len(), rows.len());
        assert_ne!(RowIds::new("f", false).next(&rows[0]), RowIds::new("g", false).next(&rows[0]));
    }

    #[test]
    fn rows_that_say_the_same_are_counted() {
        let mut ids = RowIds::new("f", true);
        let [first, second, third] = [1, 2, 3].map(|line| ids.next(&row("u", "a", None, Some(line))));
        assert_eq!((second, third), (format!("{first}#2"), format!("{first}#3")));
        let longest = "x".repeat(Id::MAX_BYTES);
        let id = RowIds::new(&longest, false).next(&row(&longest, &longest, None, Some(-62_135_596_800)));
        assert!(id.len() < 1_024, "an event id has at most that many bytes");
    }
}
