//! `watershed evaluate`: how each algorithm ranks held-out data, honestly: the whole catalogue is ranked, settings
//! and blend are chosen without the test part, popularity stands beside.

mod data;

use std::path::Path;

use kernel::{Error, Result, SystemClock, codes};
use recommend::evaluation::bootstrap;
use recommend::evaluation::metrics::{Kind as Measured, Measure};
use recommend::evaluation::ranking::{self, Candidates};
use recommend::evaluation::report::Report;
use recommend::evaluation::tuning::Budget;
use recommend::training::{
    Algorithms, Comparison, EVALUATION_FAILED, Effort, Kind, TrainingProgress, TrainingSet, Tuning, compare,
};

use self::data::Data;
use crate::cli::Evaluate;
use crate::config::Config;
use crate::terminal;

/// The name of the blend among the algorithms.
const HYBRID: &str = "hybrid";
/// Users of the validation part on whom settings are compared, at most.
const TUNING_USERS: usize = 5_000;
const SECONDS_PER_MINUTE: f64 = 60.0;

pub(super) async fn run(evaluate: Evaluate, config: Config) -> Result<()> {
    let data = match &evaluate.data {
        Some(path) => Data::read(path, &evaluate)?,
        None => Data::taken_in(&config).await?,
    };
    let (split, is_ordered) = data.split(&evaluate)?;
    if let Some(folder) = &evaluate.export_split {
        data::export(&split, folder)?;
    }
    let mut settings = config.recommend.training.clone();
    let comparison = comparison(&evaluate, settings.algorithms, &data.set, is_ordered)?;
    settings.seed = evaluate.seed;
    if evaluate.light {
        settings.effort = Effort::Light;
    }
    let work = move || -> Result<Report> {
        let clock = SystemClock::new();
        let mut told = String::new();
        compare(&data.set, &split, &comparison, &settings, &clock, &mut |progress: &TrainingProgress| {
            let line = progress.to_string();
            if line != told {
                terminal::note(format!("  {line}"));
                told = line;
            }
        })
    };
    let report = tokio::task::spawn_blocking(work).await.map_err(Error::internal)??;
    terminal::say(report.to_text().trim_end());
    write(evaluate.json.as_deref(), || report.to_json())?;
    write(evaluate.plot.as_deref(), || report.to_svg())
}

fn comparison(
    evaluate: &Evaluate,
    configured: Algorithms,
    set: &TrainingSet,
    is_ordered: bool,
) -> Result<Comparison> {
    let (kinds, hybrid) = match evaluate.algorithms.is_empty() {
        true => (fitting(configured, set, is_ordered), true),
        false => named(&evaluate.algorithms)?,
    };
    let mut measured = vec![
        Measured::Ndcg,
        Measured::HitRate,
        Measured::Recall,
        Measured::ReciprocalRank,
        Measured::AveragePrecision,
    ];
    if evaluate.protocol == "liang" {
        // What that paper calls recall.
        measured.push(Measured::RecallCapped);
    }
    let measures =
        evaluate.cutoffs.iter().flat_map(|cutoff| measured.iter().map(|kind| Measure::at(*kind, *cutoff)));
    let tuning = evaluate.tune.then(|| Tuning {
        budget: Budget {
            trials: evaluate.tune_budget.trials,
            seconds: evaluate.tune_budget.minutes.map(|minutes| minutes * SECONDS_PER_MINUTE),
            validation_users: Some(TUNING_USERS),
        },
        measure: Measure::at(Measured::Ndcg, evaluate.cutoffs.iter().copied().max().unwrap_or(10)),
        is_ordered,
        seed: evaluate.seed,
    });
    Ok(Comparison {
        kinds,
        hybrid,
        ranking: ranking::Settings {
            seed: evaluate.seed,
            measures: measures.collect(),
            candidates: evaluate.sampled_negatives.map_or(Candidates::Catalogue, Candidates::Sampled),
            ..ranking::Settings::default()
        },
        bootstrap: bootstrap::Settings { seed: evaluate.seed, ..bootstrap::Settings::default() },
        tuning,
    })
}

/// The parts that are served, as the configuration says, less those that have nothing to go by in these data.
fn fitting(configured: Algorithms, set: &TrainingSet, is_ordered: bool) -> Vec<Kind> {
    let has_attributes = set.attributes.iter().any(|attributes| !attributes.is_empty());
    let mut kinds = configured.kinds();
    kinds.retain(|kind| match kind {
        Kind::Content => has_attributes,
        kind => is_ordered || !kind.needs_order(),
    });
    kinds
}

/// What is named on the command line, and whether the hybrid of it is.
fn named(names: &[String]) -> Result<(Vec<Kind>, bool)> {
    let refused = |message: String| Error::new(codes::VALIDATION_ERROR, message).with_field("--algorithms");
    let mut kinds = Vec::new();
    for name in names.iter().filter(|name| *name != HYBRID) {
        let kind = Kind::named(name).ok_or_else(|| {
            let known: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).chain([HYBRID]).collect();
            refused(format!("`{name}` is not one of {}", known.join(", ")))
        })?;
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let hybrid = names.iter().any(|name| name == HYBRID);
    if hybrid && kinds.iter().all(|kind| *kind == Kind::Popularity) {
        let message = "name the parts of the hybrid, such as linear,factors,hybrid; without --algorithms it is the one \
                       that is configured";
        return Err(refused(message.to_owned()));
    }
    Ok((kinds, hybrid))
}

fn write<E: std::fmt::Display>(path: Option<&Path>, text: impl FnOnce() -> Result<String, E>) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = text().map_err(|error| Error::new(EVALUATION_FAILED, error.to_string()))?;
    std::fs::write(path, text).map_err(|cause| {
        Error::new(codes::UNAVAILABLE, format!("{} cannot be written: {cause}", path.display()))
    })?;
    terminal::note(format!("wrote {}", path.display()));
    Ok(())
}
