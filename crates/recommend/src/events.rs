//! The events this domain understands: wire types and what is checked before one is appended.
//!
//! | type | data |
//! |---|---|
//! | `recommend.entity.created.v1` | [`EntityData`]; does nothing where the entity exists |
//! | `recommend.entity.put.v1` | [`EntityData`]; creates or replaces |
//! | `recommend.entity.patched.v1` | [`EntityPatch`]; changes what it names, creates where there is none |
//! | `recommend.entity.deleted.v1` | [`EntityName`] |
//! | `recommend.user.put.v1` | [`UserData`] |
//! | `recommend.user.consent.v1` | [`ConsentData`] |
//! | `recommend.interaction.recorded.v1` | [`InteractionData`]; the event's time is when it happened |
//! | `recommend.interaction_type.put.v1` | [`InteractionTypeData`] |
//! | `recommend.interaction_type.deleted.v1` | [`InteractionTypeName`] |
//! | `recommend.canary.started.v1` | [`CanaryStarted`]; made by the server alone |
//! | `recommend.canary.shown.v1` | [`CanaryShown`]; made by the server alone |
//! | `recommend.canary.decided.v1` | [`CanaryDecided`]; made by the server alone |
//! | `recommend.retention.applied.v1` | [`RetentionData`]; made by the server alone |
//! | `privacy.person.erased.v1` | [`privacy::Erased`]; made by the server alone |
//!
//! To add one: a constant in [`kinds`], a variant of [`RecommendEvent`], a line in [`RecommendEvent::read`], what
//! it does in `views`.

mod canary;
mod personal;

use std::collections::BTreeMap;
use std::fmt;

use kernel::{Error, ErrorCode, ErrorKind, Event, Id, Result, Timestamp, codes};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, OneOfBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::attributes::{AttributeValue, Attributes, check_attributes};

pub use canary::{ArmSettings, CanaryDecided, CanaryShown, CanaryStarted, Mode, Stage};
pub use personal::{AnonymousInteraction, ConsentData, OfRecommend, RetentionData};

/// The event types.
pub mod kinds {
    /// An entity was created.
    pub const ENTITY_CREATED: &str = "recommend.entity.created.v1";
    /// An entity was created or replaced.
    pub const ENTITY_PUT: &str = "recommend.entity.put.v1";
    /// Some attributes of an entity changed.
    pub const ENTITY_PATCHED: &str = "recommend.entity.patched.v1";
    /// An entity was deleted.
    pub const ENTITY_DELETED: &str = "recommend.entity.deleted.v1";
    /// A user was described.
    pub const USER_PUT: &str = "recommend.user.put.v1";
    /// A user said what their data may be used for.
    pub const USER_CONSENT: &str = "recommend.user.consent.v1";
    /// A user did something with an entity.
    pub const INTERACTION_RECORDED: &str = "recommend.interaction.recorded.v1";
    /// A type of interaction was registered or changed.
    pub const INTERACTION_TYPE_PUT: &str = "recommend.interaction_type.put.v1";
    /// A type of interaction was deleted.
    pub const INTERACTION_TYPE_DELETED: &str = "recommend.interaction_type.deleted.v1";
    /// Events older than some day count no more. No caller can send it.
    pub const RETENTION_APPLIED: &str = "recommend.retention.applied.v1";

    /// A canary began. No caller can send it.
    pub const CANARY_STARTED: &str = "recommend.canary.started.v1";
    /// A user was answered in an arm of a canary. No caller can send it.
    pub const CANARY_SHOWN: &str = "recommend.canary.shown.v1";
    /// A canary went on or back. No caller can send it.
    pub const CANARY_DECIDED: &str = "recommend.canary.decided.v1";

    /// All that callers may send.
    pub const ALL: &[&str] = &[
        ENTITY_CREATED,
        ENTITY_PUT,
        ENTITY_PATCHED,
        ENTITY_DELETED,
        USER_PUT,
        USER_CONSENT,
        INTERACTION_RECORDED,
        INTERACTION_TYPE_PUT,
        INTERACTION_TYPE_DELETED,
    ];
}

/// The interaction type is neither built in nor registered.
pub const UNKNOWN_INTERACTION_TYPE: ErrorCode = ErrorCode {
    name: "UNKNOWN_INTERACTION_TYPE",
    kind: ErrorKind::Invalid,
    title: "The interaction type is not registered",
};

/// The type of an entity whose sender named none.
pub const DEFAULT_ENTITY_TYPE: &str = "item";
const MAX_TYPE_BYTES: usize = 100;
const MAX_METADATA: usize = 64;
const MAX_METADATA_BYTES: usize = 1_000;
const MAX_DESCRIPTION_BYTES: usize = 1_000;
const MAX_WEIGHT: f64 = 1e6;
const EARLIEST_SECOND: i64 = 0;

/// The name of an entity: its id is unique within its type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntityName {
    /// The id.
    pub entity_id: Id,
    /// The type, `item` where missing.
    #[serde(default = "default_entity_type")]
    pub entity_type: String,
}

/// An entity whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntityData {
    /// The id.
    pub entity_id: Id,
    /// The type, `item` where missing.
    #[serde(default = "default_entity_type")]
    pub entity_type: String,
    /// What it is like.
    #[serde(default)]
    pub attributes: Attributes,
    /// Never recommended while true.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hidden: bool,
    /// Not recommended before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_from: Option<Timestamp>,
    /// Not recommended from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_until: Option<Timestamp>,
}

/// What changes of an entity. A missing field stays; `null` clears.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntityPatch {
    /// The id.
    pub entity_id: Id,
    /// The type, `item` where missing.
    #[serde(default = "default_entity_type")]
    pub entity_type: String,
    /// Attributes to set, or to remove where `null`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Option<AttributeValue>>,
    /// Whether it is hidden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<bool>,
    /// Not recommended before; `null` clears.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub available_from: Option<Option<Timestamp>>,
    /// Not recommended from then on; `null` clears.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub available_until: Option<Option<Timestamp>>,
}

/// A user whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserData {
    /// The id.
    pub user_id: Id,
    /// What is known of them.
    #[serde(default)]
    pub attributes: Attributes,
}

/// The type of an interaction as it is sent: `"view"`, `{"rating": 4.5}` or `{"custom": "share"}`.
#[derive(Debug, Clone, PartialEq)]
pub enum InteractionKind {
    /// A built-in or registered type.
    Named(String),
    /// A rating with its value.
    Rating(f64),
    /// A type that is registered with weight 1 where it is not known.
    Custom(String),
}

/// A user did something with an entity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InteractionData {
    /// Who.
    pub user_id: Id,
    /// With what.
    pub entity_id: Id,
    /// Its type, `item` where missing.
    #[serde(default = "default_entity_type")]
    pub entity_type: String,
    /// What they did.
    pub interaction_type: InteractionKind,
    /// How much it says, in place of the type's weight; for a `rating`, its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// The answer in which the entity was recommended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_id: Option<String>,
    /// Kept and given back, not understood.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// A type of interaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InteractionTypeData {
    /// Its name, 1 to 100 bytes.
    pub interaction_type: String,
    /// How much one says; negative for a dislike.
    pub weight: f64,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// The name of a type of interaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InteractionTypeName {
    /// Its name.
    pub interaction_type: String,
}

/// An event of this domain, read and checked.
#[derive(Debug, Clone, PartialEq)]
pub enum RecommendEvent {
    /// See [`kinds::ENTITY_CREATED`].
    EntityCreated(EntityData),
    /// See [`kinds::ENTITY_PUT`].
    EntityPut(EntityData),
    /// See [`kinds::ENTITY_PATCHED`].
    EntityPatched(EntityPatch),
    /// See [`kinds::ENTITY_DELETED`].
    EntityDeleted(EntityName),
    /// See [`kinds::USER_PUT`].
    UserPut(UserData),
    /// See [`kinds::USER_CONSENT`].
    Consent(ConsentData),
    /// See [`kinds::INTERACTION_RECORDED`].
    Interaction(InteractionData),
    /// The same of a person who was forgotten.
    Anonymous(AnonymousInteraction),
    /// See [`privacy::ERASED`].
    Erased(privacy::Erased),
    /// See [`kinds::RETENTION_APPLIED`].
    Retention(RetentionData),
    /// See [`kinds::CANARY_STARTED`].
    CanaryStarted(CanaryStarted),
    /// See [`kinds::CANARY_SHOWN`].
    CanaryShown(CanaryShown),
    /// See [`kinds::CANARY_DECIDED`].
    CanaryDecided(CanaryDecided),
    /// See [`kinds::INTERACTION_TYPE_PUT`].
    InteractionTypePut(InteractionTypeData),
    /// See [`kinds::INTERACTION_TYPE_DELETED`].
    InteractionTypeDeleted(InteractionTypeName),
}

impl RecommendEvent {
    /// Reads and checks the payload of an event; none for an event type of another domain, and for what is left of an
    /// event of a person who was forgotten where that is nothing.
    ///
    /// # Errors
    /// What does not fit, naming the field.
    pub fn read(event: &Event) -> Result<Option<Self>> {
        // An array would fill the fields in order, which nobody means.
        if event.data.as_ref().is_some_and(|data| data.get().starts_with('[')) {
            return Err(invalid("data", "must be a JSON object, not an array"));
        }
        if privacy::is_erased(event) {
            let is_counted = event.kind == kinds::INTERACTION_RECORDED;
            return is_counted.then(|| event.data_as().map(Self::Anonymous)).transpose();
        }
        let read = match event.kind.as_str() {
            kinds::ENTITY_CREATED => Self::EntityCreated(event.data_as()?),
            kinds::ENTITY_PUT => Self::EntityPut(event.data_as()?),
            kinds::ENTITY_PATCHED => Self::EntityPatched(event.data_as()?),
            kinds::ENTITY_DELETED => Self::EntityDeleted(event.data_as()?),
            kinds::USER_PUT => Self::UserPut(event.data_as()?),
            kinds::USER_CONSENT => Self::Consent(event.data_as()?),
            kinds::RETENTION_APPLIED => Self::Retention(event.data_as()?),
            kinds::CANARY_STARTED => Self::CanaryStarted(event.data_as()?),
            kinds::CANARY_SHOWN => Self::CanaryShown(event.data_as()?),
            kinds::CANARY_DECIDED => Self::CanaryDecided(event.data_as()?),
            privacy::ERASED => Self::Erased(event.data_as()?),
            kinds::INTERACTION_RECORDED => Self::Interaction(event.data_as()?),
            kinds::INTERACTION_TYPE_PUT => Self::InteractionTypePut(event.data_as()?),
            kinds::INTERACTION_TYPE_DELETED => Self::InteractionTypeDeleted(event.data_as()?),
            _ => return Ok(None),
        };
        read.check().map_err(in_data)?;
        Ok(Some(read))
    }

    fn check(&self) -> Result<()> {
        match self {
            Self::EntityCreated(entity) | Self::EntityPut(entity) => {
                check_type(&entity.entity_type, "entity_type")?;
                check_attributes(&entity.attributes, "attributes")
            }
            Self::EntityPatched(patch) => {
                check_type(&patch.entity_type, "entity_type")?;
                let set =
                    patch.attributes.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
                check_attributes(&set.collect(), "attributes")
            }
            Self::EntityDeleted(name) => check_type(&name.entity_type, "entity_type"),
            Self::UserPut(user) => check_attributes(&user.attributes, "attributes"),
            Self::Interaction(interaction) => interaction.check(),
            Self::CanaryStarted(_) | Self::CanaryShown(_) | Self::CanaryDecided(_) => Ok(()),
            Self::Consent(_) | Self::Anonymous(_) | Self::Erased(_) | Self::Retention(_) => Ok(()),
            Self::InteractionTypePut(kind) => {
                check_type(&kind.interaction_type, "interaction_type")?;
                check_weight(kind.weight, "weight")?;
                check_length(kind.description.as_deref().unwrap_or(""), MAX_DESCRIPTION_BYTES, "description")
            }
            Self::InteractionTypeDeleted(name) => check_type(&name.interaction_type, "interaction_type"),
        }
    }
}

impl InteractionData {
    fn check(&self) -> Result<()> {
        check_type(&self.entity_type, "entity_type")?;
        match &self.interaction_type {
            InteractionKind::Named(name) if name == "rating" && self.weight.is_none() => {
                let message = "a rating needs its value: send {\"rating\": 4.5} or a `weight`";
                return Err(invalid("interaction_type", message));
            }
            InteractionKind::Named(name) | InteractionKind::Custom(name) => {
                check_type(name, "interaction_type")?;
            }
            InteractionKind::Rating(value) => check_weight(*value, "interaction_type.rating")?,
        }
        if let Some(weight) = self.weight {
            check_weight(weight, "weight")?;
        }
        check_length(self.answer_id.as_deref().unwrap_or(""), 100, "answer_id")?;
        if self.metadata.len() > MAX_METADATA {
            return Err(invalid("metadata", format!("has at most {MAX_METADATA} entries")));
        }
        for (key, value) in &self.metadata {
            check_length(key, MAX_TYPE_BYTES, "metadata")?;
            check_length(value, MAX_METADATA_BYTES, &format!("metadata.{key}"))?;
        }
        Ok(())
    }

    /// The type's name and, where the interaction brings its own, the weight.
    #[must_use]
    pub fn kind(&self) -> (&str, Option<f64>) {
        self.interaction_type.with(self.weight)
    }
}

impl InteractionKind {
    /// The type's name and, where the interaction brings its own, the weight.
    fn with(&self, weight: Option<f64>) -> (&str, Option<f64>) {
        match self {
            Self::Named(name) | Self::Custom(name) => (name, weight),
            Self::Rating(value) => ("rating", Some(*value)),
        }
    }
}

/// Passes when an event could have happened: not before 1970 and not later than `now` by more than five minutes of
/// clock difference.
///
/// # Errors
/// `VALIDATION_ERROR` naming the time.
pub fn check_time(time: Timestamp, now: Timestamp) -> Result<()> {
    const TOLERANCE_SECONDS: i64 = 300;
    if time.as_second() < EARLIEST_SECOND {
        return Err(invalid("time", format!("`{time}` is before 1970; check the unit of your timestamps")));
    }
    if time.as_second() > now.as_second().saturating_add(TOLERANCE_SECONDS) {
        let message = format!("`{time}` lies in the future of the server's clock, which shows {now}");
        return Err(invalid("time", message));
    }
    Ok(())
}

fn default_entity_type() -> String {
    DEFAULT_ENTITY_TYPE.to_owned()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Tells a field that is `null` from one that is missing.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// The error of a field of the payload, named from the event.
#[must_use]
pub fn in_data(error: Error) -> Error {
    match error.field().map(|field| format!("data.{field}")) {
        Some(field) => error.with_field(field),
        None => error.with_field("data"),
    }
}

/// The error of an event that was made of something else, with the field as that calls it: the payload is the whole, and
/// the time of the event its `timestamp`.
#[must_use]
pub fn as_sent(error: Error) -> Error {
    let field = match error.field() {
        Some("time") => "timestamp".to_owned(),
        Some(field) if field.starts_with("data.") => field["data.".len()..].to_owned(),
        _ => return error,
    };
    error.with_field(field)
}

fn invalid(field: &str, message: impl Into<String>) -> Error {
    Error::new(codes::VALIDATION_ERROR, message).with_field(field)
}

fn check_type(name: &str, field: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_TYPE_BYTES || name.chars().any(char::is_control) {
        let message = format!("is 1 to {MAX_TYPE_BYTES} bytes without control characters");
        return Err(invalid(field, message));
    }
    Ok(())
}

fn check_weight(weight: f64, field: &str) -> Result<()> {
    if !weight.is_finite() || weight.abs() > MAX_WEIGHT {
        return Err(invalid(field, format!("must be a number between -{MAX_WEIGHT} and {MAX_WEIGHT}")));
    }
    Ok(())
}

fn check_length(text: &str, max_bytes: usize, field: &str) -> Result<()> {
    if text.len() > max_bytes {
        return Err(invalid(field, format!("has at most {max_bytes} bytes, not {}", text.len())));
    }
    Ok(())
}

impl ToSchema for InteractionKind {
    fn name() -> std::borrow::Cow<'static, str> {
        "InteractionKind".into()
    }
}

impl PartialSchema for InteractionKind {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
        let number = || ObjectBuilder::new().schema_type(SchemaType::Type(Type::Number));
        let one = |field: &str, value: ObjectBuilder| {
            ObjectBuilder::new()
                .property(field, value)
                .required(field)
                .additional_properties(Some(AdditionalProperties::FreeForm(false)))
        };
        let named = text().min_length(Some(1)).max_length(Some(MAX_TYPE_BYTES));
        let rating = number().minimum(Some(-MAX_WEIGHT)).maximum(Some(MAX_WEIGHT));
        let custom = text().min_length(Some(1)).max_length(Some(MAX_TYPE_BYTES));
        let schema = OneOfBuilder::new()
            .description(Some(
                "A registered type, a rating, or a type that is registered where it is not known.",
            ))
            .item(named)
            .item(one("rating", rating))
            .item(one("custom", custom));
        Schema::OneOf(schema.build()).into()
    }
}

impl Serialize for InteractionKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        match self {
            Self::Named(name) => serializer.serialize_str(name),
            Self::Rating(value) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("rating", value)?;
                map.end()
            }
            Self::Custom(name) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("custom", name)?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for InteractionKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Wire;
        impl<'de> Visitor<'de> for Wire {
            type Value = InteractionKind;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter
                    .write_str("a name, {\"rating\": 4.5} or {\"custom\": \"name\"} as an interaction type")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<InteractionKind, E> {
                Ok(InteractionKind::Named(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InteractionKind, A::Error> {
                let kind = match map.next_key::<String>()?.as_deref() {
                    Some("rating") => InteractionKind::Rating(map.next_value()?),
                    Some("custom") => InteractionKind::Custom(map.next_value()?),
                    _ => return Err(serde::de::Error::invalid_type(serde::de::Unexpected::Map, &self)),
                };
                match map.next_key::<IgnoredAny>()? {
                    None => Ok(kind),
                    Some(_) => {
                        Err(serde::de::Error::custom("an interaction type is one of `rating` and `custom`"))
                    }
                }
            }
        }
        deserializer.deserialize_any(Wire)
    }
}

#[cfg(test)]
mod tests;
