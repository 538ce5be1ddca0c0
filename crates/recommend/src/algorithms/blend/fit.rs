//! Learns the weights of a blend on users whose next items are known and were not trained on.
//!
//! For each user the items compete that any source ranks near its top: the union of the best few of every source, as those
//! decide the list. (Adding targets from outside would teach that low scores are good.) The loss is the cross-entropy of the
//! softmax of blended scores against the targets, plus L2; convex in the weights, which may not be negative. It is minimised
//! by a projected Newton method (Bertsekas 1982): the same data give the same weights.
//!
//! Weights for all users are fitted first, drawn towards what each source is worth alone, which few people overrule and many
//! do. Those of each history length are drawn towards the weights for all, and are kept only where they rank better; the
//! shortest lengths borrow the ends of longer histories.
//!
//! Refuses: more parameters than a weight for each source and history length.

use super::hybrid::{Source, check_sources, source_scores};
use super::minimise::{Example, minimise, score};
use super::voice::Voice;
use super::{Blend, Bucket, STAND_IN};
use crate::algorithms::error::require;
use crate::algorithms::topk::{ItemSet, top_k_into};
use crate::algorithms::{AlgorithmError, History, Interactions, Scratch};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Users that weights for short histories need, whether shortened or not. For them to have no weights of their own is worse
/// than weights from few users: the weights for all suit long histories.
const LEAST_SHORTENED: usize = 30;

/// How to fit a [`Blend`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FitSettings {
    /// Users to fit on at most, spread evenly.
    pub user_limit: usize,
    /// Items that each source sends into the competition.
    pub candidates_per_source: usize,
    /// Weight of half the squared norm of the weights, per user, where the sum of all weights is sought; positive.
    pub l2: f64,
    /// Weight of half the squared distance from weights of that sum in proportion to what each source is worth alone, in
    /// all: what so many people say.
    pub prior_l2: f64,
    /// What a source is worth: this power of its own NDCG. At 0 all are worth the same.
    pub prior_exponent: f64,
    /// The same, per user, for the difference between the weights of a history length and those for all; positive.
    pub bucket_l2: f64,
    /// Shortest history of each set of weights; rising from 0.
    pub bucket_starts: Vec<usize>,
    /// Users that a set of weights of its own needs; with fewer it has those for all.
    pub users_per_bucket: usize,
    /// Sets that start below this get the users that they lack by shortening longer histories to their last entries. Longer
    /// sets do not, as people with long histories want other things than those who have a shorter one.
    pub shorten_below: usize,
    /// The NDCG cutoff by which weights are compared.
    pub cutoff: usize,
}

impl Default for FitSettings {
    fn default() -> Self {
        Self {
            user_limit: 3_000,
            candidates_per_source: 50,
            l2: 1e-3,
            prior_l2: 5.0,
            prior_exponent: 4.0,
            bucket_l2: 0.05,
            bucket_starts: vec![0, 1, 2, 4, 8, 16, 32, 64, 128, 256],
            users_per_bucket: 200,
            shorten_below: 8,
            cutoff: 10,
        }
    }
}

impl FitSettings {
    /// # Errors
    /// [`AlgorithmError::Setting`] naming the field that is out of range.
    pub fn validate(&self) -> Result<(), AlgorithmError> {
        require(self.user_limit > 0, "user_limit", "must be positive")?;
        require(self.cutoff > 0, "cutoff", "must be positive")?;
        require(
            self.candidates_per_source >= self.cutoff,
            "candidates_per_source",
            "must be at least `cutoff`",
        )?;
        let is_positive = |value: f64| value > 0.0 && value.is_finite();
        require(is_positive(self.l2), "l2", "must be positive and finite")?;
        require(is_positive(self.prior_l2), "prior_l2", "must be positive and finite")?;
        let is_exponent = self.prior_exponent >= 0.0 && self.prior_exponent.is_finite();
        require(is_exponent, "prior_exponent", "must be at least 0 and finite")?;
        require(is_positive(self.bucket_l2), "bucket_l2", "must be positive and finite")?;
        let rises = self.bucket_starts.windows(2).all(|pair| pair[0] < pair[1]);
        require(self.bucket_starts.first() == Some(&0) && rises, "bucket_starts", "must rise from 0")
    }
}

/// A blend with what it reached on the users it was fitted on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FittedBlend {
    /// The weights.
    pub blend: Blend,
    /// Users with a target among the competing items.
    pub user_count: usize,
    /// Mean NDCG of the blend over those, which is too high for new users.
    pub ndcg: f64,
    /// The same of each source alone.
    pub source_ndcg: Vec<f64>,
}

impl Blend {
    /// Learns weights on `histories` and, row by row, the `targets` that followed. Neither the targets nor anything later may
    /// have trained the sources. `people` says whose each row is, where several draws of a person's targets make several
    /// rows: a person counts once.
    ///
    /// Where no user has a target that any source ranks near its top, all weights are equal.
    ///
    /// # Errors
    /// [`AlgorithmError::Setting`] for settings out of range or sources that differ in their items,
    /// [`AlgorithmError::Interactions`] where histories and targets do not fit them.
    pub fn fit(
        sources: &[Source],
        histories: &Interactions,
        targets: &Interactions,
        people: Option<&[u32]>,
        settings: &FitSettings,
    ) -> Result<FittedBlend, AlgorithmError> {
        settings.validate()?;
        check_sources(sources)?;
        let fits = histories.user_count() == targets.user_count()
            && targets.item_count() == sources[0].recommender.item_count()
            && people.is_none_or(|people| people.len() == histories.user_count());
        if !fits {
            let message = "histories, targets and sources of a blend must have the same users and items";
            return Err(AlgorithmError::Interactions(message.to_owned()));
        }
        let person = |row: usize| people.map_or(row as u32, |people| people[row]);
        let (examples, shortened) = collect(sources, histories, targets, person, settings);
        Ok(fit_examples(sources.len(), &examples, &shortened, settings))
    }
}

/// The examples of the users as they are, and those of shortened histories.
fn collect(
    sources: &[Source],
    histories: &Interactions,
    targets: &Interactions,
    person: impl Fn(usize) -> u32 + Sync,
    settings: &FitSettings,
) -> (Vec<Example>, Vec<Example>) {
    let user_count = histories.user_count().min(settings.user_limit);
    let spread =
        |index: usize| (index as u128 * histories.user_count() as u128 / user_count as u128) as usize;
    let users: Vec<usize> = (0..user_count).map(spread).collect();
    let mut jobs: Vec<(usize, usize)> = users.iter().map(|&user| (user, histories.row(user).len())).collect();
    let is_short = |(_, start): &(usize, &usize)| **start < settings.shorten_below;
    for (index, &start) in settings.bucket_starts.iter().enumerate().filter(is_short) {
        let end = settings.bucket_starts.get(index + 1).copied().unwrap_or(usize::MAX);
        let natural = jobs[..user_count].iter().filter(|job| (start..end).contains(&job.1)).count();
        let longer: Vec<usize> =
            users.iter().copied().filter(|&user| histories.row(user).len() >= end).collect();
        // Twice, as those without a competing target drop out. A user may come again with another length.
        let lengths = end - start;
        let wanted = (2 * settings.users_per_bucket).saturating_sub(natural).min(longer.len() * lengths);
        jobs.extend((0..wanted).map(|place| {
            let round = place / longer.len();
            (longer[place % longer.len()], start + (place + round) % lengths)
        }));
    }
    let examples: Vec<Option<Example>> = jobs
        .par_iter()
        .map_init(Scratch::default, |scratch, &(row, length)| {
            let example = example(sources, histories.row(row), length, targets.row(row), settings, scratch)?;
            Some(Example { person: person(row), ..example })
        })
        .collect();
    let mut examples = examples.into_iter();
    let natural = examples.by_ref().take(user_count).flatten().collect();
    (natural, examples.flatten().collect())
}

/// `None` where no target competes.
fn example(
    sources: &[Source],
    history: History<'_>,
    history_length: usize,
    targets: History<'_>,
    settings: &FitSettings,
    scratch: &mut Scratch,
) -> Option<Example> {
    let item_count = sources[0].recommender.item_count();
    // What was shortened away stays excluded: it was seen.
    let seen = ItemSet::from_items(history.items.iter().copied());
    let scores = source_scores(sources, history.last(history_length), scratch, item_count);
    let voices: Vec<Option<Voice>> = scores.iter().map(|scores| Voice::of(scores, 1.0)).collect();
    let (mut competing, mut best) = (Vec::new(), Vec::new());
    for (_, scores) in voices.iter().zip(&scores).filter(|(voice, _)| voice.is_some()) {
        top_k_into(scores, |item| seen.contains(item), settings.candidates_per_source, &mut best);
        competing.extend(best.iter().map(|scored| scored.item));
    }
    competing.sort_unstable();
    competing.dedup();
    let wanted = ItemSet::from_items(targets.items.iter().copied());
    let is_target: Vec<bool> = competing.iter().map(|&item| wanted.contains(item)).collect();
    let target_count = is_target.iter().filter(|&&is_target| is_target).count();
    let term = |item: u32, voice: &Option<Voice>, scores: &[f32]| {
        let score = scores[item as usize];
        voice.filter(|_| score.is_finite()).map_or(0.0, |voice| voice.speak(score))
    };
    let row = |&item: &u32| voices.iter().zip(&scores).map(move |(voice, scores)| term(item, voice, scores));
    let terms = competing.iter().flat_map(row).collect();
    scores.into_iter().for_each(|buffer| scratch.give_back(buffer));
    (target_count > 0).then_some(Example {
        person: 0,
        history_length,
        terms,
        is_target,
        target_count,
        wanted: targets.len(),
    })
}

fn fit_examples(
    source_count: usize,
    examples: &[Example],
    shortened: &[Example],
    settings: &FitSettings,
) -> FittedBlend {
    let all: Vec<&Example> = examples.iter().collect();
    let single = |source: usize| -> Vec<f64> {
        (0..source_count).map(|other| f64::from(u8::from(other == source))).collect()
    };
    let source_ndcg: Vec<f64> =
        (0..source_count).map(|source| mean(&ndcgs(&single(source), &all, settings.cutoff))).collect();
    let weights = weights_for_all(&source_ndcg, &all, settings);
    let bucket = |(index, &start): (usize, &usize)| {
        let end = settings.bucket_starts.get(index + 1).copied().unwrap_or(usize::MAX);
        let own: Vec<&Example> = examples
            .iter()
            .chain(shortened)
            .filter(|example| (start..end).contains(&example.history_length))
            .collect();
        let weights = bucket_weights(&weights, &own, start, settings);
        Bucket { history_length: start, weights: shares(&weights) }
    };
    let buckets = settings.bucket_starts.iter().enumerate().map(bucket).collect();
    let blend = Blend { buckets, stand_in: STAND_IN };
    let values = all.iter().map(|example| {
        let weights: Vec<f64> =
            blend.weights(example.history_length).iter().map(|&weight| weight.into()).collect();
        ndcg(&weights, example, settings.cutoff)
    });
    let ndcg = values.sum::<f64>() / all.len().max(1) as f64;
    FittedBlend { blend, user_count: people(&all), ndcg, source_ndcg }
}

/// The weights of least loss, drawn towards what each source is worth alone.
fn weights_for_all(source_ndcg: &[f64], all: &[&Example], settings: &FitSettings) -> Vec<f64> {
    let source_count = source_ndcg.len();
    let share = 1.0 / source_count as f64;
    if all.is_empty() {
        return vec![share; source_count];
    }
    let worth: Vec<f64> = source_ndcg.iter().map(|ndcg| ndcg.powf(settings.prior_exponent)).collect();
    let total: f64 = worth.iter().sum();
    let part = |worth: &f64| if total > 0.0 { worth / total } else { share };
    let sum: f64 = minimise(all, &vec![0.0; source_count], settings.l2).iter().sum();
    let prior: Vec<f64> = worth.iter().map(|worth| sum * part(worth)).collect();
    let per_user = settings.prior_l2 / people(all) as f64;
    minimise(all, &prior, per_user.max(settings.l2))
}

/// The weights of one history length: those for all where too few people have it, or its own rank no better.
fn bucket_weights(weights: &[f64], own: &[&Example], start: usize, settings: &FitSettings) -> Vec<f64> {
    let is_short = start < settings.shorten_below;
    let least = if is_short { LEAST_SHORTENED } else { settings.users_per_bucket };
    if people(own) < least.max(1) {
        return weights.to_vec();
    }
    let fitted = minimise(own, weights, settings.bucket_l2);
    let value = |weights: &[f64]| mean(&ndcgs(weights, own, settings.cutoff));
    if value(&fitted) > value(weights) { fitted } else { weights.to_vec() }
}

/// Scales the weights to a sum of 1, as only their proportions order items.
fn shares(weights: &[f64]) -> Vec<f32> {
    let sum: f64 = weights.iter().sum();
    let equal = 1.0 / weights.len() as f64;
    weights.iter().map(|weight| if sum > 0.0 { weight / sum } else { equal } as f32).collect()
}

fn people(examples: &[&Example]) -> usize {
    examples.iter().map(|example| example.person).collect::<BTreeSet<_>>().len()
}

fn ndcgs(weights: &[f64], examples: &[&Example], cutoff: usize) -> Vec<f64> {
    examples.par_iter().map(|example| ndcg(weights, example, cutoff)).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// NDCG of the competing items; a tie with a target counts against it.
fn ndcg(weights: &[f64], example: &Example, cutoff: usize) -> f64 {
    let mut scores = Vec::new();
    score(weights, example, &mut scores);
    let mut order: Vec<usize> = (0..scores.len()).collect();
    let better = |left: &usize, right: &usize| {
        let is_target = |position: &usize| example.is_target[*position];
        scores[*right].total_cmp(&scores[*left]).then(is_target(left).cmp(&is_target(right)))
    };
    order.sort_unstable_by(better);
    let discount = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
    let hits = order.iter().take(cutoff).enumerate().filter(|&(_, &position)| example.is_target[position]);
    let best: f64 = (0..cutoff.min(example.wanted)).map(discount).sum();
    hits.map(|(rank, _)| discount(rank)).sum::<f64>() / best
}

#[cfg(test)]
mod tests {
    use super::super::minimise::tests::examples;
    use super::*;

    #[test]
    fn the_blend_is_not_worse_than_its_best_part() {
        for seed in 0..6 {
            let fitted = fit_examples(3, &examples(seed), &[], &FitSettings::default());
            let best = fitted.source_ndcg.iter().copied().fold(0.0, f64::max);
            assert!(fitted.ndcg >= best - 0.01, "{} against {best}", fitted.ndcg);
            fitted.blend.validate().unwrap();
        }
    }

    #[test]
    fn few_people_are_drawn_to_the_prior_and_many_are_not() {
        let weights = |people: u32, prior_exponent: f64| {
            let mut examples = examples(3);
            examples.iter_mut().for_each(|example| example.person %= people);
            let all: Vec<&Example> = examples.iter().collect();
            let settings = FitSettings { prior_l2: 20.0, prior_exponent, ..FitSettings::default() };
            shares(&weights_for_all(&[0.3, 0.1, 0.1], &all, &settings))
        };
        let spread = |weights: &[f32]| {
            weights.iter().copied().fold(0.0, f32::max) - weights.iter().copied().fold(1.0, f32::min)
        };
        let (few, many) = (spread(&weights(3, 0.0)), spread(&weights(200, 0.0)));
        assert!(few < 0.7 * many, "{few} against {many}");
        let (equal, worth) = (weights(3, 0.0), weights(3, 4.0));
        assert!(worth[0] > equal[0] + 0.1, "{worth:?} against {equal:?}");
    }

    #[test]
    fn without_examples_all_weights_are_equal() {
        let fitted = fit_examples(4, &[], &[], &FitSettings::default());
        assert_eq!(fitted.blend.weights(12), [0.25; 4]);
        assert_eq!((fitted.user_count, fitted.ndcg), (0, 0.0));
    }
}
