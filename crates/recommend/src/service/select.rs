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
//!
//! Where the list is too short for the page, stand-ins go on with it: each adds what none before it knows, behind what
//! they gave. Variety re-orders what was asked for and never what stands in for it.

mod asking;

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use hashbrown::HashSet;
use kernel::Result;
use parking_lot::RwLockReadGuard;

use super::context::Context;
use super::cursor::Shown;
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
    /// How many stand-ins come before the one that gave it; 0 where it is what was asked for.
    pub stage: usize,
    /// What took the score of a stand-in below those before it, 0 or less.
    pub shift: f32,
}

/// Gives the scores of the next stand-in, told whether the list is empty so far; none where there is none.
pub type StandIns<'a, C> = dyn FnMut(&C, bool) -> Option<Vec<f32>> + 'a;

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
    pub fn page<C: Catalogue>(
        &self,
        catalogue: &mut C,
        scores: &[f32],
        similarity: impl Fn(u32, u32) -> f32,
        stand_ins: &mut StandIns<'_, C>,
    ) -> Result<Selection> {
        let shown = &self.query.shown;
        // One more tells whether there is a next page.
        let wanted = shown.count().saturating_add(self.query.count).saturating_add(1);
        let (list, complete) = self.list(catalogue, scores, wanted, similarity, stand_ins)?;
        let names: HashSet<u32> = shown.names().collect();
        let entities = catalogue.entities();
        let mut rest = list.into_iter().filter(|picked| !is_among(entities, &names, picked.entity));
        let picked = rest.by_ref().skip(shown.forgotten()).take(self.query.count).collect();
        Ok(Selection { picked, more: rest.next().is_some(), complete })
    }

    /// The best `wanted` of the list, or all where there are fewer; and whether the budgets were enough.
    fn list<C: Catalogue>(
        &self,
        catalogue: &mut C,
        scores: &[f32],
        wanted: usize,
        similarity: impl Fn(u32, u32) -> f32,
        stand_ins: &mut StandIns<'_, C>,
    ) -> Result<(Vec<Picked>, bool)> {
        let diverse = self.query.diversity > 0.0;
        let depth = if diverse { wanted.max(MAX_POOL) } else { wanted };
        let mut asking = self.query.has_expressions().then(|| Asking::new(self.query, self.units));
        let mut list = self.stage(catalogue, scores, &ItemSet::default(), depth, asking.as_mut());
        if diverse {
            self.vary(&mut list, wanted, similarity);
        }
        let mut earlier = ItemSet::default();
        let mut last: Option<Vec<f32>> = None;
        for stage in 1.. {
            let has_ended = asking.as_ref().is_some_and(Asking::has_ended);
            if list.len() >= wanted || has_ended {
                break;
            }
            let Some(next) = stand_ins(catalogue, list.is_empty()) else { break };
            let before = last.as_deref().unwrap_or(scores).iter().enumerate();
            let known = before.filter(|(_, score)| **score > f32::NEG_INFINITY);
            known.for_each(|(entity, _)| earlier.insert(entity as u32));
            let found = self.stage(catalogue, &next, &earlier, wanted - list.len(), asking.as_mut());
            let worst = list.last().map_or(f32::INFINITY, |picked| picked.score);
            let shift = found.first().map_or(0.0, |best| (worst - best.score).min(0.0));
            let moved = |picked: Picked| {
                let score = (picked.score + shift).min(worst);
                Picked { score, stage, shift, ..picked }
            };
            list.extend(found.into_iter().map(moved));
            last = Some(next);
        }
        let complete = asking.map_or(Ok(true), Asking::finish)?;
        Ok((list, complete))
    }

    /// The best `depth` by these scores that are not `earlier`.
    fn stage(
        &self,
        catalogue: &mut impl Catalogue,
        scores: &[f32],
        earlier: &ItemSet,
        depth: usize,
        asking: Option<&mut Asking<'_>>,
    ) -> Vec<Picked> {
        match asking {
            Some(asking) => self.asked(catalogue, scores, earlier, depth, asking),
            None => self.plain(catalogue.entities(), scores, earlier, depth),
        }
    }

    /// The best `depth` where there is nothing to ask.
    fn plain(&self, entities: &Entities, scores: &[f32], earlier: &ItemSet, depth: usize) -> Vec<Picked> {
        let mut found = Vec::new();
        let is_out = |entity| earlier.contains(entity) || !self.may_be_shown(entities, entity);
        top_k_into(scores, is_out, depth, &mut found);
        found.into_iter().map(|scored| picked(scored, 0.0)).collect()
    }

    /// The best `depth` of what the filter keeps, boosted.
    fn asked(
        &self,
        catalogue: &mut impl Catalogue,
        scores: &[f32],
        earlier: &ItemSet,
        depth: usize,
        asking: &mut Asking<'_>,
    ) -> Vec<Picked> {
        let entities = catalogue.entities();
        let shown = scores.iter().enumerate().map(|(item, &score)| Scored { item: item as u32, score });
        // Adding zero makes -0 and 0 the same score.
        let shown = shown.map(|Scored { item, score }| Scored { item, score: score + 0.0 });
        let may_be = |item: u32| !earlier.contains(item) && self.may_be_shown(entities, item);
        let mut queue: BinaryHeap<Queued> = shown
            .filter(|scored| scored.score > f32::NEG_INFINITY && may_be(scored.item))
            .map(Queued)
            .collect();
        let mut list = Vec::new();
        let mut unboosted = 0;
        let mut turn_at = asking.spent() + UNITS_PER_SLICE;
        while unboosted < depth
            && let Some(Queued(found)) = queue.pop()
        {
            if asking.spent() >= turn_at {
                turn_at = asking.spent() + UNITS_PER_SLICE;
                catalogue.give_way();
            }
            let entities = catalogue.entities();
            let entity = entities.get(found.item).filter(|_| self.may_be_shown(entities, found.item));
            let Some(entity) = entity else { continue };
            match asking.ask(subject(entities, entity)) {
                Said::Dropped => {}
                Said::FilterEnded => break,
                Said::Kept { boost } => {
                    // Those come in their order: no more than `depth` of them can be on the list.
                    unboosted += usize::from(boost.is_none());
                    list.push(picked(found, boost.unwrap_or(0.0)));
                }
            }
        }
        list.sort_unstable_by(|one, two| scored(one).best_first(&scored(two)));
        list.truncate(depth);
        list
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

fn is_among(entities: &Entities, names: &HashSet<u32>, entity: u32) -> bool {
    let named = |found: &Entity| names.contains(&Shown::name(entities.type_of(found), &found.id));
    !names.is_empty() && entities.get(entity).is_some_and(named)
}

fn subject<'a>(entities: &'a Entities, entity: &'a Entity) -> Subject<'a> {
    Subject { id: &entity.id, entity_type: entities.type_of(entity), attributes: &entity.attributes }
}

fn picked(Scored { item, score }: Scored, boost: f32) -> Picked {
    Picked { entity: item, score: score + boost, boost, stage: 0, shift: 0.0 }
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
