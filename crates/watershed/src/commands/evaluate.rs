//! `watershed evaluate`: how each algorithm ranks held-out data, honestly: the whole catalogue is ranked, settings
//! and blend are chosen without the test part, popularity stands beside.

use std::path::Path;

use kernel::{Error, Result, SystemClock, codes};
use recommend::algorithms::Interactions;
use recommend::evaluation::metrics::{Kind as Measured, Measure};
use recommend::evaluation::protocol::{Protocol, given, strong_generalisation, temporal};
use recommend::evaluation::ranking::{self, Candidates};
use recommend::evaluation::report::Report;
use recommend::evaluation::{Split, bootstrap};
use recommend::import::{Importer, Options};
use recommend::training::{
    Algorithms, Comparison, Dataset, EVALUATION_FAILED, Effort, Events, Kind, TrainingProgress, TrainingSet,
    compare,
};

use super::{import, scope};
use crate::app::App;
use crate::cli::Evaluate;
use crate::config::Config;
use crate::terminal;

/// The names that `--algorithms` takes.
const NAMES: &[(&str, Option<Kind>)] = &[
    ("popularity", Some(Kind::Popularity)),
    ("neighbours", Some(Kind::Neighbours)),
    ("linear", Some(Kind::Linear)),
    ("factors", Some(Kind::Factors)),
    ("graph", Some(Kind::Graph)),
    ("transitions", Some(Kind::Transitions)),
    ("sequence", Some(Kind::Sequence)),
    ("content", Some(Kind::Content)),
    ("hybrid", None),
];

pub(super) async fn run(evaluate: Evaluate, config: Config) -> Result<()> {
    let (set, test) = match &evaluate.data {
        Some(path) => read(path, &evaluate)?,
        None => (taken_in(&config).await?, None),
    };
    let split = split(&set, test.as_ref(), &evaluate)?;
    let comparison = comparison(&evaluate, &set)?;
    let mut settings = config.recommend.training.clone();
    settings.seed = evaluate.seed;
    if evaluate.light {
        settings.effort = Effort::Light;
    }
    let work = move || -> Result<Report> {
        let clock = SystemClock::new();
        let mut told = String::new();
        compare(&set, &split, &comparison, &settings, &clock, &mut |progress: &TrainingProgress| {
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

/// What was imported into the data folder.
async fn taken_in(config: &Config) -> Result<TrainingSet> {
    let app = App::open(config).await?;
    let scope = scope(config, "evaluate")?;
    let set = TrainingSet::of(&app.recommend.views().of(&scope));
    app.recommend.stop().await;
    let set = set?;
    if set.interactions.is_empty() {
        let message = "nothing was taken in; import data first, or name a data set with --data";
        return Err(Error::new(EVALUATION_FAILED, message));
    }
    Ok(set)
}

/// A data set from files, and the test part where one is given.
fn read(path: &Path, evaluate: &Evaluate) -> Result<(TrainingSet, Option<Interactions>)> {
    let mut dataset = Dataset::new(evaluate.min_rating);
    let training = read_events(path, evaluate, &mut dataset)?;
    let test = evaluate.test.as_deref().map(|path| read_events(path, evaluate, &mut dataset)).transpose()?;
    let interactions = dataset.interactions(&training)?;
    let test = test.map(|test| dataset.interactions(&test)).transpose()?;
    Ok((dataset.into_set(interactions)?, test))
}

fn read_events(path: &Path, evaluate: &Evaluate, dataset: &mut Dataset) -> Result<Events> {
    let plan = import::plan(path, evaluate.format.as_deref(), evaluate.map.as_deref())?;
    let mut importer = Importer::start(plan, Options::default())?;
    let mut events = Events::new();
    while let Some(row) = importer.next().transpose()? {
        dataset.push(row.row, &mut events);
    }
    let report = importer.report();
    for bad in &report.first_bad_lines {
        terminal::note(bad.to_string());
    }
    if report.bad_lines > 0 {
        terminal::note(format!("{} lines could not be read and are left out", report.bad_lines));
    }
    if events.is_empty() { Err(import::no_interactions(path)) } else { Ok(events) }
}

fn split(set: &TrainingSet, test: Option<&Interactions>, evaluate: &Evaluate) -> Result<Split> {
    let data = &set.interactions;
    let seed = evaluate.seed;
    let split = match (evaluate.protocol.as_str(), test) {
        ("given", Some(test)) => {
            given::split(data, test, &given::Settings { seed, ..given::Settings::default() })
        }
        ("liang", _) => {
            let settings =
                strong_generalisation::Settings { seed, ..strong_generalisation::Settings::default() };
            Protocol::StrongGeneralisation(settings).split(data)
        }
        ("temporal", _) => Protocol::Temporal(temporal::Settings::default()).split(data),
        _ => Protocol::LastItemOut.split(data),
    };
    split.map_err(|error| Error::new(EVALUATION_FAILED, error.to_string()))
}

fn comparison(evaluate: &Evaluate, set: &TrainingSet) -> Result<Comparison> {
    let mut kinds = Vec::new();
    let mut hybrid = evaluate.algorithms.is_empty();
    if evaluate.algorithms.is_empty() {
        let mut algorithms = Algorithms { neighbours: true, graph: true, ..Algorithms::default() };
        algorithms.content = set.attributes.iter().any(|attributes| !attributes.is_empty());
        kinds = algorithms.kinds();
    }
    for name in &evaluate.algorithms {
        let found = NAMES.iter().find(|(known, _)| known == name).ok_or_else(|| {
            let known: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
            let message = format!("`{name}` is not one of {}", known.join(", "));
            Error::new(codes::VALIDATION_ERROR, message).with_field("--algorithms")
        })?;
        match found.1 {
            Some(kind) => kinds.push(kind),
            None => hybrid = true,
        }
    }
    let measured = [
        Measured::Ndcg,
        Measured::HitRate,
        Measured::Recall,
        Measured::ReciprocalRank,
        Measured::AveragePrecision,
    ];
    let measures = evaluate.cutoffs.iter().flat_map(|cutoff| measured.map(|kind| Measure::at(kind, *cutoff)));
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
    })
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
