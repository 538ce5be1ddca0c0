//! Events about a person: what they agreed to, what stays of their acts when they are forgotten, and what grows too old.

use std::collections::BTreeMap;

use kernel::{Error, Event, Id, Result};
use privacy::{Person, Personal};
use serde::{Deserialize, Serialize};

use super::{InteractionData, InteractionKind, kinds};

/// What a user agreed to. A missing flag stays as it was; both are true for a user who never said anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsentData {
    /// Who.
    pub user_id: Id,
    /// Answers may rest on what the user did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personalisation: Option<bool>,
    /// Models may learn from what the user did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<bool>,
}

/// What someone did with an entity, without who it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnonymousInteraction {
    /// With what.
    pub entity_id: Id,
    /// Its type.
    pub entity_type: String,
    /// What they did.
    pub interaction_type: InteractionKind,
    /// How much it says, in place of the type's weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
}

impl AnonymousInteraction {
    /// As [`InteractionData::kind`].
    #[must_use]
    pub fn kind(&self) -> (&str, Option<f64>) {
        self.interaction_type.with(self.weight)
    }
}

impl From<&InteractionData> for AnonymousInteraction {
    fn from(data: &InteractionData) -> Self {
        Self {
            entity_id: data.entity_id.clone(),
            entity_type: data.entity_type.clone(),
            interaction_type: data.interaction_type.clone(),
            weight: data.weight,
        }
    }
}

/// From when on things count: by interaction type or event type, the first day (since 1970, UTC) that does. It holds for
/// what comes later, too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionData {
    /// By the name of an interaction type, `recommend.interaction.recorded.v1` for every one, or
    /// `recommend.user.put.v1`.
    pub first_day: BTreeMap<String, i64>,
}

/// Says whom this domain's events are about.
#[derive(Debug, Clone, Copy, Default)]
pub struct OfRecommend;

#[derive(Deserialize)]
struct OfUser {
    user_id: Id,
}

impl Personal for OfRecommend {
    fn person(&self, event: &Event) -> Result<Option<Person>> {
        match event.kind.as_str() {
            kinds::INTERACTION_RECORDED => {
                let data: InteractionData = event.data_as()?;
                let rest = serde_json::value::to_raw_value(&AnonymousInteraction::from(&data));
                let rest = Some(rest.map_err(Error::internal)?);
                Ok(Some(Person { id: data.user_id.into(), rest }))
            }
            kinds::USER_PUT | kinds::USER_CONSENT | kinds::CANARY_SHOWN => {
                let data: OfUser = event.data_as()?;
                Ok(Some(Person { id: data.user_id.into(), rest: None }))
            }
            _ => Ok(None),
        }
    }
}
