//! From scores to a list: what may be shown, what the filter keeps, what boosters add, variety, the page.
//!
//! Expressions are asked in the order of score, best first, so that a budget that ends costs the worst of the list
//! and never the best. Only what the filter keeps is boosted. Without boosters, the filter is asked until the page is
//! full; with boosters, which may raise anything to the top, until all is asked. The filter and the boosters have a
//! budget of work each (see [`Expression::work`](super::expression::Expression::work)):
//! - where the filter's ends, what it was not asked of is left out;
//! - where the boosters' ends, what they were not asked of keeps the score that it has.
//!
//! Either way the answer is not complete, and says so. An expression that failed on every entity that it was asked
//! of is refused. The same goes on for every page: the order never depends on where a page begins or ends.
//!
//! Expressions may take long, and the catalogue is held meanwhile: after each slice of their work, whoever waits to change
//! it has a turn ([`Catalogue::give_way`]), and what was taken from the list by that is not asked any more.

mod asking;

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use kernel::Result;
use parking_lot::RwLockReadGuard;

use super::context::Context;
use super::expression::Subject;
use super::query::Query;
use crate::algorithms::diversity::maximal_marginal_relevance;
use crate::algorithms::topk::{ItemSet, Scored, top_k_into};
use crate::views::{Entities, Entity, TenantView};
use asking::{Asking, Said};

/// Candidates that variety re-orders, the same for every page; what comes after them is in the order of score.
const MAX_POOL: usize = 500;
/// The work that counts as one evaluation of the settings. A plain comparison is two or three.
const UNITS_PER_EVALUATION: u64 = 4;

/// The work after which others have a turn: about as long as the fold holds the view for a batch of events.
const UNITS_PER_SLICE: u64 = 2_000;

/// The catalogue that is chosen from.
pub trait Catalogue {
    /// It, as it is now.
    fn entities(&self) -> &Entities;

    /// Lets those change it who wait to. An index stays that of the same entity.
    fn give_way(&mut self) {}
}

impl Catalogue for &Entities {
    fn entities(&self) -> &Entities {
        self
    }
}

impl Catalogue for RwLockReadGuard<'_, TenantView> {
    fn entities(&self) -> &Entities {
        &self.entities
    }

    fn give_way(&mut self) {
        // One look at the lock where nobody waits.
        RwLockReadGuard::bump(self);
    }
}

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
    query: &'a Query,
    type_index: Option<Option<u16>>,
    left_out: ItemSet,
    now_ms: i64,
    units: u64,
}

impl<'a> Selector<'a> {
    /// For one query. `budget` bounds the evaluations of its expressions, counted as plain comparisons.
    #[must_use]
    pub fn new(entities: &Entities, query: &'a Query, context: &Context, now_ms: i64, budget: usize) -> Self {
        let mut left_out = if query.include_seen { ItemSet::default() } else { context.seen.clone() };
        for id in &query.exclude {
            entities.find_any_type(id).for_each(|index| left_out.insert(index));
        }
        let type_index = query.entity_type.as_deref().map(|name| entities.type_index(name));
        let units = (budget as u64).saturating_mul(UNITS_PER_EVALUATION);
        Self { query, type_index, left_out, now_ms, units }
    }

    /// Also leaves out one entity.
    pub fn leave_out(&mut self, entity: u32) {
        self.left_out.insert(entity);
    }

    /// The page. `scores` has one for each entity of the view; `similarity` serves variety.
    ///
    /// # Errors
    /// `INVALID_EXPRESSION` for an expression that failed on every entity that it was asked of.
    pub fn page(
        &self,
        catalogue: &mut impl Catalogue,
        scores: &mut [f32],
        similarity: impl Fn(u32, u32) -> f32,
    ) -> Result<Selection> {
        let end = self.query.offset.saturating_add(self.query.count);
        // One more tells whether there is a next page.
        let wanted = end.saturating_add(1);
        let diverse = self.query.diversity > 0.0;
        let depth = if diverse { wanted.max(MAX_POOL) } else { wanted };
        let (mut list, complete) = if self.query.has_expressions() {
            self.asked(catalogue, scores, depth)?
        } else {
            self.plain(catalogue.entities(), scores, depth)
        };
        if diverse {
            self.vary(&mut list, wanted, similarity);
        }
        let more = list.len() > end;
        let picked = list.into_iter().skip(self.query.offset).take(self.query.count).collect();
        Ok(Selection { picked, more, complete })
    }

    /// The best `depth` where there is nothing to ask.
    fn plain(&self, entities: &Entities, scores: &[f32], depth: usize) -> (Vec<Picked>, bool) {
        let mut found = Vec::new();
        top_k_into(scores, |entity| !self.may_be_shown(entities, entity), depth, &mut found);
        let picked = |&Scored { item: entity, score }| Picked { entity, score, boost: 0.0 };
        (found.iter().map(picked).collect(), true)
    }

    /// The best `depth` of what the filter keeps, boosted; and whether the budgets were enough.
    fn asked(
        &self,
        catalogue: &mut impl Catalogue,
        scores: &[f32],
        depth: usize,
    ) -> Result<(Vec<Picked>, bool)> {
        let entities = catalogue.entities();
        let shown = scores.iter().enumerate().map(|(item, &score)| Scored { item: item as u32, score });
        // Adding zero makes -0 and 0 the same score.
        let shown = shown.map(|Scored { item, score }| Scored { item, score: score + 0.0 });
        let mut queue: BinaryHeap<Queued> = shown
            .filter(|scored| scored.score > f32::NEG_INFINITY && self.may_be_shown(entities, scored.item))
            .map(Queued)
            .collect();
        let mut asking = Asking::new(self.query, self.units);
        let mut list = Vec::new();
        let mut unboosted = 0;
        let mut turn_at = UNITS_PER_SLICE;
        while unboosted < depth
            && let Some(Queued(Scored { item: entity, score })) = queue.pop()
        {
            if asking.spent() >= turn_at {
                turn_at = asking.spent() + UNITS_PER_SLICE;
                catalogue.give_way();
            }
            let entities = catalogue.entities();
            let Some(found) = entities.get(entity).filter(|_| self.may_be_shown(entities, entity)) else {
                continue;
            };
            match asking.ask(subject(entities, found)) {
                Said::Dropped => {}
                Said::FilterEnded => break,
                Said::Kept { boost } => {
                    // Those come in their order: no more than `depth` of them can be on the list.
                    unboosted += usize::from(boost.is_none());
                    let boost = boost.unwrap_or(0.0);
                    list.push(Picked { entity, score: score + boost, boost });
                }
            }
        }
        let complete = asking.finish()?;
        list.sort_unstable_by(|one, two| scored(one).best_first(&scored(two)));
        list.truncate(depth);
        Ok((list, complete))
    }

    /// Re-orders the pool, as far as it is wanted.
    fn vary(&self, list: &mut Vec<Picked>, wanted: usize, similarity: impl Fn(u32, u32) -> f32) {
        let pool: Vec<Scored> = list.iter().take(MAX_POOL).map(scored).collect();
        let order = maximal_marginal_relevance(&pool, wanted, 1.0 - self.query.diversity, similarity);
        let beyond = list.iter().skip(MAX_POOL).copied();
        *list = order.iter().map(|&at| list[at]).chain(beyond).take(wanted).collect();
    }

    fn may_be_shown(&self, entities: &Entities, index: u32) -> bool {
        let Some(entity) = entities.get(index) else { return false };
        entity.is_available(self.now_ms)
            && self.type_index.is_none_or(|wanted| wanted == Some(entity.type_index))
            && !self.left_out.contains(index)
    }
}

fn subject<'a>(entities: &'a Entities, entity: &'a Entity) -> Subject<'a> {
    Subject { id: &entity.id, entity_type: entities.type_of(entity), attributes: &entity.attributes }
}

fn scored(picked: &Picked) -> Scored {
    Scored { item: picked.entity, score: picked.score }
}

/// The best is the greatest.
#[derive(Debug)]
struct Queued(Scored);

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.best_first(&self.0)
    }
}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Queued {}

#[cfg(test)]
mod tests;
