//! Ranks the catalogue for every held-out user and measures the lists.
//!
//! The whole catalogue is ranked, less the items in the user's history. Sampled negatives are only used when asked for, and
//! then every measure is labelled `sampled-N`: such figures compare with nothing else (Krichene & Rendle 2020). Equal scores
//! are ordered by a seeded shuffle of the catalogue, so that a model with nothing to say ranks as chance and not by item index.
//! A score that is NaN or minus infinity is never ranked, and is counted.
//!
//! Refuses: users without targets (no [`Holdout`] has them).

use super::exposure::{Exposure, novelty};
use super::metrics::{Judged, Kind, Measure};
use super::protocol::{choose, generator, shuffle};
use super::{EvaluationError, Holdout, require};
use crate::algorithms::diversity::intra_list_diversity;
use crate::algorithms::topk::{ItemSet, Scored, top_k_into};
use crate::algorithms::{Interactions, Recommender, Scratch};
use kernel::Clock;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Users whose scoring is timed, one after another.
const TIMED_USERS: usize = 200;

/// What competes with the targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Candidates {
    /// Every item that is not in the history.
    Catalogue,
    /// This many items per user, drawn uniformly from those that are neither in the history nor targets.
    Sampled(usize),
}

/// What to measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seed of the order of equal scores and of sampled candidates.
    pub seed: u64,
    /// Measures per user.
    pub measures: Vec<Measure>,
    /// Length of the lists behind coverage, Gini, novelty and diversity.
    pub list_length: usize,
    /// What is ranked.
    pub candidates: Candidates,
}

impl Default for Settings {
    fn default() -> Self {
        let measures = vec![
            Measure::at(Kind::Ndcg, 10),
            Measure::at(Kind::HitRate, 10),
            Measure::at(Kind::Ndcg, 20),
            Measure::at(Kind::Recall, 20),
            Measure::at(Kind::ReciprocalRank, 10),
            Measure::at(Kind::AveragePrecision, 10),
        ];
        Self { seed: 0, measures, list_length: 10, candidates: Candidates::Catalogue }
    }
}

/// What one algorithm reached on one holdout. Values per user are in the order of [`Holdout::users`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// What the values of `measures` are called, with the `sampled-N` label where it applies.
    pub labels: Vec<String>,
    /// Per measure, one value per user.
    pub values: Vec<Vec<f64>>,
    /// Mean self-information of each user's list, in bits.
    pub novelty: Vec<f64>,
    /// Mean dissimilarity of the pairs of each user's list; `None` where nothing says what items are like.
    pub diversity: Option<Vec<f64>>,
    /// Share of the catalogue in any list.
    pub coverage: f64,
    /// Inequality of exposure over the catalogue.
    pub gini: f64,
    /// Length of the lists behind the last four.
    pub list_length: usize,
    /// Scores that were NaN or infinite, over all users.
    pub invalid_scores: u64,
    /// Mean time to score the catalogue for one user on one thread, in microseconds.
    pub score_microseconds: f64,
}

impl Evaluation {
    /// The mean over users of the measure with this label.
    pub fn mean(&self, label: &str) -> Option<f64> {
        let values = &self.values[self.labels.iter().position(|known| known == label)?];
        Some(values.iter().sum::<f64>() / values.len().max(1) as f64)
    }
}

/// The name of a measure in tables: `ndcg@10`, or `ndcg@10 sampled-100`.
pub fn label(measure: &Measure, candidates: Candidates) -> String {
    match candidates {
        Candidates::Catalogue => measure.to_string(),
        Candidates::Sampled(count) => format!("{measure} sampled-{count}"),
    }
}

/// What one user's list came to.
struct Outcome {
    values: Vec<f64>,
    list: Vec<u32>,
    invalid_scores: u64,
}

/// How alike two items are, from 0 to 1.
pub type Similarity<'a> = dyn Fn(u32, u32) -> f32 + Sync + 'a;

/// Measures a fitted algorithm. `training` gives the item frequencies behind novelty, `similarity` is behind diversity.
///
/// # Errors
/// [`EvaluationError::Setting`] for no measures or an empty list, [`EvaluationError::Data`] where the catalogues differ.
pub fn evaluate(
    recommender: &dyn Recommender,
    training: &Interactions,
    holdout: &Holdout,
    similarity: Option<&Similarity<'_>>,
    settings: &Settings,
    clock: &dyn Clock,
) -> Result<Evaluation, EvaluationError> {
    require(!settings.measures.is_empty(), "measures", "at least one")?;
    require(settings.list_length > 0, "list_length", "at least 1")?;
    let (known, catalogue) = (recommender.item_count(), holdout.item_count());
    if known != catalogue || training.item_count() != catalogue {
        return Err(EvaluationError::Data(format!(
            "the model knows {known} items and the catalogue has {catalogue}"
        )));
    }
    let ranker = Ranker::new(recommender, holdout, settings);
    let outcomes: Vec<Outcome> = (0..holdout.len())
        .into_par_iter()
        .map_init(Buffers::default, |buffers, position| ranker.rank(position, buffers))
        .collect();
    let frequencies = training.item_frequencies();
    let mut exposure = Exposure::new(catalogue);
    outcomes.iter().for_each(|outcome| exposure.add(&outcome.list));
    let diversity = similarity.map(|similarity| {
        outcomes.par_iter().map(|outcome| intra_list_diversity(&outcome.list, similarity)).collect()
    });
    let self_information = |outcome: &Outcome| novelty(&outcome.list, &frequencies, training.user_count());
    let column = |measure: usize| outcomes.iter().map(|outcome| outcome.values[measure]).collect();
    Ok(Evaluation {
        labels: settings.measures.iter().map(|measure| label(measure, settings.candidates)).collect(),
        values: (0..settings.measures.len()).map(column).collect(),
        novelty: outcomes.iter().map(self_information).collect(),
        diversity,
        coverage: exposure.coverage(),
        gini: exposure.gini(),
        list_length: settings.list_length,
        invalid_scores: outcomes.iter().map(|outcome| outcome.invalid_scores).sum(),
        score_microseconds: time_scoring(recommender, holdout, clock),
    })
}

#[derive(Default)]
struct Buffers {
    scratch: Scratch,
    scores: Vec<f32>,
    shuffled: Vec<f32>,
    excluded: ItemSet,
    selected: Vec<Scored>,
}

struct Ranker<'a> {
    recommender: &'a dyn Recommender,
    holdout: &'a Holdout,
    settings: &'a Settings,
    /// The item at each place of the shuffled catalogue.
    order: Vec<u32>,
    depth: usize,
}

impl<'a> Ranker<'a> {
    fn new(recommender: &'a dyn Recommender, holdout: &'a Holdout, settings: &'a Settings) -> Self {
        let mut order: Vec<u32> = (0..holdout.item_count() as u32).collect();
        shuffle(&mut order, &mut generator(settings.seed, u64::MAX));
        let whole = order.len();
        let depth =
            settings.measures.iter().map(|measure| measure.cutoff.unwrap_or(whole)).max().unwrap_or(0);
        Self { recommender, holdout, settings, order, depth: depth.max(settings.list_length).min(whole) }
    }

    fn rank(&self, position: usize, buffers: &mut Buffers) -> Outcome {
        let history = self.holdout.histories().row(position);
        let targets = self.holdout.targets().row(position);
        buffers.scores.resize(self.order.len(), 0.0);
        self.recommender.score(history, &mut buffers.scratch, &mut buffers.scores);
        let invalid_scores = buffers.scores.iter().filter(|score| !score.is_finite()).count() as u64;
        buffers.excluded.clear();
        history.items.iter().for_each(|&item| buffers.excluded.insert(item));
        if let Candidates::Sampled(count) = self.settings.candidates {
            self.keep_sample(position, count, buffers);
        }
        buffers.shuffled.clear();
        buffers.shuffled.extend(self.order.iter().map(|&item| buffers.scores[item as usize]));
        let is_excluded = |place: u32| buffers.excluded.contains(self.order[place as usize]);
        top_k_into(&buffers.shuffled, is_excluded, self.depth, &mut buffers.selected);
        let ranked: Vec<u32> =
            buffers.selected.iter().map(|scored| self.order[scored.item as usize]).collect();
        let judged = Judged::new(&ranked, targets.items, targets.weights);
        let values = self.settings.measures.iter().map(|measure| measure.of(&judged)).collect();
        let list = ranked[..self.settings.list_length.min(ranked.len())].to_vec();
        Outcome { values, list, invalid_scores }
    }

    /// Leaves the scores of the targets and of a sample of the other items.
    fn keep_sample(&self, position: usize, count: usize, buffers: &mut Buffers) {
        let targets = ItemSet::from_items(self.holdout.targets().row(position).items.iter().copied());
        let others: Vec<u32> = (0..self.order.len() as u32)
            .filter(|&item| !targets.contains(item) && !buffers.excluded.contains(item))
            .collect();
        let user = u64::from(self.holdout.users()[position]);
        let chosen = choose(others.len(), count, &mut generator(self.settings.seed, user));
        for (&item, _) in others.iter().zip(&chosen).filter(|&(_, chosen)| !chosen) {
            buffers.excluded.insert(item);
        }
    }
}

/// Mean microseconds to score one user, over users spread evenly. The first user is scored once before, untimed.
fn time_scoring(recommender: &dyn Recommender, holdout: &Holdout, clock: &dyn Clock) -> f64 {
    let count = holdout.len().min(TIMED_USERS);
    if count == 0 {
        return 0.0;
    }
    let mut scratch = Scratch::default();
    let mut scores = vec![0.0; holdout.item_count()];
    recommender.score(holdout.histories().row(0), &mut scratch, &mut scores);
    let start = clock.elapsed();
    for index in 0..count {
        let history = holdout.histories().row(index * holdout.len() / count);
        recommender.score(history, &mut scratch, &mut scores);
    }
    (clock.elapsed() - start).as_secs_f64() * 1e6 / count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::Split;
    use crate::evaluation::protocol::Protocol;
    use crate::evaluation::testing::{Fixed, interactions};
    use kernel::{ManualClock, SystemClock, Timestamp};

    fn split() -> Split {
        Protocol::LastItemOut.split(&interactions(40, 60, |user| 4 + user % 5)).unwrap()
    }

    fn run(scores: Vec<f32>, settings: &Settings) -> Evaluation {
        let split = split();
        let fixed = Fixed { name: "fixed", scores };
        let alike = |one: u32, two: u32| f32::from(u8::from(one % 2 == two % 2));
        let (training, holdout) = (&split.test.interactions, &split.test.holdout);
        evaluate(&fixed, training, holdout, Some(&alike), settings, &SystemClock::new()).unwrap()
    }

    #[test]
    fn the_target_of_one_user_is_found_at_its_rank() {
        let split = split();
        let target = split.test.holdout.targets().row(3).items[0];
        let seen = split.test.holdout.histories().row(3).items[0];
        let scores = (0..60_u32)
            .map(|item| f32::from(u8::from(item == target)) + 2.0 * f32::from(u8::from(item == seen)));
        let evaluation = run(scores.collect(), &Settings::default());
        assert_eq!(evaluation.values[0][3], 1.0, "what was seen is not ranked");
        assert_eq!(evaluation.invalid_scores, 0);
        assert!(evaluation.mean("ndcg@10").unwrap() > 0.0);
        assert_eq!(evaluation.mean("ndcg@7"), None);
    }

    #[test]
    fn a_model_with_nothing_to_say_ranks_as_chance() {
        let settings = Settings { measures: vec![Measure::at(Kind::HitRate, 6)], ..Settings::default() };
        let seeds = 0..50;
        let means = seeds
            .map(|seed| run(vec![0.0; 60], &Settings { seed, ..settings.clone() }).mean("hr@6").unwrap());
        let mean = means.sum::<f64>() / 50.0;
        assert!((mean - 6.0 / 55.0).abs() < 0.03, "{mean}");
    }

    #[test]
    fn scores_that_are_not_numbers_are_counted_and_never_ranked() {
        let evaluation = run(vec![f32::NAN; 60], &Settings::default());
        assert_eq!(evaluation.invalid_scores, 40 * 60);
        assert_eq!((evaluation.mean("hr@10"), evaluation.coverage), (Some(0.0), 0.0));
    }

    #[test]
    fn lists_are_as_diverse_as_their_items_are_unlike() {
        let of = |scores: Vec<f32>| run(scores, &Settings::default()).diversity.unwrap();
        let even = of((0..60).map(|item| if item % 2 == 0 { 100.0 - item as f32 } else { -1.0 }).collect());
        assert!(even.iter().all(|&diversity| diversity == 0.0), "every list holds even items: {even:?}");
        let mixed = of((0..60).map(|item| item as f32).collect());
        assert!(mixed.iter().all(|&diversity| (0.3..0.7).contains(&diversity)), "{mixed:?}");
    }

    #[test]
    fn sampled_candidates_are_labelled_and_easier() {
        let scores: Vec<f32> = (0..60).map(|item| (item * 17 % 23) as f32).collect();
        let full = run(scores.clone(), &Settings::default());
        let sampled = Settings { candidates: Candidates::Sampled(10), ..Settings::default() };
        let sampled = run(scores, &sampled);
        assert!(sampled.labels.iter().all(|label| label.ends_with(" sampled-10")), "{:?}", sampled.labels);
        assert!(sampled.mean("hr@10 sampled-10").unwrap() > full.mean("hr@10").unwrap());
    }

    #[test]
    fn whole_lists_and_long_lists_are_cut_at_the_catalogue() {
        let measures = ["mrr", "map", "recall@500"].iter().map(|name| name.parse().unwrap()).collect();
        let settings = Settings { measures, list_length: 99, ..Settings::default() };
        let evaluation = run((0..60).map(|item| item as f32).collect(), &settings);
        assert_eq!(evaluation.mean("recall@500"), Some(1.0));
        assert!(evaluation.values[0].iter().all(|&value| value > 0.0));
    }

    #[test]
    fn the_same_input_gives_the_same_bytes_on_any_number_of_threads() {
        let run = || {
            let split = split();
            let fixed = Fixed { name: "fixed", scores: (0..60).map(|item| (item % 7) as f32).collect() };
            let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
            let (training, holdout) = (&split.test.interactions, &split.test.holdout);
            let settings = Settings::default();
            serde_json::to_vec(&evaluate(&fixed, training, holdout, None, &settings, &clock).unwrap())
                .unwrap()
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(run(), pool.install(run));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let split = split();
        let check = |scores: usize, settings: &Settings, expected: &str| {
            let fixed = Fixed { name: "fixed", scores: vec![0.0; scores] };
            let (training, holdout) = (&split.test.interactions, &split.test.holdout);
            let clock = SystemClock::new();
            let error = evaluate(&fixed, training, holdout, None, settings, &clock).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(59, &Settings::default(), "knows 59 items and the catalogue has 60");
        check(60, &Settings { measures: vec![], ..Settings::default() }, "measures");
        check(60, &Settings { list_length: 0, ..Settings::default() }, "list_length");
    }
}
