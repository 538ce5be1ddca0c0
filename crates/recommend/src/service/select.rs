//! From scores to a list: what may be shown, what the filter keeps, what boosters add, variety, the page.

use std::cell::Cell;

use super::context::Context;
use super::expression::{Expression, Subject};
use super::query::Query;
use crate::algorithms::diversity::maximal_marginal_relevance;
use crate::algorithms::topk::{ItemSet, Scored, top_k_into};
use crate::views::{Entities, Entity};

/// Candidates that variety chooses from, for each result.
const POOL_FACTOR: usize = 5;
/// The least and the most a booster multiplies odds by.
const FACTOR_RANGE: (f64, f64) = (1e-6, 1e6);

/// An entity that is on the page.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Picked {
    /// Its index.
    pub entity: u32,
    /// Its score, boosters counted in.
    pub score: f32,
    /// What boosters added.
    pub boost: f32,
}

/// The page of a list.
#[derive(Debug, Default)]
pub struct Selection {
    /// Best first.
    pub picked: Vec<Picked>,
    /// Whether there is more after this page.
    pub more: bool,
    /// False when the expressions could not be asked of every entity.
    pub complete: bool,
}

/// Chooses a page.
#[derive(Debug)]
pub struct Selector<'a> {
    entities: &'a Entities,
    query: &'a Query,
    type_index: Option<Option<u16>>,
    left_out: ItemSet,
    now_ms: i64,
    budget: Cell<usize>,
}

impl<'a> Selector<'a> {
    /// For one query. `budget` bounds the evaluations of its expressions.
    #[must_use]
    pub fn new(
        entities: &'a Entities,
        query: &'a Query,
        context: &Context,
        now_ms: i64,
        budget: usize,
    ) -> Self {
        let mut left_out = if query.include_seen { ItemSet::default() } else { context.seen.clone() };
        for id in &query.exclude {
            entities.find_any_type(id).for_each(|index| left_out.insert(index));
        }
        let type_index = query.entity_type.as_deref().map(|name| entities.type_index(name));
        Self { entities, query, type_index, left_out, now_ms, budget: Cell::new(budget) }
    }

    /// Also leaves out one entity.
    pub fn leave_out(&mut self, entity: u32) {
        self.left_out.insert(entity);
    }

    /// The page. `scores` has one for each entity of the view; `similarity` serves variety.
    pub fn page(&self, scores: &mut [f32], similarity: impl Fn(u32, u32) -> f32) -> Selection {
        let boosts = if self.query.boosts.is_empty() { Vec::new() } else { self.boost(scores) };
        let end = self.query.offset.saturating_add(self.query.count);
        // One more tells whether there is a next page.
        let wanted = end.saturating_add(1);
        let diverse = self.query.diversity > 0.0;
        let pool = if diverse { wanted.saturating_mul(POOL_FACTOR).max(50) } else { wanted };
        let mut candidates = Vec::new();
        top_k_into(scores, |entity| !self.keeps(entity), pool, &mut candidates);
        let order: Vec<usize> = if diverse {
            maximal_marginal_relevance(&candidates, wanted, 1.0 - self.query.diversity, similarity)
        } else {
            (0..candidates.len().min(wanted)).collect()
        };
        let picked = |&at: &usize| {
            let Scored { item: entity, score } = candidates[at];
            Picked { entity, score, boost: boosts.get(entity as usize).copied().unwrap_or(0.0) }
        };
        let picked = order.iter().skip(self.query.offset).take(self.query.count).map(picked).collect();
        Selection { picked, more: order.len() > end, complete: self.budget.get() > 0 }
    }

    /// Adds the logarithm of each booster's factor to the scores, which are in units of log odds.
    fn boost(&self, scores: &mut [f32]) -> Vec<f32> {
        let mut added = vec![0.0; scores.len()];
        for (index, entity) in self.entities.all().iter().enumerate() {
            if !self.may_be_shown(index as u32, entity) || !scores[index].is_finite() {
                continue;
            }
            for boost in &self.query.boosts {
                if !self.spend() {
                    return added;
                }
                let factor = boost.number(self.subject(entity)).unwrap_or(1.0);
                added[index] += factor.clamp(FACTOR_RANGE.0, FACTOR_RANGE.1).ln() as f32;
            }
            scores[index] += added[index];
        }
        added
    }

    fn keeps(&self, index: u32) -> bool {
        let Some(entity) = self.entities.get(index) else { return false };
        self.may_be_shown(index, entity) && self.passes(entity, self.query.filter.as_deref())
    }

    fn may_be_shown(&self, index: u32, entity: &Entity) -> bool {
        entity.is_available(self.now_ms)
            && self.type_index.is_none_or(|wanted| wanted == Some(entity.type_index))
            && !self.left_out.contains(index)
    }

    fn passes(&self, entity: &Entity, filter: Option<&Expression>) -> bool {
        filter.is_none_or(|filter| self.spend() && filter.holds(self.subject(entity)))
    }

    fn subject(&self, entity: &'a Entity) -> Subject<'a> {
        Subject { id: &entity.id, entity_type: self.entities.type_of(entity), attributes: &entity.attributes }
    }

    fn spend(&self) -> bool {
        let left = self.budget.get();
        self.budget.set(left.saturating_sub(1));
        left > 0
    }
}
