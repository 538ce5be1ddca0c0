//! What search is asked and what it answers: plain data. To ask for something more: a field of [`Question`], its check in
//! [`crate::service`], and what it does there or in `showing`.

use crate::algorithms::fusion::Fusion;
use crate::encoder::ModelIdentity;
use crate::index::{Counts, Filter, IndexStats, TermShare};
use crate::items::Item;
use crate::rebuilding::Rebuild;
use crate::reindex::Reindex;

/// What is looked for.
#[derive(Debug, Clone)]
pub struct Question {
    /// In the words of who looks.
    pub query: String,
    /// Whether meaning counts too.
    pub semantic: bool,
    /// What may be found.
    pub filter: Filter,
    /// Results at most, 1 to [`crate::service::RESULTS_MAX`].
    pub limit: usize,
    /// The least cosine of what is found by meaning alone.
    pub similarity_min: f32,
    /// How the rankings become one; the settings' way where missing.
    pub fusion: Option<Fusion>,
    /// How many of the best a cross-encoder puts in its own order, from [`Question::limit`] to 100; none for their own.
    pub rerank: Option<usize>,
    /// Whether words that no text has are taken for mistyped.
    pub forgives_typos: bool,
    /// Whether to count types and tags.
    pub counts_facets: bool,
    /// Whether to show a marked piece of each text.
    pub highlights: bool,
    /// Whether to tell where scores come from.
    pub explains: bool,
}

impl Question {
    /// Words and meaning, mistyped words forgiven, of everything: the rest is not asked for.
    #[must_use]
    pub fn new(query: String, limit: usize) -> Self {
        Self {
            query,
            semantic: true,
            filter: Filter::default(),
            limit,
            similarity_min: -1.0,
            fusion: None,
            rerank: None,
            forgives_typos: true,
            counts_facets: false,
            highlights: false,
            explains: false,
        }
    }
}

/// Why something was found.
#[derive(Debug, Clone, Default)]
pub struct Explanation {
    /// What words gave of the score, fused.
    pub lexical: Option<f64>,
    /// What meaning gave of the score, fused.
    pub semantic: Option<f64>,
    /// The BM25 score.
    pub bm25: Option<f32>,
    /// The cosine to the query.
    pub cosine: Option<f32>,
    /// What the cross-encoder says, where it was asked: then it is the score.
    pub rerank: Option<f32>,
    /// What each word adds to the BM25 score.
    pub words: Vec<TermShare>,
}

/// One result.
#[derive(Debug, Clone)]
pub struct SearchResult {
    /// What was found.
    pub item: Item,
    /// Higher is better; of which kind depends on the fusion, and on whether a cross-encoder was asked.
    pub score: f64,
    /// A piece of its text with what was found marked, where that was asked for.
    pub highlight: Option<String>,
    /// Why, where that was asked for.
    pub explanation: Option<Explanation>,
}

/// What becomes of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// Its vectors are being made; others answer, unless there are none.
    Making,
    /// Its vectors answer.
    Serving,
    /// Others answer in its place, and its vectors are no longer kept up.
    Superseded,
    /// Its vectors are being removed.
    Removing,
}

/// A re-index job and how far it is.
#[derive(Debug, Clone)]
pub struct JobStatus {
    /// The job.
    pub job: Reindex,
    /// What becomes of it.
    pub state: JobState,
    /// The part of the log that is in, 0 to 1.
    pub progress: f64,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Best first, ties by type and id.
    pub results: Vec<SearchResult>,
    /// How many items have a word of the query, or results if those are more.
    pub total: u64,
    /// Whether meaning counted.
    pub semantic: bool,
    /// Why meaning did not count although it was asked for.
    pub fallback: Option<&'static str>,
    /// How many of each type have a word of the query.
    pub types: Counts,
    /// How many with each tag have a word of the query.
    pub tags: Counts,
    /// The model that meaning was understood by.
    pub model: Option<ModelIdentity>,
    /// The cross-encoder that put the results in order, where it was asked.
    pub reranker: Option<ModelIdentity>,
}

/// What an index holds and how far it is.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// The index of words.
    pub index: IndexStats,
    /// Vectors of the tenant, where there is an encoder.
    pub vectors: Option<u64>,
    /// Events of all tenants that the index of words lacks.
    pub lag: u64,
    /// Events of all tenants that have no vector yet; none where there is no encoder.
    pub vector_lag: Option<u64>,
    /// The model of the vectors.
    pub model: Option<ModelIdentity>,
    /// The index of words that was built again last by this process.
    pub rebuild: Option<Rebuild>,
}
