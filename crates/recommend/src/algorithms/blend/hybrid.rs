//! The blend as one recommender over its sources.

use super::{Blend, FitSettings, FittedBlend};
use crate::algorithms::error::require;
use crate::algorithms::{AlgorithmError, History, Interactions, Recommender, Scratch};
use std::fmt;
use std::sync::Arc;

/// A recommender and the items about which it has nothing to say.
#[derive(Clone)]
pub struct Source {
    /// Scores the catalogue.
    pub recommender: Arc<dyn Recommender>,
    /// Items that its score says nothing about, such as items without interactions for a collaborative model. Rising.
    pub silent_items: Arc<[u32]>,
}

impl Source {
    /// A source that knows every item.
    pub fn new(recommender: Arc<dyn Recommender>) -> Self {
        Self { recommender, silent_items: Arc::from([]) }
    }

    /// A source that is silent about the items that `training` has not seen, and about those it does not count.
    pub fn collaborative(recommender: Arc<dyn Recommender>, training: &Interactions) -> Self {
        let mut frequencies = training.item_frequencies();
        frequencies.resize(recommender.item_count(), 0);
        let silent_items =
            (0..).zip(&frequencies).filter(|&(_, &count)| count == 0).map(|(item, _)| item).collect();
        Self { recommender, silent_items }
    }

    fn score(&self, history: History<'_>, scratch: &mut Scratch, scores: &mut [f32]) {
        self.recommender.score(history, scratch, scores);
        for &item in self.silent_items.iter() {
            scores[item as usize] = f32::NAN;
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let silent = self.silent_items.len();
        formatter
            .debug_struct("Source")
            .field("name", &self.recommender.name())
            .field("silent_items", &silent)
            .finish()
    }
}

/// Sources with their blend.
#[derive(Debug, Clone)]
pub struct Hybrid {
    sources: Vec<Source>,
    blend: Blend,
}

impl Hybrid {
    /// Puts sources together with a blend of as many weights.
    ///
    /// # Errors
    /// [`AlgorithmError::Setting`] where the blend is not valid or does not fit, or the sources differ in their items.
    pub fn new(sources: Vec<Source>, blend: Blend) -> Result<Self, AlgorithmError> {
        blend.validate()?;
        require(
            blend.source_count() == sources.len(),
            "weights",
            "must be one per source, finite and not negative",
        )?;
        check_sources(&sources)?;
        Ok(Self { sources, blend })
    }

    /// Learns the blend: see [`Blend::fit`].
    ///
    /// # Errors
    /// Those of [`Blend::fit`].
    pub fn fit(
        sources: Vec<Source>,
        histories: &Interactions,
        targets: &Interactions,
        settings: &FitSettings,
    ) -> Result<(Self, FittedBlend), AlgorithmError> {
        let fitted = Blend::fit(&sources, histories, targets, None, settings)?;
        Ok((Self::new(sources, fitted.blend.clone())?, fitted))
    }

    /// The names of the sources, in the order of the weights.
    pub fn source_names(&self) -> impl ExactSizeIterator<Item = &'static str> {
        self.sources.iter().map(|source| source.recommender.name())
    }

    /// How they are combined.
    pub fn blend(&self) -> &Blend {
        &self.blend
    }

    /// As [`Recommender::score`], with another blend: for weights that a request sets.
    ///
    /// # Panics
    /// If the blend has not as many weights as there are sources, or `scores` not one per item.
    pub fn score_with(&self, blend: &Blend, history: History<'_>, scratch: &mut Scratch, scores: &mut [f32]) {
        let buffers = source_scores(&self.sources, history, scratch, scores.len());
        let views: Vec<&[f32]> = buffers.iter().map(Vec::as_slice).collect();
        blend.combine(history.len(), &views, scores);
        buffers.into_iter().for_each(|buffer| scratch.give_back(buffer));
    }

    /// What each source adds to the score of each of `items`: see [`Voices::explain`](super::Voices::explain).
    ///
    /// # Panics
    /// As [`Hybrid::score_with`], and for an item that is not in the catalogue.
    pub fn explain_with(
        &self,
        blend: &Blend,
        history: History<'_>,
        items: &[u32],
        scratch: &mut Scratch,
    ) -> Vec<Vec<f32>> {
        let buffers = source_scores(&self.sources, history, scratch, self.item_count());
        let views: Vec<&[f32]> = buffers.iter().map(Vec::as_slice).collect();
        let terms = blend.voices(history.len(), &views).explain(&views, items);
        buffers.into_iter().for_each(|buffer| scratch.give_back(buffer));
        terms
    }
}

/// Checks that the sources score the same catalogue.
pub(super) fn check_sources(sources: &[Source]) -> Result<(), AlgorithmError> {
    require(!sources.is_empty(), "sources", "must be at least one")?;
    let item_count = sources[0].recommender.item_count();
    let fits = |source: &Source| {
        source.recommender.item_count() == item_count
            && source.silent_items.iter().all(|&item| (item as usize) < item_count)
    };
    require(sources.iter().all(fits), "sources", "must all score the same catalogue")
}

/// The scores of every source, NaN where it is silent about an item.
pub(super) fn source_scores(
    sources: &[Source],
    history: History<'_>,
    scratch: &mut Scratch,
    item_count: usize,
) -> Vec<Vec<f32>> {
    let mut buffers = Vec::with_capacity(sources.len());
    for source in sources {
        let mut scores = scratch.floats(item_count);
        source.score(history, scratch, &mut scores);
        buffers.push(scores);
    }
    buffers
}

impl Recommender for Hybrid {
    fn name(&self) -> &'static str {
        "hybrid"
    }

    fn item_count(&self) -> usize {
        self.sources[0].recommender.item_count()
    }

    fn score(&self, history: History<'_>, scratch: &mut Scratch, scores: &mut [f32]) {
        self.score_with(&self.blend, history, scratch, scores);
    }

    /// The term of each source, shared out over the history as that source itself does. What sources add that name no
    /// entries, such as popularity, is missing: [`Hybrid::explain_with`] has it.
    fn contributions(&self, history: History<'_>, item: u32) -> Vec<(usize, f32)> {
        let terms = self.explain_with(&self.blend, history, &[item], &mut Scratch::default());
        let mut sums = vec![0.0; history.len()];
        for (source, &term) in self.sources.iter().zip(&terms[0]).filter(|&(_, &term)| term != 0.0) {
            let entries = source.recommender.contributions(history, item);
            let total: f32 = entries.iter().map(|&(_, contribution)| contribution.abs()).sum();
            if total > 0.0 {
                entries.iter().for_each(|&(entry, contribution)| sums[entry] += term * contribution / total);
            }
        }
        sums.into_iter().enumerate().filter(|&(_, contribution)| contribution != 0.0).collect()
    }
}
