//! The catalogue: entities by type and id, with dense indices.

use hashbrown::HashMap;
use kernel::{Error, Result, codes};
use serde::{Deserialize, Serialize};

use super::{Place, SetName};
use crate::attributes::Attributes;
use crate::events::{DEFAULT_ENTITY_TYPE, EntityData, EntityPatch};

/// An entity as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entity {
    /// Its id, unique within its type.
    pub id: Box<str>,
    /// The index of its type's name.
    pub type_index: u16,
    /// What it is like.
    pub attributes: Attributes,
    /// Never recommended while true.
    pub hidden: bool,
    /// It was described by an event, and not only named in an interaction.
    pub described: bool,
    /// It was deleted. Its index stays, because histories refer to it.
    pub deleted: bool,
    /// Not recommended before, in unix milliseconds.
    pub available_from_ms: Option<i64>,
    /// Not recommended from then on, in unix milliseconds.
    pub available_until_ms: Option<i64>,
    /// When it was first described or named, in unix milliseconds.
    pub created_at_ms: i64,
    /// When it last changed, in unix milliseconds.
    pub updated_at_ms: i64,
    /// Where the event that created it stands in the log, so that a creator can tell whether it came first.
    pub created_place: Place,
    /// The catalogue's revision at its last change.
    pub revision: u64,
}

impl Entity {
    /// Whether it may be recommended at this time.
    #[must_use]
    pub fn is_available(&self, now_ms: i64) -> bool {
        !self.hidden
            && !self.deleted
            && self.available_from_ms.is_none_or(|from| from <= now_ms)
            && self.available_until_ms.is_none_or(|until| now_ms < until)
    }

    /// Whether a caller may see it at all.
    #[must_use]
    pub fn exists(&self) -> bool {
        !self.deleted
    }
}

/// The entities of one tenant.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Entities {
    types: Vec<Box<str>>,
    list: Vec<Entity>,
    existing: u64,
    revision: u64,
    #[serde(skip)]
    by_name: Vec<HashMap<Box<str>, u32>>,
    /// Of each entity as it stands, and of all together.
    #[serde(skip)]
    names: Vec<SetName>,
    #[serde(skip)]
    name: SetName,
}

impl Entities {
    /// Every entity by index, deleted ones among them.
    #[must_use]
    pub fn all(&self) -> &[Entity] {
        &self.list
    }

    /// Grows with every description, change or deletion, so that what is derived from the catalogue can tell.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The name of what the catalogue holds. Unlike the revision, it is the same on every replica that holds the same.
    #[must_use]
    pub fn content_name(&self) -> SetName {
        self.name
    }

    /// How many are not deleted.
    #[must_use]
    pub fn existing(&self) -> u64 {
        self.existing
    }

    /// The entity at `index`.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&Entity> {
        self.list.get(index as usize)
    }

    /// The names of the types, by index.
    #[must_use]
    pub fn types(&self) -> &[Box<str>] {
        &self.types
    }

    /// The name of an entity's type.
    #[must_use]
    pub fn type_of(&self, entity: &Entity) -> &str {
        &self.types[usize::from(entity.type_index)]
    }

    /// The index of a type.
    #[must_use]
    pub fn type_index(&self, entity_type: &str) -> Option<u16> {
        self.types.iter().position(|name| **name == *entity_type).map(|index| index as u16)
    }

    /// The index of an entity, deleted or not.
    #[must_use]
    pub fn find(&self, entity_type: &str, id: &str) -> Option<u32> {
        self.by_name.get(usize::from(self.type_index(entity_type)?))?.get(id).copied()
    }

    /// The indices of every entity with this id, whatever its type.
    pub fn find_any_type(&self, id: &str) -> impl Iterator<Item = u32> {
        self.by_name.iter().filter_map(move |names| names.get(id).copied())
    }

    /// The one entity that exists with this id, whatever its type; none where there is none.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` on `entity_type` where several types have one.
    pub fn only(&self, id: &str) -> Result<Option<u32>> {
        let mut found = self.find_any_type(id).filter(|index| self.get(*index).is_some_and(Entity::exists));
        let first = found.next();
        if found.next().is_some() {
            let message = format!("several types have an entity `{}`; name one", id.escape_debug());
            return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("entity_type"));
        }
        Ok(first)
    }

    /// The type that is meant where a sender named none: that of the one entity with this id, else
    /// [`DEFAULT_ENTITY_TYPE`].
    ///
    /// # Errors
    /// Those of [`Entities::only`].
    pub fn type_meant(&self, id: &str) -> Result<&str> {
        let found = self.only(id)?.and_then(|index| self.get(index));
        Ok(found.map_or(DEFAULT_ENTITY_TYPE, |entity| self.type_of(entity)))
    }

    /// Creates or replaces. An entity that exists and was described is left as it is when `only_new`.
    pub(super) fn put(&mut self, data: EntityData, only_new: bool, at_ms: i64, place: Place) -> u32 {
        let index = self.intern(&data.entity_type, data.entity_id.as_str(), at_ms, place);
        let entity = &mut self.list[index as usize];
        if only_new && entity.described && !entity.deleted {
            return index;
        }
        if entity.deleted {
            self.existing += 1;
        }
        if entity.deleted || !entity.described {
            entity.created_at_ms = at_ms;
            entity.created_place = place;
        }
        entity.attributes = data.attributes;
        entity.hidden = data.hidden;
        entity.described = true;
        entity.deleted = false;
        entity.available_from_ms = data.available_from.map(kernel::Timestamp::as_millisecond);
        entity.available_until_ms = data.available_until.map(kernel::Timestamp::as_millisecond);
        entity.updated_at_ms = at_ms;
        self.touch(index);
        index
    }

    /// Changes what the patch names; creates the entity where there is none.
    pub(super) fn patch(&mut self, patch: EntityPatch, at_ms: i64, place: Place) {
        let index = self.intern(&patch.entity_type, patch.entity_id.as_str(), at_ms, place);
        let entity = &mut self.list[index as usize];
        if entity.deleted {
            entity.deleted = false;
            self.existing += 1;
        }
        if !entity.described {
            entity.created_at_ms = at_ms;
            entity.created_place = place;
        }
        for (key, value) in patch.attributes {
            match value {
                Some(value) => drop(entity.attributes.insert(key, value)),
                None => drop(entity.attributes.remove(&key)),
            }
        }
        if let Some(hidden) = patch.hidden {
            entity.hidden = hidden;
        }
        if let Some(from) = patch.available_from {
            entity.available_from_ms = from.map(kernel::Timestamp::as_millisecond);
        }
        if let Some(until) = patch.available_until {
            entity.available_until_ms = until.map(kernel::Timestamp::as_millisecond);
        }
        entity.described = true;
        entity.updated_at_ms = at_ms;
        self.touch(index);
    }

    /// Deletes; false when there is no such entity.
    pub(super) fn delete(&mut self, entity_type: &str, id: &str, at_ms: i64) -> bool {
        let found = self.find(entity_type, id);
        let Some(index) = found.filter(|index| !self.list[*index as usize].deleted) else { return false };
        let entity = &mut self.list[index as usize];
        entity.deleted = true;
        entity.described = false;
        entity.attributes = Attributes::new();
        entity.updated_at_ms = at_ms;
        self.existing -= 1;
        self.touch(index);
        true
    }

    fn touch(&mut self, index: u32) {
        self.revision += 1;
        self.list[index as usize].revision = self.revision;
        self.rename(index);
    }

    /// Names an entity as it stands now.
    fn rename(&mut self, index: u32) {
        let at = index as usize;
        let name = content_name(&self.list[at], &self.types);
        if self.names.len() <= at {
            self.names.resize(at + 1, SetName::default());
        }
        self.name.remove(std::mem::replace(&mut self.names[at], name));
        self.name.add(name);
    }

    /// The index of an entity, which is added where it is not known.
    pub(super) fn intern(&mut self, entity_type: &str, id: &str, at_ms: i64, place: Place) -> u32 {
        let type_index = self.intern_type(entity_type);
        let names = &mut self.by_name[usize::from(type_index)];
        if let Some(index) = names.get(id) {
            return *index;
        }
        let index = self.list.len() as u32;
        names.insert(id.into(), index);
        self.existing += 1;
        self.list.push(Entity {
            id: id.into(),
            type_index,
            attributes: Attributes::new(),
            hidden: false,
            described: false,
            deleted: false,
            available_from_ms: None,
            available_until_ms: None,
            created_at_ms: at_ms,
            updated_at_ms: at_ms,
            created_place: place,
            revision: 0,
        });
        self.rename(index);
        index
    }

    fn intern_type(&mut self, entity_type: &str) -> u16 {
        if let Some(index) = self.type_index(entity_type) {
            return index;
        }
        self.types.push(entity_type.into());
        self.by_name.push(HashMap::new());
        (self.types.len() - 1) as u16
    }

    /// Whether one more type fits.
    #[must_use]
    pub fn takes_type(&self, entity_type: &str) -> bool {
        self.types.len() < MAX_TYPES || self.type_index(entity_type).is_some()
    }

    /// Builds what is not stored.
    pub(super) fn index(&mut self) {
        self.by_name = vec![HashMap::new(); self.types.len()];
        for (index, entity) in self.list.iter().enumerate() {
            self.by_name[usize::from(entity.type_index)].insert(entity.id.clone(), index as u32);
        }
        self.names = self.list.iter().map(|entity| content_name(entity, &self.types)).collect();
        self.name = SetName::default();
        self.names.iter().for_each(|name| self.name.add(*name));
    }
}

/// Of everything that an answer may depend on: not of the revision and the place, which differ by replica.
fn content_name(entity: &Entity, types: &[Box<str>]) -> SetName {
    let Entity { id, attributes, hidden, described, deleted, created_at_ms, .. } = entity;
    let what = (id, &types[usize::from(entity.type_index)], attributes, (hidden, described, deleted));
    let when = (entity.available_from_ms, entity.available_until_ms, created_at_ms);
    let bytes = postcard::to_stdvec(&(what, when)).expect("every part of an entity can be encoded");
    SetName::of(&bytes)
}

/// The most entity types of one tenant.
pub const MAX_TYPES: usize = 1_000;
