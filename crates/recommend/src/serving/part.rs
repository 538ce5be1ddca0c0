//! One trained algorithm of any kind, and what its scores rest on.
//!
//! To add a part: a variant here, its family, and where it is fitted in `training/fit.rs`.

use serde::{Deserialize, Serialize};

use crate::algorithms::als::Als;
use crate::algorithms::content::ContentModel;
use crate::algorithms::ease::Ease;
use crate::algorithms::graph_filter::GraphFilter;
use crate::algorithms::neighbours::Neighbours;
use crate::algorithms::popularity::Popularity;
use crate::algorithms::sequence::SequenceModel;
use crate::algorithms::sparse_ease::SparseEase;
use crate::algorithms::transitions::Transitions;
use crate::algorithms::user_neighbours::UserNeighbours;
use crate::algorithms::{History, Recommender, Scratch};

/// What a part's score rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// What other users chose.
    Collaborative,
    /// What the items are like.
    Content,
    /// In which order users choose.
    Sequence,
    /// How much an item is chosen at all.
    Popularity,
}

/// A trained algorithm.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Part {
    /// How often each item is chosen.
    Popularity(Popularity),
    /// Item neighbourhoods.
    Neighbours(Neighbours),
    /// A dense linear item model.
    Ease(Ease),
    /// A linear item model for large catalogues.
    SparseEase(SparseEase),
    /// Matrix factorisation.
    Als(Als),
    /// A linear graph filter.
    GraphFilter(GraphFilter),
    /// What follows what.
    Transitions(Transitions),
    /// What the next item is, given all before.
    Sequence(#[serde(with = "crate::algorithms::sequence::as_tensors")] SequenceModel),
    /// What the items are like.
    Content(ContentModel),
    /// User neighbourhoods.
    UserNeighbours(UserNeighbours),
}

impl Part {
    /// What its score rests on.
    #[must_use]
    pub fn family(&self) -> Family {
        match self {
            Self::Popularity(_) => Family::Popularity,
            Self::Transitions(_) | Self::Sequence(_) => Family::Sequence,
            Self::Content(_) => Family::Content,
            _ => Family::Collaborative,
        }
    }

    /// Whether it says something of items that nobody chose.
    #[must_use]
    pub fn knows_unused_items(&self) -> bool {
        matches!(self.family(), Family::Content | Family::Popularity)
    }

    /// Whether scoring takes work for each entry of the history, and rests on the history and the training alone.
    pub(super) fn goes_through_history(&self) -> bool {
        !matches!(self, Self::Popularity(_) | Self::Als(_) | Self::Sequence(_) | Self::Content(_))
    }

    /// As what every algorithm is.
    #[must_use]
    pub fn recommender(&self) -> &dyn Recommender {
        match self {
            Self::Popularity(part) => part,
            Self::Neighbours(part) => part,
            Self::Ease(part) => part,
            Self::SparseEase(part) => part,
            Self::Als(part) => part,
            Self::GraphFilter(part) => part,
            Self::Transitions(part) => part,
            Self::Sequence(part) => part,
            Self::Content(part) => part,
            Self::UserNeighbours(part) => part,
        }
    }
}

impl Recommender for Part {
    fn name(&self) -> &'static str {
        self.recommender().name()
    }

    fn item_count(&self) -> usize {
        self.recommender().item_count()
    }

    fn score(&self, history: History<'_>, scratch: &mut Scratch, scores: &mut [f32]) {
        self.recommender().score(history, scratch, scores);
    }

    fn contributions(&self, history: History<'_>, item: u32) -> Vec<(usize, f32)> {
        self.recommender().contributions(history, item)
    }

    fn contributions_to(&self, history: History<'_>, items: &[u32]) -> Vec<Vec<(usize, f32)>> {
        self.recommender().contributions_to(history, items)
    }
}
