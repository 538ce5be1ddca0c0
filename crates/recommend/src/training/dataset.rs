//! A training set made straight from rows of a foreign data set, without a view: for evaluation.

use hashbrown::HashMap;
use kernel::{Error, Result};

use super::set::TrainingSet;
use crate::algorithms::Interactions;
use crate::attributes::Attributes;
use crate::import::Row;

/// Collects rows. Items and users get indices in the order they first appear.
#[derive(Debug, Default)]
pub struct Dataset {
    items: Names,
    users: Names,
    attributes: Vec<Attributes>,
    min_value: Option<f64>,
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

/// The interactions of one file: user, item, weight, time in unix milliseconds.
pub type Events = Vec<(u32, u32, f32, i64)>;

impl Dataset {
    /// Takes interactions with a value below `min_value` out; those without a value stay.
    #[must_use]
    pub fn new(min_value: Option<f64>) -> Self {
        Self { min_value, ..Self::default() }
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
            Row::Interaction { user_id, entity_id, entity_type, value, timestamp, .. } => {
                if let (Some(value), Some(least)) = (value, self.min_value)
                    && value < least
                {
                    return;
                }
                let user = self.users.intern("", user_id.as_str());
                let item = self.items.intern(entity_type.as_str(), entity_id.as_str());
                let time_ms = timestamp.map_or(events.len() as i64, kernel::Timestamp::as_millisecond);
                let weight = value.map_or(1.0, |value| value as f32);
                // Every interaction is a choice here; a rating of 0 or less is not.
                if weight > 0.0 {
                    events.push((user, item, weight, time_ms));
                }
            }
        }
    }

    /// The interactions of one file over all items and users seen so far.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` when events are of another data set.
    pub fn interactions(&self, events: &Events) -> Result<Interactions> {
        Interactions::from_events(self.users.list.len(), self.items.list.len(), events)
            .map_err(Error::internal)
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
        })
    }
}
