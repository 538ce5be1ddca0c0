//! The hybrid: one score per item out of the scores of any number of sources, with weights learned on a validation split.
//!
//! The score of an item is `sum over sources of weight * voice`, where the voice is the source's z-score over the catalogue
//! with its tails compressed (`voice.rs`). So every source speaks in the same unit, no single outlier decides, and the
//! contribution of each source is a term of the sum. Weights depend on the length of the history and are fitted by a
//! listwise softmax loss (`fit.rs`; the loss of ListNet, Cao et al. 2007), which is convex.
//!
//! A source may have nothing to say. Where its scores are all equal it is silent for the user, and the others decide. Where a
//! score is not a finite number it is silent about that item, and the others stand in for it: see [`Blend::stand_in`].
//!
//! Refuses: negative weights (a source that is wrong is left out, not inverted), no sources.
//! To add one more source: implement [`Recommender`] and put it into [`Hybrid::new`]; the fit does the rest.

mod fit;
mod hybrid;
mod minimise;
mod voice;

pub use fit::{FitSettings, FittedBlend};
pub use hybrid::{Hybrid, Source};

use super::error::{AlgorithmError, require};
use serde::{Deserialize, Serialize};
use voice::{Voice, not_finite};

#[cfg(doc)]
use super::Recommender;

/// Weights for histories of at least `history_length` entries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// The shortest history that these weights are for.
    pub history_length: usize,
    /// One weight per source, not negative.
    pub weights: Vec<f32>,
}

/// How sources are combined. Made by [`Blend::fixed`] or [`Blend::fit`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Blend {
    /// By rising `history_length`; the first begins at 0.
    pub buckets: Vec<Bucket>,
    /// How far the sources that know an item stand in for those that do not, 0 to 1: the expected agreement of a silent
    /// source with the others. At 0 a silent source counts as its mean, at 1 as the others' mean.
    pub stand_in: f32,
}

/// The default of [`Blend::stand_in`].
const STAND_IN: f32 = 0.5;

/// The scores of one source over the catalogue.
pub type SourceScores<'a> = &'a [f32];

impl Blend {
    /// Weights that are set by hand, one per source, whatever the history.
    ///
    /// # Errors
    /// [`AlgorithmError::Setting`] for no weights, or one that is negative or not finite.
    pub fn fixed(weights: &[f32]) -> Result<Self, AlgorithmError> {
        let blend = Self {
            buckets: vec![Bucket { history_length: 0, weights: weights.to_vec() }],
            stand_in: STAND_IN,
        };
        blend.validate()?;
        Ok(blend)
    }

    /// Checks what was read from a file.
    ///
    /// # Errors
    /// [`AlgorithmError::Setting`] naming the field that is out of range.
    pub fn validate(&self) -> Result<(), AlgorithmError> {
        let first = self.buckets.first();
        require(
            first.is_some_and(|bucket| bucket.history_length == 0),
            "buckets",
            "must begin at history length 0",
        )?;
        let rises = self.buckets.windows(2).all(|pair| pair[0].history_length < pair[1].history_length);
        require(rises, "buckets", "must rise by history length")?;
        let count = self.source_count();
        let is_weight = |weight: &f32| weight.is_finite() && *weight >= 0.0;
        let all_fit = self
            .buckets
            .iter()
            .all(|bucket| bucket.weights.len() == count && bucket.weights.iter().all(is_weight));
        require(count > 0 && all_fit, "weights", "must be one per source, finite and not negative")?;
        require((0.0..=1.0).contains(&self.stand_in), "stand_in", "must be from 0 to 1")
    }

    /// The number of sources.
    pub fn source_count(&self) -> usize {
        self.buckets.first().map_or(0, |bucket| bucket.weights.len())
    }

    /// The weights for a history of this length.
    pub fn weights(&self, history_length: usize) -> &[f32] {
        let after = self.buckets.partition_point(|bucket| bucket.history_length <= history_length);
        self.buckets.get(after.saturating_sub(1)).map_or(&[], |bucket| &bucket.weights)
    }

    /// The same blend with the weight of whole groups set by hand: `group_of[s]` is the group of source `s`, and its sources
    /// share `group_weights` of that group as they do here, or equally where they have no weight.
    ///
    /// # Errors
    /// [`AlgorithmError::Setting`] where a group is missing or a weight is negative or not finite.
    pub fn with_group_weights(
        &self,
        group_of: &[usize],
        group_weights: &[f32],
    ) -> Result<Self, AlgorithmError> {
        let fits = group_of.len() == self.source_count()
            && group_of.iter().all(|&group| group < group_weights.len());
        require(fits, "group_of", "must name a group with a weight for every source")?;
        let mut grouped = self.clone();
        for bucket in &mut grouped.buckets {
            let mut sums = vec![0.0; group_weights.len()];
            let mut sizes = vec![0.0; group_weights.len()];
            for (&group, &weight) in group_of.iter().zip(&bucket.weights) {
                sums[group] += weight;
                sizes[group] += 1.0;
            }
            for (&group, weight) in group_of.iter().zip(&mut bucket.weights) {
                let share = if sums[group] > 0.0 { *weight / sums[group] } else { 1.0 / sizes[group] };
                *weight = group_weights[group] * share;
            }
        }
        grouped.validate()?;
        Ok(grouped)
    }

    /// Writes the blended score of every item; higher is better, always a finite number. `sources` holds the scores of each
    /// source in the order of the weights; none at all for a source that is left out. Where no source has anything to
    /// say all scores are 0, and an item that none knows comes below all others. Returns what tells how each score came
    /// about.
    ///
    /// # Panics
    /// If there are not [`Blend::source_count`] sources, or one has neither no scores nor as many as `blended`.
    pub fn combine(
        &self,
        history_length: usize,
        sources: &[SourceScores<'_>],
        blended: &mut [f32],
    ) -> Voices {
        let voices = self.voices(history_length, sources);
        voices.sum(sources, blended);
        voices
    }

    /// The voice of each source for one user.
    fn voices(&self, history_length: usize, sources: &[SourceScores<'_>]) -> Voices {
        let weights = self.weights(history_length);
        assert_eq!(sources.len(), weights.len(), "one source per weight");
        let mut voices: Vec<Option<Voice>> =
            sources.iter().zip(weights).map(|(scores, &weight)| Voice::of(scores, weight)).collect();
        // The sources with a weight may all be silent: then the others are better than nothing.
        if voices.iter().flatten().all(|voice| voice.weight == 0.0) {
            let speaking = voices.iter().flatten().count().max(1) as f32;
            voices.iter_mut().flatten().for_each(|voice| voice.weight = 1.0 / speaking);
        }
        Voices { voices, stand_in: self.stand_in }
    }
}

/// How the sources were heard for one user; `None` where one is silent.
#[derive(Debug)]
pub struct Voices {
    voices: Vec<Option<Voice>>,
    stand_in: f32,
}

impl Voices {
    /// What each source added to the blended score of each of `items`: `explain(..)[n][s]` is about `items[n]` and source
    /// `s`. `sources` are those that were combined. The terms of an item, added in order, are exactly its score. They are
    /// all 0 for an item that no source knows, whose score says only that it comes last.
    ///
    /// # Panics
    /// For an item without a score.
    pub fn explain(&self, sources: &[SourceScores<'_>], items: &[u32]) -> Vec<Vec<f32>> {
        let terms =
            |&item: &u32| self.terms(sources, item as usize).unwrap_or_else(|| vec![0.0; self.voices.len()]);
        items.iter().map(terms).collect()
    }

    fn sum(&self, sources: &[SourceScores<'_>], blended: &mut [f32]) {
        blended.fill(0.0);
        for (voice, scores) in self.voices.iter().zip(sources) {
            assert!(scores.is_empty() || scores.len() == blended.len(), "one score per item");
            if let Some(voice) = voice {
                voice.add(scores, blended);
            }
        }
        // A score that is not finite makes the sum so.
        if not_finite(blended) == 0 {
            return;
        }
        let mut unknown = Vec::new();
        for (item, score) in blended.iter_mut().enumerate().filter(|(_, score)| !score.is_finite()) {
            match self.terms(sources, item) {
                Some(terms) => *score = terms.iter().sum(),
                None => unknown.push(item),
            }
        }
        if !unknown.is_empty() {
            let finite = blended.iter().copied().filter(|score| score.is_finite());
            let last = finite.fold(0.0, f32::min) - 1.0;
            unknown.into_iter().for_each(|item| blended[item] = last);
        }
    }

    /// The terms of one item; `None` where all sources with a weight are silent about it.
    fn terms(&self, sources: &[SourceScores<'_>], item: usize) -> Option<Vec<f32>> {
        let (mut known, mut unknown) = (0.0, 0.0);
        let mut terms = vec![0.0; self.voices.len()];
        for ((term, voice), scores) in terms.iter_mut().zip(&self.voices).zip(sources) {
            let Some(voice) = voice else { continue };
            if scores[item].is_finite() {
                known += voice.weight;
                *term = voice.speak(scores[item]);
            } else {
                unknown += voice.weight;
            }
        }
        if unknown > 0.0 {
            if known <= 0.0 {
                return None;
            }
            let factor = 1.0 + self.stand_in * unknown / known;
            terms.iter_mut().for_each(|term| *term *= factor);
        }
        Some(terms)
    }
}

#[cfg(test)]
mod tests;
