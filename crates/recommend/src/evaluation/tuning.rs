//! Chooses settings on the validation part: a seeded random search (Bergstra & Bengio 2012) over a declared space, whose
//! second half looks around the best so far.
//!
//! It takes a [`Training`], which has no way to the test part. The first trials are the settings that the caller already has, so
//! that the result is never worse than those. A budget in trials gives the same result every time; a budget in seconds stops
//! before the next trial, and what it reaches depends on the machine.
//!
//! Refuses: an empty budget, spaces with empty ranges. A trial that cannot be fitted is kept in the log with its error.
//! To make an algorithm tunable: settings that deserialise from JSON with a default for every field, and a [`Space`].

use super::metrics::Measure;
use super::protocol::{choose, generator};
use super::{EvaluationError, Holdout, Training, ranking, require};
use crate::algorithms::{AlgorithmError, Interactions, Recommender};
use kernel::Clock;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Settings of one algorithm by field name; what is left out has its default.
pub type SettingsMap = Map<String, Value>;

/// The values that one setting may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Range {
    /// Uniform between two numbers.
    Linear(f64, f64),
    /// Uniform in the logarithm; both positive.
    Log(f64, f64),
    /// Whole numbers, uniform, both included.
    Integer(u64, u64),
    /// Whole numbers, uniform in the logarithm, both included and positive.
    LogInteger(u64, u64),
    /// One of these.
    Choice(Vec<Value>),
}

impl Range {
    fn is_valid(&self) -> bool {
        match self {
            Self::Linear(low, high) => low.is_finite() && high.is_finite() && low <= high,
            Self::Log(low, high) => *low > 0.0 && high.is_finite() && low <= high,
            Self::Integer(low, high) => low <= high,
            Self::LogInteger(low, high) => *low > 0 && low <= high,
            Self::Choice(values) => !values.is_empty(),
        }
    }

    /// The value at a place in 0..=1.
    fn at(&self, place: f64) -> Value {
        let between = |low: f64, high: f64| low + (high - low) * place;
        let whole = |low: u64, high: u64, value: f64| Value::from((value.round() as u64).clamp(low, high));
        match self {
            // Four significant digits: a setting is read and typed by people.
            Self::Linear(low, high) => Value::from(rounded(between(*low, *high)).clamp(*low, *high)),
            Self::Log(low, high) => {
                Value::from(rounded(between(low.ln(), high.ln()).exp()).clamp(*low, *high))
            }
            Self::Integer(low, high) => whole(*low, *high, between(*low as f64 - 0.5, *high as f64 + 0.5)),
            Self::LogInteger(low, high) => {
                whole(*low, *high, between((*low as f64).ln(), (*high as f64).ln()).exp())
            }
            Self::Choice(values) => {
                values[((place * values.len() as f64) as usize).min(values.len() - 1)].clone()
            }
        }
    }

    /// Its first value.
    #[cfg(test)]
    pub(crate) fn low(&self) -> Value {
        self.at(0.0)
    }

    /// Its last value.
    #[cfg(test)]
    pub(crate) fn high(&self) -> Value {
        self.at(1.0)
    }

    /// Where a value lies in 0..=1, its end where it lies outside; `None` for one that is not of the range's kind.
    fn place_of(&self, value: &Value) -> Option<f64> {
        let between = |low: f64, high: f64, value: f64| {
            if high > low { ((value - low) / (high - low)).clamp(0.0, 1.0) } else { 0.5 }
        };
        match self {
            Self::Linear(low, high) => Some(between(*low, *high, value.as_f64()?)),
            Self::Log(low, high) => {
                Some(between(low.ln(), high.ln(), value.as_f64()?.max(f64::MIN_POSITIVE).ln()))
            }
            Self::Integer(low, high) => Some(between(*low as f64 - 0.5, *high as f64 + 0.5, value.as_f64()?)),
            Self::LogInteger(low, high) => {
                Some(between((*low as f64).ln(), (*high as f64).ln(), value.as_f64()?.max(1.0).ln()))
            }
            Self::Choice(values) => {
                let position = values.iter().position(|known| known == value)?;
                Some((position as f64 + 0.5) / values.len() as f64)
            }
        }
    }
}

fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// The settings that are searched, by field name. The rest keep what the start says.
pub type Space = Vec<(String, Range)>;

/// When to stop, and on how many users to compare.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Number of settings tried, the starts included.
    pub trials: usize,
    /// Seconds of the clock after which no further trial begins.
    pub seconds: Option<f64>,
    /// Compare on a seeded sample of this many validation users.
    pub validation_users: Option<usize>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { trials: 20, seconds: None, validation_users: None }
    }
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// What was tried.
    pub settings: SettingsMap,
    /// The mean of the measure on validation, or why there is none.
    pub value: Result<f64, String>,
    /// Time to fit and rank.
    pub seconds: f64,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The settings with the best value; the earlier one of equals.
    pub best: SettingsMap,
    /// Their value on validation. It is the best of many and so too high: report the test value.
    pub value: f64,
    /// Every trial in order.
    pub trials: Vec<Trial>,
}

/// What is searched and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Search {
    /// Seed of the draws.
    pub seed: u64,
    /// Settings to vary.
    pub space: Space,
    /// Settings to try first; the first is also what the others build on. Empty means one start with all defaults.
    pub starts: Vec<SettingsMap>,
    /// What to maximise.
    pub measure: Measure,
    /// When to stop.
    pub budget: Budget,
}

/// Fits an algorithm with settings.
pub type Fit<'a> = dyn Fn(&Interactions, &SettingsMap) -> Result<Box<dyn Recommender>, AlgorithmError> + 'a;

impl Search {
    /// Runs the search; `watch` is shown the log after each trial.
    ///
    /// # Errors
    /// [`EvaluationError::Setting`] for an empty budget or range, and the error of the last trial where none succeeded.
    pub fn run(
        &self,
        training: &Training,
        fit: &Fit<'_>,
        clock: &dyn Clock,
        watch: &mut dyn FnMut(&[Trial]),
    ) -> Result<Outcome, EvaluationError> {
        require(self.budget.trials > 0, "trials", "at least 1")?;
        require(self.budget.validation_users != Some(0), "validation_users", "at least 1")?;
        require(self.space.iter().all(|(_, range)| range.is_valid()), "space", "ranges that hold a value")?;
        let holdout = self.sample(training.choices());
        let measures = vec![self.measure];
        let ranking = ranking::Settings { seed: self.seed, measures, ..ranking::Settings::default() };
        let start = clock.elapsed();
        let mut log = Log::default();
        while log.trials.len() < self.budget.trials {
            let began = clock.elapsed();
            let is_late = self.budget.seconds.is_some_and(|seconds| (began - start).as_secs_f64() >= seconds);
            if is_late && !log.trials.is_empty() {
                break;
            }
            let (settings, places) = self.propose(&log);
            let value =
                fit(&training.interactions, &settings).map_err(EvaluationError::from).and_then(|model| {
                    let interactions = &training.interactions;
                    ranking::evaluate(model.as_ref(), interactions, &holdout, None, &ranking, clock)
                });
            let value = value.map(|evaluation| mean(&evaluation.values[0]));
            let seconds = (clock.elapsed() - began).as_secs_f64();
            log.add(settings, places, value, seconds);
            watch(&log.trials);
        }
        log.finish()
    }

    fn sample(&self, validation: &Holdout) -> Holdout {
        let count = self.budget.validation_users.unwrap_or(validation.len());
        let chosen = choose(validation.len(), count, &mut generator(self.seed, u64::MAX));
        validation.subset(&(0..validation.len()).filter(|&position| chosen[position]).collect::<Vec<_>>())
    }

    /// The next settings and their places in the ranges, which a start may not have.
    fn propose(&self, log: &Log) -> (SettingsMap, Option<Vec<f64>>) {
        let number = log.trials.len();
        if number < self.starts.len().max(1) {
            let settings = self.starts.get(number).cloned().unwrap_or_default();
            let place = |(name, range): &(String, Range)| range.place_of(settings.get(name)?);
            let places = self.space.iter().map(place).collect();
            return (settings, places);
        }
        let mut generator = generator(self.seed, number as u64);
        let best = log.best.as_ref().and_then(|best| best.places.as_ref());
        let places: Vec<f64> = match best {
            Some(best) if 2 * number >= self.budget.trials => {
                best.iter().map(|&place| near(place, &mut generator)).collect()
            }
            _ => self.space.iter().map(|_| generator.random::<f64>()).collect(),
        };
        let mut settings = self.starts.first().cloned().unwrap_or_default();
        for ((name, range), &place) in self.space.iter().zip(&places) {
            settings.insert(name.clone(), range.at(place));
        }
        (settings, Some(places))
    }
}

/// A place within an eighth of the range, kept inside it.
fn near(place: f64, generator: &mut ChaCha8Rng) -> f64 {
    (place + (generator.random::<f64>() - 0.5) / 4.0).clamp(0.0, 1.0)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

struct Best {
    trial: usize,
    value: f64,
    places: Option<Vec<f64>>,
}

#[derive(Default)]
struct Log {
    trials: Vec<Trial>,
    best: Option<Best>,
    last_error: Option<EvaluationError>,
}

impl Log {
    fn add(
        &mut self,
        settings: SettingsMap,
        places: Option<Vec<f64>>,
        value: Result<f64, EvaluationError>,
        seconds: f64,
    ) {
        if let Ok(value) = value
            && self.best.as_ref().is_none_or(|best| value > best.value)
        {
            self.best = Some(Best { trial: self.trials.len(), value, places });
        }
        let value = value.map_err(|error| {
            let text = error.to_string();
            self.last_error = Some(error);
            text
        });
        self.trials.push(Trial { settings, value, seconds });
    }

    fn finish(self) -> Result<Outcome, EvaluationError> {
        let none = || EvaluationError::Data("no trial was made".to_owned());
        match self.best {
            Some(best) => Ok(Outcome {
                best: self.trials[best.trial].settings.clone(),
                value: best.value,
                trials: self.trials,
            }),
            None => Err(self.last_error.unwrap_or_else(none)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::metrics::Kind;
    use crate::evaluation::protocol::Protocol;
    use crate::evaluation::testing::{Fixed, interactions};
    use kernel::{ManualClock, Timestamp};
    use proptest::prelude::*;
    use serde_json::json;
    use std::time::Duration;

    fn search(trials: usize) -> Search {
        let space =
            vec![("slope".to_owned(), Range::Linear(-1.0, 1.0)), ("kind".to_owned(), Range::Integer(1, 3))];
        let budget = Budget { trials, ..Budget::default() };
        let measure = Measure { kind: Kind::ReciprocalRank, cutoff: None };
        Search { seed: 5, space, starts: vec![], measure, budget }
    }

    fn training() -> Training {
        Protocol::LastItemOut.split(&interactions(30, 40, |user| 3 + user % 4)).unwrap().training
    }

    /// Scores by item index times the slope; kind 2 cannot be fitted; every fit takes 10 seconds.
    fn run(search: &Search) -> Result<Outcome, EvaluationError> {
        let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
        let fit =
            |data: &Interactions, settings: &SettingsMap| -> Result<Box<dyn Recommender>, AlgorithmError> {
                clock.advance(Duration::from_secs(10));
                if settings.get("kind") == Some(&json!(2)) {
                    return Err(AlgorithmError::Singular("kind"));
                }
                let slope = settings.get("slope").and_then(Value::as_f64).unwrap_or(0.0) as f32;
                let scores = (0..data.item_count()).map(|item| slope * item as f32).collect();
                Ok(Box::new(Fixed { name: "slope", scores }))
            };
        search.run(&training(), &fit, &clock, &mut |_| ())
    }

    #[test]
    fn finds_the_better_side_and_logs_every_trial() {
        let outcome = run(&search(24)).unwrap();
        assert_eq!(outcome.trials.len(), 24);
        assert!(outcome.trials[0].settings.is_empty(), "the defaults come first");
        assert!(outcome.trials.iter().any(|trial| trial.value.is_err()), "failures are kept");
        let best = outcome.trials.iter().filter_map(|trial| trial.value.clone().ok()).fold(0.0, f64::max);
        assert_eq!(outcome.value, best);
        assert_eq!(outcome, run(&search(24)).unwrap());
        assert_eq!(outcome.trials[0].seconds, 10.0);
    }

    #[test]
    fn a_budget_in_seconds_stops_before_the_next_trial() {
        let mut search = search(24);
        search.budget.seconds = Some(25.0);
        assert_eq!(run(&search).unwrap().trials.len(), 3);
        search.budget.seconds = Some(0.0);
        assert_eq!(run(&search).unwrap().trials.len(), 1, "one trial is always made");
    }

    #[test]
    fn a_sample_of_users_is_enough_and_starts_come_first() {
        let mut search = search(3);
        search.budget.validation_users = Some(4);
        search.starts = vec![json!({"slope": 0.5}), json!({"slope": -0.5})]
            .into_iter()
            .map(|start| start.as_object().unwrap().clone())
            .collect();
        let outcome = run(&search).unwrap();
        assert_eq!(outcome.trials[1].settings["slope"], json!(-0.5));
    }

    #[test]
    fn what_cannot_be_searched_is_refused() {
        let check = |change: &dyn Fn(&mut Search), expected: &str| {
            let mut search = search(2);
            change(&mut search);
            let error = run(&search).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&|search| search.budget.trials = 0, "trials");
        check(&|search| search.budget.validation_users = Some(0), "validation_users");
        check(&|search| search.space[0].1 = Range::Linear(1.0, f64::NAN), "space");
        check(&|search| search.space[0].1 = Range::Choice(vec![]), "space");
        let unfit = json!({"kind": 2}).as_object().unwrap().clone();
        check(&|search| (search.starts, search.budget.trials) = (vec![unfit.clone()], 1), "raise `kind`");
    }

    proptest! {
        #[test]
        fn every_place_is_a_value_of_the_range(place in 0.0_f64..=1.0) {
            let within = |range: Range, low: f64, high: f64| {
                let value = range.at(place).as_f64().unwrap();
                assert!((low..=high).contains(&value), "{value}");
            };
            within(Range::Linear(-2.0, 3.0), -2.0, 3.0);
            within(Range::Log(1e-4, 12_345.6), 1e-4, 12_345.6);
            within(Range::Integer(0, 7), 0.0, 7.0);
            within(Range::LogInteger(1, 1_000), 1.0, 1_000.0);
            let kinds = vec![json!("a"), json!({"b": 1}), json!(null)];
            for range in [
                Range::Linear(-2.0, 3.0), Range::Log(1e-4, 12_345.6), Range::Integer(0, 7), Range::LogInteger(1, 9),
                Range::Choice(kinds),
            ] {
                let value = range.at(place);
                prop_assert_eq!(range.at(range.place_of(&value).unwrap()), value, "{:?}", range);
            }
            prop_assert!(["a", "b"].contains(&Range::Choice(vec![json!("a"), json!("b")]).at(place).as_str().unwrap()));
        }
    }
}
