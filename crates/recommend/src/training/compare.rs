//! How each algorithm and the hybrid rank what was held out: fitted on the training part of a split, settings and blend
//! chosen on its validation part, measured on its test part, which nothing before has seen.

use std::sync::Arc;

use kernel::{Clock, Error, ErrorCode, ErrorKind, Result};

use super::fit::{fit_part, learn_blend, sources_of};
use super::kind::Kind;
use super::report::TrainingProgress;
use super::set::TrainingSet;
use super::settings::TrainingSettings;
use super::tune::{Tuning, tune, with};
use crate::algorithms::blend::{FitSettings, Hybrid};
use crate::algorithms::content::ContentModel;
use crate::algorithms::{Interactions, Recommender};
use crate::evaluation::ranking::{self, Evaluation};
use crate::evaluation::report::{Entry, Report};
use crate::evaluation::tuning::SettingsMap;
use crate::evaluation::{EvaluationError, Split, bootstrap};
use crate::serving::Part;

/// The data do not fit the protocol, or the settings make no sense.
pub const EVALUATION_FAILED: ErrorCode =
    ErrorCode { name: "EVALUATION_FAILED", kind: ErrorKind::Invalid, title: "The evaluation cannot be made" };

/// What to compare.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The algorithms; popularity is always compared.
    pub kinds: Vec<Kind>,
    /// Whether the hybrid of them is compared too.
    pub hybrid: bool,
    /// What is measured.
    pub ranking: ranking::Settings,
    /// How intervals are made.
    pub bootstrap: bootstrap::Settings,
    /// How settings are searched for on the validation part; `None` to take them as they are.
    pub tuning: Option<Tuning>,
}

/// Tunes, fits, blends, measures.
///
/// # Errors
/// `EVALUATION_FAILED`, `TRAINING_FAILED`.
pub fn compare(
    set: &TrainingSet,
    split: &Split,
    comparison: &Comparison,
    settings: &TrainingSettings,
    clock: &dyn Clock,
    progress: &mut dyn FnMut(&TrainingProgress),
) -> Result<Report> {
    let content = content_of(set, settings)?;
    let mut bench = Bench { set, split, comparison, settings: settings.clone(), clock, content };
    let popularity = bench.part(Kind::Popularity, progress)?;
    let mut entries = Vec::new();
    let mut finals = vec![popularity.1];
    for kind in comparison.kinds.iter().filter(|kind| **kind != Kind::Popularity) {
        let (entry, part) = bench.part(*kind, progress)?;
        entries.push(entry);
        finals.push(part);
    }
    if comparison.hybrid && finals.len() > 1 {
        let names =
            std::iter::once(&popularity.0).chain(&entries).map(|entry| entry.algorithm.clone()).collect();
        entries.push(bench.hybrid(&finals, names, progress)?);
    }
    let description = split.description.clone();
    Report::new(description, popularity.0, entries, comparison.bootstrap).map_err(failed)
}

struct Bench<'a> {
    set: &'a TrainingSet,
    split: &'a Split,
    comparison: &'a Comparison,
    /// With what tuning chose.
    settings: TrainingSettings,
    clock: &'a dyn Clock,
    /// What items are like, for the diversity of lists; none where no item has attributes.
    content: Option<ContentModel>,
}

fn content_of(set: &TrainingSet, settings: &TrainingSettings) -> Result<Option<ContentModel>> {
    if set.attributes.iter().all(|attributes| attributes.is_empty()) {
        return Ok(None);
    }
    let Part::Content(content) = fit_part(Kind::Content, &set.interactions, set, settings, &mut |_| ())?
    else {
        return Ok(None);
    };
    Ok(Some(content))
}

impl Bench<'_> {
    /// One algorithm, with settings chosen on the validation part where that is asked for, fitted for the test part.
    fn part(
        &mut self,
        kind: Kind,
        progress: &mut dyn FnMut(&TrainingProgress),
    ) -> Result<(Entry, (Kind, Arc<Part>))> {
        let search = match &self.comparison.tuning {
            Some(tuning) => {
                let data = (self.set, &self.split.training);
                tune(kind, data, &self.settings, tuning, self.clock, progress)?
            }
            None => None,
        };
        let search = search.map(|(chosen, summary)| {
            self.settings = with(&self.settings, kind, &chosen);
            summary
        });
        progress(&TrainingProgress { step: format!("fitting {}", kind.name()), done: 0.0 });
        let began = self.clock.elapsed();
        let part = fit_part(kind, &self.split.test.interactions, self.set, &self.settings, progress)?;
        let fit_seconds = (self.clock.elapsed() - began).as_secs_f64();
        let evaluation = self.measure(part.recommender())?;
        let entry = Entry {
            algorithm: part.name().to_owned(),
            settings: self.settings.algorithm_settings.get(kind.name()).cloned().unwrap_or_default(),
            search,
            parts: Vec::new(),
            fit_seconds,
            evaluation,
        };
        Ok((entry, (kind, Arc::new(part))))
    }

    /// The hybrid: its blend is learned with parts that were fitted without the validation part.
    fn hybrid(
        &mut self,
        finals: &[(Kind, Arc<Part>)],
        names: Vec<String>,
        progress: &mut dyn FnMut(&TrainingProgress),
    ) -> Result<Entry> {
        let began = self.clock.elapsed();
        let training: &Interactions = &self.split.training.interactions;
        let parts = self.parts_for_blend(finals, progress)?;
        progress(&TrainingProgress { step: "learning the blend".to_owned(), done: 0.0 });
        let validation = self.split.training.choices();
        let sources = sources_of(&parts, training);
        let (histories, targets) = (validation.histories(), validation.targets());
        let people = Some(validation.users());
        let blend = learn_blend(&sources, histories, targets, people, &self.blend_settings())?;
        let finals: Vec<Arc<Part>> = finals.iter().map(|(_, part)| Arc::clone(part)).collect();
        let sources = sources_of(&finals, &self.split.test.interactions);
        let hybrid = Hybrid::new(sources, blend).map_err(|error| failed(error.into()))?;
        let fit_seconds = (self.clock.elapsed() - began).as_secs_f64();
        let evaluation = self.measure(&hybrid)?;
        Ok(Entry {
            algorithm: "hybrid".to_owned(),
            settings: weights_of(&hybrid),
            search: None,
            parts: names,
            fit_seconds,
            evaluation,
        })
    }

    /// The parts without the validation part; the final ones where they have not seen it anyway.
    fn parts_for_blend(
        &self,
        finals: &[(Kind, Arc<Part>)],
        progress: &mut dyn FnMut(&TrainingProgress),
    ) -> Result<Vec<Arc<Part>>> {
        let (training, test) = (&self.split.training.interactions, &self.split.test.interactions);
        if Arc::ptr_eq(training, test) {
            return Ok(finals.iter().map(|(_, part)| Arc::clone(part)).collect());
        }
        let mut parts = Vec::new();
        for (kind, _) in finals {
            progress(&TrainingProgress { step: format!("fitting {} for the blend", kind.name()), done: 0.0 });
            parts.push(Arc::new(fit_part(*kind, training, self.set, &self.settings, progress)?));
        }
        Ok(parts)
    }

    /// Blends are compared at the longest lists that are measured, as settings are.
    fn blend_settings(&self) -> FitSettings {
        let defaults = FitSettings::default();
        let cutoffs = self.comparison.ranking.measures.iter().filter_map(|measure| measure.cutoff);
        let cutoff = cutoffs.max().unwrap_or(defaults.cutoff);
        FitSettings { cutoff, candidates_per_source: defaults.candidates_per_source.max(cutoff), ..defaults }
    }

    fn measure(&self, recommender: &dyn Recommender) -> Result<Evaluation> {
        let test = &self.split.test;
        let alike =
            self.content.as_ref().map(|content| move |one: u32, two: u32| content.similarity(one, two));
        ranking::evaluate(
            recommender,
            &test.interactions,
            &test.holdout,
            alike.as_ref().map(|alike| alike as &ranking::Similarity<'_>),
            &self.comparison.ranking,
            self.clock,
        )
        .map_err(failed)
    }
}

/// The learned weights for the longest histories, by source.
fn weights_of(hybrid: &Hybrid) -> SettingsMap {
    let weights = hybrid.blend().buckets.last().map(|bucket| bucket.weights.clone()).unwrap_or_default();
    let named = hybrid.source_names().zip(weights);
    named
        .map(|(name, weight)| {
            (name.to_owned(), serde_json::json!((f64::from(weight) * 1_000.0).round() / 1_000.0))
        })
        .collect()
}

pub(super) fn failed(error: EvaluationError) -> Error {
    Error::new(EVALUATION_FAILED, error.to_string()).with_source(error)
}
