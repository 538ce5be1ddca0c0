//! The view of one tenant and what each event does to it.

use std::collections::BTreeMap;

use kernel::{Error, Event, Result, TenantId, Timestamp, codes};
use privacy::Erased;
use serde::{Deserialize, Serialize};

use super::activity::day_of;
use super::interaction_types::RATING;
use super::users::KeyName;
use super::{Activity, CanaryList, Entities, Entry, Exposure, InteractionTypes, Place, SetName, Users};
use crate::events::{
    AnonymousInteraction, CanaryShown, InteractionKind, RecommendEvent, RetentionData,
    UNKNOWN_INTERACTION_TYPE, kinds,
};

/// One interaction with an entity, whoever's it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mention {
    /// Where its event stands in the log.
    pub place: Place,
    /// What it said.
    weight: f32,
    /// The day since 1970 on which it happened (UTC).
    day: u16,
    /// The interaction type's index.
    kind: u16,
}

/// Since when a user's unsealed events count: the erasure's place and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Since {
    place: Place,
    time_ms: i64,
}

/// What an event is besides its data.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) time: Timestamp,
    pub(super) place: Place,
    /// The key that it was sealed under.
    pub(super) key: Option<KeyName>,
}

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
    /// What is tried on some of the users.
    pub canaries: CanaryList,
    /// For each entity, its interactions in log order, those of forgotten users among them.
    by_entity: Vec<Vec<Mention>>,
    /// By interaction type or event type, the first day that counts.
    first_day: BTreeMap<String, i64>,
    /// By [`privacy::person_hash`], users who were forgotten and whose unsealed events may still be in the log.
    forgotten: BTreeMap<String, Since>,
    /// When users were forgotten, in unix milliseconds, in log order.
    erasures_ms: Vec<i64>,
    /// Grows where a checkpoint takes the place of a view that was read: indices may then name something else, and who
    /// kept some has to find them anew.
    #[serde(skip)]
    pub epoch: u64,
    /// Of the interactions that are held, by their places.
    #[serde(skip)]
    interactions_name: SetName,
    /// A rating below it is a dislike.
    #[serde(skip)]
    pub(super) rating_least: Option<f32>,
}

impl TenantView {
    /// An empty view.
    pub(super) fn of_epoch(epoch: u64, rating_least: Option<f32>) -> Self {
        Self { epoch, rating_least, ..Self::default() }
    }

    /// Where an entity's interactions stand in the log, in log order.
    pub fn interactions_of(&self, entity: u32) -> impl DoubleEndedIterator<Item = Place> {
        let mentions = self.by_entity.get(entity as usize).map_or(&[][..], Vec::as_slice);
        mentions.iter().map(|mention| mention.place)
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
        self.weight(entry.kind, entry.weight())
    }

    /// What an interaction of a type says, with its own weight where it brought one. A rating below the least that counts
    /// as a choice says as much against its entity as it falls short.
    #[must_use]
    pub fn weight(&self, kind: u16, own: Option<f32>) -> f32 {
        let weight = self.interaction_types.weight(kind, own);
        match self.rating_least {
            Some(least) if kind == RATING && weight < least => weight - least,
            _ => weight,
        }
    }

    /// When users were forgotten, in unix milliseconds.
    #[must_use]
    pub fn erasures_ms(&self) -> &[i64] {
        &self.erasures_ms
    }

    /// Whether what is older than these days is let go of already.
    #[must_use]
    pub fn lets_go(&self, first_day: &BTreeMap<String, i64>) -> bool {
        first_day.iter().all(|(name, day)| self.first_day.get(name).is_some_and(|known| known >= day))
    }

    /// Raised by whatever changes answers without a new interaction: an erasure, and what grew too old.
    #[must_use]
    pub fn oblivion(&self) -> u64 {
        let days = self.first_day.values().fold(0_i64, |sum, day| sum.wrapping_add(*day));
        self.erasures_ms.len() as u64 + days.cast_unsigned()
    }

    /// Whether an event of the log still counts: not one of a user who was forgotten since, and not too old.
    #[must_use]
    pub fn counts(&self, event: &Event, place: Place) -> bool {
        if privacy::is_erased(event) {
            return false;
        }
        let at_ms = event.time.as_millisecond();
        let Ok(Some(read)) = RecommendEvent::read(event) else { return true };
        let user = match &read {
            RecommendEvent::Interaction(data) => {
                if !self.is_kept(data.kind().0, at_ms) {
                    return false;
                }
                &data.user_id
            }
            RecommendEvent::UserPut(data) => {
                if self.is_too_old(kinds::USER_PUT, at_ms) {
                    return false;
                }
                &data.user_id
            }
            RecommendEvent::Consent(data) => &data.user_id,
            RecommendEvent::CanaryShown(data) => &data.user_id,
            _ => return true,
        };
        if self.forgotten.is_empty() || privacy::key_of(event).is_some() {
            return true;
        }
        let since = self.forgotten.get(&privacy::person_hash(&event.tenant, user.as_str()));
        since.is_none_or(|since| match since.place.partition() == place.partition() {
            true => place.offset() > since.place.offset(),
            false => at_ms > since.time_ms,
        })
    }

    /// Takes in one event.
    ///
    /// # Errors
    /// Why it cannot be used; the view is then as it was.
    pub(super) fn apply(&mut self, event: RecommendEvent, origin: Origin<'_>) -> Result<()> {
        let Origin { place, key, .. } = origin;
        let at_ms = origin.time.as_millisecond();
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
                if !self.is_too_old(kinds::USER_PUT, at_ms) {
                    let index = self.users.intern(user.user_id.as_str(), at_ms, key);
                    self.users.describe(index, user.attributes, at_ms);
                }
            }
            RecommendEvent::Consent(said) => {
                let index = self.users.intern(said.user_id.as_str(), at_ms, key);
                self.users.agree(index, &said, at_ms);
            }
            RecommendEvent::Interaction(interaction) => {
                if let Some(entry) = self.count(&AnonymousInteraction::from(&interaction), at_ms, place)? {
                    let user = self.users.intern(interaction.user_id.as_str(), at_ms, key);
                    self.users.record(user, entry, self.weight_of(&entry) > 0.0);
                }
            }
            RecommendEvent::Anonymous(interaction) => drop(self.count(&interaction, at_ms, place)?),
            RecommendEvent::Erased(erased) => self.forget(erased, origin),
            RecommendEvent::Retention(retention) => self.retain(retention),
            RecommendEvent::CanaryStarted(started) => self.canaries.start(started, at_ms),
            RecommendEvent::CanaryShown(shown) => self.show(shown, origin)?,
            RecommendEvent::CanaryDecided(decided) => {
                if self.canaries.decide(decided, at_ms) {
                    self.users.end_canary();
                }
            }
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

    /// Counts an interaction, whoever's it is; none where it is too old to count.
    fn count(
        &mut self,
        interaction: &AnonymousInteraction,
        at_ms: i64,
        place: Place,
    ) -> Result<Option<Entry>> {
        self.check_entity_type(&interaction.entity_type)?;
        let (name, weight) = interaction.kind();
        if !self.is_kept(name, at_ms) {
            return Ok(None);
        }
        let kind = match (self.interaction_types.find(name), &interaction.interaction_type) {
            (Some(kind), _) => kind,
            (None, InteractionKind::Custom(name)) if self.interaction_types.takes(name) => {
                self.interaction_types.put(name, 1.0, None)
            }
            (None, _) => return Err(unknown_interaction_type(name)),
        };
        let entity =
            self.entities.intern(&interaction.entity_type, interaction.entity_id.as_str(), at_ms, place);
        let entry = Entry::new(place, at_ms, entity, weight.map(|weight| weight as f32), kind);
        let weight = self.weight_of(&entry);
        self.activity.record(entity, weight, at_ms);
        if self.by_entity.len() <= entity as usize {
            self.by_entity.resize_with(entity as usize + 1, Vec::new);
        }
        let day = u16::try_from(day_of(at_ms)).unwrap_or(u16::MAX);
        self.by_entity[entity as usize].push(Mention { place, weight, day, kind });
        self.interactions_name.add(name_of(place));
        Ok(Some(entry))
    }

    /// Notes what a user was shown, for as long as the canary runs. The user is known from then on also where it has ended:
    /// whether that is known already depends on the order in which partitions are read.
    fn show(&mut self, shown: CanaryShown, origin: Origin<'_>) -> Result<()> {
        let Origin { place, key, time, .. } = origin;
        for name in &shown.entities {
            self.check_entity_type(&name.entity_type)?;
        }
        let at_ms = time.as_millisecond();
        let entities = &mut self.entities;
        let of = |name: &crate::events::EntityName| {
            entities.intern(&name.entity_type, name.entity_id.as_str(), at_ms, place)
        };
        let entities = shown.entities.iter().map(of).collect();
        let index = self.users.intern(shown.user_id.as_str(), at_ms, key);
        let CanaryShown { canary, arm, failed, slow, .. } = shown;
        if !self.canaries.counts(&canary) {
            return Ok(());
        }
        let canary = canary.into();
        let mut exposure = Exposure { canary, arm, at_ms, place, failed, slow, entities, chosen_at_ms: None };
        let history = self.users.get(index).map_or(&[][..], |user| &user.history);
        let later = history.iter().rev().take_while(|entry| entry.time_ms() >= at_ms);
        later.filter(|entry| self.weight_of(entry) > 0.0).for_each(|entry| exposure.note_choice(entry));
        self.users.expose(index, exposure);
        Ok(())
    }

    /// Lets go of what ended canaries showed, at `count` of the users.
    pub(super) fn let_go(&mut self, count: usize) {
        let Self { users, canaries, .. } = self;
        users.let_go(count, |canary| canaries.counts(canary));
    }

    /// Forgets a user: what was counted stays, nothing says whose it was.
    fn forget(&mut self, erased: Erased, origin: Origin<'_>) {
        self.users.forget(&erased, |id| privacy::person_hash(origin.tenant, id));
        let time_ms = origin.time.as_millisecond();
        self.erasures_ms.push(time_ms);
        if let Some(person) = erased.person {
            self.forgotten.insert(person, Since { place: origin.place, time_ms });
        }
    }

    /// Whether an interaction of that type and time counts.
    fn is_kept(&self, interaction_type: &str, at_ms: i64) -> bool {
        !self.is_too_old(interaction_type, at_ms) && !self.is_too_old(kinds::INTERACTION_RECORDED, at_ms)
    }

    fn is_too_old(&self, name: &str, at_ms: i64) -> bool {
        self.first_day.get(name).is_some_and(|first| day_of(at_ms) < *first)
    }

    /// From now on nothing counts that is older. Days that counted once may not count again.
    fn retain(&mut self, retention: RetentionData) {
        for (name, day) in retention.first_day {
            let first = self.first_day.entry(name).or_insert(day);
            *first = (*first).max(day);
        }
        let of = |name: &str| self.first_day.get(name).copied().unwrap_or(i64::MIN);
        let of_all = of(kinds::INTERACTION_RECORDED);
        let by_kind: Vec<i64> =
            self.interaction_types.all().iter().map(|kind| of(&kind.name).max(of_all)).collect();
        let of_descriptions = of(kinds::USER_PUT);
        self.users.retain(
            |entry| day_of(entry.time_ms()) >= by_kind[usize::from(entry.kind)],
            |at_ms| day_of(at_ms) >= of_descriptions,
        );
        for mentions in &mut self.by_entity {
            mentions.retain(|mention| i64::from(mention.day) >= by_kind[usize::from(mention.kind)]);
        }
        let counted = self
            .by_entity
            .iter()
            .map(|mentions| mentions.iter().map(|mention| (mention.weight, i64::from(mention.day))));
        self.activity.count_again(counted);
        self.name_interactions();
    }

    fn check_entity_type(&self, entity_type: &str) -> Result<()> {
        if self.entities.takes_type(entity_type) { Ok(()) } else { Err(too_many("entity_type")) }
    }

    /// Builds what is not stored.
    pub(super) fn index(&mut self) {
        self.entities.index();
        self.users.index();
        self.name_interactions();
    }

    fn name_interactions(&mut self) {
        let mut name = SetName::default();
        self.by_entity.iter().flatten().for_each(|mention| name.add(name_of(mention.place)));
        self.interactions_name = name;
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
