//! Entities that a text finds: the trait that this domain asks for, and another plugs in, such as a search index.
//!
//! It refuses to rank by the text alone what an algorithm knows better: a text says which entities may be recommended, and
//! has a say in their order. To add a source: implement [`CandidateSource`] and hand it over in
//! [`crate::RecommendParts`].

use std::collections::BTreeMap;
use std::fmt::Debug;

use async_trait::async_trait;
use kernel::{ErrorCode, ErrorKind, Result, Scope};

use crate::views::{Entities, Entity};

/// Candidates of one text, at most.
pub const CANDIDATES_MAX: usize = 100;

/// Nothing finds entities by text here.
pub const NO_SEARCH: ErrorCode =
    ErrorCode { name: "NO_SEARCH", kind: ErrorKind::Invalid, title: "This server does not search" };

/// Finds entities by text.
#[async_trait]
pub trait CandidateSource: Debug + Send + Sync {
    /// The best candidates of the scope's tenant for a text, of one type where that is given; at most [`CANDIDATES_MAX`]. What
    /// is no entity here is passed over.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a text that it does not take; those of what it asks.
    async fn find(&self, scope: &Scope, text: &str, entity_type: Option<&str>) -> Result<Candidates>;
}

/// What a text found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Candidates {
    /// Best first.
    pub found: Vec<Candidate>,
    /// What was not looked for although it should have been, and why.
    pub fallback: Option<&'static str>,
}

/// An entity, maybe, that a text found.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its type.
    pub entity_type: String,
    /// Its id.
    pub entity_id: String,
    /// How well it fits, in the source's own unit.
    pub score: f32,
}

/// What the text says of an entity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Said {
    /// The source's score.
    pub(crate) raw: f32,
    /// What that adds, in log odds.
    pub(crate) added: f32,
}

impl Candidates {
    /// What it says of entities, by index. The odds of the one in place `k` grow by 101 / `k`: places can be compared with log
    /// odds, scores of a search cannot.
    pub(crate) fn says(&self, entities: &Entities) -> BTreeMap<u32, Said> {
        let mut said = BTreeMap::new();
        for (place, candidate) in self.found.iter().take(CANDIDATES_MAX).enumerate() {
            let found = entities.find(&candidate.entity_type, &candidate.entity_id);
            // What was deleted keeps its index, and is no entity any more.
            let exists = |index: &u32| entities.get(*index).is_some_and(Entity::exists);
            let Some(entity) = found.filter(exists) else { continue };
            let added = ((CANDIDATES_MAX + 1) as f32 / (place + 1) as f32).ln();
            said.entry(entity).or_insert(Said { raw: candidate.score, added });
        }
        said
    }
}
