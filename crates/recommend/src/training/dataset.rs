//! A training set made straight from rows of a foreign data set, without a view: for evaluation.
//!
//! Rows that their source marks as held out (`split: test` in the metadata, as the importer of LightGCN lists sets it)
//! are kept apart. Where no row has a time, the interactions have none: their order is that of the rows.

use hashbrown::HashMap;
use kernel::{Error, Result};

use super::set::{Basis, TrainingSet};
use crate::algorithms::Interactions;
use crate::attributes::{AttributeValue, Attributes};
use crate::import::Row;

/// Collects rows. Items and users get indices in the order they first appear.
#[derive(Debug, Default)]
pub struct Dataset {
    items: Names,
    users: Names,
    attributes: Vec<Attributes>,
    min_value: Option<f64>,
    weights: Weights,
    has_times: bool,
}

/// How much an interaction counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Weights {
    /// Its value, such as the rating; 1 without one.
    #[default]
    Values,
    /// 1, whatever its value.
    One,
}

#[derive(Debug, Default)]
struct Names {
    list: Vec<(String, String)>,
    index: HashMap<(String, String), u32>,
}

impl Names {
    fn intern(&mut self, space: &str, id: &str) -> u32 {
        let key = (space.to_owned(), id.to_owned());
        *self.index.entry(key).or_insert_with_key(|key| {
            self.list.push(key.clone());
            (self.list.len() - 1) as u32
        })
    }
}

/// The interactions of one part: user, item, weight, time in unix milliseconds.
type Part = Vec<(u32, u32, f32, i64)>;

/// The interactions of some files.
#[derive(Debug, Default)]
pub struct Events {
    /// To learn from.
    pub training: Part,
    /// Those that their source marks as held out.
    pub test: Part,
}

impl Dataset {
    /// Takes interactions with a value below `min_value` out; those without a value stay.
    #[must_use]
    pub fn new(min_value: Option<f64>, weights: Weights) -> Self {
        Self { min_value, weights, ..Self::default() }
    }

    /// Takes a row in; an interaction is added to `events`. Where no time is given, the order of rows is the time.
    pub fn push(&mut self, row: Row, events: &mut Events) {
        match row {
            Row::Entity { entity_id, entity_type, attributes, .. } => {
                let item = self.items.intern(entity_type.as_str(), entity_id.as_str()) as usize;
                self.attributes
                    .resize_with(self.items.list.len().max(self.attributes.len()), Attributes::new);
                self.attributes[item].extend(attributes);
            }
            Row::User { user_id, .. } => {
                self.users.intern("", user_id.as_str());
            }
            Row::Interaction { user_id, entity_id, entity_type, value, timestamp, metadata, .. } => {
                if let (Some(value), Some(least)) = (value, self.min_value)
                    && value < least
                {
                    return;
                }
                let is_test = metadata.get("split") == Some(&AttributeValue::Text("test".to_owned()));
                let part = if is_test { &mut events.test } else { &mut events.training };
                let user = self.users.intern("", user_id.as_str());
                let item = self.items.intern(entity_type.as_str(), entity_id.as_str());
                self.has_times |= timestamp.is_some();
                let time_ms = timestamp.map_or(part.len() as i64, kernel::Timestamp::as_millisecond);
                let weight = match (self.weights, value) {
                    (Weights::Values, Some(value)) => value as f32,
                    _ => 1.0,
                };
                // Every interaction is a choice here; a rating of 0 or less is not.
                if weight > 0.0 {
                    part.push((user, item, weight, time_ms));
                }
            }
        }
    }

    /// The interactions of one part over all items and users seen so far; without times where no row has one.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` when events are of another data set.
    pub fn interactions(&self, part: &[(u32, u32, f32, i64)]) -> Result<Interactions> {
        let in_order = Interactions::from_events(self.users.list.len(), self.items.list.len(), part)
            .map_err(Error::internal)?;
        if self.has_times {
            return Ok(in_order);
        }
        let (offsets, items) = (in_order.user_offsets().to_vec(), in_order.items().to_vec());
        let weights = in_order.weights().to_vec();
        Interactions::new(offsets, items, weights, Vec::new(), in_order.item_count()).map_err(Error::internal)
    }

    /// The training set over these interactions.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` never, as no rows are valid rows.
    pub fn into_set(mut self, interactions: Interactions) -> Result<TrainingSet> {
        self.attributes.resize_with(self.items.list.len(), Attributes::new);
        let baskets = Interactions::from_rows::<Vec<u32>>(&[], interactions.item_count());
        Ok(TrainingSet {
            baskets: baskets.map_err(Error::internal)?,
            interactions,
            items: self.items.list,
            attributes: self.attributes,
            users: self.users.list.into_iter().map(|(_, id)| id).collect(),
            basis: Basis::default(),
            embedder: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::{Id, Timestamp};

    fn row(user: &str, item: &str, value: Option<f64>, second: Option<i64>, split: Option<&str>) -> Row {
        let id = |text: &str| Id::new(text).unwrap();
        let metadata = split.map(|split| ("split".to_owned(), AttributeValue::Text(split.to_owned())));
        Row::Interaction {
            user_id: id(user),
            entity_id: id(item),
            entity_type: id("item"),
            interaction_type: id("rating"),
            value,
            timestamp: second.map(|second| Timestamp::from_second(second).unwrap()),
            metadata: metadata.into_iter().collect(),
        }
    }

    #[test]
    fn rows_become_weights_times_and_parts() {
        let check =
            |min_value, weights, rows: Vec<Row>, expected: (&[u32], &[f32], &[i64]), held_out: usize| {
                let (mut dataset, mut events) = (Dataset::new(min_value, weights), Events::default());
                rows.into_iter().for_each(|row| dataset.push(row, &mut events));
                let interactions = dataset.interactions(&events.training).unwrap();
                let row = interactions.row(0);
                assert_eq!((row.items, row.weights, row.times), expected);
                assert_eq!(dataset.interactions(&events.test).unwrap().len(), held_out);
                assert_eq!(interactions.item_count(), dataset.into_set(interactions).unwrap().items.len());
            };
        let rated = || {
            let rating = |item, value, second| row("u", item, Some(value), Some(second), None);
            vec![rating("a", 5.0, 30), rating("b", 3.0, 10), rating("c", 4.0, 20), rating("d", 0.0, 40)]
        };
        check(None, Weights::Values, rated(), (&[1, 2, 0], &[3.0, 4.0, 5.0], &[10_000, 20_000, 30_000]), 0);
        check(Some(4.0), Weights::One, rated(), (&[1, 0], &[1.0, 1.0], &[20_000, 30_000]), 0);
        check(Some(4.0), Weights::Values, rated(), (&[1, 0], &[4.0, 5.0], &[20_000, 30_000]), 0);
        let list = |split| row("u", "b", None, None, split);
        let lists =
            vec![row("u", "a", None, None, None), list(None), row("u", "c", None, None, Some("test"))];
        check(None, Weights::Values, lists, (&[0, 1], &[1.0, 1.0], &[]), 1);
        check(None, Weights::Values, vec![list(Some("train")), list(Some("test"))], (&[0], &[1.0], &[]), 1);
    }
}
