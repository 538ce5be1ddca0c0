//! What the domain tells the edge of its events: which types it understands, which events it takes, and when its
//! view shows them.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use edge::EventOwner;
use kernel::{Clock, Error, ErrorCode, ErrorKind, Event, Result, Scope, Timestamp, codes};
use serde::Deserialize;
use serde::de::IgnoredAny;
use store::Appended;
use stream::Projector;
use tracing::warn;

use crate::events::{self, EntityPatch, InteractionData, InteractionKind, RecommendEvent, kinds};
use crate::settings::IngestSettings;
use crate::views::{Views, tenant};

/// The entity is not in the catalogue.
pub const ENTITY_NOT_FOUND: ErrorCode =
    ErrorCode { name: "ENTITY_NOT_FOUND", kind: ErrorKind::NotFound, title: "There is no such entity" };

/// How long a writer waits for the view. Its events are durable all the same.
const PATIENCE: Duration = Duration::from_secs(5);

/// The owner of the events in [`kinds`].
#[derive(Debug)]
pub struct RecommendOwner {
    views: Arc<Views>,
    settings: IngestSettings,
    clock: Arc<dyn Clock>,
    projector: OnceLock<Arc<Projector<Views>>>,
}

impl RecommendOwner {
    /// Checks events against these views.
    #[must_use]
    pub fn new(views: Arc<Views>, settings: IngestSettings, clock: Arc<dyn Clock>) -> Self {
        Self { views, settings, clock, projector: OnceLock::new() }
    }

    /// From now on, writers wait for this projector.
    pub fn follow(&self, projector: Arc<Projector<Views>>) {
        if self.projector.set(projector).is_err() {
            warn!("the owner follows a projector already");
        }
    }
}

impl RecommendOwner {
    fn admit_interaction(
        &self,
        scope: &Scope,
        event: &mut Event,
        mut interaction: InteractionData,
    ) -> Result<()> {
        let view = self.views.of(scope);
        let view = view.read();
        let mut is_rewritten = false;
        if names_no_type(event, &interaction) {
            let meant = view.entities.type_meant(interaction.entity_id.as_str())?;
            is_rewritten = meant != interaction.entity_type;
            meant.clone_into(&mut interaction.entity_type);
        }
        if !self.settings.auto_register_entities {
            let (entity_type, id) = (interaction.entity_type.as_str(), interaction.entity_id.as_str());
            let found = view.entities.find(entity_type, id).and_then(|index| view.entities.get(index));
            if !found.is_some_and(|entity| entity.exists()) {
                return Err(entity_not_found(entity_type, id));
            }
        }
        match &interaction.interaction_type {
            InteractionKind::Named(name) if view.interaction_types.find(name).is_none() => {
                if !self.settings.auto_register_interaction_types {
                    return Err(tenant::unknown_interaction_type(name));
                }
                interaction.interaction_type = InteractionKind::Custom(name.clone());
                is_rewritten = true;
            }
            _ => {}
        }
        if is_rewritten {
            // So that a rebuild, over another catalogue or under another setting, gives the same view.
            event.data = Some(serde_json::value::to_raw_value(&interaction).map_err(Error::internal)?.into());
        }
        Ok(())
    }

    /// What a patch leaves out is as it is known.
    fn admit_patch(&self, scope: &Scope, patch: &EntityPatch) -> Result<()> {
        if patch.available_from.is_none() && patch.available_until.is_none() {
            return Ok(());
        }
        let view = self.views.of(scope);
        let view = view.read();
        let found = view.entities.find(&patch.entity_type, patch.entity_id.as_str());
        let known = found.and_then(|index| view.entities.get(index)).filter(|entity| entity.exists());
        let time =
            |unix_ms: Option<i64>| unix_ms.and_then(|unix_ms| Timestamp::from_millisecond(unix_ms).ok());
        let from = patch.available_from.unwrap_or_else(|| time(known?.available_from_ms));
        let until = patch.available_until.unwrap_or_else(|| time(known?.available_until_ms));
        check_availability(from, until)
    }
}

/// Whether an interaction's entity has the default type because its sender named none.
fn names_no_type(event: &Event, interaction: &InteractionData) -> bool {
    #[derive(Deserialize)]
    struct Named {
        entity_type: Option<IgnoredAny>,
    }
    interaction.entity_type == events::DEFAULT_ENTITY_TYPE
        && event.data_as::<Named>().is_ok_and(|named| named.entity_type.is_none())
}

/// Refuses a time that ends before it begins. Asked where events come in only: an earlier version took such.
fn check_availability(from: Option<Timestamp>, until: Option<Timestamp>) -> Result<()> {
    match (from, until) {
        (Some(from), Some(until)) if until <= from => {
            let message = format!("`{until}` must be later than `available_from`, which is `{from}`");
            Err(Error::new(codes::VALIDATION_ERROR, message).with_field("data.available_until"))
        }
        _ => Ok(()),
    }
}

#[async_trait]
impl EventOwner for RecommendOwner {
    fn kinds(&self) -> &'static [&'static str] {
        kinds::ALL
    }

    fn admit(&self, scope: &Scope, event: &mut Event) -> Result<()> {
        privacy::check_marks(event)?;
        events::check_time(event.time, self.clock.now())?;
        match RecommendEvent::read(event)? {
            Some(RecommendEvent::Interaction(interaction)) => {
                self.admit_interaction(scope, event, interaction).map_err(events::in_data)
            }
            Some(RecommendEvent::EntityCreated(entity) | RecommendEvent::EntityPut(entity)) => {
                check_availability(entity.available_from, entity.available_until)
            }
            Some(RecommendEvent::EntityPatched(patch)) => self.admit_patch(scope, &patch),
            _ => Ok(()),
        }
    }

    async fn settled(&self, places: &[Appended]) {
        if let Some(projector) = self.projector.get()
            && let Err(error) = projector.reached(places, PATIENCE).await
        {
            warn!(error = %error.chain(), "acknowledged before the view shows it");
        }
    }
}

/// The error for an entity that is not in the catalogue.
#[must_use]
pub fn entity_not_found(entity_type: &str, id: &str) -> Error {
    let message =
        format!("there is no entity `{}` of type `{}`", id.escape_debug(), entity_type.escape_debug());
    Error::new(ENTITY_NOT_FOUND, message).with_field("entity_id")
}
