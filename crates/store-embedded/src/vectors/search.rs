//! A search of one collection: through its graph, or exactly where that is sooner or surer.
//!
//! What passes a filter is scored exactly where it is few; where it is many, the walk through the graph is widened by the
//! part that passes, so that among the nearest of all there are enough that do. Where there are not, because what passes
//! lies far from the query, it is scored exactly after all. So there are never fewer results than there are matches.
//! The nearest by their codes are scored again by their numbers, beside every row that is not in the graph.

use store::{Match, Metric, VectorFilter};

use super::flat::{Flat, State};
use super::score::nearest_of;

/// Rows among which a walk chooses where everything passes.
const WIDTH: usize = 64;
/// For each result that is wanted, the walk is at least so wide: the last of many matter less than the first.
const WIDTH_OF_ONE: usize = 2;
/// A wider walk costs more than it finds.
const MAX_WIDTH: usize = 8_192;
/// Rows that are scored exactly for each result that is wanted, and how many at least.
const RESCORED_FOR_ONE: usize = 3;
const MIN_RESCORED: usize = 24;
/// Scoring what passes is sooner than walking where passing² ≤ this · all: a walk looks at about 20 · 64 · all / passing rows.
const FEW_OF_ALL: usize = 1_000;

/// What is asked of a collection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) metric: Metric,
    pub(super) query: &'a [f32],
    pub(super) count: usize,
    pub(super) filter: &'a VectorFilter,
}

impl Flat {
    /// The nearest rows that pass the filter, best first, ties by key; none where more than `most_rows` would be scored.
    pub(super) fn search(&self, question: &Question<'_>, most_rows: usize) -> Option<Vec<Match>> {
        let Some(wanted) = self.tags.wanted(question.filter) else { return Some(Vec::new()) };
        if question.count == 0 {
            return Some(Vec::new());
        }
        let rarest = wanted.first().map(|tag| self.tags.rows(*tag));
        let to_score = rarest.map_or(self.len(), |rows| rows.len());
        if let Some(width) = self.width(question, to_score, &wanted) {
            if self.apart.len() > most_rows {
                return None;
            }
            if let Some(found) = self.search_graph(question, width, &wanted) {
                return Some(found);
            }
        }
        if to_score > most_rows {
            return None;
        }
        let rows: Vec<u32> = match rarest {
            Some(rows) => rows.iter().copied().filter(|row| self.passes(*row, &wanted[1..])).collect(),
            None => self.rows_that(|state| !matches!(state, State::Free | State::Gone)).collect(),
        };
        Some(nearest_of(self, question.metric, question.query, question.count, &rows))
    }

    fn passes(&self, row: u32, wanted: &[u32]) -> bool {
        wanted.iter().all(|tag| self.tags_of[row as usize].binary_search(tag).is_ok())
    }

    /// How wide a walk through the graph has to be; none where it is not worth it.
    fn width(&self, question: &Question<'_>, to_score: usize, wanted: &[u32]) -> Option<usize> {
        let all = self.len();
        let few = if self.exact_rows == 0 { 0 } else { (FEW_OF_ALL * all).isqrt().max(self.exact_rows) };
        let is_asked = self.graph.is_some() && self.metric == question.metric && to_score > few;
        // With most rows apart, a walk would but add to their scores.
        if !is_asked || 2 * self.apart.len() > all {
            return None;
        }
        // As if tags were given independently of each other.
        let share = |tag: &u32| self.tags.rows(*tag).len() as f64 / all as f64;
        let part = wanted.iter().map(share).product::<f64>() * self.in_graph as f64
            / (self.in_graph + self.gone).max(1) as f64;
        let chosen_from = WIDTH.max(question.count.saturating_mul(WIDTH_OF_ONE));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
        let width = (chosen_from as f64 / part).ceil() as usize;
        (width <= MAX_WIDTH && width < all).then_some(width)
    }

    /// Walks through the graph; none where that found too few.
    fn search_graph(&self, question: &Question<'_>, width: usize, wanted: &[u32]) -> Option<Vec<Match>> {
        let mut scratch = self.scratches.lock().pop().unwrap_or_default();
        let is_told = self.graph.as_ref()?.read().search(question.query, width, &mut scratch);
        let most = MIN_RESCORED.max(question.count * RESCORED_FOR_ONE);
        let passing = |row: &u32| self.states[*row as usize] == State::InGraph && self.passes(*row, wanted);
        let found = scratch.found().iter().map(|candidate| candidate.node()).filter(passing);
        let mut rows: Vec<u32> = found.take(if is_told { most } else { 0 }).collect();
        self.scratches.lock().push(scratch);
        if rows.len() < question.count {
            return None;
        }
        rows.extend(self.apart.iter().filter(|row| self.passes(**row, wanted)));
        Some(nearest_of(self, question.metric, question.query, question.count, &rows))
    }
}
