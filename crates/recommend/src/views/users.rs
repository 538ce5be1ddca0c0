//! Users and what they did, in time order.

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::Place;
use crate::attributes::Attributes;

/// One interaction in a user's history.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When it happened, in unix milliseconds.
    pub time_ms: i64,
    /// Where its event stands in the log.
    pub place: Place,
    /// The entity's index.
    pub entity: u32,
    /// Its own weight, where it brought one.
    pub weight: Option<f32>,
    /// The interaction type's index.
    pub kind: u16,
}

/// A user as they stand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct User {
    /// The id.
    pub id: Box<str>,
    /// What is known of them.
    pub attributes: Attributes,
    /// What they did, oldest first; in log order where times are equal.
    pub history: Vec<Entry>,
    /// When they were first seen, in unix milliseconds.
    pub created_at_ms: i64,
}

/// The users of one tenant.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Users {
    list: Vec<User>,
    #[serde(skip)]
    by_id: HashMap<Box<str>, u32>,
}

impl Users {
    /// Every user by index.
    #[must_use]
    pub fn all(&self) -> &[User] {
        &self.list
    }

    /// The user at `index`.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&User> {
        self.list.get(index as usize)
    }

    /// The index of a user.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<u32> {
        self.by_id.get(id).copied()
    }

    /// The index of a user, who is added where unknown.
    pub(super) fn intern(&mut self, id: &str, at_ms: i64) -> u32 {
        if let Some(index) = self.by_id.get(id) {
            return *index;
        }
        let index = self.list.len() as u32;
        self.by_id.insert(id.into(), index);
        self.list.push(User {
            id: id.into(),
            attributes: Attributes::new(),
            history: Vec::new(),
            created_at_ms: at_ms,
        });
        index
    }

    pub(super) fn describe(&mut self, index: u32, attributes: Attributes) {
        self.list[index as usize].attributes = attributes;
    }

    /// Adds to a history at the place that its time gives it.
    pub(super) fn record(&mut self, index: u32, entry: Entry) {
        let history = &mut self.list[index as usize].history;
        // Events come nearly in order, so the search from the end is short.
        let place =
            history.iter().rposition(|earlier| earlier.time_ms <= entry.time_ms).map_or(0, |at| at + 1);
        history.insert(place, entry);
    }

    /// Builds what is not stored.
    pub(super) fn index(&mut self) {
        self.by_id =
            self.list.iter().enumerate().map(|(index, user)| (user.id.clone(), index as u32)).collect();
    }
}
