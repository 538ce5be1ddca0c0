//! A shop that does not exist: a seeded generator of entities, users and interactions with structure to be
//! found.
//!
//! | planted | how it shows | what finds it |
//! |---|---|---|
//! | tastes | a user keeps to a few categories of a segment | collaborative and content models |
//! | order | a sequel after its predecessor, an accessory after a purchase | sequence models |
//! | popularity | a few entities take most of the interactions | popularity |
//! | trends | new releases enter at the top of their category and sink | decayed trending, windowed models |
//! | content | title, tags and brand follow the category | content vectors, cold entities |
//!
//! The same settings and time give the same rows, byte for byte, on every machine: random numbers come from
//! ChaCha8 and are turned into choices by this module alone. Refuses: wall clocks, and more than a user at a
//! time in memory.
//!
//! To plant one more thing: the rule in `catalogue` (what there is) or `behaviour` (what they do), a line in
//! the table, and a test that a simple model which knows of it beats one which does not.

mod behaviour;
mod catalogue;
mod sampling;
#[cfg(test)]
mod tests;
mod words;

use std::collections::VecDeque;

use kernel::{Error, Id, Result, Timestamp, codes};
use serde::{Deserialize, Serialize};

use crate::attributes::{AttributeValue, Attributes};
use crate::import::Row;
use behaviour::{Behaviour, Visitor};
use catalogue::Catalogue;
use sampling::Random;

/// How much to generate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GeneratorSettings {
    /// Users; at least 1 where there are interactions.
    pub users: u32,
    /// Entities; at least 1.
    pub entities: u32,
    /// Interactions of all types together.
    pub interactions: u64,
    /// Categories; from 1 to the number of entities.
    pub categories: u32,
    /// The time that the interactions span, up to now; 1 to 36,500.
    pub days: u32,
    /// Another seed gives another shop.
    pub seed: u64,
}

impl Default for GeneratorSettings {
    fn default() -> Self {
        Self { users: 1_000, entities: 2_000, interactions: 60_000, categories: 24, days: 90, seed: 1 }
    }
}

impl GeneratorSettings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` that names the setting.
    pub fn validate(&self) -> Result<()> {
        let require = |holds: bool, field: &str, message: &str| match holds {
            true => Ok(()),
            false => Err(Error::new(codes::VALIDATION_ERROR, message).with_field(field)),
        };
        require(self.entities > 0, "entities", "there must be at least 1 entity")?;
        require(self.users > 0 || self.interactions == 0, "users", "interactions need at least 1 user")?;
        require(
            (1..=self.entities).contains(&self.categories),
            "categories",
            "there must be at least 1 category, and no more than entities",
        )?;
        require((1..=36_500).contains(&self.days), "days", "the days must be 1 to 36500")
    }
}

/// The types of interaction that are generated, with a weight that suits each.
pub const INTERACTION_TYPES: [(&str, f64); 5] =
    [("view", 1.0), ("like", 2.0), ("add_to_cart", 3.0), ("purchase", 5.0), ("rating", 1.0)];

#[derive(Debug)]
struct Types {
    entity: Id,
    interactions: [Id; 5],
}

/// The rows of the shop: entities, then users, then interactions user by user, each user's in the order of
/// time.
#[derive(Debug)]
pub struct Generator {
    settings: GeneratorSettings,
    catalogue: Catalogue,
    behaviour: Behaviour,
    types: Types,
    entity_ids: Vec<Id>,
    now: Timestamp,
    next_entity: u32,
    next_user: u32,
    next_visitor: u32,
    /// Of all users, and of those already generated.
    total_activity: f64,
    activity: f64,
    generated: u64,
    queue: VecDeque<Row>,
}

impl Generator {
    /// A shop whose last interaction is not after `now`.
    ///
    /// # Errors
    /// As [`GeneratorSettings::validate`], and for a `now` within the first days of time.
    pub fn new(settings: GeneratorSettings, now: Timestamp) -> Result<Self> {
        settings.validate()?;
        let width = settings.entities.max(2).ilog10() as usize + 1;
        let entity_ids = (0..settings.entities)
            .map(|entity| Id::new(format!("item-{entity:0width$}")))
            .collect::<Result<_>>()?;
        let mut interactions = Vec::new();
        for (name, _) in INTERACTION_TYPES {
            interactions.push(Id::new(name)?);
        }
        let interactions =
            interactions.try_into().map_err(|_| Error::internal("five types are five types"))?;
        let catalogue = Catalogue::new(&settings, now.to_zoned(jiff::tz::TimeZone::UTC).year());
        let behaviour = Behaviour::new(&settings, &catalogue, now)?;
        let total_activity = (0..settings.users).map(|user| behaviour.activity(user)).sum();
        Ok(Self {
            catalogue,
            behaviour,
            types: Types { entity: Id::new("product")?, interactions },
            entity_ids,
            now,
            next_entity: 0,
            next_user: 0,
            next_visitor: 0,
            total_activity,
            activity: 0.0,
            generated: 0,
            queue: VecDeque::new(),
            settings,
        })
    }

    fn user_id(&self, user: u32) -> Option<Id> {
        let width = self.settings.users.max(2).ilog10() as usize + 1;
        Id::new(format!("user-{user:0width$}")).ok()
    }

    fn user(&self, user: u32) -> Option<Row> {
        let mut random = Random::of(self.settings.seed, sampling::USER_ATTRIBUTES, u64::from(user));
        let segment = self.behaviour.visitor(user).segment();
        // Segments differ in age, so that a new user is not entirely unknown.
        let age = 20.0 + 4.0 * (segment % 12) as f64 + (random.unit() * 14.0).floor();
        let attributes = Attributes::from([
            ("age".to_owned(), AttributeValue::Number(age)),
            ("country".to_owned(), AttributeValue::Text(random.pick(&words::COUNTRIES).to_owned())),
            ("member".to_owned(), AttributeValue::Boolean(random.chance(0.3))),
        ]);
        Some(Row::User { user_id: self.user_id(user)?, attributes })
    }

    /// The next user's interactions; their numbers follow the users' activity and add up exactly.
    fn visit(&mut self, user: u32) -> Option<()> {
        self.activity += self.behaviour.activity(user);
        let is_last = user + 1 == self.settings.users;
        let share = if is_last { 1.0 } else { (self.activity / self.total_activity).min(1.0) };
        let until = (self.settings.interactions as f64 * share) as u64;
        let count = until.saturating_sub(self.generated);
        self.generated += count;
        let user_id = self.user_id(user)?;
        let mut visitor: Visitor = self.behaviour.visitor(user);
        let Self { catalogue, behaviour, types, entity_ids, now, queue, .. } = self;
        behaviour.walk(&mut visitor, catalogue, count, |event| {
            queue.push_back(Row::Interaction {
                user_id: user_id.clone(),
                entity_id: entity_ids[event.entity as usize].clone(),
                entity_type: types.entity.clone(),
                interaction_type: types.interactions[event.kind as usize].clone(),
                value: event.rating,
                timestamp: Timestamp::from_second(event.unix_seconds).ok().map(|time| time.min(*now)),
                metadata: Attributes::new(),
            });
        });
        Some(())
    }
}

impl Iterator for Generator {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        if self.next_entity < self.settings.entities {
            let entity = self.next_entity;
            self.next_entity += 1;
            return Some(Row::described(
                self.entity_ids[entity as usize].clone(),
                self.types.entity.clone(),
                self.catalogue.attributes(entity),
            ));
        }
        if self.next_user < self.settings.users {
            self.next_user += 1;
            return self.user(self.next_user - 1);
        }
        while self.queue.is_empty() && self.next_visitor < self.settings.users {
            self.next_visitor += 1;
            self.visit(self.next_visitor - 1)?;
        }
        self.queue.pop_front()
    }
}
