//! What the domain tells the edge of its events: which types it understands, which events it takes, and when its
//! view shows them.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use edge::EventOwner;
use kernel::{Clock, Error, ErrorCode, ErrorKind, Event, Result, Scope};
use store::Appended;
use stream::Projector;
use tracing::warn;

use crate::events::{self, InteractionData, InteractionKind, RecommendEvent, kinds};
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
                // Written into the event, so that a rebuild under another setting gives the same view.
                interaction.interaction_type = InteractionKind::Custom(name.clone());
                event.data = Some(serde_json::value::to_raw_value(&interaction).map_err(Error::internal)?);
            }
            _ => {}
        }
        Ok(())
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
                self.admit_interaction(scope, event, interaction)
            }
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
