//! Between the indices of the parts, which are those of the training, and the indices of the view.

use super::trained::Trained;
use crate::views::{Entities, SetName, TenantView};

/// Between the indices of the parts and those of the view.
#[derive(Debug, Default, Clone)]
pub struct Index {
    /// The view's index of each item; `NOWHERE` where the view has none.
    pub item_in_view: Vec<u32>,
    /// The part's index of each entity of the view; `NOWHERE` for later ones.
    pub entity_in_parts: Vec<u32>,
    /// The view's index of each user of the factors.
    pub user_in_view: Vec<u32>,
    /// Whether items stand in the parts as they do in the view.
    pub in_order: bool,
    /// The revision of the catalogue that content knows.
    pub revision: u64,
    /// The epoch of the view.
    pub epoch: u64,
    /// The name of that catalogue; none while it is the one of the training.
    pub catalogue: Option<SetName>,
}

/// No index.
pub const NOWHERE: u32 = u32::MAX;

impl Index {
    /// Finds the items and users of a trained model in a view.
    #[must_use]
    pub fn of(trained: &Trained, view: &TenantView) -> Self {
        let find =
            |(entity_type, id): &(String, String)| view.entities.find(entity_type, id).unwrap_or(NOWHERE);
        let item_in_view: Vec<u32> = trained.items.iter().map(find).collect();
        let mut entity_in_parts = vec![NOWHERE; view.entities.all().len()];
        for (item, entity) in item_in_view.iter().enumerate().filter(|(_, entity)| **entity != NOWHERE) {
            entity_in_parts[*entity as usize] = item as u32;
        }
        let user_in_view = trained.users.iter().map(|id| view.users.find(id).unwrap_or(NOWHERE)).collect();
        let in_order = item_in_view.iter().enumerate().all(|(item, entity)| *entity == item as u32);
        Self {
            item_in_view,
            entity_in_parts,
            user_in_view,
            in_order,
            revision: trained.basis.revision,
            epoch: view.epoch,
            catalogue: None,
        }
    }

    /// Gives the entities of a view that have none a place after all others.
    pub(super) fn take_in(&mut self, entities: &Entities) {
        self.entity_in_parts.resize(entities.all().len(), NOWHERE);
        for (entity, place) in self.entity_in_parts.iter_mut().enumerate().filter(|(_, at)| **at == NOWHERE) {
            *place = self.item_in_view.len() as u32;
            self.item_in_view.push(entity as u32);
        }
        self.in_order = self.item_in_view.iter().enumerate().all(|(item, entity)| *entity == item as u32);
        self.revision = entities.revision();
        self.catalogue = Some(entities.content_name());
    }
}
