//! The view of one tenant and what each event does to it.

use kernel::{Error, Result, Timestamp, codes};
use serde::{Deserialize, Serialize};

use super::{Activity, Entities, Entry, InteractionTypes, Place, SetName, Users};
use crate::events::{InteractionData, InteractionKind, RecommendEvent, UNKNOWN_INTERACTION_TYPE};

/// Everything that requests of one tenant read.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TenantView {
    /// The catalogue.
    pub entities: Entities,
    /// The users and their histories.
    pub users: Users,
    /// The types of interaction.
    pub interaction_types: InteractionTypes,
    /// How much each entity is used.
    pub activity: Activity,
    /// For each entity, where its interactions stand in the log, in log order.
    by_entity: Vec<Vec<Place>>,
    /// Grows where a checkpoint takes the place of a view that was read: indices may then name something else, and who
    /// kept some has to find them anew.
    #[serde(skip)]
    pub epoch: u64,
    /// Of the interactions that are held, by their places.
    #[serde(skip)]
    interactions_name: SetName,
}

impl TenantView {
    /// An empty view.
    pub(super) fn of_epoch(epoch: u64) -> Self {
        Self { epoch, ..Self::default() }
    }

    /// Where an entity's interactions stand in the log, in log order.
    #[must_use]
    pub fn interactions_of(&self, entity: u32) -> &[Place] {
        self.by_entity.get(entity as usize).map_or(&[], Vec::as_slice)
    }

    /// The name of the set of interactions that are held: with several partitions, or where a part of the log is gone, their
    /// number names no state.
    #[must_use]
    pub fn interactions_name(&self) -> SetName {
        self.interactions_name
    }

    /// What one entry of a history says.
    #[must_use]
    pub fn weight_of(&self, entry: &Entry) -> f32 {
        self.interaction_types.weight(entry.kind, entry.weight)
    }

    /// Takes in one event.
    ///
    /// # Errors
    /// Why it cannot be used; the view is then as it was.
    pub(super) fn apply(&mut self, event: RecommendEvent, time: Timestamp, place: Place) -> Result<()> {
        let at_ms = time.as_millisecond();
        match event {
            RecommendEvent::EntityCreated(data) => {
                self.check_entity_type(&data.entity_type)?;
                self.entities.put(data, true, at_ms, place);
            }
            RecommendEvent::EntityPut(data) => {
                self.check_entity_type(&data.entity_type)?;
                self.entities.put(data, false, at_ms, place);
            }
            RecommendEvent::EntityPatched(patch) => {
                self.check_entity_type(&patch.entity_type)?;
                self.entities.patch(patch, at_ms, place);
            }
            RecommendEvent::EntityDeleted(name) => {
                self.entities.delete(&name.entity_type, name.entity_id.as_str(), at_ms);
            }
            RecommendEvent::UserPut(user) => {
                let index = self.users.intern(user.user_id.as_str(), at_ms);
                self.users.describe(index, user.attributes);
            }
            RecommendEvent::Interaction(interaction) => self.record(&interaction, at_ms, place)?,
            RecommendEvent::InteractionTypePut(kind) => {
                if !self.interaction_types.takes(&kind.interaction_type) {
                    return Err(too_many("interaction_type"));
                }
                self.interaction_types.put(&kind.interaction_type, kind.weight as f32, kind.description);
            }
            RecommendEvent::InteractionTypeDeleted(kind) => {
                self.interaction_types.delete(&kind.interaction_type);
            }
        }
        Ok(())
    }

    fn record(&mut self, interaction: &InteractionData, at_ms: i64, place: Place) -> Result<()> {
        self.check_entity_type(&interaction.entity_type)?;
        let (name, weight) = interaction.kind();
        let kind = match (self.interaction_types.find(name), &interaction.interaction_type) {
            (Some(kind), _) => kind,
            (None, InteractionKind::Custom(name)) if self.interaction_types.takes(name) => {
                self.interaction_types.put(name, 1.0, None)
            }
            (None, _) => return Err(unknown_interaction_type(name)),
        };
        let entity =
            self.entities.intern(&interaction.entity_type, interaction.entity_id.as_str(), at_ms, place);
        let user = self.users.intern(interaction.user_id.as_str(), at_ms);
        let entry = Entry { time_ms: at_ms, place, entity, weight: weight.map(|weight| weight as f32), kind };
        self.users.record(user, entry);
        self.activity.record(entity, self.weight_of(&entry), at_ms);
        if self.by_entity.len() <= entity as usize {
            self.by_entity.resize_with(entity as usize + 1, Vec::new);
        }
        self.by_entity[entity as usize].push(place);
        self.interactions_name.add(name_of(place));
        Ok(())
    }

    fn check_entity_type(&self, entity_type: &str) -> Result<()> {
        if self.entities.takes_type(entity_type) { Ok(()) } else { Err(too_many("entity_type")) }
    }

    /// Builds what is not stored.
    pub(super) fn index(&mut self) {
        self.entities.index();
        self.users.index();
        self.interactions_name = SetName::default();
        self.by_entity.iter().flatten().for_each(|place| self.interactions_name.add(name_of(*place)));
    }
}

fn name_of(place: Place) -> SetName {
    SetName::of(&place.number().to_le_bytes())
}

/// The error for a type that is neither built in nor registered.
#[must_use]
pub fn unknown_interaction_type(name: &str) -> Error {
    let message = format!(
        "`{}` is not registered; POST it to /api/v1/interaction-types, or send {{\"custom\": \"{0}\"}}",
        name.escape_debug()
    );
    Error::new(UNKNOWN_INTERACTION_TYPE, message).with_field("interaction_type")
}

fn too_many(field: &str) -> Error {
    Error::new(codes::VALIDATION_ERROR, "there are 1,000 of them already; use one of those").with_field(field)
}
