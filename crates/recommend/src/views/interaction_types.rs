//! The types of interaction and what each one says.

use serde::{Deserialize, Serialize};

/// A type of interaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InteractionType {
    /// Its name.
    pub name: Box<str>,
    /// How much one says, where it does not bring its own weight; negative for a dislike.
    pub weight: f32,
    /// For people.
    pub description: Option<Box<str>>,
    /// It was deleted: no longer accepted, still counted where it was used.
    pub deleted: bool,
}

/// The types of one tenant, the built-in ones first.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct InteractionTypes {
    list: Vec<InteractionType>,
}

/// The types every tenant begins with. A `rating` brings its own value.
pub const BUILT_IN: &[(&str, f32)] = &[
    ("view", 1.0),
    ("click", 1.0),
    ("like", 2.0),
    ("add_to_cart", 3.0),
    ("purchase", 5.0),
    ("rating", 1.0),
    ("dislike", -2.0),
];

/// The index of `rating`.
pub const RATING: u16 = 5;

/// The most types of one tenant.
pub const MAX_TYPES: usize = 1_000;

impl Default for InteractionTypes {
    fn default() -> Self {
        let built_in = |&(name, weight): &(&str, f32)| InteractionType {
            name: name.into(),
            weight,
            description: None,
            deleted: false,
        };
        Self { list: BUILT_IN.iter().map(built_in).collect() }
    }
}

impl InteractionTypes {
    /// Every type by index, deleted ones among them.
    #[must_use]
    pub fn all(&self) -> &[InteractionType] {
        &self.list
    }

    /// The index of a type that is not deleted.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<u16> {
        self.position(name).filter(|index| !self.list[usize::from(*index)].deleted)
    }

    /// What one interaction says.
    #[must_use]
    pub fn weight(&self, kind: u16, own: Option<f32>) -> f32 {
        own.unwrap_or_else(|| self.list[usize::from(kind)].weight)
    }

    /// Whether one more type fits.
    #[must_use]
    pub fn takes(&self, name: &str) -> bool {
        self.list.len() < MAX_TYPES || self.position(name).is_some()
    }

    /// Registers or changes.
    pub(super) fn put(&mut self, name: &str, weight: f32, description: Option<String>) -> u16 {
        let description = description.map(String::into_boxed_str);
        let new = InteractionType { name: name.into(), weight, description, deleted: false };
        match self.position(name) {
            Some(index) => {
                self.list[usize::from(index)] = new;
                index
            }
            None => {
                self.list.push(new);
                (self.list.len() - 1) as u16
            }
        }
    }

    pub(super) fn delete(&mut self, name: &str) {
        if let Some(index) = self.position(name) {
            self.list[usize::from(index)].deleted = true;
        }
    }

    fn position(&self, name: &str) -> Option<u16> {
        self.list.iter().position(|kind| *kind.name == *name).map(|index| index as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratings_keep_their_index() {
        let mut types = InteractionTypes::default();
        types.delete("rating");
        types.put("rating", 3.0, None);
        assert_eq!(types.find("rating"), Some(RATING));
    }
}
