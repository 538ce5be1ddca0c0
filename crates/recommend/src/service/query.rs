//! What a caller asks for, checked.

use std::sync::Arc;

use kernel::{Error, Result, codes};
use utoipa::ToSchema;

use super::cursor::Shown;
use super::expression::Expression;
use crate::candidates::Candidates;

/// How recommendations are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum Algorithm {
    /// Every source, blended as learned.
    #[default]
    Hybrid,
    /// What similar users chose.
    Collaborative,
    /// What is like what the user chose.
    ContentBased,
    /// What follows the user's latest actions.
    Sequence,
    /// What many choose lately.
    Trending,
    /// What many chose.
    Popular,
    /// What is new.
    Latest,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 7] = [
        Self::Hybrid,
        Self::Collaborative,
        Self::ContentBased,
        Self::Sequence,
        Self::Trending,
        Self::Popular,
        Self::Latest,
    ];

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hybrid => "hybrid",
            Self::Collaborative => "collaborative",
            Self::ContentBased => "content_based",
            Self::Sequence => "sequence",
            Self::Trending => "trending",
            Self::Popular => "popular",
            Self::Latest => "latest",
        }
    }

    /// Whether it looks at who asks.
    #[must_use]
    pub fn is_personal(self) -> bool {
        !matches!(self, Self::Trending | Self::Popular | Self::Latest)
    }

    /// The algorithm of that name.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` with the names there are.
    pub fn of(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|algorithm| algorithm.name()).collect();
            let message = format!("`{}` is not one of {}", name.escape_debug(), known.join(", "));
            Error::new(codes::VALIDATION_ERROR, message).with_field("algorithm")
        })
    }
}

/// Which attributes an answer carries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Returned {
    /// None.
    #[default]
    Nothing,
    /// All.
    All,
    /// These.
    Named(Vec<String>),
}

/// What a caller asks for.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// How many.
    pub count: usize,
    /// How.
    pub algorithm: Algorithm,
    /// The shares of collaborative and content in a hybrid, in place of the learned blend.
    pub weights: Option<(f32, f32)>,
    /// Only entities of this type.
    pub entity_type: Option<String>,
    /// Only entities of which this is true.
    pub filter: Option<Arc<Expression>>,
    /// Multiplies an entity's odds.
    pub boosts: Vec<Arc<Expression>>,
    /// Only entities that this text finds.
    pub text: Option<String>,
    /// What it found.
    pub candidates: Option<Arc<Candidates>>,
    /// Also what the user has chosen already.
    pub include_seen: bool,
    /// Ids that are left out, whatever their type.
    pub exclude: Vec<String>,
    /// How much variety counts against score, 0 to 1 (MMR: 1 − λ).
    pub diversity: f32,
    /// What earlier pages showed.
    pub shown: Shown,
    /// Which attributes the answer carries.
    pub returned: Returned,
    /// Whether contributions are told.
    pub explain: bool,
    /// The window of `trending`, in days.
    pub window_days: Option<usize>,
    /// The list may stay short, and even empty: nothing stands in for what was asked for.
    pub alone: bool,
    /// Of the request's parameters, for the cursor.
    pub fingerprint: u64,
}

impl Query {
    /// Whether there is anything to evaluate.
    #[must_use]
    pub fn has_expressions(&self) -> bool {
        self.filter.is_some() || !self.boosts.is_empty()
    }
}
