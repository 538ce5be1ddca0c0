//! What training leaves and an artifact holds.

use std::sync::Arc;

use super::part::Part;
use crate::algorithms::blend::Blend;
use crate::algorithms::neighbours::Neighbours;
use crate::training::Basis;

/// What the parts are made of, as training left it and an artifact holds it.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The parts, in the order of the blend's weights.
    pub parts: Vec<Arc<Part>>,
    /// How the parts are combined.
    pub blend: Blend,
    /// What is chosen in one go with what; none without baskets.
    pub together: Option<Arc<Neighbours>>,
    /// Type and id of each item, by the index that the parts know it by.
    pub items: Vec<(String, String)>,
    /// The id of each user, by the index that the factors know them by.
    pub users: Vec<String>,
    /// Items that nobody chose, rising: only content says something of them.
    pub silent_items: Vec<u32>,
    /// What the view held when it was copied for the training.
    pub basis: Basis,
    /// The version of the embedder that content learned with; none without one, and of models of earlier releases.
    pub embedder: Option<String>,
}

impl Trained {
    /// Whether the parts fit one another.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self) -> Result<(), String> {
        let item_count = self.items.len();
        if let Some(part) = self.parts.iter().find(|part| part.recommender().item_count() != item_count) {
            return Err(format!(
                "`{}` knows another number of items than {item_count}",
                part.recommender().name()
            ));
        }
        if self.blend.source_count() != self.parts.len() {
            return Err("the blend has another number of weights than there are parts".to_owned());
        }
        self.blend.validate().map_err(|error| error.to_string())
    }
}
