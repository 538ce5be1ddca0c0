//! What of each algorithm is worth searching, and the search for it on the validation part of a split.
//!
//! Refuses: popularity, which has nothing to find there, and the sequence model, of which one trial takes longer than all
//! others together. To make one more tunable: its ranges in [`space`].

use kernel::{Clock, Result};
use serde_json::{Value, json};

use super::compare::failed;
use super::fit::fit_part;
use super::kind::Kind;
use super::report::TrainingProgress;
use super::set::TrainingSet;
use super::settings::TrainingSettings;
use crate::algorithms::content::FamilyWeights;
use crate::algorithms::{AlgorithmError, Interactions, Recommender};
use crate::evaluation::Training;
use crate::evaluation::metrics::Measure;
use crate::evaluation::report::SearchSummary;
use crate::evaluation::tuning::{Budget, Outcome, Range, Search, SettingsMap, Space, Trial};

/// How settings are searched for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tuning {
    /// For each algorithm.
    pub budget: Budget,
    /// What is maximised on the validation part.
    pub measure: Measure,
    /// Whether histories are in the order of time and targets come after them, so that it may help to let old entries
    /// fade.
    pub is_ordered: bool,
    /// Seed of the draws.
    pub seed: u64,
}

/// The best settings of one algorithm, and how they were found; `None` where there is nothing to search.
///
/// # Errors
/// `EVALUATION_FAILED` where no trial could be made.
pub(super) fn tune(
    kind: Kind,
    (set, training): (&TrainingSet, &Training),
    settings: &TrainingSettings,
    tuning: &Tuning,
    clock: &dyn Clock,
    progress: &mut dyn FnMut(&TrainingProgress),
) -> Result<Option<(SettingsMap, SearchSummary)>> {
    let is_sparse = set.interactions.item_count() > settings.dense_items;
    let space = space(kind, is_sparse, tuning.is_ordered, training.interactions.has_times());
    if space.is_empty() {
        return Ok(None);
    }
    let search = Search {
        seed: tuning.seed,
        starts: starts(kind, &space, settings)?,
        space,
        measure: tuning.measure,
        budget: tuning.budget,
    };
    let fit = |data: &Interactions, chosen: &SettingsMap| -> Result<Box<dyn Recommender>, AlgorithmError> {
        let settings = with(settings, kind, chosen);
        let part = fit_part(kind, data, set, &settings, &mut |_| ());
        // Whatever the reason, this trial is one that cannot be used; the log keeps the text.
        part.map(|part| Box::new(part) as Box<dyn Recommender>)
            .map_err(|error| AlgorithmError::Interactions(error.to_string()))
    };
    let mut watch = |trials: &[Trial]| {
        let best = trials.iter().filter_map(|trial| trial.value.clone().ok()).fold(0.0, f64::max);
        let step = format!("tuning {}: {} {best:.4} is the best so far", kind.name(), tuning.measure);
        progress(&TrainingProgress { step, done: trials.len() as f32 / tuning.budget.trials as f32 });
    };
    let outcome = search.run(training, &fit, clock, &mut watch).map_err(failed)?;
    Ok(Some((shortened(&outcome, &settings.fields(kind)?), summary(&outcome, tuning.measure))))
}

/// The settings with those of one algorithm replaced where `chosen` says so.
pub(super) fn with(settings: &TrainingSettings, kind: Kind, chosen: &SettingsMap) -> TrainingSettings {
    let mut settings = settings.clone();
    let own = settings.algorithm_settings.entry(kind.name().to_owned()).or_default();
    own.extend(chosen.iter().map(|(name, value)| (name.clone(), value.clone())));
    settings
}

/// The best settings without what is in force anyway.
fn shortened(outcome: &Outcome, in_force: &SettingsMap) -> SettingsMap {
    let best = outcome.best.iter().filter(|(name, value)| in_force.get(*name) != Some(value));
    best.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn summary(outcome: &Outcome, measure: Measure) -> SearchSummary {
    SearchSummary {
        measure: measure.to_string(),
        trials: outcome.trials.len(),
        first: outcome.trials.first().and_then(|trial| trial.value.clone().ok()),
        best: outcome.value,
    }
}

/// What is tried first: what is in force and, for the linear model, what its paper says.
fn starts(kind: Kind, space: &Space, settings: &TrainingSettings) -> Result<Vec<SettingsMap>> {
    let mut in_force = settings.fields(kind)?;
    in_force.retain(|name, _| space.iter().any(|(searched, _)| searched == name));
    let mut starts = vec![in_force.clone()];
    if kind == Kind::Linear {
        for l2 in [200.0, 500.0] {
            let mut paper = in_force.clone();
            for (name, value) in &mut paper {
                match name.as_str() {
                    "l2" => *value = json!(l2),
                    name if name.ends_with("_exponent") => *value = json!(0.0),
                    _ => {}
                }
            }
            starts.push(paper);
        }
    }
    Ok(starts)
}

/// The settings that are searched, by field name; empty where there are none.
fn space(kind: Kind, is_sparse: bool, is_ordered: bool, has_times: bool) -> Space {
    let mut space: Vec<(&str, Range)> = match kind {
        Kind::Popularity | Kind::Sequence => return Space::new(),
        Kind::Content => vec![
            ("weights", Range::Choice(family_weights())),
            ("feature_vector_dimension", Range::Choice([512, 2_048, 8_192].map(Value::from).to_vec())),
            ("history_items", Range::LogInteger(10, 1_000)),
            ("history_half_life_seconds", Range::Log(3_600.0, 1e9)),
            ("history_half_life_items", Range::Log(3.0, 1_000.0)),
        ],
        Kind::Neighbours => vec![
            ("weighting", Range::Choice(weightings())),
            ("neighbour_count", Range::LogInteger(20, 1_000)),
            ("shrinkage", Range::Linear(0.0, 50.0)),
        ],
        Kind::UserNeighbours => vec![
            ("neighbour_count", Range::LogInteger(10, 300)),
            ("shrinkage", Range::Linear(0.0, 50.0)),
            ("rarity_exponent", Range::Linear(0.0, 2.0)),
            ("length_exponent", Range::Linear(0.0, 1.0)),
        ],
        Kind::Linear => vec![
            ("l2", Range::Log(5.0, 5_000.0)),
            ("l2_exponent", Range::Linear(0.0, 1.0)),
            ("user_exponent", Range::Linear(0.0, 1.0)),
            ("input_exponent", Range::Linear(0.0, 0.6)),
            ("output_exponent", Range::Linear(-0.3, 0.3)),
        ],
        Kind::Factors => vec![
            ("factor_count", Range::Choice([32, 48, 64, 96, 128, 192, 256].map(Value::from).to_vec())),
            ("iterations", Range::Integer(5, 25)),
            ("l2", Range::Log(0.01, 2.0)),
            ("l2_exponent", Range::Linear(0.5, 1.5)),
            ("unobserved_ratio", Range::Log(1.0, 100.0)),
        ],
        Kind::Graph => vec![
            ("user_exponent", Range::Linear(0.2, 0.8)),
            ("item_exponent", Range::Linear(0.2, 0.8)),
            ("rank", Range::Choice([32, 64, 128, 256, 512].map(Value::from).to_vec())),
            ("ideal_weight", Range::Linear(0.0, 1.5)),
            ("sharpening", Range::Linear(0.0, 3.0)),
        ],
        Kind::Transitions => vec![
            ("window", Range::LogInteger(1, 60)),
            ("gap_exponent", Range::Linear(0.0, 2.0)),
            ("backward_weight", Range::Linear(0.0, 1.0)),
            ("source_exponent", Range::Linear(0.0, 1.0)),
            ("target_exponent", Range::Linear(0.0, 1.0)),
            ("history_length", Range::LogInteger(5, 200)),
            ("age_exponent", Range::Linear(0.0, 2.0)),
        ],
    };
    if kind == Kind::Linear && is_sparse {
        space.push(("support", Range::LogInteger(50, 400)));
    }
    if kind == Kind::Transitions && has_times {
        let day_ms = 86_400_000.0;
        let half_lives = [1.0, 7.0, 30.0, 180.0].map(|days| json!(days * day_ms));
        space.push(("half_life_ms", Range::Choice([&[Value::Null], &half_lives[..]].concat())));
    }
    if is_ordered && !matches!(kind, Kind::Factors | Kind::Transitions | Kind::Content | Kind::UserNeighbours)
    {
        space.push(("age_exponent", Range::Linear(0.0, 1.5)));
    }
    space.into_iter().map(|(name, range)| (name.to_owned(), range)).collect()
}

/// From those that discount popular items the least to those that do the most.
fn weightings() -> Vec<Value> {
    let bm25 = |b: f64| json!({"bm25": {"k1": f64::from(1.2_f32), "b": b}});
    vec![bm25(0.0), bm25(0.25), bm25(0.5), bm25(0.75), json!("tf_idf"), json!("cosine")]
}

/// The default first; then what tells more in one catalogue or another.
fn family_weights() -> Vec<Value> {
    let weights = |change: fn(&mut FamilyWeights)| {
        let mut weights = FamilyWeights::default();
        change(&mut weights);
        json!(weights)
    };
    vec![
        weights(|_| ()),
        weights(|weights| weights.text = 0.2),
        weights(|weights| weights.text = 0.0),
        weights(|weights| weights.numbers = 1.0),
        weights(|weights| weights.numbers = 2.0),
        weights(|weights| (weights.numbers, weights.text) = (1.0, 0.2)),
        weights(|weights| (weights.numbers, weights.text) = (2.0, 0.2)),
        weights(|weights| (weights.tags, weights.categories) = (0.3, 0.3)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_searched_field_exists_and_every_end_is_accepted() {
        let settings = TrainingSettings::default();
        for kind in Kind::ALL {
            for (is_sparse, is_ordered) in [(false, false), (true, true)] {
                let space = space(*kind, is_sparse, is_ordered, is_ordered);
                let starts = starts(*kind, &space, &settings).unwrap();
                assert_eq!(starts[0].len(), space.len(), "{kind:?} searches a field that it does not have");
                for ends in [Range::low, Range::high] {
                    let chosen = space.iter().map(|(name, range)| (name.clone(), ends(range))).collect();
                    with(&settings, *kind, &chosen).validate().unwrap();
                }
                starts.iter().for_each(|start| with(&settings, *kind, start).validate().unwrap());
            }
        }
    }
}
