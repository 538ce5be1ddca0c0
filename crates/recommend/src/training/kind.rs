//! The algorithms that can be a part of the hybrid, and their names.
//!
//! To add one: a variant with its name here, its settings in `parameters.rs`, and its fit in `fit.rs`.

use super::settings::Algorithms;

#[cfg(doc)]
use crate::algorithms::{
    als::Als, content::ContentModel, ease::Ease, graph_filter::GraphFilter, neighbours::Neighbours,
    popularity::Popularity, sequence::SequenceModel, sparse_ease::SparseEase, transitions::Transitions,
    user_neighbours::UserNeighbours,
};

/// The algorithms that can be a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// See [`Popularity`].
    Popularity,
    /// See [`Neighbours`].
    Neighbours,
    /// See [`Ease`], or [`SparseEase`] for a large catalogue.
    Linear,
    /// See [`Als`].
    Factors,
    /// See [`GraphFilter`].
    Graph,
    /// See [`Transitions`].
    Transitions,
    /// See [`SequenceModel`].
    Sequence,
    /// See [`ContentModel`].
    Content,
    /// See [`UserNeighbours`].
    UserNeighbours,
}

impl Kind {
    /// All of them, popularity first.
    pub const ALL: &[Self] = &[
        Self::Popularity,
        Self::Neighbours,
        Self::Linear,
        Self::Factors,
        Self::Graph,
        Self::Transitions,
        Self::Sequence,
        Self::Content,
        Self::UserNeighbours,
    ];

    /// The name in settings and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Popularity => "popularity",
            Self::Neighbours => "neighbours",
            Self::Linear => "linear",
            Self::Factors => "factors",
            Self::Graph => "graph",
            Self::Transitions => "transitions",
            Self::Sequence => "sequence",
            Self::Content => "content",
            Self::UserNeighbours => "user_neighbours",
        }
    }

    /// The name in tables and answers.
    #[must_use]
    pub fn table_name(self) -> &'static str {
        match self {
            Self::Popularity => "popular",
            Self::Linear => "ease",
            Self::Factors => "als",
            Self::Graph => "graph_filter",
            Self::Content => "content_based",
            kind => kind.name(),
        }
    }

    /// The algorithm of this name, in settings or in tables.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| name == kind.name() || name == kind.table_name())
    }

    /// Whether it lives on the order of histories.
    #[must_use]
    pub fn needs_order(self) -> bool {
        matches!(self, Self::Transitions | Self::Sequence)
    }
}

impl Algorithms {
    /// The parts that are to be trained, popularity first.
    #[must_use]
    pub fn kinds(self) -> Vec<Kind> {
        let is_wanted = |kind: &Kind| match kind {
            Kind::Popularity => true,
            Kind::Neighbours => self.neighbours,
            Kind::Linear => self.linear,
            Kind::Factors => self.factors,
            Kind::Graph => self.graph,
            Kind::Transitions => self.transitions,
            Kind::Sequence => self.sequence,
            Kind::Content => self.content,
            Kind::UserNeighbours => self.user_neighbours,
        };
        Kind::ALL.iter().copied().filter(is_wanted).collect()
    }
}
